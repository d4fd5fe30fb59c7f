//! Reads pools back: to see that what was written is there, and as the oracle of tests. It shares constants and the checksum with
//! the writer, but none of its ways. Any bytes have an answer.
//!
//! | file | what |
//! |---|---|
//! | `blocks`, `objects`, `zap`, `files` | pointers and blocks; dnodes; names with values; attributes and content of files |
//! | `look` | what is there, by names |
//! | `verify` | all blocks against the space maps, all data sets against what was written |

pub(super) mod blocks;
pub(super) mod files;
mod look;
pub(super) mod objects;
#[cfg(test)]
mod tests;
mod verify;
mod zap;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use taproot_init::zfs::label::{self, LabelProblem, label_offsets, read_labels};
use taproot_init::zfs::nvlist::NvList;

use blocks::Blocks;
pub use blocks::Disk;
pub use look::{Seen, contents, outline};
use objects::{Dnode, Objects};
pub use verify::{Verified, verify, verify_any};

use super::block::Bp;
use super::bytes::{get64, index};

/// Why a pool cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No label, or none that is good.
    #[error("no pool: {0}")]
    Label(#[from] LabelProblem),
    /// Something in it is wrong, or not known here.
    #[error("the pool is damaged, or not one of this program's: {0}")]
    Damaged(String),
    /// It is not what was written.
    #[error("{what} is not what was written: the disk or this program has a defect, do not use the image")]
    Different {
        /// A data set or snapshot.
        what: String,
    },
    /// Reading failed.
    #[error("reading the pool")]
    Io(#[from] io::Error),
}

fn damaged<T>(what: &str) -> Result<T, ReadError> {
    Err(ReadError::Damaged(what.into()))
}

const UBERBLOCK_MAGIC: u64 = 0x00ba_b10c;
const RING_START: u64 = 128 << 10;
const RING_SIZE: u64 = 128 << 10;
/// The object that leads to all others.
const DIRECTORY: u64 = 1;

/// A pool that is being read.
struct Pool<'d> {
    config: NvList,
    ashift: u32,
    blocks: Blocks<'d>,
    root: Bp,
    mos: Objects,
}

/// A data set or snapshot.
#[derive(Debug, Clone)]
struct DataSet {
    /// Below the pool, with the snapshot's name.
    name: String,
    pointer: Bp,
    /// When the snapshot before it was taken: older blocks are that one's.
    previous_txg: u64,
    object: u64,
    previous: u64,
    dead_list: u64,
    /// Bytes that it says it takes.
    referenced: u64,
}

impl<'d> Pool<'d> {
    fn open(disk: &'d dyn Disk, size: u64) -> Result<Self, ReadError> {
        let label = read_labels(&mut |at, buffer| disk.read_at(buffer, at), size)?;
        let config = Arc::unwrap_or_clone(label.config);
        let tree = config.list("vdev_tree");
        let number = |name: &str| tree.and_then(|tree| tree.u64(name)).unwrap_or(0);
        let ashift = u32::try_from(number("ashift")).unwrap_or(u32::MAX);
        let asize = number("asize");
        if !(9..=16).contains(&ashift) || asize > size {
            return damaged("a label with sizes that cannot be");
        }
        let blocks = Blocks::new(disk, asize);
        let root = uberblock(disk, size, ashift)?;
        let Some(mos) = Objects::read(&blocks, &root)? else { return damaged("an uberblock that leads nowhere") };
        Ok(Pool { config, ashift, blocks, root, mos })
    }

    fn object(&mut self, number: u64) -> Result<Dnode, ReadError> {
        self.mos.object(&self.blocks, number)
    }

    fn table(&mut self, number: u64) -> Result<BTreeMap<Vec<u8>, u64>, ReadError> {
        let dnode = self.object(number)?;
        Ok(zap::numbers(&self.blocks, &dnode)?.into_iter().collect())
    }

    fn root_name(&mut self, name: &str) -> Result<u64, ReadError> {
        let found = self.table(DIRECTORY)?.get(name.as_bytes()).copied();
        found.map_or_else(|| damaged(&format!("no {name}")), Ok)
    }

    /// All data sets and snapshots that hold something, by their names.
    fn data_sets(&mut self) -> Result<Vec<DataSet>, ReadError> {
        let root = self.root_name("root_dataset")?;
        let mut todo = vec![(String::new(), root)];
        let mut all = Vec::new();
        while let Some((name, number)) = todo.pop() {
            if todo.len() + all.len() > 1 << 16 {
                return damaged("too many data sets");
            }
            let dir = self.object(number)?.bonus;
            for (child, number) in self.table(get64(&dir, 4 * 8))? {
                let child = String::from_utf8_lossy(&child).into_owned();
                todo.push((if name.is_empty() { child } else { format!("{name}/{child}") }, number));
            }
            let number = get64(&dir, 8);
            if number == 0 {
                continue;
            }
            let head = self.object(number)?.bonus;
            for (snapshot, number) in self.table(get64(&head, 4 * 8))? {
                let bonus = self.object(number)?.bonus;
                all.push(data_set(format!("{name}@{}", String::from_utf8_lossy(&snapshot)), number, &bonus));
            }
            all.push(data_set(name, number, &head));
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }
}

fn data_set(name: String, object: u64, bonus: &[u8]) -> DataSet {
    let pointer = bonus.get(128..).and_then(|bytes| bytes.first_chunk()).map_or(Bp::HOLE, |bytes| Bp(*bytes));
    let word = |at: usize| get64(bonus, at * 8);
    DataSet { name, pointer, previous_txg: word(2), object, previous: word(1), dead_list: word(8), referenced: word(9) }
}

/// The pointer in the newest good uberblock of all labels.
fn uberblock(disk: &dyn Disk, size: u64, ashift: u32) -> Result<Bp, ReadError> {
    let slot = (1_u64 << ashift).clamp(1024, 8192);
    let mut best: Option<(u64, Bp)> = None;
    let mut block = vec![0; index(slot)];
    for label in label_offsets(size).unwrap_or_default() {
        for at in (0..RING_SIZE / slot).map(|nth| label + RING_START + nth * slot) {
            disk.read_at(&mut block, at)?;
            if get64(&block, 0) != UBERBLOCK_MAGIC {
                continue;
            }
            let data = block.get(..block.len() - label::TRAILER).unwrap_or_default();
            let txg = get64(&block, 16);
            if label::seal(data.to_vec(), block.len(), at).as_ref() == Some(&block)
                && best.as_ref().is_none_or(|(other, _)| *other < txg)
                && let Some(pointer) = block.get(40..).and_then(|bytes| bytes.first_chunk())
            {
                best = Some((txg, Bp(*pointer)));
            }
        }
    }
    best.map_or_else(|| damaged("no good uberblock"), |(_, pointer)| Ok(pointer))
}
