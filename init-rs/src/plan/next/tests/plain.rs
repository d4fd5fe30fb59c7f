//! Roots on block devices.

use super::{boot, comes, holding, machine, run, tank};
use crate::devices::known::Reading;
use crate::plan::failure::Code;
use crate::plan::fstab::parse;
use crate::plan::rehearsal::{End, Known, KnownRoot};

#[test]
fn by_each_spelling_and_late() {
    for spec in [
        "UUID=0A-1B",
        "LABEL=root",
        "PARTUUID=AA-01",
        "PARTLABEL=system",
        "/dev/vda1",
        "/dev/disk/by-id/ata-disk-part1",
        "/dev/disk/by-uuid/0a-1b",
        "/dev/disk/by-label/root",
        "/dev/disk/by-partuuid/aa-01",
        "/dev/disk/by-partlabel/system",
        "8:1",
    ] {
        let told = run(&format!("root={spec} ro"), &machine(), &[(2000, &|play| comes(play, "vda1", holding("ext4")))]);
        assert!(told.booted(), "{spec}: {:?}", told.failure);
        let steps = [
            "wait",
            "load-module",
            "mount-root",
            "read-fstab",
            "plan-mounts",
            "tell-left-out",
            "find-init",
            "get-ready",
            "hand-over",
        ];
        assert_eq!(told.names(), steps, "{spec}");
        assert_eq!((told.root.as_deref(), told.at("mount-root")), (Some(spec), 2000));
        let foreign = told.mounts[0].foreign.as_ref().unwrap();
        assert_eq!(foreign.fstype, "ext4");
        assert_eq!(told.mounts[0].options.flags & libc::MS_RDONLY, libc::MS_RDONLY);
    }
}

#[test]
fn read_only_if_the_last_word_says_so() {
    for (words, read_only) in [("", false), ("ro", true), ("ro rw", false), ("rw ro", true), ("rootflags=ro", true)] {
        let line = format!("root=/dev/vda1 {words}");
        let told = run(&line, &machine(), &[(0, &|play| comes(play, "vda1", holding("ext4")))]);
        let flags = told.mounts[0].options.flags & libc::MS_RDONLY;
        assert_eq!(flags == libc::MS_RDONLY, read_only, "{line}");
    }
}

#[test]
fn one_that_does_not_come() {
    let told = boot("root=LABEL=root", &machine());
    assert_eq!((told.code(), told.at("fail")), (Some(Code::NoDevice), 30_000));
    let told = boot("root=LABEL=root taproot.fallback=tank/r", &machine());
    assert!(told.booted() && told.root.as_deref() == Some("tank/r"), "{told:?}");
    let told = boot("root=LABEL=root taproot.fallback=bootfs", &machine());
    assert!(told.booted() && told.root.as_deref() == Some("tank/r"), "{told:?}");
    let told = boot("root=LABEL=root rootwait", &machine());
    assert_eq!(told.end, End::NotKnown);
    // One that comes and says nothing is not mounted blindly.
    let silent = |play: &mut super::Play<'_>| comes(play, "vda1", Reading::Waiting);
    let told = run("root=/dev/vda1 rootfstype=ext4", &machine(), &[(100, &silent)]);
    assert_eq!((told.code(), told.at("fail")), (Some(Code::NoFilesystem), 30_000));
    let told = run("root=/dev/vda1", &machine(), &[(100, &|play| comes(play, "vda1", Reading::Failed("EIO".into())))]);
    assert_eq!((told.code(), told.at("fail")), (Some(Code::NoFilesystem), 100));
}

/// The type is what the device holds, within what the words allow.
#[test]
fn the_type() {
    for (line, holds, fstype) in [
        ("root=/dev/vda1", "xfs", Ok("xfs")),
        ("root=/dev/vda1 rootfstype=ext4,xfs", "xfs", Ok("xfs")),
        ("root=/dev/vda1 rootfstype=ext4,btrfs", "xfs", Ok("ext4")),
        ("root=/dev/vda1 rootfstype=auto", "xfs", Ok("xfs")),
        ("root=/dev/vda1 rootfstype=auto,ext4", "", Ok("ext4")),
        ("root=/dev/vda1 rootfstype=minix", "", Ok("minix")),
        ("root=/dev/vda1", "", Err(Code::NoFilesystem)),
        ("root=/dev/vda1", "swap", Err(Code::NoFilesystem)),
        ("root=/dev/vda1", "LUKS", Err(Code::NoFilesystem)),
    ] {
        let told = run(line, &machine(), &[(0, &|play| comes(play, "vda1", holding(holds)))]);
        let found = told.mounts.first().and_then(|m| m.foreign.as_ref()).map(|f| f.fstype.as_str());
        assert_eq!((found, told.code()), (fstype.ok(), fstype.err()), "{line} {holds}");
    }
}

