//! What is asked for, checked and completed.

use std::path::PathBuf;

use super::PoolError;
use super::block::{Compression, MAX_BLOCK};
use super::dsl;
use super::features::Compatibility;
use super::props;
use super::zap::{Entry, Value};
use crate::tar::Entries;

/// What the pool is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name.
    pub name: String,
    /// Bytes that it may take.
    pub size: u64,
    /// Where it begins in the output.
    pub offset: u64,
    /// Smallest allocation as a power of two: 9, 12 or 13.
    pub ashift: u32,
    /// Bytes that it is expected to have later on; the sizes of metaslabs are for those.
    pub grow_to: u64,
    /// What guids and salts are made from, together with the name.
    pub seed: String,
    /// Seconds since 1970, for all times that no file brings.
    pub time: u64,
    /// Who is to understand it.
    pub compatibility: Compatibility,
    /// Whether it grows when its device does.
    pub autoexpand: bool,
    /// Workers; the bytes do not depend on them.
    pub jobs: usize,
    /// Whether what is read is hashed, so that [`verify`](super::verify) can compare it with what is in the pool.
    pub verify: bool,
    /// The data set that is booted.
    pub bootfs: Option<String>,
    /// Its data sets. Those above that are not named are made, not mounted.
    pub datasets: Vec<Dataset>,
    /// A snapshot of the last state, of every data set with a part of the tree, and of every volume, that names none of its own; and
    /// whether the others have it, too, as with [`State::everywhere`].
    pub snapshot: Option<(Snapshot, bool)>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            name: String::new(),
            size: 0,
            offset: 0,
            ashift: 12,
            grow_to: 64 << 30,
            seed: String::new(),
            time: 0,
            compatibility: Compatibility::default(),
            autoexpand: false,
            jobs: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            verify: false,
            bootfs: None,
            datasets: Vec::new(),
            snapshot: None,
        }
    }
}

/// A data set.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    /// Its name below the pool; empty for the pool's own.
    pub name: String,
    /// The directory of the tree that it holds: `/`, `/home`. None: it is empty.
    pub tree: Option<String>,
    /// How its data is compressed, if not as that of the data set above.
    pub compression: Option<Compression>,
    /// Properties and their values, as for `zfs set`.
    pub properties: Vec<(String, String)>,
    /// It is a volume, not a file system.
    pub volume: Option<Volume>,
    /// A snapshot of what it holds at last.
    pub snapshot: Option<Snapshot>,
    /// The data set whose snapshot it is a clone of: `ROOT/debian@miniroot`, or without the snapshot's name its last one.
    pub clone_of: Option<String>,
}

/// A block device in the pool.
#[derive(Debug, Clone, Default)]
pub struct Volume {
    /// Its size in bytes, a multiple of the block size.
    pub size: u64,
    /// Bytes of a block, a power of two from 4096 to 131072.
    pub block_size: usize,
    /// A file or device with what it holds; holes stay holes. None: it is empty.
    pub content: Option<PathBuf>,
}

/// An earlier state of all that the pool holds, and the name of its snapshots.
pub struct State<'i> {
    /// The snapshot that is made of every data set with a part of the tree, and of every volume.
    pub snapshot: Snapshot,
    /// Whether the others have it, too, as after `zfs snapshot -r`. GRUB does not read a pool whose own data set has a snapshot.
    pub everywhere: bool,
    /// The whole tree as a tar stream.
    pub input: &'i mut dyn Entries,
}

impl std::fmt::Debug for State<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

/// A snapshot.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Its name, without the data set's.
    pub name: String,
    /// Tags that keep it from being destroyed.
    pub holds: Vec<String>,
}

/// A data set that can be written.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) name: String,
    pub(super) parent: Option<usize>,
    pub(super) tree: Option<Vec<u8>>,
    pub(super) compression: Compression,
    pub(super) record: usize,
    pub(super) properties: Vec<Entry>,
    pub(super) snapshot: Option<dsl::Snapshot>,
    pub(super) volume: Option<Volume>,
    /// The data set, and which of its snapshots.
    pub(super) origin: Option<(usize, usize)>,
    pub(super) zstd: bool,
}

/// All data sets, each behind the one above it and behind the one that it is a clone of.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) sets: Vec<Set>,
    pub(super) bootfs: Option<usize>,
    pub(super) time: i64,
    /// The earlier states' snapshots, and whether data sets without a tree have them.
    pub(super) earlier: Vec<(dsl::Snapshot, bool)>,
}

fn refuse<T>(why: String) -> Result<T, PoolError> {
    Err(PoolError::Option(why))
}

