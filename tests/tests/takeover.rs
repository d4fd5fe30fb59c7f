//! A running system is replaced by an image: rehearsed, confirmed by its number, written, booted. Without a confirmation, and when the
//! power fails before it, the old system comes back from a disk that was not written to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use taproot_tests::kit::{self, System};
use taproot_tests::scenario::{self, dataset_at, vm};
use taproot_tests::vm::{Bus, Disk, Running, Scratch};
use taproot_tests::{installed, old, scenarios_on_newest, small};

/// The image of a small system on ZFS, compressed, with its sum beside it; the raw one stays.
fn new_system(system: &System, scratch: &Scratch, options: &[&str]) -> PathBuf {
    let tree = small::reporting(system, scratch, "new").unwrap();
    let raw = small::image(&tree, &[&["--size", "256M"], options].concat(), "--raw").unwrap();
    packed(&raw)
}

/// The image of a disk that has a table, as small as there are any: for what is never written.
fn empty_system(_: &System, scratch: &Scratch) -> PathBuf {
    let raw = scratch.path().join("new.raw");
    fs::File::create(&raw).unwrap().set_len(8 << 20).unwrap();
    kit::run(Command::new("sgdisk").args(["--clear", "--new=1:2048:4095", "--typecode=1:ef00"]).arg(&raw)).unwrap();
    packed(&raw)
}

fn packed(raw: &Path) -> PathBuf {
    let packed = raw.with_extension("raw.zst");
    kit::run(Command::new("zstd").arg("-q").arg(raw).arg("-o").arg(&packed)).unwrap();
    let sum = kit::run(Command::new("sha256sum").arg(&packed)).unwrap();
    fs::write(packed.with_extension("zst.sha256"), sum).unwrap();
    packed
}

/// The disk of an old system that has the image, and what is on it.
struct Place {
    // Its files go with it.
    _scratch: Scratch,
    disk: Disk,
    before: PathBuf,
}

impl Place {
    fn new(system: &System, image: fn(&System, &Scratch) -> PathBuf) -> Self {
        let scratch = Scratch::new().unwrap();
        let image = image(system, &scratch);
        let sum = image.with_extension("zst.sha256");
        let files: [(&str, &Path); 2] = [("root/new.raw.zst", &image), ("root/new.raw.zst.sha256", &sum)];
        let disk = old::disk(system, &scratch, &files).unwrap();
        let before = scratch.path().join("before.img");
        kit::run(Command::new("cp").arg("--sparse=always").arg(&disk.path).arg(&before)).unwrap();
        Self { _scratch: scratch, disk, before }
    }

    /// Fails unless every byte of the disk is what it was.
    fn is_untouched(&self) {
        kit::run(Command::new("cmp").args([&self.before, &self.disk.path])).unwrap();
    }
}

/// Begins a takeover in the old system, behind other commands; the number that is told there. Comes back when the kernel of the system in memory is loaded.
fn begin(vm: &Running, before: &str, options: &str) -> String {
    let from = vm.report.cursor();
    vm.report.send(&format!("{before}{} --yes 2>/run/progress\n", takeover(options))).unwrap();
    vm.wait_report("loaded by ", 120).unwrap();
    vm.wait_report("\n", 10).unwrap();
    let said = vm.report.text().split_off(from);
    println!("{said}");
    number_in(&said)
}

fn takeover(options: &str) -> String {
    format!("taproot takeover /root/new.raw.zst --disk {} {options}", old::SERIAL)
}

/// The number that is told in the old system.
fn number_in(said: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix("rehearsal "));
    line.and_then(|rest| rest.split(';').next()).unwrap().trim().to_owned()
}

/// Waits until the system in memory, which shows the number, can be told to write.
fn is_ready(vm: &Running, number: &str, disk: &str) {
    vm.expect(&format!("This is the system in memory of rehearsal {number}"), 60).unwrap();
    vm.expect(&format!("Rehearsal {number} is ready: {disk} is the disk"), 120).unwrap();
    vm.expect("takeover (ready)> ", 20).unwrap();
}

#[test]
fn what_was_rehearsed_and_confirmed_is_written_and_boots() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let place = Place::new(system, |system, scratch| new_system(system, scratch, &[]));
        let mut vm = old::machine("takeover", system, &place.disk).start().unwrap();
        old::up(&vm, 60).unwrap();
        let told = old::command(&vm, &takeover("--dry-run"), 120).unwrap();
        for part in ["everything on it: /dev/vda2 on /", "UEFI", "ttyS0: the takeover is confirmed there"] {
            assert!(told.contains(part), "no {part}: {told}");
        }
        let other = takeover(&format!("--sha256 {} --yes", "0".repeat(64)));
        let (said, status) = old::tried(&vm, &other, 120).unwrap();
        assert!(status != "0" && said.contains("expected the SHA-256 0000"), "{status}: {said}");

        let number = begin(&vm, "", "");
        assert!(vm.report.text().contains("loaded by kexec_file_load\n"), "{}", vm.report.tail(5));
        assert!(!told.contains(&number));
        is_ready(&vm, &number, "vda");
        for line in ["confirm", "confirm 00000000", &number, "yes"] {
            vm.type_line(line).unwrap();
            vm.expect("takeover (ready)> ", 20).unwrap();
        }
        place.is_untouched();
        vm.type_line(&format!("confirm {number}")).unwrap();
        vm.expect("The disk is written now", 20).unwrap();
        vm.expect("Everything is written and was read back", 300).unwrap();

        let report = vm.report(120).unwrap();
        assert_eq!(report.hostname(), "new");
        assert_eq!(dataset_at(&report, "/").as_deref(), Some("zroot/ROOT/default"));
        vm.wait_exit(60).unwrap();
    });
}

