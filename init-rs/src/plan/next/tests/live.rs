//! Live media. What is on them is pretended; the simulation looks into them.

use super::{boot, changed, comes, device, holding, machine, run};
use crate::plan::failure::Code;
use crate::plan::rehearsal::Play;
use std::time::Duration;

/// A whole disk that begins as its first partition does.
fn whole(play: &mut Play<'_>) {
    let mut disk = device("sdb", holding("iso9660"));
    (disk.partition, disk.since) = (None, play.now);
    play.hardware.devices.insert(disk.name.clone(), disk);
    changed(play);
}

fn part(play: &mut Play<'_>) {
    let mut part = device("sdb1", holding("iso9660"));
    (part.disk, part.since) = (Some("sdb".to_owned()), play.now);
    play.hardware.devices.insert(part.name.clone(), part);
    changed(play);
}

#[test]
fn steps_in_order() {
    let told = run("root=LABEL=root boot=live", &machine(), &[(2000, &|play| comes(play, "sdb1", holding("iso9660")))]);
    assert!(told.booted(), "{:?}", told.failure);
    let order =
        ["wait", "look-into", "mount-part", "list-images", "find-layers", "mount-layer", "make-upper", "mount-overlay"];
    let at: Vec<Option<usize>> = order.iter().map(|name| told.place(name)).collect();
    assert!(at.is_sorted() && at.iter().all(Option::is_some), "{:?}", told.names());
    assert_eq!(told.root.as_deref(), Some("layers filesystem.squashfs on LABEL=root"));
    assert_eq!((told.mounts[0].target.as_str(), told.mounts[0].options.flags), ("/run/taproot/base", libc::MS_RDONLY));
    assert_eq!(told.mounts[1].foreign.as_ref().unwrap().fstype, "tmpfs");
}

/// The disk's partitions are told of a moment after the disk.
#[test]
fn a_disk_is_not_taken_before_its_partitions_can_be_known() {
    for line in ["root=LABEL=root boot=live", "boot=live"] {
        let told = run(line, &machine(), &[(1000, &whole), (1100, &part)]);
        assert!(
            told.booted()
                && told.mounts[0].dataset.contains(if line.contains("LABEL") { "LABEL=root" } else { "sdb1" })
        );
        assert!(told.steps.iter().all(|step| step.name != "look-into" || step.text.contains("/dev/sdb1")), "{line}");
        let told = run(line, &machine(), &[(1000, &whole)]);
        assert!(told.booted() && told.at("look-into") == 1300, "one without partitions is a medium as well");
    }
    // One that is named itself is attached as a file is, so that its partitions can be mounted.
    let told = run("boot=live live-media=/dev/sdb", &machine(), &[(1000, &whole), (1000, &part)]);
    assert!(told.booted() && told.steps.iter().any(|step| step.name == "load-module" && step.text.contains("loop")));
}

#[test]
fn an_iso_file_is_mounted_after_what_it_is_on() {
    let told = run("boot=live findiso=/my/l.iso", &machine(), &[(0, &|play| comes(play, "sda1", holding("exfat")))]);
    assert!(told.booted(), "{:?}", told.failure);
    let mounts: Vec<&str> = told.mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(mounts[..3], ["/run/taproot/medium-host", "/run/taproot/base", "/run/taproot/upper"]);
    assert_eq!(told.root.as_deref(), Some("layers filesystem.squashfs on my/l.iso on /dev/sda1"));
}

#[test]
fn one_that_does_not_come() {
    let told = boot("boot=live live-media-timeout=7", &machine());
    assert_eq!((told.code(), told.at("fail")), (Some(Code::NoDevice), 7000));
    let failure = told.failure.unwrap().to_string();
    assert!(failure.contains("no live medium was found within 7 s (boot=live)"), "{failure}");
    let told = boot("boot=live taproot.fallback=tank/r", &machine());
    assert!(told.booted() && told.root.as_deref() == Some("tank/r"), "{told:?}");
    // Only disks of the kind that was asked for count.
    let told = run("boot=live live-media=removable", &machine(), &[(0, &|play| comes(play, "sda1", holding("ext4")))]);
    assert_eq!(told.code(), Some(Code::NoDevice));
    let usb = |play: &mut Play<'_>| {
        let mut stick = device("sdb1", holding("ext4"));
        stick.links.push("by-id/usb-Stick_1-0:0-part1".to_owned());
        stick.since = Duration::ZERO;
        play.hardware.devices.insert(stick.name.clone(), stick);
        changed(play);
    };
    assert!(run("boot=live live-media=removable", &machine(), &[(0, &usb)]).booted());
}
