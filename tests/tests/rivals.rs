//! What looks like a pool and is none, or not the one: labels that are left over, a namesake that is dead, one disk by two paths.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use taproot_tests::kit::{self, System};
use taproot_tests::scenario::{explained_failure, vm};
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::{Bus, Disk, Report, Scratch, Vm};

const MIB: u64 = 1 << 20;
/// Where the pool disks of the kit have their partition.
const FIRST: u64 = MIB;

/// Start and size in bytes of a partition, as sgdisk tells them.
fn partition(image: &Path, number: u32) -> (u64, u64) {
    let text = kit::run(Command::new("sgdisk").arg(format!("--info={number}")).arg(image)).unwrap();
    let sector = |key: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
    };
    let (first, last) = (sector("First sector"), sector("Last sector"));
    (first * 512, (last - first + 1) * 512)
}

fn copy(from: &Path, at: u64, to: &Path, place: u64, bytes: u64) {
    let (from, to) = (File::open(from).unwrap(), File::options().write(true).open(to).unwrap());
    let mut piece = vec![0; usize::try_from(MIB).unwrap()];
    let mut done = 0;
    while done < bytes {
        let len = usize::try_from((bytes - done).min(MIB)).unwrap();
        from.read_exact_at(&mut piece[..len], at + done).unwrap();
        to.write_all_at(&piece[..len], place + done).unwrap();
        done += len as u64;
    }
}

/// A disk that was the pool `beta` as a whole, and then got a partition table: 64 MiB, and the pool `alpha` in the second
/// partition. Nothing has overwritten what lies between the table and the first partition.
fn with_a_leftover(scratch: &Scratch, system: &System) -> Disk {
    let disk = scratch.blank("left0", 512 * MIB).unwrap();
    let old = system.pool_disk("chooseb0");
    let (start, size) = partition(&old, 1);
    copy(&old, start, &disk.path, 0, size);
    let new = system.pool_disk("choosea0");
    let (start, size) = partition(&new, 1);
    kit::run(Command::new("sgdisk").arg("--zap-all").arg(&disk.path)).unwrap();
    let second = format!("--new=2:{}:{}", 65 * 2048, 65 * 2048 + size / 512 - 1);
    kit::run(Command::new("sgdisk").args(["--new=1:2048:133119", &second]).arg(&disk.path)).unwrap();
    assert_eq!(partition(&disk.path, 1).0, FIRST);
    let (place, len) = partition(&disk.path, 2);
    assert_eq!(len, size, "labels lie at the end of a device");
    copy(&new, start, &disk.path, place, size);
    disk
}

fn boots(vm: Vm, hostname: &str) -> Report {
    let mut vm = vm.start().unwrap();
    let report = vm.report(90).unwrap();
    vm.wait_exit(20).unwrap();
    assert_eq!(report.hostname(), hostname);
    report
}

fn warned(report: &Report, part: &str) {
    let warnings = &report.json.as_ref().expect("boot.json")["choice"]["warnings"];
    assert!(warnings.as_array().unwrap().iter().any(|w| w.as_str().unwrap().contains(part)), "{part:?}: {warnings:?}");
}

