//! Reading the labels of block devices, each device once, several at a time. A disk that does not answer holds up nobody but
//! those who need it.

use crate::cmdline::Decided;
use crate::devices::block::{self, BlockDevice};
use crate::order;
use crate::sys::System as _;
use crate::sys::linux::Linux;
use crate::zfs::assemble::Seen;
use crate::zfs::label::{Label, LabelProblem, read_labels};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Readers at a time: reads wait for disks, not for processors.
const READERS: usize = 8;

/// A device whose label is being read.
#[derive(Debug)]
struct Reading {
    size: u64,
    since: Instant,
    /// Which reading it is: the answer of an earlier one does not count.
    serial: u64,
}

/// What a reader brought: name, serial of the reading, label.
type Answer = (String, u64, Result<Label, LabelProblem>);

/// What is known of the block devices.
#[derive(Debug)]
pub struct Scanner {
    devices: BTreeMap<String, (u64, Result<Label, LabelProblem>)>,
    reading: BTreeMap<String, Reading>,
    serial: u64,
    answers: (Sender<Answer>, Receiver<Answer>),
    /// Only these devices, and what these directories lead to; empty: all.
    only: Vec<PathBuf>,
}

impl Default for Scanner {
    fn default() -> Self {
        let reading = BTreeMap::new();
        Self { devices: BTreeMap::new(), reading, serial: 0, answers: channel(), only: Vec::new() }
    }
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

    /// Looks at devices that are new or changed size; true if anything changed. What is not read within `patience` goes on
    /// being read, and counts at a later update.
    pub fn update(&mut self, patience: Duration) -> bool {
        self.update_in(Path::new("/sys"), Path::new("/dev"), patience)
    }

