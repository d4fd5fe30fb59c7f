//! What was kept of a tree, as an archive: thousands of small files would cost a file system more than all the rest of an image. The
//! archive comes from anywhere: what is in it is only ever looked up here, nothing is unpacked, and links lead nowhere but inside.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use taproot_init::sys::beneath::walk;

use crate::tar::{Archive, Kind, TarError};

/// `PATH_MAX`.
const MAX_PATH: usize = 4096;
/// Bytes that are read at once to find the entries.
const READ_AHEAD: usize = 64 << 10;

/// A file of the archive.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) mtime: (i64, u32),
    /// Where its content begins in the archive, and the parts of it that are there.
    at: u64,
    parts: Vec<(u64, u64)>,
}

/// What is at a path.
#[derive(Debug)]
pub(super) enum Node {
    File(Part),
    Link(PathBuf),
    /// Names in it.
    Directory(Vec<String>),
}

/// The archive, and what it has at which path, without a slash in front.
#[derive(Debug)]
pub(super) struct Kept {
    file: File,
    nodes: HashMap<PathBuf, Node>,
}

impl Kept {
    /// Looks through an archive. Of two entries for a path the first one counts, and what lies below no directory does not.
    pub(super) fn open(path: &Path) -> Result<Self, TarError> {
        let file = File::open(path)?;
        let mut archive = Archive::new(BufReader::with_capacity(READ_AHEAD, &file));
        let mut kept = Kept { file: file.try_clone()?, nodes: HashMap::new() };
        kept.nodes.insert(PathBuf::new(), Node::Directory(Vec::new()));
        while let Some(entry) = archive.next_entry()? {
            let at = archive.position();
            archive.pass()?;
            let Some(path) = plain(&entry.path).filter(|path| path.as_os_str().len() <= MAX_PATH) else { continue };
            let node = match entry.kind {
                Kind::File => {
                    Node::File(Part { size: entry.size, mode: entry.mode, mtime: entry.mtime, at, parts: entry.parts })
                }
                Kind::SymbolicLink => Node::Link(PathBuf::from(OsStr::from_bytes(&entry.target))),
                Kind::HardLink => match plain(&entry.target).and_then(|first| kept.nodes.get(&first)) {
                    Some(Node::File(part)) => Node::File(part.clone()),
                    // One whose first name was not kept cannot be had.
                    _ => continue,
                },
                Kind::Directory => {
                    kept.directory(&path);
                    continue;
                }
                _ => continue,
            };
            kept.insert(path, node);
        }
        Ok(kept)
    }

    fn insert(&mut self, path: PathBuf, node: Node) {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return };
        if self.nodes.contains_key(&path) || !self.directory(above) {
            return;
        }
        // Names that are no text are found, but not listed.
        if let (Some(Node::Directory(names)), Some(name)) = (self.nodes.get_mut(above), name.to_str()) {
            names.push(name.to_owned());
        }
        self.nodes.insert(path, node);
    }

    /// Makes a directory and those above it; whether all of them are directories.
    fn directory(&mut self, path: &Path) -> bool {
        if !self.nodes.contains_key(path) {
            self.insert(path.to_owned(), Node::Directory(Vec::new()));
        }
        matches!(self.nodes.get(path), Some(Node::Directory(_)))
    }

    /// What is at a path whose links were followed.
    pub(super) fn get(&self, path: &Path) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Where a path leads, with every link followed inside. Parts that are not there stay as they are.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        walk(path, &|inside| match self.nodes.get(inside) {
            Some(Node::Link(target)) => Some(target.clone()),
            _ => None,
        })
    }

    /// The content of a file.
    pub(super) fn read(&self, part: &Part) -> io::Result<Vec<u8>> {
        let size = |bytes: u64| usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
        let mut bytes = vec![0; size(part.size)?];
        let mut at = part.at;
        for (offset, length) in &part.parts {
            let place = bytes.get_mut(size(*offset)?..size(offset + length)?).unwrap_or_default();
            self.file.read_exact_at(place, at)?;
            at += length;
        }
        Ok(bytes)
    }
}

/// A path of the archive without what says nothing; `None` for the root, and for what leads elsewhere.
pub(crate) fn plain(path: &[u8]) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            name => out.push(OsStr::from_bytes(name)),
        }
    }
    (!out.as_os_str().is_empty() && !path.starts_with(b"/")).then_some(out)
}
