//! Media that `taproot live` makes of the kit's tree, as a user who may nothing: booted by both firmwares, with and without a place for what
//! is written.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use taproot::image::boot::grub::Grub;
use taproot::image::disk::fat::{self, Copies, Files};
use taproot::image::disk::layout::{Layout, Role};
use taproot::image::disk::table;
use taproot::layer_integrity::keygen;
use taproot_tests::kit::{self, System};
use taproot_tests::vm::{Bus, Disk, Report, Running, Scratch, Vm};
use taproot_tests::{nobody, scenario, small};

/// USB is slow where the processor is emulated.
const WORDS: &str = "console=ttyS0 no_timer_check taproot-test.report taproot.wait=120";

/// A room of nobody's.
struct Room(nobody::Room);

impl Room {
    fn new() -> Self {
        Self(nobody::Room::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// Makes a medium of a tree, piped in; what it says as JSON.
    fn make(&self, tree: &Path, options: &[&str]) -> Value {
        let mut live = self.0.taproot();
        live.args(["live", "--tar", "-", "--json", "--set", "system.allow-empty-root=true"]).args(options);
        self.0.make(live, tree).unwrap()
    }

    fn disk(&self, name: &str, bus: Bus) -> Disk {
        Disk::writable(&self.path(name), "raw", "live0").on(bus)
    }
}

/// The partitions are what the field's own tools take them for.
fn check_disk(raw: &Path) {
    let said = kit::run(Command::new("sgdisk").arg("-v").arg(raw)).unwrap();
    assert!(said.contains("No problems found"), "{said}");
}

/// Boots it, has a script run, and waits for the end.
fn boot(vm: Vm, script: &str) -> (Report, String) {
    let script = format!("{script}\nsystemctl --no-block poweroff\n");
    let mut vm: Running = vm.memory(1536).file("opt/taproot/script", script.as_bytes()).start().unwrap();
    let report = vm.report(240).unwrap();
    let said = vm.script(100).unwrap();
    vm.wait_exit(90).unwrap();
    assert_eq!(report.one("STATE"), "active failed=0", "{:?}", report.all("FAILED"));
    (report, said)
}

fn at(report: &Report, point: &str) -> (String, String) {
    let mount = report.mounts().into_iter().rev().find(|mount| mount.point == point);
    mount.map_or_else(|| panic!("nothing is on {point}"), |mount| (mount.source, mount.kind))
}

#[test]
#[ignore = "on demand: make test-all; the one with a zvol boots by both, too"]
fn a_stick_boots_by_both_firmwares() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let room = Room::new();
        let said = room.make(&system.tree(), &["--raw", "stick.raw", "--cmdline", WORDS]);
        assert_eq!(said["kernel"], system.kernel);
        check_disk(&room.path("stick.raw"));
        let stick = room.disk("stick.raw", Bus::Usb);
        for vm in [Vm::from_disk("live-uefi", system, stick.clone()).uefi(), Vm::from_disk("live-bios", system, stick)]
        {
            let (report, said) =
                boot(vm, "cmp /run/live/medium/live/linux /boot/vmlinuz-$(uname -r) && echo the same kernel");
            assert!(said.contains("the same kernel"), "{said}");
            assert_eq!(at(&report, "/").1, "overlay");
            assert_eq!(at(&report, "/run/live/medium"), ("/dev/sda2".to_owned(), "vfat".to_owned()));
            assert_eq!(at(&report, "/run/taproot/upper").1, "tmpfs");
        }
    });
}