    fn update_in(&mut self, sys: &Path, dev: &Path, patience: Duration) -> bool {
        let mut now = block::enumerate(sys, dev).devices;
        if !self.only.is_empty() {
            let allowed = reachable(&self.only);
            now.retain(|device| allowed.contains(&device.node));
        }
        let before = self.devices.len();
        let there = |name: &str, size: u64| now.iter().any(|d| d.name == name && d.size_bytes == size);
        order::retain(&mut self.devices, |name, (size, _)| there(name, *size));
        order::retain(&mut self.reading, |name, reading| there(name, reading.size));
        let mut changed = before != self.devices.len();
        now.retain(|d| !self.devices.contains_key(&d.name) && !self.reading.contains_key(&d.name));
        let deadline = Instant::now() + if now.is_empty() { Duration::ZERO } else { patience };
        let first = self.serial + 1;
        self.read(now);
        loop {
            // Older ones have had their time.
            let awaited = self.reading.values().any(|reading| reading.serial >= first);
            let left = if awaited { deadline.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            let Ok((name, serial, label)) = self.answers.1.recv_timeout(left) else { return changed };
            let reading = self.reading.get(&name).filter(|reading| reading.serial == serial);
            if let Some(size) = reading.map(|reading| reading.size) {
                order::retain(&mut self.reading, |other, _| *other != name);
                self.devices.insert(name, (size, label));
                changed = true;
            }
        }
    }

    /// Has the labels of these devices read, by threads that nobody waits for.
    fn read(&mut self, devices: Vec<BlockDevice>) {
        let count = READERS.min(devices.len());
        let mut jobs = Vec::new();
        for device in devices {
            self.serial += 1;
            let reading = Reading { size: device.size_bytes, since: Instant::now(), serial: self.serial };
            self.reading.insert(device.name.clone(), reading);
            jobs.push((self.serial, device));
        }
        let jobs = Arc::new((AtomicUsize::new(0), jobs));
        let work = |jobs: &(AtomicUsize, Vec<(u64, BlockDevice)>), answers: &Sender<Answer>| {
            let system = Linux::new();
            while let Some((serial, device)) = jobs.1.get(jobs.0.fetch_add(1, Ordering::Relaxed)) {
                let mut read = |offset: u64, buf: &mut [u8]| crate::sys::device::read_at(&device.node, offset, buf);
                let label = read_labels(&mut read, device.size_bytes);
                let _ = answers.send((device.name.clone(), *serial, label));
            }
        };
        let mut started = false;
        for _ in 0..count {
            let (jobs, answers) = (Arc::clone(&jobs), self.answers.0.clone());
            let thread = std::thread::Builder::new().name("labels".into()).spawn(move || work(&jobs, &answers));
            started |= thread.is_ok();
        }
        if !started {
            work(&jobs, &self.answers.0);
        }
    }

    /// Whether a label is being read that may still come: for less than this time.
    pub fn is_reading(&self, at_most: Duration) -> bool {
        self.reading.values().any(|reading| reading.since.elapsed() < at_most)
    }

    /// Names of the devices whose labels have been being read for at least this time.
    pub fn slow(&self, at_least: Duration) -> Vec<&str> {
        let slow = self.reading.iter().filter(|(_, reading)| reading.since.elapsed() >= at_least);
        slow.map(|(name, _)| name.as_str()).collect()
    }

    /// Forgets a device, so that the next update reads it anew (a `change` event).
    pub fn forget(&mut self, name: &str) {
        order::retain(&mut self.devices, |other, _| other != name);
        order::retain(&mut self.reading, |other, _| other != name);
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
        for (name, reading) in &self.reading {
            let seconds = reading.since.elapsed().as_secs();
            lines.push(format!("{}: it has not answered for {seconds} s, so its label is not known", node(name)));
        }
        if !blank.is_empty() {
            lines.push(format!("without a ZFS label: {}", blank.join(" ")));
        }
        let only = || self.only.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ");
        match (self.devices.is_empty() && self.reading.is_empty(), self.only.is_empty()) {
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
    order::set(paths.iter().flat_map(entries).filter_map(|path| fs::canonicalize(path).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zfs::nvlist::NvList;
    use std::fs::File;
    use std::os::unix::fs::symlink;

    #[test]
    fn devices_are_named_by_their_nodes() {
        let label = Label { config: NvList::new(), index: 0 };
        let mut scanner = Scanner::new();
        scanner.devices.insert("etherd!e0.0".into(), (1 << 30, Ok(label)));
        assert_eq!(scanner.seen()[0].device, "/dev/etherd/e0.0");
    }

    /// A pipe that nobody writes to does not answer, like a disk that is broken.
    #[test]
    fn a_disk_that_does_not_answer_holds_nobody_up() {
        let root = tempfile::tempdir().unwrap();
        let (sys, dev) = (root.path().join("sys"), root.path().join("dev"));
        fs::create_dir_all(&dev).unwrap();
        for name in ["sda", "sdb", "sdc"] {
            fs::create_dir_all(sys.join("class/block").join(name)).unwrap();
            fs::write(sys.join("class/block").join(name).join("size"), "200000\n").unwrap();
            fs::write(dev.join(name), "").unwrap();
        }
        let stuck = dev.join("sdb");
        fs::remove_file(&stuck).unwrap();
        nix::unistd::mkfifo(&stuck, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut scanner = Scanner::new();
        assert!(scanner.update_in(&sys, &dev, Duration::from_millis(300)));
        assert_eq!(scanner.devices.keys().collect::<Vec<_>>(), ["sda", "sdc"]);
        assert_eq!(scanner.slow(Duration::from_millis(300)), ["sdb"]);
        assert!(scanner.is_reading(Duration::from_secs(60)) && !scanner.is_reading(Duration::from_millis(300)));
        assert!(scanner.problems().iter().any(|line| line.starts_with("/dev/sdb: it has not answered for ")));
        assert!(!scanner.update_in(&sys, &dev, Duration::ZERO), "nothing new");

        // The answer of a reading that was given up does not count.
        scanner.forget("sdb");
        assert!(!scanner.update_in(&sys, &dev, Duration::from_millis(100)));
        let answer = (scanner.reading["sdb"].serial - 1, Err(LabelProblem::NoLabel));
        scanner.answers.0.send(("sdb".into(), answer.0, answer.1)).unwrap();
        assert!(!scanner.update_in(&sys, &dev, Duration::ZERO));

        // It answers after all, if only with an error; then it goes.
        let _open = File::options().write(true).open(&stuck).unwrap();
        let began = Instant::now();
        while !scanner.update_in(&sys, &dev, Duration::ZERO) {
            assert!(began.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!((scanner.devices.len(), scanner.reading.len()), (3, 0));
        fs::remove_dir_all(sys.join("class/block/sdb")).unwrap();
        assert!(scanner.update_in(&sys, &dev, Duration::ZERO));
        assert_eq!(scanner.devices.len(), 2);
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
