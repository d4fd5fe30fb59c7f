//! What a boot has learnt so far: plain data that only grows within an attempt. The executor puts in what its steps bring;
//! [`super::next`] decides from it.

use crate::cmdline::{Decided, LayerSettings, Request, Selector, SnapshotSettings, Stage};
use crate::devices::known::Module;
use crate::devices::swap::Header;
use crate::firmware::origin::Origin;
use crate::image::ExpectedPool;
use crate::layers::store::{Entered, Looked};
use crate::plan::candidates::Opened;
use crate::plan::facts::{Dataset, PoolFact};
use crate::plan::failure::Failure;
use crate::plan::fstab::FstabEntry;
use crate::plan::mounts::{Made, MountPlan, MountStep};
use crate::plan::names;
use crate::plan::next::Mount;
use crate::plan::root::{DeviceRoot, LayeredRoot, Root};
use crate::plan::select::Choice;
use crate::zfs::assemble::{Candidate, Seen};
use crate::zfs::nvlist::NvList;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod layers;

pub use layers::{LayerFacts, Memory, Zvol};

/// Everything but devices and modules (which are [`crate::devices::known::Hardware`]).
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The running kernel.
    pub kernel: Kernel,
    /// Pools that the image was packed for.
    pub expected: Vec<ExpectedPool>,
    /// Whether another tool's init is PID 1: then the boot ends with the mounts.
    pub hook: bool,
    /// The zfs module, once it was asked.
    pub zfs: Option<ZfsModule>,
    /// The only devices that are searched for pools; `None`: all.
    pub only: Option<BTreeSet<String>>,
    /// The pools on the disks.
    pub disks: Disks,
    /// Pools that are imported; `None`: not asked yet, or something has changed.
    pub imported: Option<Vec<PoolFact>>,
    /// Guids of pools that this boot imported, and how.
    pub ours: BTreeMap<u64, Import>,
    /// The firmware's note of a hibernated system.
    pub note: Note,
    /// Why it tells nothing.
    pub note_problem: String,
    /// How far the module of the firmware's variables was when they could not be read.
    pub note_module: Option<Module>,
    /// What is written down of the disk that the machine was started from; `None`: not asked for.
    pub origin: Option<Origin>,
    /// Hibernation, as far as it is settled.
    pub resume: Resume,
    /// Stages that were stopped at, or where nobody was to be asked.
    pub stopped: Vec<Stage>,
    /// Whether the menu of roots was shown.
    pub offered: bool,
    /// How many fallback roots were taken.
    pub fallbacks_taken: usize,
    /// Where a retry begins: the root of the command line, or the one that a person chose.
    pub begin: Option<Asked>,
    /// The attempt under way.
    pub attempt: Attempt,
}

/// The running kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// Whether it has `/sys/power/resume`.
    pub resumes: bool,
    /// Whether the machine was started by UEFI firmware.
    pub efi: bool,
    /// Bytes of a memory page.
    pub page: usize,
    /// File systems that it knows (`/proc/filesystems`) before any module was loaded.
    pub filesystems: BTreeSet<String>,
    /// Programs in the image that check file systems, by type.
    pub fsck: BTreeMap<String, String>,
}

/// The zfs module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZfsModule {
    /// Its version.
    pub version: String,
    /// This system's hostid, 0 if it has none.
    pub hostid: u32,
    /// When it answered first.
    pub ready: Duration,
}

impl ZfsModule {
    /// `relatime` is on by default since OpenZFS 2.2.
    pub fn relatime_default(&self) -> bool {
        let mut numbers = self.version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (2, 2)
    }
}

/// How a pool was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its name.
    pub pool: String,
    /// Whether read-only.
    pub read_only: bool,
    /// Whether it was for itself: by a person at the prompt, or because something beside the root is in it. Then it stays as long
    /// as it may be used.
    pub beside: bool,
}

