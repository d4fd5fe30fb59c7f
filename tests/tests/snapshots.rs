//! A snapshot behind the root boots by a clone of it; rollbacks happen only as far as the command line says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use taproot_tests::kit::System;
use taproot_tests::scenario::{dataset_at, explained_failure, vm};
use taproot_tests::scenarios;
use taproot_tests::vm::{Disk, Report, Scratch, Vm};

const ROOT: &str = "psnap/ROOT/default";

/// Boots, and gives the report and what the console showed.
fn boot(name: &str, system: &System, disk: &Disk, cmdline: &str) -> (Report, String) {
    let mut vm = vm(name, system, cmdline).unwrap().disk(disk.clone()).start().unwrap();
    let report = vm.report(40).unwrap();
    vm.wait_exit(20).unwrap();
    // Long lines are not broken on the console, but the kernel puts its time before each.
    (report, vm.console.text())
}

fn refused(name: &str, system: &System, disk: &Disk, cmdline: &str, parts: &[&str]) {
    let vm = vm(name, system, cmdline).unwrap().disk(disk.clone()).start().unwrap();
    let text = explained_failure(&vm, 40).unwrap();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in the explanation:\n{text}");
    }
}

/// Runs commands with the stock tools on the pool, imported without mounting anything.
fn stock(name: &str, system: &System, disk: &Disk, script: &str) -> String {
    let script = format!(
        "set -e\nzpool import -N -f -o cachefile=none -d /dev/disk/by-id psnap\n{script}\nzpool export psnap\n"
    );
    let mut vm = Vm::helper(name, system, &script).disk(disk.clone()).start().unwrap();
    let said = vm.script(60).unwrap();
    vm.wait_exit(20).unwrap();
    said
}

