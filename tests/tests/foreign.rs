//! Pools that are another system's, or that this system may read but not write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use taproot_tests::kit::{SYSTEMS, System};
use taproot_tests::scenario::{dataset_at, explained_failure, vm};
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::{Disk, Report, Running, Scratch, Vm};
use taproot_tests::words::PROMPT;

/// Boots into the rescue without a byte written to the disk; returns the explanation.
fn refused(name: &str, system: &System, serial: &str, cmdline: &str) -> String {
    let scratch = Scratch::new().unwrap();
    let disk = scratch.overlay(system, serial).unwrap();
    let vm = vm(name, system, cmdline).unwrap().disk(disk.clone()).start().unwrap();
    let text = explained_failure(&vm, 90).unwrap();
    vm.kill().unwrap();
    assert!(scratch.untouched(&disk).unwrap(), "{serial} was written to");
    text
}

fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

/// Types a line at the prompt; returns what is said up to `end`.
fn answer(vm: &Running, line: &str, end: &str) -> String {
    let begin = vm.console.cursor();
    vm.type_line(line).unwrap();
    vm.expect(end, 60).unwrap();
    vm.console.unmixed(begin..vm.console.cursor())
}

fn boots(name: &str, system: &System, disks: Vec<Disk>, cmdline: &str, pool: &str) -> Report {
    let mut vm = vm(name, system, cmdline).unwrap().disks(disks).start().unwrap();
    let report = vm.report(90).unwrap();
    vm.wait_exit(20).unwrap();
    assert_eq!(report.hostname(), pool);
    report
}

fn warned(report: &Report, part: &str) {
    let warnings = &report.json.as_ref().expect("boot.json")["choice"]["warnings"];
    let warnings = warnings.as_array().unwrap();
    assert!(warnings.iter().any(|w| w.as_str().unwrap().contains(part)), "{part:?} is not in {warnings:?}");
}

/// Read-only from the import on: the root is mounted read-only, and the disks are as they were to the byte.
fn read_only_boot(name: &str, system: &System, scratch: &Scratch, disks: &[Disk], cmdline: &str, pool: &str) -> Report {
    let txgs: Vec<u64> = disks.iter().map(|disk| scratch.newest_txg(disk).unwrap()).collect();
    let report = boots(name, system, disks.to_owned(), cmdline, pool);
    let root = report.mounts().into_iter().find(|m| m.point == "/").unwrap();
    assert!(root.options.iter().chain(&root.super_options).any(|o| o == "ro"), "{root:?}");
    for (disk, txg) in disks.iter().zip(txgs) {
        assert_eq!(scratch.newest_txg(disk).unwrap(), txg);
        assert!(scratch.untouched(disk).unwrap(), "{} was written to", disk.serial);
    }
    report
}

