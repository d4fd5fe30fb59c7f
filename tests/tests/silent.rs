//! Disks that hardly answer: one request, or 1500 bytes, a second. Only who needs such a disk waits for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use taproot_tests::kit::System;
use taproot_tests::scenario::vm;
use taproot_tests::vm::{Disk, Scratch, Vm};
use taproot_tests::{kit, scenarios_on_newest, silent};

/// What such a disk needs for one label of 256 KiB, in seconds, with something off: whoever waited for an answer is later.
const LABEL: f64 = 150.0;
/// A request that the hand-over would have to wait for is one for a part of a label: more seconds than these.
const GAP: f64 = 20.0;

/// Boots beside disks that say nothing before they could have answered, and hands over while they are still being read.
fn does_not_wait(name: &str, system: &System, cmdline: &str, count: usize) {
    let scratch = Scratch::new().unwrap();
    let machine = vm(name, system, &format!("{cmdline} taproot.wait=600")).unwrap().cold();
    let machine = machine.disks(scratch.overlays(system, &["mirror0", "mirror1"]).unwrap());
    let mut vm = silent::disks(machine, &scratch, count).unwrap().start().unwrap();
    let report = vm.report(60).unwrap();
    vm.wait_exit(60).unwrap();
    assert_eq!(report.hostname(), "pmirror");
    assert_eq!(report.json.as_ref().unwrap()["choice"]["health"], "online");
    let text = vm.console.text();
    let told = text.lines().find_map(|line| line.split_once("handing over to ")?.1.split(' ').nth(1)?.parse().ok());
    let told: f64 = told.expect("the line of the hand-over");
    // In the time of the guest, which began when its kernel did.
    let began = report.one("USERSPACE").parse::<f64>().unwrap() / 1e6;
    assert!(told < LABEL && began - told < GAP, "handed over after {told} s, the init began after {began} s");
}

fn swap_behind_a_silent_disk(vm: Vm, scratch: &Scratch) -> Vm {
    let vm = silent::disks(vm, scratch, 1).unwrap();
    let file: PathBuf = scratch.path().join("swap.img");
    File::create(&file).unwrap().set_len(64 << 20).unwrap();
    kit::run(Command::new("mkswap").args(["-q", "-L", "zzz"]).arg(&file)).unwrap();
    let disk = Disk::read_only(&file, "swap");
    vm.disk(Disk { read_only: false, ..disk })
}

scenarios_on_newest! {
    /// No pool is named: what is there is taken, whatever may be on the disks that say nothing. As many as there ever were
    /// readers.
    fn unrelated_disks_are_not_awaited(system) {
        does_not_wait("silent-eight", system, "root=zfs:AUTO", 8);
    }

    fn nor_with_a_named_root(system) {
        does_not_wait("silent-named", system, "zfs=pmirror/ROOT/default", 1);
    }

    /// It says that it is empty, and is not read: the kernel would fill the console with each attempt.
    fn nor_a_drive_without_a_disc(system) {
        let scratch = Scratch::new().unwrap();
        let machine = vm("silent-empty", system, "root=zfs:AUTO ignore_loglevel").unwrap().cold();
        let machine = machine.disks(scratch.overlays(system, &["mirror0", "mirror1"]).unwrap());
        let machine = machine.extra(&["-device", "ahci,id=cds,addr=0x1d", "-device", "ide-cd,bus=cds.0"]);
        let mut vm = machine.start().unwrap();
        vm.expect("Attached scsi CD-ROM sr0", 60).unwrap();
        assert_eq!(vm.report(60).unwrap().hostname(), "pmirror");
        vm.wait_exit(60).unwrap();
        let text = vm.console.text();
        assert!(!text.contains("Medium not present") && !text.contains("dev sr0"), "{text}");
    }

    /// Found by its label, though a disk before it says nothing.
    fn the_device_behind_it_is_found(system) {
        let scratch = Scratch::new().unwrap();
        let machine = vm("silent-label", system, "root=ZFS=pmirror/ROOT/default resume=LABEL=zzz").unwrap().cold();
        let machine = machine.disks(scratch.overlays(system, &["mirror0", "mirror1"]).unwrap());
        let running = swap_behind_a_silent_disk(machine, &scratch).start().unwrap();
        running.expect("no hibernation image on LABEL=zzz", 40).unwrap();
        assert_eq!(running.report(60).unwrap().hostname(), "pmirror");
    }

    /// Half of a mirror says nothing: it is waited for as if it were missing, and left out after its grace.
    fn a_member_that_says_nothing_is_missing(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["mirror0", "mirror1"]).unwrap();
        let machine = vm("silent-member", system, "root=zfs:AUTO taproot.degraded=6").unwrap().cold().disk(disks[0].clone());
        let machine = machine.extra(&["-device", "ahci,id=quiet,addr=0x1e"]);
        let running = silent::attach(machine, &disks[1].path, "qcow2", 0, "mirror1").start().unwrap();
        running.expect("importing pool pmirror degraded", 60).unwrap();
        let report = running.report(60).unwrap();
        assert_eq!(report.hostname(), "pmirror");
        assert_eq!(report.json.unwrap()["choice"]["health"], "degraded");
    }

    /// It goes while the kernel reads its partition table.
    fn one_that_vanishes(system) {
        let scratch = Scratch::new().unwrap();
        let file = scratch.path().join("gone.img");
        File::create(&file).unwrap().set_len(256 << 20).unwrap();
        let drive = format!("file={},if=none,id=gone,format=raw,throttling.iops-total=1,throttling.bps-total=1500", file.display());
        let disks = scratch.overlays(system, &["mirror0", "mirror1"]).unwrap();
        let cmdline = "root=ZFS=pmirror/ROOT/default taproot.wait=600 taproot.degraded=no";
        let machine = vm("silent-gone", system, cmdline).unwrap().cold().disk(disks[0].clone());
        let machine = machine.extra(&["-device", "qemu-xhci,id=bus", "-drive", &drive]);
        let machine = machine.extra(&["-device", "usb-storage,bus=bus.0,drive=gone,id=gone-disk"]);
        let mut running = machine.start().unwrap();
        running.expect("[sda]", 60).unwrap();
        running.qmp.execute("device_del", &serde_json::json!({ "id": "gone-disk" })).unwrap();
        running.expect("waiting for pool pmirror: missing: /dev/disk/by-id/virtio-mirror1-part1", 60).unwrap();
        running.plug(&disks[1]).unwrap();
        assert_eq!(running.report(60).unwrap().hostname(), "pmirror");
    }
}
