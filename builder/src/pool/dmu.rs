//! Objects: dnodes, the trees of pointers below them, and sets of objects.

use super::PoolError;
use super::block::{Bp, Compression, Embed, Kind};
use super::bytes::{put, put8, put16, put64};
use super::reader::objects::{Cursor, Dnode};
use super::scratch::Scratch;
use super::store::{Space, Store};

/// Types of objects (`dmu_object_type_t`).
pub(super) mod types {
    pub(crate) const OBJECT_DIRECTORY: u8 = 1;
    pub(crate) const OBJECT_ARRAY: u8 = 2;
    pub(crate) const PACKED_NVLIST: u8 = 3;
    pub(crate) const PACKED_NVLIST_SIZE: u8 = 4;
    pub(crate) const BPOBJ: u8 = 5;
    pub(crate) const BPOBJ_HDR: u8 = 6;
    pub(crate) const SPACE_MAP_HEADER: u8 = 7;
    pub(crate) const SPACE_MAP: u8 = 8;
    pub(crate) const DNODE: u8 = 10;
    pub(crate) const OBJSET: u8 = 11;
    pub(crate) const DSL_DIR: u8 = 12;
    pub(crate) const DSL_DIR_CHILD_MAP: u8 = 13;
    pub(crate) const DSL_DS_SNAP_MAP: u8 = 14;
    pub(crate) const DSL_PROPS: u8 = 15;
    pub(crate) const DSL_DATASET: u8 = 16;
    pub(crate) const PLAIN_FILE: u8 = 19;
    pub(crate) const DIRECTORY: u8 = 20;
    pub(crate) const MASTER_NODE: u8 = 21;
    pub(crate) const UNLINKED_SET: u8 = 22;
    pub(crate) const VOLUME: u8 = 23;
    pub(crate) const VOLUME_PROPERTIES: u8 = 24;
    pub(crate) const POOL_PROPS: u8 = 31;
    pub(crate) const NEXT_CLONES: u8 = 37;
    pub(crate) const USERGROUP_USED: u8 = 39;
    pub(crate) const USERREFS: u8 = 41;
    pub(crate) const SA: u8 = 44;
    pub(crate) const SA_MASTER_NODE: u8 = 45;
    pub(crate) const SA_REGISTRATION: u8 = 46;
    pub(crate) const SA_LAYOUTS: u8 = 47;
    pub(crate) const DEADLIST: u8 = 50;
    pub(crate) const DEADLIST_HDR: u8 = 51;
    pub(crate) const DSL_CLONES: u8 = 52;
    /// A ZAP that is metadata and has no type of its own.
    pub(crate) const OTHER_ZAP: u8 = 0xc4;
}

/// Bytes of a dnode.
pub(super) const DNODE: usize = 512;
/// Bytes of an indirect block, as a power of two.
const INDIRECT_SHIFT: u8 = 14;
/// Pointers in an indirect block.
const FAN: usize = (1 << INDIRECT_SHIFT) / 128;
/// Bytes of a block of dnodes.
const DNODE_BLOCK: usize = 16 << 10;
/// Levels that the tree of a set of objects has from the start: enough for 2^48 of them, so that they never change.
const SET_LEVELS: usize = 7;
/// Pointers in the dnode of a set of objects.
const SET_POINTERS: usize = 3;
const OBJSET_SIZE: usize = 4096;

/// The dnode says bytes, not sectors.
const FLAG_USED_BYTES: u8 = 1;
/// Its space is accounted to its owner.
pub(super) const FLAG_ACCOUNTED: u8 = 2;
const FLAG_SPILL: u8 = 4;

/// Gathers the pointers of an object's blocks and writes indirect blocks as they become full.
#[derive(Debug)]
pub(super) struct Tree {
    object_type: u8,
    compression: Compression,
    /// Pointers that fit in the dnode.
    pointers: usize,
    /// Levels that there are in any case.
    least: usize,
    levels: Vec<Vec<Bp>>,
    /// Blocks written at each level from the first indirect one on.
    written: Vec<u64>,
    blocks: u64,
    space: Space,
    /// The object in the state before, whose blocks are used again where they are the same.
    old: Option<Cursor>,
}

/// The top of a finished tree.
#[derive(Debug, Clone, Default)]
pub(super) struct Top {
    levels: u8,
    pointers: Vec<Bp>,
    blocks: u64,
    pub(super) space: Space,
}

impl Tree {
    /// For an object whose dnode holds one pointer. `compression` is that of the indirect blocks.
    pub(super) fn new(object_type: u8, compression: Compression) -> Self {
        Tree {
            object_type,
            compression,
            pointers: 1,
            least: 1,
            levels: Vec::new(),
            written: Vec::new(),
            blocks: 0,
            space: Space::default(),
            old: None,
        }
    }

    /// For an object that there was in the state before.
    pub(super) fn again(self, old: Option<Cursor>) -> Self {
        Tree { old, ..self }
    }

