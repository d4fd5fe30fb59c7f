//! Disks that `taproot image` makes of the kit's trees, as a user who may nothing: booted by both firmwares, and compared with the tree.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use taproot_tests::compare::{self, LOOK};
use taproot_tests::kit::{self, System};
use taproot_tests::vm::{Disk, Running, Vm};
use taproot_tests::{newer, nobody, scenario};

/// Nobody has set a password in the kit's trees.
const CONFIG: &str = "[system]\nallow-empty-root = true\n";

/// What is asked in the first boot: the copy is a machine of its own, and what refers to its disk says so.
const FIRST: &str = r"
set -e
journalctl -b -o cat -u taproot-first-boot -u taproot-grow --no-pager
[ ! -e /etc/taproot/first-boot ]
[ $(wc -c </etc/machine-id) = 33 ]
[ $(zpool get -H -o value guid zroot) != @GUID@ ]
[ $(findmnt -no SOURCE /) = zroot/ROOT/default ]
[ $(findmnt -no SOURCE /home) = zroot/home ]
[ $(findmnt -no FSTYPE /efi) = vfat ]
mkdir -p /run/before
mount -t zfs zroot/ROOT/default@installed /run/before
for device in $(findmnt -no SOURCE /efi) $(swapon --show=NAME --noheadings); do
    grep -q ^UUID=$(blkid -c /dev/null -s UUID -o value $device) /etc/fstab
    if grep -q ^UUID=$(blkid -c /dev/null -s UUID -o value $device) /run/before/etc/fstab; then exit 1; fi
done
[ $(swapon --show=NAME --noheadings | wc -l) = $(grep -c swap /etc/fstab) ]
";

/// The snapshot is what was written, before the boot changed anything.
const FILES: &str = r"
python3 /sys/firmware/qemu_fw_cfg/by_name/opt/taproot/look.py/raw /run/before @OWN@ >/run/found
head -c @SIZE@ /dev/disk/by-id/virtio-expected >/run/expected
cmp /run/expected /run/found || {
    diff /run/expected /run/found | head -30
    exit 1
}
echo the tree has $(wc -l </run/found) entries and all are equal
";

/// What was written is overwritten, destroyed, sent and read again.
const LIFE: &str = r"
umount /run/before
zfs clone -o canmount=noauto zroot/ROOT/default@installed zroot/ROOT/other
zfs promote zroot/ROOT/other
zfs promote zroot/ROOT/default
zfs destroy zroot/ROOT/other
cp -a /usr/bin /root/bin
rm -r /root/bin
zfs send zroot/ROOT/default@installed | zfs receive -u -o canmount=noauto zroot/received
zfs destroy -r zroot/received
zfs destroy zroot/ROOT/default@installed
";

/// The package manager installs a newer kernel, with its module for zfs. Debian's own image, which nothing here boots, would take minutes.
const NEWER: &str = r"
chmod -x /etc/kernel/postinst.d/initramfs-tools
head -c @DEB@ /dev/disk/by-id/virtio-kernel >/var/tmp/kernel.deb
dpkg -i /var/tmp/kernel.deb
";

/// The same, at first without room on the boot loader's partition: what starts the old kernel stays as it was, and dpkg fails. The pool has
/// become one that GRUB does not read.
const NEWER_AND_FULL: &str = r"
zpool upgrade zroot
zfs snapshot -r zroot@all
zfs set compression=zstd zroot
chmod -x /etc/kernel/postinst.d/initramfs-tools
head -c @DEB@ /dev/disk/by-id/virtio-kernel >/var/tmp/kernel.deb
(cd /efi && find . -type f | sort | xargs sha256sum) >/run/efi
fallocate -l $(($(df --output=avail -B1 /efi | tail -1) - 65536)) /efi/full
if dpkg -i /var/tmp/kernel.deb; then exit 1; fi
rm /efi/full
(cd /efi && find . -type f | sort | xargs sha256sum) | cmp - /run/efi
dpkg --configure -a
";