scenarios_on_newest! {
    /// Nobody named it, so it stays as it is; the explanation says whose it is and the ways out. By hand it is imported
    /// only after a warning.
    fn unnamed_pool_of_another_host_is_refused(system) {
        let scratch = Scratch::new().unwrap();
        let disk = scratch.overlay(system, "foreign0").unwrap();
        let vm = vm("foreign-auto", system, "root=zfs:AUTO taproot.wait=2").unwrap().disk(disk.clone()).start().unwrap();
        let text = explained_failure(&vm, 90).unwrap();
        says(&text, &["pforeign", "elsewhere (hostid deadbeef", "not exported", "taproot.hostid=force", "taproot.import=ro"]);
        assert!(!text.contains("no driver in the image"), "every disk controller here has one: {text}");
        says(&answer(&vm, "import pforeign", "Type yes to do it: "), &["elsewhere (hostid deadbeef", "destroys the pool"]);
        says(&answer(&vm, "y", PROMPT), &["nothing was done"]);
        vm.kill().unwrap();
        assert!(scratch.untouched(&disk).unwrap(), "foreign0 was written to");
    }

    fn unnamed_pool_of_another_host_by_force(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["foreign0"]).unwrap();
        let report = boots("foreign-force", system, disks, "root=zfs:AUTO zfs_force=1", "pforeign");
        warned(&report, "elsewhere (hostid deadbeef");
        warned(&report, "imported because zfs_force=1");
    }

    fn strict_refuses_even_a_named_pool(system) {
        let cmdline = "root=ZFS=pforeign/ROOT/default taproot.hostid=strict";
        let text = refused("foreign-strict", system, "foreign0", cmdline);
        says(&text, &["elsewhere (hostid deadbeef", "taproot.hostid=strict refuses it"]);
    }

    fn named_pool_of_another_host_boots_with_a_warning(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["foreign0"]).unwrap();
        let report = boots("foreign-named", system, disks, "zfs=pforeign/ROOT/default", "pforeign");
        warned(&report, "elsewhere (hostid deadbeef");
    }

    /// The command line can make this system the other one: then there is nothing to warn of.
    fn own_hostid_from_the_command_line(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["foreign0"]).unwrap();
        let report = boots("foreign-hostid", system, disks, "root=zfs:AUTO spl_hostid=deadbeef", "pforeign");
        let json = report.json.unwrap();
        assert_eq!(json["choice"]["warnings"].as_array().unwrap().len(), 0, "{}", json["choice"]);
    }

    /// Multihost protection needs a hostid.
    fn multihost_without_a_hostid_is_explained(system) {
        let text = refused("multihost-none", system, "multi0", "zfs=pmulti spl_hostid=00000000");
        says(&text, &["multihost is on", "no hostid", "spl_hostid="]);
    }

    /// The kernel watches for some 25 s whether another system uses the pool; a line says so and counts down.
    fn multihost_counts_down_and_boots(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["multi0"]).unwrap();
        let vm = vm("multihost", system, "zfs=pmulti taproot.wait=5").unwrap().disks(disks).start().unwrap();
        vm.expect("multihost: checking that no other system uses pool pmulti", 60).unwrap();
        let report = vm.report(120).unwrap();
        assert_eq!(dataset_at(&report, "/").as_deref(), Some("pmulti/ROOT/default"));
        warned(&report, "elsewhere (hostid deadbeef");
    }

    /// The other system runs and has the pool imported: whatever is tried, nothing is written. Once it has let go, the pool
    /// boots.
    fn multihost_pool_in_use_elsewhere(system) {
        let scratch = Scratch::new().unwrap();
        let shared = scratch.shared(system, "multi0").unwrap();
        let script = "zpool import -N pmulti && echo imported && read -r </dev/ttyS1 && zpool export pmulti && echo exported";
        let mut other = Vm::helper("multihost-other", system, script)
            .append("helper.hostid=0xdeadbeef helper.hostname=elsewhere").disk(shared.clone()).start().unwrap();
        other.wait_report("imported", 90).unwrap();

        let disk = scratch.overlay_of(&shared).unwrap();
        let cmdline = "root=zfs:AUTO taproot.hostid=force taproot.wait=2";
        let mut vm = vm("multihost-active", system, cmdline).unwrap().disk(disk.clone()).start().unwrap();
        let text = explained_failure(&vm, 120).unwrap();
        says(&text, &["pool pmulti", "in use by another system, elsewhere (hostid deadbeef) (multihost)", "export"]);
        for line in ["import pmulti", "import pmulti ro"] {
            says(&answer(&vm, line, PROMPT), &["in use by another system, elsewhere (hostid deadbeef) (multihost)"]);
        }
        assert_eq!(vm.writes(&disk).unwrap(), 0);
        assert!(other.writes(&shared).unwrap() > 0);

        other.report.send("\r").unwrap();
        assert!(other.script(60).unwrap().contains("exported"));
        other.wait_exit(20).unwrap();
        vm.type_line("retry").unwrap();
        let report = vm.report(120).unwrap();
        vm.wait_exit(20).unwrap();
        assert_eq!(report.hostname(), "pmulti");
    }

    /// Also a pool that a crash left behind: no log is replayed.
    fn read_only_import_writes_nothing(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["foreign0"]).unwrap();
        let report = read_only_boot("foreign-ro", system, &scratch, &disks, "root=zfs:AUTO taproot.import=ro", "pforeign");
        warned(&report, "taproot.import=ro writes nothing");
    }
}

mod only {
    use super::*;

    /// A pool with a feature in use that this OpenZFS can read but not write: refused by name, and booted read-only.
    #[test]
    fn zfs2_1_writable_features_of_2_4() {
        taproot_tests::scenario::run(SYSTEMS[1], writable_features);
    }

    fn writable_features(system: &System) {
        let newer = System::open(SYSTEMS[0]).unwrap();
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(&newer, &["feature0"]).unwrap();
        let vm = vm("features", system, "zfs=pfeature").unwrap().disks(disks.clone()).start().unwrap();
        let text = explained_failure(&vm, 40).unwrap();
        vm.kill().unwrap();
        says(&text, &["features this OpenZFS does not have", "block_cloning", "taproot.import=ro"]);
        assert!(scratch.untouched(&disks[0]).unwrap());
        let report =
            read_only_boot("features-ro", system, &scratch, &disks, "zfs=pfeature taproot.import=ro", "pfeature");
        warned(&report, "block_cloning");
    }

    /// A pool with features in use without which it cannot even be read: refused by name, and nothing is offered that would
    /// not help either.
    #[test]
    fn zfs2_1_features_of_2_4() {
        taproot_tests::scenario::run(SYSTEMS[1], features);
    }

    fn features(system: &System) {
        let newer = System::open(SYSTEMS[0]).unwrap();
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(&newer, &["newest0", "newest1", "newest2", "newest3"]).unwrap();
        let vm = vm("features-unreadable", system, "zfs=pnewest").unwrap().disks(disks.clone()).start().unwrap();
        let text = explained_failure(&vm, 40).unwrap();
        // Those of the pool as a whole, which its labels list; the kernel comes no further.
        says(&text, &["features this OpenZFS does not have", "raidz_expansion", "dynamic_gang_header"]);
        assert!(!text.contains("taproot.import=ro"), "{text}");
        says(
            &answer(&vm, "import pnewest ro", PROMPT),
            &["features this OpenZFS does not have", "dynamic_gang_header"],
        );
        vm.kill().unwrap();
        for disk in &disks {
            assert!(scratch.untouched(disk).unwrap(), "{} was written to", disk.serial);
        }
    }
}
