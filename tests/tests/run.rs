//! `taproot run`: an image boots in QEMU and is what it was afterwards; what is made of a snapshot of a running root boots as it was then.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use taproot_tests::kit::{self, System};
use taproot_tests::scenario;
use taproot_tests::vm::stream::late_of;
use taproot_tests::vm::{Disk, Report, Scratch, Vm, accel};
use taproot_tests::{image, old, small};

/// What stands where QEMU does in a machine that is itself emulated: it keeps what it was given, on the second disk.
const KEEPS: &str = r#"#!/bin/sh
set -e
mkdir /run/out
for word; do echo "$word" >>/run/out/words; done
while [ $# -gt 0 ]; do
    case $1 in
        -kernel) cp "$2" /run/out/kernel ;;
        -initrd) cp "$2" /run/out/initramfs ;;
        -append) echo "$2" >/run/out/append ;;
        *,file=*) cp "${1##*,file=}" /run/out/root ;;
    esac
    shift
done
tar -cf /dev/vdb -C /run/out .
"#;

/// Everything in the system, with its content.
const SUM: &str = "find / /home -xdev -type f | sort | xargs md5sum | md5sum";

fn sum(path: &Path) -> String {
    kit::run(Command::new("sha256sum").arg(path)).unwrap()
}

#[test]
fn an_image_boots_and_is_not_changed() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let scratch = Scratch::new().unwrap();
        let tree = small::reporting(system, &scratch, "box").unwrap();
        let image = small::image(&tree, &["--size", "1G"], "--qcow2").unwrap();
        let (before, report) = (sum(&image), scratch.path().join("report"));
        let mut run = Command::new("timeout");
        // A QEMU that stands still does not end for less, and keeps its output open.
        run.args(["--signal", "KILL", "300"])
            .arg(image::builder())
            .arg("run")
            .arg(&image)
            .args(["--memory", "1024", "--work"])
            .arg(scratch.path());
        // KVM may be there and not work: the tests' machines know.
        let accel = accel().unwrap().argument().split(',').next().unwrap().to_owned();
        run.args(["--", "-machine", &format!("accel={accel}")]);
        run.args(["-serial", "mon:stdio", "-serial"]).arg(format!("file:{}", report.display()));
        let output = run.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let why = if output.status.signal().is_some() { late_of(&said) } else { "it failed" };
        assert!(output.status.success(), "{why}: {}\n{said}", String::from_utf8_lossy(&output.stderr));
        // The firmware draws on this line, too.
        let report = Report::parse(&String::from_utf8_lossy(&fs::read(&report).unwrap())).unwrap();
        assert_eq!(report.hostname(), "box");
        assert_eq!(scenario::dataset_at(&report, "/").as_deref(), Some("zroot/ROOT/default"));
        assert_eq!(sum(&image), before);
        let left: Vec<_> = fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("taproot-run.")), "{left:?}");
    });
}

/// A machine whose root is a dataset, with this program and one that makes squashfs.
fn machine(system: &System, scratch: &Scratch) -> Disk {
    let tree = scratch.path().join("before");
    let guest_init = taproot_tests::checkout().join("out/guest-init");
    small::tree(system, &tree, &[("usr/bin/guest-init", &guest_init)]).unwrap();
    small::with_libraries(&tree, "mksquashfs").unwrap();
    fs::create_dir(tree.join("home")).unwrap();
    for (path, text, mode) in [
        ("usr/bin/init", old::INIT, 0o755),
        ("usr/bin/qemu-system-x86_64", KEEPS, 0o755),
        ("home/kept", "kept\n", 0o644),
    ] {
        small::put(&tree, path, text, mode).unwrap();
    }
    let path = small::image(&tree, &["--size", "2G"], "--raw").unwrap();
    Disk::writable(&path, "raw", "box")
}

/// What the program was given in the guest.
fn given(scratch: &Scratch, kept: &Disk) -> PathBuf {
    let dir = scratch.path().join("given");
    fs::create_dir(&dir).unwrap();
    kit::run(Command::new("tar").arg("-xf").arg(&kept.path).arg("-C").arg(&dir)).unwrap();
    dir
}

#[test]
fn a_snapshot_of_the_running_root_boots_as_it_was() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let scratch = Scratch::new().unwrap();
        let disk = machine(system, &scratch);
        let kept = scratch.blank("kept", 512 << 20).unwrap();
        let vm = Vm::new("run-snapshot", system, &image::standard(system).unwrap()).append("zfs=zroot");
        let vm = vm.disks([disk, kept.clone()]).start().unwrap();
        old::up(&vm, 60).unwrap();
        let command = |line: &str| old::command(&vm, line, 120).unwrap();
        command("echo 1 >/sys/module/zfs/parameters/zfs_admin_snapshot");
        command("mkdir /.zfs/snapshot/before /home/.zfs/snapshot/before");
        command("echo after >/etc/hostname; echo later >/home/later");
        let before = command(SUM);
        let told = command("taproot run @before --dry-run");
        for part in [
            "mount --bind /home/.zfs/snapshot/before /.zfs/snapshot/before/home",
            "mksquashfs /.zfs/snapshot/before /var/tmp/taproot-run.XXXXXX/root.squashfs",
            "readonly=on,file=/var/tmp/taproot-run.XXXXXX/root.squashfs",
        ] {
            assert!(told.contains(part), "no {part}: {told}");
        }
        command("taproot run @before --memory 777 --cmdline init=/usr/bin/guest-init");
        assert_eq!(command(SUM), before);
        assert_eq!(command("ls -A /var/tmp").trim(), "");
        vm.kill().unwrap();

        let given = given(&scratch, &kept);
        let read = |name: &str| fs::read_to_string(given.join(name)).unwrap();
        assert!(read("words").contains("\n-m\n777\n"), "{}", read("words"));
        let list = kit::run(Command::new("unsquashfs").arg("-l").arg(given.join("root"))).unwrap();
        assert!(list.contains("squashfs-root/home/kept") && !list.contains("home/later"), "{list}");
        let vm = Vm::new("run-guest", system, &given.join("initramfs")).kernel(&given.join("kernel"));
        let mut vm =
            vm.append(read("append").trim()).disk(Disk::read_only(&given.join("root"), "root")).start().unwrap();
        let report = vm.report(60).unwrap();
        assert_eq!(report.hostname(), "before");
        let root = report.mounts().into_iter().rev().find(|mount| mount.point == "/").unwrap();
        assert_eq!(root.kind, "overlay");
        vm.wait_exit(30).unwrap();
    });
}
