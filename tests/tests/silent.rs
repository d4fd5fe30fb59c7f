//! Disks that hardly answer: one request, or 1500 bytes, a second. Only who needs such a disk waits for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use taproot_tests::kit::System;
use taproot_tests::scenario::vm;
use taproot_tests::silent::Beside;
use taproot_tests::vm::Scratch;
use taproot_tests::{scenarios_on_newest, silent};

/// Boots as it does without disks that say nothing, and hands over while they are still being read.
fn does_not_wait(name: &str, system: &System, beside: Beside) {
    let boot = |count| beside.boot(&format!("{name}-{count}"), system, count, "").unwrap().1;
    let without = boot(0);
    boot(beside.silent()).was_not_put_off(without).unwrap();
}

scenarios_on_newest! {
    fn unrelated_disks_are_not_awaited(system) {
        does_not_wait("silent-eight", system, Beside::Auto);
    }

    fn nor_with_a_named_root(system) {
        does_not_wait("silent-named", system, Beside::Named);
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

    fn the_device_behind_it_is_found(system) {
        does_not_wait("silent-label", system, Beside::Label);
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

    fn one_that_vanishes(system) {
        does_not_wait("silent-gone", system, Beside::Stick);
    }
}