/// The image is larger than a FAT has room for. It holds a file that is stored as it is.
#[test]
#[ignore = "on demand: make test-all; 18 GB of disk are needed"]
fn an_image_too_large_for_a_fat_boots_from_a_stick_by_both_firmwares_and_from_an_iso() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let (room, scratch) = (Room::new(), Scratch::new().unwrap());
        let tree = small::reporting(system, &scratch, "live").unwrap();
        let script = "yes 'much of it' | head -c 4400M >\"$1\"";
        kit::run(Command::new("sh").args(["-c", script, "sh"]).arg(tree.join("root/large"))).unwrap();
        let options = ["--raw", "stick.raw", "--iso", "live.iso", "--compress", "none", "--cmdline", WORDS];
        let said = room.make(&tree, &[&options[..], &["--set", "system.hostname=live"]].concat());
        assert!(said["squashfs"].as_u64().unwrap() > fat::TOO_LARGE, "{said}");
        check_disk(&room.path("stick.raw"));
        let disk = |name: &str, machine: &str| Vm::from_disk(machine, system, room.disk(name, Bus::Virtio));
        let kind = |device: &str, fstype: &str| (device.to_owned(), fstype.to_owned());
        assert_eq!(seen(disk("stick.raw", "live-large-bios")), kind("/dev/vda3", "ext4"));
        assert_eq!(seen(disk("stick.raw", "live-large-uefi").uefi()), kind("/dev/vda3", "ext4"));
        assert_eq!(seen(disk("live.iso", "live-large-iso")), kind("/dev/vda1", "iso9660"));
    });
}

/// Two boots, each by another firmware.
fn keeps(system: &System, option: &str, below: &str) {
    let room = Room::new();
    room.make(&system.tree(), &["--raw", "stick.raw", "--cmdline", WORDS, option, "256M"]);
    check_disk(&room.path("stick.raw"));
    let stick = room.disk("stick.raw", Bus::Virtio);
    let uefi = Vm::from_disk(&format!("live{option}-uefi"), system, stick.clone()).uefi();
    let (report, _) = boot(uefi, "echo what was written >/root/kept; rm /etc/motd");
    assert_eq!(at(&report, "/").1, "overlay");
    assert!(report.mounts().iter().any(|mount| mount.kind == "ext4" && mount.source.starts_with(below)));
    let bios = Vm::from_disk(&format!("live{option}-bios"), system, stick);
    let (_, said) = boot(bios, "cat /root/kept; [ ! -e /etc/motd ] && echo it is gone");
    assert!(said.contains("what was written") && said.contains("it is gone"), "{said}");
}

#[test]
fn what_is_written_is_kept_on_a_zvol() {
    scenario::run(kit::SYSTEMS[0], |system| keeps(system, "--persistence-zvol", "/dev/zd"));
}

#[test]
#[ignore = "on demand: make test-all"]
fn what_is_written_is_kept_in_a_partition() {
    scenario::run(kit::SYSTEMS[0], |system| keeps(system, "--persistence", "/dev/vda3"));
}

/// A small tree that says what it sees, and an ISO of it.
fn small_iso(system: &System, room: &Room, scratch: &Scratch, options: &[&str]) -> PathBuf {
    let tree = small::reporting(system, scratch, "live").unwrap();
    let make = |name: &str| {
        let said = room
            .make(&tree, &[&["--iso", name, "--cmdline", WORDS, "--set", "system.hostname=live"], options].concat());
        assert_eq!(said["outputs"], serde_json::json!([name]));
        fs::read(room.path(name)).unwrap()
    };
    assert!(make("live.iso") == make("again.iso"), "the same tree, and another ISO");
    check_disk(&room.path("live.iso"));
    room.path("live.iso")
}

/// Boots what powers off by itself.
fn reported(vm: Vm) -> Report {
    let mut vm = vm.start().unwrap();
    let report = vm.report(240).unwrap();
    vm.wait_exit(60).unwrap();
    assert_eq!(report.hostname(), "live");
    assert_eq!(at(&report, "/").1, "overlay");
    report
}

/// The same: what is mounted as the medium.
fn seen(vm: Vm) -> (String, String) {
    at(&reported(vm), "/run/live/medium")
}

/// A machine with this in its drive, and an empty disk.
fn with_cd(name: &str, system: &System, scratch: &Scratch, iso: &Path) -> Vm {
    let empty = scratch.blank("empty", 1 << 20).unwrap();
    Vm::from_disk(name, system, empty).extra(&["-cdrom", iso.to_str().unwrap(), "-boot", "d"])
}

