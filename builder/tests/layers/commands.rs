//! `taproot layer` as it is typed.

use super::view::{Mounts, view};
use super::{acl, possible, settle};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use taproot::layer::hidden::{How, hidden};
use taproot::layer::node::Namespace;
use taproot::layer::tree::Source;
use taproot_init::sys::xattrs;

/// Types a command in a directory; the exit code and what it said.
fn taproot(dir: &Path, line: &str) -> (i32, String) {
    let words: Vec<&str> = line.split(' ').collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_taproot"));
    let Output { status, stdout, stderr } = command
        .arg("layer")
        .args(words)
        .current_dir(dir)
        .env_remove("SOURCE_DATE_EPOCH")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    (status.code().unwrap(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

fn done(dir: &Path, line: &str) -> String {
    let (code, said) = taproot(dir, line);
    assert_eq!(code, 0, "{line}: {said}");
    said
}

fn refused(dir: &Path, line: &str, code: i32, why: &str) {
    let (found, said) = taproot(dir, line);
    assert!(found == code && said.contains(why), "{line}: {found}: {said}");
}

/// A small root.
fn system(root: &Path) {
    for dir in ["etc/ssh", "usr/bin", "var/log/journal", "tmp", "var/cache/old"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for (path, text) in [
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/ssh/ssh_host_rsa_key", "secret"),
        ("etc/hostname", "base"),
        ("usr/bin/tool", "#!/bin/sh\n"),
        ("var/cache/old/data", "1"),
        ("tmp/scratch", "x"),
    ] {
        fs::write(root.join(path), text).unwrap();
    }
    fs::write(root.join("usr/bin/large"), "taproot ".repeat(100_000)).unwrap();
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/same")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    let tool = fs::File::open(root.join("usr/bin/tool")).unwrap();
    xattrs::set(&tool, b"security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0").unwrap();
    settle(root, root, 1);
}

/// Goes on in a session over layers: what comes into its upper is the kernel's own.
fn session(dir: &Path, number: usize, lowers: &str, script: &str) {
    let upper = dir.join(format!("upper-{number}"));
    for part in ["upper", "work", "root"] {
        fs::create_dir_all(upper.join(part)).unwrap();
    }
    let mount = format!(
        "cd \"$1\"; mount -t overlay -o lowerdir={lowers},upperdir=upper/upper,workdir=upper/work,index=off,metacopy=off,redirect_dir=off,xino=off \
         overlay upper/root; cd upper/root; {script}"
    )
    .replace("upper/", &format!("upper-{number}/"));
    drop(Mounts::new(&mount, &[dir]));
}

const FIRST: &str = "rm etc/hostname; rm -r var/cache/old; mkdir var/cache/old; echo 2 >var/cache/old/data2; echo new >etc/issue; \
    chmod 4711 usr/bin/large; mv usr/bin/tool usr/bin/moved; mkdir -p a/b/c; echo deep >a/b/c/d";
const SECOND: &str = "echo site >etc/hostname; rm -r a; echo file >a; rm usr/bin/same; mkdir usr/bin/same; touch usr/bin/same/x; \
    rm -r var/cache/old; mkfifo var/pipe; rm etc/issue; ln usr/bin/moved usr/bin/again";

#[test]
fn five_commands() {
    if !possible() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    system(&dir.join("tree"));
    fs::create_dir(dir.join("layers")).unwrap();
    let said = done(dir, "init base --from tree --into layers");
    for wanted in ["left out: etc/machine-id", "left out: etc/ssh/ssh_host_rsa_key", "left out: tmp/scratch", "sha256 "]
    {
        assert!(said.contains(wanted), "{said}");
    }
    refused(dir, "init base --from tree --into layers", 1, "is there already");
    refused(dir, "init a:b --from tree", 1, "cannot be the name of a layer");
    done(dir, "verify layers/base.sqsh");
    session(dir, 1, "tree", FIRST);
    session(dir, 2, "upper-1/upper:tree", SECOND);
    let said = done(dir, "diff upper-1/upper --lowers tree");
    for wanted in
        ["D /etc/hostname\n", "A /etc/issue\n", "R /var/cache/old  (1 entries are deleted)", "C /usr/bin/large"]
    {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }

    // Both sessions as one layer over the base, and everything as one.
    done(dir, "merge --offline layers/both.sqsh upper-2/upper upper-1/upper");
    done(dir, "merge --offline --bottom layers/all.erofs layers/both.sqsh tree");
    done(dir, "convert --to flat layers/both.sqsh tree");
    done(dir, "convert --to flat.tar layers/all.erofs");
    let (lowers, at) = (["upper-2/upper", "upper-1/upper", "tree"].map(|path| dir.join(path)), dir.join("seen"));
    let kernel = Mounts::overlay(&lowers, &at);
    // Squashfs has whole seconds.
    let whole = |path: &Path| {
        let cut = |line: String| {
            line.split(' ')
                .map(|word| word.split_once('.').map_or(word, |(left, _)| left).to_owned())
                .collect::<Vec<_>>()
        };
        view(path).into_iter().map(|(path, line)| (path, cut(line))).collect::<Vec<_>>()
    };
    let expected = whole(&kernel.path(&at));
    assert_eq!(whole(&dir.join("flat")), expected);
    done(dir, "init again --from flat.tar --into layers --keep all");
    done(dir, "convert --to flat2 layers/again.sqsh");
    assert_eq!(whole(&dir.join("flat2")), expected);
    refused(dir, "convert --to flat layers/again.sqsh", 1, "expected it to be empty");

    let said = done(dir, "list layers");
    assert_eq!(said.lines().count(), 5, "{said}");
    let left: Vec<_> = fs::read_dir(dir.join("layers")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 8, "an image and its checksum each: {left:?}");
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    if !possible() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    system(&dir.join("tree"));
    for (kind, ending) in [("squashfs", "sqsh"), ("erofs", "erofs")] {
        done(dir, &format!("init one --from tree --type {kind}"));
        std::thread::sleep(std::time::Duration::from_millis(1100));
        done(dir, &format!("init two --from tree --type {kind} --low-priority --jobs 1"));
        let read = |name: &str| fs::read(dir.join(format!("{name}.{ending}"))).unwrap();
        assert!(read("one") == read("two"), "{kind}");
        let said = done(dir, &format!("diff one.{ending} two.{ending}"));
        assert_eq!(said, "");
    }
    refused(dir, "diff one.sqsh tree", 3, "A /etc/machine-id");
}

#[test]
fn what_is_not_good_is_told() {
    if !possible() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    system(&dir.join("tree"));
    assert!(done(dir, "init base --from tree --dry-run").contains("would hold"));
    assert!(!dir.join("base.sqsh").exists());
    done(dir, "init base --from tree --compress none");
    let good = fs::read(dir.join("base.sqsh")).unwrap();
    let mut bad = good.clone();
    let at = bad.windows(8).position(|bytes| bytes == b"taproot ").unwrap();
    bad[at] ^= 1;
    fs::write(dir.join("base.sqsh"), &bad).unwrap();
    refused(dir, "verify base.sqsh", 3, "its checksum is");
    fs::write(dir.join("base.sqsh"), &good[..good.len() / 2]).unwrap();
    refused(dir, "verify base.sqsh", 3, "cut off");
    refused(dir, "list", 3, "cut off");
    refused(dir, "merge --offline x.sqsh base.sqsh tree", 1, "cut off");

    let mark = |name: &[u8], value: &[u8]| {
        fs::create_dir_all(dir.join("marked/in/deep")).unwrap();
        let at = if name.ends_with(b"metacopy") { "marked/in/file" } else { "marked/in/deep" };
        if !dir.join(at).exists() {
            fs::write(dir.join(at), "").unwrap();
        }
        xattrs::set(&fs::File::open(dir.join(at)).unwrap(), name, value).unwrap();
    };
    mark(b"trusted.overlay.redirect", b"/elsewhere");
    refused(
        dir,
        "merge --offline x.sqsh marked tree",
        1,
        "marked/in/deep: the overlay was mounted with redirect_dir=on",
    );
    fs::remove_dir_all(dir.join("marked")).unwrap();
    mark(b"trusted.overlay.metacopy", b"");
    refused(dir, "merge --offline x.sqsh marked tree", 1, "marked/in/file: the overlay was mounted with metacopy=on");

    let acl = acl();
    let file = dir.join("tree/etc/hostname");
    if xattrs::set(&fs::File::open(&file).unwrap(), b"system.posix_acl_access", &acl).is_ok() {
        refused(
            dir,
            "init lists --from tree",
            1,
            "squashfs cannot hold access control lists, and these have one: /etc/hostname",
        );
        done(dir, "init lists --from tree --type erofs");
        done(dir, "convert --to with lists.erofs");
        let found = xattrs::get(&fs::File::open(dir.join("with/etc/hostname")).unwrap(), b"system.posix_acl_access");
        assert_eq!(found.unwrap(), acl);
        assert!(done(dir, "init without --from tree --drop-acls").contains("left out of /etc/hostname"));
        done(dir, "convert --to without.d without.sqsh");
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(dir.join("without.d/etc/hostname")).unwrap());
        assert_eq!(mode & 0o777, 0o640, "the group has what it had, not what the list's mask allows");
    }
}

#[test]
fn what_an_upper_hides_of_layers_that_were_changed() {
    if !possible() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for file in ["etc/issue", "etc/motd", "var/lib/dpkg/status", "opt/x/y", "opt/x/z/a", "srv/d/e", "usr/kept"] {
        let path = dir.join("tree").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "old\n").unwrap();
    }
    let script = "echo 1 >>etc/issue; echo 1 >>var/lib/dpkg/status; rm -r opt/x; rm -r srv/d; mkdir srv/d; echo mine >etc/motd; \
                  rm usr/kept; mkdir usr/kept";
    session(dir, 1, "tree", script);
    let open = |path: &str| Source::open(&dir.join(path), Namespace::Trusted).unwrap();
    let seen = || {
        let report = hidden(&open("upper-1/upper"), &[open("tree")]).unwrap();
        let of = |how| {
            let list = report.hidden.iter().filter(move |hidden| hidden.how == how);
            list.map(|hidden| format!("{} {}", hidden.path.display(), hidden.with)).collect::<Vec<_>>()
        };
        (of(How::Deleted), of(How::Replaced), of(How::OtherKind), of(How::Newer), report.databases.clone())
    };
    let (deleted, replaced, kind, newer, databases) = seen();
    assert_eq!(deleted, ["opt/x 3"]);
    assert_eq!(replaced, ["srv/d 1"]);
    assert_eq!(kind, ["usr/kept 0"]);
    assert!(newer.is_empty() && databases.is_empty(), "{newer:?}");
    // The layer is made anew: what it has now is newer than what was copied from the old one.
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(100);
    for file in ["etc/issue", "var/lib/dpkg/status"] {
        fs::File::options().write(true).open(dir.join("tree").join(file)).unwrap().set_modified(later).unwrap();
    }
    let (_, _, _, newer, databases) = seen();
    assert_eq!(newer, ["etc/issue 0", "var/lib/dpkg/status 0"]);
    assert_eq!(databases, [Path::new("var/lib/dpkg")]);
}
