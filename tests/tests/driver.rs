//! The driver itself: the kit's pools boot without us, disks come and go, a panic is noticed, memory and disks can be
//! searched for traces, UEFI remembers.
#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::Instant;

use taproot_tests::kit::System;
use taproot_tests::scenario::{self, retried};
use taproot_tests::vm::{Report, Scratch, Vm};

/// Premise of all other scenarios: what the pools hold starts, given any early boot that mounts it.
#[test]
fn a_kit_pool_boots_with_stock_tools() {
    retried(|| {
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
    });
}

#[test]
fn a_disk_can_be_plugged_in_and_out() {
    retried(|| {
        let system = System::current().unwrap();
        let scratch = Scratch::new().unwrap();
        let script = "late() { grep -lsx late0 /sys/block/vd*/serial; }\n\
        echo ready; for _ in $(seq 200); do late && break; sleep 0.2; done; echo \"late is $(late)\"\n\
        for _ in $(seq 200); do late || break; sleep 0.2; done; ! late && echo gone; sleep 5";
        let mut vm = Vm::helper("driver-plug", &system, script).start().unwrap();
        vm.wait_report("ready", 20).unwrap();
        assert_eq!(vm.status().unwrap(), "running");
        let mut disk = scratch.overlay(&system, "nobootfs0").unwrap();
        disk.serial = "late0".to_owned();
        vm.plug(&disk).unwrap();
        vm.wait_report("late is /sys/block/vd", 20).unwrap();
        vm.unplug(&disk).unwrap();
        assert!(vm.script(20).unwrap().contains("gone"));
        vm.wait_exit(20).unwrap();
    });
}

/// A test must not wait for its limit when PID 1 is dead.
#[test]
fn a_kernel_panic_is_noticed_at_once() {
    retried(|| {
        let system = System::current().unwrap();
        let vm = Vm::new("driver-panic", &system, &system.helper_initrd())
            .append("rdinit=/no/such/init root=")
            .start()
            .unwrap();
        let start = Instant::now();
        let error = vm.report(100).unwrap_err().to_string();
        assert!(error.contains("panicked"), "{error}");
        assert!(start.elapsed() < vm.accel.limit(100) / 2);
        drop(vm);
    });
}

/// The search for secrets finds what is there, and only that.
#[test]
fn memory_can_be_searched() {
    retried(|| {
        let system = System::current().unwrap();
        // The second word is not on the command line, and not in memory in one piece by any other way.
        let (there, absent) = ("taproot-trace-5f1c09", "taproot-trace-5f1c0a");
        let mut vm = Vm::helper("driver-memory", &system, "echo ready; sleep 600").append(there).start().unwrap();
        vm.wait_report("ready", 30).unwrap();
        assert!(vm.memory_contains(there.as_bytes()).unwrap());
        assert!(!vm.memory_contains(absent.as_bytes()).unwrap());
        assert_eq!(vm.status().unwrap(), "running", "the machine goes on");
    });
}

/// Whatever the kernel says is said on both consoles, and both can be typed on.
#[test]
fn there_can_be_a_second_console() {
    retried(|| {
        let system = System::current().unwrap();
        let script = "modprobe virtio_console; cat /proc/consoles; echo '<0>to all consoles' >/dev/kmsg\n\
        sleep 1; exec 3<>/dev/hvc0; echo 'say it: ' >&3; read -r said <&3; echo \"said $said\" >&3; echo \"said $said\"";
        let mut vm = Vm::helper("driver-consoles", &system, script).second_console().start().unwrap();
        vm.expect("to all consoles", 30).unwrap();
        vm.expect_second("to all consoles", 10).unwrap();
        vm.expect_second("say it: ", 10).unwrap();
        vm.type_line_second("friend").unwrap();
        vm.expect_second("said friend", 10).unwrap();
        let said = vm.script(10).unwrap();
        assert!(said.contains("said friend"), "{said}");
        assert!(said.contains("ttyS0") && said.contains("hvc0"), "{said}");
        vm.wait_exit(20).unwrap();
    });
}