    /// How many blocks there are so far.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// What is in the place of the next block in the state before.
    pub(super) fn old(&mut self, store: &Store<'_>) -> Result<Option<Bp>, PoolError> {
        self.old_at(0, self.blocks, store)
    }

    fn old_at(&mut self, level: u8, id: u64, store: &Store<'_>) -> Result<Option<Bp>, PoolError> {
        match (&mut self.old, store.blocks()) {
            (Some(old), Some(blocks)) => Ok(Some(old.pointer(&blocks, level, id)?)),
            _ => Ok(None),
        }
    }

    /// Stores the next block.
    pub(super) fn write(
        &mut self,
        block: &[u8],
        fill: u64,
        embed: Embed,
        store: &mut Store<'_>,
    ) -> Result<(), PoolError> {
        let old = self.old(store)?;
        let kind = Kind { object_type: self.object_type, level: 0 };
        let (bp, space) = store.write(block, kind, fill, (self.compression, embed), old.as_ref())?;
        self.push(bp, space, store)
    }

    /// For the dnodes of a set of objects.
    fn of_set(compression: Compression) -> Self {
        Tree { pointers: SET_POINTERS, least: SET_LEVELS, ..Self::new(types::DNODE, compression) }
    }

    /// The next block.
    pub(super) fn push(&mut self, bp: Bp, space: Space, store: &mut Store<'_>) -> Result<(), PoolError> {
        self.blocks += 1;
        self.space.add(space);
        self.add(0, bp, store)
    }

    fn add(&mut self, level: usize, bp: Bp, store: &mut Store<'_>) -> Result<(), PoolError> {
        if self.levels.len() <= level {
            self.levels.push(Vec::new());
        }
        if self.levels.get(level).is_some_and(|pointers| pointers.len() == FAN) {
            self.close(level, store)?;
        }
        if let Some(pointers) = self.levels.get_mut(level) {
            pointers.push(bp);
        }
        Ok(())
    }

    /// Writes the pointers of a level as one indirect block, which becomes a pointer one level above.
    fn close(&mut self, level: usize, store: &mut Store<'_>) -> Result<(), PoolError> {
        let pointers = self.levels.get_mut(level).map(std::mem::take).unwrap_or_default();
        if self.written.len() <= level {
            self.written.push(0);
        }
        let id = self.written.get(level).copied().unwrap_or(0);
        if let Some(written) = self.written.get_mut(level) {
            *written += 1;
        }
        let mut bp = Bp::HOLE;
        if !pointers.iter().all(Bp::is_hole) {
            let fill = pointers.iter().map(Bp::fill).sum();
            let mut block = vec![0; 1 << INDIRECT_SHIFT];
            for (slot, pointer) in block.chunks_exact_mut(128).zip(&pointers) {
                slot.copy_from_slice(&pointer.0);
            }
            let above = u8::try_from(level + 1).map_err(|_| PoolError::TooLarge("an object".into()))?;
            let kind = Kind { object_type: self.object_type, level: above };
            let old = self.old_at(above, id, store)?;
            let (written, space) = store.write(&block, kind, fill, (self.compression, Embed::No), old.as_ref())?;
            self.space.add(space);
            bp = written;
        }
        self.add(level + 1, bp, store)
    }

    /// Closes levels until the rest fits in a dnode.
    pub(super) fn finish(mut self, store: &mut Store<'_>) -> Result<Top, PoolError> {
        let mut level = 0;
        loop {
            let here = self.levels.get(level).map_or(0, Vec::len);
            let last = self.levels.len() <= level + 1 && here <= self.pointers;
            if last && level + 1 >= self.least {
                break;
            }
            self.close(level, store)?;
            level += 1;
        }
        let levels = u8::try_from(level + 1).map_err(|_| PoolError::TooLarge("an object".into()))?;
        let pointers = self.levels.pop().unwrap_or_default();
        Ok(Top { levels, pointers, blocks: self.blocks, space: self.space })
    }
}

/// What a dnode says besides where the blocks are.
#[derive(Debug, Clone, Default)]
pub(super) struct Object {
    /// Its type.
    pub(super) what: u8,
    pub(super) bonus_type: u8,
    pub(super) bonus: Vec<u8>,
    /// Bytes of a block of data.
    pub(super) block_size: usize,
    /// Attributes that did not fit, and their space.
    pub(super) spill: Option<(Bp, Space)>,
    pub(super) flags: u8,
}

impl Object {
    /// An object without attributes.
    pub(super) fn plain(object_type: u8, block_size: usize) -> Self {
        Object { what: object_type, block_size, ..Object::default() }
    }

    /// The dnode, cut behind its last byte that matters.
    pub(super) fn dnode(&self, top: &Top) -> Vec<u8> {
        let mut dnode = self.head(top, 1);
        put(&mut dnode, 64 + 128, &self.bonus);
        let mut used = 64 + 128 + self.bonus.len();
        if let Some((spill, _)) = &self.spill {
            put(&mut dnode, DNODE - 128, &spill.0);
            used = DNODE;
        }
        dnode.truncate(used);
        dnode
    }