/// The pools that the labels on the disks make up.
#[derive(Debug, Clone, Default)]
pub struct Disks {
    /// State of the hardware that this was made from.
    pub generation: Option<u64>,
    /// The labels.
    pub labels: Vec<Seen>,
    /// The pools.
    pub candidates: Vec<Candidate>,
    /// When each pool was seen first, and what the kernel said of it.
    pub watched: BTreeMap<u64, Watched>,
}

/// One candidate over time.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// When a label of it was seen first.
    pub since: Duration,
    /// The last TRYIMPORT; another one needs other devices.
    pub opened: Option<Opened>,
}

/// What is known of the firmware's note of where the system hibernated to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Note {
    /// Nothing yet, or it is of no interest.
    #[default]
    Unread,
    /// There is none.
    Absent,
    /// It could not be looked for: as good as none. It is looked for again once the module of the variables is further than it was.
    NoVariables,
    /// It is there, and is taken for the command line's word.
    There,
    /// It is there and tells nothing; it is read again for another attempt.
    Unreadable,
}

/// Whether a hibernated system waits to be resumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hibernated {
    /// It was not looked for.
    #[default]
    Unknown,
    /// One may, and could be resumed later: it matters to no attempt that writes nothing, and to each that does.
    Left,
    /// None does.
    Nobody,
}

/// The search for a hibernated system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// What came of it.
    pub settled: Hibernated,
    /// What is on the device: of which, and when it was read.
    pub page: Option<(String, Result<Header, String>)>,
    /// The kernel was asked to resume and came back: what it said, and what was on the device then.
    pub tried: Option<(Option<String>, Result<Header, String>)>,
    /// The image was discarded, or there is none to discard.
    pub discarded: bool,
}

/// One attempt to boot.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools)] // one for each part of the boot that is behind us
pub struct Attempt {
    /// When it began, or went on after a stop or the search for a hibernated system: the time to wait counts from here.
    pub began: Duration,
    /// When the last step ended: what is waited for now has been waited for since then.
    pub last_step: Duration,
    /// The pool that was chosen.
    pub found: Option<Found>,
    /// Whether the chosen pool is imported.
    pub imported: bool,
    /// Nodes with a label that is left over, as they were known when it was chosen: no pool is opened with them, whatever becomes of
    /// whoever told of them.
    pub aside: BTreeSet<String>,
    /// `bootfs` of the imported pool, once asked.
    pub bootfs: Option<Option<String>>,
    /// Where it has none, its datasets that look like roots.
    pub candidates: Vec<String>,
    /// The parts of a layered root.
    pub layers: LayerFacts,
    /// The root as it is to be mounted.
    pub root: Option<Root>,
    /// Pools beside the root's that were looked for, by what they are called there: imported, with this guid, or why not.
    pub others: BTreeMap<String, Result<u64, String>>,
    /// What was done about snapshots.
    pub stand_ins: Option<StandIns>,
    /// How the check of each device ended: what is to be told, or why it must not be mounted.
    pub checked: BTreeMap<String, Result<(), String>>,
    /// Whether the check of the root was really made.
    pub root_checked: bool,
    /// Whether the root is mounted.
    pub mounted: bool,
    /// The root's fstab, once read.
    pub fstab: Option<Fstab>,
    /// The datasets that the mounts are planned from, once asked.
    pub datasets: Option<Datasets>,
    /// Encryption roots, besides the root's own, whose keys were tried.
    pub keys_tried: BTreeSet<String>,
    /// The mounts besides the root, as far as they can be planned by now; `None`: to be planned (anew).
    pub plan: Option<MountPlan>,
    /// Whether the root was remounted, or need not be.
    pub remounted: bool,
    /// The mounts besides the root that were made, or could not be, by the places that the plan had for them.
    pub made: BTreeMap<String, Made>,
    /// Datasets that were taken away again because they hid the program to start.
    pub taken_away: BTreeSet<String>,
    /// Whether people were told of what is left out.
    pub told: bool,
    /// The program to hand over to.
    pub init: Option<String>,
    /// What was found where it was looked for in vain.
    pub search: Option<Search>,
    /// Whether everything is told and nothing is left but the hand-over.
    pub ready: bool,
    /// What went wrong.
    pub failure: Option<Failure>,
}

