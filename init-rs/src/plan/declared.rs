//! What a boot may do, from its words: the calls on `/dev/zfs` and the mounts that it may come to need. The executor's seam
//! refuses everything else, so that a bug, or a disk that misleads us, cannot do what nobody asked for.

use super::mounts;
use crate::cmdline::{Request, Selector, Upper};
use crate::zfs::calls;
use std::collections::BTreeSet;

/// What is declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// Numbers of `/dev/zfs` calls.
    pub calls: BTreeSet<u32>,
    /// What may be mounted.
    pub mounts: Vec<Mountable>,
    /// Whether pools are only ever imported read-only, and nothing on any disk is mounted otherwise.
    pub read_only: bool,
    /// Whether images are attached and overlays mounted.
    pub layers: bool,
    /// Layers that are mounted under their hash trees alone.
    pub rooted: BTreeSet<String>,
    /// Whether the state file of layers is written.
    pub layer_state: bool,
}

/// A file system that a boot may have to mount, besides those in memory, those by which the kernel tells of itself, and layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mountable {
    /// A dataset, of a pool that was chosen or is imported.
    Dataset,
    /// The device that the words name as the root.
    RootDevice,
    /// What a line of the root's fstab names.
    Fstab,
    /// What a root of layers lies on, and what is kept beside it.
    Part,
    /// A device with a key file, read-only.
    KeyDevice,
}

impl Mountable {
    /// Its name in the record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::RootDevice => "root-device",
            Self::Fstab => "fstab",
            Self::Part => "part",
            Self::KeyDevice => "key-device",
        }
    }
}

/// Questions, which change nothing, and what every boot needs.
const ALWAYS: [u32; 9] = [
    calls::POOL_CONFIGS,
    calls::POOL_STATS,
    calls::POOL_TRYIMPORT,
    calls::POOL_GET_PROPS,
    calls::OBJSET_STATS,
    calls::DATASET_LIST_NEXT,
    calls::SNAPSHOT_LIST_NEXT,
    calls::LOAD_KEY,
    // Only of pools that this boot imported, or that were imported at its prompt: the seam knows them.
    calls::POOL_EXPORT,
];

/// What this request declares.
pub fn declared(request: &Request) -> Declared {
    let mut allowed: BTreeSet<u32> = ALWAYS.into_iter().collect();
    let read_only = request.import.read_only.value;
    let layers = request.layers.as_ref();
    let layer_pool = layers.is_some_and(|layers| {
        matches!(layers.device.as_ref().map(|device| &device.value), Some(Selector::Dataset { .. }))
            || layers.uppers().any(|upper| matches!(upper, Upper::Zvol(_) | Upper::Dataset(_)))
            || layers.persistence.as_ref().is_some_and(|kept| kept.zvol.is_some())
    });
    let in_pool = !matches!(request.root.value, Selector::Unusable(_) | Selector::Device(_) | Selector::Medium);
    if layer_pool || in_pool {
        allowed.insert(calls::POOL_IMPORT);
    }
    let snapshots = &request.snapshots;
    if in_pool && !read_only {
        // A pool's bootfs can name a snapshot, too.
        let open = matches!(request.root.value, Selector::Auto | Selector::Pool(_));
        if (request.snapshot.is_some() || open) && !snapshots.rollback.value {
            // A clone that cannot be completed is destroyed again: the seam knows which were made.
            allowed.extend([calls::CLONE, calls::SET_PROP, calls::DESTROY]);
        }
        if snapshots.rollback.value || snapshots.rollback_to.is_some() {
            allowed.insert(calls::ROLLBACK);
            if snapshots.destroy_newer.value {
                allowed.insert(calls::DESTROY_SNAPS);
            }
        }
        if snapshots.take.is_some() {
            allowed.insert(calls::SNAPSHOT);
        }
    }
    let rooted = layers.into_iter().flat_map(|layers| layers.integrity.rooted(&layers.names.value));
    let goes_on = layers.is_some_and(|layers| layers.by_state() && layers.upper.value != Upper::None);
    Declared {
        calls: allowed,
        mounts: mountable(request, layer_pool || in_pool),
        read_only,
        layers: layers.is_some(),
        layer_state: goes_on && !read_only,
        rooted: rooted.map(str::to_owned).collect(),
    }
}

