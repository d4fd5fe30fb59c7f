//! Which paths went by, and as what: a number each, so that a million of them are a few megabytes.

use crate::tar::{Kind, TarError};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Longest name and path of Linux.
const NAME: usize = 255;
const PATH: usize = 4095;

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Directory,
    Link,
    /// A file, or a further name of one.
    File,
    Other,
    /// It was left out.
    Out,
    /// It is kept for the end of the stream.
    Held,
}

#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<u64, Fate>);

fn number(path: &[u8]) -> u64 {
    // Always with the same keys: what is in the image must not depend on the run.
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn wrong(path: &[u8], what: impl Into<String>) -> TarError {
    TarError::Entry { path: String::from_utf8_lossy(path).into_owned(), what: what.into() }
}

/// The directory above; `None` of the top.
pub(super) fn above(path: &[u8]) -> Option<&[u8]> {
    if path.is_empty() {
        return None;
    }
    Some(path.iter().rposition(|byte| *byte == b'/').and_then(|at| path.get(..at)).unwrap_or_default())
}

impl Seen {
    pub(super) fn fate(&self, path: &[u8]) -> Option<Fate> {
        if path.is_empty() { Some(Fate::Directory) } else { self.0.get(&number(path)).copied() }
    }

    /// Notes an entry. A directory may come again, everything else only once, and below directories.
    pub(super) fn note(&mut self, path: &[u8], fate: Fate) -> Result<(), TarError> {
        if path.is_empty() {
            let top = fate == Fate::Directory;
            return if top { Ok(()) } else { Err(wrong(b".", "expected a directory at the top of the tree")) };
        }
        match above(path).and_then(|above| self.fate(above)) {
            None | Some(Fate::Directory | Fate::Out) => {}
            Some(Fate::Link) => {
                return Err(wrong(path, "it lies behind a symbolic link: expected the path that the link leads to"));
            }
            Some(_) => return Err(wrong(path, "what is above it is no directory")),
        }
        match self.0.insert(number(path), fate) {
            Some(before) if before != Fate::Out && (before, fate) != (Fate::Directory, Fate::Directory) => {
                Err(wrong(path, "it is there twice: make the archive anew from one tree"))
            }
            _ => Ok(()),
        }
    }

    /// What was there is not there any more.
    pub(super) fn forget(&mut self, path: &[u8]) {
        self.0.remove(&number(path));
    }

    /// What the first name of a hard link has become.
    pub(super) fn target(&self, path: &[u8], target: &[u8]) -> Result<Fate, TarError> {
        let shown = String::from_utf8_lossy(target);
        match self.fate(target) {
            None => Err(wrong(path, format!("it is a hard link to {shown}, which was not there before it"))),
            Some(Fate::Directory) => Err(wrong(path, format!("it is a hard link to {shown}, a directory"))),
            Some(fate) => Ok(fate),
        }
    }
}

pub(super) fn fate_of(kind: Kind) -> Fate {
    match kind {
        Kind::Directory => Fate::Directory,
        Kind::SymbolicLink => Fate::Link,
        Kind::File | Kind::HardLink => Fate::File,
        Kind::Character | Kind::Block | Kind::Pipe => Fate::Other,
    }
}

/// A path of an archive as names with a slash between them; the top is the empty path.
pub(in crate::image) fn clean(path: &[u8]) -> Result<Vec<u8>, TarError> {
    if path.starts_with(b"/") {
        return Err(wrong(
            path,
            "expected a path below the top of the tree, found one that begins with /: make the archive with tar -C TREE -c .",
        ));
    }
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    let mut clean = Vec::with_capacity(path.len());
    for name in names {
        if name == b".." {
            return Err(wrong(path, "it leads out of the tree by \"..\": that is no archive of a system"));
        }
        if name.len() > NAME || name.contains(&0) {
            return Err(wrong(
                path,
                format!("expected names of 1 to {NAME} bytes without a NUL, found one of {}", name.len()),
            ));
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(name);
    }
    if clean.len() > PATH {
        return Err(wrong(path, format!("expected a path of at most {PATH} bytes, found {}", clean.len())));
    }
    Ok(clean)
}
