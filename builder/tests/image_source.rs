//! Sources of images: whatever a tree comes from, the same entries come out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, clippy::panic)] // a test stops at the first surprise

#[path = "../../tests/src/account.rs"]
#[allow(unreachable_pub, dead_code, reason = "public where the scenarios use it")]
mod account;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use taproot::image::edit::{Edited, Edits};
use taproot::image::source::Tarball;
use taproot::image::source::directory::Walk;
use taproot::image::source::packed;
use taproot::tar::{Archive, Entry, Kind, write};

/// An entry with its content.
type Whole = (Entry, Vec<u8>);
/// What a source gave, and what it told.
type Read = Result<(Vec<Whole>, Vec<String>), String>;
/// What is known of an entry whatever wrote it: path, kind, mode, time and size.
type Known = (String, Kind, u32, (i64, u32), u64);

/// Entries in order, each with its content.
fn entries(stream: Box<dyn Tarball>) -> Read {
    let mut archive = Archive::new(BufReader::new(stream));
    let mut all = Vec::new();
    let text = |error: taproot::tar::TarError| format!("{:#}", anyhow::Error::from(error));
    while let Some(entry) = archive.next_entry().map_err(text)? {
        let mut content = vec![0; usize::try_from(write::stored(&entry)).unwrap()];
        archive.read(&mut content).map_err(text)?;
        all.push((entry, content));
    }
    let told = archive.into_inner().into_inner().finish().map_err(|error| format!("{error:#}"))?;
    Ok((all, told))
}

fn walked(top: &Path) -> Read {
    entries(Box::new(Walk::of(top).stream().map_err(|error| format!("{error:#}"))?))
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).trim_start_matches("./").trim_end_matches('/').to_owned()
}

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A tree with everything that an ordinary user can make.
fn tree(top: &Path) {
    for directory in ["b", "a/deep", "empty"] {
        fs::create_dir_all(top.join(directory)).unwrap();
    }
    fs::write(top.join("a/file"), "content").unwrap();
    fs::write(top.join("a/none"), "").unwrap();
    fs::set_permissions(top.join("a/file"), Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(top.join("a/file"), top.join("b/again")).unwrap();
    symlink("../a/file", top.join("b/link")).unwrap();
    fs::write(top.join("a/deep").join("n".repeat(255)), vec![7; 3 << 20]).unwrap();
    let mut sparse = File::create(top.join("a/sparse")).unwrap();
    sparse.seek(SeekFrom::Start(8 << 20)).unwrap();
    sparse.write_all(&[1; 4096]).unwrap();
    sparse.set_len(5 << 30).unwrap();
    nix::unistd::mkfifo(&top.join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o640)).unwrap();
    let _ = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
    run("setfattr", &["-n", "user.colour", "-v", "green", top.join("a/file").to_str().unwrap()]);
    run("setfacl", &["-m", "u:1234:r", top.join("a/none").to_str().unwrap()]);
}

#[test]
fn a_directory_comes_as_it_is_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let (all, told) = walked(dir.path()).unwrap();
    let names: Vec<String> = all.iter().map(|(entry, _)| shown(&entry.path)).collect();
    let long = format!("a/deep/{}", "n".repeat(255));
    let wanted = ["", "a", "a/deep", &long, "a/file", "a/none", "a/sparse", "b", "b/again", "b/link", "empty", "pipe"];
    assert_eq!(names, wanted);
    let by: BTreeMap<String, &Whole> = names.iter().cloned().zip(&all).collect();
    let meta = fs::symlink_metadata(dir.path().join("a/file")).unwrap();
    let (file, content) = by["a/file"];
    assert_eq!((file.mode, file.uid, file.gid), (0o4751, meta.uid(), meta.gid()));
    assert_eq!(file.mtime, (meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap()));
    assert_eq!(content, b"content");
    assert_eq!((by["b/again"].0.kind, shown(&by["b/again"].0.target)), (Kind::HardLink, "a/file".into()));
    assert_eq!(by["b/link"].0.target, b"../a/file");
    assert_eq!((by["pipe"].0.kind, by["pipe"].0.mode), (Kind::Pipe, 0o640));
    let (sparse, content) = by["a/sparse"];
    assert_eq!(sparse.size, 5 << 30);
    assert!(content.len() <= 1 << 20, "holes are no content: {} bytes", content.len());
    assert!(sparse.parts.iter().any(|(offset, length)| *offset <= 8 << 20 && offset + length >= (8 << 20) + 4096));
    assert_eq!(told, ["1 sockets left out: their programs make them anew"]);
    // What tar(1) says of the same attributes.
    for (path, name) in [("a/file", "user.colour"), ("a/none", "system.posix_acl_access")] {
        let has =
            |tool: &str| Command::new(tool).arg(dir.path().join(path)).output().is_ok_and(|o| !o.stdout.is_empty());
        if has(if name.starts_with("user") { "getfattr" } else { "getfacl" }) {
            let entry = &by[path].0;
            assert!(entry.xattrs.iter().any(|(other, _)| other == name.as_bytes()), "{path}: {:?}", entry.xattrs);
        }
    }
}

