//! Steps with a root made of layers, and their words.

use super::integrity::Check;
use super::kept_step::KeptStep;
use super::to_ram::Release;
use crate::layers::boot::Entry;
use crate::layers::{Layer, Places};
use crate::plan::layers::{Copied, Extent, LayerFile, UpperDirs};
use crate::plan::live::Sought;
use crate::plan::next::step::Mount;
use crate::plan::root::{DeviceRoot, LayeredRoot, Root};
use std::fmt;
use std::time::Duration;

/// One thing to do.
#[derive(Debug, Clone)]
pub enum LayerStep {
    /// Mount what a layered root is made of.
    Mount {
        /// Which part.
        part: Part,
        /// The mount, outside of the root.
        mount: Box<Mount>,
    },
    /// Look into a file system that may be the live medium, in a process of its own.
    LookInto {
        /// Its node.
        node: String,
        /// Its type.
        fstype: String,
        /// Since when the device is there.
        since: Duration,
        /// What is looked for.
        sought: Box<Sought>,
    },
    /// See which images are on the live medium.
    ListImages {
        /// Their directory.
        dir: String,
        /// Names of lists that may say which count.
        lists: Vec<String>,
    },
    /// The layer device is what is mounted as the base already.
    SameDevice,
    /// Ask for the properties of a dataset that a layered root is made of.
    Ask {
        /// Full name.
        dataset: String,
    },
    /// Ask which of these devices is this zvol, and what is on it.
    FindZvol {
        /// Its name.
        dataset: String,
        /// Nodes of zvols.
        nodes: Vec<String>,
        /// When it is to be there.
        until: Option<Duration>,
    },
    /// Look for the layers.
    Find {
        /// Their names.
        names: Vec<String>,
        /// Directories that they may be in; the first that has one is taken.
        roots: Vec<String>,
        /// What an earlier boot left in an upper, if it is to be a layer as well.
        retained: Option<String>,
    },
    /// See how much there is to copy to memory.
    Measure {
        /// Of what.
        copies: Vec<Copied>,
    },
    /// Copy the layers to memory, and compare what is there then with what was read.
    CopyToRam {
        /// What is copied.
        copies: Vec<Copied>,
        /// How much that is.
        extent: Extent,
    },
    /// Leave the layers where they are: there is too little memory.
    LeaveOnMedium {
        /// Why.
        why: String,
    },
    /// Give back what the layers lay on.
    Release(Release),
    /// Read the keys that signed lists are believed by.
    ReadKeys,
    /// Read the signed list of layers, and which was seen last.
    ReadList {
        /// Its file.
        file: String,
        /// Directories that it may be in.
        roots: Vec<String>,
    },
    /// Look for the tree of a layer, and for its sum.
    LookBeside(Box<LayerFile>),
    /// Read the state of layers, and see what is there of what it names.
    ReadState {
        /// Where they lie.
        places: Places,
    },
    /// Go on with what is under way: make the upper, write the state.
    EnterState {
        /// Where they lie.
        places: Places,
        /// What was decided.
        entry: Box<Entry>,
    },
    /// Leave the stack that is on trial.
    GiveUp {
        /// Where they lie.
        places: Places,
        /// Why.
        why: String,
    },
    /// Look for the layers of the state.
    FindStack {
        /// Which, the topmost first.
        stack: Vec<Layer>,
        /// Where they lie.
        places: Places,
    },
    /// Mount a layer.
    MountImage {
        /// What its name leads to.
        file: Box<LayerFile>,
        /// How it is checked before, if it must be something.
        check: Option<Check>,
    },
    /// Keep the serial number of the signed list: an older one is not believed from here on.
    KeepSerial {
        /// The list's file.
        file: String,
        /// The number.
        serial: u64,
        /// Directory on a disk that can be written, for machines whose firmware keeps nothing.
        dir: Option<String>,
    },
    /// Set the upper that is there aside.
    SetAside {
        /// What holds it.
        dir: String,
        /// The word that asks for it.
        word: String,
    },
    /// Note what lies under the upper, and tell if that is something else than before.
    NoteLowers {
        /// The note.
        note: String,
        /// What is to stand in it.
        text: String,
    },
    /// Mount something in a root that is a layer itself, so that it is not written to.
    Protect {
        /// The mount, read-only.
        mount: Box<Mount>,
        /// What holds the upper and the work directory over it; `None`: nothing can be written there.
        upper: Option<String>,
    },
    /// Make the directories of the upper.
    MakeUpper {
        /// The directories.
        dirs: UpperDirs,
        /// Whether to see if whiteouts can be made there.
        whiteout: bool,
    },
    /// The upper cannot be had: what follows is for the policy to say.
    DoWithoutUpper {
        /// Why.
        why: String,
    },
    /// Do something about what is kept on media of its own.
    Kept(KeptStep),
    /// Put the layers together, and mount that as the root.
    Overlay(Box<LayeredRoot>),
}

/// A part of a layered root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What `root=` names.
    Base(Box<Root>),
    /// The same, by a loop device: it is a file, or a disk whose partitions others are to have.
    Image(Box<Root>),
    /// The file system that holds the ISO file with the live medium.
    Host(Box<DeviceRoot>),
    /// Where further layers are.
    Device,
    /// What takes what is written.
    Upper,
    /// What took what was written, and is a layer now.
    Kept,
    /// What the layer state and its uppers lie on.
    Uppers,
}

