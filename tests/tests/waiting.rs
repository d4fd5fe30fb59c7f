//! Late is not missing: what is waited for, how long, and what is said meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use taproot_tests::scenario::{explained_failure, vm};
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::Scratch;
use taproot_tests::words::PROMPT;

scenarios_on_newest! {
    /// Half a mirror would do, but the other half is on its way: the pool is imported whole.
    fn the_other_half_of_a_mirror_comes_during_the_wait(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["mirror0", "mirror1"]).unwrap();
        let cmdline = "root=ZFS=pmirror/ROOT/default taproot.wait=600 taproot.degraded=500";
        let mut vm = vm("wait-half", system, cmdline).unwrap().disk(disks[0].clone()).start().unwrap();
        vm.expect("waiting for pool pmirror: missing: /dev/disk/by-id/virtio-mirror1-part1", 60).unwrap();
        vm.plug(&disks[1]).unwrap();
        let report = vm.report(40).unwrap();
        assert_eq!(report.json.unwrap()["choice"]["health"], "online");
    }

    /// Half a mirror is taken once its time is over, and not before.
    fn half_a_mirror_after_its_time(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["mirror1"]).unwrap();
        let cmdline = "root=zfs:AUTO taproot.wait=600 taproot.degraded=7";
        let mut vm = vm("wait-degraded", system, cmdline).unwrap().disks(disks).start().unwrap();
        vm.expect("waiting for pool pmirror: missing: /dev/disk/by-id/virtio-mirror0-part1", 60).unwrap();
        vm.expect("importing pool pmirror degraded", 40).unwrap();
        let report = vm.report(40).unwrap();
        vm.wait_exit(20).unwrap();
        assert_eq!(report.hostname(), "pmirror");
        assert_eq!(report.json.unwrap()["choice"]["health"], "degraded");
    }

    /// A pool that may never be booted degraded is waited for, and that is said again and again.
    fn a_disk_that_comes_after_a_while(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["mirror0", "mirror1"]).unwrap();
        let cmdline = "root=zfs:AUTO taproot.wait=0x taproot.wait=forever taproot.degraded=no";
        let mut vm = vm("wait-forever", system, cmdline).unwrap().disk(disks[1].clone()).start().unwrap();
        for _ in 0..2 {
            vm.expect("waiting for pool pmirror: missing: /dev/disk/by-id/virtio-mirror0-part1", 60).unwrap();
        }
        vm.plug(&disks[0]).unwrap();
        let report = vm.report(40).unwrap();
        assert_eq!(report.json.unwrap()["choice"]["health"], "online");
        assert!(vm.console.text().matches("(no limit)").count() >= 2);
    }

    /// A stripe without one of its disks cannot be booted; the rescue says which one, and retry boots once it is there.
    fn a_stripe_is_completed_in_the_rescue(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["stripe0", "stripe1"]).unwrap();
        let cmdline = "root=ZFS=pstripe/ROOT/default taproot.wait=3";
        let mut vm = vm("wait-stripe", system, cmdline).unwrap().disk(disks[1].clone()).start().unwrap();
        let text = explained_failure(&vm, 40).unwrap();
        assert!(text.contains("pool pstripe") && text.contains("virtio-stripe0-part1"), "{text}");
        assert!(scratch.untouched(&disks[1]).unwrap());
        vm.plug_in(&disks[0]).unwrap();
        vm.type_line("retry").unwrap();
        assert_eq!(vm.report(40).unwrap().hostname(), "pstripe");
    }

    /// Without its log device the pool is refused, by name and with the setting; by hand it can be had after a warning, and
    /// with the setting it boots.
    fn a_missing_log_device(system) {
        let (scratch, second) = (Scratch::new().unwrap(), Scratch::new().unwrap());
        let disks = scratch.overlays(system, &["logdata0"]).unwrap();
        let mut refused = vm("wait-log", system, "zfs=plog taproot.wait=3").unwrap().disks(disks.clone()).start().unwrap();
        let text = explained_failure(&refused, 40).unwrap();
        for part in ["/dev/disk/by-id/virtio-logdev0-part1", "log device", "taproot.missing_log=yes"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        refused.type_line("import plog").unwrap();
        refused.expect("to do without: import plog missing-log", 40).unwrap();
        assert_eq!(refused.writes(&disks[0]).unwrap(), 0);
        refused.type_line("import plog missing-log").unwrap();
        refused.expect("Without its log device pool plog loses the last synchronous writes.", 40).unwrap();
        refused.expect("Type yes to do it: ", 20).unwrap();
        refused.type_line("yes").unwrap();
        refused.expect("imported  pool plog", 40).unwrap();
        refused.expect(PROMPT, 20).unwrap();
        refused.type_line("boot plog/ROOT/default").unwrap();
        assert_eq!(refused.report(60).unwrap().hostname(), "plog");
        drop(refused);
        let disks = second.overlays(system, &["logdata0"]).unwrap();
        let cmdline = "zfs=plog taproot.wait=30 taproot.degraded=2 taproot.missing_log=yes";
        let mut booted = vm("wait-log-yes", system, cmdline).unwrap().disks(disks).start().unwrap();
        let report = booted.report(40).unwrap();
        booted.wait_exit(20).unwrap();
        assert_eq!(report.hostname(), "plog");
        let json = report.json.unwrap();
        let warnings = json["choice"]["warnings"].as_array().unwrap();
        assert!(warnings.iter().any(|w| w.as_str().unwrap().contains("without its log device")), "{warnings:?}");
    }
}
