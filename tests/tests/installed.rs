//! `taproot initramfs` as it is used: in a booted system, for the machine that it runs on, and what it packed boots there.
//!
//! The pool lies over a disk of each kind, every one behind a `PCIe` root port, so a boot needs the drivers of all of them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use taproot_tests::installed::{self, IMAGES};
use taproot_tests::kit::{self, System};
use taproot_tests::scenario::dataset_at;
use taproot_tests::vm::{Bus, Disk, Report, Running, Scratch, Vm};
use taproot_tests::words::{PROMPT, SHELL_PROMPT};
use taproot_tests::{image, scenarios_on_newest};

/// What is done in the booted system before it packs: the pool is spread over all disks, and there is something of everything
/// that can be packed.
const PREPARE: &str = r#"others=
for disk in /sys/block/nvme?n? /sys/block/sd*; do others="$others ${disk##*/}"; done
zpool add -f tank $others
mkdir -p /etc/taproot /lib/firmware
echo database >/lib/firmware/regulatory.db
echo signature | xz --check=crc32 >/lib/firmware/regulatory.db.p7s.xz
cpu() { sed -n "s/^$1[[:space:]]*: //p" /proc/cpuinfo | head -n 1; }
if [ "$(cpu vendor_id)" = GenuineIntel ]; then
    own=intel-ucode/$(printf %02x-%02x-%02x "$(cpu 'cpu family')" "$(cpu model)" "$(cpu stepping)")
    other=intel-ucode/06-01-01
else
    family=$(cpu 'cpu family')
    own=amd-ucode/microcode_amd.bin other=amd-ucode/microcode_amd_fam1ah.bin
    [ "$family" -lt 21 ] || own=amd-ucode/microcode_amd_fam$(printf %02x "$family")h.bin
fi
mkdir -p /lib/firmware/intel-ucode /lib/firmware/amd-ucode
echo own >/lib/firmware/$own
echo other >/lib/firmware/$other
cat >/etc/taproot/initramfs.toml <<END
add-modules = ["cfg80211"]
cmdline = "init=/usr/sbin/guest-init"
END
"#;

/// Bytes of the microcode that [`PREPARE`] makes for this processor.
const MICROCODE: u64 = 4;

/// A disk of each kind; the first is the pool's own.
const DISKS: [(&str, Bus); 4] =
    [("tank0", Bus::Virtio), ("nvme0", Bus::Nvme), ("ahci0", Bus::Ahci), ("sas0", Bus::Sas)];

/// The drivers that they need, and those of other machines that a host image has no use for.
const DRIVERS: [(&str, &str); 4] = [("virtio_blk", "vda"), ("nvme", "nvme0"), ("ahci", "sd"), ("megaraid_sas", "sd")];
const OTHERS: [&str; 4] = ["mptsas", "virtio_scsi", "mpt3sas", "ata_piix"];

/// A machine and what was packed in it.
struct Installed<'a> {
    system: &'a System,
    scratch: Scratch,
    disks: Vec<Disk>,
}

impl<'a> Installed<'a> {
    fn new(system: &'a System) -> Self {
        let scratch = Scratch::new().unwrap();
        let disks = DISKS.map(|(serial, bus)| match serial {
            "tank0" => scratch.overlay(system, serial).unwrap(),
            _ => scratch.blank(serial, 128 << 20).unwrap().on(bus),
        });
        Self { system, disks: disks.into(), scratch }
    }

    fn machine(&self, name: &str, initrd: &Path, words: &str) -> Vm {
        Vm::new(&format!("installed-{name}"), self.system, initrd)
            .pcie()
            .cpus(2)
            .append(words)
            .disks(self.disks.clone())
    }

    /// Boots by an image made elsewhere, packs with each of these compressions, and gives the images.
    fn pack(&self, compressions: &[&str]) -> Vec<PathBuf> {
        let mut script = PREPARE.to_owned();
        for compression in compressions {
            writeln!(script, "taproot initramfs --quiet --compress {compression} --output {IMAGES}/{compression}")
                .unwrap();
        }
        let generic = image::standard(self.system).unwrap();
        let machine = self.machine("packs", &generic, "root=ZFS=tank/ROOT/be1 taproot-test.report");
        let dir = installed::pack(machine, &self.scratch, &script).unwrap();
        compressions.iter().map(|name| dir.join(name)).collect()
    }

    /// Boots by one of the images.
    fn boots(&self, image: &Path, words: &str) -> Running {
        let name = image.file_name().unwrap().to_str().unwrap();
        self.machine(name, image, &format!("root=ZFS=tank/ROOT/be1 {words}")).start().unwrap()
    }
}

