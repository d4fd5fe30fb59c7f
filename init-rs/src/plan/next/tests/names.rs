//! Names that several disks answer to, and the time that devices are waited for.

use super::{Play, boot, comes, holding, labels, machine, run, seen};
use crate::devices::known::{Device, Reading};
use crate::devices::swap::Header;
use crate::plan::failure::Code;
use crate::plan::rehearsal::{Known, KnownRoot, Rehearsal};

/// A device of this name, changed, is there.
fn there(play: &mut Play<'_>, name: &str, kind: &str, change: impl Fn(&mut Device)) {
    comes(play, name, holding(kind));
    if let Some(device) = play.hardware.devices.get_mut(name) {
        device.links.clear();
        change(device);
    }
}

/// Two disks with a partition each, that carry the same.
fn twins(play: &mut Play<'_>) {
    there(play, "sda1", "ext4", |_| {});
    there(play, "sdb1", "ext4", |_| {});
}

#[test]
fn of_two_disks_of_one_name_none_is_guessed() {
    for spec in ["UUID=0a-1b", "LABEL=root", "PARTUUID=aa-01", "PARTLABEL=system", "/dev/disk/by-uuid/0a-1b"] {
        let told = run(&format!("root={spec}"), &machine(), &[(0, &twins)]);
        assert_eq!(told.code(), Some(Code::AmbiguousDevice), "{spec}");
        let failure = told.failure.unwrap();
        assert!(failure.to_string().contains("/dev/sda1 and /dev/sdb1 are both"), "{spec}: {failure}");
        assert!(told.mounts.is_empty());
    }
    let told = run("root=/dev/sdb1", &machine(), &[(0, &twins)]);
    assert!(told.booted(), "{:?}", told.failure);
    // Another root may have a name of its own.
    assert!(run("root=LABEL=root taproot.fallback=/dev/sdb1", &machine(), &[(0, &twins)]).booted());
}

/// Which disk is taken does not depend on which one answers first.
#[test]
fn a_disk_about_to_be_read_may_have_the_name_too() {
    let one = |play: &mut Play<'_>| {
        there(play, "sda1", "ext4", |_| {});
        comes(play, "sdb1", Reading::Waiting);
    };
    let told = run("root=LABEL=root", &machine(), &[(0, &one), (100, &twins)]);
    assert_eq!(told.code(), Some(Code::AmbiguousDevice));
    // One that stays silent holds up nobody for long.
    let told = run("root=LABEL=root", &machine(), &[(0, &one)]);
    assert!(told.booted() && told.at("mount-root") == 300, "{told:?}");
    let told = run("root=LABEL=root taproot.wait=0", &machine(), &[(0, &one)]);
    assert!(told.booted() && told.at("mount-root") == 0, "{told:?}");
}

#[test]
fn one_disk_by_two_paths_is_one_disk() {
    let paths = |play: &mut Play<'_>| {
        for name in ["sda1", "sdb1"] {
            there(play, name, "ext4", |device| device.wwid = Some("naa.5".into()));
        }
    };
    let told = run("root=UUID=0a-1b", &machine(), &[(0, &paths)]);
    assert!(told.booted(), "{:?}", told.failure);
    for change in [
        |device: &mut Device| device.size += 512,
        |device: &mut Device| device.partition.as_mut().unwrap().number = 2,
        |device: &mut Device| device.wwid = Some("naa.6".into()),
    ] {
        let other = |play: &mut Play<'_>| {
            paths(play);
            change(play.hardware.devices.get_mut("sdb1").unwrap());
        };
        assert_eq!(run("root=UUID=0a-1b", &machine(), &[(0, &other)]).code(), Some(Code::AmbiguousDevice));
    }
}

#[test]
fn a_tag_means_no_disk_that_has_partitions() {
    let disk = |play: &mut Play<'_>| {
        there(play, "sda", "iso9660", |device| device.partition = None);
        there(play, "sda1", "iso9660", |device| device.disk = Some("sda".into()));
    };
    for spec in ["UUID=0a-1b", "LABEL=root"] {
        let told = run(&format!("root={spec}"), &machine(), &[(0, &disk)]);
        assert!(told.booted(), "{spec}: {:?}", told.failure);
    }
    let blank = |play: &mut Play<'_>| {
        disk(play);
        play.hardware.devices.get_mut("sda1").unwrap().content = holding("");
    };
    assert_eq!(run("root=LABEL=root", &machine(), &[(0, &blank)]).code(), Some(Code::NoDevice));
    assert!(run("root=/dev/sda", &machine(), &[(0, &blank)]).booted());
}

