//! `taproot image` onto other disks of a running Debian: one that is in use stays what it is, and so does one of which nobody said that it
//! may go; what was written boots alone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use taproot_tests::kit::{self, System};
use taproot_tests::scenario::{self, dataset_at, vm};
use taproot_tests::vm::{Scratch, Vm};
use taproot_tests::{installed, small};

/// What starts by UEFI; Debian has it in a package that the running system lacks.
const SYSTEMD_BOOT: [&str; 2] = ["systemd-bootx64.efi", "linuxx64.efi.stub"];

/// What is done in the running Debian.
const SCRIPT: &str = r#"set -e
tar -xf /dev/disk/by-id/virtio-payload -C /
target=/dev/disk/by-id/virtio-target
image() {
    taproot image --quiet --tar /usr/share/new.tar --esp 64M --compression lz4 --set system.allow-empty-root=true \
        --set system.hostname=new --cmdline "zfs=zroot console=ttyS0 no_timer_check" "$@"
}
refused() {
    if image "$@" </dev/null >/run/said 2>&1; then echo "expected it to fail: $*"; exit 1; fi
    sed "s/^/@@REFUSED /" /run/said
}
mkfs.ext4 -q -L precious $target
mount $target /mnt
echo kept >/mnt/file
refused --device $target --yes
umount /mnt
refused --device /dev/disk/by-id/virtio-tank0 --yes
refused --device $target
mount -o ro $target /mnt
[ $(cat /mnt/file) = kept ]
umount /mnt

image --device $target --yes --json | sed 's/^/@@MADE /'
zpool list -H -o name | sed 's/^/@@POOL /'
systemctl --no-block poweroff
"#;

/// An archive of a small system, with what starts it.
fn archive(system: &System, scratch: &Scratch) -> PathBuf {
    let tree = small::reporting(system, scratch, "new").unwrap();
    let loader = Path::new("usr/lib/systemd/boot/efi");
    fs::create_dir_all(tree.join(loader)).unwrap();
    for name in SYSTEMD_BOOT {
        fs::copy(Path::new("/").join(loader).join(name), tree.join(loader).join(name)).unwrap();
    }
    let path = scratch.path().join("new.tar");
    kit::run(Command::new("tar").arg("-cf").arg(&path).arg("-C").arg(&tree).arg(".")).unwrap();
    path
}

#[test]
fn another_disk_of_the_machine_is_written_when_it_may_go_and_boots_alone() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let scratch = Scratch::new().unwrap();
        let tank = scratch.overlay(system, "tank0").unwrap();
        let target = scratch.blank("target", 1 << 30).unwrap();
        let payload = installed::payload_with(&scratch, &[(archive(system, &scratch), "usr/share/new.tar")]).unwrap();
        let debian = vm("image-device", system, "root=zfs:AUTO taproot-test.report").unwrap().memory(1536);
        let debian = debian.disks([tank, target.clone(), payload]).file("opt/taproot/script", SCRIPT.as_bytes());
        let mut debian = debian.start().unwrap();
        debian.report(90).unwrap();
        let said = debian.script(200).unwrap();
        debian.wait_exit(60).unwrap();
        let tagged = |tag: &str| said.lines().filter_map(|line| line.strip_prefix(tag)).collect::<Vec<_>>().join("\n");
        let refused = tagged("@@REFUSED ");
        assert_eq!(refused.matches("it is in use: mounted, swap, or part of a pool").count(), 2, "{said}");
        assert!(refused.contains("ext4 on it precious") && refused.contains("say --yes if that is meant"), "{said}");
        assert!(tagged("@@MADE ").contains("/dev/disk/by-id/virtio-target"), "{said}");
        assert_eq!(tagged("@@POOL "), "tank", "{said}");

        let mut new = Vm::from_disk("image-device-new", system, target).uefi().start().unwrap();
        let report = new.report(120).unwrap();
        new.wait_exit(60).unwrap();
        assert_eq!(report.hostname(), "new");
        assert_eq!(dataset_at(&report, "/").as_deref(), Some("zroot/ROOT/default"));
    });
}
