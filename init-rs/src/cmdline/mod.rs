//! The kernel command line, read into one [`Request`]. Pure: bytes in, data out.
//!
//! Where a parameter is given more than once, the last word decides, as in the kernel, but a `taproot.` word wins over
//! the word of another system for the same setting. Each decided field remembers the word that decided it.
//! `docs/boot-parameters.md` has the tables and the reasons, [`known::KNOWN`] every word.

mod defaults;
mod describe;
pub mod edit;
mod integrity;
pub mod known;
mod layers;
mod live;
mod overlay;
mod own;
mod parse;
mod persistence;
mod root;
mod settings;
mod slips;
mod stack;
mod state;
mod upper;
mod values;
mod words;

use std::fmt;
use std::time::Duration;

pub use describe::{Setting, settings};
pub use integrity::{Integrity, LIST_FILE, another_root};
pub use layers::{ITSELF, LAYERS_MAX, LayerSettings, ToRam};
pub use live::{Images, IsoFile, LiveSettings, LiveSystem, MediumKind};
pub use parse::parse;
pub use persistence::{MediaKind, Persistence, Storage};
pub use root::is_block_device;
pub use settings::{
    Also, Automatic, Fsck, FsckSettings, HostidPolicy, ImportSettings, KeyFile, KeySettings, MountSettings, OnFailure,
    Repair, RescueSettings, ResumeSettings, SnapshotSettings, Stage, Which,
};
pub use stack::{Fallback, Stack};
pub use upper::{Upper, UpperFallback};
pub use words::{Word, tokenize};

/// A value together with the word (or default) that decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided<T> {
    /// The value.
    pub value: T,
    /// The word of the command line as it was given, or the default's name, e.g. `default (30 s)`.
    pub why: String,
}

impl<T> Decided<T> {
    /// A value decided by `why`.
    pub fn new(value: T, why: impl Into<String>) -> Self {
        Self { value, why: why.into() }
    }

    /// Whether no word decided.
    pub fn is_default(&self) -> bool {
        self.why.starts_with("default")
    }
}

/// Which root is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The `bootfs` of whichever pool has one.
    Auto,
    /// The `bootfs` of this pool (name, or guid in decimal).
    Pool(String),
    /// This dataset.
    Dataset {
        /// First component of the name (pool name, or guid in decimal).
        pool: String,
        /// Full dataset name, starting with `pool`.
        dataset: String,
    },
    /// The file system of this block device, spelled as in fstab (`UUID=`, `LABEL=`, `PARTUUID=`, `PARTLABEL=`, `/dev/...`,
    /// `MAJOR:MINOR`).
    Device(String),
    /// Whichever file system is a live medium ([`LayerSettings::live`]).
    Medium,
    /// The words name a root that cannot be used; [`crate::plan::select::choose`] refuses with this text rather than
    /// boot something that was not asked for.
    Unusable(String),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("bootfs of a pool"),
            Self::Pool(pool) => write!(f, "bootfs of pool {pool}"),
            Self::Dataset { dataset: name, .. } | Self::Device(name) => f.write_str(name),
            Self::Medium => f.write_str("a live medium"),
            Self::Unusable(_) => f.write_str("none that can be used"),
        }
    }
}

/// A module option of the command line (`module.param=value` or `module.param`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleOption {
    /// Module name, `-` replaced by `_`.
    pub module: String,
    /// Parameter name as given.
    pub param: String,
    /// Value without its surrounding quotes; `None` for a bare word.
    pub value: Option<String>,
}

impl ModuleOption {
    /// The option in the form `finit_module(2)` takes, quoted if the value holds white space.
    pub fn render(&self) -> String {
        match &self.value {
            None => self.param.clone(),
            Some(v) if v.contains(|c: char| c.is_ascii_whitespace() || c == '\x0b') => {
                format!("{}=\"{v}\"", self.param)
            }
            Some(v) => format!("{}={v}", self.param),
        }
    }
}

