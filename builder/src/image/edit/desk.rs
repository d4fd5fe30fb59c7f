//! What is kept of the stream until its end, to be read and changed there.

use super::report::{Report, shown};
use super::seen::{Fate, Seen, above, clean, wrong};
use super::{Added, Content};
use crate::tar::{Entry, Kind, TarError};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// Largest text that is kept, and how much of all.
pub(super) const LARGEST: u64 = 4 << 20;
const MOST: usize = 64 << 20;

/// Where the bytes of an entry are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// An entry with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) entry: Entry,
    pub(super) data: Data,
}

/// The desk.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// By path; a directory comes before what is in it.
    pub(super) held: BTreeMap<Vec<u8>, Made>,
    /// Further names of what is held.
    pub(super) links: Vec<Made>,
    pub(super) seen: Seen,
    pub(super) report: Report,
    /// Programs that have their name again.
    pub(super) restored: BTreeSet<Vec<u8>>,
    pub(super) time: i64,
    bytes: usize,
}

impl Desk {
    pub(super) fn at(time: i64) -> Self {
        Self { time, ..Self::default() }
    }

    pub(super) fn hold(&mut self, entry: Entry, content: Vec<u8>) -> Result<(), TarError> {
        self.bytes += content.len();
        if self.bytes > MOST {
            return Err(wrong(&entry.path, format!("expected at most {MOST} bytes of settings in all")));
        }
        self.held.insert(entry.path.clone(), Made { entry, data: Data::Bytes(content) });
        Ok(())
    }

    /// Whether the tree has something there by now.
    pub(super) fn has(&self, path: &str) -> bool {
        self.held.contains_key(path.as_bytes())
            || matches!(self.seen.fate(path.as_bytes()), Some(Fate::Directory | Fate::Link | Fate::File | Fate::Other))
    }

    /// The text of a file that was kept; `None` if it is not there, or no file.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>, TarError> {
        match self.held.get(path.as_bytes()) {
            Some(Made { entry: Entry { kind: Kind::File, .. }, data: Data::Bytes(bytes) }) => {
                let text = String::from_utf8(bytes.clone());
                text.map(Some).map_err(|_| wrong(path.as_bytes(), "expected text in UTF-8"))
            }
            Some(Made { entry: Entry { kind: Kind::HardLink, .. }, .. }) => {
                Err(wrong(path.as_bytes(), "expected a file of its own, found a hard link to another one"))
            }
            _ => Ok(None),
        }
    }

    /// Writes a file. One that is there keeps its owner, permissions and attributes.
    pub(super) fn put(&mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32) -> Result<(), TarError> {
        let bytes = content.into();
        let entry = match self.held.get(path.as_bytes()) {
            Some(old) if old.entry.kind == Kind::File => old.entry.clone(),
            _ => self.blank(path.as_bytes(), Kind::File, mode, (0, 0)),
        };
        self.insert(entry, Data::Bytes(bytes))
    }

    pub(super) fn link(&mut self, path: &str, target: &str) -> Result<(), TarError> {
        let entry = Entry { target: target.into(), ..self.blank(path.as_bytes(), Kind::SymbolicLink, 0o777, (0, 0)) };
        self.insert(entry, Data::Bytes(Vec::new()))
    }

    pub(super) fn directory(&mut self, path: &[u8], mode: u32, owner: (u32, u32)) -> Result<(), TarError> {
        match self.seen.fate(path) {
            Some(Fate::Directory) => Ok(()),
            _ if self.held.get(path).is_some_and(|made| made.entry.kind == Kind::Directory) => Ok(()),
            _ => {
                let entry = self.blank(path, Kind::Directory, mode, owner);
                self.insert(entry, Data::Bytes(Vec::new()))
            }
        }
    }

    pub(super) fn blank(&self, path: &[u8], kind: Kind, mode: u32, (uid, gid): (u32, u32)) -> Entry {
        Entry {
            path: path.to_vec(),
            kind,
            mode,
            uid,
            gid,
            mtime: (self.time, 0),
            size: 0,
            parts: Vec::new(),
            target: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    /// Puts an entry into the end of the stream, with the directories above it.
    pub(super) fn insert(&mut self, mut entry: Entry, data: Data) -> Result<(), TarError> {
        if entry.kind == Kind::File {
            entry.size = match &data {
                Data::Bytes(bytes) => bytes.len() as u64,
                Data::File(path) => {
                    fs::metadata(path).map_err(|e| wrong(&entry.path, format!("adding {}: {e}", path.display())))?.len()
                }
            };
            entry.parts = if entry.size > 0 { vec![(0, entry.size)] } else { Vec::new() };
        }
        match self.seen.fate(&entry.path) {
            None | Some(Fate::Held | Fate::Out) => {}
            Some(Fate::Directory) => return Err(wrong(&entry.path, "expected a place for a file, found a directory")),
            // Whatever may be replaced was held.
            Some(_) => return Err(wrong(&entry.path, "it went by before it could be replaced: please report this")),
        }
        let mut parents = Vec::new();
        let mut at = entry.path.as_slice();
        while let Some(parent) = above(at).filter(|parent| !parent.is_empty()) {
            parents.push(parent.to_vec());
            at = parent;
        }
        for parent in parents.iter().rev() {
            match self.seen.fate(parent) {
                Some(Fate::Directory) => {}
                Some(Fate::Link) => {
                    return Err(wrong(
                        &entry.path,
                        format!("/{} is a link: expected the path that it leads to", shown(parent)),
                    ));
                }
                Some(Fate::File | Fate::Other) => {
                    return Err(wrong(&entry.path, format!("/{} is no directory", shown(parent))));
                }
                _ if self.held.contains_key(parent) => {}
                _ => {
                    let made = self.blank(parent, Kind::Directory, 0o755, (0, 0));
                    self.held.insert(parent.clone(), Made { entry: made, data: Data::Bytes(Vec::new()) });
                }
            }
        }
        self.held.insert(entry.path.clone(), Made { entry, data });
        Ok(())
    }

    pub(super) fn add(&mut self, added: &Added) -> Result<(), TarError> {
        let path = clean(&added.path)?;
        let (kind, data, target) = match &added.content {
            Content::Directory => return self.directory(&path, added.mode, added.owner),
            Content::Bytes(bytes) => (Kind::File, Data::Bytes(bytes.clone()), Vec::new()),
            Content::Spare(_, place) if self.has(place) => return Ok(()),
            Content::File(file) | Content::Spare(file, _) => (Kind::File, Data::File(file.clone()), Vec::new()),
            Content::Link(target) => (Kind::SymbolicLink, Data::Bytes(Vec::new()), target.clone()),
        };
        let entry = Entry { target, ..self.blank(&path, kind, added.mode, added.owner) };
        self.report.added(&path, "");
        self.insert(entry, data)
    }
}
