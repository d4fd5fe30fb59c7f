//! The pool of a disk image in front of those that have no part in making it: several OpenZFS, and GRUB's reader.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use taproot_tests::compare::{self, LOOK};
use taproot_tests::kit::{self, System};
use taproot_tests::vm::{Scratch, Vm};
use taproot_tests::{nobody, scenario};

/// What is done with it; the whole pool is looked at before it is imported for the first time, and in the end.
const SCRIPT: &str = r#"set -e
begin=$(cut -d. -f1 /proc/uptime)
since() { echo "$(($(cut -d. -f1 /proc/uptime) - begin)) s: $*"; }
whole() {
    zdb -e -p /dev/disk/by-id -bcc zroot >/run/zdb 2>&1 || { tail -30 /run/zdb; exit 1; }
    grep -q 'No leaks' /run/zdb || { tail -30 /run/zdb; exit 1; }
    if grep -i 'mismatch\|error' /run/zdb; then exit 1; fi
    since "zdb finds nothing"
}
look() {
    python3 /run/look.py "$1" @OWN@ >/run/found
    cmp "$2" /run/found || { diff "$2" /run/found | head -30; exit 1; }
    since "$(wc -l </run/found) entries are equal"
}
cat /sys/module/zfs/version
head -c @SIZE@ /dev/disk/by-id/virtio-expected >/run/expected
whole
zpool import -N zroot
zpool status zroot
zpool status zroot | grep 'state: ONLINE'
[ "$(zpool get -H -o value bootfs zroot)" = zroot/ROOT/default ]
mount -t zfs -o zfsutil zroot/ROOT/default /mnt
mount -t zfs -o zfsutil zroot/home /mnt/home
look /mnt /run/expected
umount /mnt/home
zpool scrub -w zroot
zpool status zroot | grep 'with 0 errors'
since scrubbed

# Sent whole, and what is changed then as an increment.
zfs send zroot/ROOT/default@installed | zfs receive -u -o canmount=noauto zroot/received
cp -a /mnt/usr/bin /mnt/root/bin
rm -r /mnt/usr/bin /mnt/usr/lib /mnt/usr/share /mnt/root/bin/[a-m]*
echo changed >>/mnt/etc/fstab
zfs snapshot zroot/ROOT/default@later
zfs send -i @installed zroot/ROOT/default@later | zfs receive -u zroot/received
since sent
mkdir -p /run/received
mount -t zfs zroot/received@installed /run/received
grep -v '^/home' /run/expected >/run/sent
python3 /run/look.py /run/received @OWN@ /home | cmp /run/sent -
since "$(wc -l </run/sent) received entries are equal"
umount /run/received
python3 /run/look.py /mnt >/run/sent
mount -t zfs zroot/received@later /run/received
python3 /run/look.py /run/received | cmp /run/sent -
since "$(wc -l </run/sent) later entries are equal"
umount /run/received
zfs destroy -r zroot/received

# A clone takes the snapshot, gives it back, takes it again; then what it was made of goes away.
umount /mnt
zfs clone -o canmount=noauto zroot/ROOT/default@installed zroot/ROOT/other
zfs promote zroot/ROOT/other
zfs promote zroot/ROOT/default
zfs promote zroot/ROOT/other
zfs destroy -r zroot/ROOT/default
mount -t zfs -o zfsutil zroot/ROOT/other /mnt
rm -r /mnt/usr/share
umount /mnt
zfs destroy zroot/ROOT/other@installed
zpool upgrade zroot
zpool export zroot
zpool import -N zroot
zpool scrub -w zroot
zpool status -v zroot
zpool status zroot | grep 'with 0 errors'
zpool status zroot | grep 'No known data errors'
zpool wait -t free zroot
zpool export zroot
whole
echo the pool is through
"#;

/// Makes one image of the first system's tree, and gives it to each, as it was made.
fn one_image_in_front_of(systems: &[&str]) {
    let newest = System::open(kit::SYSTEMS[0]).unwrap();
    let (room, scratch) = (nobody::Room::new().unwrap(), Scratch::new().unwrap());
    let mut image = room.taproot();
    image.args(["image", "--tar", "-", "--json", "--raw", "box.raw", "--size", "4G"]);
    image.args(["--set", "system.allow-empty-root=true"]);
    let said = room.make(image, &newest.tree()).unwrap();
    let path = room.path("box.raw");
    let changed = compare::changed(&said, &newest.tree()).unwrap();
    let expected = compare::look(&newest.tree(), &changed).unwrap();
    assert!(expected.lines().count() > 10_000);
    let list = compare::as_disk(&expected, &room.path("expected"), "expected").unwrap();
    let script = SCRIPT.replace("@OWN@", &changed.join(" ")).replace("@SIZE@", &expected.len().to_string());
    for name in systems {
        let system = System::open(name).unwrap();
        // What it writes lies beside the image: the next one gets the same bytes.
        let disk = scratch.overlay_image(&path, name).unwrap();
        let vm = Vm::helper(&format!("image-pool-{name}"), &system, &script).disk(disk).disk(list.clone());
        let mut vm = vm.file("opt/taproot/files/look.py", LOOK.as_bytes()).start().unwrap();
        let said = vm.script(1200).unwrap();
        println!("{name}:\n{said}");
        assert!(said.contains("the pool is through") && said.contains(&system.zfs), "{said}");
        vm.wait_exit(20).unwrap();
    }
}

