//! Disks that hardly answer: one request, or 1500 bytes, a second. Only who needs such a disk waits for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::process::Command;

use taproot_tests::kit::System;
use taproot_tests::scenario::vm;
use taproot_tests::silent::HandOver;
use taproot_tests::vm::{Bus, Running, Scratch, Vm};
use taproot_tests::{kit, scenarios_on_newest, silent};

/// What all of them boot.
const ROOT: &str = "root=ZFS=pmirror/ROOT/default";

/// Follows a machine to the end of its boot: from the root on the whole mirror.
fn booted(vm: &mut Running) -> HandOver {
    let report = vm.report(60).unwrap();
    vm.wait_exit(60).unwrap();
    assert_eq!(report.hostname(), "pmirror");
    assert_eq!(report.json.as_ref().unwrap()["choice"]["health"], "online");
    HandOver::of(vm, &report).unwrap()
}

/// Boots with the mirror and so many disks that say nothing.
fn beside(name: &str, system: &System, cmdline: &str, count: usize) -> HandOver {
    let scratch = Scratch::new().unwrap();
    let machine = vm(&format!("{name}-{count}"), system, &format!("{cmdline} taproot.wait=600")).unwrap().cold();
    let machine = machine.disks(scratch.overlays(system, &["mirror0", "mirror1"]).unwrap());
    booted(&mut silent::disks(machine, &scratch, count).unwrap().start().unwrap())
}

/// Boots as it does without them, and hands over while they are still being read.
fn does_not_wait(name: &str, system: &System, cmdline: &str, count: usize) {
    let without = beside(name, system, cmdline, 0);
    beside(name, system, cmdline, count).was_not_put_off(without).unwrap();
}

/// Boots a root on NVMe disks with a swap area that is found by its label. Its disk comes when one that says nothing, if there is one, is there,
/// whose name stands between the others; counted from then on.
fn before_a_label(system: &System, silent: bool) -> HandOver {
    let scratch = Scratch::new().unwrap();
    let name = if silent { "silent-label" } else { "silent-label-0" };
    let cmdline = format!("{ROOT} resume=LABEL=zzz taproot.resume_wait=600");
    let pool = scratch.overlays(system, &["mirror0", "mirror1"]).unwrap().into_iter().map(|disk| disk.on(Bus::Nvme));
    let machine = vm(name, system, &cmdline).unwrap().cold().disks(pool);
    let mut running = silent::disks(machine, &scratch, silent.into()).unwrap().start().unwrap();
    running.expect(if silent { "[sda]" } else { "ZFS: Loaded module" }, 60).unwrap();
    let swap = scratch.blank("swap", 64 << 20).unwrap();
    kit::run(Command::new("mkswap").args(["-q", "-L", "zzz"]).arg(&swap.path)).unwrap();
    running.plug(&swap).unwrap();
    let when = booted(&mut running).since(&running, "[vda]").unwrap();
    assert!(running.console.shows("no hibernation image on LABEL=zzz"), "{}", running.console.text());
    when
}

/// Boots from a mirror whose second disk is plugged in when a stick that hardly answers, if there is one, has been pulled out while the
/// kernel read its partition table; counted from that disk on.
fn after_a_stick(system: &System, stick: bool) -> HandOver {
    let scratch = Scratch::new().unwrap();
    let name = if stick { "silent-gone" } else { "silent-gone-0" };
    let disks = scratch.overlays(system, &["mirror0", "mirror1"]).unwrap();
    let cmdline = format!("{ROOT} taproot.wait=600 taproot.degraded=no");
    let mut machine: Vm = vm(name, system, &cmdline).unwrap().cold().disk(disks[0].clone());
    machine = machine.extra(&["-device", "qemu-xhci,id=bus"]);
    if stick {
        let file = scratch.blank("gone", 256 << 20).unwrap().path;
        let throttled = "format=raw,throttling.iops-total=1,throttling.bps-total=1500";
        let drive = format!("file={},if=none,id=gone,{throttled}", file.display());
        machine = machine.extra(&["-drive", &drive, "-device", "usb-storage,bus=bus.0,drive=gone,id=gone-disk"]);
    }
    let mut running = machine.start().unwrap();
    if stick {
        running.expect("[sda] Write cache", 60).unwrap();
        running.qmp.execute("device_del", &serde_json::json!({ "id": "gone-disk" })).unwrap();
    }
    running.expect("waiting for pool pmirror: missing: /dev/disk/by-id/virtio-mirror1-part1", 60).unwrap();
    running.plug(&disks[1]).unwrap();
    let when = booted(&mut running);
    when.since(&running, "[vdb]").unwrap()
}

scenarios_on_newest! {
    /// No pool is named: what is there is taken, whatever may be on the disks that say nothing. As many as there ever were
    /// readers.
    fn unrelated_disks_are_not_awaited(system) {
        does_not_wait("silent-eight", system, "root=zfs:AUTO", 8);
    }

    fn nor_with_a_named_root(system) {
        does_not_wait("silent-named", system, ROOT, 8);
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

    /// Found by its label, though a disk in the middle of the alphabet says nothing.
    fn the_device_behind_it_is_found(system) {
        let without = before_a_label(system, false);
        before_a_label(system, true).was_not_put_off(without).unwrap();
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
        let without = after_a_stick(system, false);
        after_a_stick(system, true).was_not_put_off(without).unwrap();
    }
}
