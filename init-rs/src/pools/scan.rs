//! Reading the labels of block devices, each device once, several at a time.

use crate::cmdline::Decided;
use crate::devices::block::{self, BlockDevice};
use crate::sys::System;
use crate::zfs::assemble::Seen;
use crate::zfs::label::{Label, LabelProblem, read_labels};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Readers at a time: reads wait for disks, not for processors.
const READERS: usize = 8;

/// What is known of the block devices.
#[derive(Debug, Default)]
pub struct Scanner {
    devices: BTreeMap<String, (u64, Result<Label, LabelProblem>)>,
    /// Only these devices, and what these directories lead to; empty: all.
    only: Vec<PathBuf>,
}

impl Scanner {
    /// Looks at every block device.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks only at what `dirs` (directories of links to devices, or devices) lead to, and says what of it is not
    /// followed. The names below `/dev/disk` are made by udev, which may not run here, and lead to every disk anyway.
    pub fn only(dirs: &[Decided<String>]) -> (Self, Vec<String>) {
        Self::only_in(Path::new("/dev"), dirs)
    }

    fn only_in(dev: &Path, dirs: &[Decided<String>]) -> (Self, Vec<String>) {
        let mut only = Vec::new();
        let mut notes = Vec::new();
        let mut all = false;
        for Decided { value, why } in dirs {
            let path = Path::new(value);
            // A device may come later; a directory must be in the image.
            let awaited = path.parent() == Some(dev) && !path.exists();
            if path == dev {
                all = true;
            } else if path.starts_with(dev.join("disk")) {
                notes.push(format!("{why}: all block devices are looked at, their names in {value} are not needed"));
                all = true;
            } else if awaited || path.exists() {
                only.push(path.to_owned());
            } else {
                notes.push(format!("{why}: {value} is not there; all block devices are looked at"));
                all = true;
            }
        }
        if all {
            only.clear();
        }
        (Self { only, ..Self::default() }, notes)
    }

    /// Looks at devices that are new or changed size; true if anything changed.
    pub fn update(&mut self, system: &dyn System) -> bool {
        let mut now = block::enumerate(Path::new("/sys"), Path::new("/dev")).devices;
        if !self.only.is_empty() {
            let allowed = reachable(&self.only);
            now.retain(|device| allowed.contains(&device.node));
        }
        let before = self.devices.len();
        self.devices.retain(|name, (size, _)| now.iter().any(|d| d.name == *name && d.size_bytes == *size));
        let gone = before != self.devices.len();
        let new: Vec<&BlockDevice> = now.iter().filter(|d| !self.devices.contains_key(&d.name)).collect();
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..READERS.min(new.len()) {
                scope.spawn(|| {
                    while let Some(device) = new.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let mut read = |offset, buf: &mut [u8]| system.read_at(&device.node, offset, buf);
                        let label = read_labels(&mut read, device.size_bytes);
                        if let Ok(mut results) = results.lock() {
                            results.push((device.name.clone(), (device.size_bytes, label)));
                        }
                    }
                });
            }
        });
        let results = results.into_inner().unwrap_or_default();
        let changed = gone || !results.is_empty();
        self.devices.extend(results);
        changed
    }

    /// Forgets a device, so that the next update reads it anew (a `change` event).
    pub fn forget(&mut self, name: &str) {
        self.devices.remove(name);
    }

    /// Devices with a valid label.
    pub fn seen(&self) -> Vec<Seen> {
        let label = |(name, (_, label)): (&String, &(u64, Result<Label, LabelProblem>))| {
            label.as_ref().ok().map(|label| Seen { device: node(name), label: label.clone() })
        };
        self.devices.iter().filter_map(label).collect()
    }

    /// One line for each device that looks like, but is not, a usable member, and a count of the others.
    pub fn problems(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut blank = Vec::new();
        for (name, (_, label)) in &self.devices {
            match label {
                Ok(_) => {}
                Err(LabelProblem::NoLabel | LabelProblem::TooSmall { .. }) => blank.push(name.as_str()),
                Err(problem) if problem.is_partition_tail() => blank.push(name.as_str()),
                Err(problem) => lines.push(format!("{}: {problem}", node(name))),
            }
        }
        if !blank.is_empty() {
            lines.push(format!("without a ZFS label: {}", blank.join(" ")));
        }
        let only = || self.only.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ");
        match (self.devices.is_empty(), self.only.is_empty()) {
            (true, true) => {
                lines.push("no block device at all: is the driver of the disk controller in the image?".to_owned());
            }
            (_, false) => lines.push(format!("only these were looked at, as the command line says: {}", only())),
            (false, true) => {}
        }
        lines
    }
}

/// The path of a device's node.
fn node(name: &str) -> String {
    block::node(Path::new("/dev"), name).display().to_string()
}

/// The device nodes that these directories and links lead to.
fn reachable(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let entries = |path: &PathBuf| match fs::read_dir(path) {
        Ok(dir) => dir.flatten().map(|entry| entry.path()).collect(),
        Err(_) => vec![path.clone()],
    };
    paths.iter().flat_map(entries).filter_map(|path| fs::canonicalize(path).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zfs::nvlist::NvList;
    use std::os::unix::fs::symlink;

    #[test]
    fn devices_are_named_by_their_nodes() {
        let label = Label { config: NvList::new(), index: 0, agreeing: 1 };
        let mut scanner = Scanner::new();
        scanner.devices.insert("etherd!e0.0".into(), (1 << 30, Ok(label)));
        assert_eq!(scanner.seen()[0].device, "/dev/etherd/e0.0");
    }

    #[test]
    fn directories_lead_to_devices() {
        let root = tempfile::tempdir().unwrap();
        let dev = root.path().join("dev");
        let mapper = dev.join("mapper");
        fs::create_dir_all(&mapper).unwrap();
        for name in ["dm-0", "sda", "sdb"] {
            fs::write(dev.join(name), "").unwrap();
        }
        symlink("../dm-0", mapper.join("crypt")).unwrap();
        symlink("../gone", mapper.join("gone")).unwrap();
        let ask = |dirs: &[&Path]| {
            let dirs: Vec<_> = dirs.iter().map(|d| Decided::new(d.display().to_string(), "zfs_import_dir=x")).collect();
            Scanner::only_in(&dev, &dirs)
        };
        let (scanner, notes) = ask(&[&mapper, &dev.join("sdb"), &dev.join("later")]);
        assert_eq!(notes, [""; 0]);
        let dev_real = fs::canonicalize(&dev).unwrap();
        assert_eq!(reachable(&scanner.only), [dev_real.join("dm-0"), dev_real.join("sdb")].into());

        for (dir, note) in [(dev.join("disk/by-id"), "not needed"), (root.path().join("none"), "is not there")] {
            let (scanner, notes) = ask(&[&mapper, &dir]);
            assert!(scanner.only.is_empty(), "{}", dir.display());
            assert!(notes[0].starts_with("zfs_import_dir=x: ") && notes[0].contains(note), "{notes:?}");
        }
        let (scanner, notes) = ask(&[&dev]);
        assert!(scanner.only.is_empty() && notes.is_empty());
        assert!(ask(&[]).0.only.is_empty());
    }
}
