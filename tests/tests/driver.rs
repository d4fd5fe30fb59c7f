//! The driver itself: the kit's pools boot without us, a disk can be plugged in, a panic is noticed.

use std::time::Instant;

use taproot_tests::kit::System;
use taproot_tests::vm::{Report, Scratch, Vm};

/// Premise of all other scenarios: what the pools hold starts, given any early boot that mounts it.
#[test]
fn a_kit_pool_boots_with_stock_tools() {
    let system = System::current().unwrap();
    let scratch = Scratch::new().unwrap();
    let vm = Vm::new("driver-stock", &system, &system.helper_initrd())
        .append("quiet helper.boot=pmirror/ROOT/default -- handed over")
        .disks(scratch.overlays(&system, &["mirror0", "mirror1"]).unwrap())
        .disk(taproot_tests::vm::Disk::read_only(&system.squashfs(), "kit-system"));
    let mut vm = vm.start().unwrap();
    let report = vm.report(30).unwrap();
    assert_eq!(report.hostname(), "pmirror");
    assert_eq!(report.one("PID"), "1");
    assert_eq!(Report::dataset_at(&report.mounts(), "/").as_deref(), Some("pmirror/ROOT/default"));
    assert!(report.mounts().iter().any(|m| m.point == "/dev" && m.kind == "devtmpfs"));
    vm.wait_exit(20).unwrap();
}

#[test]
fn a_disk_can_be_plugged_in() {
    let system = System::current().unwrap();
    let scratch = Scratch::new().unwrap();
    let script = "echo ready; for _ in $(seq 200); do \
        for d in /sys/block/vd*; do [ \"$(cat $d/serial)\" = late0 ] && echo \"late is ${d##*/}\" && exit 0; done; sleep 0.2; done; exit 1";
    let mut vm = Vm::helper("driver-plug", &system, script).start().unwrap();
    vm.wait_report("ready", 20).unwrap();
    assert_eq!(vm.status().unwrap(), "running");
    let mut disk = scratch.overlay(&system, "nobootfs0").unwrap();
    disk.serial = "late0".to_owned();
    vm.plug(&disk).unwrap();
    assert!(vm.script(20).unwrap().contains("late is vd"));
    vm.wait_exit(20).unwrap();
}

/// A test must not wait for its limit when PID 1 is dead.
#[test]
fn a_kernel_panic_is_noticed_at_once() {
    let system = System::current().unwrap();
    let vm =
        Vm::new("driver-panic", &system, &system.helper_initrd()).append("rdinit=/no/such/init root=").start().unwrap();
    let start = Instant::now();
    let error = vm.report(100).unwrap_err().to_string();
    assert!(error.contains("panicked"), "{error}");
    assert!(start.elapsed() < vm.accel.limit(100) / 2);
    drop(vm);
}
