//! Writes ZFS pools: from a tar stream to a device or file, as an ordinary user, without ZFS on the host.
//!
//! One reader deals blocks out to workers that compress and checksum them, and one committer gives out space in the order of the
//! input: the bytes do not depend on how many workers there are. Guids and salts come from a seed and times from the caller, so the
//! same input makes the same pool. Blocks are written one behind the other, then what leads to them; labels and uberblocks come
//! last, after a sync: a build that was cut leaves no pool.
//!
//! The room knows nothing of the rest of the program but the reader of archives and, for labels and nvlists, `taproot_init::zfs`.
//!
//! | file | what |
//! |---|---|
//! | `layout` | labels, metaslabs, and who gets the next free byte |
//! | `block`, `store`, `pipeline`, `sink` | compression, checksums, pointers; where blocks go; the workers; who writes |
//! | `dmu`, `zap` | objects, trees of pointers, sets of objects; names with values |
//! | `sa`, `zpl`, `tree`, `writer` | attributes of files, file systems, directories, the stream of files |
//! | `names`, `scratch` | what is remembered of a stream, beyond a limit in a temporary file |
//! | `volume`, `dead` | block devices; what a state no longer has of the one before |
//! | `reader` | reads it all back |
//! | `dsl`, `props`, `mos`, `spacemap`, `features`, `label` | data sets, their properties, the pool |
//!
//! Written from facts about the format; sources: OpenZFS 2.0 to 2.4, FreeBSD's `makefs`.

mod block;
mod bytes;
mod content;
mod dead;
mod dmu;
mod dsl;
mod features;
mod label;
mod layout;
mod mos;
mod names;
mod pipeline;
mod plan;
mod props;
mod random;
mod reader;
mod sa;
mod scratch;
mod sink;
mod spacemap;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod volume;
mod writer;
mod zap;
mod zpl;

use std::fs::File;
use std::io;

pub use block::Compression;
pub use content::Content;
pub use features::Compatibility;
pub use label::partition_name;
pub use plan::{Dataset, Options, Snapshot, State, Volume};
pub use reader::{Disk, ReadError, Seen, Verified, contents, outline, verify, verify_any};
pub use store::Device;
pub use writer::Counts;

use crate::tar::{Entries, TarError};
use dead::Dead;
use dmu::types;
use dsl::Planned;
use features::Features;
use label::Identity;
use layout::Geometry;
use mos::Mos;
use plan::{Plan, Set};
use random::Random;
use store::Store;
use tree::Tree;
use writer::Writer;
use zap::Value;
use zpl::FileSystem;

