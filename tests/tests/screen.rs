//! A machine as people have it: a screen and a USB keyboard, whose drivers come from the image.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use taproot_tests::scenario::vm;
use taproot_tests::scenarios;
use taproot_tests::vm::keyboard::SCREEN;
use taproot_tests::vm::{Scratch, unmix};
use taproot_tests::words::PROMPT;

/// Of `kit/pools/keys.sh`.
const PASSPHRASE: &str = "taproot-hippo-lantern-52";

scenarios! {
    /// The prompt, the shell and the question for a passphrase; what is typed there is not shown.
    fn prompt_shell_and_passphrase(system) {
        let scratch = Scratch::new().unwrap();
        let cmdline = "console=tty0 root=ZFS=pcrypt/ROOT/default taproot.mounts=none taproot.break=import";
        let disk = scratch.overlay(system, "keys0").unwrap();
        let mut vm = vm("screen", system, cmdline).unwrap().disk(disk).extra(&SCREEN).start().unwrap();
        // The serial line is a console too, and shows what is said.
        vm.expect(PROMPT, 40).unwrap();
        vm.await_keyboard(20).unwrap();
        // What stood on the screen before may be gone: drivers of USB say much.
        vm.type_on_keyboard("status").unwrap();
        vm.expect("asked     root=ZFS=pcrypt/ROOT/default", 20).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.type_on_keyboard("shell").unwrap();
        vm.expect("The shell is on /dev/tty1", 20).unwrap();
        // What is on the screen, on the line that nobody else writes to.
        vm.type_on_keyboard("cat /dev/vcs1 >/dev/ttyS1").unwrap();
        vm.type_on_keyboard("echo that is all >/dev/ttyS1").unwrap();
        vm.wait_report("that is all", 20).unwrap();
        let seen = unmix::screen(vm.report.text().split("that is all").next().unwrap_or_default(), 80);
        for part in ["asked     root=ZFS=pcrypt/ROOT/default", "(taproot) # shell", "The shell is on /dev/tty1", "(shell) # cat /dev/vcs1"] {
            assert!(seen.contains(part), "{part:?} is not on the screen:\n{seen}");
        }
        vm.type_on_keyboard("exit").unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.type_on_keyboard("continue").unwrap();
        vm.expect("Passphrase for pcrypt/ROOT: ", 40).unwrap();
        vm.type_on_keyboard(PASSPHRASE).unwrap();
        vm.expect("pcrypt/ROOT is unlocked", 30).unwrap();
        let report = vm.report(60).unwrap();
        assert_eq!(report.hostname(), "pcrypt");
        let unlocked = "key of pcrypt/ROOT loaded: passphrase typed on /dev/tty1";
        assert!(vm.console.shows(unlocked), "{}", vm.console.tail(40));
        vm.wait_exit(20).unwrap();
        assert!(!vm.console.shows(PASSPHRASE));
    }
}