#[test]
#[ignore = "on demand: make test-all; minutes on each system"]
fn one_image_is_a_pool_for_all_three_kit_systems() {
    scenario::retried(|| one_image_in_front_of(&[kit::ON_DEMAND, kit::SYSTEMS[0], kit::SYSTEMS[1]]));
}

/// Names in the largest directory.
const MANY: usize = 120_000;
/// Bytes of the largest file, and where in it there are some.
const FAR: (u64, u64) = (5 << 30, 4_500_000_000);

/// What no distribution has, as a tree of this machine.
fn odd(top: &Path) {
    let srv = top.join("srv");
    fs::create_dir_all(srv.join("many")).unwrap();
    for n in 0..MANY {
        File::create(srv.join(format!("many/a name that is no short one {n}"))).unwrap();
    }
    let far = File::create(srv.join("far")).unwrap();
    far.write_all_at(b"here", FAR.1).unwrap();
    far.set_len(FAR.0).unwrap();
    fs::create_dir(srv.join("sizes")).unwrap();
    for size in [0, 1, 112, 113, 131_071, 131_072, 131_073, 9 << 20] {
        let words = (0..=size / 4).flat_map(|n: u32| n.wrapping_mul(2_654_435_761).to_le_bytes());
        let content: Vec<u8> = words.take(usize::try_from(size).unwrap()).collect();
        fs::write(srv.join(format!("sizes/{size}")), content).unwrap();
    }
}

/// What GRUB's reader answers of the image's root.
fn grub(image: &Path, options: &[&str], path: &str, more: &[&Path]) -> Result<Vec<u8>, String> {
    let mut reader = Command::new("grub-fstest");
    let (word, path) = path.split_once(' ').unwrap();
    reader.args(options).arg(image).args([word, &format!("(loop0,gpt2)/ROOT/default@{path}")]).args(more);
    let output = reader.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(output.stdout) } else { Err(format!("{reader:?}: {said}")) }
}

#[test]
fn grub_reads_a_system_and_120_000_names_and_a_file_of_5_gib() {
    let system = System::open(kit::SYSTEMS[0]).unwrap();
    let (room, scratch) = (nobody::Room::new().unwrap(), Scratch::new().unwrap());
    let more = scratch.path().join("more");
    odd(&more);
    let mut tar = Command::new("tar");
    tar.args(["--format=posix", "--sparse", "--numeric-owner", "-cf"]).arg(room.path("root.tar"));
    kit::run(tar.arg("-C").arg(system.tree()).arg(".").arg("-C").arg(&more).arg("./srv")).unwrap();
    let mut image = room.taproot();
    image.args(["image", "--tar", "root.tar", "--raw", "box.raw", "--size", "4G", "--verify", "--compression", "lz4"]);
    kit::run(image.args(["--set", "pool.compatibility=grub2", "--set", "system.allow-empty-root=true"])).unwrap();

    let image = room.path("box.raw");
    let names = String::from_utf8(grub(&image, &[], "ls /srv/many", &[]).unwrap()).unwrap();
    assert_eq!(names.matches("short one ").count(), MANY);
    assert!(names.contains(&format!(" {} ", MANY - 1)), "no file {}", MANY - 1);
    let part = [format!("--skip={}", FAR.1 - 4), "--length=8".to_owned()];
    assert_eq!(grub(&image, &[&part[0], &part[1]], "cat /srv/far", &[]).unwrap(), b"\0\0\0\0here");
    let trees = [
        ("/boot", system.tree()),
        ("/usr/bin", system.tree()),
        ("/usr/lib/systemd", system.tree()),
        ("/srv/sizes", more.clone()),
    ];
    for (path, tree) in trees {
        grub(&image, &[], &format!("cmp {path}"), &[&tree.join(&path[1..])]).unwrap();
    }
    // It does compare.
    let changed = File::options().write(true).open(more.join("srv/sizes/9437184")).unwrap();
    changed.write_all_at(b"?", (9 << 20) - 1).unwrap();
    assert!(grub(&image, &[], "cmp /srv/sizes", &[&more.join("srv/sizes")]).is_err());
}