/// What this request may mount; `pools`: whether it is about any.
fn mountable(request: &Request, pools: bool) -> Vec<Mountable> {
    let (fstab, layers) = (request.mounts.fstab.value, request.layers.is_some());
    let dataset = pools || fstab || !mounts::named(&[], request).is_empty();
    let device = matches!(request.root.value, Selector::Device(_)) && !layers;
    let all = [
        (Mountable::Dataset, dataset),
        (Mountable::RootDevice, device),
        (Mountable::Fstab, fstab),
        (Mountable::Part, layers),
        (Mountable::KeyDevice, request.keys.files.iter().any(|file| file.device.is_some())),
    ];
    all.into_iter().filter(|(_, asked)| *asked).map(|(what, _)| what).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::parse;

    #[test]
    fn only_words_that_ask_for_it_allow_to_destroy_or_roll_back() {
        let may = |line: &str, call| declared(&parse(line.as_bytes())).calls.contains(&call);
        for line in ["", "root=ZFS=p/d", "zfs=p", "root=ZFS=p/d@s", "root=ZFS=p/d taproot.destroy_newer=yes"] {
            assert!(!may(line, calls::ROLLBACK) && !may(line, calls::DESTROY_SNAPS), "{line}");
            assert!(!may(line, calls::SNAPSHOT), "{line}");
        }
        assert!(!may("root=ZFS=p/d", calls::DESTROY) && !may("root=ZFS=p/d", calls::CLONE));
        assert!(may("root=ZFS=p/d@s", calls::CLONE) && may("", calls::CLONE));
        assert!(may("root=ZFS=p/d bootfs.rollback=x", calls::ROLLBACK));
        assert!(!may("root=ZFS=p/d bootfs.rollback=x", calls::DESTROY_SNAPS));
        assert!(may("root=ZFS=p/d@s rollback=on taproot.destroy_newer=yes", calls::DESTROY_SNAPS));
        assert!(may("root=ZFS=p/d bootfs.snapshot=x", calls::SNAPSHOT));
        for line in ["root=ZFS=p/d@s rollback=on taproot.import=ro", "bootfs.snapshot=x taproot.import=ro"] {
            let declared = declared(&parse(line.as_bytes()));
            assert!(declared.read_only, "{line}");
            let writing = [calls::ROLLBACK, calls::CLONE, calls::SNAPSHOT, calls::SET_PROP, calls::DESTROY];
            assert!(writing.iter().all(|call| !declared.calls.contains(call)), "{line}");
        }
        assert!(!may("root=UUID=1", calls::POOL_IMPORT) && may("zfs=p", calls::POOL_IMPORT));
        let words = "root=UUID=1 bootfs.snapshot=x bootfs.rollback=y taproot.destroy_newer=yes";
        for call in [calls::SNAPSHOT, calls::ROLLBACK, calls::DESTROY_SNAPS, calls::CLONE] {
            assert!(!may(words, call), "no root in a pool");
        }
    }

    #[test]
    fn what_may_be_mounted_is_what_the_words_ask_for() {
        let named = |line: &str| {
            let declared = declared(&parse(line.as_bytes()));
            declared.mounts.into_iter().map(Mountable::name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(named("root=ZFS=p/d"), "dataset fstab");
        assert_eq!(named("root=ZFS=p/d taproot.fstab=no"), "dataset");
        assert_eq!(named("zfs=p taproot.fstab=no taproot.key=/etc/key"), "dataset");
        assert_eq!(named("zfs=p taproot.fstab=no taproot.key=LABEL=K:/key"), "dataset key-device");
        assert_eq!(named("root=UUID=1 taproot.fstab=no"), "root-device");
        assert_eq!(named("root=UUID=1"), "dataset root-device fstab", "a line can name a dataset");
        assert_eq!(named("root=UUID=1 taproot.fstab=no taproot.layers=base"), "part");
        let zvol = "root=UUID=1 taproot.fstab=no taproot.layers=base taproot.upper=zvol:p/v";
        assert_eq!(named(zvol), "dataset part");
    }
}
