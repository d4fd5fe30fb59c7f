//! Where the files of a boot loader's partition lie: in memory while an image is made, or mounted. Paths have no slash in front.

use crate::initramfs::tree;
use crate::output::{Cleanup, Target, free};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A partition's files.
pub trait Store {
    /// Names in a directory, sorted; none if it is not there.
    fn list(&self, dir: &str) -> Result<Vec<String>>;
    /// A file; `None` if it is not there.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>>;
    /// Its size.
    fn size(&self, path: &str) -> Option<u64>;
    /// Writes a file that is there whole or not at all, and the directories above it.
    fn write(&mut self, path: &str, bytes: &[u8]) -> Result<()>;
    /// The same with bytes that nobody else wants.
    fn put(&mut self, path: &str, bytes: Vec<u8>) -> Result<()> {
        self.write(path, &bytes)
    }
    /// Gives a file another name, for good; one of that name goes.
    fn rename(&mut self, from: &str, to: &str) -> Result<()>;
    /// Removes a file, or a directory with its files.
    fn remove(&mut self, path: &str) -> Result<()>;
    /// Bytes that may still be written.
    fn free(&self) -> Result<u64>;
    /// How people find it.
    fn shown(&self) -> String;
}

/// A partition that is yet to be written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Memory {
    /// What is in it.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What it may hold; `None`: it will be made large enough.
    pub limit: Option<u64>,
}

impl Store for Memory {
    fn list(&self, dir: &str) -> Result<Vec<String>> {
        let inside = self.files.keys().filter_map(|path| path.strip_prefix(dir)?.strip_prefix('/'));
        let mut names: Vec<String> = inside.filter_map(|rest| rest.split('/').next()).map(str::to_owned).collect();
        names.dedup();
        Ok(names)
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.files.get(path).cloned())
    }

    fn size(&self, path: &str) -> Option<u64> {
        self.files.get(path).map(|bytes| bytes.len() as u64)
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.put(path, bytes.to_vec())
    }

    fn put(&mut self, path: &str, bytes: Vec<u8>) -> Result<()> {
        self.files.insert(path.to_owned(), bytes);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let bytes = self.files.remove(from).with_context(|| format!("{from}: not there"))?;
        self.files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        let below = format!("{path}/");
        self.files.retain(|name, _| name != path && !name.starts_with(&below));
        Ok(())
    }

    fn free(&self) -> Result<u64> {
        let used: u64 = self.files.values().map(|bytes| bytes.len() as u64).sum();
        Ok(self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(used)))
    }

    fn shown(&self) -> String {
        "the boot loader's partition".to_owned()
    }
}

/// A mounted partition.
#[derive(Debug)]
pub struct Mounted {
    root: PathBuf,
    cleanup: Cleanup,
}

impl Mounted {
    /// At a directory.
    pub fn new(root: &Path, cleanup: &Cleanup) -> Self {
        Self { root: root.to_owned(), cleanup: cleanup.clone() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Store for Mounted {
    fn list(&self, dir: &str) -> Result<Vec<String>> {
        let path = self.at(dir);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("{}: listing", path.display()))?,
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        let mut names: Vec<String> =
            names.collect::<io::Result<_>>().with_context(|| format!("{}: listing", path.display()))?;
        names.sort();
        Ok(names)
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        match tree::named(&self.at(path), tree::BINARY) {
            Err(error) if error.is_absence() => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    fn size(&self, path: &str) -> Option<u64> {
        fs::metadata(self.at(path)).ok().filter(fs::Metadata::is_file).map(|meta| meta.len())
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = self.at(path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("{}: making it", dir.display()))?;
        }
        Target::find(&path)?.write(bytes, &self.cleanup)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.at(from), self.at(to));
        fs::rename(&from, &to).with_context(|| format!("{}: renaming to {}", from.display(), to.display()))?;
        let dir = to.parent().unwrap_or(&self.root);
        File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| format!("{}: syncing", dir.display()))
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        let path = self.at(path);
        let is_dir = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        match if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) } {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{}: removing", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn free(&self) -> Result<u64> {
        free(&self.root)
    }

    fn shown(&self) -> String {
        self.root.display().to_string()
    }
}