/// The root's fstab.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fstab {
    /// Its lines.
    pub entries: Vec<FstabEntry>,
    /// How many mounts besides the root held `/etc` when it was read: with another one, it is another file.
    pub below: usize,
}

/// What the mounts are planned from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Datasets {
    /// Those that were asked for.
    pub all: Vec<Dataset>,
    /// The fstab that they were asked for with ([`Fstab::below`]); `None`: without one, so that only those are here that the
    /// words name or that lie below the root.
    pub fstab: Option<usize>,
}

/// The program to start was looked for in vain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// What was looked for.
    pub tried: Vec<String>,
    /// What was found, a line each.
    pub found: Vec<String>,
    /// Mounts that may hide it, in the order of their places.
    pub covers: Vec<Cover>,
    /// Whether it is there without all of these that are empty.
    pub without_empty: bool,
}

/// A mount that may hide the program to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cover {
    /// The place that the plan had for it.
    pub place: String,
    /// What is mounted.
    pub made: Made,
    /// Whether nothing is in it but directories.
    pub empty: bool,
    /// Whether the program is there without it.
    pub hides: bool,
}

impl Facts {
    /// Another attempt begins. What could not be read, or not be found, is looked at again.
    pub fn begin_anew(&mut self, now: Duration) {
        self.attempt = Attempt { began: now, last_step: now, ..Attempt::default() };
        if matches!(self.note, Note::Unreadable | Note::NoVariables) {
            self.note = Note::Unread;
        }
        self.origin = self.origin.take().filter(Origin::is_known);
        // The device of an image may not have been there before.
        (self.resume.page, self.resume.tried, self.resume.discarded) = (None, None, false);
        self.imported = None;
    }

    /// Nothing (any more) is to be resumed, or it is left. The time to wait for the root begins here: that for the resume device is
    /// another.
    pub fn resume_settled(&mut self, left: bool, now: Duration) {
        self.resume.settled = if left { Hibernated::Left } else { Hibernated::Nobody };
        self.attempt.began = now;
    }

    /// The layers are put together and mounted.
    pub fn overlay_mounted(&mut self, root: LayeredRoot) {
        self.attempt.mounted = true;
        self.attempt.root = Some(Root::Layers(Box::new(root)));
    }

    /// The stack on trial was left for the one before: nothing is mounted, and what was made of it is void. What is known of disks,
    /// pools and keys holds.
    pub fn trial_left(&mut self, state: Option<Result<Looked, String>>, entered: Entered) {
        let layers = LayerFacts { state, entered: Some(entered), gave_up: true, ..LayerFacts::default() };
        // Each by its name: whatever an attempt is to learn besides, it is said here whether it holds.
        let Attempt {
            began,
            last_step,
            found,
            imported,
            aside,
            bootfs,
            candidates,
            others,
            stand_ins,
            checked,
            keys_tried,
            layers: _,
            root: _,
            root_checked: _,
            mounted: _,
            fstab: _,
            datasets: _,
            plan: _,
            remounted: _,
            made: _,
            taken_away: _,
            told: _,
            init: _,
            search: _,
            ready: _,
            failure: _,
        } = std::mem::take(&mut self.attempt);
        self.attempt = Attempt {
            began,
            last_step,
            found,
            imported,
            aside,
            bootfs,
            candidates,
            layers,
            others,
            stand_ins,
            checked,
            keys_tried,
            ..Attempt::default()
        };
    }

