//! The words of [`super::next`]: steps, waits, questions.

use super::facts::{Cover, Found};
use super::layers::{KeptStep, LayerStep};
use crate::cmdline::{Decided, Selector, Stage};
use crate::plan::declared::Mountable;
use crate::plan::facts::Dataset;
use crate::plan::failure::Failure;
use crate::plan::mounts::{KeyNeed, MountStep, Remount};
use crate::plan::root::{DeviceRoot, Root};
use crate::plan::select::Choice;
use std::time::Duration;

/// What is to be done next.
#[derive(Debug, Clone)]
pub enum Next {
    /// Do this, and ask again.
    Do(Step),
    /// Nothing can be done now: wait until the facts change, or until a time.
    Wait(Wait),
    /// Ask a person.
    Ask(Question),
    /// Everything is mounted, and another tool's init goes on.
    Mounted,
    /// Hand over to this program of the new root.
    HandOver {
        /// Its path there.
        init: String,
    },
    /// The attempt is over; [`super::recover`] says what follows.
    Fail(Failure),
}

/// Something is awaited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// What, for the line that says so.
    pub what: String,
    /// The end of the patience; `None`: for ever.
    pub until: Option<Duration>,
    /// When to look again even if nothing happens.
    pub again: Option<Duration>,
}

impl Wait {
    /// Until a time, if there is one; [`Duration::MAX`] is none.
    pub fn until(what: impl Into<String>, until: impl Into<Option<Duration>>) -> Self {
        Self { what: what.into(), until: until.into().filter(|until| *until != Duration::MAX), again: None }
    }
}

/// One thing to do. Each names what it is done to; what it brings goes into the facts.
#[derive(Debug, Clone)]
pub enum Step {
    /// Have the scout load a module.
    LoadModule(String),
    /// Read the firmware's note of a hibernated system.
    ReadNote,
    /// Ask the firmware which disk the machine was started from.
    ReadOrigin,
    /// Have the scout read the page of a device that begins a hibernation image.
    LookForImage {
        /// As the request names the device.
        device: String,
        /// Its node.
        node: String,
        /// Where on it, in bytes.
        offset: u64,
    },
    /// Hand a hibernation image to the kernel.
    ResumeImage {
        /// As the request names the device.
        device: String,
        /// Its node.
        node: String,
        /// Its number.
        number: (u32, u32),
        /// Where on it, in bytes.
        offset: u64,
        /// `resume_offset=`, in pages.
        pages: Option<u64>,
        /// What is told.
        text: String,
    },
    /// Nothing (any more) is to be resumed: go on, and tell this.
    ResumeSettled {
        /// What is told.
        text: String,
        /// Whether as a warning.
        warn: bool,
        /// Whether an image may still be there, because nothing will be written.
        left: bool,
    },
    /// `noresume`: make plain swap space of an image, if there is one.
    DiscardImage {
        /// The word.
        word: String,
        /// Device as the request names it, node and offset; `None`: there is nothing to look at.
        place: Option<(String, String, u64)>,
    },
    /// Ask the zfs module for its version and this system's hostid.
    AskZfs,
    /// Ask for the imported pools.
    AskImported,
    /// Have the kernel open a candidate (TRYIMPORT); nothing is written.
    Open {
        /// Pool guid.
        guid: u64,
    },
    /// The pool is chosen.
    Take(Box<Found>),
    /// Give back a pool that this boot imported and that is not the one to boot from.
    Export {
        /// Pool name.
        pool: String,
        /// Pool guid.
        guid: u64,
    },
    /// Import the chosen pool.
    Import(Box<Choice>),
    /// Import a pool beside the root's.
    ImportOther {
        /// As it is called where it is wanted: its name or guid.
        wanted: String,
        /// The pool.
        found: Box<Found>,
    },
    /// A pool beside the root's cannot be had: go on without it.
    DoWithout {
        /// As it is called where it is wanted.
        wanted: String,
        /// Why.
        why: String,
        /// Whether as a warning.
        warn: bool,
    },
    /// Ask an imported pool for its `bootfs`.
    AskBootfs {
        /// Pool name.
        pool: String,
    },
    /// Ask for the root dataset's properties.
    AskRoot {
        /// Full name.
        dataset: String,
    },
    /// Have the key of the root.
    LoadKey {
        /// The dataset that needs it.
        dataset: String,
        /// Its encryption root.
        key: String,
        /// Whether people are asked for it.
        ask: bool,
    },
    /// Clone, roll back or snapshot as asked, before the root is mounted.
    Snapshots(Box<Snapshots>),
    /// Check the file system of a device.
    Check {
        /// Its node.
        node: String,
        /// Type.
        fstype: String,
        /// The program.
        program: String,
        /// Its arguments.
        args: Vec<String>,
        /// Whether it may repair what it finds.
        repairs: bool,
    },
    /// Do something about a root made of layers.
    Layer(LayerStep),
    /// Mount the root.
    MountRoot(Box<Mount>),
    /// Read the root's fstab.
    ReadFstab {
        /// How many mounts besides the root hold `/etc` ([`super::facts::Fstab::below`]).
        below: usize,
    },
    /// Ask for the datasets that the mounts are planned from.
    AskDatasets {
        /// The root that was named.
        root: Box<Dataset>,
        /// Whether for all that there may be; else only for those that can hold `/etc`.
        all: bool,
    },
    /// Try to have the keys of what else would be mounted.
    LoadKeys {
        /// The keys.
        keys: Vec<KeyNeed>,
    },
    /// Plan the mounts that are not made yet.
    PlanMounts {
        /// The root.
        root: Box<Root>,
        /// Whether for good; else only to find what holds `/etc`.
        all: bool,
    },
    /// Tell of what is left out.
    TellLeftOut,
    /// Remount the root.
    Remount {
        /// The root.
        root: Box<Root>,
        /// How, and why.
        how: Remount,
    },
    /// Mount what belongs to the root.
    Mount(Box<Mount>),
    /// Pass over a mount that cannot be made.
    PassOver {
        /// The step.
        step: Box<MountStep>,
        /// Why.
        why: String,
    },
    /// Find the program to start.
    FindInit {
        /// Name of the root.
        root: String,
    },
    /// Take mounts away that are empty and hide the program to start.
    Uncover {
        /// The mounts.
        covers: Vec<Cover>,
    },
    /// Write the record, forget failed boots, give back what was borrowed.
    GetReady,
}