#[test]
fn the_same_tree_gives_the_same_bytes_and_gnu_tar_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let (one, out) = (dir.path().join("one"), dir.path().join("out"));
    fs::create_dir(&one).unwrap();
    fs::create_dir(&out).unwrap();
    tree(&one);
    let bytes = || {
        let mut all = Vec::new();
        Walk::of(&one).stream().unwrap().read_to_end(&mut all).unwrap();
        all
    };
    let first = bytes();
    assert!(first == bytes());
    let archive = dir.path().join("one.tar");
    fs::write(&archive, &first).unwrap();
    assert!(run("tar", &["-xf", archive.to_str().unwrap(), "-C", out.to_str().unwrap()]));
    let (again, _) = walked(&out).unwrap();
    let (mut before, _) = walked(&one).unwrap();
    // Only the time of the top is another, where tar leaves that; a file system decides about the holes.
    let known = |list: &[Whole]| -> Vec<Known> {
        list.iter().skip(1).map(|(e, _)| (shown(&e.path), e.kind, e.mode, e.mtime, e.size)).collect()
    };
    before.retain(|(entry, _)| entry.kind != Kind::Pipe || !entry.path.is_empty());
    assert_eq!(known(&again), known(&before));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big");
    File::create(&path).unwrap().write_all(&vec![1; 64 << 20]).unwrap();
    let mut stream = Walk::of(dir.path()).stream().unwrap();
    let mut some = vec![0; 1 << 20];
    stream.read_exact(&mut some).unwrap();
    // More than what waits between the two threads is still to be read.
    File::options().append(true).open(&path).unwrap().write_all(b"x").unwrap();
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("changed while it was read"), "{error}");
    let live = Walk { live: true, ..Walk::of(dir.path()) };
    let mut stream = live.stream().unwrap();
    stream.read_exact(&mut some).unwrap();
    File::options().append(true).open(&path).unwrap().write_all(b"x").unwrap();
    let told = Box::new(stream).finish().unwrap();
    assert!(told.iter().any(|line| line.contains("/big: changed")), "{told:?}");
}

#[test]
fn archives_of_tar_in_every_packing() {
    let dir = tempfile::tempdir().unwrap();
    let one = dir.path().join("one");
    fs::create_dir(&one).unwrap();
    tree(&one);
    fs::remove_file(one.join("a/sparse")).unwrap();
    let mut plain = None;
    for (option, tool) in [("--format=posix", "tar"), ("--gzip", "gzip"), ("--xz", "xz"), ("--zstd", "zstd")] {
        let path = dir.path().join(tool);
        let made = run(
            "tar",
            &[
                "--create",
                "--format=posix",
                "--sort=name",
                "--numeric-owner",
                option,
                "-f",
                path.to_str().unwrap(),
                "-C",
                one.to_str().unwrap(),
                ".",
            ],
        );
        if !made {
            account::skipped(&format!("{tool} is not there: archives that it packs are not read"));
            continue;
        }
        let (all, _) = entries(packed::open(&path).unwrap()).unwrap();
        let plain = plain.get_or_insert_with(|| all.clone());
        assert!(*plain == all, "{tool}");
        if tool != "tar" {
            let whole = fs::read(&path).unwrap();
            fs::write(&path, &whole[..whole.len() - 20]).unwrap();
            let error = entries(packed::open(&path).unwrap()).unwrap_err();
            assert!(error.contains("cut or damaged"), "{tool}: {error}");
        }
    }
    assert!(plain.unwrap().len() > 8);
}

