//! Media that `taproot live` makes of the kit's tree, as a user who may nothing: booted by both firmwares, with and without a place for what
//! is written.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use taproot_tests::image::{boot_binary, builder};
use taproot_tests::kit::{self, System};
use taproot_tests::scenario;
use taproot_tests::vm::{Bus, Disk, Report, Running, Vm};

/// Nobody: without capabilities, and without the right to get any.
const NOBODY: u32 = 65_534;
/// USB is slow where the processor is emulated.
const WORDS: &str = "console=ttyS0 no_timer_check taproot-test.report taproot.wait=120";

/// A directory that belongs to nobody, with the programs in it.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("taproot-live.").tempdir_in("/var/tmp").unwrap();
        for program in [builder(), boot_binary()] {
            let copy = dir.path().join(program.file_name().unwrap());
            fs::copy(program, &copy).unwrap();
            fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
        }
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a medium of the tree, piped in; what it says as JSON.
    fn make(&self, system: &System, options: &[&str]) -> Value {
        let mut tar = Command::new("tar");
        tar.args(["--one-file-system", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--sort=name"]);
        tar.args(["--format=posix", "--pax-option=delete=atime,delete=ctime", "-cf", "-", "-C"]);
        let mut tar = tar.arg(system.tree()).arg(".").stdout(Stdio::piped()).spawn().unwrap();
        let mut live = Command::new("setpriv");
        let nobody = NOBODY.to_string();
        live.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--no-new-privs", "--bounding-set=-all"]);
        live.arg("--inh-caps=-all").arg(self.path("taproot"));
        live.args(["live", "--tar", "-", "--json", "--set", "system.allow-empty-root=true"]).args(options);
        live.current_dir(self.0.path()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        live.stdin(tar.stdout.take().unwrap()).stderr(Stdio::piped()).stdout(Stdio::piped());
        let output = live.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(tar.wait().unwrap().success());
        let left: Vec<_> = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with('.')), "{left:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn disk(&self, name: &str, bus: Bus) -> Disk {
        Disk { path: self.path(name), format: "raw", serial: "live0".into(), bus, read_only: false }
    }
}

/// The partitions are what the field's own tools take them for.
fn check_disk(raw: &Path) {
    let said = kit::run(Command::new("sgdisk").arg("-v").arg(raw)).unwrap();
    assert!(said.contains("No problems found"), "{said}");
}

/// Boots it, has a script run, and waits for the end.
fn boot(vm: Vm, script: &str) -> (Report, String) {
    let script = format!("{script}\nsystemctl --no-block poweroff\n");
    let mut vm: Running = vm.memory(1536).file("opt/taproot/script", script.as_bytes()).start().unwrap();
    let report = vm.report(240).unwrap();
    let said = vm.script(100).unwrap();
    vm.wait_exit(90).unwrap();
    assert_eq!(report.one("STATE"), "active failed=0", "{:?}", report.all("FAILED"));
    (report, said)
}

fn at(report: &Report, point: &str) -> (String, String) {
    let mount = report.mounts().into_iter().rev().find(|mount| mount.point == point);
    mount.map_or_else(|| panic!("nothing is on {point}"), |mount| (mount.source, mount.kind))
}

#[test]
fn a_stick_boots_by_both_firmwares() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let room = Room::new();
        let said = room.make(system, &["--raw", "stick.raw", "--cmdline", WORDS]);
        assert_eq!(said["kernel"], system.kernel);
        check_disk(&room.path("stick.raw"));
        let stick = room.disk("stick.raw", Bus::Usb);
        for vm in [Vm::from_disk("live-uefi", system, stick.clone()).uefi(), Vm::from_disk("live-bios", system, stick)]
        {
            let (report, said) =
                boot(vm, "cmp /run/live/medium/live/linux /boot/vmlinuz-$(uname -r) && echo the same kernel");
            assert!(said.contains("the same kernel"), "{said}");
            assert_eq!(at(&report, "/").1, "overlay");
            assert_eq!(at(&report, "/run/live/medium"), ("/dev/sda2".to_owned(), "vfat".to_owned()));
            assert_eq!(at(&report, "/run/taproot/upper").1, "tmpfs");
        }
    });
}

/// Two boots, each by another firmware.
fn keeps(system: &System, option: &str, below: &str) {
    let room = Room::new();
    room.make(system, &["--raw", "stick.raw", "--cmdline", WORDS, option, "256M"]);
    check_disk(&room.path("stick.raw"));
    let stick = room.disk("stick.raw", Bus::Virtio);
    let uefi = Vm::from_disk(&format!("live{option}-uefi"), system, stick.clone()).uefi();
    let (report, _) = boot(uefi, "echo what was written >/root/kept; rm /etc/motd");
    assert_eq!(at(&report, "/").1, "overlay");
    assert!(report.mounts().iter().any(|mount| mount.kind == "ext4" && mount.source.starts_with(below)));
    let bios = Vm::from_disk(&format!("live{option}-bios"), system, stick);
    let (_, said) = boot(bios, "cat /root/kept; [ ! -e /etc/motd ] && echo it is gone");
    assert!(said.contains("what was written") && said.contains("it is gone"), "{said}");
}

#[test]
fn what_is_written_is_kept_on_a_zvol() {
    scenario::run(kit::SYSTEMS[0], |system| keeps(system, "--persistence-zvol", "/dev/zd"));
}

#[test]
fn what_is_written_is_kept_in_a_partition() {
    scenario::run(kit::SYSTEMS[0], |system| keeps(system, "--persistence", "/dev/vda3"));
}