/// A root with this line in its fstab; the device of the root has no tags of its own.
fn with_line(line: &str, script: &[super::Event<'_>]) -> Rehearsal {
    let fstab = crate::plan::fstab::parse(line.as_bytes());
    let root = KnownRoot { fstab: Some(fstab), ..KnownRoot::default() };
    let known = Known { roots: [("tank/r".to_owned(), root)].into(), ..machine() };
    let pool = |play: &mut Play<'_>| seen(play, labels("tank", 7, 1, 0));
    let script: Vec<super::Event<'_>> = [(0, &pool as _)].into_iter().chain(script.iter().copied()).collect();
    run("zfs=tank", &known, &script)
}

#[test]
fn an_fstab_line_that_means_two_disks_is_left_out() {
    let told = with_line("LABEL=root /usr ext4 defaults 0 0\n", &[(0, &twins)]);
    assert!(told.booted() && told.place("pass-over").is_some(), "{told:?}");
    let remark = told.remarks.iter().find(|remark| remark.contains("would not be mounted on /usr")).unwrap();
    assert!(remark.contains("/dev/sda1 and /dev/sdb1 are both LABEL=root"), "{remark}");
}

/// A line that says the type needs nobody to have read the device.
#[test]
fn an_fstab_device_that_cannot_be_read_is_used_as_the_line_says() {
    let unreadable = |play: &mut Play<'_>| comes(play, "sdb1", Reading::Failed("EIO".into()));
    let told = with_line("/dev/sdb1 /usr ext4 defaults 0 0\n", &[(0, &unreadable)]);
    assert_eq!((told.booted(), told.at("mount")), (true, 0));
    assert!(told.mounts.iter().any(|mount| mount.target == "/usr"));
    let told = with_line("/dev/sdb1 /usr auto defaults 0 0\n", &[(0, &unreadable)]);
    assert_eq!((told.booted(), told.at("pass-over")), (true, 0));
    assert!(told.remarks.iter().any(|remark| remark.contains("cannot be read: EIO")), "{:?}", told.remarks);
}

#[test]
fn an_image_on_one_of_two_disks_is_neither_resumed_nor_discarded() {
    let swaps = |play: &mut Play<'_>| {
        there(play, "sda1", "swap", |_| {});
        there(play, "sdb1", "swap", |_| {});
        play.facts.resume.page =
            Some(("LABEL=root".into(), Ok(Header { image: Some("S1SUSPEND".into()), swap: true })));
        seen(play, labels("usb", 8, 1, 0));
    };
    let mut known = machine();
    known.kernel.resumes = true;
    let told = run("zfs=usb resume=LABEL=root", &known, &[(0, &swaps)]);
    assert_eq!((told.code(), told.place("resume-image"), told.place("import")), (Some(Code::Resume), None, None));
    let told = run("zfs=usb resume=LABEL=root noresume", &known, &[(0, &swaps)]);
    assert_eq!((told.code(), told.place("discard-image"), told.place("import")), (Some(Code::KeptImage), None, None));
}

/// A wait without a limit says so, and has no end that could be reckoned with.
#[test]
fn a_wait_without_a_limit_has_no_end() {
    let mut known = machine();
    for dataset in known.datasets.iter_mut().filter(|d| d.name == "tank/r") {
        (dataset.key_available, dataset.encryption_root) = (Some(true), Some("tank/r".into()));
    }
    let tank = |play: &mut Play<'_>| seen(play, labels("tank", 7, 1, 0));
    let line = "zfs=tank taproot.key=LABEL=root:/key taproot.key_wait=forever";
    let told = run(line, &known, &[(0, &tank)]);
    let wait = &told.steps.iter().find(|line| line.name == "wait").unwrap().text;
    assert_eq!(wait, "wait for LABEL=root with the key file, without end");
    let told = boot("zfs=tank resume=LABEL=root taproot.resume_wait=forever", &known);
    assert_eq!(told.steps.last().unwrap().text, "wait for the resume device LABEL=root, without end");
    // Two of that name: the unlocker says so at once.
    let told = run(line, &known, &[(0, &tank), (0, &twins)]);
    assert_eq!((told.booted(), told.at("load-key")), (true, 0));
}

#[test]
fn the_node_itself_is_stronger_than_a_link() {
    let script = |play: &mut Play<'_>| {
        twins(play);
        play.hardware.devices.get_mut("sda1").unwrap().links = vec!["sdb1".into()];
    };
    assert!(run("root=/dev/sdb1", &machine(), &[(0, &script)]).booted());
}
