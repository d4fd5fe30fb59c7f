//! What this machine's root pool lies on, and whether a boot would find it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::preflight::Remarks;
use taproot_init::devices::block;
use taproot_init::image::ExpectedPool;
use taproot_init::sys::linux::Linux;
use taproot_init::zfs::ioctl::Zfs;
use taproot_init::zfs::label::{PoolState, read_labels};
use taproot_init::zfs::nvlist::NvList;

/// The guid by which the kernel knows an imported pool.
pub fn imported_guid(name: &str) -> Option<u64> {
    let system = Linux::new();
    let pools = Zfs::new(&system).imported_pools().ok()?;
    pools.into_iter().find(|(known, guid)| known == name && *guid != 0).map(|(_, guid)| guid)
}

/// The vdevs of an imported pool.
pub fn vdevs(name: &str) -> Option<NvList> {
    let system = Linux::new();
    Zfs::new(&system).pool_stats(name).ok()?.list("vdev_tree").cloned()
}

/// A disk or partition with the label of a pool in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// The kernel's name.
    pub device: String,
    /// A path that stays.
    pub path: String,
    /// Guid of the pool.
    pub pool: u64,
    /// Guid of the vdev.
    pub vdev: u64,
    /// What makes the device up of others, in words; `None` for a disk or partition.
    pub made_by: Option<&'static str>,
}

/// The disks and partitions whose labels say that they belong to a pool in use that has this name.
pub fn members(sys: &Path, dev: &Path, name: &str) -> Vec<Member> {
    let mut members = Vec::new();
    for device in block::enumerate(sys, dev).devices {
        let Ok(file) = File::open(&device.node) else { continue };
        let mut read = |offset: u64, buffer: &mut [u8]| file.read_exact_at(buffer, offset);
        let Ok(label) = read_labels(&mut read, device.size_bytes) else { continue };
        if label.state() == PoolState::Active && label.pool_name().as_deref() == Some(name) {
            members.push(Member {
                path: stable_path(dev, &device.node).to_string_lossy().into_owned(),
                pool: label.pool_guid().unwrap_or(0),
                vdev: label.guid().unwrap_or(0),
                made_by: made_by(sys, &device.name),
                device: device.name,
            });
        }
    }
    members
}

/// What a boot would have to set up before a device exists: device mapper says it by the beginning of its uuid.
pub fn made_by(sys: &Path, name: &str) -> Option<&'static str> {
    let real = sys.join("class/block").join(name).canonicalize().ok()?;
    let disk = if real.join("partition").exists() { real.parent()? } else { &real };
    if disk.join("md").exists() {
        return Some("md (software RAID)");
    }
    let Ok(uuid) = fs::read_to_string(disk.join("dm/uuid")) else { return elsewhere(sys, disk) };
    // A partition of such a device is one itself: part1-mpath-...
    let kind = uuid.trim().trim_start_matches("part").trim_start_matches(|c: char| c.is_ascii_digit());
    let kind = kind.trim_start_matches('-');
    Some(match kind.split('-').next() {
        Some("CRYPT") => "LUKS or another encryption of device mapper",
        Some("LVM") => "LVM",
        // Each path to the disk has its label, and one of them is enough.
        Some("mpath") => return None,
        Some("DMRAID") => "firmware RAID",
        _ => "device mapper",
    })
}

/// Devices without device mapper that are no disk of this machine. NVMe disks of several paths lie below
/// `devices/virtual/nvme-subsystem`, and are none of these.
fn elsewhere(sys: &Path, disk: &Path) -> Option<&'static str> {
    let sys = sys.canonicalize().ok()?;
    let below = disk.strip_prefix(sys.join("devices")).ok()?;
    let parts: Vec<&str> = below.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        ["virtual", "block", name] => Some(match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "loop" => "a file (loop)",
            "bcache" => "bcache",
            "drbd" => "DRBD",
            "nbd" | "rbd" => "a network",
            "zd" => "a zvol",
            _ => "the kernel, out of something else",
        }),
        ["virtual", "nvme-fabrics", ..] => Some("NVMe over a network"),
        parts => {
            let session = |part: &&str| part.strip_prefix("session").is_some_and(|n| n.parse::<u32>().is_ok());
            parts.iter().any(session).then_some("iSCSI")
        }
    }
}