#[test]
fn a_file_system_is_checked_before_it_is_mounted() {
    let mut known = machine();
    known.kernel.fsck.insert("ext4".to_owned(), "/sbin/fsck.ext4".to_owned());
    let there = |play: &mut super::Play<'_>| comes(play, "vda1", holding("ext4"));
    let xfs = |play: &mut super::Play<'_>| comes(play, "vda1", holding("xfs"));
    for (words, args) in [
        ("", Some("-a /dev/vda1")),
        ("fsck.mode=force", Some("-f -a /dev/vda1")),
        ("fsck.repair=yes", Some("-y /dev/vda1")),
        ("fsck.repair=no", Some("-n /dev/vda1")),
        ("fsck.mode=skip", None),
    ] {
        let told = run(&format!("root=/dev/vda1 {words}"), &known, &[(0, &there)]);
        let check = told.steps.iter().find(|line| line.name == "check").map(|line| line.text.as_str());
        assert_eq!(
            check.map(|text| text.ends_with(&format!("/sbin/fsck.ext4 {}", args.unwrap_or_default()))),
            args.map(|_| true)
        );
        assert!(told.booted() && told.place("check") < told.place("mount-root"), "{words}");
    }
    assert!(run("root=/dev/vda1", &known, &[(0, &xfs)]).place("check").is_none());
    // Refused, as by errors that were left; what was repaired counts as good.
    for (result, code) in [(Err("it has errors".to_owned()), Some(Code::Fsck)), (Ok(()), None)] {
        let checked = |play: &mut super::Play<'_>| {
            there(play);
            play.facts.attempt.checked.insert("/dev/vda1".to_owned(), result.clone());
        };
        let told = run("root=/dev/vda1", &known, &[(0, &checked)]);
        assert_eq!((told.code(), told.mounts.is_empty()), (code, code.is_some()));
    }
}

#[test]
fn stops_menu_and_resume_come_before_the_mount() {
    let there = |play: &mut super::Play<'_>| comes(play, "vda1", holding("ext4"));
    let told = run(
        "root=/dev/vda1 break=top,premount,mount,init taproot.menu=5 resume=UUID=5 noresume",
        &machine(),
        &[(0, &there)],
    );
    let before: Vec<&str> = told.names().into_iter().take_while(|name| *name != "mount-root").collect();
    assert!(told.steps.iter().any(|line| line.text.starts_with("stop before the root device is checked")));
    assert_eq!(before, ["stop", "stop", "menu", "stop", "discard-image", "load-module"]);
}

/// Where pools are imported read-only, nothing is written to other disks either.
#[test]
fn with_a_read_only_import_nothing_is_written_to_devices() {
    let mut known = machine();
    known.kernel.fsck.insert("ext4".to_owned(), "/sbin/fsck.ext4".to_owned());
    let fstab = crate::plan::fstab::parse(b"/dev/vdb1 /usr ext4 rw 0 0\ntmp /etc tmpfs rw,x-initrd.mount 0 0\n");
    let root = crate::plan::rehearsal::KnownRoot { fstab: Some(fstab), ..Default::default() };
    known.roots.insert("/dev/vda1".to_owned(), root);
    let there = |play: &mut super::Play<'_>| {
        comes(play, "vda1", holding("ext4"));
        comes(play, "vdb1", holding("ext4"));
    };
    let told = run("root=/dev/vda1 rw taproot.import=ro", &known, &[(0, &there)]);
    assert!(told.booted() && told.place("check").is_none(), "{:?}", told.names());
    for mount in told.mounts.iter().filter(|mount| mount.target != "/etc") {
        assert_ne!(mount.options.flags & libc::MS_RDONLY, 0, "{mount:?}");
        assert!(mount.options.data.contains("noload"), "{mount:?}");
    }
    let tmp = told.mounts.iter().find(|mount| mount.target == "/etc").unwrap();
    assert_eq!(tmp.options.flags & libc::MS_RDONLY, 0);
    let told = run("root=/dev/vda1 taproot.import=ro fsck.mode=force fsck.repair=yes", &known, &[(0, &there)]);
    let check = told.steps.iter().find(|line| line.name == "check").unwrap();
    assert!(check.text.ends_with("-f -n /dev/vda1"), "{}", check.text);
    let told = run("root=/dev/vda1", &known, &[(0, &there)]);
    assert!(told.mounts.iter().all(|mount| mount.options.flags & libc::MS_RDONLY == 0), "{:?}", told.mounts);
}

