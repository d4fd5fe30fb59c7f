//! A running system becomes a layer: a snapshot is made of its ZFS or btrfs for that, read, and removed. LVM is not tried: the kit
//! systems have none of its programs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use taproot_tests::kit;
use taproot_tests::layers;
use taproot_tests::scenario::vm;
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::Scratch;

const SCRIPT: &str = r#"set -e
say() { echo "@@$*"; }
tar -xf /dev/disk/by-id/virtio-payload -C /
mkdir -p /run/out /run/see
seen() {
    mount -o loop,ro /run/out/$1.sqsh /run/see
    say SEEN $1 $(cat /run/see/etc/view)
    umount /run/see
}
layer="layer init --from / --into /run/out --compress none --exclude usr --exclude var --exclude boot"
echo zfs >/etc/view
taproot $layer zfs 2>&1 | sed 's/^/@@SAID /'
seen zfs
say LEFT $(zfs list -H -t snapshot -o name | grep -c taproot-frozen)

mkdir /run/b
mount /dev/disk/by-id/virtio-btrfs0 /run/b
mkdir /run/b/usr /run/b/proc /run/b/dev /run/b/run /run/b/etc
for name in bin sbin lib lib64; do ln -s usr/$name /run/b/$name; done
for name in usr proc dev run; do mount --bind /$name /run/b/$name; done
echo btrfs >/run/b/etc/view
chroot /run/b taproot $layer btrfs 2>&1 | sed 's/^/@@SAID /'
seen btrfs
say SUBVOLUMES $(btrfs subvolume list /run/b | grep -c .)
systemctl --no-block poweroff
"#;

scenarios_on_newest! {
    fn a_running_system_is_sealed_of_a_snapshot(system) {
        let scratch = Scratch::new().unwrap();
        let tank = scratch.overlay(system, "tank0").unwrap();
        let payload = layers::payload(system, &scratch, &["mksquashfs", "btrfs"]).unwrap();
        let btrfs = scratch.blank("btrfs0", 256 << 20).unwrap();
        kit::run(Command::new("mkfs.btrfs").arg("-q").arg(&btrfs.path)).unwrap();
        let vm = vm("layer-init", system, "root=ZFS=tank/ROOT/be1").unwrap();
        let vm = vm.disks([tank, payload, btrfs]).file("opt/taproot/script", SCRIPT.as_bytes());
        let mut vm = vm.start().unwrap();
        vm.report(90).unwrap();
        let said = vm.script(200).unwrap();
        assert_eq!(said.matches("making a snapshot of the running system").count(), 2, "{said}");
        for line in ["SEEN zfs zfs", "LEFT 0", "SEEN btrfs btrfs", "SUBVOLUMES 0"] {
            assert!(said.lines().any(|found| found.trim() == format!("@@{line}")), "no {line}:\n{said}");
        }
        vm.wait_exit(60).unwrap();
    }
}
