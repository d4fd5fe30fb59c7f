//! Data sets: directories, heads, snapshots, clones, and how they hang together.

use std::collections::BTreeMap;

use super::block::{BIRTH, Bp};
use super::dmu::types;
use super::features::ZSTD;
use super::mos::Mos;
use super::random::Random;
use super::store::Space;
use super::zap::{self, Entry};

/// Words of a directory (`dsl_dir_phys_t`).
mod dir {
    pub(crate) const HEAD: usize = 1;
    pub(crate) const PARENT: usize = 2;
    pub(crate) const ORIGIN: usize = 3;
    pub(crate) const CHILDREN: usize = 4;
    pub(crate) const USED: usize = 5;
    pub(crate) const PROPERTIES: usize = 10;
    pub(crate) const FLAGS: usize = 12;
    pub(crate) const USED_HEAD: usize = 13;
    pub(crate) const USED_CHILD: usize = 15;
    pub(crate) const CLONES: usize = 18;
    pub(crate) const SIZE: usize = 256;
    pub(crate) const FLAG_BREAKDOWN: u64 = 1;
}

/// Words of a data set (`dsl_dataset_phys_t`).
mod set {
    pub(crate) const DIR: usize = 0;
    pub(crate) const PREVIOUS: usize = 1;
    pub(crate) const PREVIOUS_TXG: usize = 2;
    pub(crate) const NEXT: usize = 3;
    pub(crate) const SNAPSHOTS: usize = 4;
    pub(crate) const CHILDREN: usize = 5;
    pub(crate) const TIME: usize = 6;
    pub(crate) const TXG: usize = 7;
    pub(crate) const DEADLIST: usize = 8;
    pub(crate) const REFERENCED: usize = 9;
    pub(crate) const UNIQUE: usize = 12;
    pub(crate) const FSID: usize = 13;
    pub(crate) const GUID: usize = 14;
    pub(crate) const FLAGS: usize = 15;
    pub(crate) const POINTER_BYTES: usize = 128;
    pub(crate) const NEXT_CLONES: usize = 32;
    pub(crate) const HOLDS: usize = 34;
    pub(crate) const SIZE: usize = 320;
    pub(crate) const FLAG_UNIQUE_ACCURATE: u64 = 4;
}

/// The transaction group of the origin of all data sets.
const ORIGIN_TXG: u64 = 1;
const FSID_BITS: u64 = (1 << 56) - 1;

/// A snapshot of what is in a data set.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub(super) name: String,
    pub(super) holds: Vec<String>,
}

/// A data set whose content is written.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// Its name below the pool; empty for the pool's own.
    pub(super) name: String,
    /// Where the data set above is in the list, before this one.
    pub(super) parent: Option<usize>,
    pub(super) properties: Vec<Entry>,
    pub(super) pointer: Bp,
    pub(super) space: Space,
    pub(super) snapshot: Option<Snapshot>,
    /// Where the data set is whose snapshot this is a clone of, before this one.
    pub(super) origin: Option<usize>,
    /// Whether its blocks are compressed with zstd.
    pub(super) zstd: bool,
}

/// Numbers of objects.
#[derive(Debug, Clone, Copy)]
struct Ids {
    dir: u64,
    head: u64,
    snapshot: Option<Snapshotted>,
}

#[derive(Debug, Clone, Copy)]
struct Snapshotted {
    object: u64,
    /// The ZAP of its clones.
    clones: u64,
    /// How many there are besides the data set itself.
    count: u64,
}

/// The data sets in the pool.
#[derive(Debug)]
pub(super) struct DataSets {
    heads: Vec<u64>,
    mos_dir: u64,
    root_dir: u64,
    /// Space of all, and of the pool's own.
    all: Space,
    own: Space,
}

impl DataSets {
    /// The object of a data set.
    pub(super) fn head(&self, at: usize) -> Option<u64> {
        self.heads.get(at).copied()
    }

    /// Accounts the space of what is no data set.
    pub(super) fn account(&self, mos: &mut Mos, space: Space) {
        account(mos, self.mos_dir, space, space);
        let mut all = self.all;
        all.add(space);
        account(mos, self.root_dir, all, self.own);
    }
}

/// Says what a directory takes with all below it, and the part of its own data set.
fn account(mos: &mut Mos, dir: u64, all: Space, own: Space) {
    for (word, value) in (dir::USED..).zip([all.used, all.compressed, all.uncompressed]) {
        mos.set_word(dir, word, value);
    }
    mos.set_word(dir, dir::USED_HEAD, own.used);
    mos.set_word(dir, dir::USED_CHILD, all.used.saturating_sub(own.used));
}

