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
//! | `block`, `store`, `pipeline` | compression, checksums, pointers; where blocks go; the workers |
//! | `dmu`, `zap` | objects, trees of pointers, sets of objects; names with values |
//! | `sa`, `zpl`, `tree`, `writer` | attributes of files, file systems, directories, the stream of files |
//! | `dsl`, `props`, `mos`, `spacemap`, `features`, `label` | data sets, their properties, the pool |
//!
//! Written from facts about the format; sources: OpenZFS 2.0 to 2.4, FreeBSD's `makefs`.

mod block;
mod bytes;
mod dmu;
mod dsl;
mod features;
mod label;
mod layout;
mod mos;
mod pipeline;
mod plan;
mod props;
mod random;
mod sa;
mod spacemap;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod writer;
mod zap;
mod zpl;

use std::fs::File;
use std::io;

pub use block::Compression;
pub use features::Compatibility;
pub use plan::{Dataset, Options, Snapshot};
pub use writer::Counts;

use crate::tar::{Entries, TarError};
use dmu::types;
use dsl::Planned;
use features::Features;
use label::Identity;
use layout::Geometry;
use mos::Mos;
use plan::Plan;
use random::Random;
use sa::Znode;
use store::{Device, Store};
use tree::Tree;
use writer::Writer;
use zap::Value;
use zpl::{FileSystem, ROOT};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The pool's guid.
    pub guid: u64,
    /// What the archive had.
    pub counts: Counts,
    /// Bytes allocated in the pool.
    pub allocated: u64,
}

/// Writes a pool with the files of a tar stream to a file or device that has `options.size` bytes from `options.offset` on.
pub fn write(out: &File, options: &Options, input: &mut dyn Entries) -> Result<Summary, PoolError> {
    let plan = Plan::new(options)?;
    let geometry = Geometry::new(options.size, options.ashift, options.grow_to)?;
    let seed = Random::new(format!("{}\0{}", options.name, options.seed).as_bytes());
    let mut store = Store::new(Device { file: out, offset: options.offset }, geometry)?;
    let mut systems: Vec<FileSystem> = plan
        .sets
        .iter()
        .map(|set| FileSystem::new(set.compression, set.record, seed.of(&format!("files of {}", set.name))))
        .collect();
    let mounts: Vec<Option<Vec<u8>>> = plan.sets.iter().map(|set| set.tree.clone()).collect();
    let tree = Tree::new(&mounts, options.time.cast_signed())?;
    let counts = Writer::new(&mut store, &mut systems, options.jobs)?.run(input, tree)?;
    let planned = finish_systems(&plan, &mut systems, &mut store)?;
    drop(systems);

    let mut guids = seed.of("guids");
    let mut identity = Identity {
        name: options.name.clone(),
        pool_guid: guids.number(),
        disk_guid: guids.number(),
        compatibility: options.compatibility,
        geometry,
        metaslab_array: 0,
        time: options.time,
    };
    let root = write_mos(&plan, &planned, &mut identity, options, &seed, &mut store)?;
    store.flush()?;
    out.sync_all()?;
    identity.write(&Device { file: out, offset: options.offset }, &root)?;
    Ok(Summary { guid: identity.pool_guid, counts, allocated: store.allocator.used().iter().sum() })
}

/// Writes what is left of each file system. A clone is what its origin is.
fn finish_systems(plan: &Plan, systems: &mut [FileSystem], store: &mut Store<'_>) -> Result<Vec<Planned>, PoolError> {
    let mut planned: Vec<Planned> = Vec::new();
    for (set, system) in plan.sets.iter().zip(systems) {
        let (pointer, space) = if let Some(origin) = set.origin.and_then(|origin| planned.get(origin)) {
            (origin.pointer, origin.space)
        } else {
            if set.tree.is_none() {
                let times = (plan.time, 0);
                let root = Znode { mode: 0o040_755, links: 2, size: 2, parent: ROOT, mtime: times, ..Znode::default() };
                system.add_directory(ROOT, &root, &[], store)?;
            }
            system.finish(store)?
        };
        planned.push(Planned {
            name: set.name.clone(),
            parent: set.parent,
            properties: set.properties.clone(),
            pointer,
            space,
            snapshot: set.snapshot.clone(),
            origin: set.origin,
            zstd: set.zstd,
        });
    }
    Ok(planned)
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
        let list = mos.bpobj();
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
