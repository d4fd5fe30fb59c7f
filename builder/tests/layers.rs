//! Layers against the kernel: what is merged, sealed and unpacked shows what an overlay of the raw layers shows, entry by entry.
//! Needs root; the mounts are in namespaces of their own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, clippy::panic)] // a test stops at the first surprise

#[path = "../../tests/src/account.rs"]
#[allow(unreachable_pub, reason = "public where the scenarios use it")]
mod account;
#[path = "layers/commands.rs"]
mod commands;
#[path = "layers/stack.rs"]
mod stack;
#[path = "layers/view.rs"]
mod view;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use taproot::layer::copy::{As, copy};
use taproot::layer::exclude::Exclusions;
use taproot::layer::format::{Compression, Format};
use taproot::layer::merge::{Plan, Rules, plan};
use taproot::layer::node::Namespace;
use taproot::layer::seal::{Order, Sealed, prepare};
use taproot::layer::tree::Source;
use taproot::layer::workshop::Workshop;
use taproot::output::Cleanup;
use taproot::progress::Progress;
use taproot_init::sys::xattrs;
use view::{Mounts, view};

/// Whether this machine can mount; noted as skipped if not.
fn possible() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let mounts = || {
        let systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        ["overlay", "squashfs", "erofs"]
            .iter()
            .all(|wanted| systems.lines().any(|line| line.trim_end().ends_with(wanted)))
    };
    if !root || !mounts() {
        account::skipped("layers are mounted: that takes root, and a kernel with overlay, squashfs and erofs");
        return false;
    }
    true
}

/// A POSIX ACL as its attribute has it: `user::rw-,user:1000:r--,group::r--,mask::rw-,other::---`.
fn acl() -> Vec<u8> {
    [(1_u16, 6_u16, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)].iter().fold(
        2_u32.to_le_bytes().to_vec(),
        |mut all, (tag, bits, id)| {
            all.extend(tag.to_le_bytes());
            all.extend(bits.to_le_bytes());
            all.extend(id.to_le_bytes());
            all
        },
    )
}

/// Something done to a raw layer.
#[derive(Debug, Clone)]
enum Act {
    File(PathBuf, u8),
    Directory(PathBuf),
    Opaque(PathBuf),
    Whiteout(PathBuf),
    Link(PathBuf),
    Name(PathBuf, PathBuf),
    Pipe(PathBuf),
    Device(PathBuf),
    Attribute(PathBuf, u8),
    Owner(PathBuf, u8),
    Remove(PathBuf),
}

fn paths() -> impl Strategy<Value = PathBuf> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|parts| parts.iter().collect())
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        5 => (paths(), any::<u8>()).prop_map(|(path, n)| Act::File(path, n)),
        5 => paths().prop_map(Act::Directory),
        3 => paths().prop_map(Act::Opaque),
        5 => paths().prop_map(Act::Whiteout),
        1 => paths().prop_map(Act::Link),
        3 => (paths(), paths()).prop_map(|(from, to)| Act::Name(from, to)),
        1 => paths().prop_map(Act::Pipe),
        1 => paths().prop_map(Act::Device),
        3 => (paths(), any::<u8>()).prop_map(|(path, n)| Act::Attribute(path, n)),
        2 => (paths(), any::<u8>()).prop_map(|(path, n)| Act::Owner(path, n)),
        1 => paths().prop_map(Act::Remove),
    ];
    prop::collection::vec(act, 0..14)
}

/// Makes room at a path: whatever is there goes, and directories come above it.
fn clear(root: &Path, path: &Path) -> PathBuf {
    let mut above = root.to_owned();
    for part in path.parent().unwrap() {
        above.push(part);
        if !fs::symlink_metadata(&above).is_ok_and(|meta| meta.is_dir()) {
            let _ = fs::remove_file(&above);
            fs::create_dir(&above).unwrap();
        }
    }
    let at = root.join(path);
    let _ = if fs::symlink_metadata(&at).is_ok_and(|meta| meta.is_dir()) {
        fs::remove_dir_all(&at)
    } else {
        fs::remove_file(&at)
    };
    at
}

fn node(path: &Path, kind: nix::sys::stat::SFlag, number: u64) {
    nix::sys::stat::mknod(path, kind, nix::sys::stat::Mode::S_IRUSR, number).unwrap();
}

fn set(path: &Path, name: &str, value: &[u8]) {
    xattrs::set(&fs::File::open(path).unwrap(), name.as_bytes(), value).unwrap();
}

fn directory(root: &Path, path: &Path) -> PathBuf {
    let at = root.join(path);
    if !fs::symlink_metadata(&at).is_ok_and(|meta| meta.is_dir()) {
        fs::create_dir(clear(root, path)).unwrap();
    }
    at
}

