//! An archive becomes a boot environment of a running Debian's pool, and an encrypted one of another pool; both boot. What is no system,
//! and what was cut off, boots nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::Command;

use taproot_tests::kit::{self, System};
use taproot_tests::scenario::{dataset_at, vm};
use taproot_tests::vm::{Disk, Scratch};
use taproot_tests::{installed, scenarios_on_newest, small};

const PASSPHRASE: &str = "taproot-heron-tunnel-31";

/// What is done in the running Debian. An install that is killed leaves tar at work, so its whole session goes.
const SCRIPT: &str = r#"set -e
fails() { if "$@"; then echo "expected it to fail: $*"; exit 1; fi; }
tar -xf /dev/disk/by-id/virtio-payload -C /
new=/usr/share/new.tar.zst
tar -cf /run/none.tar -C /etc hostname
fails taproot install /run/none.tar --dataset tank/ROOT/none
fails zfs list tank/ROOT/none
fails taproot install $new --dataset tank/NONE/new

setsid sh -c "echo \$\$ >/run/session; exec taproot install $new --dataset tank/ROOT/cut" &
until grep -q ' /run/taproot-install' /proc/mounts; do sleep 0.1; done
pkill -KILL -s $(cat /run/session)
wait || true
fails taproot install $new --dataset tank/ROOT/cut 2>/run/said
sed 's/^/@@SAID /' /run/said
[ $(zpool get -H -o value bootfs tank) = tank/ROOT/be1 ]
zfs destroy -r tank/ROOT/cut

taproot install $new --dataset tank/ROOT/new --hostname fresh --bootfs --yes
zfs get -H -o value mountpoint,canmount,taproot:install,mounted tank/ROOT/new | sed 's/^/@@PROPERTY /'
fails grep taproot-install /proc/mounts

zpool create -f -O mountpoint=none second /dev/disk/by-id/virtio-second0
zfs create second/ROOT
echo @PASSPHRASE@ | taproot install $new --dataset second/ROOT/locked --encrypt
zfs get -H -o value encryption,encryptionroot second/ROOT/locked | sed 's/^/@@PROPERTY /'
zpool export second
systemctl --no-block poweroff
"#;

/// An archive of a small system.
fn archive(system: &System, scratch: &Scratch) -> PathBuf {
    let tree = small::reporting(system, scratch, "new").unwrap();
    let path = scratch.path().join("new.tar.zst");
    kit::run(Command::new("tar").args(["--zstd", "-cf"]).arg(&path).arg("-C").arg(&tree).arg(".")).unwrap();
    path
}

fn boots(name: &str, system: &System, disk: &Disk, words: &str, passphrase: Option<&str>) -> String {
    let mut vm = vm(name, system, words).unwrap().disk(disk.clone()).start().unwrap();
    if let Some(passphrase) = passphrase {
        vm.expect("Passphrase for second/ROOT/locked: ", 60).unwrap();
        vm.type_line(passphrase).unwrap();
    }
    let report = vm.report(60).unwrap();
    vm.wait_exit(30).unwrap();
    format!("{} on {}", report.hostname(), dataset_at(&report, "/").unwrap())
}

scenarios_on_newest! {
    fn an_archive_becomes_a_boot_environment_and_boots(system) {
        let scratch = Scratch::new().unwrap();
        let tank = scratch.overlay(system, "tank0").unwrap();
        let second = scratch.blank("second0", 1 << 30).unwrap();
        let more = [(archive(system, &scratch), "usr/share/new.tar.zst")];
        let payload = installed::payload_with(&scratch, &more).unwrap();
        let debian = vm("install", system, "root=zfs:AUTO taproot-test.report").unwrap();
        let script = SCRIPT.replace("@PASSPHRASE@", PASSPHRASE);
        let debian = debian.disks([tank.clone(), second.clone(), payload]).file("opt/taproot/script", script.as_bytes());
        let mut debian = debian.start().unwrap();
        debian.report(90).unwrap();
        let said = debian.script(200).unwrap();
        debian.wait_exit(60).unwrap();
        let tagged = |tag: &str| -> Vec<&str> { said.lines().filter_map(|line| line.strip_prefix(tag)).collect() };
        assert!(tagged("@@SAID ").concat().contains("an install that was cut off left it; zfs destroy -r tank/ROOT/cut"), "{said}");
        assert_eq!(tagged("@@PROPERTY "), ["/", "noauto", "-", "no", "aes-256-gcm", "second/ROOT/locked"], "{said}");

        assert_eq!(boots("install-new", system, &tank, "root=zfs:AUTO", None), "fresh on tank/ROOT/new");
        let words = "root=ZFS=second/ROOT/locked";
        assert_eq!(boots("install-locked", system, &second, words, Some(PASSPHRASE)), "locked on second/ROOT/locked");
    }
}