struct Builder<'m> {
    mos: &'m mut Mos,
    random: Random,
    time: u64,
    /// The snapshot that all data sets come from.
    origin: Snapshotted,
    origin_dir: u64,
    /// The ZAP of data sets that come from a snapshot of a directory.
    clones: BTreeMap<u64, u64>,
    /// The ZAP of directories below a directory.
    children: BTreeMap<u64, u64>,
}

/// Adds all data sets to the pool; the first one is the pool's own.
pub(super) fn build(mos: &mut Mos, planned: &[Planned], time: u64, random: Random) -> DataSets {
    let nothing = Snapshotted { object: 0, clones: 0, count: 0 };
    let (clones, children) = (BTreeMap::new(), BTreeMap::new());
    let mut builder = Builder { mos, random, time, origin: nothing, origin_dir: 0, clones, children };
    let root_dir = builder.dir(0, "");
    let mos_dir = builder.dir(root_dir, "$MOS");
    builder.dir(root_dir, "$FREE");
    builder.make_origin(root_dir);
    let mut ids: Vec<Ids> = Vec::new();
    let mut spaces: Vec<(Space, Space)> = Vec::new();
    for plan in planned {
        let above = plan.parent.and_then(|parent| ids.get(parent)).map(|above| above.dir);
        let name = plan.name.rsplit('/').next().unwrap_or_default();
        let dir = above.map_or(root_dir, |above| builder.dir(above, name));
        let own = if plan.origin.is_some() { Space::default() } else { plan.space };
        spaces.push((own, own));
        let origin = plan.origin.and_then(|at| Some((at, ids.get(at)?.snapshot?, ids.get(at)?.dir)));
        if let Some((at, ..)) = origin
            && let Some(Ids { snapshot: Some(snapshot), .. }) = ids.get_mut(at)
        {
            snapshot.count += 1;
        }
        let made = builder.data_set(plan, dir, origin.map(|(_, snapshot, dir)| (snapshot, dir)));
        ids.push(made);
    }
    // From below: what is in a directory counts in the one above.
    for (at, plan) in planned.iter().enumerate().rev() {
        if let Some(parent) = plan.parent
            && let Some((all, _)) = spaces.get(at).copied()
            && let Some((above, _)) = spaces.get_mut(parent)
        {
            above.add(all);
        }
    }
    for (ids, (all, own)) in ids.iter().zip(&spaces) {
        account(builder.mos, ids.dir, *all, *own);
        if let Some(snapshot) = ids.snapshot {
            builder.mos.set_word(snapshot.object, set::CHILDREN, 1 + snapshot.count);
        }
    }
    let origin = builder.origin;
    builder.mos.set_word(origin.object, set::CHILDREN, 1 + origin.count);
    builder.mos.root_name("root_dataset", root_dir);
    let (all, own) = spaces.first().copied().unwrap_or_default();
    DataSets { heads: ids.iter().map(|ids| ids.head).collect(), mos_dir, root_dir, all, own }
}

