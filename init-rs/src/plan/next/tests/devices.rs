//! What stands on a device, and what is done to it: a part of something else is left alone, and so is what cannot be written to.

use super::{Play, comes, device, holding, machine, run};
use crate::devices::known::{Device, Reading, Zfs, ZfsLabel};
use crate::plan::failure::Code;
use crate::plan::fstab::parse;
use crate::plan::rehearsal::{Known, KnownRoot, Rehearsal};
use crate::zfs::label::Label;
use crate::zfs::nvlist::{NvList, Value};

/// A device of a pool, on which the superblock of an older file system can still be seen.
fn member(older: &str, good: [bool; 4]) -> Reading {
    let config: NvList = [("name", Value::text("old")), ("guid", Value::U64(3))].into_iter().collect();
    let Reading::Done(mut content) = holding(older) else { panic!() };
    content.zfs = Zfs::Member(ZfsLabel { label: Label::new(config, 0), good, tail: None });
    Reading::Done(content)
}

fn checked(kinds: &[&str]) -> Known {
    let mut known = machine();
    known.kernel.fsck = kinds.iter().map(|kind| ((*kind).to_owned(), format!("/sbin/fsck.{kind}"))).collect();
    known
}

/// A boot with the device `/dev/vda1`, which holds this.
fn with(line: &str, known: &Known, content: &Reading) -> Rehearsal {
    run(line, known, &[(0, &|play| comes(play, "vda1", content.clone()))])
}

fn type_of(told: &Rehearsal) -> Option<&str> {
    told.mounts.first()?.foreign.as_ref().map(|foreign| foreign.fstype.as_str())
}

#[test]
fn a_member_of_a_pool_is_no_root_whatever_was_on_it_before() {
    for (content, older) in [(member("ext4", [true; 4]), true), (member("", [true; 4]), false)] {
        for words in ["", "rootfstype=ext4"] {
            let told = with(&format!("root=/dev/vda1 {words}"), &checked(&["ext4"]), &content);
            assert_eq!(told.code(), Some(Code::NoFilesystem), "{words}");
            assert!(told.place("check").is_none() && told.mounts.is_empty(), "{:?}", told.names());
            let text = told.failure.unwrap().refusal.problem;
            assert!(text.contains("member of pool old") && text.contains("is older") == older, "{text}");
        }
    }
    // Some of the labels are gone: then they are what is left over.
    let told = with("root=/dev/vda1", &checked(&[]), &member("ext4", [false, true, true, true]));
    assert!(told.booted() && type_of(&told) == Some("ext4"), "{told:?}");
}

#[test]
fn a_tag_does_not_mean_what_was_there_before_the_pool() {
    let both = |play: &mut Play<'_>| {
        comes(play, "vda1", member("ext4", [true; 4]));
        comes(play, "vdb1", holding("ext4"));
    };
    for spec in ["LABEL=root", "UUID=0a-1b"] {
        let told = run(&format!("root={spec}"), &machine(), &[(0, &both)]);
        assert!(told.booted() && type_of(&told) == Some("ext4"), "{spec}: {told:?}");
        let told = with(&format!("root={spec}"), &machine(), &member("ext4", [true; 4]));
        assert_eq!(told.code(), Some(Code::NoDevice), "{spec}");
    }
    let told = with("root=PARTLABEL=system", &machine(), &member("ext4", [true; 4]));
    assert_eq!((told.code(), told.at("fail")), (Some(Code::NoFilesystem), 0));
    // Old swap space is one all the same: there may be a hibernated system only where there is none in use.
    let mut hardware = crate::devices::known::Hardware::default();
    hardware.devices.insert("vda1".to_owned(), device("vda1", member("swap", [true; 4])));
    let wanted = crate::devices::probe::Wanted::parse("UUID=0a-1b").unwrap();
    assert!(hardware.find(&wanted).unwrap().is_some());
}

