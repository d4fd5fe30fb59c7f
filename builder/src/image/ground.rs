//! A tree on disk, for hooks that want to see and change one: what a stream had, with owners, rights and attributes.
//!
//! Only who may give files away can have one: root, or somebody in a user namespace. Devices that must not be made there are kept aside,
//! and are in the stream again that is made of the tree.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, DirBuilder};
use std::io::{self, BufReader};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::edit::clean;
use super::source::Tarball;
use super::source::directory::Walk;
use crate::layer::untar::untar_over;
use crate::tar::{Archive, Entries, Entry, Kind, TarError, write};

/// Bytes of an archive that are read at once; whole blocks are read without the detour.
const READ_AHEAD: usize = 64 << 10;
/// The null device, which everybody knows.
const NULL: (u64, u64) = (1, 3);

/// The tree.
#[derive(Debug)]
pub struct Ground {
    path: PathBuf,
    devices: Vec<Entry>,
    /// Whether devices can be made here.
    nodes: bool,
}

impl Ground {
    /// An empty one at a path where nothing is.
    pub fn at(path: PathBuf) -> Result<Self> {
        let root = nix::unistd::geteuid().is_root();
        ensure!(
            root,
            "hooks that have the tree in a directory, and states that build on each other in one, take somebody who may give files \
             away: run it with sudo, or in a user namespace: unshare --map-auto --map-root-user --mount taproot image ..."
        );
        let failed = || format!("{}: making a directory for the tree", path.display());
        DirBuilder::new().mode(0o755).create(&path).with_context(failed)?;
        let probe = path.join("null");
        let nodes = mknod(&probe, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(NULL.0, NULL.1)).is_ok();
        if nodes {
            fs::remove_file(&probe).with_context(failed)?;
        }
        Ok(Self { path, devices: Vec::new(), nodes })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts what a stream has over what is there.
    pub fn unpack(&mut self, input: &mut dyn Entries) -> Result<()> {
        let mut sifted = Sifted { input, nodes: self.nodes, devices: &mut self.devices };
        untar_over(&self.path, |out| Ok(write::archive(&mut sifted, &mut &mut *out).map(drop)?))
    }

    /// The tree as a stream.
    pub fn stream(&self) -> Result<Stream> {
        let mut stream = Stream::of(Box::new(Walk::of(&self.path).stream()?));
        stream.devices = self.devices.iter().cloned().collect();
        Ok(stream)
    }

    /// Removes it.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.path).with_context(|| format!("{}: removing the tree", self.path.display()))
    }
}

/// A stream without the devices that cannot be made.
struct Sifted<'a> {
    input: &'a mut dyn Entries,
    nodes: bool,
    devices: &'a mut Vec<Entry>,
}

impl Entries for Sifted<'_> {
    fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        while let Some(mut entry) = self.input.next_entry()? {
            entry.path = clean(&entry.path)?;
            self.devices.retain(|device| device.path != entry.path);
            if !self.nodes && matches!(entry.kind, Kind::Character | Kind::Block) {
                self.devices.push(entry);
                continue;
            }
            return Ok(Some(entry));
        }
        Ok(None)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        self.input.read(buffer)
    }
}

/// The entries of an archive, and behind them what was kept aside. At the end whoever makes it is asked whether it is to be believed.
#[derive(Debug)]
pub struct Stream {
    archive: Option<Archive<BufReader<Box<dyn Tarball>>>>,
    devices: VecDeque<Entry>,
    seen: HashSet<Vec<u8>>,
    /// What there is to tell a person, once the end was reached.
    pub notes: Vec<String>,
}

impl Stream {
    /// The entries of an archive.
    pub fn of(tarball: Box<dyn Tarball>) -> Self {
        let archive = Archive::new(BufReader::with_capacity(READ_AHEAD, tarball));
        Self { archive: Some(archive), devices: VecDeque::new(), seen: HashSet::new(), notes: Vec::new() }
    }

