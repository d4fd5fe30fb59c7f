//! Roots that are no datasets: every type of file system, on a whole disk and in a partition, by every way to name them; checked
//! first, waited for, with `/usr` elsewhere, and as fallbacks of each other and of datasets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use taproot_tests::image;
use taproot_tests::kit::System;
use taproot_tests::plain::{
    self, ALL, BTRFS, EROFS, EXT4, F2FS, ISO9660, Plain, SQUASHFS, VFAT, XFS, damaged, is_clean,
};
use taproot_tests::scenario::{dataset_at, explained_failure};
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::{Bus, Disk, Mount, Report, Scratch, Vm};
use taproot_tests::words::PROMPT;

/// A machine with the image that has every file system.
fn vm(name: &str, system: &System, cmdline: &str) -> anyhow::Result<Vm> {
    Ok(Vm::new(name, system, &image::plain(system)?).append(cmdline).warm())
}

/// Boots with these disks; gives the report.
fn boot(name: &str, system: &System, disks: Vec<Disk>, cmdline: &str) -> Report {
    let mut vm = vm(&format!("plain-{name}"), system, cmdline).unwrap().disks(disks).start().unwrap();
    let report = vm.report(40).unwrap();
    vm.wait_exit(20).unwrap();
    report
}

fn at(report: &Report, point: &str) -> Mount {
    report.mounts().into_iter().rev().find(|m| m.point == point).unwrap_or_else(|| panic!("nothing is on {point}"))
}

fn has(mount: &Mount, option: &str) -> bool {
    mount.options.iter().chain(&mount.super_options).any(|o| o == option)
}

/// Boots the root of one type by this name, and checks that it is it.
fn boots(root: Plain, system: &System, disk: Disk, name: &str, words: &str) -> Report {
    let shown: String = name.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    let report = boot(&format!("{}-{shown}", root.kind), system, vec![disk], &format!("root={name} {words}"));
    assert_eq!(report.hostname(), root.kind);
    assert_eq!(report.one("PID"), "1");
    assert_eq!(at(&report, "/").kind, root.kind);
    for (point, kind) in [("/dev", "devtmpfs"), ("/proc", "proc"), ("/sys", "sysfs"), ("/run", "tmpfs")] {
        assert_eq!(at(&report, point).kind, kind, "{point}");
    }
    let json = report.json.as_ref().expect("boot.json");
    assert_eq!(json["root"], name);
    report
}

/// On the whole disk by one name, and in a partition by another.
fn both(root: Plain, system: &System, whole: &str, partition: &str, words: &str) {
    let scratch = Scratch::new().unwrap();
    let report = boots(root, system, root.disk(&scratch).unwrap(), whole, words);
    assert_eq!(at(&report, "/").source, "/dev/vda");
    let scratch = Scratch::new().unwrap();
    let report = boots(root, system, root.partitioned(&scratch).unwrap(), partition, words);
    assert_eq!(at(&report, "/").source, "/dev/vda1");
}

/// A disk with a btrfs whose root lies in the subvolume `@root` alone.
fn with_subvolume(system: &System, scratch: &Scratch) -> Disk {
    let disk = BTRFS.disk(scratch).unwrap();
    // BTRFS_IOC_SUBVOL_CREATE with struct btrfs_ioctl_vol_args (include/uapi/linux/btrfs.h).
    let script = r#"set -e
        modprobe btrfs; mkdir -p /run/b; mount -t btrfs /dev/disk/by-id/virtio-plain0 /run/b
        perl -e 'open(my $d, "<", "/run/b") or die "open: $!"; my $args = pack("q<Z4088", 0, "\@root"); ioctl($d, 0x5000940e, $args) or die "ioctl: $!"'
        for part in dev proc sys run tmp etc home sbin mnt usr; do cp -a /run/b/$part /run/b/@root/; rm -r /run/b/$part; done
        umount /run/b; echo done"#;
    let mut vm = Vm::helper("plain-subvolume", system, script).disk(disk.clone()).start().unwrap();
    assert!(vm.script(60).unwrap().contains("done"));
    vm.wait_exit(20).unwrap();
    disk
}

