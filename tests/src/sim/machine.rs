//! What a simulated machine is made of: plain data, to be changed until a [`super::World`] is made of it.

use super::files::Tree;
use super::zfs::pool::Pool;
use std::collections::BTreeMap;
use std::time::Duration;
use taproot_init::devices::known::Partition;
use taproot_init::image::ImageConfig;
use taproot_init::zfs::nvlist::NvList;

/// A machine before it is switched on.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The kernel's command line.
    pub cmdline: String,
    /// What the packer knew.
    pub image: ImageConfig,
    /// `/etc/hostid` of the image; 0: none.
    pub hostid: u32,
    /// Further files of the image.
    pub files: Tree,
    /// Version of OpenZFS; the numbers decide how it behaves.
    pub zfs: ZfsVersion,
    /// Block devices, now or later.
    pub devices: Vec<Device>,
    /// The pools on them.
    pub pools: Vec<Pool>,
    /// Modules that are packed, and how long each takes to load; what is in neither list cannot be had.
    pub modules: BTreeMap<String, ModuleSpec>,
    /// Names of what is built into the kernel (`zfs` is not).
    pub built_in: Vec<String>,
    /// Variables of UEFI firmware: name and data; `None` for a machine with another firmware.
    pub firmware: Option<BTreeMap<String, Vec<u8>>>,
    /// Devices that answer the scout, and then nobody any more.
    pub stuck: Vec<String>,
    /// Trees of the images in its file systems, by the names that stand in them.
    pub images: BTreeMap<String, Tree>,
    /// KiB of memory that can be had.
    pub memory: u64,
    /// What its media do when layers are copied from them to memory.
    pub medium: Medium,
    /// Programs that can be run, by path.
    pub programs: BTreeMap<String, ProgramSpec>,
    /// What a person types.
    pub person: Vec<Typed>,
    /// Seconds since 1970 when the kernel starts.
    pub clock: u64,
    /// When everything is over, at the latest.
    pub limit: Duration,
    /// When it starts: the time the kernel takes before PID 1 runs.
    pub started: Duration,
}

/// What a medium does in the middle of a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Medium {
    /// It can be read to its end.
    #[default]
    Good,
    /// It cannot be read any further.
    Fails,
    /// It does not answer any more.
    Silent,
}

/// A version of OpenZFS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ZfsVersion {
    /// 2.1.11, as Debian 12 has it.
    V2_1,
    /// 2.3.2.
    V2_3,
    /// 2.4.4.
    V2_4,
}

impl ZfsVersion {
    /// As `/sys/module/zfs/version` has it.
    pub fn text(self) -> &'static str {
        match self {
            Self::V2_1 => "2.1.11-1+deb12u1",
            Self::V2_3 => "2.3.2-2~bpo12+2",
            Self::V2_4 => "2.4.4-1~bpo13+1",
        }
    }
}

/// A packed module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModuleSpec {
    /// How long it takes to load.
    pub takes: Duration,
    /// Whether it is loaded at once, without anyone asking.
    pub at_boot: bool,
    /// Whether it fails.
    pub fails: bool,
}

impl ModuleSpec {
    /// One that takes this many milliseconds.
    pub fn takes(millis: u64) -> Self {
        Self { takes: Duration::from_millis(millis), at_boot: false, fails: false }
    }
}

/// A block device.
#[derive(Debug, Clone)]
pub struct Device {
    /// The kernel's name.
    pub name: String,
    /// Its number.
    pub number: (u32, u32),
    /// Bytes.
    pub size: u64,
    /// The whole disk, if it is a partition.
    pub disk: Option<String>,
    /// Its place in the table, if it is a partition.
    pub partition: Option<Partition>,
    /// World-wide identifier.
    pub wwid: Option<String>,
    /// Names below `/dev/disk`, without the leading `/`.
    pub links: Vec<String>,
    /// When it appears.
    pub arrives: Duration,
    /// When it is gone again.
    pub leaves: Option<Duration>,
    /// How long it takes to answer a read; `None`: for ever.
    pub answers: Option<Duration>,
    /// What is on it.
    pub holds: Holds,
}