impl Step {
    /// What it mounts, and from where, if it says so; what a step does that says nothing mounts no device and no dataset.
    pub fn mounts(&self) -> Option<(Mountable, &str)> {
        let (what, mount) = match self {
            Self::MountRoot(mount) => (Mountable::RootDevice, mount),
            Self::Mount(mount) | Self::Layer(LayerStep::Protect { mount, .. }) => (Mountable::Fstab, mount),
            Self::Layer(LayerStep::Mount { mount, .. }) => (Mountable::Part, mount),
            Self::Layer(LayerStep::Kept(KeptStep::Mount { mount, .. } | KeptStep::Host { mount, .. })) => {
                (Mountable::Part, mount)
            }
            Self::Layer(LayerStep::Kept(KeptStep::Search { mount, .. })) => (Mountable::Part, mount.as_ref()?),
            _ => return None,
        };
        Some((if mount.fstype == "zfs" { Mountable::Dataset } else { what }, mount.source.as_str()))
    }
}

/// One mount, with what mount(2) gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The step of the plan.
    pub step: MountStep,
    /// Dataset, node or name.
    pub source: String,
    /// Type.
    pub fstype: String,
}

/// What is asked to be done with snapshots.
#[derive(Debug, Clone)]
pub struct Snapshots {
    /// The root that was named.
    pub root: Dataset,
    /// The snapshot behind its name.
    pub snapshot: Option<Decided<String>>,
}

/// Where a boot of this root stops at a stage, in words.
pub fn place_of(stage: Stage, root: &Selector) -> &'static str {
    match (stage, root) {
        (Stage::Start, _) => "before anything is looked for",
        (Stage::Import, Selector::Device(_) | Selector::Medium) => "before the root device is checked and mounted",
        (Stage::Import, _) => "before the pool is imported",
        (Stage::Mount, _) => "before anything is mounted",
        (Stage::HandOver, _) => "before the hand-over",
    }
}

/// What a person is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What to do at a stop.
    Stop {
        /// Where.
        stage: Stage,
        /// The word that asks for it.
        word: String,
    },
    /// Which root.
    Menu {
        /// The one that is next.
        current: String,
        /// How long; `None`: for ever.
        timeout: Option<Duration>,
        /// The word that asks for it.
        word: String,
    },
}

impl Mount {
    /// A root's mount.
    pub fn of_device(root: &DeviceRoot, step: MountStep) -> Self {
        Self { step, source: root.node.clone(), fstype: root.fstype.clone() }
    }
}
