//! `taproot initramfs` and `taproot inspect` as a user runs them, on small made-up trees and on the kit's Debian trees.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, clippy::panic)] // a test stops at the first surprise

mod made;

use made::module;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use taproot::inspect::{self, Listing};
use taproot_init::devices::table::{ModuleTable, When};

#[path = "../../tests/src/account.rs"]
#[allow(unreachable_pub, reason = "public where the scenarios use it")]
mod account;

const VERSION: &str = "6.1.0-test";

fn taproot(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_taproot")).args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A tree with spl, zfs, `virtio_blk` and a module for a soft dependency.
struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let tree = Self { dir: tempfile::tempdir().unwrap() };
        let magic = format!("vermagic={VERSION} SMP preempt\0");
        for (path, extra) in [
            ("updates/spl.ko", ""),
            ("updates/zfs.ko", "version=2.9.9\0firmware=zfs/none.bin\0"),
            ("kernel/drivers/block/virtio_blk.ko", ""),
            ("kernel/lib/helper.ko", ""),
            ("kernel/lib/after.ko", ""),
        ] {
            tree.write(&format!("lib/modules/{VERSION}/{path}"), &module(&format!("{magic}{extra}")));
        }
        tree.write(
            &format!("lib/modules/{VERSION}/modules.dep"),
            b"updates/zfs.ko: updates/spl.ko\nupdates/spl.ko:\nkernel/drivers/block/virtio_blk.ko:\nkernel/lib/helper.ko:\nkernel/lib/after.ko:\n",
        );
        tree.write(
            &format!("lib/modules/{VERSION}/modules.alias"),
            b"alias virtio:d00000002v* virtio_blk\nalias fs-zfs zfs\n",
        );
        tree.write(&format!("lib/modules/{VERSION}/modules.softdep"), b"softdep virtio_blk pre: helper post: after\n");
        tree.write(&format!("lib/modules/{VERSION}/modules.builtin"), b"");
        tree.write("etc/hostid", &[1, 2, 3, 4]);
        tree.write("etc/modprobe.d/zfs.conf", b"options zfs zfs_arc_max=1000\n");
        tree
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn root(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("out.img")
    }

    /// Packs with this test program as init: it is static, as the real one is.
    fn pack(&self, extra: &[&str]) -> Output {
        // By this it counts as taproot-init.
        std::hint::black_box(taproot_init::image::CONFIG_PATH);
        let init = std::env::current_exe().unwrap();
        let image = self.image();
        let mut args = vec!["initramfs", "--root", self.root(), "--modules", "generic", "--rescue", "none"];
        args.extend(["--compress", "zstd:1", "--output", image.to_str().unwrap(), "--init", init.to_str().unwrap()]);
        // A later --init wins over nothing: clap refuses two, so tests that bring their own replace it.
        if extra.contains(&"--init") {
            args.truncate(args.len() - 2);
        }
        args.extend(extra);
        taproot(&args)
    }

    fn refused(&self, extra: &[&str], because: &str) {
        let output = self.pack(extra);
        assert!(!output.status.success(), "packed although: {because}");
        assert!(stderr(&output).contains(because), "{because:?} is not in: {}", stderr(&output));
        assert!(!self.image().exists(), "a file was left behind");
        let litter: Vec<_> = fs::read_dir(self.dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(!litter.iter().any(|n| n.to_string_lossy().starts_with(".taproot")), "{litter:?}");
    }
}

fn listing(image: &Path) -> Listing {
    inspect::list(&fs::read(image).unwrap()).unwrap()
}

/// The bytes of one file of an image: in the archive of what is compressed already, or in the compressed one.
fn extract(image: &Path, path: &str) -> Vec<u8> {
    let image = fs::read(image).unwrap();
    let mut archive;
    let mut rest = image.as_slice();
    loop {
        let mut reader = cpio::NewcReader::new(rest).unwrap();
        if reader.entry().is_trailer() {
            rest = reader.finish().unwrap();
            let zeros = rest.iter().take_while(|byte| **byte == 0).count();
            assert!(zeros < rest.len(), "{path} is not in the image");
            archive = inspect::unpack(&rest[zeros..]).unwrap();
            rest = &archive;
            continue;
        }
        if reader.entry().name() == path.trim_start_matches('/') {
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut data).unwrap();
            return data;
        }
        rest = reader.finish().unwrap();
    }
}

fn table(image: &Path) -> ModuleTable {
    ModuleTable::parse(std::str::from_utf8(&extract(image, "/etc/taproot/modules")).unwrap()).unwrap()
}