/// The pool as an image expects it, and its disks. `imported`: its guid, if the kernel told it; without, disks of two pools
/// of one name (another machine's disk is attached) give none, because an image takes what it expects for its own.
pub fn expected(name: &str, members: &[Member], imported: Option<u64>) -> Result<(ExpectedPool, Vec<Member>), String> {
    let guids: BTreeSet<u64> = members.iter().map(|member| member.pool).collect();
    let guid = match (imported, guids.len()) {
        (Some(guid), _) if guids.contains(&guid) => guid,
        (None, 1) => guids.first().copied().unwrap_or(0),
        (None, 2..) => {
            let list: Vec<String> = guids.iter().map(ToString::to_string).collect();
            return Err(format!("several pools on the disks are called {name} (guids {})", list.join(", ")));
        }
        _ => {
            let needed = "no label of it could be read; run as root, in a chroot with the machine's /dev and /sys";
            return Err(needed.to_owned());
        }
    };
    let own: Vec<Member> = members.iter().filter(|member| member.pool == guid).cloned().collect();
    let vdevs = own.iter().map(|member| member.path.clone()).collect();
    Ok((ExpectedPool { name: name.to_owned(), guid, vdevs }, own))
}

/// What a boot would not get of a pool whose vdevs are `tree`: why it could not boot, and what it would go without.
pub fn trouble(name: &str, own: &[Member], tree: Option<&NvList>) -> Remarks {
    let found: BTreeSet<u64> = own.iter().filter(|member| member.made_by.is_none()).map(|member| member.vdev).collect();
    let tops = tree.and_then(|tree| tree.lists("children")).unwrap_or_default();
    let data = tops.iter().filter(|top| top.u64("is_log").is_none_or(|log| log == 0));
    let lacking: Vec<_> = data.filter(|top| !readable(top, &found)).collect();
    let made = own.iter().filter_map(|member| {
        let by = member.made_by?;
        Some(format!(
            "vdev {} of the root pool {name} is made by {by}, which taproot-init does not set up",
            member.device
        ))
    });
    if tree.is_some() && lacking.is_empty() {
        let notes = made.map(|made| format!("{made}: the pool is imported without it"));
        return Remarks { notes: notes.collect(), ..Remarks::default() };
    }
    let advice = "use another initramfs with taproot-init as its hook, or move the pool to a disk";
    let mut problems: Vec<String> = made.map(|made| format!("{made}; {advice}")).collect();
    let made: BTreeSet<u64> = own.iter().filter(|member| member.made_by.is_some()).map(|member| member.vdev).collect();
    for top in lacking {
        let missing = leaves(top).into_iter().filter(|(guid, _)| !found.contains(guid) && !made.contains(guid));
        let paths: Vec<String> = missing.map(|(_, path)| path).collect();
        if !paths.is_empty() {
            problems.push(format!(
                "too few disks of the root pool {name} were found: expected the labels of {} on this machine's disks",
                paths.join(", ")
            ));
        }
    }
    Remarks { problems, ..Remarks::default() }
}

/// Whether a vdev can be read from the leaves that were found.
fn readable(vdev: &NvList, found: &BTreeSet<u64>) -> bool {
    let children = vdev.lists("children").unwrap_or_default();
    let there = children.iter().filter(|child| readable(child, found)).count();
    match vdev.text("type").as_deref() {
        Some("disk" | "file") => vdev.u64("guid").is_some_and(|guid| found.contains(&guid)),
        Some("raidz" | "draid") => {
            let parity = vdev.u64("nparity").and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
            there + parity >= children.len()
        }
        Some("mirror" | "replacing" | "spare") => there > 0,
        // What was removed has nothing left on a disk.
        _ => true,
    }
}

fn leaves(vdev: &NvList) -> Vec<(u64, String)> {
    match vdev.lists("children") {
        Some(children) => children.iter().flat_map(leaves).collect(),
        None => vec![(vdev.u64("guid").unwrap_or(0), vdev.text("path").unwrap_or_default().into_owned())],
    }
}