/// Boots from an ext4; whether systemd is told that it was checked, by a file on the `/run` that moves along.
fn told_checked(system: &System, disk: &Disk, words: &str) -> bool {
    let cmdline = format!("root={} {words} taproot.break=handover", EXT4.by_label());
    let mut vm = vm("plain-checked", system, &cmdline).unwrap().disk(disk.clone()).start().unwrap();
    vm.expect("stopped before the hand-over", 60).unwrap();
    vm.expect(PROMPT, 20).unwrap();
    vm.type_line("ls /run/initramfs").unwrap();
    let begin = vm.console.cursor();
    vm.expect(PROMPT, 20).unwrap();
    let told = vm.console.unmixed(begin..vm.console.cursor()).contains("fsck-root");
    vm.type_line("continue").unwrap();
    assert_eq!(vm.report(40).unwrap().hostname(), EXT4.kind);
    vm.wait_exit(20).unwrap();
    told
}

scenarios_on_newest! {
    fn ext4(system) {
        both(EXT4, system, &EXT4.by_uuid(), &EXT4.by_partlabel(), "");
    }

    fn xfs(system) {
        both(XFS, system, &XFS.by_label(), &XFS.by_partuuid(), "");
    }

    fn btrfs(system) {
        both(BTRFS, system, "/dev/vda", &BTRFS.by_uuid(), "");
    }

    fn f2fs(system) {
        both(F2FS, system, &F2FS.by_uuid(), &F2FS.by_label(), "");
    }

    fn vfat(system) {
        both(VFAT, system, &VFAT.by_label(), &VFAT.by_uuid(), "");
    }

    fn squashfs(system) {
        both(SQUASHFS, system, "/dev/vda", &SQUASHFS.by_partuuid(), "rootfstype=squashfs");
    }

    fn erofs(system) {
        both(EROFS, system, &EROFS.by_uuid(), &EROFS.by_partlabel(), "");
    }

    fn iso9660(system) {
        both(ISO9660, system, &ISO9660.by_label(), &ISO9660.by_uuid(), "");
    }

    /// udev's links, which nobody makes here: those by what the kernel says of a disk. The others are those of `UUID=` and so on.
    fn names_below_dev_disk(system) {
        for name in ["by-id/virtio-plain0-part1", "by-path/pci-0000:00:02.0-part1"] {
            let scratch = Scratch::new().unwrap();
            boots(EXT4, system, EXT4.partitioned(&scratch).unwrap(), &format!("/dev/disk/{name}"), "");
        }
    }

    /// `rw` if nothing is said; what is said counts, and `rootflags=` reaches the kernel.
    fn read_only_and_other_options(system) {
        for (words, option) in [("", "rw"), ("ro", "ro"), ("rootflags=noatime,data=writeback", "noatime")] {
            let scratch = Scratch::new().unwrap();
            let report = boots(EXT4, system, EXT4.disk(&scratch).unwrap(), &EXT4.by_label(), words);
            assert!(has(&at(&report, "/"), option), "{words:?}: {:?}", at(&report, "/"));
        }
    }

    /// Nobody has to say `ro` of what cannot be written to; it is not checked either, which would be refused.
    fn write_protected(system) {
        let scratch = Scratch::new().unwrap();
        for (root, words) in [(EXT4, "rw"), (XFS, "")] {
            let disk = Disk { read_only: true, ..root.disk(&scratch).unwrap() };
            let report = boots(root, system, disk, &root.by_uuid(), words);
            assert!(has(&at(&report, "/"), "ro"), "{:?}", at(&report, "/"));
            let problems = report.json.as_ref().unwrap()["problems"].to_string();
            assert!(problems.contains("write-protected, so root"), "{problems}");
        }
    }

    /// ZFS leaves the first 8 KiB of a disk as they were: what was there does not count, and nothing is written over the pool.
    fn a_file_system_from_before_the_pool(system) {
        let scratch = Scratch::new().unwrap();
        let disk = scratch.overlay(system, "tank0").unwrap();
        let script = "set -e\ntruncate -s 64M /run/old\nmkfs.ext4 -q -L before /run/old\n\
            dd if=/run/old of=/dev/disk/by-id/virtio-tank0-part1 bs=4k count=2 conv=notrunc,fsync status=none\necho done";
        let mut helper = Vm::helper("plain-before", system, script).disk(disk.clone()).start().unwrap();
        assert!(helper.script(60).unwrap().contains("done"));
        helper.wait_exit(20).unwrap();
        for (root, says) in [
            ("LABEL=before", "did not appear within 2 s"),
            ("/dev/vda1 rootfstype=ext4", "it is a member of pool tank, and the ext4 on it is older"),
        ] {
            let words = format!("root={root} taproot.wait=2");
            let vm = vm("plain-member", system, &words).unwrap().disk(disk.clone()).start().unwrap();
            let text = explained_failure(&vm, 40).unwrap();
            for part in [says, "/dev/vda1: ", "a member of pool tank, ext4, LABEL=before"] {
                assert!(text.contains(part), "{part:?} is not in the explanation:\n{text}");
            }
            vm.type_line("boot tank/ROOT/be1").unwrap();
            assert_eq!(at(&vm.report(60).unwrap(), "/").source, "tank/ROOT/be1");
        }
    }

    /// A list of types is one to choose from; a wrong type is explained.
    fn type_of_the_file_system(system) {
        let scratch = Scratch::new().unwrap();
        boots(XFS, system, XFS.disk(&scratch).unwrap(), &XFS.by_uuid(), "rootfstype=ext4,xfs");
        let disk = Scratch::new().unwrap();
        let words = format!("root={} rootfstype=btrfs", XFS.by_uuid());
        let vm = vm("plain-wrong-type", system, &words).unwrap().disk(XFS.disk(&disk).unwrap()).start().unwrap();
        let text = explained_failure(&vm, 40).unwrap();
        assert!(text.contains("could not be mounted") && text.contains(&XFS.by_uuid()), "{text}");
    }

    fn subvolume_of_a_btrfs(system) {
        let scratch = Scratch::new().unwrap();
        let disk = with_subvolume(system, &scratch);
        let report = boots(BTRFS, system, disk.clone(), &BTRFS.by_uuid(), "rootflags=subvol=@root");
        assert!(has(&at(&report, "/"), "subvol=/@root"), "{:?}", at(&report, "/"));
        // Without it there is nothing to boot.
        let words = format!("root={}", BTRFS.by_uuid());
        let vm = vm("plain-no-subvolume", system, &words).unwrap().disk(disk).start().unwrap();
        let text = explained_failure(&vm, 40).unwrap();
        assert!(text.contains("/sbin/init"), "{text}");
    }

    /// Waited for by name, with a line that says so, only as long as needed.
    fn a_disk_that_comes_late(system) {
        let scratch = Scratch::new().unwrap();
        let cmdline = format!("root={} rootdelay=300", EXT4.by_label());
        let mut vm = vm("plain-late", system, &cmdline).unwrap().start().unwrap();
        vm.expect("the root device LABEL=PEXT4", 60).unwrap();
        vm.plug(&EXT4.partitioned(&scratch).unwrap()).unwrap();
        assert_eq!(vm.report(40).unwrap().hostname(), "ext4");
    }

    /// It did not come: the explanation names it and what is there. Then it is plugged in, and `retry` boots.
    fn a_missing_disk_is_explained_and_retried(system) {
        let scratch = Scratch::new().unwrap();
        let cmdline = format!("root={} taproot.wait=2", EXT4.by_uuid());
        let mut vm = vm("plain-missing", system, &cmdline).unwrap()
            .disk(scratch.overlay_image(&plain::image(VFAT.kind).unwrap(), "other").unwrap()).start().unwrap();
        let text = explained_failure(&vm, 40).unwrap();
        for part in [&EXT4.by_uuid(), "did not appear within 2 s", "/dev/vda", "vfat", "LABEL=PVFAT"] {
            assert!(text.contains(part), "{part:?} is not in the explanation:\n{text}");
        }
        vm.plug_in(&EXT4.disk(&scratch).unwrap()).unwrap();
        vm.type_line("retry").unwrap();
        assert_eq!(vm.report(40).unwrap().hostname(), "ext4");
    }

    /// Swap is no root.
    fn a_device_that_holds_no_root_is_explained(system) {
        let scratch = Scratch::new().unwrap();
        let vm = vm("plain-swap", system, "root=LABEL=hib taproot.wait=2").unwrap()
            .disk(scratch.overlay(system, "hib0").unwrap()).start().unwrap();
        let text = explained_failure(&vm, 40).unwrap();
        assert!(text.contains("LABEL=hib") && text.contains("swap"), "{text}");
    }

    /// A file system that was not unmounted is checked before it is mounted, even read-only, and systemd told so; `fsck.mode=skip` leaves it.
    fn a_check_repairs(system) {
        let scratch = Scratch::new().unwrap();
        let disk = damaged(&scratch, &["set_super_value state 0", "freei /home"]).unwrap();
        assert!(!is_clean(&disk).unwrap());
        assert!(!told_checked(system, &disk, "ro fsck.mode=skip"));
        assert!(!is_clean(&disk).unwrap(), "it was checked");
        assert!(told_checked(system, &disk, "ro"));
        assert!(is_clean(&disk).unwrap(), "it was not checked");
    }

    /// What the check does not repair by itself is not mounted; the words that the explanation names help.
    fn a_check_that_fails(system) {
        let scratch = Scratch::new().unwrap();
        let disk = damaged(&scratch, &["set_super_value state 2", "clri /usr"]).unwrap();
        let cmdline = format!("root={} ro", EXT4.by_label());
        let vm = vm("plain-fsck-fails", system, &cmdline).unwrap().disk(disk.clone()).start().unwrap();
        let text = explained_failure(&vm, 60).unwrap();
        for part in ["LABEL=PEXT4 was not mounted", "fsck.repair=yes", "fsck.mode=skip"] {
            assert!(text.contains(part), "{part:?} is not in the explanation:\n{text}");
        }
        vm.type_line("status").unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.kill().unwrap();
        assert!(!is_clean(&disk).unwrap());
        boots(EXT4, system, disk.clone(), &EXT4.by_label(), "ro fsck.repair=yes");
        assert!(is_clean(&disk).unwrap());
    }

    fn from_usb_and_nvme(system) {
        for (root, bus, source) in [(EXT4, Bus::Usb, "/dev/sda1"), (XFS, Bus::Nvme, "/dev/nvme0n1p1")] {
            let scratch = Scratch::new().unwrap();
            let disk = root.partitioned(&scratch).unwrap().on(bus);
            let report = boots(root, system, disk, &root.by_partuuid(), "");
            assert_eq!(at(&report, "/").source, source);
        }
    }

    /// The init lies on `/usr`, which the root's own fstab names.
    fn usr_from_fstab(system) {
        let scratch = Scratch::new().unwrap();
        let disks = ["split", "usr"].map(|name| scratch.overlay_image(&plain::image(name).unwrap(), name).unwrap());
        let report = boot("usr", system, disks.into(), "root=LABEL=PSPLIT");
        assert_eq!(report.hostname(), "split");
        assert_eq!(report.one("EXE"), "/usr/sbin/init");
        let usr = at(&report, "/usr");
        assert!(usr.kind == "ext4" && has(&usr, "nodev"), "{usr:?}");
    }

    /// From a plain root to a dataset, for which zfs starts only then, and the other way; the record says what failed.
    fn fallbacks_between_plain_roots_and_datasets(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["mirror0", "mirror1"]).unwrap();
        let cmdline = format!("root={} taproot.wait=2 taproot.fallback=pmirror/ROOT/default", EXT4.by_label());
        // From the prompt on zfs would be there.
        let mut vm = vm("plain-fallback-dataset", system, &cmdline).unwrap().cold().disks(disks).start().unwrap();
        let report = vm.report(120).unwrap();
        vm.wait_exit(20).unwrap();
        assert_eq!(dataset_at(&report, "/").as_deref(), Some("pmirror/ROOT/default"));
        assert!(report.json.unwrap()["problems"].to_string().contains(&EXT4.by_label()));

        let scratch = Scratch::new().unwrap();
        let disks = vec![scratch.overlay(system, "stripe0").unwrap(), scratch.overlay(system, "stripe1").unwrap(), EXT4.disk(&scratch).unwrap()];
        let cmdline = format!("root=ZFS=pstripe/ROOT/typo taproot.fallback={}", EXT4.by_label());
        let report = boot("fallback-plain", system, disks, &cmdline);
        assert_eq!(report.hostname(), "ext4");
        assert!(report.json.unwrap()["problems"].to_string().contains("pstripe/ROOT/typo"));
    }

    /// Nothing of a pool is imported for a root that is none; its disks are not written to.
    fn pools_beside_a_plain_root_are_left_alone(system) {
        let scratch = Scratch::new().unwrap();
        let other = scratch.overlay(system, "nobootfs0").unwrap();
        let report = boot("beside", system, vec![other.clone(), EXT4.disk(&scratch).unwrap()], &format!("root={}", EXT4.by_uuid()));
        assert_eq!(report.hostname(), "ext4");
        assert!(scratch.untouched(&other).unwrap(), "the pool was written to");
    }

    /// The words of the prompt do for a plain root what they do for a dataset.
    fn rescue_of_a_plain_root(system) {
        let scratch = Scratch::new().unwrap();
        let cmdline = format!("root={} taproot.break=mount", EXT4.by_label());
        let mut vm = vm("plain-rescue", system, &cmdline).unwrap().disk(EXT4.partitioned(&scratch).unwrap()).start().unwrap();
        vm.expect("stopped before anything is mounted", 60).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        for (word, part) in [("status", "LABEL=PEXT4"), ("devices", "ext4"), ("pools", "")] {
            let begin = vm.console.cursor();
            vm.type_line(word).unwrap();
            vm.expect(PROMPT, 20).unwrap();
            let said = vm.console.unmixed(begin..vm.console.cursor());
            assert!(said.contains(part), "{word}: {part:?} is not in\n{said}");
        }
        vm.type_line("continue").unwrap();
        assert_eq!(vm.report(40).unwrap().hostname(), "ext4");
        vm.wait_exit(20).unwrap();
    }
}

