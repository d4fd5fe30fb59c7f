//! A pool as it lies on its disks: its vdevs, its datasets, and the labels that they carry.

use super::super::machine::ZfsVersion;
use super::dataset::Dataset;
use std::collections::BTreeMap;
use taproot_init::zfs::nvlist::{NvList, Value};

/// States of a pool in its labels (`pool_state_t`).
pub const ACTIVE: u64 = 0;
/// See [`ACTIVE`].
pub const EXPORTED: u64 = 1;
/// See [`ACTIVE`].
pub const DESTROYED: u64 = 2;
const SPARE: u64 = 3;
const L2CACHE: u64 = 4;

/// A pool.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "what may be the matter with a pool, each for itself")]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its guid; those of its vdevs follow it.
    pub guid: u64,
    /// What the labels say of its state.
    pub state: u64,
    /// Transaction group of the last change of its configuration.
    pub txg: u64,
    /// Hostid of the system that used it last; 0: none.
    pub hostid: u32,
    /// `bootfs`, without the pool's name.
    pub bootfs: Option<String>,
    /// Features that this kernel does not have.
    pub unsupported: Vec<String>,
    /// Whether those matter for writing only.
    pub can_read: bool,
    /// Whether multihost protection is on.
    pub multihost: bool,
    /// Whether another system uses it right now, and says so by its heartbeat.
    pub elsewhere: bool,
    /// Whether it has a checkpoint.
    pub checkpoint: bool,
    /// Set where its newest state cannot be read.
    pub damaged: Option<Damage>,
    /// Top-level vdevs, by slot.
    pub tops: Vec<Top>,
    /// Spares.
    pub spares: Vec<Leaf>,
    /// Caches.
    pub caches: Vec<Leaf>,
    /// Datasets by name, without the pool's and the `/` behind it; the pool's own is the empty name.
    pub datasets: BTreeMap<String, Dataset>,
    /// Set while it is imported.
    pub imported: Option<Imported>,
    /// Whether anything was written to it since the machine started.
    pub written: bool,
}

/// A pool whose newest state cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// How many seconds older the newest one is that can be; `None`: there is none.
    pub loss: Option<i64>,
}

/// How a pool is imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Read-only.
    pub read_only: bool,
    /// The path that each vdev was opened at; those that are not in it could not be opened.
    pub paths: BTreeMap<u64, String>,
    /// `cachefile`, if it was given.
    pub cachefile: Option<String>,
}

/// A top-level vdev.
#[derive(Debug, Clone)]
pub struct Top {
    /// Its guid.
    pub guid: u64,
    /// What it is made of.
    pub kind: Kind,
    /// Whether it is a log device.
    pub log: bool,
    /// Its disks.
    pub leaves: Vec<Leaf>,
}

/// Kind of a top-level vdev.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A single disk.
    Disk,
    /// A mirror.
    Mirror,
    /// RAID-Z with this parity.
    Raidz(u64),
    /// What is left of a removed log: known from labels.
    Hole,
    /// What is left of a removed data vdev: known to the pool alone.
    Indirect,
}

/// A disk of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The vdev's guid.
    pub guid: u64,
    /// The path that the pool records.
    pub path: String,
    /// The transaction group of its own label, if that is older than the pool's: it was away.
    pub stale: Option<u64>,
}

impl Pool {
    /// A pool without vdevs, used last by the system with the hostid of [`super::super::machine::Machine::new`].
    pub fn new(name: &str, guid: u64) -> Self {
        Self {
            name: name.to_owned(),
            guid,
            state: ACTIVE,
            txg: 100,
            hostid: 0x00c0_ffee,
            bootfs: None,
            unsupported: Vec::new(),
            can_read: false,
            multihost: false,
            elsewhere: false,
            checkpoint: false,
            damaged: None,
            tops: Vec::new(),
            spares: Vec::new(),
            caches: Vec::new(),
            datasets: BTreeMap::from([(String::new(), Dataset::new(1))]),
            imported: None,
            written: false,
        }
    }

    fn leaf(&self, number: usize, path: &str) -> Leaf {
        let guid = self.guid.wrapping_mul(1000).wrapping_add(number as u64);
        Leaf { guid, path: path.to_owned(), stale: None }
    }

    /// With another top-level vdev. A mirror or RAID-Z has a guid of its own.
    #[must_use]
    pub fn with(mut self, kind: Kind, log: bool, paths: &[&str]) -> Self {
        let base = (self.tops.len() + 1) * 20;
        let leaves: Vec<Leaf> = paths.iter().enumerate().map(|(n, path)| self.leaf(base + n + 1, path)).collect();
        let guid = match (kind, leaves.first()) {
            (Kind::Disk, Some(leaf)) => leaf.guid,
            (Kind::Hole, _) => 0,
            _ => self.leaf(base, "").guid,
        };
        self.tops.push(Top { guid, kind, log, leaves });
        self
    }

