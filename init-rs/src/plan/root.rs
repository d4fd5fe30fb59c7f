//! What a boot can have for its root.

use super::facts::Dataset;
use super::options::MountOptions;

/// A root that is there, ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// A dataset of an imported pool.
    Dataset(Dataset),
    /// The file system of a block device.
    Device(DeviceRoot),
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

impl Root {
    /// Its name, for people and for the record.
    pub fn name(&self) -> &str {
        match self {
            Self::Dataset(dataset) => &dataset.name,
            Self::Device(device) => &device.name,
        }
    }

    /// The dataset, if it is one.
    pub fn dataset(&self) -> Option<&Dataset> {
        match self {
            Self::Dataset(dataset) => Some(dataset),
            Self::Device(_) => None,
        }
    }
}