    /// A device whose directory is still there, and whose place nothing else has taken.
    fn device(&mut self) -> Option<Entry> {
        loop {
            let device = self.devices.pop_front()?;
            let above = device.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            let above = device.path.get(..above).unwrap_or_default();
            if self.seen.contains(above) && !self.seen.contains(&device.path) {
                return Some(device);
            }
        }
    }
}

impl Entries for Stream {
    fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let Some(archive) = &mut self.archive else { return Ok(self.device()) };
        if let Some(entry) = archive.next_entry()? {
            if !self.devices.is_empty() {
                self.seen.insert(clean(&entry.path)?);
            }
            return Ok(Some(entry));
        }
        if let Some(archive) = self.archive.take() {
            let told = archive.into_inner().into_inner().finish();
            self.notes.extend(told.map_err(|error| io::Error::other(format!("{error:#}")))?);
        }
        Ok(self.device())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        match &mut self.archive {
            Some(archive) => archive.read(buffer),
            None => Err(TarError::Cut { inside: "a device".into() }),
        }
    }
}

/// Refuses a tree that nobody put anything into.
pub fn filled(path: &Path) -> Result<()> {
    let mut list = fs::read_dir(path).with_context(|| format!("{}: looking at the tree", path.display()))?;
    if list.next().is_none() {
        bail!("install.replace: expected a tree in TAPROOT_ROOT, found nothing there");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::source::packed;
    use crate::made::tar::{Made, archive};

    fn device(path: &str) -> Made {
        Made { device: (1, 3), ..Made::new(path, b'3') }
    }

    fn paths(stream: &mut dyn Entries) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(entry) = stream.next_entry().unwrap() {
            all.push(String::from_utf8_lossy(&clean(&entry.path).unwrap()).into_owned());
        }
        all
    }

    #[test]
    fn what_went_in_comes_out_with_devices_that_could_not_be_made() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let made = [
            Made::new("./dev", b'5'),
            device("./dev/null"),
            device("./dev/zero"),
            Made::new("./gone", b'5'),
            device("./gone/null"),
            Made::file("./etc/x", "x"),
        ];
        let bytes = archive(&made);
        for nodes in [true, false] {
            let mut ground = Ground::at(dir.path().join(nodes.to_string())).unwrap();
            ground.nodes &= nodes;
            ground.unpack(&mut Archive::new(&*bytes)).unwrap();
            fs::remove_dir_all(ground.path().join("gone")).unwrap();
            let _ = fs::remove_file(ground.path().join("dev/zero"));
            fs::write(ground.path().join("dev/zero"), "a hook's own").unwrap();
            let mut found = paths(&mut ground.stream().unwrap());
            found.sort();
            assert_eq!(found, ["", "dev", "dev/null", "dev/zero", "etc", "etc/x"], "{nodes}");
        }
    }

    #[test]
    fn an_archive_that_cannot_be_unpacked_says_why() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut ground = Ground::at(dir.path().join("tree")).unwrap();
        let bytes = archive(&[Made::file("etc/x", "x"), Made::file("etc/../../up", "x")]);
        let error = format!("{:#}", ground.unpack(&mut Archive::new(&*bytes)).unwrap_err());
        assert!(error.contains("leads out of the tree"), "{error}");
        fs::remove_dir_all(ground.path()).unwrap();
        let bytes = archive(&[Made::file("etc/x", "x")]);
        let error = format!("{:#}", ground.unpack(&mut Archive::new(&*bytes)).unwrap_err());
        assert!(error.contains("tar says"), "{error}");
        let cut = archive(&[Made::file("x", vec![1; 5000])]);
        fs::write(dir.path().join("cut"), &cut[..2000]).unwrap();
        let mut stream = Stream::of(packed::open(&dir.path().join("cut")).unwrap());
        fs::create_dir(ground.path()).unwrap();
        assert!(format!("{:#}", ground.unpack(&mut stream).unwrap_err()).contains("ends too early"));
    }
}
