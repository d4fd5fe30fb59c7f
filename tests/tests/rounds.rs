//! Mounts in rounds, what hides the program to start, and who is asked for keys. The pools are `kit/pools/rounds.sh`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use taproot_tests::kit::System;
use taproot_tests::scenario::{dataset_at, explained_failure, vm};
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::{Report, Running, Scratch};
use taproot_tests::words::PROMPT;

const FIRST: &str = "taproot-hippo-lantern-52";
const SECOND: &str = "taproot-walrus-candle-77";

fn start(name: &str, system: &System, scratch: &Scratch, disk: &str, cmdline: &str) -> Running {
    vm(name, system, cmdline).unwrap().disk(scratch.overlay(system, disk).unwrap()).start().unwrap()
}

/// Mount points of the record, in order.
fn targets(report: &Report) -> Vec<String> {
    let mounts = report.json.as_ref().expect("boot.json")["mounts"].as_array().unwrap();
    mounts.iter().map(|m| m["target"].as_str().unwrap().to_owned()).collect()
}

fn problems(report: &Report) -> String {
    report.json.as_ref().expect("boot.json")["problems"].to_string()
}

scenarios_on_newest! {
    /// fstab is the one in `/etc`'s own dataset, and the key for `/home` is looked for when what holds it is mounted.
    fn etc_on_a_dataset_of_its_own_and_a_key_on_another(system) {
        let scratch = Scratch::new().unwrap();
        let mut vm = start("rounds-etc", system, &scratch, "etc0", "root=zfs:AUTO");
        let report = vm.report(60).unwrap();
        assert_eq!(report.hostname(), "petc");
        assert_eq!(targets(&report), ["/", "/etc", "/data", "/legacy", "/root", "/home"]);
        for (point, dataset) in [("/etc", "ROOT/default/etc"), ("/legacy", "legacy"), ("/root", "root"), ("/home", "home")] {
            assert_eq!(dataset_at(&report, point), Some(format!("petc/{dataset}")), "{point}");
        }
        assert_eq!(dataset_at(&report, "/hidden"), None);
        assert_eq!(problems(&report), "[]");
        vm.wait_exit(20).unwrap();
        assert!(!vm.console.text().contains(" for petc/home"), "somebody was asked");
    }

    /// A clone's container that lost `canmount=off` lies empty over `/usr`.
    fn an_empty_dataset_over_the_init_is_taken_away(system) {
        let scratch = Scratch::new().unwrap();
        let mut vm = start("rounds-hidden", system, &scratch, "hide0", "root=ZFS=phide/ROOT/clone");
        let report = vm.report(60).unwrap();
        assert_eq!(report.hostname(), "clone");
        assert_eq!(dataset_at(&report, "/usr"), None);
        assert_eq!(dataset_at(&report, "/usr/local").as_deref(), Some("phide/ROOT/clone/usr/local"));
        assert!(!report.mounts().iter().any(|m| m.point.starts_with("/run/taproot")), "{:#?}", report.mounts());
        let problems = problems(&report);
        assert!(problems.contains("phide/ROOT/clone/usr on /usr is empty and hid the program to start"), "{problems}");
        vm.wait_exit(20).unwrap();
    }

    /// With a file in it, it is not ours to take away: it is named, with the word that boots without it, which works.
    fn what_hides_the_init_and_is_not_empty_is_named(system) {
        let scratch = Scratch::new().unwrap();
        let vm = start("rounds-covered", system, &scratch, "hide0", "root=ZFS=phide/ROOT/full");
        let text = explained_failure(&vm, 60).unwrap();
        for part in ["phide/ROOT/full/usr, which is mounted on /usr, hides /sbin/init", "taproot.mounts=none"] {
            assert!(text.contains(part), "{part:?} is not in the explanation:\n{text}");
        }
        drop(vm);
        let mut vm = start("rounds-bare", system, &scratch, "hide0", "root=ZFS=phide/ROOT/full taproot.mounts=none");
        assert_eq!(vm.report(60).unwrap().hostname(), "full");
        vm.wait_exit(20).unwrap();
    }

    /// A passphrase for the root and one for `/usr`, although `panic=` is there; none for `/home`.
    fn people_are_asked_for_what_the_boot_needs(system) {
        let scratch = Scratch::new().unwrap();
        let mut vm = start("rounds-asked", system, &scratch, "ask0", "root=ZFS=pask/ROOT/default panic=60");
        vm.expect("Passphrase for pask/ROOT: ", 60).unwrap();
        vm.type_line(FIRST).unwrap();
        vm.expect("Passphrase for pask/ROOT/default/usr (Enter skips it): ", 60).unwrap();
        vm.type_line(SECOND).unwrap();
        let report = vm.report(90).unwrap();
        assert_eq!(dataset_at(&report, "/usr").as_deref(), Some("pask/ROOT/default/usr"));
        assert_eq!(dataset_at(&report, "/home"), None);
        assert_eq!(problems(&report), "[]");
        let skipped = report.json.as_ref().unwrap()["skipped"].to_string();
        assert!(skipped.contains("the key of pask/home is not loaded"), "{skipped}");
        vm.wait_exit(20).unwrap();
        assert!(!vm.console.text().contains("Passphrase for pask/home"), "it is not needed");
    }

    /// What is said to be in a file is not asked for, but a person at the prompt can type it.
    fn a_key_that_should_be_in_a_file_is_asked_for_at_the_prompt_only(system) {
        let scratch = Scratch::new().unwrap();
        let mut vm = start("rounds-file", system, &scratch, "ask0", "root=ZFS=pask/FILE/default");
        let text = explained_failure(&vm, 60).unwrap();
        assert!(text.contains("nobody is asked, because its keylocation is no prompt"), "{text}");
        assert!(text.contains("type key pask/FILE to type it here, then retry"), "{text}");
        assert!(!text.contains("Passphrase for"), "{text}");
        vm.type_line("key pask/FILE").unwrap();
        vm.expect("Passphrase for pask/FILE (Enter skips it): ", 60).unwrap();
        vm.type_line(FIRST).unwrap();
        vm.expect("the key of pask/FILE is loaded", 60).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.type_line("retry").unwrap();
        let report = vm.report(90).unwrap();
        assert_eq!(report.hostname(), "filed");
        vm.wait_exit(20).unwrap();
    }
}
