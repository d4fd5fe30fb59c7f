//! Every kind of pool boots, whatever the disks are attached to and in whatever order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use taproot_tests::kit::{SYSTEMS, System};
use taproot_tests::scenario::{dataset_at, vm};
use taproot_tests::vm::{Bus, Disk, Report, Scratch, Vm};
use taproot_tests::{image, scenarios};

/// Boots the pool to the test init and checks what every boot has to leave behind.
fn boots(name: &str, system: &System, pool: &str, disks: Vec<Disk>) -> Report {
    boots_with(name, system, pool, disks, &format!("root=ZFS={pool}/ROOT/default"))
}

fn boots_with(name: &str, system: &System, pool: &str, disks: Vec<Disk>, cmdline: &str) -> Report {
    let mut vm = vm(name, system, cmdline).unwrap().disks(disks).start().unwrap();
    let report = vm.report(40).unwrap();
    vm.wait_exit(20).unwrap();
    check(&report, pool);
    report
}

fn check(report: &Report, pool: &str) {
    assert_eq!(report.hostname(), pool);
    assert_eq!(report.one("PID"), "1");
    assert_eq!(report.one("EXE"), "/sbin/init");
    assert_eq!(dataset_at(report, "/"), Some(format!("{pool}/ROOT/default")));
    assert_eq!(dataset_at(report, "/data"), Some(format!("{pool}/data")));
    assert_eq!(dataset_at(report, "/legacy"), Some(format!("{pool}/legacy")));
    let mounts = report.mounts();
    for (point, kind) in [("/dev", "devtmpfs"), ("/proc", "proc"), ("/sys", "sysfs"), ("/run", "tmpfs")] {
        assert!(mounts.iter().any(|m| m.point == point && m.kind == kind), "{point} was not handed over: {mounts:#?}");
    }
    assert!(report.all("RUN").contains(&"boot.json"));
    assert!(report.all("RUN").contains(&"boot.log"));
    // The kernel's three descriptors, and what listing them takes; nothing of ours is left open.
    let open: Vec<&str> =
        report.all("FD").into_iter().filter(|f| !f.contains("/proc/1/fd") && !f.contains("ttyS1")).collect();
    assert!(open.len() <= 4, "left open: {open:?}");
    assert!(!report.all("ROOT").contains(&"init"), "leftovers of the image in the root: {:?}", report.all("ROOT"));
    let json = report.json.as_ref().expect("boot.json");
    assert_eq!(json["root"], format!("{pool}/ROOT/default"));
    // The initramfs is freed: what is left in RAM file systems is /run and little more.
    let shmem = report
        .all("MEM")
        .iter()
        .find_map(|m| m.strip_prefix("Shmem:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(shmem.unwrap() < 4096, "{:?}", report.all("MEM"));
}

scenarios! {
    /// Closed standard streams and no `/dev/null`: Rust's own start-up would abort, which is a kernel panic in PID 1.
    fn without_console_and_device_nodes(system) {
        let scratch = Scratch::new().unwrap();
        let image = image::without_device_nodes(system, &scratch).unwrap();
        let mut vm = Vm::new("no-console", system, &image).without_console().append("root=ZFS=pmirror/ROOT/default")
            .disks(scratch.overlays(system, &["mirror0", "mirror1"]).unwrap()).start().unwrap();
        let report = vm.report(40).unwrap();
        vm.wait_exit(20).unwrap();
        check(&report, "pmirror");
        // Kernel 6.1 falls back to the serial line: there only the missing nodes are tested.
        let said = vm.console.text();
        assert!(system.kernel.starts_with("6.1.") || !said.contains("taproot"), "there was a console after all:\n{said}");
    }

    fn mirror(system) {
        let scratch = Scratch::new().unwrap();
        boots("mirror", system, "pmirror", scratch.overlays(system, &["mirror0", "mirror1"]).unwrap());
    }

    /// The pool was not exported: its machine crashed, and it is this machine.
    fn raidz1_after_a_crash_with_disks_in_another_order(system) {
        let scratch = Scratch::new().unwrap();
        boots("raidz1", system, "praidz", scratch.overlays(system, &["raidz2", "raidz0", "raidz1"]).unwrap());
    }

    /// The arguments behind `--` reach the init; `bootfs` of the only pool is found without being named.
    fn stripe_in_another_order_with_arguments_for_init(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["stripe1", "stripe0"]).unwrap();
        let report = boots_with("stripe", system, "pstripe", disks, "root=zfs:AUTO init=/sbin/init quiet -- handed over");
        assert_eq!(report.all("ARG"), ["/sbin/init", "handed", "over"]);
    }

    /// One good label of four is enough.
    fn three_damaged_labels_do_not_matter(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["stripe0", "stripe1"]).unwrap();
        scratch.damage_labels(system, &disks[0], &[0, 1, 2]).unwrap();
        boots("damaged-three", system, "pstripe", disks);
    }

    /// Redundancy is there to be used: the pool boots degraded, and says so.
    fn raidz1_without_one_disk(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["raidz0", "raidz2"]).unwrap();
        let cmdline = "root=ZFS=praidz/ROOT/default taproot.degraded_wait=2";
        let report = boots_with("raidz1-degraded", system, "praidz", disks, cmdline);
        assert_eq!(report.json.unwrap()["choice"]["health"], "degraded");
    }

    /// Late is not missing: the boot goes on when the disk appears.
    fn a_disk_that_comes_late(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["mirror0", "mirror1"]).unwrap();
        let mut vm = vm("late", system, "root=zfs:AUTO taproot.wait=300").unwrap().cold().start().unwrap();
        vm.expect("OpenZFS", 30).unwrap();
        for disk in &disks {
            vm.plug(disk).unwrap();
        }
        check(&vm.report(40).unwrap(), "pmirror");
    }

    /// SCSI and NVMe at once, under paths other than those the pool knows.
    fn mirror_on_scsi_and_nvme(system) {
        let scratch = Scratch::new().unwrap();
        let [a, b] = ["mirror0", "mirror1"].map(|serial| scratch.overlay(system, serial).unwrap());
        boots("mirror-scsi-nvme", system, "pmirror", vec![a.on(Bus::Scsi), b.on(Bus::Nvme)]);
    }

    /// SATA and USB at once.
    fn stripe_on_sata_and_usb(system) {
        let scratch = Scratch::new().unwrap();
        let [a, b] = ["stripe0", "stripe1"].map(|serial| scratch.overlay(system, serial).unwrap());
        boots("stripe-sata-usb", system, "pstripe", vec![a.on(Bus::Ahci), b.on(Bus::Usb)]);
    }
}