/// Packs a tree by this test's own binary, in another environment.
fn packed_under(tree: &Path, out: &Path, environment: &[(&str, &str)], umask: u32) {
    let mut command = Command::new("sh");
    let own = std::env::current_exe().unwrap();
    command.args(["-c", &format!("umask {umask:04o}; exec \"$0\" --exact packs_what_it_is_told --nocapture")]).arg(own);
    command.env("TAPROOT_TEST_TREE", tree).env("TAPROOT_TEST_OUT", out).envs(environment.iter().copied());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// What `packed_under` runs; nothing by itself.
#[test]
fn packs_what_it_is_told() {
    let (Some(tree), Some(out)) = (std::env::var_os("TAPROOT_TEST_TREE"), std::env::var_os("TAPROOT_TEST_OUT")) else {
        return;
    };
    let stream: Box<dyn Tarball> = Box::new(Walk::of(&PathBuf::from(tree)).stream().unwrap());
    let user = taproot::image::edit::User { name: "ann".into(), ..Default::default() };
    let edits = Edits { users: vec![user], hostname: Some("box".into()), time: 1_700_000_000, ..Edits::default() };
    let mut edited = Edited::new(Archive::new(BufReader::new(stream)), edits);
    write::archive(&mut edited, &mut File::create(out).unwrap()).unwrap();
}

#[test]
fn nothing_of_the_host_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let one = dir.path().join("one");
    fs::create_dir_all(one.join("etc/skel")).unwrap();
    for (path, text) in [
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/hosts", ""),
        ("etc/skel/.profile", "x"),
    ] {
        fs::write(one.join(path), text).unwrap();
    }
    tree(&one);
    let (a, b) = (dir.path().join("a.tar"), dir.path().join("b.tar"));
    packed_under(&one, &a, &[("LC_ALL", "C"), ("TZ", "UTC"), ("USER", "root"), ("HOME", "/root")], 0o022);
    packed_under(
        &one,
        &b,
        &[
            ("LC_ALL", "tr_TR.UTF-8"),
            ("TZ", "Asia/Kathmandu"),
            ("USER", "bob"),
            ("HOME", "/nonexistent"),
            ("LANG", "de_DE"),
        ],
        0o077,
    );
    let (a, b) = (fs::read(a).unwrap(), fs::read(b).unwrap());
    assert!(a.len() > 1 << 20 && a == b);
}

#[test]
fn layers_come_as_what_an_overlay_of_them_shows() {
    use nix::sys::stat::{Mode, SFlag, mknod};
    let dir = tempfile::tempdir().unwrap();
    let (top, base) = (dir.path().join("top"), dir.path().join("base"));
    for (path, text) in
        [("base/etc/a", "a0"), ("base/etc/b", "b0"), ("base/opt/x", "x0"), ("top/etc/a", "a1"), ("top/opt/y", "y1")]
    {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let opaque = File::open(top.join("opt")).unwrap();
    let made = mknod(&top.join("etc/b"), SFlag::S_IFCHR, Mode::empty(), 0).is_ok()
        && taproot_init::sys::xattrs::set(&opaque, b"trusted.overlay.opaque", b"y").is_ok();
    if !made {
        account::skipped("layers are read: that takes root, for whiteouts and attributes of overlays");
        return;
    }
    let source = taproot::image::config::Source::Layers(vec![top.clone(), base]);
    let (all, _) = entries(taproot::image::source::open(source, 0).unwrap()).unwrap();
    let shown: Vec<(String, String)> =
        all.iter().map(|(entry, content)| (shown(&entry.path), String::from_utf8(content.clone()).unwrap())).collect();
    let wanted = [("", ""), ("etc", ""), ("etc/a", "a1"), ("opt", ""), ("opt/y", "y1")];
    assert_eq!(shown, wanted.map(|(path, text)| (path.to_owned(), text.to_owned())));
    assert!(all.iter().all(|(entry, _)| entry.xattrs.is_empty()), "no mark of an overlay is left");
    // As a directory alone it is no tree.
    assert!(walked(&top).unwrap_err().contains("say --layers"));
}

#[test]
fn this_machine_is_read_by_root_alone_and_given_up_at_once() {
    let source = || taproot::image::config::Source::Running(Vec::new(), Vec::new());
    if !nix::unistd::geteuid().is_root() {
        let error = taproot::image::source::open(source(), 0).err().unwrap();
        assert!(error.to_string().contains("takes root"));
        return;
    }
    let mut archive = Archive::new(BufReader::new(taproot::image::source::open(source(), 0).unwrap()));
    let first = archive.next_entry().unwrap().unwrap();
    assert_eq!((shown(&first.path).as_str(), first.kind), ("", Kind::Directory));
    drop(archive);
    let nowhere = taproot::image::config::Source::Running(vec!["/no/mount/point".into()], Vec::new());
    assert!(
        format!("{:#}", taproot::image::source::open(nowhere, 0).err().unwrap()).contains("expected a mount point")
    );
    let kernels = taproot::image::config::Source::Running(vec!["/proc".into()], Vec::new());
    assert!(format!("{:#}", taproot::image::source::open(kernels, 0).err().unwrap()).contains("no part"));
}
