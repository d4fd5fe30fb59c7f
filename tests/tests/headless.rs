//! Machines that nobody watches: no prompt, no endless restarts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use taproot_tests::scenario::vm;
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::{Running, Scratch};
use taproot_tests::words::{EXPLANATION, PROMPT, SHELL_PROMPT};

/// How often a text was on the console.
fn times(vm: &Running, text: &str) -> usize {
    vm.console.text().matches(text).count()
}

fn never_asked(vm: &Running) {
    for question in [PROMPT, SHELL_PROMPT, "Rescue password", "which root"] {
        assert_eq!(times(vm, question), 0, "{question:?} on the console");
    }
}

scenarios_on_newest! {
    /// No firmware that could count: the attempts are made at once, then the machine is switched off. Stops and menus that
    /// the command line asks for are passed over.
    fn attempts_without_firmware_variables(system) {
        let cmdline = "root=zfs:AUTO taproot.wait=1 taproot.rescue=reboot:1 taproot.attempts=2 taproot.break=start taproot.menu";
        let mut vm = vm("headless-bios", system, cmdline).unwrap().reboots().start().unwrap();
        vm.expect("attempt 1 of 2 failed; the next one in 1 s", 60).unwrap();
        vm.expect("2 attempts failed", 60).unwrap();
        vm.expect("switching off in 1 s", 10).unwrap();
        vm.wait_exit(30).unwrap();
        never_asked(&vm);
        assert_eq!(times(&vm, EXPLANATION), 2);
        assert_eq!(times(&vm, "Linux version"), 1, "no restart");
        assert!(times(&vm, "is ignored: nobody is to be asked") >= 1);
    }

    /// With firmware variables failures are counted over restarts.
    fn attempts_are_counted_in_firmware_variables(system) {
        let cmdline = "root=zfs:AUTO taproot.wait=1 taproot.rescue=reboot:1 taproot.attempts=2";
        let mut vm = vm("headless-uefi", system, cmdline).unwrap().uefi().reboots().start().unwrap();
        vm.expect("failed boot 1 of at most 2 in a row", 90).unwrap();
        vm.expect("restarting in 1 s", 10).unwrap();
        vm.expect("2 attempts failed", 90).unwrap();
        vm.expect("switching off in 1 s", 10).unwrap();
        vm.wait_exit(30).unwrap();
        never_asked(&vm);
        assert_eq!(times(&vm, EXPLANATION), 2);
    }

    /// A boot that succeeds removes the count.
    fn success_removes_the_count(system) {
        let scratch = Scratch::new().unwrap();
        let cmdline = "root=zfs:AUTO taproot.wait=8 panic=1";
        let mut vm = vm("headless-success", system, cmdline).unwrap().uefi().reboots().start().unwrap();
        vm.expect("failed boot 1 of at most 3 in a row", 120).unwrap();
        // The second boot has the disk from the beginning.
        vm.expect("Linux version", 90).unwrap();
        vm.plug(&scratch.overlay(system, "rescue0").unwrap()).unwrap();
        assert_eq!(vm.report(60).unwrap().hostname(), "resc");
        assert_eq!(times(&vm, "the count of failed boots is removed"), 1);
        never_asked(&vm);
    }
}
