//! Which block device is meant by `LABEL=`, `UUID=`, `PARTLABEL=`, `PARTUUID=`, a number or a path, without udev.
//!
//! Labels and UUIDs are read from superblocks as blkid(8) reads them. Names of partitions are in the kernel's uevent
//! file; their UUIDs are not, on the kernels in use, so they are looked up in the partition table.

mod fat;
mod partition;
mod superblock;
#[cfg(test)]
mod tests;

pub use partition::gpt;
pub use superblock::{Superblock, superblock};

use super::block;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Reads `buf.len()` bytes at an offset of a device.
pub type ReadAt<'a> = dyn FnMut(&Path, u64, &mut [u8]) -> io::Result<()> + 'a;

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

/// A device that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its node.
    pub node: PathBuf,
    /// What is on it, as mount(8) calls it (`ext4`, `swap`); `None` if it is none of those known.
    pub kind: Option<&'static str>,
}

/// Looks for devices, and reads each superblock once.
#[derive(Debug)]
pub struct Prober {
    sys: PathBuf,
    dev: PathBuf,
    /// By the kernel's name: size, and what was found.
    read: BTreeMap<String, (u64, Option<Superblock>)>,
}

impl Prober {
    /// `sys` is `/sys`, `dev` is `/dev`.
    pub fn new(sys: &Path, dev: &Path) -> Self {
        Self { sys: sys.to_owned(), dev: dev.to_owned(), read: BTreeMap::new() }
    }

    /// The first device, by name, that is meant and can be read now.
    pub fn find(&mut self, wanted: &Wanted, read_at: &mut ReadAt<'_>) -> Option<Found> {
        if let Wanted::Node(path) = wanted {
            // A link that something else made, or the kernel's own name.
            let node = fs::canonicalize(path).ok()?;
            return Some(Found { kind: probe(&node, read_at).ok().flatten().map(|s| s.kind), node });
        }
        let names = block::names(&self.sys);
        self.read.retain(|name, _| names.contains(name));
        let mut partitions = names.iter().map(|name| partition::Partition::new(&self.sys, &self.dev, name));
        let name = match wanted {
            Wanted::Number(major, minor) => {
                partitions
                    .find(|p| {
                        p.uevent("MAJOR") == Some(major.to_string()) && p.uevent("MINOR") == Some(minor.to_string())
                    })?
                    .name
            }
            Wanted::PartLabel(label) => partitions.find(|p| p.label_is(label, read_at))?.name,
            Wanted::PartUuid(uuid) => partitions.find(|p| p.uuid_is(uuid, read_at))?.name,
            Wanted::Label(_) | Wanted::Uuid(_) | Wanted::Node(_) => {
                drop(partitions);
                return self.by_superblock(&names, wanted, read_at);
            }
        };
        let node = block::node(&self.dev, &name);
        Some(Found { kind: probe(&node, read_at).ok().flatten().map(|s| s.kind), node })
    }

    fn by_superblock(&mut self, names: &[String], wanted: &Wanted, read_at: &mut ReadAt<'_>) -> Option<Found> {
        for name in names.iter().filter(|name| !boring(name)) {
            let size = number(&self.sys.join("class/block").join(name).join("size"));
            if size == 0 {
                continue;
            }
            let node = block::node(&self.dev, name);
            if self.read.get(name).is_none_or(|(known, _)| *known != size) {
                // What cannot be read now (no medium, still spinning up) is tried again.
                let Ok(superblock) = probe(&node, read_at) else { continue };
                self.read.insert(name.clone(), (size, superblock));
            }
            let Some((_, Some(superblock))) = self.read.get(name) else { continue };
            let fits = match wanted {
                Wanted::Label(label) => superblock.label.as_ref() == Some(label),
                Wanted::Uuid(uuid) => superblock.uuid.as_ref().is_some_and(|u| u.eq_ignore_ascii_case(uuid)),
                _ => false,
            };
            if fits {
                return Some(Found { node, kind: Some(superblock.kind) });
            }
        }
        None
    }
}

fn probe(node: &Path, read_at: &mut ReadAt<'_>) -> io::Result<Option<Superblock>> {
    superblock(&mut |offset, buf| read_at(node, offset, buf))
}

/// Devices that nobody puts a key or an image of memory on, and that take time to open.
fn boring(name: &str) -> bool {
    ["ram", "zram", "fd"]
        .iter()
        .any(|kind| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
}

/// The number in a sysfs file, 0 if there is none.
fn number(file: &Path) -> u64 {
    fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