#[test]
fn an_iso_boots_from_a_cd_as_a_disk_as_files_on_a_stick_and_as_a_file_by_grub() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let (room, scratch) = (Room::new(), Scratch::new().unwrap());
        let iso = small_iso(system, &room, &scratch, &[]);
        let kind = |device: &str, fstype: &str| (device.to_owned(), fstype.to_owned());
        let cd = with_cd("live-iso-cd", system, &scratch, &iso).uefi();
        assert_eq!(seen(cd), kind("/dev/sr0", "iso9660"));
        let disk = Vm::from_disk("live-iso-disk", system, room.disk("live.iso", Bus::Virtio));
        assert_eq!(seen(disk), kind("/dev/vda1", "iso9660"));
        copy_to_fat(&iso, &room.path("fat"));
        let stick = Vm::from_disk("live-iso-fat", system, room.disk("fat", Bus::Virtio)).uefi();
        assert_eq!(seen(stick), kind("/dev/vda", "vfat"));
        grub_with_isos(&iso, &room.path("grub"), &room.path("core.img"));
        let grub = Vm::from_disk("live-iso-loopback", system, room.disk("grub", Bus::Virtio));
        let report = reported(grub);
        assert_eq!(at(&report, "/run/live/findiso"), kind("/dev/vda2", "vfat"));
        let (medium, fstype) = at(&report, "/run/live/medium");
        assert!(medium.starts_with("/dev/loop") && fstype == "iso9660", "{medium}: {fstype}");
    });
}

/// A disk as somebody has it who keeps ISO files on it: GRUB for BIOS with its modules, and the menu that the page on live media prints.
fn grub_with_isos(iso: &Path, disk: &Path, core: &Path) {
    let page = fs::read_to_string(taproot_tests::checkout().join("docs/live.md")).unwrap();
    let printed: Vec<&str> = page.lines().skip_while(|line| !line.trim().starts_with("menuentry 'live' {")).collect();
    let end = printed.iter().position(|line| line.trim() == "}").unwrap();
    let menu = format!("set timeout=0\nserial\nterminal_output serial\n{}\n", printed[..=end].join("\n"));
    let mut files = Files::from([("grub/grub.cfg".to_owned(), menu.into_bytes())]);
    for entry in fs::read_dir("/usr/lib/grub/i386-pc").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "mod" || ending == "lst") {
            files.insert(format!("grub/i386-pc/{}", path.file_name().unwrap().display()), fs::read(path).unwrap());
        }
    }
    let copies = Copies::from([("isos/live.iso".to_owned(), iso.to_owned())]);
    let size = fat::room_for(&files, fat::bytes_of(&copies).unwrap());
    let layout = Layout::of(&[(Role::Bios, 1 << 20), (Role::Esp, size)], None, "isos").unwrap();
    let file = fs::File::options().read(true).write(true).create_new(true).open(disk).unwrap();
    file.set_len(layout.size).unwrap();
    fat::write_with(&file, &layout, &layout.find(Role::Esp).unwrap(), &files, &copies).unwrap();
    Grub::make(&layout, false, core).unwrap().write(&file, &layout).unwrap();
    table::write(&file, &layout).unwrap();
}

/// What somebody does who copies the files of an ISO onto a stick: a FAT32, of another name.
fn copy_to_fat(iso: &Path, fat: &Path) {
    let files = fat.with_extension("files");
    let mut extract = Command::new("xorriso");
    extract.args(["-no_rc", "-osirrox", "on", "-indev"]).arg(iso).args(["-extract", "/"]).arg(&files);
    kit::run(&mut extract).unwrap();
    fs::File::create_new(fat).unwrap().set_len(2 * fs::metadata(iso).unwrap().len()).unwrap();
    kit::run(Command::new("mkfs.vfat").args(["-F", "32", "-n", "OTHER"]).arg(fat)).unwrap();
    let script = "cd \"$1\" && mcopy -s -i \"$2\" ./* ::";
    kit::run(Command::new("sh").args(["-c", script, "sh"]).arg(&files).arg(fat)).unwrap();
}