/// What is asked of the boot after that.
const IS_NEWER: &str = r"
set -e
[ $(uname -r) = @NEWER@ ]
[ $(findmnt -no SOURCE /) = zroot/ROOT/default ]
systemctl poweroff --no-block
";

/// Which disk of two the pool and the boot loader's partition are on, by serial number. The path that `zpool status` has is no answer: copies
/// have equal vdevs, and OpenZFS' daemon may note that of the other one.
const COPIES: &str = r#"
set -e
journalctl -b -o cat -u taproot-first-boot --no-pager
[ ! -e /etc/taproot/first-boot ]
serial() { cat /sys/block/$(lsblk -no PKNAME $1)/serial; echo; }
zpool status -P zroot
guid=$(zpool get -H -o value guid zroot)
for part in /dev/vd?2; do
    if zdb -l $part | grep -q "pool_guid: $guid"; then echo POOL $(serial $part); fi
done
echo EFI $(serial $(findmnt -no SOURCE /efi))
echo GUID $(zpool get -H -o value guid zroot)
echo MACHINE $(cat /etc/machine-id)
systemctl poweroff --no-block
"#;

/// What is asked of a machine with both disks of a mirror: each has what boots, and the hooks write to both.
const MIRROR: &str = r#"
set -e
journalctl -b -o cat -u taproot-first-boot -u taproot-grow --no-pager
[ ! -e /etc/taproot/first-boot ]
for at in /efi /efi2; do
    device=$(findmnt -no SOURCE $at)
    grep "^UUID=$(blkid -c /dev/null -s UUID -o value $device) $at " /etc/fstab
    echo AT $at $(cat /sys/block/$(lsblk -no PKNAME $device)/serial)
done
diff -r /efi /efi2
sed -i 's/^cmdline = "/&told-to-both /' /etc/taproot/loader.toml
taproot hooks update
diff -r /efi /efi2
zpool status -P zroot
zpool status zroot | grep 'state: ONLINE'
systemctl poweroff --no-block
"#;

/// What is asked when only one disk of it is left, beside a new one, which takes the place of the other.
const LEFT: &str = r"
set -e
grep told-to-both /proc/cmdline
zpool status -P zroot | grep 'state: DEGRADED'
zpool status zroot | grep 'No known data errors'
[ $(findmnt -no FSTYPE /efi2) = vfat ]
if findmnt /efi; then exit 1; fi
taproot grow
sed -i s/told-to-both/told-to-one/ /etc/taproot/loader.toml
taproot hooks update 2>/run/said
grep '^taproot: /efi: NOT MOUNTED, AND NOT IN STEP' /run/said
new=/dev/disk/by-id/virtio-third
mkfs.ext4 -q -L precious $new
mount $new /mnt
if taproot replace --yes $new 2>/run/said; then exit 1; fi
grep 'it is in use' /run/said
umount /mnt
if taproot replace $new </dev/null 2>/run/said; then exit 1; fi
grep 'ext4 on it precious' /run/said
taproot replace --dry-run $new
taproot replace --yes $new
zpool wait -t replace zroot
zpool scrub -w zroot
zpool status -P zroot
zpool status zroot | grep 'state: ONLINE'
zpool status zroot | grep 'with 0 errors'
if taproot replace --yes $new 2>/run/said; then exit 1; fi
grep 'expected a mirror that lacks a disk' /run/said
[ $(cat /sys/block/$(lsblk -no PKNAME $(findmnt -no SOURCE /efi))/serial) = third ]
diff -r /efi /efi2
[ $(swapon --show=NAME --noheadings | wc -l) = $(grep -c swap /etc/fstab) ]
taproot hooks update 2>/run/said
grep '^taproot: /efi: it was behind, and is up to date now' /run/said
[ ! -e /var/lib/taproot/esp-behind.json ]
systemctl poweroff --no-block
";