    /// A pool was given back. Where the root is mounted, it was another one; else it is looked for anew: it may be imported again,
    /// in another way.
    pub fn exported(&mut self, guid: u64) {
        self.ours.remove(&guid);
        self.imported = None;
        if !self.attempt.mounted {
            self.attempt.found = None;
            self.attempt.imported = false;
        }
        self.disks.watched.remove(&guid);
    }

    /// The root's fstab was read while so many mounts besides the root held `/etc`; what was planned without it is void.
    pub fn fstab_read(&mut self, entries: Vec<FstabEntry>, below: usize) {
        self.attempt.fstab = Some(Fstab { entries, below });
        self.attempt.plan = None;
    }

    /// These are the datasets to plan from, as far as the fstab that is known names them.
    pub fn datasets_asked(&mut self, all: Vec<Dataset>) {
        let fstab = self.attempt.fstab.as_ref().map(|fstab| fstab.below);
        self.attempt.datasets = Some(Datasets { all, fstab });
        self.attempt.plan = None;
    }

    /// Keys were tried; these are the datasets now. What could not be unlocked is left out of the next plan.
    pub fn keys_tried(&mut self, keys: impl IntoIterator<Item = String>, all: Vec<Dataset>) {
        self.attempt.keys_tried.extend(keys);
        self.datasets_asked(all);
    }

    /// A mount was made, there, or could not be.
    pub fn mount_done(&mut self, step: &MountStep, at: Option<String>) {
        let MountStep { dataset, target, origin, place, .. } = step.clone();
        let mounted = at.is_some();
        let made = Made { dataset, target, at: at.unwrap_or_else(|| place.clone()), origin, mounted };
        self.attempt.made.insert(place, made);
    }

    /// A mount was taken away, with what was mounted below it: that is planned again, and the program looked for again.
    pub fn uncovered(&mut self, made: &Made) {
        let attempt = &mut self.attempt;
        attempt.made.retain(|_, other| !other.mounted || !names::is_within(&other.at, &made.at));
        attempt.taken_away.insert(made.dataset.clone());
        (attempt.search, attempt.plan, attempt.told) = (None, None, false);
    }

    /// The root is mounted. From here on it does not matter whether its device is still known: the scout may have to be started anew.
    pub fn root_mounted(&mut self, mount: &Mount) {
        self.attempt.mounted = true;
        let Mount { step, source, fstype } = mount;
        let (name, options) = (step.dataset.clone(), step.options.clone());
        let device = DeviceRoot { name, node: source.clone(), fstype: fstype.clone(), options };
        self.attempt.root.get_or_insert(Root::Device(device));
    }
}

/// A pool that can be imported.
#[derive(Debug, Clone)]
pub struct Found {
    /// The choice.
    pub choice: Choice,
    /// What to import it with; `None` if it is imported already.
    pub config: Option<NvList>,
    /// `bootfs` as far as known.
    pub bootfs: Option<String>,
}

/// What is mounted instead of datasets of the root that was named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StandIns {
    /// The root that was named, if a snapshot of it is mounted as it is.
    pub viewed: Option<Dataset>,
    /// Original dataset to its clone or snapshot.
    pub names: BTreeMap<String, String>,
}

/// A root as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Which.
    pub root: Decided<Selector>,
    /// What lies on it.
    pub layers: Option<LayerSettings>,
    /// A snapshot of it.
    pub snapshot: Option<Decided<String>>,
    /// What is done with snapshots.
    pub snapshots: SnapshotSettings,
}

impl Asked {
    /// What a request asks for.
    pub fn of(request: &Request) -> Self {
        Self {
            root: request.root.clone(),
            layers: request.layers.clone(),
            snapshot: request.snapshot.clone(),
            snapshots: request.snapshots.clone(),
        }
    }

    /// Asks for it again.
    pub fn put_into(self, request: &mut Request) {
        request.root = self.root;
        request.layers = self.layers;
        request.snapshot = self.snapshot;
        request.snapshots = self.snapshots;
    }
}
