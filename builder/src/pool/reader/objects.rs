//! Objects: dnodes, the pointers below them, sets of objects.

use super::blocks::{Blocks, Pointer};
use super::{ReadError, damaged};
use crate::pool::block::Bp;
use crate::pool::bytes::{get16, get64, index};
use crate::pool::dmu::DNODE;

const FLAG_SPILL: u8 = 4;
const MAX_LEVELS: u8 = 8;
/// Bytes of a pointer, as a power of two.
const POINTER_SHIFT: u8 = 7;

/// What a dnode says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::pool) struct Dnode {
    /// The object's type; 0 if there is none.
    pub(in crate::pool) what: u8,
    pub(in crate::pool) bonus_type: u8,
    pub(in crate::pool) bonus: Vec<u8>,
    pub(in crate::pool) block_size: usize,
    pub(in crate::pool) last_block: u64,
    pub(in crate::pool) spill: Option<Bp>,
    levels: u8,
    /// Pointers in an indirect block, as a power of two.
    fan: u8,
    pointers: Vec<Bp>,
}

fn pointer(bytes: &[u8], at: usize) -> Bp {
    let found = bytes.get(at..).and_then(|bytes| bytes.first_chunk::<128>());
    found.map_or(Bp::HOLE, |bytes| Bp(*bytes))
}

impl Dnode {
    pub(in crate::pool) fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        if byte(0) == 0 {
            return Ok(Dnode::default());
        }
        let (shift, levels, count, flags) = (byte(1), byte(2), usize::from(byte(3)), byte(7));
        let bonus = usize::from(get16(bytes, 10));
        let spill = flags & FLAG_SPILL != 0;
        let start = 64 + 128 * count;
        let end = start + bonus;
        let room = if spill { DNODE - 128 } else { DNODE };
        let sane = (10..=17).contains(&shift) && (1..=MAX_LEVELS).contains(&levels) && (1..=3).contains(&count);
        if !sane || end > room || byte(12) != 0 {
            return damaged("a dnode that cannot be");
        }
        Ok(Dnode {
            what: byte(0),
            bonus_type: byte(4),
            bonus: bytes.get(start..end.min(bytes.len())).unwrap_or_default().to_vec(),
            block_size: usize::from(get16(bytes, 8)) * 512,
            last_block: get64(bytes, 16),
            spill: spill.then(|| pointer(bytes, DNODE - 128)),
            levels,
            fan: shift - POINTER_SHIFT,
            pointers: (0..count).map(|nth| pointer(bytes, 64 + 128 * nth)).collect(),
        })
    }

    /// Goes through all pointers that are no holes, each before those below it. `visit` says whether to go on below.
    pub(in crate::pool) fn walk(
        &self,
        blocks: &Blocks<'_>,
        visit: &mut dyn FnMut(u64, &Bp, &Pointer) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let Some(top) = self.levels.checked_sub(1) else { return Ok(()) };
        for (id, bp) in (0..).zip(&self.pointers) {
            self.below(blocks, top, id, bp, visit)?;
        }
        Ok(())
    }

    fn below(
        &self,
        blocks: &Blocks<'_>,
        level: u8,
        id: u64,
        bp: &Bp,
        visit: &mut dyn FnMut(u64, &Bp, &Pointer) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let pointer = Pointer::parse(bp)?;
        let Some(block) = pointer.block() else { return Ok(()) };
        if block.level != level {
            return damaged("a block of another level than that of its place");
        }
        let below = level.checked_sub(1);
        if !visit(id, bp, &pointer)? {
            return Ok(());
        }
        let (Some(below), Some(data)) = (below, if level == 0 { None } else { blocks.read(bp)? }) else {
            return Ok(());
        };
        for (nth, bytes) in (0..).zip(data.as_chunks::<128>().0) {
            self.below(blocks, below, id << self.fan | nth, &Bp(*bytes), visit)?;
        }
        Ok(())
    }
}

/// Looks up pointers of one object, with the indirect blocks that were needed last.
#[derive(Debug, Clone, Default)]
pub(in crate::pool) struct Cursor {
    dnode: Dnode,
    levels: Vec<Option<(u64, Vec<u8>)>>,
}