#[test]
fn what_holds_something_else_is_refused_whatever_type_is_named() {
    for kind in ["LUKS", "linux_raid_member", "LVM2_member", "swap"] {
        let told = with("root=/dev/vda1 rootfstype=ext4", &checked(&["ext4"]), &holding(kind));
        assert_eq!(told.code(), Some(Code::NoFilesystem), "{kind}");
        assert!(told.place("check").is_none() && told.mounts.is_empty(), "{kind}: {:?}", told.names());
        let fstab = Some(parse(b"/dev/vdb1 /usr ext4 defaults 0 0\n"));
        let root = KnownRoot { fstab, ..KnownRoot::default() };
        let known = Known { roots: [("/dev/vda1".to_owned(), root)].into(), ..checked(&["ext4"]) };
        let both = |play: &mut Play<'_>| {
            comes(play, "vda1", holding("xfs"));
            comes(play, "vdb1", holding(kind));
        };
        let told = run("root=/dev/vda1", &known, &[(0, &both)]);
        assert!(told.booted() && told.place("check").is_none(), "{kind}: {told:?}");
        assert_eq!((told.place("pass-over").is_some(), told.place("mount")), (true, None), "{kind}: {told:?}");
    }
}

#[test]
fn no_program_of_another_type_checks_a_file_system() {
    let programs = ["ext4", "ext3", "vfat"];
    for (words, holds, checks) in [
        ("rootfstype=ext4", "xfs", false),
        ("rootfstype=ext3", "ext4", true),
        ("rootfstype=ext4", "", true),
        ("", "vfat", true),
    ] {
        let told = with(&format!("root=/dev/vda1 {words}"), &checked(&programs), &holding(holds));
        assert_eq!(told.place("check").is_some(), checks, "{words} {holds}");
    }
}

#[test]
fn another_root_is_what_it_is() {
    let line = "root=UUID=gone taproot.wait=1 rootfstype=ext4 taproot.fallback=/dev/vda1";
    for holds in ["xfs", "btrfs"] {
        let told = with(line, &checked(&["ext4"]), &holding(holds));
        assert!(told.booted() && told.place("check").is_none(), "{told:?}");
        assert_eq!(type_of(&told), Some(holds));
    }
    let line = "root=UUID=gone taproot.wait=1 rootflags=subvol=@,noatime taproot.fallback=/dev/vda1";
    for (holds, data) in [("ext4", ""), ("btrfs", "subvol=@")] {
        let told = with(line, &machine(), &holding(holds));
        let options = &told.mounts[0].options;
        assert_eq!((options.data.as_str(), options.flags & libc::MS_NOATIME), (data, libc::MS_NOATIME), "{holds}");
    }
}

#[test]
fn what_is_write_protected_is_neither_checked_nor_mounted_for_writing() {
    let there = |play: &mut Play<'_>| {
        for name in ["vda1", "vdb1"] {
            comes(play, name, holding("ext4"));
            play.hardware.devices.get_mut(name).unwrap().read_only = true;
        }
    };
    let root =
        KnownRoot { fstab: Some(parse(b"/dev/vdb1 /usr ext4 defaults,commit=60 0 0\n")), ..KnownRoot::default() };
    let known = Known { roots: [("/dev/vda1".to_owned(), root)].into(), ..checked(&["ext4"]) };
    for words in ["", "rw", "ro", "rootflags=data=ordered"] {
        let told = run(&format!("root=/dev/vda1 {words}"), &known, &[(0, &there)]);
        assert!(told.booted() && told.place("check").is_none() && told.mounts.len() == 2, "{words}: {told:?}");
        for mount in &told.mounts {
            assert_eq!(mount.options.flags & libc::MS_RDONLY, libc::MS_RDONLY, "{words}: {mount:?}");
            assert_eq!(mount.options.data, "noload", "{words}");
        }
    }
    let told = run("root=/dev/vda1 fsck.mode=force", &known, &[(0, &there)]);
    assert!(told.steps.iter().any(|step| step.text.ends_with("/sbin/fsck.ext4 -f -n /dev/vda1")), "{told:?}");
}

#[test]
fn a_drive_without_a_medium_is_waited_for() {
    let empty = |play: &mut Play<'_>| {
        let empty = Device { size: 0, ..device("vda1", Reading::Never) };
        play.hardware.devices.insert(empty.name.clone(), empty);
    };
    let filled = |play: &mut Play<'_>| comes(play, "vda1", holding("ext4"));
    let told = run("root=/dev/vda1 rootfstype=ext4", &machine(), &[(0, &empty), (9000, &filled)]);
    assert!(told.booted() && told.at("mount-root") == 9000, "{told:?}");
    let told = run("root=/dev/vda1 rootfstype=ext4", &machine(), &[(0, &empty)]);
    assert_eq!((told.code(), told.at("fail")), (Some(Code::NoFilesystem), 30_000));
    assert!(told.failure.unwrap().refusal.problem.contains("no medium"));
}
