//! Data sets: directories, heads, snapshots, clones, and how they hang together.

use std::collections::BTreeMap;

use super::block::Bp;
use super::dead::Dead;
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
    pub(crate) const USED_SNAPSHOTS: usize = 14;
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
    /// This, compressed, uncompressed, and what is in nothing else.
    pub(crate) const REFERENCED: usize = 9;
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
pub(super) const ORIGIN_TXG: u64 = 1;
const FSID_BITS: u64 = (1 << 56) - 1;

/// A snapshot of what is in a data set.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub(super) name: String,
    pub(super) holds: Vec<String>,
}

/// A state of a data set, as it is written.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) txg: u64,
    pub(super) pointer: Bp,
    pub(super) space: Space,
    /// What the state before had besides.
    pub(super) dead: Dead,
    /// The last state may have none.
    pub(super) snapshot: Option<Snapshot>,
}

/// A data set whose content is written.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// Its name below the pool; empty for the pool's own.
    pub(super) name: String,
    /// Where the data set above is in the list, before this one.
    pub(super) parent: Option<usize>,
    pub(super) properties: Vec<Entry>,
    /// Its states, the last one is what it holds. A clone has none.
    pub(super) states: Vec<State>,
    /// Where the data set is whose snapshot this is a clone of, before this one, and which of its snapshots.
    pub(super) origin: Option<(usize, usize)>,
    /// Whether its blocks are compressed with zstd.
    pub(super) zstd: bool,
}

impl Planned {
    fn snapshots(&self) -> impl Iterator<Item = &State> {
        self.states.iter().filter(|state| state.snapshot.is_some())
    }

    /// What the snapshots hold that the data set does not.
    fn dead(&self) -> Space {
        let mut all = Space::default();
        self.states.iter().for_each(|state| all.add(state.dead.space));
        all
    }
}

/// Numbers of objects.
#[derive(Debug, Clone)]
struct Ids {
    dir: u64,
    head: u64,
    snapshots: Vec<Snapshotted>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Snapshotted {
    object: u64,
    txg: u64,
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
    own: Own,
}

/// What a directory takes without those below it: all of it, and the part of the data set.
#[derive(Debug, Clone, Copy, Default)]
struct Own {
    all: Space,
    head: Space,
}

impl DataSets {
    /// The object of a data set.
    pub(super) fn head(&self, at: usize) -> Option<u64> {
        self.heads.get(at).copied()
    }