/// What is asked when only the new disk is left.
const NEW: &str = r"
set -e
grep told-to-one /proc/cmdline
zpool status -P zroot | grep 'state: DEGRADED'
zpool status zroot | grep 'No known data errors'
[ $(findmnt -no FSTYPE /efi) = vfat ]
if findmnt /efi2; then exit 1; fi
[ $(zpool list -Hpo size zroot) -lt 4000000000 ]
systemctl poweroff --no-block
";

const END: &str = r"
zpool scrub -w zroot
zpool status zroot
zpool status zroot | grep 'with 0 errors'
zpool status zroot | grep 'No known data errors'
echo GUID $(zpool get -H -o value guid zroot)
echo MACHINE $(cat /etc/machine-id)
systemctl poweroff --no-block
";

/// What is asked when the disk has grown since, and while it grows once more: nothing is renewed again, and the pool uses all of it.
const GROWN: &str = r"
set -e
journalctl -b -o cat -u taproot-first-boot -u taproot-grow --no-pager
[ $(uname -r) = @NEWER@ ]
[ $(zpool get -H -o value guid zroot) = @GUID@ ]
[ $(cat /etc/machine-id) = @MACHINE@ ]
[ $(findmnt -no FSTYPE /efi) = vfat ]
[ $(zpool list -Hpo size zroot) -gt 7500000000 ]
disk=/sys/block/$(lsblk -no PKNAME $(findmnt -no SOURCE /efi))
before=$(cat $disk/size)
echo the disk may grow now
until [ $(cat $disk/size) -gt $before ]; do sleep 1; done
taproot grow
[ $(zpool list -Hpo size zroot) -gt 15500000000 ]
zpool scrub -w zroot
zpool status zroot
zpool status zroot | grep 'No known data errors'
systemctl poweroff --no-block
";

/// A room of nobody's, with a configuration.
struct Room(nobody::Room);

impl Room {
    fn new() -> Self {
        let room = nobody::Room::new().unwrap();
        fs::write(room.path("box.toml"), CONFIG).unwrap();
        Self(room)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// Makes an image of the tree, piped in, with words of the console; what it says as JSON.
    fn make(&self, tree: &Path, console: &str, options: &[&str]) -> Value {
        self.make_by(self.0.taproot(), tree, console, options)
    }

    /// The same by root on a host of another name, zone, language and umask.
    fn make_elsewhere(&self, tree: &Path, console: &str, options: &[&str]) -> Value {
        let mut image = Command::new("unshare");
        image
            .args(["--uts", "sh", "-c", "hostname elsewhere && umask 077 && exec \"$@\"", "sh"])
            .arg(self.path("taproot"));
        image.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root").env("USER", "root");
        image.env("TZ", "Asia/Kathmandu").env("LC_ALL", "tr_TR.UTF-8").current_dir(self.path(""));
        self.make_by(image, tree, console, options)
    }

    fn make_by(&self, mut image: Command, tree: &Path, console: &str, options: &[&str]) -> Value {
        image.args(["image", "--tar", "-", "--json", "--cmdline", &format!("zfs=zroot {console}"), "-c", "box.toml"]);
        image.args(options);
        self.0.make(image, tree).unwrap()
    }

    fn disk(&self, name: &str, format: &'static str) -> Disk {
        Disk::writable(&self.path(name), format, "box")
    }
}

/// Boots it and has a script run.
fn boot(vm: Vm, script: &str) -> Running {
    let vm = vm.memory(1536).file("opt/taproot/script", script.as_bytes()).start().unwrap();
    let report = vm.report(180).unwrap();
    assert_eq!(report.one("STATE"), "active failed=0", "{:?}", report.all("FAILED"));
    assert_eq!(report.json.as_ref().unwrap()["root"], "zroot/ROOT/default");
    vm
}

/// The first boot; what it said.
fn first_boot(vm: Vm, said: &Value, more: &str) -> String {
    let script = [FIRST, more, END].concat().replace("@GUID@", said["guid"].as_str().unwrap());
    let mut vm = boot(vm, &script);
    let said = vm.script(400).unwrap();
    vm.wait_exit(120).unwrap();
    println!("{said}");
    said
}

/// The first boot, in which all files are looked at, and what else is said; then a newer kernel is installed.
fn first_boot_in_full(room: &Room, vm: Vm, system: &System, said: &Value, more: &str) -> String {
    let (vm, install) = with_newer(vm, room, system, NEWER);
    // A data set of its own.
    let changed = [compare::changed(said, &system.tree()).unwrap(), vec!["/home".into()]].concat();
    let expected = compare::look(&system.tree(), &changed).unwrap();
    assert!(expected.lines().count() > 10_000);
    let files = FILES.replace("@OWN@", &changed.join(" ")).replace("@SIZE@", &expected.len().to_string());
    let list = compare::as_disk(&expected, &room.path("expected"), "expected").unwrap();
    let vm = vm.disk(list).file("opt/taproot/look.py", LOOK.as_bytes());
    let found = first_boot(vm, said, &[&files, more, &install].concat());
    assert!(found.contains("all are equal"), "{found}");
    found
}

/// A disk with the package of a newer kernel, and a script that installs it.
fn with_newer(vm: Vm, room: &Room, system: &System, script: &str) -> (Vm, String) {
    let (deb, padded) = (newer::package(system, &["zfs"]).unwrap(), room.path("kernel.deb"));
    let size = fs::copy(deb, &padded).unwrap();
    File::options().write(true).open(&padded).unwrap().set_len(size.next_multiple_of(512)).unwrap();
    (vm.disk(Disk::read_only(&padded, "kernel")), script.replace("@DEB@", &size.to_string()))
}

/// The boot after that.
fn boot_newer(vm: Vm, system: &System) {
    let mut vm = boot(vm, &IS_NEWER.replace("@NEWER@", &newer::release(system, 1).unwrap()));
    println!("{}", vm.script(60).unwrap());
    vm.wait_exit(120).unwrap();
}

/// A word of what a script printed.
fn word<'a>(said: &'a str, name: &str) -> &'a str {
    let line = said.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim()
}

