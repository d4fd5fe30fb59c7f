//! The image's files and their cpio archive: sorted, with fixed times, owners and inode numbers, so that the same input
//! gives the same bytes.

use cpio::NewcBuilder;
use cpio::newc::ModeFileType;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A directory.
    Directory,
    /// A regular file.
    File(Vec<u8>),
    /// A symbolic link.
    Link(String),
    /// A character device: major, minor.
    Device(u32, u32),
}

/// One entry of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub content: Content,
    /// Permission bits.
    pub mode: u32,
    /// Why it is in the image.
    pub why: String,
}

/// The files of an image by absolute path.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    nodes: BTreeMap<String, Node>,
}

/// A path that cannot be packed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArchiveError {
    /// Not a plain absolute path.
    #[error("{0:?} cannot be a path in the image: expected an absolute path without . or .. parts")]
    Path(String),
    /// Two different things at one path.
    #[error("{path} is packed twice, as {first} and as {second}; leave one of them out")]
    Conflict {
        /// Path.
        path: String,
        /// Reason of the first.
        first: String,
        /// Reason of the second.
        second: String,
    },
}

impl Archive {
    /// Adds an entry and the directories above it. The same content twice is one entry.
    pub fn add(&mut self, path: &str, content: Content, mode: u32, why: &str) -> Result<(), ArchiveError> {
        let plain = path.strip_prefix('/').filter(|rest| !rest.split('/').any(|p| matches!(p, "" | "." | "..")));
        let Some(plain) = plain.filter(|p| !p.contains(['\0', '\n', '\t'])) else {
            return Err(ArchiveError::Path(path.to_owned()));
        };
        for (at, _) in plain.match_indices('/') {
            let dir = format!("/{}", plain.get(..at).unwrap_or_default());
            let node = Node { content: Content::Directory, mode: 0o755, why: "directory".to_owned() };
            self.insert(dir, node)?;
        }
        self.insert(path.to_owned(), Node { content, mode, why: why.to_owned() })
    }

    fn insert(&mut self, path: String, node: Node) -> Result<(), ArchiveError> {
        match self.nodes.get(&path) {
            None => {
                self.nodes.insert(path, node);
                Ok(())
            }
            Some(old) if old.content == node.content => Ok(()),
            Some(old) => Err(ArchiveError::Conflict { path, first: old.why.clone(), second: node.why }),
        }
    }

    /// A regular file, mode 0644.
    pub fn file(&mut self, path: &str, data: Vec<u8>, why: &str) -> Result<(), ArchiveError> {
        self.add(path, Content::File(data), 0o644, why)
    }

    /// A program, mode 0755.
    pub fn program(&mut self, path: &str, data: Vec<u8>, why: &str) -> Result<(), ArchiveError> {
        self.add(path, Content::File(data), 0o755, why)
    }

    /// Takes out the files that are compressed already (modules, most of them), with the directories above them.
    #[must_use]
    pub fn take_compressed(&mut self) -> Self {
        const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
        let compressed = |node: &Node| matches!(&node.content, Content::File(data) if data.starts_with(&MAGIC));
        let nodes = std::mem::take(&mut self.nodes).into_iter();
        let (mut taken, left): (BTreeMap<String, Node>, _) = nodes.partition(|(_, node)| compressed(node));
        self.nodes = left;
        let above = |path: &str| {
            path.match_indices('/').map(|(at, _)| path.get(..at).unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        for dir in taken.keys().flat_map(|path| above(path)).collect::<BTreeSet<_>>() {
            taken.extend(self.nodes.get(&dir).cloned().map(|node| (dir, node)));
        }
        Self { nodes: taken }
    }

    /// Whether something stands at a path.
    pub fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path)
    }

