//! A pool is not written while a hibernated system might be resumed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::process::Command;

use taproot_tests::hibernation::{OFFSET, disks, note, signature};
use taproot_tests::kit;
use taproot_tests::scenario::{self, dataset_at, explained_failure, vm};
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::{Disk, Scratch};
use taproot_tests::words::PROMPT;

const WORDS: &str = "root=ZFS=presume/ROOT/default";
const UUID: &str = "resume=UUID=11111111-2222-3333-4444-555555555555";

scenarios_on_newest! {
    /// The kernel looks at the image first, finds it broken and discards it; only then is the pool imported.
    fn an_image_is_settled_before_the_import(system) {
        let scratch = Scratch::new().unwrap();
        let [pool, swap] = disks(&scratch, system, 0).unwrap();
        let mut vm = vm("resume-broken", system, &format!("{WORDS} {UUID}")).unwrap().disks([swap.clone(), pool]).start().unwrap();
        let report = vm.report(40).unwrap();
        vm.wait_exit(20).unwrap();
        assert_eq!(dataset_at(&report, "/").as_deref(), Some("presume/ROOT/default"));
        let problems = report.json.unwrap()["problems"].to_string();
        assert!(problems.contains("could not resume") && problems.contains("starts anew"), "{problems}");
        let said = vm.console.text();
        let at = |what: &str| said.find(what).unwrap_or_else(|| panic!("{what:?} is not in:\n{said}"));
        assert!(at("hibernation image (S1SUSPEND)") < at("discarded the image"));
        assert!(at("discarded the image") < at("pool presume:"));
        assert_eq!(signature(&scratch, &swap, 0).unwrap(), "SWAPSPACE2");
    }

    /// The kernel refuses to resume, so the image stays, and the pool stays as it is; `noresume` is the way out, and leaves
    /// no image that could be resumed over the changed pool.
    fn an_image_that_stays_keeps_the_pool_from_being_written(system) {
        let scratch = Scratch::new().unwrap();
        let [pool, swap] = disks(&scratch, system, OFFSET).unwrap();
        let words = format!("{WORDS} resume=LABEL=hib resume_offset={OFFSET}");
        let refused = vm("resume-stays", system, &format!("{words} nohibernate")).unwrap()
            .disks([pool.clone(), swap.clone()]).start().unwrap();
        let text = explained_failure(&refused, 40).unwrap();
        for part in ["hibernation image on LABEL=hib that was not resumed", "no pool is imported", "noresume"] {
            assert!(text.contains(part), "{part:?} is not in the explanation:\n{text}");
        }
        refused.kill().unwrap();
        assert!(scratch.untouched(&pool).unwrap(), "the pool was written");
        assert_eq!(signature(&scratch, &swap, OFFSET).unwrap(), "S1SUSPEND\0");

        let mut vm = vm("resume-noresume", system, &format!("{words} noresume")).unwrap()
            .disks([pool.clone(), swap.clone()]).start().unwrap();
        assert_eq!(vm.report(40).unwrap().hostname(), "presume");
        vm.wait_exit(20).unwrap();
        assert!(!scratch.untouched(&pool).unwrap());
        assert_eq!(signature(&scratch, &swap, OFFSET).unwrap(), "SWAPSPACE2");
    }

    /// No `resume=`, but systemd noted in the firmware where it hibernated to: the same holds, until it is known that there is
    /// no image, and then the note goes.
    fn the_firmware_says_where_an_image_is(system) {
        let scratch = Scratch::new().unwrap();
        let [variables, others] = ["variables", "others"].map(|name| scratch.path().join(name));
        note(system, &variables).unwrap();
        std::fs::copy(&variables, &others).unwrap();

        // The device is missing; then it is there with an image that this kernel does not resume; then without one.
        let [pool, swap] = disks(&scratch, system, OFFSET).unwrap();
        let mut vm = vm("resume-noted", system, &format!("{WORDS} nohibernate taproot.resume_wait=2")).unwrap()
            .uefi_with(&variables).disk(pool.clone()).start().unwrap();
        let text = explained_failure(&vm, 60).unwrap();
        for part in ["UUID=11111111-2222-3333-4444-555555555555 did not appear within 2 s", "EFI variable HibernateLocation", "the variable is removed"] {
            assert!(text.contains(part), "{part:?} is not in the explanation:\n{text}");
        }
        vm.plug_in(&swap).unwrap();
        vm.type_line("retry").unwrap();
        let text = explained_failure(&vm, 20).unwrap();
        assert!(text.contains("that was not resumed: the kernel did not take it"), "{text}");
        assert!(scratch.untouched(&pool).unwrap(), "the pool was written");
        vm.unplug(&swap).unwrap();
        assert_eq!(signature(&scratch, &swap, OFFSET).unwrap(), "S1SUSPEND\0");
        let empty = Scratch::new().unwrap();
        vm.plug_in(&empty.overlay(system, "hib0").unwrap()).unwrap();
        vm.type_line("retry").unwrap();
        let report = vm.report(40).unwrap();
        assert_eq!(report.hostname(), "presume");
        let said = vm.console.text();
        for part in ["that debian 12 with kernel 6.12-test hibernated to UUID=11111111", "no hibernation image on UUID=11111111", "HibernateLocation is removed"] {
            assert!(said.contains(part), "{part:?} is not on the console:\n{said}");
        }
        let settings = report.json.unwrap()["request"]["settings"].to_string();
        assert!(settings.contains("EFI variable HibernateLocation"), "{settings}");

        // noresume discards what the note tells of, and the note.
        let scratch = Scratch::new().unwrap();
        let [pool, swap] = disks(&scratch, system, OFFSET).unwrap();
        let mut vm = scenario::vm("resume-noted-noresume", system, &format!("{WORDS} noresume debug")).unwrap()
            .uefi_with(&others).disks([pool, swap.clone()]).start().unwrap();
        assert_eq!(vm.report(60).unwrap().hostname(), "presume");
        vm.wait_exit(20).unwrap();
        let said = vm.console.text();
        assert!(said.contains("HibernateLocation is removed"));
        eprintln!("{}", said.lines().find(|line| line.contains("asked the firmware")).unwrap_or_default());
        assert_eq!(signature(&scratch, &swap, OFFSET).unwrap(), "SWAPSPACE2");
    }

    /// The whole way: Debian on its pool hibernates, and goes on where it was; what it had in memory is there.
    fn a_hibernated_debian_goes_on(system) {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().join("hibernation.raw");
        std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
        kit::run(Command::new("mkswap").args(["-q", "-U", "11111111-2222-3333-4444-555555555555"]).arg(&path)).unwrap();
        let swap = Disk::writable(&path, "raw", "hibernation");
        let pool = scratch.overlay(system, "tank0").unwrap();
        let script = "set -e\n\
            swapon UUID=11111111-2222-3333-4444-555555555555\n\
            echo of-memory >/run/marker; echo of-disk >/home/marker\n\
            zpool sync; sync; echo 3 >/proc/sys/vm/drop_caches\n\
            echo shutdown >/sys/power/disk\n\
            echo disk >/sys/power/state\n\
            echo \"@@AWAKE $(cat /run/marker) $(cat /home/marker) $(zpool list -H -o health tank)\"\n\
            echo later >/home/marker; zpool sync; zpool scrub -w tank; zpool status -x tank\n\
            systemctl --no-block poweroff\n";
        let words = format!("root=ZFS=tank/ROOT/be1 {UUID} taproot-test.report");
        let machine = |name: &str| {
            let disks = [pool.clone(), swap.clone()];
            vm(name, system, &words).unwrap().disks(disks).file("opt/taproot/script", script.as_bytes()).start().unwrap()
        };
        let mut first = machine("hibernate");
        assert_eq!(first.report(60).unwrap().hostname(), "be1");
        first.wait_exit(120).unwrap();
        assert!(first.console.shows("no hibernation image on UUID=11111111"));
        assert!(!first.report.text().contains("@@AWAKE"), "it did not hibernate:\n{}", first.report.tail(20));

        let mut second = machine("hibernated");
        second.wait_report("@@AWAKE of-memory of-disk ONLINE", 120).unwrap();
        second.wait_report("pool 'tank' is healthy", 60).unwrap();
        second.wait_exit(60).unwrap();
        let said = second.console.text();
        assert!(said.contains("hibernation image (S1SUSPEND)") && !said.contains("pool tank:"), "{said}");
    }

    /// Not knowing is no reason to write: the boot goes on when the device is there and holds no image. An image that comes
    /// after somebody imported the pool by hand is not resumed over it.
    fn a_missing_device_is_explained_and_can_be_attached(system) {
        let scratch = Scratch::new().unwrap();
        let [pool, swap] = disks(&scratch, system, 0).unwrap();
        let mut vm = vm("resume-missing", system, &format!("{WORDS} {UUID} taproot.resume_wait=2")).unwrap()
            .disk(pool.clone()).start().unwrap();
        let text = explained_failure(&vm, 40).unwrap();
        for part in ["did not appear within 2 s", "taproot.resume_wait=SECONDS", "noresume"] {
            assert!(text.contains(part), "{part:?} is not in the explanation:\n{text}");
        }
        assert!(scratch.untouched(&pool).unwrap(), "the pool was written");
        vm.type_line("import presume").unwrap();
        vm.expect("Type yes to do it: ", 20).unwrap();
        vm.type_line("yes").unwrap();
        vm.expect("imported  pool presume", 40).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.plug_in(&swap).unwrap();
        vm.type_line("retry").unwrap();
        let text = explained_failure(&vm, 40).unwrap();
        assert!(text.contains("pool presume was imported before"), "{text}");
        vm.unplug(&swap).unwrap();
        assert_eq!(signature(&scratch, &swap, 0).unwrap(), "S1SUSPEND\0");
        let empty = Scratch::new().unwrap();
        vm.plug_in(&empty.overlay(system, "hib0").unwrap()).unwrap();
        vm.type_line("retry").unwrap();
        assert_eq!(vm.report(40).unwrap().hostname(), "presume");
        assert!(vm.console.shows("no hibernation image on UUID=11111111"));
    }
}