scenarios! {
    fn a_snapshot_boots_by_a_clone_that_is_used_again(system) {
        let scratch = Scratch::new().unwrap();
        let disk = scratch.overlay(system, "snap0").unwrap();
        let (report, console) = boot("snap-clone", system, &disk, "root=ZFS=psnap/ROOT/default@old");
        assert_eq!(report.hostname(), "at-old");
        assert_eq!(dataset_at(&report, "/").as_deref(), Some("psnap/ROOT/default_old"));
        assert_eq!(dataset_at(&report, "/var").as_deref(), Some("psnap/ROOT/default_old/var"));
        // Its fstab names the dataset of the original.
        assert_eq!(dataset_at(&report, "/opt").as_deref(), Some("psnap/ROOT/default_old/opt"));
        assert_eq!(dataset_at(&report, "/data").as_deref(), Some("psnap/data"));
        // Containers stay containers; what has no such snapshot is not there, and that is said.
        assert_eq!(dataset_at(&report, "/box"), None);
        assert_eq!(dataset_at(&report, "/box/in"), None);
        assert_eq!(dataset_at(&report, "/srv"), None);
        let problems = report.json.unwrap()["problems"].to_string();
        assert!(problems.contains("psnap/ROOT/default/srv is not part of it: it has no snapshot @old"), "{problems}");
        assert!(console.contains("psnap/ROOT/default_old, a new clone of psnap/ROOT/default@old"), "{console}");

        let said = stock("snap-clone-look", system, &disk, r"
            for fs in default_old default_old/var default_old/box default_old/opt; do
                echo $fs $(zfs get -H -o value origin,canmount,mountpoint,atime,taproot.test:tag,taproot:clone psnap/ROOT/$fs)
            done
            zfs list -H -r -o name psnap/ROOT/default_old | wc -l
            zfs list -H -t snapshot -o name -r psnap/ROOT/default | sort | paste -sd' '
            mount -t zfs -o zfsutil psnap/ROOT/default /mnt
            cat /mnt/etc/hostname
            umount /mnt
            mount -t zfs -o zfsutil psnap/ROOT/default_old /mnt
            echo changed >/mnt/etc/hostname
            umount /mnt
        ");
        for line in [
            "default_old psnap/ROOT/default@old noauto / off kept complete",
            "default_old/var psnap/ROOT/default/var@old on /var off kept complete",
            "default_old/box psnap/ROOT/default/box@old off /box off kept complete",
            "default_old/opt psnap/ROOT/default/opt@old on legacy off kept complete",
            "\n4\n",
            "\nnow\n",
        ] {
            assert!(said.replace("/mnt/", "/").contains(line), "{line:?} is not in:\n{said}");
        }
        assert!(said.contains("psnap/ROOT/default/box@old psnap/ROOT/default/opt@old psnap/ROOT/default/var@old psnap/ROOT/default@old psnap/ROOT/default@old2"), "{said}");

        let (report, console) = boot("snap-clone-again", system, &disk, "root=ZFS=psnap/ROOT/default@old");
        assert_eq!(report.hostname(), "changed");
        assert_eq!(dataset_at(&report, "/var").as_deref(), Some("psnap/ROOT/default_old/var"));
        assert_eq!(dataset_at(&report, "/opt").as_deref(), Some("psnap/ROOT/default_old/opt"));
        assert!(console.contains("exists already; what was changed in it is kept"), "{console}");
    }

    fn a_snapshot_that_is_missing_is_explained(system) {
        let scratch = Scratch::new().unwrap();
        let disk = scratch.overlay(system, "snap0").unwrap();
        refused("snap-missing", system, &disk, "root=ZFS=psnap/ROOT/default@ol", &[
            "asks for the snapshot psnap/ROOT/default@ol, which does not exist",
            "psnap/ROOT/default@old2 psnap/ROOT/default@old ",
        ]);
    }

    fn a_dataset_in_the_place_of_the_clone_is_left_alone(system) {
        let scratch = Scratch::new().unwrap();
        let disk = scratch.overlay(system, "snap0").unwrap();
        refused("snap-taken", system, &disk, "root=ZFS=psnap/ROOT/default@old taproot.clone=psnap/ROOT/taken", &[
            "a dataset of that name exists", "psnap/ROOT/taken is not a clone; it was left as it is", "taproot.clone=psnap/NAME",
        ]);
    }

    /// First refused, because a newer snapshot would be lost; then done, because it says so.
    fn rollback_destroys_newer_snapshots_only_when_told(system) {
        let scratch = Scratch::new().unwrap();
        let disk = scratch.overlay(system, "snap0").unwrap();
        refused("snap-rollback-no", system, &disk, "root=ZFS=psnap/ROOT/default@old rollback=on", &[
            "would destroy 1 newer snapshot(s)", "psnap/ROOT/default@old2", "taproot.destroy_newer=yes",
        ]);
        let words = "root=ZFS=psnap/ROOT/default@old rollback=on taproot.destroy_newer=yes bootfs.snapshot=after";
        let (report, console) = boot("snap-rollback", system, &disk, words);
        assert_eq!((report.hostname(), dataset_at(&report, "/").as_deref()), ("at-old", Some(ROOT)));
        assert!(console.contains("took the snapshot psnap/ROOT/default@after"), "{console}");
        let said = stock("snap-rollback-look", system, &disk, r"
            zfs list -H -t snapshot -o name -r psnap/ROOT/default | sort | paste -sd' '
            mount -t zfs psnap/ROOT/default/var /mnt -o zfsutil
            cat /mnt/state
        ");
        assert!(said.contains("psnap/ROOT/default/var@old psnap/ROOT/default@after psnap/ROOT/default@old\nold\n"), "{said}");
    }

    /// Only the root: rolled back to its newest snapshot, then snapshotted under the name of the kernel.
    fn bootfs_rollback_and_snapshot(system) {
        let scratch = Scratch::new().unwrap();
        let disk = scratch.overlay(system, "snap0").unwrap();
        let (report, console) = boot("snap-bootfs", system, &disk, "root=ZFS=psnap/ROOT/default bootfs.rollback=old2 bootfs.snapshot");
        assert_eq!((report.hostname(), dataset_at(&report, "/").as_deref()), ("at-old2", Some(ROOT)));
        let took = format!("took the snapshot psnap/ROOT/default@{}", system.kernel.replace('+', "_"));
        assert!(console.contains(&took), "{console}");
        let rolled = console.find("rolled back to psnap/ROOT/default@old2").expect("the rollback in the log");
        assert!(rolled < console.find(&took).unwrap(), "{console}");
    }

    /// Nothing can be cloned there, and nothing is written: the snapshots themselves are mounted.
    fn a_read_only_import_shows_the_snapshot_itself(system) {
        let scratch = Scratch::new().unwrap();
        let disk = scratch.overlay(system, "snap0").unwrap();
        let (report, _) = boot("snap-view", system, &disk, "root=ZFS=psnap/ROOT/default@old taproot.import=ro bootfs.snapshot=x");
        assert_eq!((report.hostname(), dataset_at(&report, "/").as_deref()), ("at-old", Some("psnap/ROOT/default@old")));
        assert_eq!(dataset_at(&report, "/var").as_deref(), Some("psnap/ROOT/default/var@old"));
        assert_eq!(dataset_at(&report, "/opt").as_deref(), Some("psnap/ROOT/default/opt@old"));
        for point in ["/srv", "/box/in"] {
            assert_eq!(dataset_at(&report, point), None, "{point} is of another time");
        }
        for mount in report.mounts().iter().filter(|m| m.kind == "zfs") {
            // A dataset of such a pool is read-only whatever the mount says; a snapshot says so itself.
            let says = if mount.source.contains('@') { &mount.options } else { &mount.super_options };
            assert!(says.contains(&"ro".to_owned()), "{mount:?}");
        }
        assert!(report.json.unwrap()["problems"].to_string().contains("no snapshot is taken"));
        assert!(scratch.untouched(&disk).unwrap(), "the pool was written");
    }

    /// The key is needed first; the clone stays in the encryption root of its original.
    fn an_encrypted_snapshot_boots_by_a_clone(system) {
        let scratch = Scratch::new().unwrap();
        let mut vm = vm("snap-encrypted", system, "root=ZFS=psnapenc/ROOT/default@old").unwrap()
            .disk(scratch.overlay(system, "snapenc0").unwrap()).start().unwrap();
        vm.expect("Passphrase for psnapenc/ROOT/default: ", 40).unwrap();
        vm.type_line("correct horse").unwrap();
        let report = vm.report(40).unwrap();
        vm.wait_exit(20).unwrap();
        assert_eq!((report.hostname(), dataset_at(&report, "/").as_deref()), ("at-old", Some("psnapenc/ROOT/default_old")));
    }

    fn bootfs_that_is_a_snapshot_boots_by_a_clone(system) {
        let scratch = Scratch::new().unwrap();
        let disk = scratch.overlay(system, "snapfs0").unwrap();
        let (report, _) = boot("snap-of-bootfs", system, &disk, "root=zfs:AUTO taproot.clone=psnapfs/trial");
        assert_eq!((report.hostname(), dataset_at(&report, "/").as_deref()), ("at-old", Some("psnapfs/trial")));
        assert_eq!(dataset_at(&report, "/var").as_deref(), Some("psnapfs/trial/var"));
    }
}
