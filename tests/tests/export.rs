//! A pool that was imported on the way and is not booted from is given back: the booted system does not find it imported.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use taproot_tests::scenario::vm;
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::{Running, Scratch};
use taproot_tests::words::{CONFIRM, PROMPT, TAKEN};

/// Types `retry WORDS`, and yes to what that may mean.
fn retry(vm: &Running, words: &str) {
    vm.type_line(&format!("retry {words}")).unwrap();
    while vm.expect_any(&[CONFIRM, TAKEN], 20).unwrap() == 0 {
        vm.type_line("yes").unwrap();
    }
}

scenarios_on_newest! {
    /// The first root has no init; the fallback lies in another pool.
    fn a_fallback_in_another_pool(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["rescue0", "choosea0"]).unwrap();
        let (first, second) = (disks[0].clone(), disks[1].clone());
        let cmdline = "root=ZFS=resc/ROOT/broken taproot.fallback=alpha/ROOT/default";
        let mut vm = vm("export-fallback", system, cmdline).unwrap().disks(disks).start().unwrap();
        let report = vm.report(90).unwrap();
        assert_eq!(report.hostname(), "alpha");
        assert!(vm.console.shows("exported pool resc"), "{}", vm.console.text());
        vm.wait_exit(30).unwrap();
        assert!(scratch.exported(&first).unwrap(), "resc is exported");
        assert!(!scratch.exported(&second).unwrap(), "alpha is the root's");
    }

    /// A pool that was looked at read-only at the prompt is imported writable by the boot that follows.
    fn a_read_only_look_and_then_a_boot(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["choosea0"]).unwrap();
        let disk = disks[0].clone();
        let before = scratch.label_txg(&disk).unwrap();
        let mut vm = vm("export-look", system, "zfs=alpha taproot.break=import").unwrap().disks(disks).start().unwrap();
        vm.expect(PROMPT, 60).unwrap();
        vm.type_line("import alpha ro").unwrap();
        vm.expect("imported  pool alpha", 60).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.type_line("continue").unwrap();
        let report = vm.report(90).unwrap();
        assert_eq!(report.hostname(), "alpha");
        assert!(report.all("MOUNT").iter().any(|line| line.contains(" / / rw")), "{:?}", report.all("MOUNT"));
        vm.wait_exit(30).unwrap();
        assert!(scratch.label_txg(&disk).unwrap() > before, "it was imported writable");
    }

    /// So is one that an attempt with `taproot.import=ro` was stopped with, for a look at what it would mount; until then nothing is written.
    fn a_read_only_attempt_and_then_a_boot(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["choosea0"]).unwrap();
        let disk = disks[0].clone();
        let before = scratch.label_txg(&disk).unwrap();
        let words = "zfs=alpha taproot.break=import,mount";
        let mut vm = vm("export-attempt", system, words).unwrap().disks(disks).start().unwrap();
        vm.expect("stopped before the pool is imported", 60).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        retry(&vm, "taproot.import=ro");
        vm.expect("stopped before anything is mounted", 60).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.type_line("datasets alpha").unwrap();
        vm.expect("alpha/ROOT/default", 20).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        assert_eq!(vm.writes(&disk).unwrap(), 0, "it was written to");
        retry(&vm, "taproot.import=rw");
        vm.expect("exported pool alpha: it is not the one to boot from, or not in this way", 60).unwrap();
        let report = vm.report(90).unwrap();
        assert_eq!(report.hostname(), "alpha");
        assert!(report.all("MOUNT").iter().any(|line| line.contains(" / / rw")), "{:?}", report.all("MOUNT"));
        vm.wait_exit(30).unwrap();
        assert!(scratch.label_txg(&disk).unwrap() > before, "it was imported writable");
    }

    /// The other way round: once nothing is to be written any more, nothing is.
    fn a_writable_attempt_and_then_a_look(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["choosea0"]).unwrap();
        let disk = disks[0].clone();
        let words = "zfs=alpha taproot.break=mount";
        let mut vm = vm("export-writable", system, words).unwrap().disks(disks).start().unwrap();
        vm.expect("stopped before anything is mounted", 60).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        assert_ne!(vm.writes(&disk).unwrap(), 0, "it is imported writable");
        retry(&vm, "taproot.import=ro");
        vm.expect("exported pool alpha: it is not the one to boot from, or not in this way", 60).unwrap();
        vm.expect("mounted alpha/ROOT/default on /", 60).unwrap();
        let exported = vm.writes(&disk).unwrap();
        vm.expect("handing over to", 60).unwrap();
        assert_eq!(vm.writes(&disk).unwrap(), exported, "it was written to");
        let report = vm.report(90).unwrap();
        assert_eq!(report.hostname(), "alpha");
        assert!(report.all("MOUNT").iter().any(|line| line.contains(" / / ro")), "{:?}", report.all("MOUNT"));
        vm.wait_exit(30).unwrap();
    }
}
