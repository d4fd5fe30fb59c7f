//! What is known of the machine's devices and modules: facts, as the scout tells them. Plain data.

use super::probe::Wanted;
use super::swap;
use super::table::canonical_name;
use crate::zfs::label::Label;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Everything that is known so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Block devices by the kernel's name (`vda1`).
    pub devices: BTreeMap<String, Device>,
    /// Modules that were asked for, by name (`_` for `-`).
    pub modules: BTreeMap<String, Module>,
    /// Whether all devices that are there have been handed to their drivers, no driver is being loaded and no event waits.
    /// More may come all the same: some controllers look for their disks in the background.
    pub settled: bool,
    /// Whether the kernel is inside the insertion of a module, also of one that counts as ready: it may be waiting there for
    /// what another driver does in the background. A system cannot be frozen meanwhile, so none is resumed.
    pub inserting: bool,
    /// When whoever looks for devices and loads modules began with it.
    pub since: Duration,
    /// Whether nobody looks for devices: what is not known of may be there all the same.
    pub unwatched: bool,
    /// When a device last came or went (time since the kernel started).
    pub last_change: Duration,
    /// Grows when one comes, goes, changes or was read: what was made from an older state is to be made anew.
    pub generation: u64,
    /// Grows with those of them that concern members of pools: labels are put together anew only then.
    pub label_generation: u64,
    /// Modaliases of devices that have no driver; known once the scout was asked for them.
    pub undriven: Vec<String>,
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The kernel's name.
    pub name: String,
    /// Its node, `/dev/vda1`.
    pub node: String,
    /// Major and minor number.
    pub number: (u32, u32),
    /// Size in bytes.
    pub size: u64,
    /// Name of the whole disk, if this is a partition.
    pub disk: Option<String>,
    /// The partition, if it is one.
    pub partition: Option<Partition>,
    /// World-wide identifier of the disk, as its driver tells it.
    pub wwid: Option<String>,
    /// Model and serial number, for people; whole disks only.
    pub identity: String,
    /// Names that udev would give it below `/dev/disk` (`by-id/...`, `by-path/...`), and those that the tools of device-mapper
    /// would give it below `/dev` (`mapper/...`).
    pub links: Vec<String>,
    /// Why it is not searched for pools: its kind, its size, or what it is part of.
    pub left_out: Option<String>,
    /// Whether nothing can be written to it, as its driver says.
    pub read_only: bool,
    /// When it appeared, or changed last.
    pub since: Duration,
    /// What is on it.
    pub content: Reading,
}

impl Device {
    /// A device of which nothing but its node, `/dev/vda`, and what is on it is known.
    pub fn known(node: &str, content: Reading) -> Self {
        Self {
            name: node.rsplit('/').next().unwrap_or(node).to_owned(),
            node: node.to_owned(),
            number: (0, 0),
            size: 0,
            disk: None,
            partition: None,
            wwid: None,
            identity: String::new(),
            links: Vec::new(),
            left_out: None,
            read_only: false,
            since: Duration::ZERO,
            content,
        }
    }
}

/// Place in a partition table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    /// Number, from 1.
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// `PARTUUID`; empty while the disk's table is not read, or if it has none.
    pub uuid: String,
    /// `PARTLABEL`; empty for none.
    pub label: String,
}

/// How far a device has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// It has not answered yet.
    Waiting,
    /// It was read.
    Done(Box<Content>),
    /// It cannot be read, and why.
    Failed(String),
    /// It is not read: it has no medium, or is part of something else.
    Never,
}

/// What is on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The file system or swap area, or another kind of content that is known by its superblock.
    pub superblock: Option<Superblock>,
    /// Whether its first page is swap space, and of what kind its hibernation image is.
    pub swap: swap::Header,
    /// What it is to ZFS.
    pub zfs: Zfs,
}

/// What a superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// As mount(8) calls it: `ext4`, `swap`; also `LUKS`, `LVM2_member` and the like.
    pub kind: String,
    /// `UUID`; empty for none.
    pub uuid: String,
    /// `LABEL`; empty for none.
    pub label: String,
}

/// What a device is to ZFS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zfs {
    /// A vdev of a pool, a spare or a cache.
    Member(ZfsLabel),
    /// Nothing.
    Nothing,
    /// It looks like a vdev, and no label of it can be used: why.
    Damaged(String),
}

/// A device's ZFS label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZfsLabel {
    /// The best of the four.
    pub label: Label,
    /// Which of the four are good copies of it.
    pub good: [bool; 4],
    /// What a superblock at the device's end says that it is part of (`linux_raid_member`).
    pub tail: Option<String>,
}

/// A module that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Module {
    /// It is being loaded.
    Starting,
    /// It is there.
    Ready,
    /// It could not be loaded, and why.
    Failed(String),
    /// It is not packed, and not built in.
    NotPacked,
}

impl Device {
    /// What is on it, if it was read.
    pub fn content(&self) -> Option<&Content> {
        match &self.content {
            Reading::Done(content) => Some(content),
            _ => None,
        }
    }

    /// Whether it was read and is a member of a pool.
    pub fn is_member(&self) -> bool {
        self.content().is_some_and(|content| matches!(content.zfs, Zfs::Member(_)))
    }

    /// The label that says of which pool it is a member, if all four are good and it is a part of nothing else. A superblock on such a
    /// device is older than the pool: ZFS leaves the first 8 KiB of a vdev as they are.
    pub fn whole_member(&self) -> Option<&ZfsLabel> {
        match &self.content()?.zfs {
            Zfs::Member(member) => Some(member).filter(|member| member.good == [true; 4] && member.tail.is_none()),
            Zfs::Nothing | Zfs::Damaged(_) => None,
        }
    }

