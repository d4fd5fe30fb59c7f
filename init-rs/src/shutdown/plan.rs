//! What is given back, in which order. Pure.

use crate::plan::fstab::decode;
use crate::plan::names;
use crate::sorted;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    id: u64,
    parent: u64,
    pub(super) place: String,
    pub(super) kind: String,
    pub(super) source: String,
}

/// What holds disks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// As the kernel lists them.
    pub(super) mounts: Vec<Mount>,
    /// Names of device-mapper devices.
    pub(super) mapped: Vec<String>,
    /// Loop devices with a file (`loop0`).
    pub(super) loops: Vec<String>,
    /// Imported pools.
    pub(super) pools: Vec<String>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    /// Unmount what is mounted there.
    Unmount(String),
    /// Remove a device-mapper device.
    Unmap(String),
    /// Take the file from a loop device.
    Detach(String),
    /// Export a pool.
    Export(String),
    /// Make what is mounted there read-only.
    Protect(String),
}

impl Action {
    /// What it does, for a person.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Unmount(place) => format!("unmount {place}"),
            Self::Unmap(name) => format!("remove device-mapper {name}"),
            Self::Detach(name) => format!("detach {name}"),
            Self::Export(pool) => format!("export pool {pool}"),
            Self::Protect(place) => format!("make {place} read-only"),
        }
    }
}

/// Kinds that lie on no disk.
const WITHOUT_DISK: [&str; 14] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "tmpfs",
    "ramfs",
    "rootfs",
    "cgroup",
    "cgroup2",
    "mqueue",
    "debugfs",
    "tracefs",
    "securityfs",
    "efivarfs",
];

/// The mounts of a `/proc/self/mountinfo`; lines that are none are left out.
pub(super) fn mounts(text: &[u8]) -> Vec<Mount> {
    let mount = |line: &[u8]| {
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
        let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
        let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
        Some(Mount {
            id: number(fields.first()?)?,
            parent: number(fields.get(1)?)?,
            place: decode(fields.get(4)?),
            kind: decode(fields.get(dash + 1)?),
            source: decode(fields.get(dash + 2)?),
        })
    };
    text.split(|b| *b == b'\n').filter_map(mount).collect()
}

/// Whether a mount is to go: everything but our own root and what we need of it ourselves.
fn goes(mount: &Mount) -> bool {
    let ours = ["/proc", "/sys", "/dev"].iter().any(|own| names::is_within(&mount.place, own));
    !ours && !["/", "/run"].contains(&mount.place.as_str())
}

/// How many mounts a mount lies in.
fn depth(mount: &Mount, parents: &BTreeMap<u64, u64>) -> usize {
    let (mut at, mut depth) = (mount.parent, 0);
    // Numbers that lead in a circle are none of a kernel.
    while let Some(parent) = parents.get(&at).filter(|_| depth < parents.len()) {
        (at, depth) = (*parent, depth + 1);
    }
    depth
}

/// The mounts that are to go: what lies in another first, of two at one depth the one that came last.
fn going(held: &Held) -> Vec<&Mount> {
    let parents: BTreeMap<u64, u64> = held.mounts.iter().map(|mount| (mount.id, mount.parent)).collect();
    let mut list: Vec<(usize, usize, &Mount)> = held
        .mounts
        .iter()
        .enumerate()
        .filter(|(_, mount)| goes(mount))
        .map(|(at, mount)| (depth(mount, &parents), at, mount))
        .collect();
    sorted::by_key(&mut list, |(depth, at, _)| Reverse((*depth, *at)));
    list.into_iter().map(|(_, _, mount)| mount).collect()
}

/// One round: mounts, the devices that were below them, and the pools that nothing is mounted of once the mounts are gone.
/// What a round sets free is found by the next one.
pub(super) fn round(held: &Held) -> Vec<Action> {
    let unmounts = going(held).into_iter().map(|mount| Action::Unmount(mount.place.clone()));
    let unmaps = held.mapped.iter().cloned().map(Action::Unmap);
    let detaches = held.loops.iter().cloned().map(Action::Detach);
    unmounts.chain(unmaps).chain(detaches).collect()
}

/// The exports that come behind the last round. The kernel is asked for none whose datasets are still mounted: an export that it
/// refuses is not without consequences.
pub(super) fn exports(held: &Held) -> Vec<Action> {
    let used = mounted_pools(held);
    held.pools.iter().filter(|pool| !used.contains(pool.as_str())).cloned().map(Action::Export).collect()
}

/// Pools of which something is still mounted.
pub(super) fn mounted_pools(held: &Held) -> BTreeSet<&str> {
    let of_zfs = held.mounts.iter().filter(|mount| mount.kind == "zfs");
    // A snapshot of the pool's own dataset has no slash.
    of_zfs.filter_map(|mount| mount.source.split(['/', '@']).next()).collect()
}

/// The last resort for mounts that did not go: each is made read-only, if it can lie on a disk.
pub(super) fn protections(held: &Held) -> Vec<Action> {
    let on_disk = |mount: &&Mount| !WITHOUT_DISK.contains(&mount.kind.as_str());
    going(held).into_iter().filter(on_disk).map(|mount| Action::Protect(mount.place.clone())).collect()
}