    /// Bytes that the object takes.
    pub(super) fn used(&self, top: &Top) -> u64 {
        top.space.used + self.spill.as_ref().map_or(0, |(_, space)| space.used)
    }

    fn head(&self, top: &Top, pointers: u8) -> Vec<u8> {
        let mut dnode = vec![0; DNODE];
        put8(&mut dnode, 0, self.what);
        put8(&mut dnode, 1, INDIRECT_SHIFT);
        put8(&mut dnode, 2, top.levels.max(1));
        put8(&mut dnode, 3, pointers);
        put8(&mut dnode, 4, self.bonus_type);
        // Checksum and compression, 5 and 6, stay 0: as the dataset has it, also for what is written later.
        let spill = if self.spill.is_some() { FLAG_SPILL } else { 0 };
        put8(&mut dnode, 7, FLAG_USED_BYTES | self.flags | spill);
        put16(&mut dnode, 8, sectors(self.block_size));
        put16(&mut dnode, 10, u16::try_from(self.bonus.len()).unwrap_or(u16::MAX));
        put64(&mut dnode, 16, top.blocks.saturating_sub(1));
        put64(&mut dnode, 24, self.used(top));
        for (at, pointer) in (64..).step_by(128).zip(&top.pointers) {
            put(&mut dnode, at, &pointer.0);
        }
        dnode
    }
}

fn sectors(size: usize) -> u16 {
    u16::try_from(size.div_ceil(512).max(1)).unwrap_or(u16::MAX)
}

/// Writes blocks of equal size as one object and returns its top. `blocks` may end with a shorter one.
pub(super) fn write_blocks<'b>(
    store: &mut Store<'_>,
    object_type: u8,
    compression: Compression,
    blocks: impl Iterator<Item = &'b [u8]>,
    old: Option<Cursor>,
) -> Result<Top, PoolError> {
    let mut tree = Tree::new(object_type, compression).again(old);
    for block in blocks {
        tree.write(block, 1, Embed::Yes, store)?;
    }
    tree.finish(store)
}

/// The numbered dnodes of a set of objects.
#[derive(Debug, Default)]
pub(super) struct ObjectSet {
    slots: Scratch,
    count: u64,
}

impl ObjectSet {
    /// A set whose new objects have numbers that this one's have not.
    pub(super) fn next_state(&self) -> Self {
        ObjectSet { slots: Scratch::default(), count: self.count }
    }

    /// A new object's number. The first is 1.
    pub(super) fn reserve(&mut self) -> u64 {
        self.count = self.count.max(1) + 1;
        self.count - 1
    }

    /// How many numbers there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Says what object `number` is.
    pub(super) fn set(&mut self, number: u64, dnode: &[u8]) -> Result<(), PoolError> {
        Ok(self.slots.write(number * DNODE as u64, dnode)?)
    }

    /// The dnode of an object; zeros if there is none.
    pub(super) fn get(&self, number: u64) -> Result<[u8; DNODE], PoolError> {
        let mut dnode = [0; DNODE];
        self.slots.read(number * DNODE as u64, &mut dnode)?;
        Ok(dnode)
    }

    /// Writes all dnodes and the block that leads to them. `special` are the dnodes of the accounts of users and groups, `old` is the
    /// pointer to the set in the state before.
    pub(super) fn write(
        &self,
        store: &mut Store<'_>,
        set_type: u64,
        special: &[Vec<u8>],
        compression: Compression,
        old: Option<&Bp>,
    ) -> Result<(Bp, Space), PoolError> {
        let mut tree = Tree::of_set(compression);
        if let (Some(old), Some(blocks)) = (old, store.blocks()) {
            let block = blocks.read(old)?.unwrap_or_default();
            tree.old = Some(Cursor::new(Dnode::parse(block.get(..DNODE).unwrap_or_default())?));
        }
        let mut block = vec![0; DNODE_BLOCK];
        let each = (DNODE_BLOCK / DNODE) as u64;
        let mut objects = 0;
        for nth in 0..self.count.div_ceil(each) {
            self.slots.read(nth * DNODE_BLOCK as u64, &mut block)?;
            let used = block.as_chunks::<DNODE>().0.iter().filter(|dnode| dnode.first() != Some(&0));
            let fill = used.count() as u64;
            objects += fill;
            tree.write(&block, fill, Embed::No, store)?;
        }
        let top = tree.finish(store)?;
        let mut set = vec![0; OBJSET_SIZE];
        put(&mut set, 0, &Object::plain(types::DNODE, DNODE_BLOCK).head(&top, 3));
        put64(&mut set, 704, set_type);
        if let [users, groups] = special {
            put64(&mut set, 712, 1);
            put(&mut set, 1024, users);
            put(&mut set, 1536, groups);
        }
        let kind = Kind { object_type: types::OBJSET, level: 0 };
        let (bp, mut space) = store.write(&set, kind, objects, (compression, Embed::No), old)?;
        space.add(top.space);
        Ok((bp, space))
    }
}
