//! Live media, on real kernels: a hybrid stick, whose disk, first partition and ESP can answer to one label, and a whole system from an
//! ISO file on exFAT, with a blank in its path.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use taproot_tests::exfat;
use taproot_tests::kit::{self, System};
use taproot_tests::plain;
use taproot_tests::scenario::vm;
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::{Bus, Disk, Mount, Report, Scratch};

/// Makes in `$1`: `live.iso`, a hybrid of an ISO 9660 that begins also in its first partition, an ESP without a label and an ext4
/// `persistence` that keeps the whole root, with what the image `$2` has, compressed by xz as vmpacstrap does it; and a FAT without an
/// image that has the ISO's label.
const MEDIA: &str = r#"set -eu
cd "$1"
mkdir -p tree/live tree/EFI
unsquashfs -quiet -no-progress -dest root "$2" >/dev/null
mksquashfs root tree/live/filesystem.squashfs -comp xz -noappend -quiet -no-progress >/dev/null
truncate -s 4M esp.img && mkfs.vfat -n "" esp.img >/dev/null 2>&1 || mkfs.vfat esp.img >/dev/null
mkdir keep && echo "/ union" >keep/persistence.conf
mkfs.ext4 -q -L persistence -d keep persistence.img 8M
xorriso -as mkisofs -quiet -R -J -V TAPLIVE -partition_offset 16 -append_partition 2 0xef esp.img \
    -append_partition 3 0x83 persistence.img -o live.iso tree
truncate -s 8M decoy.img && mkfs.vfat -n TAPLIVE decoy.img >/dev/null
rm -r tree root keep esp.img persistence.img
"#;

/// Makes `$1/live.iso` as vmpacstrap and its kin say: `/live` has what they make of the tree `$2`, which is its squashfs `$3` and
/// the files at the top of its `/boot`.
const TREE: &str = r#"set -eu
mkdir -p "$1/tree/live"
cp "$3" "$1/tree/live/filesystem.squashfs"
find "$2/boot" -maxdepth 1 -type f -exec cp -t "$1/tree/live" {} +
xorriso -as mkisofs -quiet -R -J -V TAPTREE -o "$1/live.iso" "$1/tree"
rm -r "$1/tree"
"#;

fn made(scratch: &Scratch) -> PathBuf {
    let dir = scratch.path().join("media");
    std::fs::create_dir_all(&dir).unwrap();
    let image = plain::image("squashfs").unwrap();
    kit::run(Command::new("bash").args(["-c", MEDIA, "bash"]).arg(&dir).arg(image)).unwrap();
    dir
}

fn disk(path: &Path, serial: &str, bus: Bus) -> Disk {
    Disk::writable(path, "raw", serial).on(bus)
}

fn at(report: &Report, point: &str) -> Mount {
    report.mounts().into_iter().rev().find(|m| m.point == point).unwrap_or_else(|| panic!("nothing is on {point}"))
}

fn boot(name: &str, system: &System, disks: Vec<Disk>, words: &str) -> Report {
    let mut vm = vm(&format!("live-{name}"), system, words).unwrap().disks(disks).start().unwrap();
    let report = vm.report(90).unwrap();
    vm.wait_exit(20).unwrap();
    in_memory(&report);
    report
}

/// The root can be written to, and what is written stays in memory.
fn in_memory(report: &Report) {
    let root = at(report, "/");
    assert_eq!(root.kind, "overlay", "{root:?}");
    assert!(root.options.iter().any(|option| option == "rw"), "{root:?}");
    assert_eq!(at(report, "/run/taproot/upper").kind, "tmpfs");
}

scenarios_on_newest! {
    /// The stick comes late and behind USB; something else carries its label, and is there first. The disk itself is not in use, so
    /// its third partition can keep what is written.
    fn a_hybrid_stick(system) {
        let scratch = Scratch::new().unwrap();
        let media = made(&scratch);
        // USB is slow where the processor is emulated.
        let words = "boot=live live-media=LABEL=TAPLIVE taproot.wait=80 ro";
        let decoy = disk(&media.join("decoy.img"), "decoy0", Bus::Virtio);
        let stick = disk(&media.join("live.iso"), "stick0", Bus::Usb);
        let report = boot("hybrid", system, vec![decoy.clone(), stick.clone()], words);
        let medium = at(&report, "/run/taproot/base");
        assert_eq!((medium.source.as_str(), medium.kind.as_str()), ("/dev/sda1", "iso9660"));
        for (place, kind) in [("medium", "iso9660"), ("rootfs/filesystem.squashfs", "squashfs"), ("overlay", "tmpfs")] {
            assert_eq!(at(&report, &format!("/run/live/{place}")).kind, kind, "{place}");
        }
        let words = format!("{words} persistence taproot.upper_fallback=fail");
        let vm = vm("live-hybrid-kept", system, &words).unwrap();
        let mut vm = vm.disks([decoy, stick]).start().unwrap();
        let report = vm.report(90).unwrap();
        vm.wait_exit(20).unwrap();
        let kept = at(&report, "/run/taproot/persistence/sda3");
        assert_eq!((kept.source.as_str(), kept.kind.as_str()), ("/dev/sda3", "ext4"));
        let root = at(&report, "/");
        let upper = "upperdir=/run/taproot/persistence/sda3/rw";
        assert!(root.super_options.iter().any(|option| option == upper), "{root:?}");
    }

    /// A whole system, from an image as vmpacstrap makes it, in an ISO file on exFAT.
    fn a_live_tree_in_an_iso_file(system) {
        let scratch = Scratch::new().unwrap();
        let dir = scratch.path();
        let (iso, data) = (dir.join("live.iso"), dir.join("data.img"));
        let paths = [dir, &system.tree(), &system.squashfs()];
        kit::run(Command::new("bash").args(["-c", TREE, "bash"]).args(paths)).unwrap();
        exfat::image(&data, "TAPDATA", ("my isos", "live 1.iso"), &iso).unwrap();
        std::fs::remove_file(&iso).unwrap();
        let script = "cmp /run/live/medium/live/vmlinuz-$(uname -r) /boot/vmlinuz-$(uname -r) && echo @@KERNEL the same\n\
            echo kept >/root/written && echo @@WRITTEN $(cat /run/live/overlay/upper/root/written)\n\
            systemctl --no-block poweroff\n";
        let vm = vm("live-tree", system, "boot=live components \"findiso=/my isos/live 1.iso\"").unwrap();
        let vm = vm.disks([disk(&data, "data0", Bus::Virtio)]).file("opt/taproot/script", script.as_bytes());
        let mut vm = vm.start().unwrap();
        let report = vm.report(200).unwrap();
        let said = vm.script(100).unwrap();
        vm.wait_exit(60).unwrap();
        assert_eq!(report.one("STATE"), "active failed=0", "{:?}", report.all("FAILED"));
        in_memory(&report);
        let host = at(&report, "/run/live/findiso");
        assert_eq!((host.source.as_str(), host.kind.as_str()), ("/dev/vda", "exfat"));
        assert!(host.options.iter().any(|option| option == "ro"), "{host:?}");
        let medium = at(&report, "/run/live/medium");
        assert!(medium.kind == "iso9660" && medium.source.starts_with("/dev/loop"), "{medium:?}");
        assert_eq!(at(&report, "/run/live/rootfs/filesystem.squashfs").kind, "squashfs");
        assert!(said.contains("@@KERNEL the same") && said.contains("@@WRITTEN kept"), "{said}");
    }
}