impl LayerStep {
    /// What kind of step it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mount { .. } => "mount-part",
            Self::LookInto { .. } => "look-into",
            Self::ListImages { .. } => "list-images",
            Self::SameDevice => "same-device",
            Self::Ask { .. } => "ask-part",
            Self::FindZvol { .. } => "find-zvol",
            Self::Find { .. } => "find-layers",
            Self::Measure { .. } => "measure-layers",
            Self::CopyToRam { .. } => "copy-layers",
            Self::LeaveOnMedium { .. } => "leave-layers",
            Self::Release(_) => "release-layers",
            Self::ReadState { .. } => "read-state",
            Self::EnterState { .. } => "enter-state",
            Self::GiveUp { .. } => "give-up-trial",
            Self::FindStack { .. } => "find-stack",
            Self::SetAside { .. } => "set-upper-aside",
            Self::NoteLowers { .. } => "note-lowers",
            Self::Protect { .. } => "mount-protected",
            Self::ReadKeys => "read-keys",
            Self::ReadList { .. } => "read-list",
            Self::LookBeside(_) => "look-beside-layer",
            Self::MountImage { .. } => "mount-layer",
            Self::KeepSerial { .. } => "keep-serial",
            Self::MakeUpper { .. } => "make-upper",
            Self::DoWithoutUpper { .. } => "do-without-upper",
            Self::Kept(step) => step.name(),
            Self::Overlay(_) => "mount-overlay",
        }
    }
}

impl fmt::Display for LayerStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { mount, .. } => {
                write!(f, "mount {} on {} ({})", mount.step.dataset, mount.step.target, mount.step.why)
            }
            Self::LookInto { node, .. } => write!(f, "look whether {node} is the live medium"),
            Self::ListImages { dir, .. } => write!(f, "see which images are in the directory {dir} of the live medium"),
            Self::SameDevice => f.write_str("the layer device is what the base is on"),
            Self::Ask { dataset } => write!(f, "ask for the properties of {dataset}"),
            Self::FindZvol { dataset, .. } => write!(f, "look for the device of zvol {dataset}"),
            Self::Find { names, roots, .. } => {
                write!(f, "look for layers {} in {}", names.join(", "), roots.join(", "))
            }
            Self::Measure { copies } => write!(f, "see how much memory {} layers take", copies.len()),
            Self::CopyToRam { copies, extent } => {
                write!(f, "copy {} layers to memory, {} MiB", copies.len(), extent.bytes.div_ceil(1 << 20))
            }
            Self::LeaveOnMedium { why } => write!(f, "leave the layers where they are: too little memory: {why}"),
            Self::Release(release) => {
                let pools = release.pools.iter().map(|(pool, _)| format!("pool {pool}"));
                let all: Vec<String> = release.places.iter().cloned().chain(pools).collect();
                write!(f, "give back {}", if all.is_empty() { "nothing".to_owned() } else { all.join(", ") })
            }
            Self::ReadState { places } => write!(f, "read the layer state in {}", places.state.display()),
            Self::EnterState { entry, .. } if entry.state.is_none() => f.write_str("go by the layer state"),
            Self::EnterState { entry, .. } => {
                let notes: Vec<String> = entry.notes.iter().map(ToString::to_string).collect();
                write!(f, "write the layer state: {}", notes.join("; "))
            }
            Self::GiveUp { why, .. } => write!(f, "leave the stack on trial: {why}"),
            Self::FindStack { stack, .. } => {
                let stack: Vec<String> = stack.iter().map(ToString::to_string).collect();
                write!(f, "look for layers {}", stack.join(", "))
            }
            Self::SetAside { dir, word } => write!(f, "set the upper in {dir} aside ({word})"),
            Self::NoteLowers { note, .. } => write!(f, "note in {note} which layers the upper lies on"),
            Self::Protect { mount, upper } => {
                let how = if upper.is_some() { "under the upper" } else { "read-only" };
                write!(f, "mount {} on {}, {how} ({})", mount.step.dataset, mount.step.target, mount.step.why)
            }
            Self::ReadKeys => f.write_str("read the keys that lists of layers are signed by"),
            Self::ReadList { file, .. } => write!(f, "read the signed list of layers {file}"),
            Self::LookBeside(file) => write!(f, "look for what layer {} must be", file.name),
            Self::MountImage { file, check: None } => write!(f, "mount layer {} ({})", file.name, file.path),
            Self::MountImage { file, check: Some(Check::Tree(tree)) } => {
                write!(f, "mount layer {} ({}) under its hash tree ({})", file.name, file.path, tree.why)
            }
            Self::MountImage { file, check: Some(Check::Sum { why, .. }) } => {
                write!(f, "check layer {} ({}) by its sum ({why}), and mount it", file.name, file.path)
            }
            Self::KeepSerial { serial, .. } => write!(f, "keep in mind that list {serial} of layers was seen"),
            Self::MakeUpper { dirs, .. } => write!(f, "make an upper, {}", dirs.upper),
            Self::DoWithoutUpper { why } => write!(f, "do without the upper that is asked for: {why}"),
            Self::Kept(step) => step.fmt(f),
            Self::Overlay(root) => write!(f, "mount {} on / ({}; upper: {})", root.name, root.why, root.upper),
        }
    }
}