    /// With a single disk.
    #[must_use]
    pub fn disk(self, path: &str) -> Self {
        self.with(Kind::Disk, false, &[path])
    }

    /// With a mirror.
    #[must_use]
    pub fn mirror(self, paths: &[&str]) -> Self {
        self.with(Kind::Mirror, false, paths)
    }

    /// With a spare.
    #[must_use]
    pub fn spare(mut self, path: &str) -> Self {
        let spare = self.leaf(800 + self.spares.len(), path);
        self.spares.push(spare);
        self
    }

    /// With a cache.
    #[must_use]
    pub fn cache(mut self, path: &str) -> Self {
        let cache = self.leaf(900 + self.caches.len(), path);
        self.caches.push(cache);
        self
    }

    /// With a dataset below it, and those above that one if they are not there; `name` without the pool's.
    #[must_use]
    pub fn dataset(mut self, name: &str, change: impl FnOnce(&mut Dataset)) -> Self {
        let mut at = String::new();
        for part in name.split('/') {
            if !at.is_empty() {
                at.push('/');
            }
            at.push_str(part);
            let number = self.datasets.len() as u64 + 1;
            self.datasets.entry(at.clone()).or_insert_with(|| Dataset::new(number));
        }
        if let Some(dataset) = self.datasets.get_mut(name) {
            change(dataset);
        }
        self
    }

    /// With this `bootfs`, without the pool's name.
    #[must_use]
    pub fn bootfs(mut self, name: &str) -> Self {
        self.bootfs = Some(name.to_owned());
        self
    }

    /// The full name of a dataset.
    pub fn full(&self, dataset: &str) -> String {
        if dataset.is_empty() { self.name.clone() } else { format!("{}/{dataset}", self.name) }
    }

    /// Everything it lies on: disks, spares and caches.
    pub fn devices(&self) -> Vec<Leaf> {
        let tops = self.tops.iter().flat_map(|top| &top.leaves);
        tops.chain(&self.spares).chain(&self.caches).cloned().collect()
    }

    /// The label of one of its vdevs, as it is now.
    pub fn label(&self, guid: u64, version: ZfsVersion) -> Option<NvList> {
        let aux = |leaves: &[Leaf], state| {
            let leaf = leaves.iter().find(|leaf| leaf.guid == guid)?;
            let mut label = numbers(&[("version", 5000), ("state", state), ("guid", leaf.guid)]);
            if version >= ZfsVersion::V2_3 {
                label.set("path", Value::text(&leaf.path));
            }
            Some(label)
        };
        if let Some(label) = aux(&self.spares, SPARE).or_else(|| aux(&self.caches, L2CACHE)) {
            return Some(label);
        }
        let mut tops = self.tops.iter().enumerate();
        let (id, top) = tops.find(|(_, top)| top.leaves.iter().any(|leaf| leaf.guid == guid))?;
        let leaf = top.leaves.iter().find(|leaf| leaf.guid == guid)?;
        let mut label = self.head();
        label.set("txg", Value::U64(leaf.stale.unwrap_or(self.txg)));
        label.set("top_guid", Value::U64(top.guid));
        label.set("guid", Value::U64(guid));
        if top.log {
            label.set("is_log", Value::U64(1));
        }
        label.set("vdev_children", Value::U64(self.tops.len() as u64));
        let holes: Vec<u64> =
            (0..).zip(&self.tops).filter(|(_, top)| top.kind == Kind::Hole).map(|(id, _)| id).collect();
        if !holes.is_empty() {
            label.set("hole_array", Value::U64Array(holes));
        }
        label.set("vdev_tree", Value::List(top.node(id as u64, &|leaf, _| leaf.path.clone(), None)));
        label.set("features_for_read", Value::List(NvList::new()));
        Some(label)
    }

    /// What a label and a configuration begin with.
    pub(super) fn head(&self) -> NvList {
        let mut list = numbers(&[("version", 5000)]);
        list.set("name", Value::text(&self.name));
        list.set("state", Value::U64(self.state));
        list.set("txg", Value::U64(self.txg));
        list.set("pool_guid", Value::U64(self.guid));
        if self.hostid != 0 {
            list.set("hostid", Value::U64(u64::from(self.hostid)));
        }
        list.set("hostname", Value::text(if self.hostid == super::super::HOSTID { "here" } else { "elsewhere" }));
        list
    }
}