/// The partitions are what the field's own tools take them for.
fn check_disk(raw: &Path, esp: u64) {
    let said = kit::run(Command::new("sgdisk").arg("-v").arg(raw)).unwrap();
    assert!(said.contains("No problems found"), "{said}");
    check_fat(raw, esp, 512 << 20);
}

fn check_fat(raw: &Path, start: u64, size: u64) {
    let mut file = File::open(raw).unwrap();
    file.seek(SeekFrom::Start(start)).unwrap();
    let esp = raw.with_extension("esp");
    std::io::copy(&mut file.take(size), &mut File::create(&esp).unwrap()).unwrap();
    kit::run(Command::new("fsck.fat").args(["-n", "-V"]).arg(&esp)).unwrap();
    fs::remove_file(esp).unwrap();
}

fn sum(path: &Path) -> String {
    kit::run(Command::new("sha256sum").arg("-b").arg(path)).unwrap().split(' ').next().unwrap().to_owned()
}

const CONSOLE: &str = "console=ttyS0 no_timer_check taproot-test.report";

#[test]
fn unified_kernel_images_boot_by_uefi_and_the_disk_grows_twice() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let room = Room::new();
        let outputs = ["--raw", "box.raw", "--qcow2", "box.qcow2", "--vdi", "box.vdi", "--swap", "64M", "--size", "4G"];
        let said = room.make(&system.tree(), CONSOLE, &[&outputs[..], &["--verify"]].concat());
        assert_eq!(said["kernel"], system.kernel);
        check_disk(&room.path("box.raw"), 1 << 20);
        for format in ["qcow2", "vdi"] {
            let mut compare = Command::new("qemu-img");
            compare.args(["compare", "-f", "raw", "-F", format]).arg(room.path("box.raw"));
            kit::run(compare.arg(room.path(&format!("box.{format}")))).unwrap();
        }
        kit::run(Command::new("qemu-img").args(["check", "-q"]).arg(room.path("box.qcow2"))).unwrap();
        let disk = room.disk("box.qcow2", "qcow2");
        let found =
            first_boot_in_full(&room, Vm::from_disk("image-uki", system, disk.clone()).uefi(), system, &said, LIFE);

        kit::run(Command::new("qemu-img").args(["resize", "-q"]).arg(&disk.path).arg("8G")).unwrap();
        let script = GROWN.replace("@GUID@", word(&found, "GUID")).replace("@MACHINE@", word(&found, "MACHINE"));
        let script = script.replace("@NEWER@", &newer::release(system, 1).unwrap());
        let mut vm = boot(Vm::from_disk("image-uki-grown", system, disk.clone()).uefi(), &script);
        vm.wait_report("the disk may grow now", 60).unwrap();
        vm.resize(&disk, 16 << 30).unwrap();
        println!("{}", vm.script(200).unwrap());
        vm.wait_exit(120).unwrap();
    });
}

