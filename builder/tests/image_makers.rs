//! Sources that make a new system, by the real programs: pacstrap and mmdebstrap, each from a repository that is made here.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, clippy::panic)] // a test stops at the first surprise

#[path = "../../tests/src/account.rs"]
#[allow(unreachable_pub, dead_code, reason = "public where the scenarios use it")]
mod account;
mod repository;

use repository::{finished, package, possible, temporary};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use taproot::image::config::Source;
use taproot::image::config::sources::{Mmdebstrap, Pacstrap};
use taproot::image::edit::{Edited, Edits};
use taproot::image::source;
use taproot::tar::{Archive, Entries as _, write};

/// What comes of a source when its identity is stripped: files with their content.
fn edited(source: Source) -> Result<(BTreeMap<String, String>, taproot::image::edit::Report), String> {
    let text = |error: anyhow::Error| format!("{error:#}");
    let stream = source::open(source, 1_700_000_000).map_err(text)?;
    let mut edited =
        Edited::new(Archive::new(BufReader::new(stream)), Edits { time: 1_700_000_000, ..Edits::default() });
    let mut all = BTreeMap::new();
    while let Some(entry) = edited.next_entry().map_err(|e| text(e.into()))? {
        let mut content = vec![0; usize::try_from(write::stored(&entry)).unwrap()];
        edited.read(&mut content).map_err(|e| text(e.into()))?;
        all.insert(String::from_utf8_lossy(&entry.path).into_owned(), String::from_utf8_lossy(&content).into_owned());
    }
    let (report, archive) = edited.finish();
    archive.into_inner().into_inner().finish().map_err(text)?;
    Ok((all, report))
}

/// A repository of three packages of a group, and one whose script cannot run.
fn repository(dir: &Path) -> PathBuf {
    let base = "groups=(base)\npackage() { install -Dm755 /bin/busybox \"$pkgdir/usr/bin/busybox\"; ln -s busybox \"$pkgdir/usr/bin/sh\"; \
                ln -s usr/bin \"$pkgdir/bin\"; install -d \"$pkgdir/etc\"; echo arch > \"$pkgdir/etc/arch-release\"; }\n";
    package(dir, "filesystem", base, None);
    let tool = "groups=(base)\ndepends=(filesystem)\npackage() { install -d \"$pkgdir/etc\"; echo t > \"$pkgdir/etc/tool\"; }\n";
    package(dir, "tool", tool, Some("post_install() { echo ran > /etc/scriptlet; }\n"));
    package(
        dir,
        "linux",
        "groups=(base)\npackage() { install -d \"$pkgdir/boot\"; echo k > \"$pkgdir/boot/vmlinuz\"; }\n",
        None,
    );
    package(dir, "alone", "package() { install -d \"$pkgdir/etc\"; }\n", Some("post_install() { echo never; }\n"));
    finished(dir)
}

#[test]
fn an_arch_linux_from_a_repository() {
    if !possible(&["pacman", "pacstrap", "makepkg", "repo-add", "bsdtar", "fakeroot", "setpriv", "busybox"]) {
        return;
    }
    let dir = temporary();
    let config = repository(dir.path());
    let asked = |packages: &[&str], exclude: &[&str]| {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Source::Pacstrap(Pacstrap {
            packages: list(packages),
            exclude: list(exclude),
            config: Some(config.clone()),
            timeout: 300,
            ..Pacstrap::default()
        })
    };
    let (tree, _) = edited(asked(&["base"], &["linux"])).unwrap();
    assert_eq!((tree["etc/arch-release"].as_str(), tree["etc/scriptlet"].as_str()), ("arch\n", "ran\n"));
    assert!(!tree.contains_key("boot/vmlinuz"), "a package that is not wanted is not installed");
    assert!(tree.keys().any(|path| path.starts_with("var/lib/pacman/local/tool-1-1")));
    assert_eq!(tree["etc/machine-id"], "");
    // All of the group is what it says.
    let (tree, _) = edited(asked(&["base"], &[])).unwrap();
    assert!(tree.contains_key("boot/vmlinuz"));
    let error = edited(asked(&["alone"], &[])).unwrap_err();
    assert!(error.contains("scripts of packages failed"), "{error}");
    let error = edited(asked(&["base", "no-such-package"], &[])).unwrap_err();
    assert!(error.contains("no-such-package"), "{error}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("taproot-pacstrap"), "nothing stays mounted");
}

/// A repository with one package, in one directory.
fn flat(dir: &Path) -> String {
    let package = dir.join("package");
    fs::create_dir_all(package.join("DEBIAN")).unwrap();
    fs::create_dir_all(package.join("etc")).unwrap();
    let control = "Package: hello\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n";
    fs::write(package.join("DEBIAN/control"), control).unwrap();
    fs::write(package.join("etc/hello"), "hello\n").unwrap();
    let deb = dir.join("hello.deb");
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zgzip", "--build"]).arg(&package).arg(&deb).stdout(Stdio::null());
    assert!(build.status().unwrap().success());
    let bytes = fs::read(&deb).unwrap();
    let sum = taproot_init::hex::hex(&Sha256::digest(&bytes));
    fs::write(dir.join("Packages"), format!("{control}Filename: ./hello.deb\nSize: {}\nSHA256: {sum}\n", bytes.len()))
        .unwrap();
    format!("deb [trusted=yes] copy:{} ./", dir.display())
}

#[test]
fn a_debian_from_a_repository_without_what_it_took_from_the_host() {
    if !possible(&["mmdebstrap", "dpkg-deb", "unshare"]) {
        return;
    }
    let dir = temporary();
    let asked = |mirror: String| {
        Source::Mmdebstrap(Mmdebstrap {
            suite: "x".into(),
            mirror: Some(mirror),
            include: vec!["hello".into()],
            components: Vec::new(),
            variant: "extract".into(),
            mode: "unshare".into(),
            arch: None,
            timeout: 300,
        })
    };
    match edited(asked(flat(dir.path()))) {
        Err(error) if error.contains("user namespace") => {
            account::skipped("no user namespaces here: mmdebstrap is not run in one");
            return;
        }
        Err(error) => panic!("{error}"),
        Ok((tree, report)) => {
            assert_eq!(tree["etc/hello"], "hello\n");
            // It copies both from the machine that it runs on.
            assert_eq!(tree["etc/hostname"], "localhost\n");
            assert!(
                !tree.contains_key("etc/resolv.conf") && report.removed.contains_key("etc/resolv.conf"),
                "{report}"
            );
            let sources = &tree["etc/apt/sources.list"];
            assert!(sources.lines().all(|line| line.starts_with("# taproot: ")), "{sources}");
            assert!(report.notes.iter().any(|note| note.contains("no package source")), "{report}");
        }
    }
    let error = edited(asked("deb [trusted=yes] copy:/nonexistent ./".into())).unwrap_err();
    assert!(error.contains("mmdebstrap failed"), "{error}");
}