/// How the vdevs of a pool do, by guid; and where they were opened.
pub(super) type Stats<'a> = dyn Fn(u64) -> (u64, u64) + 'a;

impl Top {
    /// Its configuration: in a label, or with statistics.
    pub(super) fn node(&self, id: u64, path: &dyn Fn(&Leaf, u64) -> String, stats: Option<&Stats<'_>>) -> NvList {
        let child = |leaf: &Leaf, id: u64| {
            let mut node = kind_of("disk", id, leaf.guid);
            node.set("path", Value::text(path(leaf, id)));
            node.set("whole_disk", Value::U64(0));
            node.set("create_txg", Value::U64(4));
            add_stats(&mut node, leaf.guid, stats);
            node
        };
        let mut node = match (self.kind, self.leaves.first()) {
            (Kind::Disk, Some(leaf)) => child(leaf, id),
            (Kind::Hole | Kind::Indirect, _) | (Kind::Disk, None) => {
                let kind = if self.kind == Kind::Hole { "hole" } else { "indirect" };
                let mut node = kind_of(kind, id, self.guid);
                add_stats(&mut node, self.guid, stats);
                return node;
            }
            (Kind::Mirror | Kind::Raidz(_), _) => {
                let raidz = matches!(self.kind, Kind::Raidz(_));
                let mut node = kind_of(if raidz { "raidz" } else { "mirror" }, id, self.guid);
                if let Kind::Raidz(parity) = self.kind {
                    node.set("nparity", Value::U64(parity));
                }
                node.set("create_txg", Value::U64(4));
                add_stats(&mut node, self.guid, stats);
                node.set("children", Value::ListArray((0..).zip(&self.leaves).map(|(n, l)| child(l, n)).collect()));
                node
            }
        };
        for (name, value) in [("metaslab_array", 256), ("metaslab_shift", 29), ("ashift", 12), ("asize", 1 << 30)] {
            node.set(name, Value::U64(value));
        }
        node.set("is_log", Value::U64(u64::from(self.log)));
        node
    }
}

fn kind_of(kind: &str, id: u64, guid: u64) -> NvList {
    let mut node = NvList::new();
    node.set("type", Value::text(kind));
    node.set("id", Value::U64(id));
    node.set("guid", Value::U64(guid));
    node
}

/// Length of `vdev_stats` in the kernels that are modelled (`vdev_stat_t`); only state and reason are looked at.
const STATS: usize = 43;

pub(super) fn add_stats(node: &mut NvList, guid: u64, stats: Option<&Stats<'_>>) {
    let Some(stats) = stats else { return };
    let (health, reason) = stats(guid);
    let mut numbers = vec![0; STATS];
    for (slot, value) in numbers.iter_mut().skip(1).zip([health, reason]) {
        *slot = value;
    }
    node.set("vdev_stats", Value::U64Array(numbers));
}

/// A list of numbers.
pub(super) fn numbers(pairs: &[(&str, u64)]) -> NvList {
    pairs.iter().map(|(name, value)| (*name, Value::U64(*value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use taproot_init::zfs::assemble::{Seen, assemble, aux_devices};
    use taproot_init::zfs::label::Label;

    fn seen(pool: &Pool) -> Vec<Seen> {
        let label = |leaf: &Leaf| Label::new(pool.label(leaf.guid, ZfsVersion::V2_3).unwrap(), 0);
        pool.devices().iter().map(|leaf| Seen::sound(leaf.path.clone(), label(leaf))).collect()
    }

    #[test]
    fn labels_assemble_to_the_pool() {
        let pool = Pool::new("tank", 7)
            .mirror(&["/dev/a", "/dev/b"])
            .with(Kind::Raidz(1), false, &["/dev/c", "/dev/d", "/dev/e"])
            .with(Kind::Hole, true, &[])
            .with(Kind::Disk, true, &["/dev/log"])
            .spare("/dev/s")
            .cache("/dev/x");
        let found = assemble(&seen(&pool));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].guid, found[0].problems.len()), ("tank", 7, 0));
        let there: Vec<_> = found[0].leaves.iter().map(|leaf| leaf.device.clone().unwrap()).collect();
        assert_eq!(there, ["/dev/a", "/dev/b", "/dev/c", "/dev/d", "/dev/e", "/dev/log"]);
        assert_eq!(found[0].missing_tops(), 0);
        assert_eq!(aux_devices(&seen(&pool)).len(), 2);
    }

    #[test]
    fn a_removed_vdev_looks_missing() {
        let pool = Pool::new("tank", 7).disk("/dev/a").with(Kind::Indirect, false, &[]);
        assert_eq!(assemble(&seen(&pool))[0].missing_tops(), 1);
    }
}