#[test]
fn grub_boots_by_bios_from_the_boot_loaders_partition_whoever_writes_it() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let room = Room::new();
        let options = |name, jobs| ["--raw", name, "--loader", "grub", "--swap", "64M", "--size", "4G", "--jobs", jobs];
        let said =
            room.make(&system.tree(), CONSOLE, &[&options("box.raw", "1")[..], &["--vmdk", "box.vmdk"]].concat());
        room.make_elsewhere(&system.tree(), CONSOLE, &options("again.raw", "4"));
        assert_eq!(sum(&room.path("box.raw")), sum(&room.path("again.raw")));
        fs::remove_file(room.path("again.raw")).unwrap();
        check_disk(&room.path("box.raw"), 2 << 20);
        let vm = |name: &str| Vm::from_disk(name, system, room.disk("box.vmdk", "vmdk"));
        let (first, install) = with_newer(vm("image-grub"), &room, system, NEWER_AND_FULL);
        first_boot(first, &said, &install);
        boot_newer(vm("image-grub-newer"), system);
    });
}

/// Two disks of one image in a machine: the firmware starts the second, which is a machine of its own from then on; then the first, which
/// was never booted, beside the one that was; then the second again.
#[test]
fn of_two_copies_in_one_machine_the_one_that_the_firmware_starts_is_booted_and_renewed() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let room = Room::new();
        room.make(&system.tree(), CONSOLE, &["--raw", "first.raw", "--size", "4G"]);
        let [first, second] = ["first.raw", "second.raw"].map(|name| room.path(name));
        kit::run(Command::new("cp").args(["--sparse=always"]).args([&first, &second])).unwrap();
        let before = sum(&first);
        let boot = |name: &str, started: &str| {
            let disk = |name: &str| Disk { serial: name.into(), ..room.disk(&format!("{name}.raw"), "raw") };
            let vm = Vm::from_disk(name, system, disk("first")).disk(disk("second")).uefi();
            let mut vm = self::boot(vm.extra(&["-set", &format!("device.disk-{started}.bootindex=1")]), COPIES);
            let said = vm.script(200).unwrap();
            vm.wait_exit(120).unwrap();
            println!("{said}");
            for what in ["POOL", "EFI"] {
                assert_eq!(word(&said, what), started, "{what}: {said}");
            }
            [word(&said, "GUID"), word(&said, "MACHINE")].map(str::to_owned)
        };
        let of_second = boot("image-copies-1", "second");
        assert_eq!(sum(&first), before, "the disk that was not started");
        let of_first = boot("image-copies-2", "first");
        assert!(of_first.iter().all(|id| !of_second.contains(id)), "{of_first:?} {of_second:?}");
        assert_eq!(boot("image-copies-3", "second"), of_second);
    });
}