    /// Whether its file system is that of a time before it became a member of a pool. Old swap space does no harm: who looks there
    /// looks for a hibernated system.
    fn has_older_file_system(&self) -> bool {
        self.whole_member().is_some() && self.superblock().is_some_and(|superblock| superblock.kind != "swap")
    }

    /// Whether it is a drive with nothing in it.
    pub fn has_no_medium(&self) -> bool {
        self.content == Reading::Never && self.size == 0
    }

    /// The superblock on it, if it was read and has one.
    pub fn superblock(&self) -> Option<&Superblock> {
        self.content()?.superblock.as_ref()
    }
}

/// A name that several disks answer to: which one is meant is not guessed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} are both {wanted}", nodes.join(" and "))]
pub struct Ambiguous {
    /// The name.
    pub wanted: String,
    /// The nodes, each on another disk.
    pub nodes: Vec<String>,
}

impl Ambiguous {
    /// Whether these are more than one disk.
    pub fn of(wanted: &Wanted, found: &[&Device]) -> Option<Self> {
        let first = found.first().copied()?;
        let others = found.iter().filter(|device| !device.is_another_path_of(first));
        let nodes: Vec<String> = std::iter::once(&first).chain(others).map(|device| device.node.clone()).collect();
        (nodes.len() > 1).then(|| Self { wanted: wanted.to_string(), nodes })
    }
}

impl Hardware {
    /// How far a module is, by any spelling of its name; `None`: it was not asked for.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules.get(&canonical_name(name))
    }

    /// The device behind a node.
    pub fn by_node(&self, node: &str) -> Option<&Device> {
        self.devices.values().find(|device| device.node == node)
    }

    /// The device that is meant. By label or UUID it is found only once it was read.
    pub fn find(&self, wanted: &Wanted) -> Result<Option<&Device>, Ambiguous> {
        let all = self.all(wanted);
        match Ambiguous::of(wanted, &all) {
            Some(ambiguous) => Err(ambiguous),
            None => Ok(all.first().copied()),
        }
    }

    /// Nodes of the further paths by which the disk that is meant can be reached.
    pub fn other_paths(&self, wanted: &Wanted) -> Vec<String> {
        self.all(wanted).into_iter().skip(1).map(|device| device.node.clone()).collect()
    }

    /// Every device of this name, by the kernel's names. A tag never means a whole disk that has partitions: what stands at its
    /// beginning is also what the first of them begins with, or is older than they are; nor what was there before a pool.
    pub fn all(&self, wanted: &Wanted) -> Vec<&Device> {
        let mut found: Vec<&Device> = self.devices.values().filter(|device| device.is(wanted)).collect();
        if found.len() > 1 && matches!(wanted, Wanted::Node(_)) {
            // Its own name is stronger than a link of another one.
            let own = |device: &&Device| matches!(wanted, Wanted::Node(path) if *path == Path::new(&device.node));
            if found.iter().any(own) {
                found.retain(own);
            }
        }
        if !matches!(wanted, Wanted::Node(_) | Wanted::Number(..)) {
            found.retain(|device| !self.is_divided(device));
        }
        // Names of a partition stand in the table of its disk.
        if matches!(wanted, Wanted::Label(_) | Wanted::Uuid(_)) {
            found.retain(|device| !device.has_older_file_system());
        }
        found
    }

    /// Whether this is a whole disk that has partitions.
    pub fn is_divided(&self, disk: &Device) -> bool {
        disk.disk.is_none() && self.devices.values().any(|device| device.disk.as_ref() == Some(&disk.name))
    }

    /// Devices that have not answered yet and could be the one that is meant, should they answer.
    pub fn may_be<'a>(&'a self, wanted: &'a Wanted) -> impl Iterator<Item = &'a Device> {
        // The UUID of a partition stands in its disk's table.
        let could = move |device: &&Device| match wanted {
            Wanted::Label(_) | Wanted::Uuid(_) => true,
            Wanted::PartUuid(_) => device.disk.is_none(),
            Wanted::PartLabel(_) | Wanted::Node(_) | Wanted::Number(..) => false,
        };
        self.devices.values().filter(move |device| device.content == Reading::Waiting && could(device))
    }
}

impl Device {
    /// The place on a disk that it is, the same by every path to that disk; `None` where the disk has no identifier.
    pub fn place(&self) -> Option<String> {
        let wwid = self.wwid.as_deref()?;
        let (number, start) = self.partition.as_ref().map_or((0, 0), |part| (part.number, part.start));
        Some(format!("{wwid} {number} {start} {}", self.size))
    }

    /// Whether this is the same place on the same disk, reached in another way.
    pub fn is_another_path_of(&self, other: &Self) -> bool {
        self.name == other.name || (self.wwid.is_some() && self.place() == other.place())
    }

    /// Whether this device is meant.
    pub fn is(&self, wanted: &Wanted) -> bool {
        let superblock = || self.superblock();
        let partition = || self.partition.as_ref();
        match wanted {
            Wanted::Label(label) => superblock().is_some_and(|s| s.label == *label),
            Wanted::Uuid(uuid) => superblock().is_some_and(|s| s.uuid.eq_ignore_ascii_case(uuid)),
            Wanted::PartLabel(label) => partition().is_some_and(|p| p.label == *label),
            Wanted::PartUuid(uuid) => partition().is_some_and(|p| p.uuid.eq_ignore_ascii_case(uuid)),
            Wanted::Number(major, minor) => self.number == (*major, *minor),
            Wanted::Node(path) => {
                let below = |dir: &str| path.strip_prefix(dir).ok();
                let named = |link: &String| [below("/dev/disk"), below("/dev")].contains(&Some(Path::new(link)));
                *path == Path::new(&self.node) || self.links.iter().any(named)
            }
        }
    }
}