/// What `taproot inspect` says of an image.
fn inspect(image: &Path) -> Value {
    let said = kit::run(Command::new(image::builder()).args(["inspect", "--json"]).arg(image)).unwrap();
    serde_json::from_str(&said).unwrap()
}

/// The image has what this machine boots with, what was asked for, and of both no more.
fn check_image(image: &Path) {
    let said = inspect(image);
    assert_eq!(said["compression"], image.file_name().unwrap().to_str().unwrap());
    let files = said["files"].as_array().unwrap();
    let file = |end: &str| files.iter().find(|file| file["path"].as_str().unwrap().ends_with(end));
    let there = |end: &str| file(end).unwrap_or_else(|| panic!("no {end} in {said:#}"));
    let why = |end: &str| there(end)["why"].as_str().unwrap().to_owned();
    for (driver, disk) in DRIVERS {
        let why = why(&format!("/{driver}.ko.zst"));
        assert!(why.contains(&format!("driver of disk {disk}")), "{driver}: {why}");
    }
    for driver in OTHERS {
        assert!(file(&format!("/{driver}.ko.zst")).is_none(), "{driver} is in the image");
    }
    assert!(why("/cfg80211.ko.zst").contains("asked for"));
    for name in ["regulatory.db", "regulatory.db.p7s"] {
        assert_eq!(why(&format!("/lib/firmware/{name}")), "firmware of cfg80211");
    }
    let microcode: Vec<&Value> = files.iter().filter(|f| f["early"] == true && f["kind"] == "file").collect();
    assert_eq!(microcode.len(), 1, "{microcode:?}");
    assert_eq!(microcode[0]["size"], MICROCODE, "of this processor alone");
    for library in ["/libc.so.6", "/ld-linux-x86-64.so.2"] {
        assert!(why(library).contains("busybox"), "{library}");
    }
}

fn check_report(report: &Report) {
    assert_eq!(report.hostname(), "be1");
    assert_eq!(dataset_at(report, "/").as_deref(), Some("tank/ROOT/be1"));
    let json = report.json.as_ref().unwrap();
    let devices: Vec<&str> =
        json["pools"][0]["devices"].as_array().unwrap().iter().map(|d| d.as_str().unwrap()).collect();
    assert_eq!(devices.len(), DISKS.len(), "{devices:?}");
    assert!(json["problems"].as_array().unwrap().is_empty(), "{}", json["problems"]);
}

/// The packed shell runs, dynamic as its program is, and the boot goes on to systemd; what was asked for was loaded.
fn check_shell_and_system(machine: &Installed<'_>, image: &Path) {
    let words = "init=/sbin/init taproot.break=mount taproot-test.report";
    let script = "grep -c '^cfg80211 ' /proc/modules; dmesg | grep cfg80211:\n";
    let name = "shell";
    let vm = machine
        .machine(name, image, &format!("root=ZFS=tank/ROOT/be1 {words}"))
        .file("opt/taproot/script", script.as_bytes())
        .start()
        .unwrap();
    vm.expect(PROMPT, 60).unwrap();
    vm.type_line("shell").unwrap();
    vm.expect(SHELL_PROMPT, 20).unwrap();
    vm.type_line("busybox | head -n 1; echo $((6 * 7))nd").unwrap();
    vm.expect("BusyBox v", 20).unwrap();
    vm.expect("\n42nd", 20).unwrap();
    vm.type_line("continue").unwrap();
    let report = vm.report(60).unwrap();
    check_report(&report);
    assert_eq!(report.one("STATE"), "active failed=0", "{:?}", report.all("FAILED"));
    let said = vm.script(20).unwrap();
    assert!(said.contains("\n1\n"), "the module was not loaded: {said}");
    assert!(said.contains("loaded regulatory.db is malformed"), "the kernel did not get the packed file: {said}");
}

/// Packs with these compressions and boots each; the first one to systemd, by way of the shell.
fn packed_where_it_runs(system: &System, compressions: &[&str]) {
    let machine = Installed::new(system);
    let images = machine.pack(compressions);
    for (number, image) in images.iter().enumerate() {
        check_image(image);
        if number == 0 {
            check_shell_and_system(&machine, image);
            continue;
        }
        let mut vm = machine.boots(image, "");
        let report = vm.report(60).unwrap();
        check_report(&report);
        assert_eq!(report.one("EXE"), "/usr/sbin/guest-init", "by the packed word");
        vm.wait_exit(20).unwrap();
    }
}

scenarios_on_newest! {
    /// Each compression on one of the systems.
    fn host_images_boot_the_machine_they_were_packed_on(system) {
        let first = system.name == kit::SYSTEMS[0];
        packed_where_it_runs(system, if first { &["zstd", "xz", "gzip"] } else { &["lz4", "none"] });
    }
}