/// Two disks with one pool: the machine boots from the first of both, then from the second alone, with what was written to both meanwhile.
/// A new disk takes the place of the first, and then it boots from that alone.
fn each_disk_boots_alone(name: &str, system: &System, options: &[&str], firmware: fn(Vm) -> Vm) {
    let room = Room::new();
    let outputs = ["--raw", "first.raw", "--mirror", "second.raw", "--size", "4G"];
    room.make(&system.tree(), CONSOLE, &[&outputs, options].concat());
    File::create(room.path("third.raw")).unwrap().set_len(5 << 30).unwrap();
    let disk = |name: &str| Disk { serial: name.into(), ..room.disk(&format!("{name}.raw"), "raw") };
    let esp = if options.contains(&"grub") { 2 << 20 } else { 1 << 20 };
    check_disk(&room.path("second.raw"), esp);
    let boot = |stage: &str, disks: &[&str], script: &str, patience: u64| {
        let vm = Vm::from_disk(&format!("{name}{stage}"), system, disk(disks[0]));
        let vm = disks.iter().skip(1).fold(vm, |vm, name| vm.disk(disk(name)));
        let mut vm = self::boot(firmware(vm), script);
        let said = vm.script(patience).unwrap();
        vm.wait_exit(120).unwrap();
        println!("{said}");
        said
    };
    let said = boot("", &["first", "second"], MIRROR, 300);
    for line in ["AT /efi first", "AT /efi2 second"] {
        assert!(said.lines().any(|found| found == line), "no {line}: {said}");
    }
    boot("-left", &["second", "third"], LEFT, 400);
    check_disk(&room.path("third.raw"), esp);
    boot("-new", &["third"], NEW, 100);
}

#[test]
fn each_disk_of_a_mirror_boots_alone_and_so_does_one_that_replaces_it() {
    scenario::run(kit::SYSTEMS[0], |system| each_disk_boots_alone("image-mirror", system, &[], Vm::uefi));
}

#[test]
#[ignore = "on demand: make test-all; the one by UEFI does the same"]
fn each_disk_of_a_mirror_boots_alone_by_bios() {
    scenario::run(kit::SYSTEMS[0], |system| {
        each_disk_boots_alone("image-mirror-bios", system, &["--loader", "grub", "--swap", "64M"], |vm| vm);
    });
}

#[test]
fn entries_boot_by_uefi_from_a_disk_with_sectors_of_4096_bytes() {
    scenario::run(kit::SYSTEMS[1], |system| {
        let room = Room::new();
        let options = ["--raw", "box.raw", "--sector-size", "4096", "--loader", "bls", "--size", "4G"];
        let said = room.make(&system.tree(), CONSOLE, &options);
        check_fat(&room.path("box.raw"), 1 << 20, 512 << 20);
        let sectors = ["logical", "physical"].map(|kind| format!("device.disk-box.{kind}_block_size=4096"));
        let vm = |name: &str| {
            let vm = Vm::from_disk(name, system, room.disk("box.raw", "raw")).uefi();
            vm.extra(&["-set", &sectors[0], "-set", &sectors[1]])
        };
        first_boot_in_full(&room, vm("image-bls-4k"), system, &said, "umount /run/before\n");
        boot_newer(vm("image-bls-newer"), system);
    });
}

#[test]
fn grub_reads_the_pool_and_boots_by_bios() {
    scenario::run(kit::SYSTEMS[1], |system| {
        let room = Room::new();
        let options = ["--raw", "box.raw", "--vhdx", "box.vhdx", "--loader", "grub-pool", "--size", "4G"];
        let said = room.make(&system.tree(), CONSOLE, &options);
        check_disk(&room.path("box.raw"), 2 << 20);
        let path = format!("(loop0,gpt3)/ROOT/default@/boot/vmlinuz-{}", system.kernel);
        let mut compare = Command::new("grub-fstest");
        kit::run(compare.arg(room.path("box.raw")).args(["cmp", &path]).arg(system.vmlinuz())).unwrap();
        first_boot(Vm::from_disk("image-grub-pool", system, room.disk("box.vhdx", "vhdx")), &said, "");
    });
}
