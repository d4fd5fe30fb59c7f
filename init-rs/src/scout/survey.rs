//! What sysfs says of a device, before anything is read from it: sysfs does not wait for disks.

use super::reader::Look;
use crate::devices::known::{Device, Partition, Reading};
use crate::devices::{block, links};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Kernel sectors in sysfs, whatever the disk's own.
const SECTOR: u64 = 512;

/// A device as sysfs has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Surveyed {
    /// What is known without reading.
    pub(super) device: Device,
    /// What is to be read of it, if anything.
    pub(super) look: Option<Look>,
    /// Which medium it is: another number is another one. 0 where the kernel does not say (before 5.15).
    pub(super) medium: u64,
    /// What it is made of: names of the devices below it.
    pub(super) legs: Vec<String>,
}

/// Where sysfs and the nodes are.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) sys: PathBuf,
    pub(super) dev: PathBuf,
}

impl Places {
    /// The device with this name; `None` if there is none.
    pub(super) fn survey(&self, name: &str, now: Duration) -> Option<Surveyed> {
        let class = self.sys.join("class/block").join(name);
        let dir = fs::canonicalize(&class).ok()?;
        let uevent = fs::read_to_string(dir.join("uevent")).unwrap_or_default();
        let value = |key: &str| uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let number = |key: &str| value(key).and_then(|text| text.parse().ok()).unwrap_or(0);
        let is_partition = dir.join("partition").exists();
        let disk_dir = if is_partition { dir.parent()?.to_owned() } else { dir.clone() };
        let disk = is_partition.then(|| disk_dir.file_name().map(|name| name.to_string_lossy().into_owned())).flatten();
        let names = links::names(&disk_dir, disk.as_deref().unwrap_or(name));
        let partition = is_partition.then(|| Partition {
            number: u32::try_from(block::number(&dir.join("partition"))).unwrap_or(0),
            start: block::number(&dir.join("start")).saturating_mul(SECTOR),
            // Newer kernels tell it.
            uuid: value("PARTUUID").unwrap_or_default().to_owned(),
            label: value("PARTNAME").unwrap_or_default().to_owned(),
        });
        let part = partition.as_ref().map_or_else(String::new, |p| format!("-part{}", p.number));
        let looked = block::look(&class, name, &self.dev);
        let left_out = looked.as_ref().err();
        let reads = left_out.is_none_or(block::SkipReason::may_hold_a_file_system);
        let size = block::number(&dir.join("size")).saturating_mul(SECTOR);
        let node = block::node(&self.dev, name);
        let sector = block::number(&disk_dir.join("queue/logical_block_size")).max(SECTOR);
        let look = (reads && size > 0).then(|| Look {
            node: node.clone(),
            size,
            labels: left_out.is_none(),
            table: (!is_partition).then_some(sector),
        });
        Some(Surveyed {
            device: Device {
                name: name.to_owned(),
                node: node.display().to_string(),
                number: (number("MAJOR"), number("MINOR")),
                size,
                disk,
                partition,
                wwid: names.wwid,
                identity: if is_partition { String::new() } else { names.identity },
                links: names.links.into_iter().map(|link| link + &part).collect(),
                left_out: left_out.map(ToString::to_string),
                read_only: block::number(&dir.join("ro")) != 0,
                since: now,
                content: if look.is_some() { Reading::Waiting } else { Reading::Never },
            },
            look,
            medium: value("DISKSEQ").and_then(|text| text.parse().ok()).unwrap_or(0),
            legs: legs(&dir),
        })
    }

    /// All names that there are.
    pub(super) fn names(&self) -> Vec<String> {
        block::names(&self.sys)
    }
}