impl Plan {
    pub(super) fn new(options: &Options, earlier: &[State<'_>]) -> Result<Self, PoolError> {
        check_pool_name(&options.name)?;
        let mut names = Vec::new();
        for state in earlier {
            check_component(&state.snapshot.name)?;
            if names.contains(&&state.snapshot.name) {
                return refuse(format!("two states are called {}: give each its own name", state.snapshot.name));
            }
            names.push(&state.snapshot.name);
        }
        let earlier = earlier.iter().map(|state| (dsl::Snapshot::from(&state.snapshot), state.everywhere)).collect();
        let mut plan = Plan { sets: Vec::new(), bootfs: None, time: options.time.cast_signed(), earlier };
        let mut asked: Vec<&Dataset> = options.datasets.iter().collect();
        // Clones behind what they come from, and each behind what is above it.
        let depth = |name: &str| name.split('/').filter(|part| !part.is_empty()).count();
        asked.sort_by_key(|set| depth(&set.name));
        if !asked.iter().any(|set| set.name.is_empty()) {
            plan.sets.push(container(String::new(), None, &plan));
        }
        let (clones, asked): (Vec<&Dataset>, Vec<&Dataset>) = asked.iter().partition(|set| set.clone_of.is_some());
        for set in asked {
            plan.add(set, options.compatibility)?;
        }
        plan.last(options)?;
        for set in clones {
            plan.add(set, options.compatibility)?;
        }
        // What had to be made above clones.
        plan.last(options)?;
        if let Some(bootfs) = &options.bootfs {
            match plan.find(bootfs) {
                Some(at) => plan.bootfs = Some(at),
                None => return refuse(format!("bootfs {bootfs} is none of the data sets: name one of them")),
            }
        }
        Ok(plan)
    }

    /// Gives all data sets the snapshot of the last state that are to have it.
    fn last(&mut self, options: &Options) -> Result<(), PoolError> {
        let Some((snapshot, everywhere)) = &options.snapshot else { return Ok(()) };
        check_component(&snapshot.name)?;
        if self.earlier.iter().any(|(state, _)| state.name == snapshot.name) {
            return refuse(format!("two states are called {}: give each its own name", snapshot.name));
        }
        for set in self.sets.iter_mut().filter(|set| set.origin.is_none() && set.snapshot.is_none()) {
            let has = *everywhere || set.tree.is_some() || set.volume.is_some();
            set.snapshot = has.then(|| dsl::Snapshot::from(snapshot));
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.sets.iter().position(|set| set.name == name)
    }

    /// The data set above, made if it is not there.
    fn above(&mut self, name: &str) -> usize {
        let (above, _) = name.rsplit_once('/').unwrap_or(("", name));
        if let Some(at) = self.find(above) {
            return at;
        }
        let parent = self.above(above);
        self.sets.push(container(above.to_owned(), Some(parent), self));
        self.sets.len() - 1
    }

    fn add(&mut self, asked: &Dataset, compatibility: Compatibility) -> Result<(), PoolError> {
        let name = &asked.name;
        if !name.is_empty() {
            check_name(name)?;
        }
        if self.find(name).is_some() {
            return refuse(format!(
                "data set {name} is there twice, or is made as one above others: name it once, before them"
            ));
        }
        let parent = (!name.is_empty()).then(|| self.above(name));
        let inherited = parent.and_then(|parent| self.sets.get(parent));
        let compression = asked.compression.or(inherited.map(|above| above.compression)).unwrap_or_default();
        let zstd = matches!(compression, Compression::Zstd(_));
        if zstd && compatibility == Compatibility::Grub {
            return refuse(format!("data set {name} is to be compressed by zstd, which GRUB cannot read: choose lz4"));
        }
        if let Compression::Zstd(level) = compression
            && !(1..=19).contains(&level)
        {
            return refuse(format!("a level of zstd from 1 to 19 expected, {level} found"));
        }
        let mut record = inherited.map_or(MAX_BLOCK, |above| above.record);
        let mut properties = Vec::new();
        for (property, text) in &asked.properties {
            if property == "recordsize" {
                record = props::record_size(text).unwrap_or(record);
            }
            let value = props::value(property, text)?;
            properties.retain(|(other, _): &Entry| other != property.as_bytes());
            properties.push((property.clone().into_bytes(), value));
        }
        if asked.compression.is_some() || parent.is_none() {
            properties.push((b"compression".to_vec(), Value::Number(compression.property())));
        }
        let origin = self.origin(asked)?;
        let zstd = origin.and_then(|(origin, _)| self.sets.get(origin)).map_or(zstd, |origin| origin.zstd);
        if let Some(snapshot) = &asked.snapshot {
            check_component(&snapshot.name)?;
            if self.earlier.iter().any(|(state, _)| state.name == snapshot.name) {
                return refuse(format!("{name}@{} is there twice: give each state its own name", snapshot.name));
            }
        }
        if let Some(volume) = &asked.volume {
            check_volume(name, volume, asked)?;
        }
        let snapshot = asked.snapshot.as_ref().map(dsl::Snapshot::from);
        let tree = asked.tree.as_ref().map(|tree| tree.trim_matches('/').as_bytes().to_vec());
        self.sets.push(Set {
            name: name.clone(),
            parent,
            tree,
            compression,
            record,
            properties,
            snapshot,
            volume: asked.volume.clone(),
            origin,
            zstd,
        });
        Ok(())
    }

    fn origin(&self, asked: &Dataset) -> Result<Option<(usize, usize)>, PoolError> {
        let Some(wanted) = &asked.clone_of else { return Ok(None) };
        if asked.tree.is_some() || asked.snapshot.is_some() {
            return refuse(format!("{} is a clone: it has neither a tree nor a snapshot of its own", asked.name));
        }
        let (name, snapshot) = wanted.split_once('@').map_or((wanted.as_str(), None), |(name, of)| (name, Some(of)));
        let found = self.find(name).and_then(|at| {
            let all = self.snapshots(self.sets.get(at)?);
            let nth = match snapshot {
                None => all.len().checked_sub(1)?,
                Some(wanted) => all.iter().position(|snapshot| snapshot.name == wanted)?,
            };
            Some((at, nth))
        });
        match found {
            Some(found) => Ok(Some(found)),
            None => refuse(format!("{} is to be a clone of {wanted}, which has no snapshot: give it one", asked.name)),
        }
    }

    /// The snapshot of a data set in an earlier state.
    pub(super) fn earlier(&self, set: &Set, state: usize) -> Option<&dsl::Snapshot> {
        let (snapshot, everywhere) = self.earlier.get(state)?;
        let has = set.origin.is_none() && (*everywhere || set.tree.is_some() || set.volume.is_some());
        has.then_some(snapshot)
    }

    fn snapshots<'p>(&'p self, set: &'p Set) -> Vec<&'p dsl::Snapshot> {
        let earlier = (0..self.earlier.len()).filter_map(|state| self.earlier(set, state));
        earlier.chain(&set.snapshot).collect()
    }
}

impl From<&Snapshot> for dsl::Snapshot {
    fn from(asked: &Snapshot) -> Self {
        dsl::Snapshot { name: asked.name.clone(), holds: asked.holds.clone() }
    }
}

/// A data set that only holds others.
fn container(name: String, parent: Option<usize>, plan: &Plan) -> Set {
    let above = parent.and_then(|parent| plan.sets.get(parent));
    let mut properties =
        vec![(b"canmount".to_vec(), Value::Number(0)), (b"mountpoint".to_vec(), Value::Bytes(b"none\0".to_vec()))];
    let compression = above.map_or(Compression::default(), |above| above.compression);
    if parent.is_none() {
        properties.push((b"compression".to_vec(), Value::Number(compression.property())));
    }
    Set {
        name,
        parent,
        tree: None,
        compression,
        record: above.map_or(MAX_BLOCK, |above| above.record),
        properties,
        snapshot: None,
        volume: None,
        origin: None,
        zstd: matches!(compression, Compression::Zstd(_)),
    }
}

fn check_volume(name: &str, volume: &Volume, asked: &Dataset) -> Result<(), PoolError> {
    let block = volume.block_size;
    if asked.tree.is_some() || asked.clone_of.is_some() || name.is_empty() {
        return refuse(format!(
            "{name} is a volume: it holds no tree, is no clone, and is not the pool's own data set"
        ));
    }
    if !block.is_power_of_two() || !(4096..=MAX_BLOCK).contains(&block) {
        return refuse(format!("volume {name}: a block size from 4096 to {MAX_BLOCK} expected, {block} found"));
    }
    if volume.size == 0 || !volume.size.is_multiple_of(block as u64) {
        return refuse(format!("volume {name}: a size in blocks of {block} bytes expected, {} found", volume.size));
    }
    Ok(())
}

fn check_pool_name(name: &str) -> Result<(), PoolError> {
    let reserved = ["mirror", "raidz", "draid", "spare", "log"].iter().any(|word| name.starts_with(word));
    if reserved || !name.starts_with(|c: char| c.is_ascii_alphabetic()) || name.contains('/') {
        return refuse(format!("a pool's name begins with a letter and is no kind of vdev, {name:?} was given"));
    }
    check_component(name)
}

fn check_name(name: &str) -> Result<(), PoolError> {
    if name.len() > 200 {
        return refuse(format!("a data set's name of at most 200 bytes expected, {name:?} found"));
    }
    name.split('/').try_for_each(check_component)
}

fn check_component(name: &str) -> Result<(), PoolError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.: ".contains(c);
    if name.is_empty() || name == "." || name == ".." || name.len() > 200 || !name.chars().all(allowed) {
        return refuse(format!("a name of letters, digits and \"-_.:\" expected, {name:?} found"));
    }
    Ok(())
}
