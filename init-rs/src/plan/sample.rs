//! Datasets for tests of layouts.

use super::facts::{CanMount, Dataset, Mountpoint};

/// A file system with these two properties, the others at their defaults; `mountpoint` as `zfs set` takes it.
pub(super) fn dataset(name: &str, canmount: CanMount, mountpoint: &str) -> Dataset {
    let mountpoint = match mountpoint {
        "legacy" => Mountpoint::Legacy,
        "none" => Mountpoint::None,
        path => Mountpoint::Path(path.to_owned()),
    };
    Dataset { canmount, mountpoint, ..Dataset::with_defaults(name) }
}