/// A sealed image boots; one that was changed is not mounted.
#[test]
fn what_is_sealed_boots_as_it_was_from_its_parts_too_and_not_changed() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let (room, scratch) = (Room::new(), Scratch::new().unwrap());
        let tree = small::reporting(system, &scratch, "live").unwrap();
        let (secret, _) = keygen(&room.path("site"), "site").unwrap();
        chown(&secret, Some(nobody::NOBODY), Some(nobody::NOBODY)).unwrap();
        let name = ["--set", "system.hostname=live", "--cmdline", WORDS];
        let said = room.make(&tree, &[&["--iso", "signed.iso", "--layers-sign-key", "site.key"], &name[..]].concat());
        assert!(said["files"].as_array().unwrap().contains(&"live/layers.list".into()), "{said}");
        let signed = Vm::from_disk("live-signed", system, room.disk("signed.iso", Bus::Virtio));
        assert_eq!(seen(signed), ("/dev/vda1".to_owned(), "iso9660".to_owned()));

        let said = room.make(&tree, &[&["--raw", "sealed.raw", "--squash", "parts", "--verity"], &name[..]].concat());
        check_parts(&room.path("parts"), &said);
        let parts = on_a_disk(&room.path("parts"), &scratch, system);
        assert_eq!(seen(parts), ("/dev/vda".to_owned(), "ext4".to_owned()));
        assert!(said["cmdline"].as_str().unwrap().contains(" taproot.roothash=filesystem:"), "{said}");
        flip(&room.path("sealed.raw"), said["squashfs"].as_u64().unwrap());
        let sealed = Vm::from_disk("live-sealed", system, room.disk("sealed.raw", Bus::Virtio)).start().unwrap();
        let why = scenario::explained_failure(&sealed, 240).unwrap();
        assert!(why.contains("it is not what its tree and the root hash"), "{why}");
        sealed.kill().unwrap();
    });
}

/// A machine that somebody gave the parts to, as the page on live media says: files in the directory `live` of a file system, kernel,
/// initramfs and words to who starts it.
fn on_a_disk(parts: &Path, scratch: &Scratch, system: &System) -> Vm {
    let disk = scratch.blank("parts", 256 << 20).unwrap();
    let top = scratch.path().join("medium");
    fs::create_dir(&top).unwrap();
    kit::run(Command::new("cp").arg("-a").arg(parts).arg(top.join("live"))).unwrap();
    kit::run(Command::new("mkfs.ext4").args(["-q", "-d"]).arg(&top).arg(&disk.path)).unwrap();
    let called = |start: &str| parts.join(format!("{start}-{}", system.kernel));
    let words = fs::read_to_string(parts.join("cmdline")).unwrap();
    Vm::new("live-parts", system, &called("initrd.img")).kernel(&called("vmlinuz")).append(words.trim()).disk(disk)
}

/// Changes a bit in the middle of the squashfs on a disk.
fn flip(disk: &Path, size: u64) {
    let mut bytes = fs::read(disk).unwrap();
    let size_of = |at: usize| u64::from_le_bytes(bytes[at + 40..at + 48].try_into().unwrap());
    let whole = |at: &usize| bytes[*at..].starts_with(b"hsqs") && size_of(*at).next_multiple_of(4096) == size;
    let start = (0..bytes.len()).step_by(512).find(whole).unwrap();
    bytes[start + usize::try_from(size / 2).unwrap()] ^= 1;
    fs::write(disk, bytes).unwrap();
}

/// The parts have the names that they have elsewhere, and all that the command line asks for.
fn check_parts(dir: &Path, said: &Value) {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    let [kernel, id] = ["kernel", "id"].map(|key| said[key].as_str().unwrap());
    let mut expected =
        ["cmdline", "filesystem.roothash", "filesystem.squashfs", "filesystem.verity"].map(str::to_owned).to_vec();
    expected.extend([format!("{id}.id"), format!("vmlinuz-{kernel}"), format!("initrd.img-{kernel}")]);
    expected.sort();
    assert_eq!(names, expected);
    assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700, "others can read the tree's secrets");
    assert_eq!(fs::read_to_string(dir.join("cmdline")).unwrap().trim(), said["cmdline"]);
    assert_eq!(fs::metadata(dir.join("filesystem.squashfs")).unwrap().len(), said["squashfs"].as_u64().unwrap());
}