/// A name of a device that survives another order of disks: the first below `by-id`, else its node.
fn stable_path(dev: &Path, node: &Path) -> PathBuf {
    let entries = fs::read_dir(dev.join("disk/by-id")).into_iter().flatten().flatten();
    let mut links: Vec<PathBuf> = entries.map(|e| e.path()).collect();
    links.sort();
    links.into_iter().find(|link| link.canonicalize().is_ok_and(|to| to == node)).unwrap_or_else(|| node.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use taproot_init::zfs::nvlist::Value;

    #[test]
    fn another_machines_disk_with_a_pool_of_the_same_name_is_not_expected() {
        let member = |device: &str, pool| Member {
            device: device.into(),
            path: format!("/dev/{device}"),
            pool,
            ..Member::default()
        };
        let disks = [member("sda3", 7), member("sdb3", 9), member("sdc3", 9)];
        let (pool, devices) = expected("rpool", &disks, Some(9)).unwrap();
        let devices: Vec<&str> = devices.iter().map(|member| member.device.as_str()).collect();
        assert_eq!((pool.guid, devices), (9, vec!["sdb3", "sdc3"]));
        assert_eq!(pool.vdevs, ["/dev/sdb3", "/dev/sdc3"]);
        assert!(expected("rpool", &disks, None).unwrap_err().contains("guids 7, 9"));
        assert_eq!(expected("rpool", &disks[1..], None).unwrap().0.guid, 9);
        assert!(expected("rpool", &disks, Some(8)).unwrap_err().contains("no label"));
        assert!(expected("rpool", &[], None).is_err());
    }

    fn vdev(kind: &str, guid: u64, children: Vec<NvList>) -> NvList {
        let mut list = NvList::new();
        list.set("type", Value::text(kind));
        list.set("guid", Value::U64(guid));
        list.set("path", Value::text(format!("/dev/v{guid}")));
        list.set("nparity", Value::U64(1));
        if !children.is_empty() {
            list.set("children", Value::ListArray(children));
        }
        list
    }

    fn disk(guid: u64) -> NvList {
        vdev("disk", guid, vec![])
    }

    #[test]
    fn too_few_disks_for_the_pool() {
        let raid = vdev("raidz", 20, vec![disk(3), disk(4), disk(5)]);
        let mirror = vdev("mirror", 10, vec![disk(1), vdev("replacing", 11, vec![disk(2), disk(6)])]);
        let root = vdev("root", 0, vec![mirror, raid, vdev("indirect", 30, vec![])]);
        let trouble = |found: &[u64]| {
            let own: Vec<Member> = found.iter().map(|vdev| Member { vdev: *vdev, ..Member::default() }).collect();
            super::trouble("rpool", &own, Some(&root)).problems.join("\n")
        };
        for enough in [&[1, 2, 3, 4, 5, 6][..], &[1, 3, 4], &[6, 4, 5]] {
            assert_eq!(trouble(enough), "", "{enough:?}");
        }
        assert!(trouble(&[3, 4, 5]).contains("too few disks of the root pool rpool"));
        assert!(trouble(&[1, 3]).contains("expected the labels of /dev/v4, /dev/v5 on"));
        // A leg that something else sets up is no reason where the pool can do without it.
        let made = |found: &[u64], made: u64| {
            let by = |vdev| (vdev == made).then_some("LUKS");
            let own: Vec<Member> =
                found.iter().map(|vdev| Member { vdev: *vdev, made_by: by(*vdev), ..Member::default() }).collect();
            super::trouble("rpool", &own, Some(&root))
        };
        let without = made(&[1, 2, 3, 4, 5], 5);
        assert!(without.problems.is_empty() && without.notes[0].contains("imported without it"), "{without:?}");
        let stopped = made(&[1, 2, 3, 4], 4);
        assert!(stopped.problems[0].contains("made by LUKS") && stopped.problems[1].contains("/dev/v5"), "{stopped:?}");
    }

    #[test]
    fn what_makes_a_device_up_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path();
        fs::create_dir_all(sys.join("class/block")).unwrap();
        for (name, file, text) in [
            ("dm-0", "dm/uuid", "CRYPT-LUKS2-0011-luks-1\n"),
            ("dm-1", "dm/uuid", "LVM-abc\n"),
            ("dm-2", "dm/uuid", "part1-mpath-3600\n"),
            ("md0", "md/level", "raid1\n"),
            ("sda", "size", "8\n"),
        ] {
            let path = sys.join("devices").join(name).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            symlink(sys.join("devices").join(name), sys.join("class/block").join(name)).unwrap();
        }
        fs::create_dir_all(sys.join("devices/md0/md0p1")).unwrap();
        fs::write(sys.join("devices/md0/md0p1/partition"), "1\n").unwrap();
        symlink(sys.join("devices/md0/md0p1"), sys.join("class/block/md0p1")).unwrap();
        let virtual_device = |path: &str, name: &str| {
            fs::create_dir_all(sys.join("devices").join(path)).unwrap();
            symlink(sys.join("devices").join(path), sys.join("class/block").join(name)).unwrap();
        };
        virtual_device("virtual/block/bcache0", "bcache0");
        virtual_device("platform/host2/session1/target2:0:0/2:0:0:1/block/sdq", "sdq");
        virtual_device("virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "nvme0n1");
        let by = |name: &str| made_by(sys, name);
        assert_eq!([by("bcache0"), by("sdq"), by("nvme0n1")], [Some("bcache"), Some("iSCSI"), None]);
        assert!(by("dm-0").unwrap().contains("LUKS") && by("dm-1") == Some("LVM"));
        assert!(by("md0").is_some() && by("md0p1").is_some());
        assert_eq!([by("dm-2"), by("sda"), by("none")], [None; 3]);
        let member = Member { device: "dm-0".into(), made_by: by("dm-0"), ..Member::default() };
        assert!(
            trouble("rpool", &[member], None).problems[0].contains("vdev dm-0 of the root pool rpool is made by LUKS")
        );
    }
}