    /// All entries, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Feeds a hash with all that the archive is made of.
    pub fn digest(&self, hash: &mut impl sha2::Digest) {
        for (path, node) in &self.nodes {
            let (kind, data): (_, &[u8]) = match &node.content {
                Content::Directory => ("directory".to_owned(), &[]),
                Content::File(data) => ("file".to_owned(), data),
                Content::Link(target) => ("link".to_owned(), target.as_bytes()),
                Content::Device(major, minor) => (format!("device {major} {minor}"), &[]),
            };
            hash.update(format!("{path}\0{kind}\0{:o}\0{}\0", node.mode, data.len()));
            hash.update(data);
        }
    }

    /// Bytes of all regular files.
    pub fn file_bytes(&self) -> u64 {
        let size = |node: &Node| match &node.content {
            Content::File(data) => data.len() as u64,
            _ => 0,
        };
        self.nodes.values().map(size).sum()
    }

    /// The archive in `newc` format, padded to 512 bytes as the kernel's own tools do, behind what is in `out`. Each file goes as it
    /// is written, so that none is in memory twice.
    pub fn into_cpio(self, mtime: u32, mut out: Vec<u8>) -> io::Result<Vec<u8>> {
        out.reserve_exact(usize::try_from(self.file_bytes()).unwrap_or(0) + 256 * self.nodes.len());
        for (ino, (path, node)) in (1_u32..).zip(self.nodes) {
            let (kind, data, nlink): (_, &[u8], _) = match &node.content {
                Content::Directory => (ModeFileType::Directory, &[], 2),
                Content::File(data) => (ModeFileType::Regular, data, 1),
                Content::Link(target) => (ModeFileType::Symlink, target.as_bytes(), 1),
                Content::Device(..) => (ModeFileType::Char, &[], 1),
            };
            let mut entry = NewcBuilder::new(path.trim_start_matches('/'))
                .ino(ino)
                .mode(node.mode)
                .nlink(nlink)
                .mtime(mtime)
                .set_mode_file_type(kind);
            if let Content::Device(major, minor) = &node.content {
                entry = entry.rdev_major(*major).rdev_minor(*minor);
            }
            let size = u32::try_from(data.len()).map_err(|_| {
                io::Error::new(io::ErrorKind::FileTooLarge, format!("{path}: cpio holds files below 4 GiB"))
            })?;
            let mut writer = entry.write(out, size);
            writer.write_all(data)?;
            out = writer.finish()?;
        }
        out = cpio::newc::trailer(out)?;
        out.resize(out.len().next_multiple_of(512), 0);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_by_themselves_and_first() {
        let mut archive = Archive::default();
        archive.file("/a/b/c", b"x".to_vec(), "test").unwrap();
        let paths: Vec<&str> = archive.iter().map(|(p, _)| p).collect();
        assert_eq!(paths, ["/a", "/a/b", "/a/b/c"]);
        assert_eq!(archive.into_cpio(0, Vec::new()).unwrap().len() % 512, 0);
    }

    #[test]
    fn conflicts_and_odd_paths_are_refused() {
        let mut archive = Archive::default();
        archive.file("/a", b"x".to_vec(), "one").unwrap();
        assert!(archive.file("/a", b"y".to_vec(), "two").unwrap_err().to_string().contains("packed twice"));
        assert!(archive.file("/a/b", vec![], "below a file").is_err());
        for path in ["", "a", "/a//b", "/../x", "/a\nb"] {
            assert!(archive.file(path, vec![], "odd").is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_reader_gets_back_what_was_packed() {
        let mut archive = Archive::default();
        archive.program("/init", b"program".to_vec(), "init").unwrap();
        archive.add("/dev/console", Content::Device(5, 1), 0o600, "node").unwrap();
        archive.add("/bin/sh", Content::Link("busybox".into()), 0o777, "shell").unwrap();
        let bytes = archive.into_cpio(7, Vec::new()).unwrap();
        let reader = cpio::NewcReader::new(bytes.as_slice()).unwrap();
        assert_eq!(reader.entry().name(), "bin");
        assert_eq!(reader.entry().mtime(), 7);
    }
}