/// Premise of the above: what the kit made can be mounted by the kit's kernels, and holds what it should.
mod premise {
    use super::*;

    scenarios_on_newest! {
        fn plain_roots_of_the_kit(system) {
            let scratch = Scratch::new().unwrap();
            let disks: Vec<Disk> = ALL.iter().map(|root| {
                let image = plain::image(&format!("{}-gpt", root.kind)).unwrap();
                Disk { serial: root.kind.to_owned(), ..scratch.overlay_image(&image, root.kind).unwrap() }
            }).collect();
            let kinds: Vec<&str> = ALL.iter().map(|root| root.kind).collect();
            let script = format!("set -e; mkdir -p /run/m; modprobe -a nls_cp437 nls_ascii; for type in {}; do modprobe $type\n\
                mount -t $type /dev/disk/by-id/virtio-$type-part1 /run/m\n\
                test -x /run/m/sbin/init && test -d /run/m/proc && echo \"$type holds $(cat /run/m/etc/hostname)\"; umount /run/m; done", kinds.join(" "));
            let mut vm = Vm::helper("plain-premise", system, &script).disks(disks).start().unwrap();
            let said = vm.script(60).unwrap();
            vm.wait_exit(20).unwrap();
            for kind in kinds {
                assert!(said.contains(&format!("{kind} holds {kind}\n")), "{kind}: {said}");
            }
        }
    }
}