fn legs(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("slaves")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A sysfs, and nodes that are files.
    pub(in crate::scout) struct Machine(tempfile::TempDir);

    impl Machine {
        pub(in crate::scout) fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("sys/class/block")).unwrap();
            fs::create_dir_all(dir.path().join("dev")).unwrap();
            Self(dir)
        }

        pub(in crate::scout) fn places(&self) -> Places {
            Places { sys: self.0.path().join("sys"), dev: self.0.path().join("dev") }
        }

        /// A device below `devices/` of this many bytes, with files of the given content (directories end in `/`).
        pub(in crate::scout) fn add(&self, path: &str, bytes: u64, files: &[(&str, &str)]) {
            let sys = self.0.path().join("sys");
            let dir = sys.join("devices").join(path);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("size"), format!("{}\n", bytes / 512)).unwrap();
            for (file, text) in files {
                let file_path = dir.join(file);
                fs::create_dir_all(file_path.parent().unwrap()).unwrap();
                if file.ends_with('/') {
                    fs::create_dir_all(file_path).unwrap();
                } else {
                    fs::write(file_path, text).unwrap();
                }
            }
            let link = sys.join("class/block").join(dir.file_name().unwrap());
            let _ = fs::remove_file(&link);
            symlink(&dir, link).unwrap();
        }

        pub(in crate::scout) fn remove(&self, path: &str) {
            let dir = self.0.path().join("sys/devices").join(path);
            fs::remove_file(self.0.path().join("sys/class/block").join(dir.file_name().unwrap())).unwrap();
            fs::remove_dir_all(dir).unwrap();
        }
    }

    #[test]
    fn what_sysfs_says() {
        let machine = Machine::new();
        let gib = 1 << 30;
        let disk =
            [("uevent", "MAJOR=8\nMINOR=0\nDISKSEQ=7\n"), ("device/model", "Disk\n"), ("device/wwid", "naa.5\n")];
        machine.add("pci0000:00/0000:00:05.0/host0/target0:0:0/0:0:0:0/block/sda", gib, &disk);
        let part = [("uevent", "MAJOR=8\nMINOR=2\nPARTNAME=keys\n"), ("partition", "2\n"), ("start", "2048\n")];
        machine.add("pci0000:00/0000:00:05.0/host0/target0:0:0/0:0:0:0/block/sda/sda2", 1 << 20, &part);
        machine.add("virtual/block/dm-0", gib, &[("slaves/sdb/", "")]);
        machine.add("virtual/block/sdb", gib, &[("holders/dm-0/", "")]);
        machine.add("virtual/block/zd0", gib, &[]);
        machine.add("virtual/block/sr0", gib, &[]);
        machine.add("virtual/block/loop0", 0, &[]);
        let places = machine.places();
        let look = |name: &str| places.survey(name, Duration::from_secs(3)).unwrap();

        let sda = look("sda");
        assert_eq!((sda.device.number, sda.device.size, sda.medium), ((8, 0), gib, 7));
        assert_eq!(sda.device.wwid.as_deref(), Some("naa.5"));
        assert_eq!((sda.device.identity.as_str(), &sda.device.left_out), ("Disk", &None));
        assert_eq!(sda.device.links, ["by-path/pci-0000:00:05.0-scsi-0:0:0:0"]);
        assert_eq!(sda.device.content, Reading::Waiting);
        let plan = sda.look.unwrap();
        assert_eq!((plan.labels, plan.table), (true, Some(512)));

        let sda2 = look("sda2");
        assert_eq!(sda2.device.disk.as_deref(), Some("sda"));
        let partition = Partition { number: 2, start: 1 << 20, uuid: String::new(), label: "keys".into() };
        assert_eq!(sda2.device.partition, Some(partition));
        assert_eq!(sda2.device.links, ["by-path/pci-0000:00:05.0-scsi-0:0:0:0-part2"]);
        assert!(sda2.device.left_out.unwrap().contains("less than the 64 MiB"));
        let plan = sda2.look.unwrap();
        assert_eq!((plan.labels, plan.table), (false, None), "a file system may be on it, a pool not");
        assert!(look("sr0").look.is_some_and(|plan| !plan.labels));

        for name in ["sdb", "zd0", "loop0"] {
            let device = look(name);
            assert!(device.look.is_none() && device.device.left_out.is_some(), "{name}");
            assert_eq!(device.device.content, Reading::Never);
        }
        assert_eq!(look("dm-0").legs, ["sdb"]);
        assert_eq!(places.survey("sdc", Duration::ZERO), None);
    }
}
