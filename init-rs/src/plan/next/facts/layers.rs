//! What a boot has learnt of a root made of layers.

use crate::layers::store::{Entered, Looked};
use crate::plan::facts::Dataset;
use crate::plan::kept::KeptFacts;
use crate::plan::layers::{LayerFile, UpperDirs};
use crate::plan::live::LiveFacts;
use crate::plan::next::{Copying, IntegrityFacts, Part};
use crate::plan::root::Root;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is known of a layered root's parts.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools)] // one for each part
pub struct LayerFacts {
    /// The base, once it is mounted.
    pub base: Option<Root>,
    /// What is known of a live medium.
    pub live: LiveFacts,
    /// Whether the layer device is mounted.
    pub device: bool,
    /// Datasets that parts lie on, or why they cannot be had.
    pub datasets: BTreeMap<String, Result<Dataset, String>>,
    /// What is known of zvols that parts lie on, and when each is to be there.
    pub zvols: BTreeMap<String, (Zvol, Option<Duration>)>,
    /// Whether what the layer state and its uppers lie on is mounted.
    pub uppers_mounted: bool,
    /// What the layer state says and what of it is there, or why it cannot be had.
    pub state: Option<Result<Looked, String>>,
    /// What was done with it, and the stack that is mounted.
    pub entered: Option<Entered>,
    /// Whether a stack on trial was left because it could not be put together.
    pub gave_up: bool,
    /// What the names of the layers lead to, the topmost first.
    pub found: Option<Vec<LayerFile>>,
    /// What an earlier boot left in an upper, if it is to be a layer as well.
    pub retained: Option<String>,
    /// The machine's memory when the layers were looked for.
    pub memory: Option<Memory>,
    /// How far they are copied to memory.
    pub to_ram: Copying,
    /// Places of parts that were unmounted again, because nothing of them is needed any more.
    pub released: BTreeSet<String>,
    /// Layers that are mounted.
    pub mounted: BTreeSet<String>,
    /// Whether the upper that is a layer is mounted.
    pub kept: bool,
    /// Whether the upper that was there is set aside.
    pub set_aside: bool,
    /// Whether it is noted what lies under the upper.
    pub noted: bool,
    /// Where parts of the root are mounted that have an overlay of their own.
    pub parts: Vec<String>,
    /// What is known of how layers are checked.
    pub integrity: IntegrityFacts,
    /// Whether what the upper lies on is mounted.
    pub upper_mounted: bool,
    /// The directories of the upper, once they are made.
    pub upper: Option<UpperDirs>,
    /// The file with the state of layers, which a list on the command line overrides.
    pub overridden: Option<String>,
    /// Why the upper that was asked for cannot be had, and then the one that came in its place.
    pub no_upper: Vec<String>,
    /// What is kept on media of its own.
    pub media: KeptFacts,
}

/// A zvol that an upper lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zvol {
    /// It has a device.
    There {
        /// Its node.
        node: String,
        /// Type of its file system.
        fstype: String,
    },
    /// It has none, or not one that can be used.
    Lacking {
        /// The nodes that were looked at.
        nodes: Vec<String>,
        /// What is wrong.
        why: String,
    },
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All.
    pub total: u64,
    /// What can be had without taking it from anybody.
    pub available: u64,
}

impl LayerFacts {
    /// A part is mounted.
    pub fn part_mounted(&mut self, part: Part) {
        match part {
            Part::Base(root) | Part::Image(root) => self.base = Some(*root),
            Part::Host(device) => self.live.host = Some(*device),
            Part::Device => self.device = true,
            Part::Upper => self.upper_mounted = true,
            Part::Kept => self.kept = true,
            Part::Uppers => self.uppers_mounted = true,
        }
    }

    /// The upper cannot be had.
    pub fn without_upper(&mut self, why: String) {
        self.no_upper.push(why);
        // That of the state is a layer then.
        self.found = self.found.take().filter(|_| self.entered.is_none());
        (self.upper, self.upper_mounted) = (None, false);
    }

    /// The datasets that parts lie on.
    pub fn all_datasets(&self) -> impl Iterator<Item = Dataset> {
        let base = self.base.as_ref().and_then(Root::dataset);
        base.into_iter().chain(self.datasets.values().flatten()).cloned()
    }

    /// A key was loaded: these datasets can be mounted now.
    pub fn unlocked(&mut self, key: &str) {
        for dataset in self.datasets.values_mut().flatten().filter(|dataset| dataset.key() == key) {
            dataset.key_available = Some(true);
        }
    }
}
