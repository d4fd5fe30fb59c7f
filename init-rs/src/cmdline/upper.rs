//! What takes what is written to a root made of layers.

use super::root::spaces;
use super::values::{directory, number};
use crate::plan::names;
use std::fmt;

/// Where the upper and its work directory are on a file system that is not theirs alone.
pub(super) const UPPER_DIR: &str = "upper";

/// What takes what is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upper {
    /// A directory of the base.
    Directory(String),
    /// Memory.
    Ram {
        /// As tmpfs takes it; `None`: what there is room for.
        size: Option<String>,
        /// At most so many files; `None`: what there is room for.
        inodes: Option<u64>,
    },
    /// The file system in this zvol.
    Zvol(String),
    /// This dataset.
    Dataset(String),
    /// The file system of a block device, as fstab spells it.
    Device(String),
    /// What a medium keeps all of the root on, by its `persistence.conf`; no word names it.
    Medium(String),
    /// Nothing: the root is read-only.
    None,
}

impl fmt::Display for Upper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "directory {path} of the root device"),
            Self::Ram { size, .. } => match size {
                Some(size) => write!(f, "memory, at most {size}"),
                None => f.write_str("memory"),
            },
            Self::Zvol(name) => write!(f, "zvol {name}"),
            Self::Dataset(name) => write!(f, "dataset {name}"),
            Self::Device(spec) => f.write_str(spec),
            Self::Medium(name) => write!(f, "{name}, by its persistence.conf"),
            Self::None => f.write_str("none: the root is read-only"),
        }
    }
}

/// What follows when the upper cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpperFallback {
    /// The boot fails. The default.
    Fail,
    /// What is written goes to memory.
    Ram,
    /// Nothing can be written.
    ReadOnly,
}

/// The value of `taproot.upper=`.
pub(super) fn upper(text: &str) -> Option<Upper> {
    let dataset = |name: &str| {
        let name = spaces(name);
        (names::check(&name).is_ok() && name.contains('/')).then_some(name)
    };
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    Some(match (kind, rest) {
        ("none", "") => Upper::None,
        ("dir", "") => Upper::Directory(UPPER_DIR.to_owned()),
        ("dir", path) => Upper::Directory(directory(path).filter(|path| !path.is_empty())?),
        ("ram", size) => return ram(size),
        ("zvol", name) => Upper::Zvol(dataset(name)?),
        ("zfs", name) => Upper::Dataset(dataset(name)?),
        ("label", label) => Upper::Device(format!("LABEL={}", Some(label).filter(|label| !label.is_empty())?)),
        _ if super::is_block_device(text) => Upper::Device(text.to_owned()),
        _ => return None,
    })
}

/// `[SIZE][,inodes=N]`, as tmpfs takes a size: bytes with K, M or G behind them, or a part of the memory.
pub(super) fn ram(text: &str) -> Option<Upper> {
    let (size, inodes) = match text.split_once(",inodes=") {
        Some((size, inodes)) => (size, Some(number(inodes).filter(|n| *n > 0)?)),
        None => (text, None),
    };
    let digits = size.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G', '%']);
    let good = number(digits).is_some_and(|n| n > 0) && size.len() <= digits.len() + 1;
    let size = if size.is_empty() { None } else { Some(size).filter(|_| good).map(str::to_owned) };
    (size.is_some() || text.is_empty() || text.starts_with(',')).then_some(Upper::Ram { size, inodes })
}