/// Every module stands after what it needs.
fn assert_ordered(table: &ModuleTable) {
    for (i, module) in table.modules.iter().enumerate() {
        for dep in module.deps.iter().chain(&module.soft) {
            let at = table.modules.iter().position(|m| m.name == *dep);
            assert!(at.is_some_and(|at| at < i), "{} stands before {dep}", module.name);
        }
    }
}

#[test]
fn a_small_tree() {
    let tree = Tree::new();
    let output = tree.pack(&["--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["zfs"], "2.9.9");
    assert_eq!(summary["absent_firmware"][0], "zfs/none.bin (zfs)");
    let image = tree.image();
    assert_eq!(fs::metadata(&image).unwrap().permissions().mode() & 0o777, 0o600);

    let table = table(&image);
    assert_ordered(&table);
    let zfs = table.modules.iter().find(|m| m.name == "zfs").unwrap();
    assert_eq!(
        (zfs.when, zfs.params.as_str(), zfs.deps.as_slice()),
        (When::Boot, "zfs_arc_max=1000", ["spl".to_owned()].as_slice())
    );
    let disk = table.modules.iter().find(|m| m.name == "virtio_blk").unwrap();
    assert_eq!((disk.when, disk.soft.as_slice()), (When::Device, ["helper".to_owned()].as_slice()));
    let after = table.modules.iter().find(|m| m.name == "after").unwrap();
    assert_eq!(after.soft, ["virtio_blk"], "softdep post");
    assert_eq!(table.aliases, [("virtio:d00000002v*".to_owned(), "virtio_blk".to_owned())]);
    assert_eq!(extract(&image, "/etc/hostid"), [1, 2, 3, 4]);

    let files = listing(&image).files;
    let why = |path: &str| files.iter().find(|f| f.path == path).and_then(|f| f.why.clone());
    assert_eq!(why(&format!("/lib/modules/{VERSION}/updates/spl.ko.zst")).as_deref(), Some("needed by zfs"));
    assert_eq!(
        why(&format!("/lib/modules/{VERSION}/kernel/lib/helper.ko.zst")).as_deref(),
        Some("wanted by virtio_blk")
    );
    for file in files.iter().filter(|f| f.kind != "directory" && f.path != "/etc/taproot/manifest") {
        assert!(file.why.is_some(), "{} has no reason", file.path);
    }
}

#[test]
fn each_module_is_compressed_by_itself_or_none_is() {
    let tree = Tree::new();
    let on_disk = fs::read(tree.dir.path().join(format!("lib/modules/{VERSION}/updates/zfs.ko"))).unwrap();
    let path_of_zfs = |extra: &[&str]| {
        let output = tree.pack(extra);
        assert!(output.status.success(), "{}", stderr(&output));
        table(&tree.image()).modules.into_iter().find(|m| m.name == "zfs").unwrap().path
    };
    let compressed = path_of_zfs(&[]);
    assert!(compressed.ends_with("zfs.ko.zst"), "{compressed}");
    let packed = extract(&tree.image(), &compressed);
    assert!(taproot_init::sys::kmod::decompress(&packed).unwrap() == on_disk);
    let plain = path_of_zfs(&["--compress-modules", "none"]);
    assert!(plain.ends_with("zfs.ko"), "{plain}");
    assert!(extract(&tree.image(), &plain) == on_disk);
    fs::remove_file(tree.image()).unwrap();
    tree.refused(&["--compress-modules", "xz"], "zstd or not at all");
}

/// A system without ZFS whose fstab says what its root is.
#[test]
fn a_tree_with_a_plain_root() {
    let tree = Tree::new();
    let modules = format!("lib/modules/{VERSION}");
    tree.write(&format!("{modules}/kernel/fs/ext4.ko"), &module(&format!("vermagic={VERSION} SMP preempt\0")));
    tree.write(&format!("{modules}/modules.dep"), b"kernel/drivers/block/virtio_blk.ko:\nkernel/fs/ext4.ko:\n");
    tree.refused(&[], "no zfs module");
    tree.write("etc/fstab", b"UUID=1-2 / ext3 defaults 0 1\nUUID=3-4 /usr xfs ro 0 2\n");
    tree.refused(&[], "/usr is xfs, and kernel 6.1.0-test has no module xfs");
    tree.write(&format!("{modules}/modules.builtin"), b"kernel/fs/xfs/xfs.ko\n");
    let output = tree.pack(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("the root is ext3 and will be mounted unchecked: e2fsck is not in"),
        "{}",
        stderr(&output)
    );
    let names: Vec<String> = table(&tree.image()).modules.into_iter().map(|m| m.name).collect();
    assert_eq!(names, ["ext4", "virtio_blk"]);
    fs::remove_file(tree.image()).unwrap();
    tree.refused(&["--fsck", "ext4"], "e2fsck is not in");

    let program = tree.dir.path().join("sbin/e2fsck");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::copy(std::env::current_exe().unwrap(), program).unwrap();
    let output = tree.pack(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let files = listing(&tree.image()).files;
    let checker = files.iter().find(|file| file.path == "/sbin/e2fsck").unwrap();
    assert_eq!((checker.mode & 0o777, checker.why.as_deref()), (0o755, Some("checks ext3 file systems")));
    assert!(files.iter().any(|file| file.path == "/sbin/fsck.ext3" && file.kind == "link"));
    assert!(tree.pack(&["--fsck", "none"]).status.success());
    assert!(!listing(&tree.image()).files.iter().any(|file| file.path.contains("fsck")));
}

/// Of a tree without zfs it is not known what its root is; that it is made of layers can be said.
#[test]
fn a_tree_whose_root_is_made_of_layers() {
    let tree = Tree::new();
    let dep = format!("lib/modules/{VERSION}/modules.dep");
    let magic = format!("vermagic={VERSION} SMP preempt\0");
    let mut lines = String::new();
    let mut has = |name: &str| {
        tree.write(&format!("lib/modules/{VERSION}/kernel/{name}.ko"), &module(&magic));
        writeln!(lines, "kernel/{name}.ko:").unwrap();
        tree.write(&dep, lines.as_bytes());
    };
    has("virtio_blk");
    has("loop");
    has("erofs");
    tree.refused(&[], "no zfs module");
    tree.refused(&["--layers"], "layers need module overlay");
    has("overlay");
    has("dm-verity");
    has("isofs");
    let root = tree.root().to_owned();
    let (image, init) = (tree.image(), std::env::current_exe().unwrap());
    let host = ["initramfs", "--root", &root, "--rescue", "none", "--compress", "zstd:1", "--output"];
    let pack = |more: &[&str]| {
        let last = [image.to_str().unwrap(), "--init", init.to_str().unwrap()];
        let output = taproot(&[&host[..], &last, more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let names: Vec<String> = table(&image).modules.iter().map(|module| module.name.clone()).collect();
        names
    };
    let names = pack(&["--layers"]);
    for name in ["loop", "overlay", "erofs", "dm_verity", "isofs"] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
    tree.write("etc/taproot/initramfs.toml", b"layers = true\n");
    assert_eq!(pack(&[]), names);
    // Checked layers need what checks them.
    tree.write(&dep, lines.replace("kernel/dm-verity.ko:\n", "").as_bytes());
    fs::remove_file(&image).unwrap();
    let hash = format!("taproot.layers=base taproot.roothash=base:{}", "0".repeat(64));
    tree.refused(&["--cmdline", &hash], "layers need module dm_verity");
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let tree = Tree::new();
    assert!(tree.pack(&[]).status.success());
    let first = fs::read(tree.image()).unwrap();
    // Times and order of creation must not show.
    for entry in fs::read_dir(tree.dir.path().join(format!("lib/modules/{VERSION}/updates"))).unwrap().flatten() {
        let bytes = fs::read(entry.path()).unwrap();
        fs::remove_file(entry.path()).unwrap();
        fs::write(entry.path(), bytes).unwrap();
    }
    assert!(tree.pack(&[]).status.success());
    assert!(first == fs::read(tree.image()).unwrap(), "two builds differ");
}

#[test]
fn images_that_cannot_boot_are_refused() {
    let tree = Tree::new();
    tree.refused(&["--kernel", "5.0.0"], "5.0.0");
    tree.refused(&["--init", "/bin/ls"], "dynamically linked");
    tree.refused(&["--init", "/nonexistent/init"], "expected the static taproot-init");
    tree.refused(&["--rescue", "small", "--quiet"], "cannot be used multiple times");
    tree.refused(&["--add-module", "nosuch"], "nosuch");
    tree.refused(&["--add-file", "/etc/nosuch"], "/etc/nosuch");
    tree.write("etc/hostid", b"12");
    tree.refused(&[], "etc/hostid has 2 bytes, expected 4");
    fs::remove_file(tree.dir.path().join("etc/hostid")).unwrap();
    tree.write("bad.toml", b"modules = \"generic\"\nmodul = 3\n");
    let bad = tree.dir.path().join("bad.toml");
    tree.refused(&["--config", bad.to_str().unwrap()], "line 2");

    tree.write(&format!("lib/modules/{VERSION}/updates/zfs.ko"), &module("vermagic=6.0.0-other SMP\0"));
    tree.refused(&[], "zfs was built for kernel 6.0.0-other, expected 6.1.0-test");
    tree.write(&format!("lib/modules/{VERSION}/updates/zfs.ko"), b"garbage");
    tree.refused(&[], "not a kernel module");

    tree.write(&format!("lib/modules/{VERSION}/modules.dep"), b"kernel/drivers/block/virtio_blk.ko:\n");
    tree.refused(&[], "no zfs module for kernel 6.1.0-test");
    fs::create_dir_all(tree.dir.path().join("lib/modules/6.2.0-second")).unwrap();
    tree.write("lib/modules/6.2.0-second/modules.dep", b"");
    tree.refused(&[], "choose one with --kernel");
}

#[test]
fn an_old_image_survives_a_refusal() {
    let tree = Tree::new();
    assert!(tree.pack(&[]).status.success());
    let before = fs::read(tree.image()).unwrap();
    tree.write("etc/hostid", b"12");
    assert!(!tree.pack(&[]).status.success());
    assert!(before == fs::read(tree.image()).unwrap());
}

#[test]
fn man_pages_and_completions() {
    let dir = tempfile::tempdir().unwrap();
    assert!(taproot(&["man", dir.path().to_str().unwrap()]).status.success());
    for page in ["taproot.1", "taproot-initramfs.1", "taproot-inspect.1"] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
    assert!(String::from_utf8_lossy(&taproot(&["completions", "bash"]).stdout).contains("initramfs"));
}

fn kit() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    std::env::var_os("TAPROOT_KIT").map_or_else(|| cache.unwrap_or_else(home).join("taproot-kit"), PathBuf::from)
}

/// Some of what a generic image has.
const GENERIC: [&str; 19] = [
    "zfs",
    "virtio_blk",
    "nvme",
    "ahci",
    "sd_mod",
    "usb_storage",
    "uas",
    "megaraid_sas",
    "overlay",
    "squashfs",
    "mpi3mr",
    "qla2xxx",
    "sata_mv",
    "hid_apple",
    "hid_logitech_dj",
    "i2c_hid_acpi",
    "firewire_sbp2",
    "erofs",
    "isofs",
];

#[test]
fn real_debian_trees() {
    for name in ["debian13-zfs2.4", "debian12-zfs2.1"] {
        let root = kit().join("trees").join(name).join("root");
        if !root.join("lib/modules").exists() {
            account::skipped(&format!("{} is not there (make kit builds it)", root.display()));
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let init = std::env::current_exe().unwrap();
        let pack = |file: &str, rescue: &str| {
            let image = dir.path().join(file);
            let mut args = vec!["initramfs", "--root", root.to_str().unwrap(), "--modules", "generic", "--quiet"];
            args.extend(["--rescue", rescue, "--fsck", if rescue == "none" { "none" } else { "ext4" }]);
            let output = Command::new(env!("CARGO_BIN_EXE_taproot"))
                .args(args)
                .args(["--compress", "zstd:1", "--init", init.to_str().unwrap(), "--output"])
                .arg(&image)
                .output()
                .unwrap();
            assert!(output.status.success(), "{name}: {}", stderr(&output));
            image
        };
        let none = pack("none", "none");
        let table = table(&none);
        assert_ordered(&table);
        let names: Vec<&str> = table.modules.iter().map(|m| m.name.as_str()).collect();
        for wanted in GENERIC {
            assert!(names.contains(&wanted), "{name}: {wanted}");
        }
        // Not a module of 6.1.
        assert_eq!(names.contains(&"xhci_pci_renesas"), name != "debian12-zfs2.1");
        assert!(!names.contains(&"xfs") && !names.contains(&"wacom"), "{name}");
        // Nothing that a boot could run but ourselves.
        let programs: Vec<String> = listing(&none)
            .files
            .into_iter()
            .filter(|f| f.kind == "file" && f.mode & 0o111 != 0)
            .map(|f| f.path)
            .collect();
        assert_eq!(programs, ["/init"], "{name}");

        let full = listing(&pack("full", "full")).files;
        for path in
            ["/sbin/zpool", "/sbin/zfs", "/bin/busybox", "/bin/sh", "/lib64/ld-linux-x86-64.so.2", "/sbin/e2fsck"]
        {
            assert!(full.iter().any(|f| f.path == path), "{name}: {path}");
        }
        assert!(full.iter().any(|f| f.path.ends_with("/libgcc_s.so.1")), "{name}: libgcc_s");
        assert!(fs::read(&none).unwrap() == fs::read(pack("again", "none")).unwrap(), "{name}: two builds differ");
    }
}