/// `x-systemd.device-timeout=` means what it means to systemd.
#[test]
fn a_device_of_fstab_is_awaited_as_long_as_its_line_says() {
    let usr = |options: &str, at: u64| {
        let line = format!("/dev/vdb /usr ext4 {options}\n");
        let root = KnownRoot { fstab: Some(parse(line.as_bytes())), init: Some("/x".into()), ..KnownRoot::default() };
        let known = Known { roots: [("/dev/vda1".to_owned(), root)].into(), ..machine() };
        let root = |play: &mut super::Play<'_>| comes(play, "vda1", holding("ext4"));
        let late = |play: &mut super::Play<'_>| comes(play, "vdb", holding("ext4"));
        let told = run("root=/dev/vda1", &known, &[(0, &root), (at, &late)]);
        assert!(told.booted(), "{options}: {told:?}");
        (told.place("mount").is_some(), told.at("hand-over"))
    };
    assert_eq!(usr("ro", 9000), (true, 9000));
    assert_eq!(usr("ro", 11_000), (false, 10_000));
    assert_eq!(usr("x-systemd.device-timeout=1min30s", 89_000), (true, 89_000));
    assert_eq!(usr("x-systemd.device-timeout=500ms", 9000), (false, 500));
    assert_eq!(usr("x-systemd.device-timeout=0", 700_000), (true, 700_000));
    assert_eq!(usr("x-systemd.device-timeout=infinity", 700_000), (true, 700_000));
    assert_eq!(usr("nofail,x-systemd.device-timeout=infinity", 700_000), (false, 0));
}

/// Where nothing is known of devices, a root is taken to be there.
#[test]
fn without_devices_the_root_is_assumed() {
    let told = boot("root=UUID=0a-1b", &tank());
    assert!(told.booted() && told.names().starts_with(&["wait", "pretend"]), "{:?}", told.names());
    assert!(
        told.remarks.iter().any(|remark| remark.contains("the type of the file system on UUID=0a-1b is not known"))
    );
    assert!(told.remarks.iter().any(|remark| remark.contains("fstab of UUID=0a-1b is not known")));
    let root = KnownRoot {
        fstab: Some(parse(b"LABEL=usr /usr ext4 defaults 0 0\n")),
        init: Some("/bin/other".to_owned()),
        fstype: Some("btrfs".to_owned()),
        ..Default::default()
    };
    let known = Known { roots: [("UUID=0a-1b".to_owned(), root)].into(), ..tank() };
    let told = boot("root=UUID=0a-1b", &known);
    let targets: Vec<&str> = told.mounts.iter().map(|m| m.target.as_str()).collect();
    assert_eq!((targets, told.init.as_deref()), (vec!["/", "/usr"], Some("/bin/other")));
    assert!(told.remarks.is_empty(), "{:?}", told.remarks);
}

/// A word that names a root on ZFS wins over a block device in `root=`, and switches name none.
#[test]
fn a_device_beside_a_root_on_zfs() {
    for line in [
        "root=UUID=0a-1b bootfs=tank/r",
        "root=/dev/vda1 rpool=tank",
        "root=LABEL=root zfs=tank",
        "root=PARTUUID=aa-01 real_root=ZFS=tank/r",
        "root=/dev/vda1 rootfstype=ext4 zfs=bootfs",
    ] {
        let told = boot(line, &tank());
        assert!(told.booted() && told.root.as_deref() == Some("tank/r"), "{line}: {told:?}");
    }
    for line in ["root=UUID=0a-1b zfs=off", "root=UUID=0a-1b zfs=on dozfs", "root=UUID=0a-1b zfs_force=1"] {
        let told = boot(line, &tank());
        assert!(told.booted() && told.root.as_deref() == Some("UUID=0a-1b"), "{line}: {told:?}");
    }
}
