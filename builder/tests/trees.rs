//! `taproot initramfs` on trees of other distributions, on hostile ones, and with odd outputs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, clippy::panic)] // a test stops at the first surprise

mod made;

use made::module;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use taproot::inspect;

const VERSION: &str = "6.1.0-test";

struct Tree(tempfile::TempDir);

impl Tree {
    /// With modules of a kernel at a place.
    fn with_modules(at: &str) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.write(&format!("{at}/updates/zfs.ko"), &module(&format!("vermagic={VERSION} SMP\0version=2.9.9\0")));
        tree.write(&format!("{at}/modules.dep"), b"updates/zfs.ko:\n");
        for file in ["modules.alias", "modules.softdep", "modules.builtin"] {
            tree.write(&format!("{at}/{file}"), b"# as depmod begins\n");
        }
        tree
    }

    fn new() -> Self {
        Self::with_modules(&format!("lib/modules/{VERSION}"))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn link(&self, target: &str, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn program(&self, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(std::env::current_exe().unwrap(), path).unwrap();
    }

    fn command(&self, options: &[&str]) -> Command {
        // By this the test program counts as taproot-init.
        std::hint::black_box(taproot_init::image::CONFIG_PATH);
        let mut command = Command::new(env!("CARGO_BIN_EXE_taproot"));
        command.args(["initramfs", "--modules", "generic", "--compress", "zstd:1", "--root"]).arg(self.0.path());
        command.arg("--init").arg(std::env::current_exe().unwrap()).args(options);
        command
    }

    /// Packs to `out.img` of the tree.
    fn pack(&self, options: &[&str]) -> Output {
        let out = self.path("out.img");
        self.command(options).arg("--output").arg(out).output().unwrap()
    }

    fn packed(&self, options: &[&str]) -> Vec<String> {
        let output = self.pack(options);
        assert!(output.status.success(), "{}", stderr(&output));
        inspect::list(&fs::read(self.path("out.img")).unwrap())
            .unwrap()
            .files
            .into_iter()
            .map(|file| file.path)
            .collect()
    }

    fn refused(&self, options: &[&str], because: &str) {
        let output = self.pack(options);
        assert!(!output.status.success(), "packed although: {because}");
        assert!(stderr(&output).contains(because), "{because:?} is not in: {}", stderr(&output));
        assert!(!self.path("out.img").exists());
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Arch has no /lib of its own in a tree that is not merged yet, Fedora keeps the configuration beside the modules.
#[test]
fn modules_firmware_and_configuration_below_usr_alone() {
    let at = format!("usr/lib/modules/{VERSION}");
    let tree = Tree::with_modules(&at);
    tree.write(&format!("{at}/updates/zfs.ko"), &module(&format!("vermagic={VERSION} SMP\0firmware=q/*.bin\0")));
    tree.write("usr/lib/firmware/q/a.bin", b"firmware");
    tree.program("usr/lib/initcpio/busybox");
    let files = tree.packed(&[]);
    for path in [&format!("/lib/modules/{VERSION}/updates/zfs.ko.zst"), "/lib/firmware/q/a.bin", "/bin/busybox"] {
        assert!(files.iter().any(|file| file == path), "{path}: {files:?}");
    }
    fs::remove_file(tree.path("out.img")).unwrap();
    tree.write(&format!("{at}/config"), b"# CONFIG_RD_ZSTD is not set\n");
    tree.refused(&[], "built without CONFIG_RD_ZSTD");
}

/// Everything is a link into the store, and the links are absolute.
#[test]
fn nixos() {
    let tree = Tree::with_modules(&format!("nix/store/1-modules/lib/modules/{VERSION}"));
    for (target, path) in [
        ("/nix/var/nix/profiles/system-1-link", "nix/var/nix/profiles/system"),
        ("/nix/store/2-system", "nix/var/nix/profiles/system-1-link"),
        ("/nix/store/1-modules", "nix/store/2-system/kernel-modules"),
        ("/nix/store/3-path", "nix/store/2-system/sw"),
        ("/nix/store/4-busybox/bin/busybox", "nix/store/3-path/bin/busybox"),
        ("/etc/static/modprobe.d", "etc/modprobe.d"),
        ("/nix/store/5-etc", "etc/static"),
        ("/etc/static/hostid", "etc/hostid"),
    ] {
        tree.link(target, path);
    }
    tree.program("nix/store/4-busybox/bin/busybox");
    tree.write("nix/store/5-etc/hostid", &[1, 2, 3, 4]);
    tree.write("nix/store/5-etc/modprobe.d/nixos.conf", b"options zfs zfs_arc_max=4G\n");
    tree.refused(&[], "options zfs zfs_arc_max=4G: expected a number");
    tree.write("nix/store/5-etc/modprobe.d/nixos.conf", b"options zfs zfs_arc_max=1\n");
    let files = tree.packed(&[]);
    assert!(["/bin/busybox", "/etc/hostid"].iter().all(|path| files.iter().any(|file| file == path)), "{files:?}");
}

#[test]
fn modules_of_weak_updates_are_links_inside_the_tree() {
    let tree = Tree::new();
    let at = format!("lib/modules/{VERSION}");
    fs::remove_file(tree.path(&format!("{at}/updates/zfs.ko"))).unwrap();
    tree.write("lib/modules/6.0/extra/zfs.ko", &module(&format!("vermagic={VERSION} SMP\0")));
    tree.link("/lib/modules/6.0/extra/zfs.ko", &format!("{at}/weak-updates/zfs.ko"));
    tree.write(&format!("{at}/modules.dep"), b"weak-updates/zfs.ko:\n");
    let files = tree.packed(&["--rescue", "none", "--kernel", VERSION]);
    assert!(files.contains(&format!("/lib/modules/{VERSION}/weak-updates/zfs.ko.zst")), "{files:?}");
}

/// Each would be read from this machine, or never end.
#[test]
fn links_out_of_the_tree_fifos_and_endless_files() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), [1, 2, 3, 4]).unwrap();
    let outside = outside.path().to_str().unwrap();
    let at = format!("lib/modules/{VERSION}");
    let (zfs, alias) = (format!("{at}/updates/zfs.ko"), format!("{at}/modules.alias"));
    for path in ["etc/hostid", "etc/fstab", "etc/modprobe.d", "etc/taproot/initramfs.toml", &zfs, &alias] {
        let tree = Tree::new();
        let _ = fs::remove_file(tree.path(path));
        tree.link(outside, path);
        tree.refused(&["--rescue", "none"], "which the tree does not have");
    }
    for path in ["etc/hostid", "etc/fstab", "etc/modprobe.d/a.conf", "etc/taproot/initramfs.toml", &zfs, &alias] {
        let tree = Tree::new();
        let _ = fs::remove_file(tree.path(path));
        fs::create_dir_all(tree.path(path).parent().unwrap()).unwrap();
        nix::unistd::mkfifo(&tree.path(path), nix::sys::stat::Mode::S_IRWXU).unwrap();
        tree.refused(&["--rescue", "none"], "expected a regular file, found a FIFO");
        fs::remove_file(tree.path(path)).unwrap();
        File::create(tree.path(path)).unwrap().set_len(1 << 40).unwrap();
        tree.refused(&["--rescue", "none"], "1099511627776 bytes, expected at most");
    }
    let tree = Tree::new();
    tree.link(outside, "etc/key");
    tree.refused(&["--rescue", "none", "--add-file", "/etc/key"], "which the tree does not have");
    tree.refused(&["--rescue", "none", "--config", "/dev/zero"], "found a device");
}

