//! What a state no longer has of the one before: the blocks of its dead list, by the snapshots that still have them.

use super::PoolError;
use super::block::{Bp, Embed, MAX_BLOCK};
use super::bytes::put;
use super::dmu::{self, DNODE, Top, types};
use super::reader::ReadError;
use super::reader::blocks::{Blocks, Pointer};
use super::reader::objects::{Cursor, Dnode, Objects};
use super::store::{Space, Store};
use super::zpl::METADATA;

/// Blocks born after the snapshot of one transaction group, and not after the next one.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    /// That transaction group.
    pub(super) key: u64,
    pub(super) count: u64,
    pub(super) space: Space,
    /// The blocks of the list itself.
    pub(super) top: Top,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Dead {
    pub(super) buckets: Vec<Bucket>,
    pub(super) space: Space,
}

impl Dead {
    /// The blocks that were born after a snapshot and not after the next one, if there are any.
    pub(super) fn bucket(&self, key: u64) -> Option<&Bucket> {
        self.buckets.iter().find(|bucket| bucket.key == key)
    }
}

struct Filling {
    key: u64,
    count: u64,
    space: Space,
    block: Vec<u8>,
    tree: dmu::Tree,
}

impl Filling {
    fn add(&mut self, bp: &Bp, space: Space, store: &mut Store<'_>) -> Result<(), PoolError> {
        // The kernel keeps neither checksums nor what is in a pointer.
        let mut entry = if bp.is_embedded() { [0; 128] } else { bp.0 };
        put(&mut entry, 48, bp.0.get(48..56).unwrap_or_default());
        put(&mut entry, 80, bp.0.get(80..88).unwrap_or_default());
        put(&mut entry, 88, &[0; 40]);
        self.block.extend_from_slice(&entry);
        self.count += 1;
        self.space.add(space);
        if self.block.len() == MAX_BLOCK { self.flush(store) } else { Ok(()) }
    }

    fn flush(&mut self, store: &mut Store<'_>) -> Result<(), PoolError> {
        self.block.resize(MAX_BLOCK, 0);
        self.tree.write(&self.block, 1, Embed::Yes, store)?;
        self.block.clear();
        Ok(())
    }
}

/// Finds out what is dead.
struct Search<'b, 'd, 's, 'f> {
    blocks: &'b Blocks<'d>,
    store: &'s mut Store<'f>,
    filling: Vec<Filling>,
}

/// The blocks of the set of objects `old` that `new` has no more. `snapshots` are the transaction groups of all snapshots before `new`.
/// Whatever is the same in both is so in the same place, so equal pointers need not be followed.
pub(super) fn search(old: &Bp, new: &Bp, snapshots: &[u64], store: &mut Store<'_>) -> Result<Dead, PoolError> {
    store.flush()?;
    let Some(blocks) = store.blocks().filter(|_| old != new) else { return Ok(Dead::default()) };
    let filling = |key: &u64| Filling {
        key: *key,
        count: 0,
        space: Space::default(),
        block: Vec::new(),
        tree: dmu::Tree::new(types::BPOBJ, METADATA),
    };
    let mut search = Search { blocks: &blocks, store, filling: snapshots.iter().map(filling).collect() };
    search.bury(old)?;
    if let (Some(old), Some(new)) = (Objects::read(&blocks, old)?, Objects::read(&blocks, new)?) {
        for (nth, (old, new)) in old.special.iter().zip(new.special).enumerate() {
            search.object(old, new, nth == 0)?;
        }
    }
    let mut dead = Dead::default();
    for mut filling in search.filling.into_iter().filter(|filling| filling.count > 0) {
        if !filling.block.is_empty() {
            filling.flush(store)?;
        }
        let top = filling.tree.finish(store)?;
        dead.space.add(filling.space);
        dead.buckets.push(Bucket { key: filling.key, count: filling.count, space: filling.space, top });
    }
    Ok(dead)
}

impl Search<'_, '_, '_, '_> {
    fn bury(&mut self, bp: &Bp) -> Result<(), PoolError> {
        let pointer = Pointer::parse(bp)?;
        let Some(block) = pointer.block() else { return Ok(()) };
        let filling = self.filling.iter_mut().filter(|filling| filling.key < block.birth).max_by_key(|f| f.key);
        filling.ok_or(PoolError::Worker)?.add(bp, Space::of(&pointer), self.store)
    }

    /// The blocks of an object. `dnodes` says whether they hold those of a set.
    fn object(&mut self, old: &Dnode, new: Dnode, dnodes: bool) -> Result<(), PoolError> {
        let blocks = self.blocks;
        let mut new = Cursor::new(new);
        let mut changed = Vec::new();
        let mut failed = Ok(());
        old.walk(blocks, &mut |id, bp, pointer| {
            let level = pointer.block().map_or(0, |block| block.level);
            let now = new.pointer(blocks, level, id)?;
            if now == *bp || failed.is_err() {
                return Ok(false);
            }
            failed = self.bury(bp);
            if dnodes && level == 0 {
                changed.push((*bp, now));
            }
            Ok(true)
        })?;
        failed?;
        for (old, new) in changed {
            let read = |bp: &Bp| Ok::<_, ReadError>(blocks.read(bp)?.unwrap_or_default());
            let (old, new) = (read(&old)?, read(&new)?);
            for (nth, old) in old.as_chunks::<DNODE>().0.iter().enumerate() {
                let new = new.as_chunks::<DNODE>().0.get(nth).copied().unwrap_or([0; DNODE]);
                if *old != new {
                    self.dnode(old, &new)?;
                }
            }
        }
        Ok(())
    }

    fn dnode(&mut self, old: &[u8], new: &[u8]) -> Result<(), PoolError> {
        let (old, new) = (Dnode::parse(old)?, Dnode::parse(new)?);
        if let Some(spill) = old.spill.filter(|spill| new.spill.as_ref() != Some(spill)) {
            self.bury(&spill)?;
        }
        self.object(&old, new, false)
    }
}
