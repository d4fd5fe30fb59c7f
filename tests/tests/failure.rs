//! When it cannot boot it says why, names what was expected and found, and gives a prompt that answers; never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use taproot_tests::image;
use taproot_tests::kit::System;
use taproot_tests::scenario::{explained_failure, prompt_helps, vm};
use taproot_tests::vm::{Disk, Scratch, Vm};
use taproot_tests::{scenarios_on_newest, words};

fn fails(name: &str, system: &System, cmdline: &str, disks: Vec<Disk>) -> String {
    let vm = vm(name, system, &format!("{cmdline} taproot.wait=2")).unwrap().disks(disks).start().unwrap();
    let text = explained_failure(&vm, 40).unwrap();
    for word in [words::PROBLEM, words::EXPECTED] {
        assert!(text.contains(word), "{word} is not in the explanation:\n{text}");
    }
    text
}

fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in the explanation:\n{text}");
    }
}

scenarios_on_newest! {
    fn no_pool(system) {
        says(&fails("no-pool", system, "root=zfs:AUTO", vec![]), &["a pool with bootfs was expected", "no pool was found"]);
    }

    fn packed_shell_helps_and_runs_commands(system) {
        let vm = vm("packed-shell", system, "root=zfs:AUTO taproot.wait=1").unwrap().start().unwrap();
        explained_failure(&vm, 40).unwrap();
        let explained = || vm.console.text().matches(words::EXPLANATION).count();
        let before = explained();
        vm.type_line("shell").unwrap();
        vm.expect(words::SHELL_PROMPT, 20).unwrap();
        vm.type_line("help").unwrap();
        vm.expect(words::HELP, 10).unwrap();
        vm.type_line("echo $((6*7))").unwrap();
        vm.expect("\n42\n", 10).unwrap();
        vm.type_line("exit").unwrap();
        vm.expect(words::PROMPT, 10).unwrap();
        prompt_helps(&vm).unwrap();
        assert_eq!(explained(), before, "the prompt is still the same");
    }

    fn no_bootfs_anywhere(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["nobootfs0"]).unwrap();
        says(&fails("no-bootfs", system, "root=zfs:AUTO", disks), &["bootfs", "nobootfs"]);
    }

    fn all_labels_damaged(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["mirror0", "mirror1"]).unwrap();
        for disk in &disks {
            scratch.damage_labels(system, disk, &[0, 1, 2, 3]).unwrap();
        }
        let text = fails("damaged-labels", system, "root=ZFS=pmirror/ROOT/default", disks);
        says(&text, &["pmirror", "not found"]);
    }

    fn raidz1_without_two_disks(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["raidz1"]).unwrap();
        let text = fails("raidz1-lost", system, "root=ZFS=praidz/ROOT/default", disks);
        says(&text, &["praidz", "virtio-raidz0-part1", "virtio-raidz2-part1"]);
    }

    fn no_init_in_the_root(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["noinit0"]).unwrap();
        says(&fails("no-init", system, "root=zfs:AUTO", disks), &["noinit/ROOT/default", "/sbin/init"]);
    }

    fn the_init_that_is_asked_for_is_missing(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["stripe0", "stripe1"]).unwrap();
        let text = fails("init-missing", system, "root=ZFS=pstripe/ROOT/default init=/no/such/init", disks);
        says(&text, &["pstripe/ROOT/default has no /no/such/init", "init=/path/to/program"]);
    }

    /// Found out before the hand-over, behind which only a restart is left.
    fn a_root_of_which_nothing_may_be_executed(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["stripe0", "stripe1"]).unwrap();
        let text = fails("root-noexec", system, "root=ZFS=pstripe/ROOT/default rootflags=noexec", disks);
        says(&text, &["/sbin/init: lies on a file system that is mounted noexec", "choose another root"]);
    }

    fn no_such_dataset(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["stripe0", "stripe1"]).unwrap();
        let text = fails("no-dataset", system, "root=ZFS=pstripe/ROOT/typo", disks);
        says(&text, &["pstripe/ROOT/typo", "pstripe/ROOT/default"]);
    }

    /// An image without any shell still explains and answers; and `retry` boots once the disk is there.
    fn built_in_prompt_and_retry(system) {
        let image = image::cached(system, &["--modules", "generic", "--rescue", "none", "--compress", "none"]).unwrap();
        let scratch = Scratch::new().unwrap();
        let mut vm = Vm::new("built-in-prompt", system, &image).append("root=zfs:AUTO taproot.wait=2 ignore_loglevel").start().unwrap();
        explained_failure(&vm, 40).unwrap();
        prompt_helps(&vm).unwrap();
        for disk in scratch.overlays(system, &["mirror0", "mirror1"]).unwrap() {
            vm.plug_in(&disk).unwrap();
        }
        vm.type_line("retry").unwrap();
        assert_eq!(vm.report(40).unwrap().hostname(), "pmirror");
    }

    /// `panic=` means that nobody is given a shell: the machine restarts.
    fn panic_restarts_without_a_shell(system) {
        let mut vm = vm("panic", system, "root=zfs:AUTO taproot.wait=2 panic=1").unwrap().start().unwrap();
        vm.expect(words::EXPLANATION, 40).unwrap();
        vm.wait_exit(30).unwrap();
        assert!(!vm.console.shows(words::PROMPT));
    }
}
