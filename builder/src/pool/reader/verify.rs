//! A pool against its own maps and against what was written.

use taproot_init::zfs::nvlist::NvList;

use super::blocks::{Blocks, Disk, Pointer};
use super::objects::{Dnode, Objects};
use super::{DataSet, Pool, ReadError, damaged, files};
use crate::pool::Summary;
use crate::pool::block::Bp;
use crate::pool::bytes::{get64, index};
use crate::pool::content::Content;
use crate::pool::dmu::{DNODE, types};

/// Longest run in a space map, in units; also that of the bits in an entry.
const RUN_BITS: u32 = 15;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Data sets and snapshots by their names below the pool, with what they hold.
    pub contents: Vec<(String, Content)>,
    /// Bytes allocated.
    pub allocated: u64,
}

/// Reads a written pool back: labels, every block's checksum, that the space maps say exactly what is in use, and that each data set
/// and snapshot holds what was read from the stream. The pool must have been written with `Options::verify`.
pub fn verify(disk: &dyn Disk, size: u64, written: &Summary) -> Result<Verified, ReadError> {
    let found = verify_any(disk, size)?;
    if found.allocated != written.allocated {
        return Err(ReadError::Different { what: "the space in use".into() });
    }
    for (name, content) in &written.contents {
        if !found.contents.iter().any(|(other, found)| other == name && found == content) {
            return Err(ReadError::Different { what: name.clone() });
        }
    }
    Ok(found)
}

/// Reads all of a pool, and compares it with its own maps.
pub fn verify_any(disk: &dyn Disk, size: u64) -> Result<Verified, ReadError> {
    let mut pool = Pool::open(disk, size)?;
    check_config(&mut pool)?;
    let sets = pool.data_sets()?;
    let allocated = check_space(&mut pool, &sets)?;
    let mut contents: Vec<(String, Content)> = Vec::new();
    let mut known: Vec<(Bp, Content)> = Vec::new();
    for set in sets.iter().filter(|set| !set.pointer.is_hole()) {
        let content = if let Some((_, content)) = known.iter().find(|(pointer, _)| *pointer == set.pointer) {
            *content
        } else {
            pool.blocks.renew();
            let Some(objects) = Objects::read(&pool.blocks, &set.pointer)? else { continue };
            let content = files::content(&pool.blocks, objects).map_err(|error| of(error, &set.name))?;
            known.push((set.pointer, content));
            content
        };
        contents.push((set.name.clone(), content));
    }
    Ok(Verified { contents, allocated })
}

fn of(error: ReadError, name: &str) -> ReadError {
    match error {
        ReadError::Damaged(what) => ReadError::Damaged(format!("data set {name}: {what}")),
        other => other,
    }
}

/// The pool's own configuration names the pool and vdev of the label.
fn check_config(pool: &mut Pool<'_>) -> Result<(), ReadError> {
    let number = pool.root_name("config")?;
    let dnode = pool.object(number)?;
    let packed = super::objects::Cursor::new(dnode.clone()).read(&pool.blocks, 0)?;
    let packed = packed.get(..index(get64(&dnode.bonus, 0))).unwrap_or_default();
    let config = NvList::decode(packed).map_err(|error| ReadError::Damaged(error.to_string()))?;
    let vdevs = config.list("vdev_tree").and_then(|tree| tree.lists("children")).unwrap_or_default();
    let [vdev] = vdevs else { return damaged("a configuration that has not one vdev") };
    let same =
        config.u64("pool_guid") == pool.config.u64("pool_guid") && vdev.u64("guid") == pool.config.u64("top_guid");
    if same { Ok(()) } else { damaged("a configuration that is not the label's") }
}

/// Which units are in use.
struct Used {
    bits: Vec<u64>,
    ashift: u32,
    bytes: u64,
}