impl Cursor {
    pub(in crate::pool) fn new(dnode: Dnode) -> Self {
        Cursor { levels: vec![None; usize::from(dnode.levels) + 1], dnode }
    }

    /// The pointer to a block.
    pub(in crate::pool) fn pointer(&mut self, blocks: &Blocks<'_>, level: u8, id: u64) -> Result<Bp, ReadError> {
        if level + 1 >= self.dnode.levels {
            let own = level + 1 == self.dnode.levels;
            return Ok(self.dnode.pointers.get(index(id)).filter(|_| own).copied().unwrap_or(Bp::HOLE));
        }
        let above = id >> self.dnode.fan;
        let nth = index(id & ((1 << self.dnode.fan) - 1));
        let slot = usize::from(level);
        if !matches!(self.levels.get(slot), Some(Some((known, _))) if *known == above) {
            let bp = self.pointer(blocks, level + 1, above)?;
            let Some(data) = blocks.read(&bp)? else { return Ok(Bp::HOLE) };
            if let Some(place) = self.levels.get_mut(slot) {
                *place = Some((above, data));
            }
        }
        Ok(match self.levels.get(slot) {
            Some(Some((_, data))) => pointer(data, nth * 128),
            _ => Bp::HOLE,
        })
    }

    /// A block of data; zeros for a hole.
    pub(in crate::pool) fn read(&mut self, blocks: &Blocks<'_>, id: u64) -> Result<Vec<u8>, ReadError> {
        let bp = self.pointer(blocks, 0, id)?;
        let data = blocks.read(&bp)?.unwrap_or_else(|| vec![0; self.dnode.block_size]);
        if data.len() == self.dnode.block_size {
            Ok(data)
        } else {
            damaged("a block of another size than its object's")
        }
    }

    pub(in crate::pool) fn dnode(&self) -> &Dnode {
        &self.dnode
    }
}

/// A set of objects.
#[derive(Debug, Clone)]
pub(in crate::pool) struct Objects {
    pub(in crate::pool) kind: u64,
    /// The dnodes themselves, and those of the accounts of users and groups.
    pub(in crate::pool) special: [Dnode; 3],
    cursor: Cursor,
}

impl Objects {
    /// The set that a pointer leads to; `None` for a hole.
    pub(in crate::pool) fn read(blocks: &Blocks<'_>, bp: &Bp) -> Result<Option<Self>, ReadError> {
        let Some(block) = blocks.read(bp)? else { return Ok(None) };
        let dnode = |at: usize| Dnode::parse(block.get(at..at + DNODE).unwrap_or_default());
        let meta = dnode(0)?;
        if meta.block_size == 0 || !meta.block_size.is_multiple_of(DNODE) {
            return damaged("a set of objects with blocks that cannot be");
        }
        let cursor = Cursor::new(meta.clone());
        Ok(Some(Objects { kind: get64(&block, 704), special: [meta, dnode(1024)?, dnode(1536)?], cursor }))
    }

    pub(in crate::pool) fn object(&mut self, blocks: &Blocks<'_>, number: u64) -> Result<Dnode, ReadError> {
        let each = (self.cursor.dnode.block_size / DNODE) as u64;
        let block = self.cursor.read(blocks, number / each)?;
        let at = index(number % each) * DNODE;
        Dnode::parse(block.get(at..at + DNODE).unwrap_or_default())
    }

    /// Goes through all objects there are, in the order of their numbers.
    pub(in crate::pool) fn each(
        &self,
        blocks: &Blocks<'_>,
        visit: &mut dyn FnMut(u64, Dnode) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let [meta, ..] = &self.special;
        let each = (meta.block_size / DNODE) as u64;
        meta.walk(blocks, &mut |id, bp, pointer| {
            if pointer.block().is_some_and(|block| block.level > 0) {
                return Ok(true);
            }
            let data = blocks.read(bp)?.unwrap_or_default();
            for (nth, bytes) in (0..).zip(data.as_chunks::<DNODE>().0) {
                let dnode = Dnode::parse(bytes)?;
                if dnode.what != 0 {
                    visit(id.saturating_mul(each).saturating_add(nth), dnode)?;
                }
            }
            Ok(false)
        })
    }
}