fn act(root: &Path, act: &Act) {
    use nix::sys::stat::SFlag;
    let is_file = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    let is_plain = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() || meta.is_dir());
    match act {
        Act::File(path, n) => {
            let at = clear(root, path);
            fs::write(&at, format!("{n}").repeat(usize::from(*n) * 40)).unwrap();
            let mode = [0o644, 0o4755, 0o2755, 0o600][usize::from(n % 4)];
            fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
        }
        Act::Directory(path) => drop(directory(root, path)),
        Act::Opaque(path) => set(&directory(root, path), "trusted.overlay.opaque", b"y"),
        Act::Whiteout(path) => node(&clear(root, path), SFlag::S_IFCHR, 0),
        Act::Link(path) => symlink("../else where", clear(root, path)).unwrap(),
        Act::Name(from, to) if is_file(&root.join(from)) && !from.starts_with(to) && !to.starts_with(from) => {
            fs::hard_link(root.join(from), clear(root, to)).unwrap();
        }
        Act::Pipe(path) => node(&clear(root, path), SFlag::S_IFIFO, 0),
        Act::Device(path) => node(&clear(root, path), SFlag::S_IFCHR, nix::sys::stat::makedev(259, 70_000)),
        Act::Attribute(path, n) if is_plain(&root.join(path)) => {
            let at = root.join(path);
            let name =
                ["user.note", "trusted.note", "trusted.overlay.origin", "trusted.overlay.impure"][usize::from(n % 4)];
            set(&at, name, &vec![*n; usize::from(n % 7) * 30]);
            if n % 5 == 0 && is_file(&at) {
                // cap_net_raw=ep
                set(&at, "security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
            }
        }
        Act::Owner(path, n) if root.join(path).symlink_metadata().is_ok() => {
            lchown(root.join(path), Some(u32::from(*n) * 9_000), Some(7)).unwrap();
        }
        Act::Remove(path) => {
            clear(root, path);
        }
        Act::Name(..) | Act::Attribute(..) | Act::Owner(..) => {}
    }
}

/// A raw layer. Times are whole seconds, as squashfs has them.
fn raw(root: &Path, acts: &[Act]) {
    fs::create_dir(root).unwrap();
    for one in acts {
        act(root, one);
    }
    settle(root, root, acts.len());
}

fn settle(root: &Path, path: &Path, salt: usize) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            settle(root, &entry.unwrap().path(), salt);
        }
    }
    let seconds = 1_000_000 + salt * 1000 + path.strip_prefix(root).unwrap().as_os_str().len() * 7;
    let time = nix::sys::time::TimeSpec::new(i64::try_from(seconds).unwrap(), 0);
    let flag = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
    nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, flag).unwrap();
}

fn open(paths: &[PathBuf]) -> Vec<Source> {
    paths.iter().map(|path| Source::open(path, Namespace::Trusted).unwrap()).collect()
}

fn merged(sources: &[Source], complete: bool) -> Plan {
    plan(sources, Rules { complete, exclude: &Exclusions::none() }).unwrap()
}

fn order(target: &Path, format: Format) -> Order {
    Order {
        target: target.to_owned(),
        format,
        compression: Compression::default_of(format),
        jobs: Some(1),
        epoch: None,
        drop_acls: false,
        tight: false,
        live: false,
        empty: false,
    }
}

fn seal(plan: Plan, sources: &[Source], order: Order) -> anyhow::Result<Sealed> {
    let prepared = prepare(plan, sources, order)?;
    let workshop = Workshop::open(&prepared.outlook.path, &Cleanup::default())?;
    prepared.build(workshop, &Progress::Quiet)?.prove(&Progress::Quiet)?.publish()
}

/// Merges the `top` uppermost layers in every way, and looks whether the whole still shows the same.
fn same_as_the_kernel(dir: &Path, layers: &[PathBuf], top: usize) {
    let at = dir.join("seen");
    let kernel = Mounts::overlay(layers, &at);
    let expected = view(&kernel.path(&at));

    let all = open(layers);
    let flat = dir.join("flat");
    fs::create_dir(&flat).unwrap();
    copy(&merged(&all, true), &all, &flat, As::Root, &Progress::Quiet).unwrap();
    assert_eq!(view(&flat), expected, "unpacked");

    let (above, below) = layers.split_at(top);
    let above = open(above);
    if merged(&above, false).items.len() == 1 {
        let refused = seal(merged(&above, false), &above, order(&dir.join("x.sqsh"), Format::Squashfs));
        assert!(refused.unwrap_err().to_string().contains("nothing to put into it"));
        return;
    }
    for (name, format) in [("merged.sqsh", Format::Squashfs), ("merged.erofs", Format::Erofs)] {
        let image = dir.join(name);
        seal(merged(&above, false), &above, order(&image, format)).unwrap();
        // An image below others, and read again as a raw layer.
        let unpacked = dir.join(format!("from-{name}"));
        fs::create_dir(&unpacked).unwrap();
        let source = open(std::slice::from_ref(&image));
        copy(&merged(&source, false), &source, &unpacked, As::Layer, &Progress::Quiet).unwrap();
        let stack: Vec<PathBuf> = [unpacked].into_iter().chain(below.iter().cloned()).collect();
        let at = dir.join(format!("seen-{name}"));
        let kernel = Mounts::overlay(&stack, &at);
        let found = view(&kernel.path(&at));
        assert_eq!(found, expected, "{top} layers as {name}");
    }
}

#[test]
fn merged_layers_show_what_the_kernel_shows() {
    if !possible() {
        return;
    }
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases) });
    let layers = (prop::collection::vec(acts(), 2..5), any::<prop::sample::Index>());
    let done = runner.run(&layers, |(layers, top)| {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..layers.len()).map(|n| dir.path().join(format!("layer-{n}"))).collect();
        for (path, acts) in paths.iter().zip(&layers) {
            raw(path, acts);
        }
        same_as_the_kernel(dir.path(), &paths, 1 + top.index(layers.len()));
        Ok(())
    });
    done.unwrap();
}
