//! Disks and partitions that may hold a pool, from `/sys/class/block`; devtmpfs has made their nodes.

use std::fs;
use std::path::{Path, PathBuf};

/// Smallest device a pool can be on: `SPA_MINDEVSIZE` of OpenZFS.
pub const SMALLEST: u64 = 64 << 20;
/// Kernel sectors in sysfs, whatever the disk's own.
const SECTOR: u64 = 512;
/// What `srN` is.
const OPTICAL: &str = "optical drive";

/// A block device worth reading labels from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDevice {
    /// The kernel's name, `vda1`.
    pub name: String,
    /// Its node.
    pub node: PathBuf,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// Why a block device was left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// By its kind.
    #[error("{0}s are not searched for pools")]
    Kind(&'static str),
    /// By its size.
    #[error("its {0} bytes are less than the 64 MiB a pool needs")]
    Small(u64),
    /// No medium in it, or nothing attached.
    #[error("it has no medium")]
    Empty,
    /// A path of a multipath disk, without a node.
    #[error("the kernel hides it behind a multipath disk")]
    Hidden,
    /// Part of a multipath, md or other device-mapper device.
    #[error("it, or the disk it is on, is part of {}", .0.join(", "))]
    Held(Vec<String>),
}

impl SkipReason {
    /// Whether a plain file system may be on it all the same.
    pub fn may_hold_a_file_system(&self) -> bool {
        matches!(self, Self::Small(_) | Self::Kind(OPTICAL))
    }
}

/// A device that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The kernel's name.
    pub name: String,
    /// Why.
    pub reason: SkipReason,
}

/// All block devices, sorted out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// To be read, by name. Disks with partitions are among them: a pool may lie on the whole disk all the same.
    pub devices: Vec<BlockDevice>,
    /// Not to be read, by name.
    pub skipped: Vec<Skipped>,
}

/// Sorts out what stands in `sys` (`/sys`); nodes are below `dev` (`/dev`).
pub fn enumerate(sys: &Path, dev: &Path) -> Inventory {
    let class = sys.join("class/block");
    let mut inventory = Inventory::default();
    for name in names(sys) {
        match look(&class.join(&name), &name, dev) {
            Ok(device) => inventory.devices.push(device),
            Err(reason) => inventory.skipped.push(Skipped { name, reason }),
        }
    }
    inventory
}

