//! A running system becomes a layer while it is written to: a snapshot is made of its ZFS or btrfs for that, and removed. LVM is not
//! tried: the kit systems have none of its programs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use taproot_tests::kit;
use taproot_tests::layers;
use taproot_tests::scenario::vm;
use taproot_tests::scenarios;
use taproot_tests::vm::Scratch;

/// A writer raises the number in two files, one after the other. Between them lies something to read, so that files which change while
/// they are read are told: the second one would be ahead.
const SCRIPT: &str = r#"set -e
say() { echo "@@$*"; }
tar -xf /dev/disk/by-id/virtio-payload -C /
mkdir -p /run/out /run/see
written() {
    mkdir $1/view
    head -c 16M /dev/urandom >$1/view/between
    echo 1 >$1/view/a
    echo 1 >$1/view/z
    (set +x; n=1; while [ ! -e /run/stop ]; do n=$((n + 1)); echo $n >$1/view/a; echo $n >$1/view/z; done) &
}
seen() {
    read -r on <$2/view/a
    mount -o loop,ro /run/out/$1.sqsh /run/see
    read -r a </run/see/view/a
    read -r z </run/see/view/z
    say SEEN $1 ahead $((z > a)) apart $((a - z > 1)) went-on $((on > a))
    umount /run/see
}
layer="layer init --from / --into /run/out --compress none --exclude usr --exclude var --exclude boot"
written /
taproot $layer zfs 2>&1 | sed 's/^/@@ZFS /'
seen zfs /
say LEFT $(zfs list -H -t snapshot -o name | grep -c taproot-frozen)
touch /run/stop
wait
rm /run/stop

mkdir /run/b
mount /dev/disk/by-id/virtio-btrfs0 /run/b
mkdir /run/b/usr /run/b/proc /run/b/dev /run/b/run
for name in bin sbin lib lib64; do ln -s usr/$name /run/b/$name; done
for name in usr proc dev run; do mount --bind /$name /run/b/$name; done
written /run/b
chroot /run/b taproot $layer btrfs 2>&1 | sed 's/^/@@BTRFS /'
seen btrfs /run/b
say SUBVOLUMES $(btrfs subvolume list /run/b | grep -c .)
touch /run/stop
wait
systemctl --no-block poweroff
"#;

scenarios! {
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
        for line in [
            "SEEN zfs ahead 0 apart 0 went-on 1",
            "LEFT 0",
            "SEEN btrfs ahead 0 apart 0 went-on 1",
            "SUBVOLUMES 0",
        ] {
            assert!(said.lines().any(|found| found.trim() == format!("@@{line}")), "no {line}:\n{said}");
        }
        vm.wait_exit(60).unwrap();
    }
}