/// Everything before the second partition: the table, and what the leftover label lies in.
fn beginning(disk: &Disk) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(65 * MIB).unwrap()];
    File::open(&disk.path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Makes a pool unreadable without touching its labels' configurations: the uberblocks are gone.
fn without_uberblocks(scratch: &Scratch, system: &System, serial: &str) -> Disk {
    let disk = scratch.shared(system, serial).unwrap();
    let (start, size) = partition(&disk.path, 1);
    let image = File::options().write(true).open(&disk.path).unwrap();
    for label in taproot_init::zfs::label::label_offsets(size).unwrap() {
        image.write_all_at(&vec![0; 128 << 10], start + label + (128 << 10)).unwrap();
    }
    disk
}

/// The same image by two paths, with these world-wide names.
fn two_paths(vm: Vm, image: &Path, names: [&str; 2]) -> Vm {
    let node = serde_json::json!({
        "driver": "raw", "node-name": "lun", "file": { "driver": "file", "filename": image, "locking": "off" },
    });
    let mut vm = vm.cold().extra(&["-blockdev", &node.to_string(), "-device", "virtio-scsi-pci,id=paths"]);
    for (n, name) in names.into_iter().enumerate() {
        let device = format!("scsi-hd,bus=paths.0,scsi-id={n},drive=lun,share-rw=on,serial=lun{n},wwn={name}");
        vm = vm.extra(&["-device", &device]);
    }
    vm
}

scenarios_on_newest! {
    /// Unnamed, and named: the pool in the partition boots, and the table is as it was.
    fn a_leftover_label_is_not_written_over_the_table(system) {
        for (n, cmdline) in ["root=zfs:AUTO", "zfs=alpha/ROOT/default"].into_iter().enumerate() {
            let scratch = Scratch::new().unwrap();
            let disk = with_a_leftover(&scratch, system);
            let before = beginning(&disk);
            boots(vm(&format!("leftover-{n}"), system, cmdline).unwrap().disk(disk.clone()), "alpha");
            assert!(beginning(&disk) == before, "something before the partition was written");
            kit::run(Command::new("sgdisk").arg("--verify").arg(&disk.path)).unwrap();
        }
    }

    /// The old pool itself is not taken even by its name, and the explanation says why.
    fn a_leftover_label_is_told_of(system) {
        let scratch = Scratch::new().unwrap();
        let disk = with_a_leftover(&scratch, system);
        let before = beginning(&disk);
        let vm = vm("leftover-named", system, "zfs=beta taproot.wait=2").unwrap().disk(disk.clone()).start().unwrap();
        let text = explained_failure(&vm, 90).unwrap();
        for part in ["which was not found", "a label of pool beta", "is left over and does not count"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        vm.kill().unwrap();
        assert!(beginning(&disk) == before);
    }

    /// Of two pools of one name the kernel can open one: that one boots, and the other one is named.
    fn a_dead_namesake_is_no_rival(system) {
        for (n, cmdline) in ["zfs=twin", "root=ZFS=twin/ROOT/default", "root=zfs:AUTO"].into_iter().enumerate() {
            let scratch = Scratch::new().unwrap();
            let dead = without_uberblocks(&scratch, system, "twina0");
            let living = scratch.overlay(system, "twinb0").unwrap();
            let machine = vm(&format!("namesake-{n}"), system, &format!("{cmdline} taproot.wait=5")).unwrap();
            let report = boots(machine.disks([dead, living]), "twin-b");
            warned(&report, "another pool is called twin: guid ");
            warned(&report, "on /dev/vda1; it cannot be imported");
        }
    }

    /// One disk of a SCSI target by two paths boots; two disks with the same content do not.
    fn one_disk_by_two_paths(system) {
        let (same, other) = ("0x5000c50015ea71aa", "0x5000c50015ea71ab");
        let scratch = Scratch::new().unwrap();
        let disk = scratch.shared(system, "choosea0").unwrap();
        let machine = |name: &str| vm(name, system, "root=zfs:AUTO taproot.wait=3").unwrap();
        let copies = two_paths(machine("two-copies"), &disk.path, [same, other]).start().unwrap();
        let text = explained_failure(&copies, 90).unwrap();
        assert!(text.contains("/dev/sda1 and /dev/sdb1 carry the same label"), "{text}");
        copies.kill().unwrap();
        let mut booted = two_paths(machine("two-paths"), &disk.path, [same, same]).start().unwrap();
        booted.expect("/dev/sda1 and /dev/sdb1 are one disk", 90).unwrap();
        let report = booted.report(60).unwrap();
        booted.wait_exit(20).unwrap();
        assert_eq!(report.hostname(), "alpha");
    }

    /// What is on the kit's own disks is on whatever bus: no label of theirs is in doubt.
    fn whole_labels_are_in_no_doubt(system) {
        let scratch = Scratch::new().unwrap();
        let disk = scratch.overlay(system, "choosea0").unwrap().on(Bus::Scsi);
        let report = boots(vm("no-doubt", system, "root=zfs:AUTO").unwrap().disk(disk), "alpha");
        assert_eq!(report.json.unwrap()["pools"][0]["doubt"], serde_json::Value::Null);
    }
}