impl Used {
    /// Takes a unit; `false` if it is taken, or not there.
    fn take(&mut self, unit: u64) -> bool {
        let bit = 1 << (unit % 64);
        match self.bits.get_mut(index(unit / 64)) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    fn block(&mut self, offset: u64, asize: u64) -> Result<(), ReadError> {
        let unit = (1_u64 << self.ashift) - 1;
        if offset & unit != 0 || asize & unit != 0 {
            return damaged("a block that does not fill units of allocation");
        }
        self.bytes += asize;
        if (offset >> self.ashift..(offset + asize) >> self.ashift).all(|unit| self.take(unit)) {
            return Ok(());
        }
        damaged("a part of the disk that two blocks lie in")
    }
}

/// Goes through all blocks once and compares them with the space maps; returns how many bytes are in use.
fn check_space(pool: &mut Pool<'_>, sets: &[DataSet]) -> Result<u64, ReadError> {
    let end = pool.config.list("vdev_tree").and_then(|tree| tree.u64("asize")).unwrap_or(0);
    let units = index((end >> pool.ashift).div_ceil(64));
    let mut used = Used { bits: vec![0; units], ashift: pool.ashift, bytes: 0 };
    take_set(&pool.blocks, &pool.root, 0, &mut used)?;
    for set in sets {
        pool.blocks.renew();
        let before = used.bytes;
        take_set(&pool.blocks, &set.pointer, set.previous_txg, &mut used).map_err(|error| of(error, &set.name))?;
        let previous = sets.iter().find(|other| other.object == set.previous).map_or(0, |other| other.referenced);
        let dead = get64(&pool.object(set.dead_list)?.bonus, 0);
        let takes = previous.wrapping_sub(dead).wrapping_add(used.bytes - before);
        if takes != set.referenced {
            return damaged(&format!("data set {} takes {takes} bytes, not {}", set.name, set.referenced));
        }
    }
    pool.blocks.renew();
    let vdev = pool.config.list("vdev_tree");
    let number = |name: &str| vdev.and_then(|vdev| vdev.u64(name)).unwrap_or(0);
    let (array, shift) = (number("metaslab_array"), number("metaslab_shift"));
    let array = pool.object(array)?;
    let mut maps = super::objects::Cursor::new(array.clone());
    let mut mapped = 0_u64;
    for nth in 0..end.checked_shr(u32::try_from(shift).unwrap_or(64)).unwrap_or(0).min(1 << 20) {
        let each = (array.block_size / 8) as u64;
        if each == 0 || nth / each > array.last_block {
            break;
        }
        let map = get64(&maps.read(&pool.blocks, nth / each)?, index(nth % each) * 8);
        if map != 0 {
            mapped += check_map(pool, map, nth << shift, &mut used)?;
        }
    }
    if mapped != used.bytes || used.bits.iter().any(|word| *word != 0) {
        return damaged("blocks in parts of the disk that the space maps call free");
    }
    let root = pool.root_name("root_dataset")?;
    let said = get64(&pool.object(root)?.bonus, 5 * 8);
    if said != used.bytes {
        return damaged(&format!("{} bytes in use, {said} accounted for", used.bytes));
    }
    Ok(used.bytes)
}

/// Gives back what a space map says is taken, and returns how much that is.
fn check_map(pool: &mut Pool<'_>, map: u64, start: u64, used: &mut Used) -> Result<u64, ReadError> {
    let dnode = pool.object(map)?;
    let (length, taken) = (get64(&dnode.bonus, 8), get64(&dnode.bonus, 16));
    let mut cursor = super::objects::Cursor::new(dnode.clone());
    let mut total = 0_u64;
    let each = (dnode.block_size / 8) as u64;
    for nth in 0..length / 8 {
        if each == 0 || nth / each > dnode.last_block {
            return damaged("a space map that is cut off");
        }
        let entry = get64(&cursor.read(&pool.blocks, nth / each)?, index(nth % each) * 8);
        if entry >> 63 != 0 || entry >> RUN_BITS & 1 != 0 {
            return damaged("a space map that says what is free, which is not read here");
        }
        let (unit, run) = ((entry >> (RUN_BITS + 1)) + (start >> pool.ashift), (entry & ((1 << RUN_BITS) - 1)) + 1);
        total += run << pool.ashift;
        for unit in unit..unit + run {
            // What was not used is now.
            if used.take(unit) {
                return damaged("parts of the disk that the space maps call taken, and that no block lies in");
            }
            if let Some(word) = used.bits.get_mut(index(unit / 64)) {
                *word &= !(1 << (unit % 64));
            }
        }
    }
    if total == taken { Ok(total) } else { damaged("a space map that does not say how much it holds") }
}

/// Takes the blocks of a set of objects that were born later than `since`.
fn take_set(blocks: &Blocks<'_>, pointer: &Bp, since: u64, used: &mut Used) -> Result<(), ReadError> {
    let top = Pointer::parse(pointer)?;
    if !take(&top, since, used)? {
        return Ok(());
    }
    let Some(objects) = Objects::read(blocks, pointer)? else { return Ok(()) };
    let [meta, accounts @ ..] = &objects.special;
    take_object(blocks, meta, since, used, true)?;
    accounts.iter().try_for_each(|dnode| take_object(blocks, dnode, since, used, false))
}

fn take(pointer: &Pointer, since: u64, used: &mut Used) -> Result<bool, ReadError> {
    match pointer {
        Pointer::Stored { block, offset, asize } if block.birth > since => {
            used.block(*offset, *asize)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// `dnodes` says whether the object's blocks hold those of a set.
fn take_object(blocks: &Blocks<'_>, dnode: &Dnode, since: u64, used: &mut Used, dnodes: bool) -> Result<(), ReadError> {
    dnode.walk(blocks, &mut |_, bp, pointer| {
        if !take(pointer, since, used)? {
            return Ok(false);
        }
        let Some(block) = pointer.block().filter(|block| block.level == 0) else { return Ok(true) };
        if !dnodes {
            // What files and volumes hold is read later on.
            if !matches!(block.object_type, types::PLAIN_FILE | types::VOLUME) {
                blocks.read(bp)?;
            }
            return Ok(true);
        }
        let data = blocks.read(bp)?.unwrap_or_default();
        for bytes in data.as_chunks::<DNODE>().0 {
            let dnode = Dnode::parse(bytes)?;
            take_object(blocks, &dnode, since, used, false)?;
            if let Some(spill) = &dnode.spill {
                take(&Pointer::parse(spill)?, since, used)?;
            }
        }
        Ok(false)
    })
}