mod only {
    use super::*;

    /// Everything that the newest OpenZFS can do to a pool, in use.
    #[test]
    fn zfs2_4_every_feature() {
        taproot_tests::scenario::run(SYSTEMS[0], |system| {
            let scratch = Scratch::new().unwrap();
            let disks = scratch.overlays(system, &["newest3", "newest1", "newest0", "newest2"]).unwrap();
            boots("every-feature", system, "pnewest", disks);
        });
    }

    /// Made by 2.1, left active, and upgraded.
    #[test]
    fn zfs2_4_upgraded_from_2_1() {
        taproot_tests::scenario::run(SYSTEMS[0], upgraded);
    }

    fn upgraded(system: &System) {
        let older = System::open(SYSTEMS[1]).unwrap();
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(&older, &["raidz0", "raidz1", "raidz2"]).unwrap();
        let script = "zpool import -N praidz && zpool upgrade praidz && \
            zpool get -H -o property,value feature@block_cloning_endian,feature@head_errlog praidz && zpool export praidz";
        let said = Vm::helper("upgrading", system, script).disks(disks.clone()).start().unwrap().script(60).unwrap();
        let words: Vec<&str> = said.split_whitespace().collect();
        for pair in [["feature@block_cloning_endian", "enabled"], ["feature@head_errlog", "active"]] {
            assert!(words.windows(2).any(|two| two == pair), "{pair:?} is not in:\n{said}");
        }
        boots("upgraded", system, "praidz", disks);
    }
}
