//! The way to the files of a tree.

use super::*;
use std::os::unix::fs::symlink;

fn tree() -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("root/real/etc")).unwrap();
    fs::write(dir.path().join("outside"), "outside").unwrap();
    fs::write(dir.path().join("root/real/etc/hostid"), "1234").unwrap();
    let tree = Tree::open(&dir.path().join("root")).unwrap();
    (dir, tree)
}

#[test]
fn links_lead_nowhere_but_inside() {
    let (dir, tree) = tree();
    let root = dir.path().join("root");
    symlink("/real/etc", root.join("etc")).unwrap();
    symlink("../../outside", root.join("real/etc/up")).unwrap();
    symlink(dir.path().join("outside"), root.join("real/etc/out")).unwrap();
    assert_eq!(tree.read("/etc/hostid", 10).unwrap(), b"1234");
    assert_eq!(tree.read("etc/hostid", 10).unwrap(), b"1234");
    assert_eq!(tree.file("/etc/hostid"), Some("/real/etc/hostid".into()));
    for out in ["/etc/up", "/etc/out", "/../outside"] {
        assert_eq!(tree.file(out), None, "{out}");
        assert!(tree.read(out, 10).is_err(), "{out}");
    }
    let error = tree.read_if_there("/etc/out", 10).unwrap_err().to_string();
    assert!(error.contains("a link to") && error.contains("inside the tree"), "{error}");
    assert_eq!(tree.read_if_there("/etc/none/x", 10).unwrap(), None);
    assert_eq!(tree.place("/etc/new").unwrap(), tree.shown("real/etc/new"));
    symlink("/absent", root.join("conf.d")).unwrap();
    assert!(tree.list("/conf.d").unwrap_err().to_string().contains("a link to /absent"));
    assert!(tree.read_if_there("/conf.d/x", 10).is_err());
    assert_eq!(tree.list("/none").unwrap(), [""; 0]);
    assert_eq!(tree.list("/etc").unwrap(), ["hostid", "out", "up"]);
}

#[test]
fn what_is_no_file_of_a_decent_length_is_refused_at_once() {
    let (dir, tree) = tree();
    let root = dir.path().join("root");
    nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    File::create(root.join("endless")).unwrap().set_len(1 << 40).unwrap();
    fs::create_dir(root.join("dir")).unwrap();
    for (path, why) in [("fifo", "a FIFO"), ("socket", "a socket"), ("dir", "a directory"), ("endless", "at most 100")]
    {
        let error = tree.read(path, 100).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert!(tree.read_if_there(path, 100).is_err(), "{path} is not absent");
    }
    assert!(tree.read("x/".repeat(100_000), 10).is_err());
    assert!(named(Path::new("/dev/zero"), 10).unwrap_err().to_string().contains("a device"));
    assert!(named(&root.join("fifo"), 10).unwrap_err().to_string().contains("a FIFO"));
}

#[test]
fn masked_files() {
    let (dir, tree) = tree();
    symlink("/dev/null", dir.path().join("root/off.conf")).unwrap();
    symlink("/real/etc/hostid", dir.path().join("root/on.conf")).unwrap();
    assert!(tree.is_masked("off.conf") && !tree.is_masked("on.conf") && !tree.is_masked("none"));
}

#[test]
fn where_distributions_keep_things() {
    let (dir, tree) = tree();
    let root = dir.path().join("root");
    for made in ["usr/lib/modules/6.1-arch", "nix/store/k/lib/modules/6.2", "usr/lib/modules/without", "nix/store/fw"] {
        fs::create_dir_all(root.join(made)).unwrap();
    }
    for made in
        ["usr/lib/modules/6.1-arch/modules.dep", "nix/store/k/lib/modules/6.2/modules.dep", "nix/store/fw/a.bin.xz"]
    {
        fs::write(root.join(made), "").unwrap();
    }
    fs::create_dir_all(root.join("nix/var/nix/profiles")).unwrap();
    fs::create_dir_all(root.join("nix/store/system")).unwrap();
    symlink("/nix/store/system", root.join("nix/var/nix/profiles/system")).unwrap();
    symlink("/nix/store/k", root.join("nix/store/system/kernel-modules")).unwrap();
    symlink("/nix/store/fw", root.join("nix/store/system/firmware")).unwrap();
    assert_eq!(tree.kernels().unwrap(), ["6.1-arch", "6.2"]);
    assert_eq!(tree.modules("6.1-arch"), Path::new("/usr/lib/modules/6.1-arch"));
    assert!(tree.modules("6.2").starts_with("/nix"));
    assert_eq!(tree.modules("7"), Path::new("/lib/modules/7"));
    let found = tree.firmware("6.2", "a.bin", &["", ".xz"]).unwrap();
    assert_eq!(found, ("/nix/store/fw/a.bin.xz".into(), ".xz"));
    fs::create_dir_all(root.join("usr/lib/firmware/6.2")).unwrap();
    fs::write(root.join("usr/lib/firmware/6.2/a.bin"), "").unwrap();
    assert_eq!(tree.firmware("6.2", "a.bin", &["", ".xz"]).unwrap().0, Path::new("/usr/lib/firmware/6.2/a.bin"));
    fs::write(root.join("usr/lib/modules/6.1-arch/config"), "CONFIG_X=y").unwrap();
    assert_eq!(tree.kernel_config("6.1-arch").unwrap().as_deref(), Some("CONFIG_X=y"));
}