/// Something about the command line the user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The word as given.
    pub word: String,
    /// What was expected and what happens now.
    pub message: String,
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The kernel's part of the command line (before `--`), words as given.
    pub words: Vec<String>,
    /// Which root.
    pub root: Decided<Selector>,
    /// Whether a ZFS root is asked for, or none at all; false if `root=` names something else. Hook mode steps aside then.
    pub ours: bool,
    /// `...@snap` behind the root: the snapshot's name, without `@`.
    pub snapshot: Option<Decided<String>>,
    /// How a snapshot is booted, and what is done to the root before it is mounted.
    pub snapshots: SnapshotSettings,
    /// The root is made of layers; what `root` names is their base.
    pub layers: Option<LayerSettings>,
    /// What the words say of layers, for those that are named elsewhere; `None`: a word of theirs cannot be obeyed.
    pub stacking: Option<LayerSettings>,
    /// Roots to try when the chosen one cannot be booted, in order (`taproot.fallback=`).
    pub fallback: Vec<Decided<Fallback>>,
    /// `ro` (true) or `rw` (false); `None`: neither word, the dataset's properties decide.
    pub read_only: Option<Decided<bool>>,
    /// The root that `rootflags=` and `rootfstype=` stand beside, if another one was taken in its place.
    pub instead_of: Option<Selector>,
    /// `rootflags=`: mount options for the root, as given.
    pub root_flags: Option<Decided<String>>,
    /// `rootfstype=`: types that a root on a block device may have.
    pub root_fstype: Option<Decided<Vec<String>>>,
    /// Checks of file systems before they are mounted.
    pub fsck: FsckSettings,
    /// `init=`: path of the program to hand over to, in the new root.
    pub init: Option<Decided<String>>,
    /// Console level set by `quiet` (4), `debug` (10) or `loglevel=N`; messages of a lower level number are shown.
    pub console_level: Option<Decided<u8>>,
    /// Options for modules, in order.
    pub module_options: Vec<ModuleOption>,
    /// Modules not to load by alias (`modprobe.blacklist=`, `module_blacklist=`), `-` replaced by `_`.
    pub module_blacklist: Vec<String>,
    /// How long to wait for the wanted pool; [`Duration::MAX`] is for ever.
    pub wait: Decided<Duration>,
    /// How long to wait for missing members once the pool can be imported degraded; `None`: never import it degraded.
    pub degraded: Decided<Option<Duration>>,
    /// How pools are imported.
    pub import: ImportSettings,
    /// Keys of encrypted datasets.
    pub keys: KeySettings,
    /// Which datasets are mounted besides the root.
    pub mounts: MountSettings,
    /// Hibernation.
    pub resume: ResumeSettings,
    /// What happens when the boot cannot go on, or is stopped on purpose.
    pub rescue: RescueSettings,
    /// The words after `--`; the kernel itself passes them to init, kept for `taproot explain`.
    pub init_args: Vec<String>,
    /// Words that ask for something that cannot be done.
    pub problems: Vec<Note>,
    /// Words that look meant for us but are not understood, or mean something else than some other system made of them.
    pub notes: Vec<Note>,
}

impl Request {
    /// Whether what the boot needs first is in a pool, or may be. If not, zfs is loaded when something asks for it: its start keeps a
    /// processor for seconds, and other modules wait for that.
    pub fn names_pools(&self) -> bool {
        let layers = self.layers.as_ref().is_some_and(LayerSettings::names_pools);
        self.ours || layers || !self.import.also.is_empty() || self.rescue.menu.is_some()
    }

    /// Whether the console is to stay silent but for errors and warnings (`quiet`, or `loglevel=` up to 4).
    pub fn quiet(&self) -> bool {
        self.console_level.as_ref().is_some_and(|l| l.value <= 4)
    }

    /// The options that modules are given. The hostid that the command line gives this system is among them, in a form that
    /// the module takes (`00bab10c`, as some boot loaders write it, is none), and as the only one: options of the command
    /// line come behind packed ones, and the last counts.
    pub fn options_for_modules(&self) -> Vec<ModuleOption> {
        let mut options = self.module_options.clone();
        if let Some(hostid) = &self.import.hostid {
            options.retain(|o| (o.module.as_str(), o.param.as_str()) != ("spl", "spl_hostid"));
            let value = Some(format!("{:#x}", hostid.value));
            options.push(ModuleOption { module: "spl".to_owned(), param: "spl_hostid".to_owned(), value });
        }
        options
    }
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod dialects;
#[cfg(test)]
mod tests;