impl Builder<'_> {
    /// A new directory below another.
    fn dir(&mut self, above: u64, name: &str) -> u64 {
        let dir = self.mos.bonus(types::DSL_DIR, types::DSL_DIR, vec![0; dir::SIZE]);
        let children = self.mos.zap(types::DSL_DIR_CHILD_MAP, Vec::new());
        let properties = self.mos.zap(types::DSL_PROPS, Vec::new());
        let fields = [
            (0, self.time),
            (dir::PARENT, above),
            (dir::CHILDREN, children),
            (dir::PROPERTIES, properties),
            (dir::FLAGS, dir::FLAG_BREAKDOWN),
        ];
        for (word, value) in fields {
            self.mos.set_word(dir, word, value);
        }
        self.children.insert(dir, children);
        if let Some(map) = self.children.get(&above) {
            self.mos.name(*map, name, dir);
        }
        dir
    }

    /// A new head or snapshot. `keys` are those of its deadlist: the transaction groups of the snapshots before it, and 0.
    fn object(&mut self, dir: u64, txg: u64, keys: &[u64], previous: (u64, u64)) -> u64 {
        let object = self.mos.bonus(types::DSL_DATASET, types::DSL_DATASET, vec![0; set::SIZE]);
        let lists: Vec<_> = keys.iter().map(|key| (zap::key(*key), self.mos.bpobj())).collect();
        let deadlist = self.mos.deadlist(zap::numbers(&lists));
        let fields = [
            (set::DIR, dir),
            (set::PREVIOUS, previous.0),
            (set::PREVIOUS_TXG, previous.1),
            (set::TIME, self.time),
            (set::TXG, txg),
            (set::DEADLIST, deadlist),
            (set::FSID, self.random.number() & FSID_BITS),
            (set::GUID, self.random.number()),
            (set::FLAGS, set::FLAG_UNIQUE_ACCURATE),
        ];
        for (word, value) in fields {
            self.mos.set_word(object, word, value);
        }
        object
    }

    /// Makes a snapshot of a head known to it.
    fn snapshot(&mut self, head: u64, snapshot: u64, name: &str) -> Snapshotted {
        let clones = self.mos.zap(types::NEXT_CLONES, Vec::new());
        let names = self.mos.zap(types::DSL_DS_SNAP_MAP, zap::numbers(&[(name, snapshot)]));
        self.mos.set_word(snapshot, set::NEXT, head);
        self.mos.set_word(snapshot, set::NEXT_CLONES, clones);
        self.mos.set_word(head, set::SNAPSHOTS, names);
        Snapshotted { object: snapshot, clones, count: 0 }
    }

    /// The data set without content from whose snapshot all others come.
    fn make_origin(&mut self, root_dir: u64) {
        let dir = self.dir(root_dir, "$ORIGIN");
        let snapshot = self.object(dir, ORIGIN_TXG, &[], (0, 0));
        let head = self.object(dir, ORIGIN_TXG, &[0], (snapshot, ORIGIN_TXG));
        self.mos.set_word(dir, dir::HEAD, head);
        self.origin = self.snapshot(head, snapshot, "$ORIGIN");
        self.origin_dir = dir;
    }

    /// A data set with its snapshot, from the snapshot `origin` or from that of all.
    fn data_set(&mut self, plan: &Planned, dir: u64, origin: Option<(Snapshotted, u64)>) -> Ids {
        let (from, from_dir, from_txg) = match origin {
            Some((snapshot, dir)) => (snapshot, dir, BIRTH),
            None => (self.origin, self.origin_dir, ORIGIN_TXG),
        };
        let before: &[u64] = if origin.is_some() { &[0, ORIGIN_TXG] } else { &[0] };
        let mut previous = (from.object, from_txg);
        let mut keys = before.to_vec();
        let snapshot = plan.snapshot.as_ref().map(|snapshot| {
            let object = self.object(dir, BIRTH, before, previous);
            keys.push(previous.1);
            previous = (object, BIRTH);
            self.hold(object, &snapshot.holds);
            object
        });
        let head = self.object(dir, BIRTH, &keys, previous);
        let snapshot = if let (Some(named), Some(object)) = (&plan.snapshot, snapshot) {
            Some(self.snapshot(head, object, &named.name))
        } else {
            let names = self.mos.zap(types::DSL_DS_SNAP_MAP, Vec::new());
            self.mos.set_word(head, set::SNAPSHOTS, names);
            None
        };
        let shared = snapshot.is_some() || origin.is_some();
        for object in [Some(head), snapshot.map(|snapshot| snapshot.object)].into_iter().flatten() {
            self.mos.set_bytes(object, set::POINTER_BYTES, &plan.pointer.0);
            let sizes = [plan.space.used, plan.space.compressed, plan.space.uncompressed];
            for (word, value) in (set::REFERENCED..).zip(sizes) {
                self.mos.set_word(object, word, value);
            }
            self.mos.set_word(object, set::UNIQUE, if shared { 0 } else { plan.space.used });
            if plan.zstd {
                self.mos.zapify(object, zap::numbers(&[(ZSTD, 0)]));
            }
        }
        // The oldest snapshot, or the head if there is none, is what follows the origin.
        let first = snapshot.map_or(head, |snapshot| snapshot.object);
        self.mos.name(from.clones, zap::key(first), first);
        if origin.is_none() {
            self.origin.count += 1;
        }
        let clones = self.clones.get(&from_dir).copied().unwrap_or_else(|| {
            let clones = self.mos.zap(types::DSL_CLONES, Vec::new());
            self.mos.set_word(from_dir, dir::CLONES, clones);
            clones
        });
        self.clones.insert(from_dir, clones);
        self.mos.name(clones, zap::key(head), head);
        self.mos.set_word(dir, dir::HEAD, head);
        self.mos.set_word(dir, dir::ORIGIN, from.object);
        self.mos.add_properties(dir, dir::PROPERTIES, &plan.properties);
        Ids { dir, head, snapshot }
    }

    fn hold(&mut self, snapshot: u64, tags: &[String]) {
        if tags.is_empty() {
            return;
        }
        let tags: Vec<_> = tags.iter().map(|tag| (tag, self.time)).collect();
        let holds = self.mos.zap(types::USERREFS, zap::numbers(&tags));
        self.mos.set_word(snapshot, set::HOLDS, holds);
    }
}

/// How many objects use zstd, for the count of the feature; each is extended for it.
pub(super) fn zstd_users(planned: &[Planned]) -> u64 {
    let users = planned.iter().filter(|plan| plan.zstd).map(|plan| 1 + u64::from(plan.snapshot.is_some()));
    users.sum()
}