/// Names of all block devices, sorted; those that are no UTF-8 do not exist in Linux.
pub fn names(sys: &Path) -> Vec<String> {
    let entries = fs::read_dir(sys.join("class/block")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// The node of a device below `dev` (`/dev`): the kernel writes `/` in its name as `!` (`etherd!e0.0`, `cciss!c0d0`).
pub fn node(dev: &Path, name: &str) -> PathBuf {
    dev.join(name.replace('!', "/"))
}

/// Kinds known by their name alone, before a file of theirs is opened.
fn kind_skipped(name: &str) -> Option<&'static str> {
    let numbered =
        |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    [("zd", "zvol"), ("ram", "RAM disk"), ("zram", "compressed RAM disk"), ("sr", OPTICAL), ("fd", "floppy drive")]
        .into_iter()
        .find_map(|(prefix, kind)| numbered(prefix).then_some(kind))
}

/// Looks at the device `name`, whose directory or a link to it is `dir`.
pub fn look(dir: &Path, name: &str, dev: &Path) -> Result<BlockDevice, SkipReason> {
    if let Some(kind) = kind_skipped(name) {
        return Err(SkipReason::Kind(kind));
    }
    let size_bytes = number(&dir.join("size")).saturating_mul(SECTOR);
    if size_bytes == 0 {
        return Err(SkipReason::Empty);
    }
    if size_bytes < SMALLEST {
        return Err(SkipReason::Small(size_bytes));
    }
    let partition = dir.join("partition").exists();
    // The class entry is a link to .../DISK or .../DISK/PARTITION.
    let real = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let disk = if partition { real.parent().unwrap_or(&real) } else { &real };
    if name.starts_with("loop") && !disk.join("loop/backing_file").exists() {
        return Err(SkipReason::Empty);
    }
    if number(&disk.join("hidden")) != 0 {
        return Err(SkipReason::Hidden);
    }
    let mut holders = entries(&real.join("holders"));
    if partition {
        holders.extend(entries(&disk.join("holders")));
    }
    // A leg must not be used behind the back of what is stacked on it.
    if !holders.is_empty() {
        return Err(SkipReason::Held(holders));
    }
    Ok(BlockDevice { node: node(dev, name), name: name.to_owned(), size_bytes })
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// The number in a sysfs file, 0 if there is none.
pub fn number(file: &Path) -> u64 {
    fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("class/block")).unwrap();
            Self(dir)
        }

        /// A device below `devices/`, with files of the given content (a directory if the name ends in `/`).
        fn add(&self, path: &str, mib: u64, files: &[(&str, &str)]) {
            let dir = self.0.path().join("devices").join(path);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("size"), format!("{}\n", mib * 2048)).unwrap();
            for (file, text) in files {
                fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
                if file.ends_with('/') {
                    fs::create_dir_all(dir.join(file)).unwrap();
                } else {
                    fs::write(dir.join(file), text).unwrap();
                }
            }
            symlink(&dir, self.0.path().join("class/block").join(dir.file_name().unwrap())).unwrap();
        }
    }

    #[test]
    fn sorts_out_disks() {
        let sys = Sys::new();
        sys.add("vda", 1000, &[("holders/", "")]);
        sys.add("vda/vda1", 1, &[("partition", "1\n")]);
        sys.add("vda/vda2", 900, &[("partition", "2\n")]);
        sys.add("sda", 1000, &[("holders/dm-0/", "")]);
        sys.add("sda/sda1", 900, &[("partition", "1\n"), ("holders/", "")]);
        sys.add("dm-0", 1000, &[]);
        sys.add("loop0", 100, &[]);
        sys.add("loop1", 100, &[("loop/backing_file", "/x\n")]);
        sys.add("loop1/loop1p1", 90, &[("partition", "1\n")]);
        sys.add("zd0", 100, &[]);
        sys.add("ram0", 100, &[]);
        sys.add("sr0", 700, &[]);
        sys.add("nvme0c0n1", 100, &[("hidden", "1\n")]);
        sys.add("cciss!c0d0", 100, &[]);
        sys.add("nbd0", 0, &[]);

        let found = enumerate(sys.0.path(), Path::new("/dev"));
        let names: Vec<&str> = found.devices.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["cciss!c0d0", "dm-0", "loop1", "loop1p1", "vda", "vda2"]);
        assert_eq!(found.devices[0].node, Path::new("/dev/cciss/c0d0"));
        assert_eq!(found.devices[5].size_bytes, 900 << 20);

        let why = |name: &str| &found.skipped.iter().find(|s| s.name == name).unwrap().reason;
        assert_eq!(why("sda"), &SkipReason::Held(vec!["dm-0".into()]));
        assert_eq!(why("sda1"), &SkipReason::Held(vec!["dm-0".into()]));
        assert_eq!(why("loop0"), &SkipReason::Empty);
        assert_eq!(why("nbd0"), &SkipReason::Empty);
        assert_eq!(why("zd0"), &SkipReason::Kind("zvol"));
        assert_eq!(why("vda1"), &SkipReason::Small(1 << 20));
        assert_eq!(why("nvme0c0n1"), &SkipReason::Hidden);
    }

    #[test]
    fn nothing_there_is_no_error() {
        assert_eq!(enumerate(Path::new("/nonexistent"), Path::new("/dev")), Inventory::default());
    }

    #[test]
    fn this_machine() {
        let found = enumerate(Path::new("/sys"), Path::new("/dev"));
        assert!(found.devices.iter().all(|d| d.size_bytes >= SMALLEST));
    }
}