    /// Accounts the space of what is no data set.
    pub(super) fn account(&self, mos: &mut Mos, space: Space) {
        account(mos, self.mos_dir, space, Own { all: space, head: space });
        let mut all = self.all;
        all.add(space);
        account(mos, self.root_dir, all, self.own);
    }
}

/// Says what a directory takes with all below it.
fn account(mos: &mut Mos, dir: u64, all: Space, own: Own) {
    for (word, value) in (dir::USED..).zip([all.used, all.compressed, all.uncompressed]) {
        mos.set_word(dir, word, value);
    }
    mos.set_word(dir, dir::USED_HEAD, own.head.used);
    mos.set_word(dir, dir::USED_SNAPSHOTS, own.all.used.saturating_sub(own.head.used));
    mos.set_word(dir, dir::USED_CHILD, all.used.saturating_sub(own.all.used));
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
    let (clones, children) = (BTreeMap::new(), BTreeMap::new());
    let origin = Snapshotted::default();
    let mut builder = Builder { mos, random, time, origin, origin_dir: 0, clones, children };
    let root_dir = builder.dir(0, "");
    let mos_dir = builder.dir(root_dir, "$MOS");
    builder.dir(root_dir, "$FREE");
    builder.make_origin(root_dir);
    let mut ids: Vec<Ids> = Vec::new();
    let mut spaces: Vec<(Space, Own)> = Vec::new();
    for plan in planned {
        let above = plan.parent.and_then(|parent| ids.get(parent)).map(|above| above.dir);
        let name = plan.name.rsplit('/').next().unwrap_or_default();
        let dir = above.map_or(root_dir, |above| builder.dir(above, name));
        let head = plan.states.last().map(|state| state.space).unwrap_or_default();
        let mut own = Own { all: head, head };
        own.all.add(plan.dead());
        spaces.push((own.all, own));
        let made = if let Some((at, nth)) = plan.origin {
            builder.clone_of(plan, dir, planned.get(at), ids.get_mut(at), nth)
        } else {
            builder.data_set(plan, dir)
        };
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
        for snapshot in &ids.snapshots {
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

    /// A new head or snapshot. `keys` are those of its dead list: 0, and the transaction groups of the snapshots before it but for
    /// the last one.
    fn object(&mut self, dir: u64, txg: u64, keys: &[u64], previous: (u64, u64), dead: &Dead) -> u64 {
        let object = self.mos.bonus(types::DSL_DATASET, types::DSL_DATASET, vec![0; set::SIZE]);
        let lists: Vec<_> = keys.iter().map(|key| (zap::key(*key), self.mos.bpobj(dead.bucket(*key)))).collect();
        let deadlist = self.mos.deadlist(zap::numbers(&lists), dead.space);
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

    /// Makes a snapshot known to what follows it.
    fn follow(&mut self, snapshot: u64, txg: u64, next: u64) -> Snapshotted {
        let clones = self.mos.zap(types::NEXT_CLONES, Vec::new());
        self.mos.set_word(snapshot, set::NEXT, next);
        self.mos.set_word(snapshot, set::NEXT_CLONES, clones);
        Snapshotted { object: snapshot, txg, clones, count: 0 }
    }

    fn name_snapshots(&mut self, head: u64, names: &[(&str, u64)]) {
        let names = self.mos.zap(types::DSL_DS_SNAP_MAP, zap::numbers(names));
        self.mos.set_word(head, set::SNAPSHOTS, names);
    }

    /// The data set without content from whose snapshot all others come.
    fn make_origin(&mut self, root_dir: u64) {
        let dir = self.dir(root_dir, "$ORIGIN");
        let nothing = Dead::default();
        let snapshot = self.object(dir, ORIGIN_TXG, &[], (0, 0), &nothing);
        let head = self.object(dir, ORIGIN_TXG, &[0], (snapshot, ORIGIN_TXG), &nothing);
        self.mos.set_word(dir, dir::HEAD, head);
        self.origin = self.follow(snapshot, ORIGIN_TXG, head);
        self.name_snapshots(head, &[("$ORIGIN", snapshot)]);
        self.origin_dir = dir;
    }

    /// Says what a head or snapshot holds, and how much of it is in nothing else.
    fn hold_state(&mut self, object: u64, (pointer, space): (&Bp, Space), unique: u64, zstd: bool) {
        self.mos.set_bytes(object, set::POINTER_BYTES, &pointer.0);
        for (word, value) in (set::REFERENCED..).zip([space.used, space.compressed, space.uncompressed, unique]) {
            self.mos.set_word(object, word, value);
        }
        if zstd {
            self.mos.zapify(object, zap::numbers(&[(ZSTD, 0)]));
        }
    }

    /// A data set with its snapshots.
    fn data_set(&mut self, plan: &Planned, dir: u64) -> Ids {
        let mut keys = vec![0];
        let mut previous = (self.origin.object, ORIGIN_TXG);
        let mut made: Vec<(u64, &State, u64)> = Vec::new();
        for state in plan.snapshots() {
            let object = self.object(dir, state.txg, &keys, previous, &state.dead);
            made.push((object, state, previous.1));
            keys.push(previous.1);
            previous = (object, state.txg);
        }
        let nothing = Dead::default();
        let last = plan.states.last();
        let dead = last.filter(|last| last.snapshot.is_none()).map_or(&nothing, |last| &last.dead);
        let txg = last.map_or(ORIGIN_TXG, |last| last.txg);
        let head = self.object(dir, txg, &keys, previous, dead);
        let mut snapshots = Vec::new();
        let mut names = Vec::new();
        for (nth, (object, state, before)) in made.iter().enumerate() {
            let next = made.get(nth + 1);
            let after = next.map_or(dead, |(_, state, _)| &state.dead);
            // Its own are those that were not in the one before and are not in the one behind it.
            let unique = after.bucket(*before).map_or(0, |bucket| bucket.space.used);
            self.hold_state(*object, (&state.pointer, state.space), unique, plan.zstd);
            snapshots.push(self.follow(*object, state.txg, next.map_or(head, |(object, ..)| *object)));
            if let Some(snapshot) = &state.snapshot {
                self.hold(*object, &snapshot.holds);
                names.push((snapshot.name.as_str(), *object));
            }
        }
        self.name_snapshots(head, &names);
        if let Some(last) = last {
            let shared = made.last().map_or(0, |(_, state, _)| state.space.used).saturating_sub(dead.space.used);
            let unique = if last.snapshot.is_some() { 0 } else { last.space.used.saturating_sub(shared) };
            self.hold_state(head, (&last.pointer, last.space), unique, plan.zstd);
        }
        // The oldest snapshot, or the head if there is none, is what follows the origin.
        let first = snapshots.first().map_or(head, |snapshot| snapshot.object);
        self.origin.count += 1;
        let (origin, origin_dir) = (self.origin, self.origin_dir);
        self.come_from(plan, dir, (first, head), origin, origin_dir);
        Ids { dir, head, snapshots }
    }

    /// A clone of a snapshot of another data set.
    fn clone_of(&mut self, plan: &Planned, dir: u64, of: Option<&Planned>, ids: Option<&mut Ids>, nth: usize) -> Ids {
        let mut made = Ids { dir, head: 0, snapshots: Vec::new() };
        let Some(ids) = ids else { return made };
        let state = of.and_then(|of| of.snapshots().nth(nth));
        let before: Vec<u64> = ids.snapshots.iter().take(nth).map(|snapshot| snapshot.txg).collect();
        let last = of.and_then(|of| of.states.last()).map_or(ORIGIN_TXG, |last| last.txg);
        let (Some(state), Some(origin)) = (state, ids.snapshots.get_mut(nth)) else { return made };
        origin.count += 1;
        let keys: Vec<u64> = [0, ORIGIN_TXG].into_iter().chain(before).collect();
        let head = self.object(dir, last, &keys, (origin.object, origin.txg), &Dead::default());
        self.name_snapshots(head, &[]);
        self.hold_state(head, (&state.pointer, state.space), 0, plan.zstd);
        self.come_from(plan, dir, (head, head), *origin, ids.dir);
        made.head = head;
        made
    }

    /// Says what the first of a data set's objects and its head come from.
    fn come_from(&mut self, plan: &Planned, dir: u64, (first, head): (u64, u64), origin: Snapshotted, origin_dir: u64) {
        self.mos.name(origin.clones, zap::key(first), first);
        let clones = self.clones.get(&origin_dir).copied().unwrap_or_else(|| {
            let clones = self.mos.zap(types::DSL_CLONES, Vec::new());
            self.mos.set_word(origin_dir, dir::CLONES, clones);
            clones
        });
        self.clones.insert(origin_dir, clones);
        self.mos.name(clones, zap::key(head), head);
        self.mos.set_word(dir, dir::HEAD, head);
        self.mos.set_word(dir, dir::ORIGIN, origin.object);
        self.mos.add_properties(dir, dir::PROPERTIES, &plan.properties);
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
    let users = planned.iter().filter(|plan| plan.zstd).map(|plan| 1 + plan.snapshots().count() as u64);
    users.sum()
}
