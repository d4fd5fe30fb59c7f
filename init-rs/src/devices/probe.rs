//! Which block device is meant by `LABEL=`, `UUID=`, `PARTLABEL=`, `PARTUUID=`, a number or a path, without udev.
//!
//! Labels and UUIDs are read from superblocks as blkid(8) reads them. Names of partitions are in the kernel's uevent
//! file; their UUIDs are not, on the kernels in use, so they are looked up in the partition table. Reading is done by the
//! scout, once for each device; [`super::known`] then tells which one is meant.

mod fat;
mod partition;
mod sealed;
mod stacked;
mod superblock;
mod tail;
#[cfg(test)]
mod tests;

pub use partition::{PartitionTable, guid};
pub use sealed::{SEALED_HEAD, Sealed, sealed};
pub use superblock::{Superblock, superblock};
pub use tail::tail;

use std::fmt;
use std::path::PathBuf;

/// What stands before a value, and what it makes of the value.
type Spelling = (&'static str, fn(String) -> Wanted);

/// A device as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// `LABEL=`: of its file system or swap area.
    Label(String),
    /// `UUID=`: of its file system or swap area; case does not matter.
    Uuid(String),
    /// `PARTLABEL=`: name of the partition in a GPT.
    PartLabel(String),
    /// `PARTUUID=`: of the partition in a GPT, or `SIGNATURE-NN` in an MBR.
    PartUuid(String),
    /// A path below `/dev`, also `/dev/disk/by-label/` and its like.
    Node(PathBuf),
    /// `major:minor`.
    Number(u32, u32),
}

impl Wanted {
    /// From the spelling of mount(8) and of the kernel's `resume=`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let unquoted = |value: &str| Some(value.trim_matches('"').to_owned()).filter(|value| !value.is_empty());
        let tags: [Spelling; 4] = [
            ("PARTLABEL=", Self::PartLabel),
            ("PARTUUID=", Self::PartUuid),
            ("LABEL=", Self::Label),
            ("UUID=", Self::Uuid),
        ];
        for (tag, make) in tags {
            if let Some(value) = text.strip_prefix(tag) {
                return unquoted(value).map(make);
            }
        }
        if let Some(path) = text.strip_prefix("/dev/") {
            let links: [Spelling; 4] = [
                ("disk/by-partlabel/", Self::PartLabel),
                ("disk/by-partuuid/", Self::PartUuid),
                ("disk/by-label/", Self::Label),
                ("disk/by-uuid/", Self::Uuid),
            ];
            let link = links.into_iter().find_map(|(dir, make)| Some(make(unescape(path.strip_prefix(dir)?))));
            return Some(link.unwrap_or_else(|| Self::Node(PathBuf::from(text)))).filter(|_| !path.is_empty());
        }
        let (major, minor) = text.split_once(':')?;
        Some(Self::Number(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// udev writes what it does not like in a link's name as `\x20`.
fn unescape(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        if let Some(byte) = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.extend_from_slice(b"\\x");
            rest = after;
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(value) => write!(f, "LABEL={value}"),
            Self::Uuid(value) => write!(f, "UUID={value}"),
            Self::PartLabel(value) => write!(f, "PARTLABEL={value}"),
            Self::PartUuid(value) => write!(f, "PARTUUID={value}"),
            Self::Node(path) => write!(f, "{}", path.display()),
            Self::Number(major, minor) => write!(f, "{major}:{minor}"),
        }
    }
}