/// Under UEFI a guest has variables, which survive its reboot.
#[test]
fn uefi_variables_survive_a_reboot() {
    retried(|| {
        let system = System::current().unwrap();
        let script = "dir=/sys/firmware/efi/efivars; modprobe efivarfs; mount -t efivarfs efivarfs $dir || exit 1\n\
        file=$dir/TaprootTest-2f1b8a52-6c5d-4e0f-9a57-0d7c3c1f9b11\n\
        [ -e $file ] && echo \"kept $(cat $file | tail -c +5)\" && exit 0\n\
        printf '\\007\\000\\000\\000value' >$file && echo written && sleep 1 && echo b >/proc/sysrq-trigger; sleep 60; exit 1";
        let mut vm = Vm::helper("driver-uefi", &system, script).uefi().reboots().start().unwrap();
        vm.wait_report("written", 40).unwrap();
        eprintln!("first boot: {:.1} s", vm.started.elapsed().as_secs_f64());
        assert!(vm.script(40).unwrap().contains("kept value"));
        eprintln!("second boot: {:.1} s", vm.started.elapsed().as_secs_f64());
        vm.wait_exit(20).unwrap();
    });
}

/// A pool that was imported for writing shows it, and one that was not does not.
#[test]
fn writing_to_a_pool_leaves_traces() {
    retried(|| {
        let system = System::current().unwrap();
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(&system, &["mirror0", "mirror1", "noinit0", "nobootfs0"]).unwrap();
        let txgs = || disks.iter().map(|d| (scratch.newest_txg(d).unwrap(), scratch.label_txg(d).unwrap())).collect();
        let before: Vec<(u64, u64)> = txgs();
        for disk in &disks {
            assert!(scratch.untouched(disk).unwrap(), "{disk:?}");
        }
        let script = "zpool import -N pmirror && zpool import -N -o readonly=on noinit && zpool export pmirror noinit";
        let mut vm = Vm::helper("driver-traces", &system, script).disks(disks.clone()).start().unwrap();
        vm.script(30).unwrap();
        vm.wait_exit(20).unwrap();
        let after: Vec<(u64, u64)> = txgs();
        eprintln!("{before:?} {after:?}");
        for (written, disk) in [true, true, false, false].into_iter().zip(0..) {
            let (before, after) = (before[disk], after[disk]);
            let name = &disks[disk].serial;
            assert_eq!(scratch.untouched(&disks[disk]).unwrap(), !written, "{name}");
            if written {
                assert!(after.0 > before.0 && after.1 > before.1, "{name}: {before:?} {after:?}");
            } else {
                assert_eq!(after, before, "{name}");
            }
        }
    });
}

/// A machine that goes on from the kept state of another is as good as one from the beginning: its disks come, it boots.
#[test]
fn a_machine_goes_on_from_a_kept_state() {
    retried(|| {
        let system = System::current().unwrap();
        let scratch = Scratch::new().unwrap();
        let machine = || scenario::vm("driver-warm", &system, "not typed here").unwrap();
        // Made here if it is not there yet.
        let other = machine().start_at_prompt().unwrap();
        other.type_line("status").unwrap();
        other.expect("asked     root=zfs:AUTO", 20).unwrap();
        other.kill().unwrap();
        let start = Instant::now();
        let disks = scratch.overlays(&system, &["mirror0", "mirror1"]).unwrap();
        let mut vm = machine().disks(disks).start_at_prompt().unwrap();
        eprintln!("at the prompt after {:.1} s", start.elapsed().as_secs_f64());
        assert!(vm.console.shows("Linux version"), "what was shown before is there");
        vm.type_line("boot pmirror/ROOT/default").unwrap();
        let report = vm.report(40).unwrap();
        assert_eq!(report.hostname(), "pmirror");
        assert_eq!(Report::dataset_at(&report.mounts(), "/").as_deref(), Some("pmirror/ROOT/default"));
        vm.wait_exit(20).unwrap();
        eprintln!("ended after {:.1} s", start.elapsed().as_secs_f64());
    });
}
