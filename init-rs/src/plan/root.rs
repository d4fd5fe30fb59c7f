//! What a boot can have for its root.

use super::facts::Dataset;
use super::layers::Overlay;
use super::options::MountOptions;
use crate::cmdline::Upper;

/// A root that is there, ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// A dataset of an imported pool.
    Dataset(Dataset),
    /// The file system of a block device.
    Device(DeviceRoot),
    /// Layers.
    Layers(Box<LayeredRoot>),
}

/// A root on a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRoot {
    /// As the command line names it.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Type of its file system.
    pub fstype: String,
    /// Flags and options to mount it with.
    pub options: MountOptions,
}

/// A root made of layers, all of whose parts are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayeredRoot {
    /// The layers, and what they lie on.
    pub name: String,
    /// What is mounted.
    pub overlay: Overlay,
    /// The layers, the topmost first.
    pub layers: Vec<String>,
    /// What takes what is written.
    pub upper: Upper,
    /// Whether nothing can be written.
    pub read_only: bool,
    /// The words that ask for it.
    pub why: String,
    /// What holds the upper and its work directory.
    pub dir: Option<String>,
    /// Whether its base is a layer itself: then nothing that belongs to that is written to.
    pub itself: bool,
    /// The dataset that is this base: what belongs to it is mounted in the root.
    pub dataset: Option<Dataset>,
    /// Datasets that it lies on.
    pub datasets: Vec<String>,
    /// Whether the parts are shown where RuckusRD has them, too.
    pub places: bool,
}

impl Root {
    /// Its name, for people and for the record.
    pub fn name(&self) -> &str {
        match self {
            Self::Dataset(dataset) => &dataset.name,
            Self::Device(device) => &device.name,
            Self::Layers(layers) => &layers.name,
        }
    }

    /// The dataset, if it is one.
    pub fn dataset(&self) -> Option<&Dataset> {
        match self {
            Self::Dataset(dataset) => Some(dataset),
            Self::Device(_) | Self::Layers(_) => None,
        }
    }

    /// The datasets that it lies on.
    pub fn datasets(&self) -> impl Iterator<Item = &str> {
        let below = match self {
            Self::Layers(layers) => layers.datasets.as_slice(),
            Self::Dataset(_) | Self::Device(_) => &[],
        };
        self.dataset().map(|dataset| dataset.name.as_str()).into_iter().chain(below.iter().map(String::as_str))
    }
}
