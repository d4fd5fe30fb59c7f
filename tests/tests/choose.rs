//! Which pool is booted: named in one of many ways, or the one with bootfs, never a guess that goes unsaid.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use taproot_tests::kit::System;
use taproot_tests::scenario::{dataset_at, explained_failure, vm};
use taproot_tests::vm::{Disk, Report, Scratch, Vm};
use taproot_tests::{image, scenarios};

/// Boots with the disks of `alpha` and `beta`, which both have a bootfs.
fn boots(name: &str, system: &System, cmdline: &str, pool: &str) -> Report {
    let scratch = Scratch::new().unwrap();
    let disks = scratch.overlays(system, &["chooseb0", "choosea0"]).unwrap();
    let other = disks.iter().find(|d| d.serial != format!("choose{}0", &pool[..1])).unwrap().clone();
    let report = finish(vm(name, system, cmdline).unwrap().disks(disks), pool);
    assert!(scratch.untouched(&other).unwrap(), "the other pool was written to");
    report
}

fn finish(vm: Vm, hostname: &str) -> Report {
    let mut vm = vm.start().unwrap();
    let report = vm.report(40).unwrap();
    vm.wait_exit(20).unwrap();
    assert_eq!(report.hostname(), hostname);
    report
}

fn choice<'a>(report: &'a Report, key: &str) -> &'a serde_json::Value {
    &report.json.as_ref().expect("boot.json")["choice"][key]
}

/// The guids in "2 pools are called twin (guids 1 on /dev/vda1, 2 on /dev/vdb1)".
fn guids(text: &str) -> Vec<String> {
    let list = text.split("(guids ").nth(1).and_then(|rest| rest.split(')').next()).unwrap_or_default();
    list.split(", ").filter_map(|one| Some(one.split(' ').next()?.to_owned())).collect()
}

scenarios! {
    /// Two pools with bootfs and nothing that tells them apart: the order is documented, and told.
    fn several_pools_with_bootfs(system) {
        let report = boots("choose-auto", system, "root=zfs:AUTO", "alpha");
        let warning = choice(&report, "warnings")[0].as_str().unwrap();
        assert!(warning.contains("alpha is booted") && warning.contains("passed over: beta"), "{warning}");
    }

    fn bootfs_of_a_named_pool(system) {
        let report = boots("choose-pool", system, "zfs=beta", "beta");
        assert_eq!(choice(&report, "dataset"), "beta/ROOT/default");
    }

    fn pool_and_dataset_as_debian_spells_them(system) {
        let report = boots("choose-rpool", system, "boot=zfs rpool=beta", "beta");
        assert_eq!(choice(&report, "dataset"), "beta/ROOT/default");
        let report = boots("choose-bootfs", system, "boot=zfs bootfs=beta/ROOT/default", "beta");
        assert_eq!(dataset_at(&report, "/").as_deref(), Some("beta/ROOT/default"));
    }

    /// Also: only the disk that is named is looked at, which here is the first one.
    fn bare_dataset_with_rootfstype(system) {
        let words = "root=beta/ROOT/default rootfstype=zfs zfs_import_dir=/dev/vda1";
        let report = boots("choose-bare", system, words, "beta");
        assert_eq!(dataset_at(&report, "/").as_deref(), Some("beta/ROOT/default"));
        let seen = report.json.unwrap()["pools"].clone();
        assert_eq!(seen.as_array().unwrap().iter().map(|pool| &pool["name"]).collect::<Vec<_>>(), ["beta"], "{seen}");
    }

    /// A pool left out of the choice; and the directory of udev's links, which nobody makes here, stands for every disk.
    fn pools_to_skip(system) {
        let report = boots("choose-skip", system, "root=zfs:AUTO taproot.skip_pools=alpha zfs_import_dir=/dev/disk/by-id", "beta");
        assert!(choice(&report, "why").as_str().unwrap().contains("the only usable pool"), "{}", choice(&report, "why"));
        assert_eq!(choice(&report, "warnings").as_array().unwrap().len(), 0);
    }

    /// `taproot explain` asks the zfs module of the system that it runs in.
    fn the_running_system_is_explained(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["choosea0", "chooseb0"]).unwrap();
        let script = "cat /dev/disk/by-id/virtio-taproot >/run/taproot && chmod 755 /run/taproot && zpool import -N alpha && \
            zpool import -N beta && /run/taproot explain --facts system --cmdline root=zfs:AUTO && \
            echo BY NAME && /run/taproot explain --facts system --cmdline zfs=beta";
        let mut vm = Vm::helper("choose-explain", system, script).disks(disks)
            .disk(Disk::read_only(&image::builder(), "taproot")).start().unwrap();
        let text = vm.script(60).unwrap();
        vm.wait_exit(20).unwrap();
        let (any, named) = text.split_once("BY NAME").unwrap();
        for part in ["the running system", "alpha/ROOT/default", "passed over: beta", "alpha/data"] {
            assert!(any.contains(part), "{part:?} is not in {any}");
        }
        assert!(named.contains("beta/data") && !named.contains("alpha/data"), "{named}");
    }

    /// Two pools of one name are never guessed between; their guids are listed, and a guid boots.
    fn pools_of_the_same_name(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["twina0", "twinb0"]).unwrap();
        let twins = vm("choose-twins", system, "root=ZFS=twin/ROOT/default").unwrap().disks(disks.clone()).start().unwrap();
        let text = explained_failure(&twins, 40).unwrap();
        assert!(text.contains("2 pools are called twin"), "{text}");
        let guids = guids(&text);
        assert_eq!(guids.len(), 2, "{text}");
        twins.kill().unwrap();
        for disk in &disks {
            assert!(scratch.untouched(disk).unwrap(), "{} was written to", disk.serial);
        }
        let booted = vm("choose-guid", system, &format!("root=ZFS={}/ROOT/default", guids[1])).unwrap().disks(disks.clone());
        let mut booted = booted.start().unwrap();
        let report = booted.report(40).unwrap();
        booted.wait_exit(20).unwrap();
        assert_eq!(dataset_at(&report, "/").as_deref(), Some("twin/ROOT/default"));
        assert_eq!(choice(&report, "guid"), guids[1].as_str());
        let untouched: Vec<bool> = disks.iter().map(|disk| scratch.untouched(disk).unwrap()).collect();
        assert!(untouched.contains(&true) && untouched.contains(&false), "{untouched:?}");
    }

    /// A destroyed pool and two copies of one disk: named in the explanation, and neither is written to.
    fn destroyed_pools_and_copied_disks_are_left_alone(system) {
        let (scratch, second) = (Scratch::new().unwrap(), Scratch::new().unwrap());
        let mut disks = scratch.overlays(system, &["gone0", "choosea0"]).unwrap();
        let copy = Disk { serial: "copy0".to_owned(), ..second.overlay(system, "choosea0").unwrap() };
        disks.push(copy);
        let vm = vm("choose-left-alone", system, "root=zfs:AUTO taproot.wait=2").unwrap().disks(disks.clone()).start().unwrap();
        let text = explained_failure(&vm, 40).unwrap();
        for part in ["pool pgone (destroyed", "zpool import -D", "carry the same label", "detach all but one"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        vm.kill().unwrap();
        for disk in &disks {
            assert!(scratch.untouched(disk).unwrap(), "{} was written to", disk.serial);
        }
    }
}