#[test]
fn an_index_that_lacks_files_is_not_taken_for_empty() {
    for file in ["modules.alias", "modules.softdep", "modules.builtin"] {
        let tree = Tree::new();
        let path = tree.path(&format!("lib/modules/{VERSION}/{file}"));
        fs::remove_file(path).unwrap();
        tree.refused(&["--rescue", "none"], &format!("{file}: No such file"));
        let output = tree.pack(&["--rescue", "none", "--no-preflight"]);
        assert!(output.status.success());
        assert!(stderr(&output).contains("note: this image may not boot:") && stderr(&output).contains(file));
    }
}

#[test]
fn the_keyboard_layout_of_the_tree_is_packed() {
    let tree = Tree::new();
    let keymap = "/etc/taproot/keymap".to_owned();
    let note =
        |output: &Output| stderr(output).contains("keyboard layout de (KEYMAP in /etc/vconsole.conf): no such keymap");
    let layout = |options: &[&str]| {
        let output = tree.pack(&[&["--rescue", "none", "--json"][..], options].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let packed = inspect::list(&fs::read(tree.path("out.img")).unwrap()).unwrap();
        let found = packed.files.iter().any(|file| file.path == keymap);
        let json = String::from_utf8(output.stdout).unwrap();
        let name = json.split("\"keyboard\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        (found, name)
    };
    assert_eq!(layout(&[]), (false, "us".to_owned()));
    tree.write("etc/vconsole.conf", b"KEYMAP=de\n");
    assert!(note(&tree.pack(&["--rescue", "none"])));
    tree.write("usr/share/kbd/keymaps/i386/qwertz/de.map", b"keymaps 0-1\nkeycode 21 = z\n");
    assert!(!note(&tree.pack(&["--rescue", "none"])));
    assert_eq!(layout(&[]), (true, "de".to_owned()));
    assert_eq!(layout(&["--keymap", "none"]), (false, "us".to_owned()));
    tree.write("etc/taproot/initramfs.toml", b"keymap = \"/maps/own.map\"\n");
    fs::remove_file(tree.path("out.img")).unwrap();
    tree.refused(&["--rescue", "none"], "/maps/own.map: No such file");
    tree.write("maps/own.map", b"keycode 21 = z\n");
    assert_eq!(layout(&[]), (true, "own".to_owned()));
    assert_eq!(layout(&["--keymap", "de"]), (true, "de".to_owned()));
}

#[test]
fn messages_about_kernels_name_those_that_are_there() {
    let tree = Tree::new();
    tree.refused(&["--kernel", "6.9"], &format!(": {VERSION}"));
    tree.write(&format!("lib/modules/{VERSION}/modules.dep"), b"");
    tree.refused(&[], &format!(": {VERSION}"));
    tree.refused(&["--kernel", "../x"], "no release of a kernel");
}

#[test]
fn another_static_program_is_no_init() {
    let tree = Tree::new();
    let mut program = fs::read(env!("CARGO_BIN_EXE_taproot")).unwrap();
    program.truncate(4096);
    tree.write("static", &program);
    tree.write("etc/taproot/initramfs.toml", b"init = \"/static\"\nrescue = \"none\"\n");
    let out = tree.path("out.img");
    let mut command = Command::new(env!("CARGO_BIN_EXE_taproot"));
    command.args(["initramfs", "--modules", "generic", "--root"]).arg(tree.0.path()).arg("--output").arg(out);
    let output = command.output().unwrap();
    assert!(!output.status.success() && stderr(&output).contains("static is"), "{}", stderr(&output));
}

#[test]
fn images_go_to_pipes_and_through_links() {
    let tree = Tree::new();
    let output = tree.command(&["--rescue", "none", "--output", "-"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!inspect::list(&output.stdout).unwrap().files.is_empty());
    let output = tree.command(&["--rescue", "none", "--output", "/dev/stdout"]).stderr(Stdio::null()).output().unwrap();
    assert!(inspect::list(&output.stdout).is_ok());
    let output = tree.command(&["--rescue", "none", "--output", "-", "--json"]).output().unwrap();
    assert!(!output.status.success() && stderr(&output).contains("choose one"));
    let output = tree.command(&["--rescue", "none", "--output", "/dev/full"]).output().unwrap();
    assert!(!output.status.success() && stderr(&output).contains("found a device"));

    tree.link("/real", "boot");
    fs::create_dir(tree.path("real")).unwrap();
    let output = tree.command(&["--rescue", "none"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let image = tree.path(&format!("real/initramfs-taproot-{VERSION}.img"));
    assert_eq!(fs::metadata(&image).unwrap().permissions().mode() & 0o777, 0o600);
    tree.write("etc/taproot/initramfs.toml", b"output = \"/boot/x-%v\"\nrescue = \"none\"\n");
    assert!(tree.command(&[]).output().unwrap().status.success());
    assert!(tree.path(&format!("real/x-{VERSION}")).exists());
}

#[test]
fn it_ends_when_it_is_told_to() {
    let tree = Tree::new();
    let new = tree.path(".out.img.taproot-new");
    let file = File::create(&new).unwrap();
    file.lock().unwrap();
    // Another one writes, so this one waits.
    let out = tree.path("out.img");
    let mut child = tree.command(&["--rescue", "none", "--output"]).arg(out).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("waiting for another taproot")));
    std::thread::sleep(Duration::from_millis(1));
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    assert!(new.exists() && !tree.path("out.img").exists());
}