/// Why no pool was made. What is in the output then is no pool.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// What was asked for cannot be.
    #[error("{0}")]
    Option(String),
    /// The pool is too small.
    #[error("the pool is full: {size} bytes are too few for this tree, choose a larger size")]
    Full {
        /// Its size in bytes.
        size: u64,
    },
    /// Something in a file that cannot be stored.
    #[error("{0}")]
    Entry(String),
    /// The same, with the file's path.
    #[error("{path}: {what}")]
    At {
        /// The path in the archive.
        path: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// More than the format holds.
    #[error("{0} is too large for a pool")]
    TooLarge(String),
    /// Names that were made to have the same hash.
    #[error("too many names in one directory have the same hash: rename some of them")]
    Collision,
    /// A compressor failed.
    #[error("compressing: {0}")]
    Compress(String),
    /// The parts of the writer do not agree: a defect of this program.
    #[error("the pool writer lost count of itself: please report this with the command line")]
    Worker,
    /// The archive cannot be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// What was written before cannot be read again.
    #[error("reading an earlier state back")]
    Read(#[from] ReadError),
    /// Reading or writing failed.
    #[error("writing the pool")]
    Io(#[from] io::Error),
}

impl PoolError {
    /// Names the file that it is about.
    fn of(self, path: &[u8]) -> Self {
        let path = String::from_utf8_lossy(path).into_owned();
        match self {
            PoolError::Entry(what) => PoolError::At { path, what },
            PoolError::Collision => PoolError::At { path, what: PoolError::Collision.to_string() },
            other => other,
        }
    }
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The pool's guid.
    pub guid: u64,
    /// What the archive of the last state had.
    pub counts: Counts,
    /// Bytes allocated in the pool.
    pub allocated: u64,
    /// Data sets and snapshots by their names below the pool, with what was read for them, if [`Options::verify`] was set.
    pub contents: Vec<(String, Content)>,
}

/// Writes a pool with the files of a tar stream to a file or device that has `options.size` bytes from `options.offset` on.
pub fn write(out: &File, options: &Options, input: &mut dyn Entries) -> Result<Summary, PoolError> {
    write_states(&[out], options, &mut [], input)
}

/// Writes a pool to one file or device, or to several as a mirror. What it holds is `input`; before that it held `earlier`, oldest
/// first, of which snapshots are kept. Blocks that do not change from one state to the next are stored once.
pub fn write_states(
    disks: &[&File],
    options: &Options,
    earlier: &mut [State<'_>],
    input: &mut dyn Entries,
) -> Result<Summary, PoolError> {
    let plan = Plan::new(options, earlier)?;
    let geometry = Geometry::new(options.size, options.ashift, options.grow_to)?;
    let seed = Random::new(format!("{}\0{}", options.name, options.seed).as_bytes());
    let disks: Vec<Device<'_>> = disks.iter().map(|file| Device { file, offset: options.offset }).collect();
    let mut store = Store::new(&disks, geometry)?;
    let mut states = States::new(&plan, options, &seed);
    for (nth, state) in earlier.iter_mut().enumerate() {
        states.write(nth, state.input, &mut store)?;
    }
    let counts = states.write(plan.earlier.len(), input, &mut store)?;
    let (planned, contents) = states.finish();

    let mut guids = seed.of("guids");
    let (pool_guid, first) = (guids.number(), guids.number());
    let disk_guids: Vec<u64> = std::iter::once(first).chain(disks.iter().skip(1).map(|_| guids.number())).collect();
    let mut identity = Identity {
        name: options.name.clone(),
        pool_guid,
        top_guid: if disks.len() > 1 { guids.number() } else { first },
        disk_guids,
        birth: store.birth,
        compatibility: options.compatibility,
        geometry,
        metaslab_array: 0,
        time: options.time,
    };
    let root = write_mos(&plan, &planned, &mut identity, options, &seed, &mut store)?;
    store.flush()?;
    for disk in &disks {
        disk.file.sync_all()?;
    }
    identity.write(&disks, &root)?;
    Ok(Summary { guid: identity.pool_guid, counts, allocated: store.allocator.used().iter().sum(), contents })
}

/// The states of all data sets, one after the other.
struct States<'p> {
    plan: &'p Plan,
    options: &'p Options,
    systems: Vec<FileSystem>,
    planned: Vec<Planned>,
    tree: Option<Tree>,
    contents: Vec<(String, Content)>,
}

impl<'p> States<'p> {
    fn new(plan: &'p Plan, options: &'p Options, seed: &Random) -> Self {
        let system = |set: &Set| {
            let seed = seed.of(&format!("files of {}", set.name));
            FileSystem::new(set.compression, set.record, seed, options.verify.then(Content::default))
        };
        let planned = |set: &Set| Planned {
            name: set.name.clone(),
            parent: set.parent,
            properties: set.properties.clone(),
            states: Vec::new(),
            origin: set.origin,
            zstd: set.zstd,
        };
        let systems = plan.sets.iter().map(system).collect();
        let planned = plan.sets.iter().map(planned).collect();
        States { plan, options, systems, planned, tree: None, contents: Vec::new() }
    }

    /// Writes state `nth`.
    fn write(&mut self, nth: usize, input: &mut dyn Entries, store: &mut Store<'_>) -> Result<Counts, PoolError> {
        store.birth = block::BIRTH + nth as u64;
        for ((system, planned), set) in self.systems.iter_mut().zip(&self.planned).zip(&self.plan.sets) {
            if let Some(last) = planned.states.last().filter(|_| set.tree.is_some()) {
                system.next_state(last.pointer);
            }
        }
        let mounts: Vec<Option<Vec<u8>>> = self.plan.sets.iter().map(|set| set.tree.clone()).collect();
        let mut tree = Tree::new(&mounts, self.plan.time, self.tree.take())?;
        let counts = Writer::new(store, &mut self.systems, self.options.jobs)?.run(input, &mut tree)?;
        if nth < self.plan.earlier.len() {
            self.tree = Some(tree);
        }
        for at in 0..self.planned.len() {
            self.data_set(at, nth, store)?;
        }
        store.flush()?;
        Ok(counts)
    }

    /// Writes what is left of a data set in state `nth`.
    fn data_set(&mut self, at: usize, nth: usize, store: &mut Store<'_>) -> Result<(), PoolError> {
        let (Some(set), Some(planned)) = (self.plan.sets.get(at), self.planned.get_mut(at)) else {
            return Err(PoolError::Worker);
        };
        let Some(system) = self.systems.get_mut(at).filter(|_| set.origin.is_none()) else { return Ok(()) };
        let snapshot = if nth < self.plan.earlier.len() { self.plan.earlier(set, nth) } else { set.snapshot.as_ref() };
        if snapshot.is_none() && nth < self.plan.earlier.len() {
            // Nobody keeps this state, and what does not come from the stream does not change.
            return Ok(());
        }
        let (pointer, space, content) = match (planned.states.last(), &set.volume) {
            // What does not come from the stream is the same in all states.
            (Some(last), _) if set.tree.is_none() => (last.pointer, last.space, system.content),
            (None, Some(volume)) => volume::write(volume, set.compression, self.options.verify, store)?,
            _ => {
                if set.tree.is_none() {
                    system.add_root(self.plan.time, store)?;
                }
                let (pointer, space) = system.finish(store)?;
                (pointer, space, system.content)
            }
        };
        let dead = match planned.states.last() {
            None => Dead::default(),
            Some(last) => {
                let before = planned.states.iter().map(|state| state.txg);
                let snapshots: Vec<u64> = [0, dsl::ORIGIN_TXG].into_iter().chain(before).collect();
                dead::search(&last.pointer, &pointer, &snapshots, store)?
            }
        };
        system.content = content;
        if let Some(content) = content {
            if nth == self.plan.earlier.len() {
                self.contents.push((set.name.clone(), content));
            }
            if let Some(snapshot) = snapshot {
                self.contents.push((format!("{}@{}", set.name, snapshot.name), content));
            }
        }
        planned.states.push(dsl::State { txg: store.birth, pointer, space, dead, snapshot: snapshot.cloned() });
        Ok(())
    }

    fn finish(self) -> (Vec<Planned>, Vec<(String, Content)>) {
        (self.planned, self.contents)
    }
}

/// Writes the set of objects that holds all together, and returns the pointer to it.
fn write_mos(
    plan: &Plan,
    planned: &[Planned],
    identity: &mut Identity,
    options: &Options,
    seed: &Random,
    store: &mut Store<'_>,
) -> Result<block::Bp, PoolError> {
    let mut mos = Mos::new(seed.of("pool"));
    identity.metaslab_array = mos.metaslab_array();
    mos.config(identity.config().encode_xdr());
    for name in ["free_bpobj", "sync_bplist"] {
        let list = mos.bpobj(None);
        mos.root_name(name, list);
    }
    mos.root_name("deflate", 1);
    let features = Features::new(options.compatibility, dsl::zstd_users(planned));
    for (name, list) in [("features_for_read", features.read), ("features_for_write", features.write)] {
        let number = mos.zap(types::OTHER_ZAP, zap::numbers(&list));
        mos.root_name(name, number);
    }
    let descriptions = mos.zap(types::OTHER_ZAP, Vec::new());
    mos.root_name("feature_descriptions", descriptions);
    let sets = dsl::build(&mut mos, planned, options.time, seed.of("data sets"));
    let mut properties = Vec::new();
    if let Some(bootfs) = plan.bootfs.and_then(|at| sets.head(at)) {
        properties.push((b"bootfs".to_vec(), Value::Number(bootfs)));
    }
    if options.autoexpand {
        properties.push((b"autoexpand".to_vec(), Value::Number(1)));
    }
    let properties = mos.zap(types::POOL_PROPS, properties);
    mos.root_name("pool_props", properties);
    mos.finish(store, identity.metaslab_array, |mos, space| sets.account(mos, space))
}
