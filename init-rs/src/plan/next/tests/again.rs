//! Attempts, deadlines and devices that come and go.

use super::{Play, boot, comes, holding, labels, machine, run, seen, tank};
use crate::devices::known::Reading;
use crate::plan::failure::Code;
use crate::plan::fstab;
use crate::plan::rehearsal::{Known, KnownRoot};

fn tank_is_seen(play: &mut Play<'_>) {
    seen(play, labels("tank", 7, 1, 0));
}

/// Disks that come and go without ever answering do not prolong the search for ever.
#[test]
fn disks_that_flap_are_not_waited_for_for_ever() {
    let flaps = |play: &mut Play<'_>| comes(play, "sdx", Reading::Waiting);
    let script: Vec<super::Event<'_>> = (0..20).map(|n| (500 + 20_000 * n, &flaps as _)).collect();
    let told = run("zfs=gone", &machine(), &script);
    assert_eq!((told.code(), told.at("fail")), (Some(Code::NoPool), 90_000));
}

/// The time that the resume device takes is not taken from the time to wait for the root.
#[test]
fn the_resume_device_has_a_time_of_its_own() {
    let swap = |play: &mut Play<'_>| comes(play, "vdb", holding("swap"));
    let told = run("zfs=tank resume=/dev/vdb", &machine(), &[(9000, &swap), (35_000, &tank_is_seen)]);
    assert!(told.booted() && told.at("import") == 35_000, "{:?}", told.failure);
    let told = run("zfs=tank resume=/dev/vdb", &machine(), &[(9000, &swap)]);
    assert_eq!((told.code(), told.at("fail")), (Some(Code::NoPool), 39_000));
}

/// Its device may be there only when the second attempt begins.
#[test]
fn each_attempt_looks_for_an_image_to_discard() {
    let told = boot("zfs=tank/none resume=UUID=5 noresume taproot.fallback=usb/r", &tank());
    assert!(told.booted());
    assert_eq!(told.names().iter().filter(|name| **name == "discard-image").count(), 2, "{:?}", told.names());
}

/// A root that is mounted is not looked for again: the scout may be started anew meanwhile.
#[test]
fn a_mounted_root_need_not_be_known_any_more() {
    let root = KnownRoot { fstab: Some(fstab::parse(b"/dev/vdb1 /usr ext4 rw 0 0\n")), ..KnownRoot::default() };
    let known = Known { roots: [("/dev/vda1".to_owned(), root)].into(), ..machine() };
    let there = |play: &mut Play<'_>| comes(play, "vda1", holding("ext4"));
    let gone = |play: &mut Play<'_>| play.hardware.devices.clear();
    let usr = |play: &mut Play<'_>| comes(play, "vdb1", holding("ext4"));
    let told = run("root=/dev/vda1", &known, &[(0, &there), (1000, &gone), (2000, &usr)]);
    assert!(told.booted(), "{:?}", told.failure);
    assert_eq!(told.names().iter().filter(|name| **name == "mount-root").count(), 1);
    assert_eq!(told.at("mount"), 2000);
}

/// Two datasets, of which the second has a key of its own.
fn with_key_of_its_own() -> Known {
    let mut known = machine();
    let var = known.datasets.iter_mut().find(|d| d.name == "tank/r/var").unwrap();
    (var.key_available, var.encryption_root) = (Some(true), Some("tank/r/var".to_owned()));
    known
}

/// The device of a key file is waited for until it is read, also for other keys than the root's that the boot needs.
#[test]
fn the_device_of_a_key_is_waited_for_until_it_is_read() {
    let line = "zfs=tank taproot.also=tank/r/var taproot.key=/dev/sdk1:/key";
    let there = |play: &mut Play<'_>| {
        tank_is_seen(play);
        comes(play, "sdk1", Reading::Waiting);
    };
    let read = |play: &mut Play<'_>| comes(play, "sdk1", holding("vfat"));
    let told = run(line, &with_key_of_its_own(), &[(0, &there), (3000, &read)]);
    assert!(told.booted(), "{:?}", told.failure);
    assert_eq!(told.at("load-keys"), 3000);
    assert!(told.place("load-keys") > told.place("mount-root"), "{:?}", told.names());
    assert!(told.steps.iter().any(|line| line.text.contains("module vfat")), "{:?}", told.names());
}

/// Where nobody is to be asked for any of the keys, their device is not waited for either.
#[test]
fn nobody_waits_for_what_fstab_calls_nofail() {
    let mut known = with_key_of_its_own();
    known.datasets.iter_mut().filter(|d| d.name == "tank/r/var").for_each(|d| d.mountpoint = super::legacy());
    let fstab_of = |line: &str| KnownRoot { fstab: Some(fstab::parse(line.as_bytes())), ..KnownRoot::default() };
    for (options, at) in [("nofail", 300), ("rw", 10_300)] {
        let root = fstab_of(&format!("tank/r/var /var zfs {options} 0 0\n"));
        known.roots.insert("tank/r".to_owned(), root);
        let line = "zfs=tank taproot.key=LABEL=root:/key";
        let told = run(line, &known, &[(300, &tank_is_seen)]);
        assert_eq!((told.booted(), told.at("load-keys")), (true, at), "{options}");
    }
}