/// What is on a device.
#[derive(Debug, Clone)]
pub enum Holds {
    /// Nothing known.
    Nothing,
    /// A file system.
    Filesystem {
        /// As mount(8) calls it.
        kind: String,
        /// `UUID`.
        uuid: String,
        /// `LABEL`.
        label: String,
        /// What is in it.
        tree: Tree,
    },
    /// Swap space, perhaps with an image.
    Swap {
        /// `UUID`.
        uuid: String,
        /// Signature of the image.
        image: Option<String>,
    },
    /// A member, spare or cache of a pool of [`Machine::pools`], by the vdev's guid; with the label that it has now.
    Vdev(u64),
    /// A label of its own, which need not fit any pool.
    Label(NvList),
    /// Something like a label that cannot be used: why.
    Damaged(String),
}

/// A program.
#[derive(Debug, Clone, Default)]
pub struct ProgramSpec {
    /// How long it runs; `None`: until it is killed.
    pub takes: Option<Duration>,
    /// What it prints.
    pub output: String,
    /// Its exit status.
    pub status: i32,
}

/// Something that a person types, once.
#[derive(Debug, Clone)]
pub struct Typed {
    /// A part of the question that it answers; empty: any question.
    pub question: String,
    /// The line.
    pub line: String,
    /// How long the person takes.
    pub after: Duration,
}

impl Typed {
    /// A line that answers the next question with this text in it, after a second.
    pub fn line(question: &str, line: &str) -> Self {
        Self { question: question.to_owned(), line: line.to_owned(), after: Duration::from_secs(1) }
    }
}

impl Machine {
    /// A machine without disks, whose image holds ZFS, the usual file systems, and a hostid.
    pub fn new(cmdline: &str) -> Self {
        let mut modules: BTreeMap<String, ModuleSpec> =
            ["ext4", "vfat", "xfs", "btrfs", "efivarfs", "isofs", "squashfs"]
                .into_iter()
                .map(|name| (name.to_owned(), ModuleSpec::takes(20)))
                .collect();
        modules.insert("spl".to_owned(), ModuleSpec { at_boot: true, ..ModuleSpec::takes(30) });
        modules.insert("zfs".to_owned(), ModuleSpec { at_boot: true, ..ModuleSpec::takes(800) });
        Self {
            cmdline: cmdline.to_owned(),
            image: ImageConfig { kernel: "6.12.1".to_owned(), ..ImageConfig::default() },
            hostid: 0x00c0_ffee,
            files: Tree::default(),
            zfs: ZfsVersion::V2_4,
            devices: Vec::new(),
            pools: Vec::new(),
            modules,
            built_in: ["tmpfs", "proc", "sysfs", "devtmpfs"].map(str::to_owned).to_vec(),
            firmware: None,
            stuck: Vec::new(),
            images: BTreeMap::new(),
            memory: 1 << 20,
            medium: Medium::default(),
            programs: BTreeMap::new(),
            person: Vec::new(),
            clock: 1_800_000_000,
            limit: Duration::from_secs(3600),
            started: Duration::from_millis(500),
        }
    }

    /// Adds a device that is there from the beginning and answers in five milliseconds.
    pub fn add(&mut self, name: &str, holds: Holds) -> &mut Device {
        let minor = u32::try_from(self.devices.len() * 16).unwrap_or(u32::MAX);
        let at = self.devices.len();
        self.devices.push(Device {
            name: name.to_owned(),
            number: (254, minor),
            size: 1 << 30,
            disk: None,
            partition: None,
            wwid: None,
            links: vec![format!("by-id/virtio-{name}")],
            arrives: Duration::from_millis(600 + 10 * at as u64),
            leaves: None,
            answers: Some(Duration::from_millis(5)),
            holds,
        });
        // It was pushed a line above.
        self.devices.get_mut(at).unwrap_or_else(|| unreachable!())
    }

    /// Adds a pool with a device for each of its vdevs, spares and caches, named after the recorded paths.
    pub fn add_pool(&mut self, pool: Pool) {
        for leaf in pool.devices() {
            let name = leaf.path.rsplit('/').next().unwrap_or("vdx").to_owned();
            let link = leaf.path.strip_prefix("/dev/disk/").map(str::to_owned);
            let node = if link.is_some() { format!("vd{}", self.devices.len()) } else { name };
            let device = self.add(&node, Holds::Vdev(leaf.guid));
            device.links.extend(link);
        }
        self.pools.push(pool);
    }

    /// The device with this name.
    pub fn device(&mut self, name: &str) -> Option<&mut Device> {
        self.devices.iter_mut().find(|device| device.name == name)
    }
}
