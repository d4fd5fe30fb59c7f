//! Datasets for tests of layouts.

use super::facts::{CanMount, Dataset, Mountpoint};
use crate::devices::known::{Content, Device, Reading, Superblock, Zfs};
use crate::devices::swap;

/// A device with this on it.
pub(super) fn filesystem(name: &str, superblock: Superblock) -> Device {
    let content = Content { superblock: Some(superblock), swap: swap::Header::default(), zfs: Zfs::Nothing };
    device(name, Reading::Done(Box::new(content)))
}

/// A whole disk of which this is known.
pub(super) fn device(name: &str, content: Reading) -> Device {
    Device { number: (8, 1), size: 1 << 30, ..Device::known(&format!("/dev/{name}"), content) }
}

/// A file system with these two properties, the others at their defaults; `mountpoint` as `zfs set` takes it.
pub(super) fn dataset(name: &str, canmount: CanMount, mountpoint: &str) -> Dataset {
    let mountpoint = match mountpoint {
        "legacy" => Mountpoint::Legacy,
        "none" => Mountpoint::None,
        path => Mountpoint::Path(path.to_owned()),
    };
    Dataset { canmount, mountpoint, ..Dataset::with_defaults(name) }
}
