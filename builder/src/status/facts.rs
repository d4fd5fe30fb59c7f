//! What was found out, as plain data. Each fact is a line of JSON between the process that looks and the one that waits for it.

use crate::initramfs::trial::Trial;
use crate::loader::NextBoot;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// The system that is looked at.
    System(System),
    /// What the boot loader boots.
    Next(Box<NextBoot>),
    /// A kernel with modules.
    Kernel(Kernel),
    /// An image.
    Image(Box<Image>),
    /// The root's pool.
    Pool(Pool),
    /// Devices that were looked for by name, with whether each is there.
    Device(String, bool),
    /// What packing would come to.
    Trial(Trial),
    /// Something that could not be looked at, and why.
    Unknown(String),
}

/// The system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// Release of the running kernel.
    pub running: String,
    /// What fstab mounts for kernels and boot loaders, and is not mounted.
    pub unmounted: Vec<String>,
    /// The boot loader's partitions that missed what the others were given.
    pub behind: Vec<String>,
    /// Where images are written, and the bytes that are free there.
    pub room: Option<(PathBuf, u64)>,
}

/// A kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Release.
    pub release: String,
    /// Whether it has zfs, as a module or built in.
    pub zfs: bool,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// In the tree.
    pub path: PathBuf,
    /// Size.
    pub bytes: u64,
    /// When it was written, in seconds since 1970.
    pub made: u64,
    /// The installed kernel that its name stands for, where the hooks or a package would put one (on Arch `initramfs-linux.img`).
    pub release: Option<String>,
    /// What it is.
    pub content: Content,
}

/// What an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Packed by `taproot`.
    Taproot(Box<Inside>),
    /// Made by another tool; with what the hook left in it, if it has taproot-init.
    Other(Option<Box<Inside>>),
    /// It cannot be read, and why.
    Unreadable(String),
    /// It was read, and is no image; why.
    Damaged(String),
}

/// What is in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// Kernel release.
    pub kernel: String,
    /// Program and version.
    pub packer: String,
    /// Words before the kernel's.
    pub cmdline: String,
    /// Pools that are expected: name and guid.
    pub pools: Vec<(String, String)>,
    /// The file system that is expected as root, if that is no dataset: source and type.
    pub root: Option<(String, String)>,
    /// Its hostid, as `hostid` prints it.
    pub hostid: Option<String>,
    /// Names of its modules; `None` if there is no table of them.
    pub modules: Option<Vec<String>>,
    /// Paths of its files.
    pub files: Vec<String>,
    /// Features of pools that its zfs module knows; empty if that cannot be seen.
    pub features: Vec<String>,
    /// Disks of the pool when it was packed: guid and path.
    pub members: Vec<(String, String)>,
    /// Whether it says what it was made of.
    pub recorded: bool,
    /// What has changed since.
    pub changes: Vec<Change>,
}

/// Something that has changed since an image was packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Of what kind.
    pub what: What,
    /// In words.
    pub text: String,
}

/// What can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Kernel modules.
    Modules,
    /// The installed taproot-init.
    Init,
    /// /etc/hostid.
    Hostid,
    /// initramfs.toml, modprobe.d.
    Configuration,
    /// Files that were asked for: keys, for example.
    Files,
    /// The root's pool is another one.
    Pool,
    /// The root's pool has other disks.
    Disks,
}

/// The root's pool, without its help.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Name.
    pub name: String,
    /// Guid, if labels tell it.
    pub guid: Option<String>,
    /// Its disks by their labels: guid and node.
    pub members: Vec<(String, String)>,
    /// What its labels say must be known to read it.
    pub features: Vec<String>,
    /// What the module says of it: ONLINE, DEGRADED, SUSPENDED.
    pub state: Option<String>,
    /// Hostid in the labels, as `hostid` prints it.
    pub hostid: Option<String>,
}