#[test]
fn what_is_not_confirmed_returns_to_the_old_system() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let place = Place::new(system, empty_system);
        let vm = old::machine("takeover-returns", system, &place.disk).start().unwrap();
        old::up(&vm, 60).unwrap();
        // A file that somebody can write to is one that kexec_file_load does not take; kexec_load does.
        let copy = format!("cp /boot/vmlinuz-{} /run/kernel; exec 9>>/run/kernel; ", system.kernel);
        let number = begin(&vm, &copy, "--kernel /run/kernel --minutes 1");
        let loaded = "loaded by kexec_load (kexec_file_load: Text file busy";
        assert!(vm.report.text().contains(loaded), "{}", vm.report.tail(5));
        is_ready(&vm, &number, "vda");
        vm.expect("No confirmation came in time: back to the old system", 60).unwrap();
        old::up(&vm, 60).unwrap();
        place.is_untouched();
        vm.kill().unwrap();
    });
}

/// The power fails at this many moments, from the load of the rehearsal to its end.
fn cut_off(system: &System, cuts: u32) {
    let place = Place::new(system, empty_system);
    let machine = || old::machine("takeover-cut", system, &place.disk).start().unwrap();
    let vm = machine();
    old::up(&vm, 60).unwrap();
    let number = begin(&vm, "", "");
    let loaded = Instant::now();
    is_ready(&vm, &number, "vda");
    let whole = loaded.elapsed();
    vm.type_line("return").unwrap();
    // Each cut is followed by the start of the old system, in which the next one is prepared.
    old::up(&vm, 60).unwrap();
    vm.kill().unwrap();
    place.is_untouched();
    for cut in 0..cuts {
        let vm = machine();
        old::up(&vm, 60).unwrap();
        begin(&vm, "", "");
        std::thread::sleep(whole * cut / (cuts - 1));
        vm.kill().unwrap();
        place.is_untouched();
    }
    let vm = machine();
    old::up(&vm, 60).unwrap();
    assert_eq!(old::command(&vm, "cat /etc/hostname", 20).unwrap().trim(), "old");
    vm.kill().unwrap();
}

#[test]
fn a_power_cut_in_the_rehearsal_leaves_the_old_system() {
    scenario::run(kit::SYSTEMS[0], |system| cut_off(system, 3));
}

#[test]
#[ignore = "on demand: make test-all"]
fn ten_power_cuts_in_the_rehearsal_leave_the_old_system() {
    scenario::run(kit::SYSTEMS[0], |system| cut_off(system, 10));
}

scenarios_on_newest! {
    /// systemd ends the old system, whose root is a pool, and starts the kernel that was loaded; the disk is another one, behind another
    /// controller. What is on it in the end is the image.
    fn a_debian_is_left_and_its_other_disk_becomes_the_image(system) {
        let scratch = Scratch::new().unwrap();
        let image = new_system(system, &scratch, &["--loader", "grub"]);
        let sum = image.with_extension("zst.sha256");
        let more = [(image, "usr/share/new.raw.zst"), (sum, "usr/share/new.raw.zst.sha256")];
        let payload = installed::payload_with(&scratch, &more).unwrap();
        let tank = scratch.overlay(system, "tank0").unwrap();
        let other = scratch.blank("other0", 300 << 20).unwrap().on(Bus::Scsi);
        let vm = vm("takeover-debian", system, "root=ZFS=tank/ROOT/be1 taproot-test.report").unwrap();
        let script = "tar -xf /dev/disk/by-id/virtio-payload -C /\ntaproot takeover /usr/share/new.raw.zst --disk other0 --yes\n";
        let vm = vm.disks([tank, other.clone(), payload]).file("opt/taproot/script", script.as_bytes());
        let mut vm = vm.start().unwrap();
        vm.report(90).unwrap();
        vm.wait_report("loaded by kexec_file_load", 120).unwrap();
        let number = number_in(&vm.report.text());
        is_ready(&vm, &number, "sda");
        vm.type_line(&format!("confirm {number}")).unwrap();
        vm.expect("Everything is written and was read back", 300).unwrap();
        // A restart ends this machine.
        vm.wait_exit(60).unwrap();
        let raw = scratch.path().join("new.raw");
        let bytes = fs::metadata(&raw).unwrap().len().to_string();
        kit::run(Command::new("cmp").args(["-n", &bytes]).args([&raw, &other.path])).unwrap();
    }
}
