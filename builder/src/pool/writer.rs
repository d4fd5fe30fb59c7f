//! From a stream of files to the objects of file systems: reads, deals blocks out to the workers, and commits them in order.

use std::collections::VecDeque;

use super::PoolError;
use super::block::{Bp, Compression, Kind};
use super::bytes::index;
use super::dmu::{self, types};
use super::pipeline::{Order, Pipeline};
use super::reader::objects::Cursor;
use super::sa::Znode;
use super::store::{Space, Store};
use super::tree::Tree;
use super::zpl::{FileSystem, METADATA};
use crate::tar::{self, Entries};

/// Longest target of a symbolic link.
const MAX_TARGET: usize = 4095;
/// Bytes of a sector, to which small files are rounded up.
const SECTOR: usize = 512;
/// Steps that may wait: an archive can have a million links between two blocks.
const MAX_STEPS: usize = 8192;

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files of all types and directories; hard links are not files.
    pub entries: u64,
    /// Further names of files.
    pub links: u64,
    /// Bytes of files, holes included.
    pub bytes: u64,
}

/// What is to be committed next, in the order of the stream.
#[derive(Debug)]
enum Step {
    /// A file: its file system and object, and what that was in the state before.
    Begin(usize, u64, Option<Box<Cursor>>),
    /// The block that was dealt out first.
    Block,
    /// Blocks that are holes.
    Holes(u64),
    /// The file whose blocks these were.
    End(Box<End>),
}

#[derive(Debug)]
struct End {
    system: usize,
    object: u64,
    znode: Znode,
    block_size: usize,
    path: Vec<u8>,
}

/// Writes files into file systems.
#[derive(Debug)]
pub(super) struct Writer<'a, 's> {
    store: &'a mut Store<'s>,
    systems: &'a mut [FileSystem],
    pipeline: Pipeline,
    steps: VecDeque<Step>,
    /// The file whose blocks are being committed.
    blocks: dmu::Tree,
    file: (usize, u64),
    /// Whether blocks are hashed to be compared later.
    hashed: bool,
    counts: Counts,
}

impl<'a, 's> Writer<'a, 's> {
    pub(super) fn new(store: &'a mut Store<'s>, systems: &'a mut [FileSystem], jobs: usize) -> Result<Self, PoolError> {
        let pipeline = Pipeline::new(jobs, store.geometry.ashift)?;
        let blocks = dmu::Tree::new(types::PLAIN_FILE, METADATA);
        let hashed = systems.iter().any(|system| system.content.is_some());
        let (steps, counts) = (VecDeque::new(), Counts::default());
        Ok(Writer { store, systems, pipeline, steps, blocks, file: (0, 0), hashed, counts })
    }

    /// Reads the whole archive into the file systems of `tree`.
    pub(super) fn run(mut self, archive: &mut dyn Entries, tree: &mut Tree) -> Result<Counts, PoolError> {
        while let Some(entry) = archive.next_entry()? {
            let path = entry.path.clone();
            self.entry(entry, archive, tree).map_err(|error| error.of(&path))?;
            while self.steps.len() > MAX_STEPS {
                self.commit()?;
            }
        }
        while !self.steps.is_empty() {
            self.commit()?;
        }
        tree.complete(self.systems)?;
        for at in 0..tree.count() {
            if tree.is_outside(at) {
                continue;
            }
            let (system, object, znode, entries) = tree.finished(at)?;
            let system = self.systems.get_mut(system).ok_or(PoolError::Worker)?;
            system.add_directory(object, &znode, &entries, self.store)?;
        }
        Ok(self.counts)
    }

    fn entry(&mut self, entry: tar::Entry, archive: &mut dyn Entries, tree: &mut Tree) -> Result<(), PoolError> {
        let type_bits = match entry.kind {
            tar::Kind::HardLink => {
                self.counts.links += 1;
                return tree.link(&entry.path, &entry.target, self.systems);
            }
            tar::Kind::File => 0o100_000,
            tar::Kind::SymbolicLink => 0o120_000,
            tar::Kind::Character => 0o020_000,
            tar::Kind::Block => 0o060_000,
            tar::Kind::Directory => 0o040_000,
            tar::Kind::Pipe => 0o010_000,
        };
        self.counts.entries += 1;
        let mut znode = Znode {
            mode: type_bits | entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            links: 1,
            size: entry.size,
            xattrs: entry.xattrs,
            ..Znode::default()
        };
        match entry.kind {
            tar::Kind::Directory => return tree.directory(&entry.path, &znode, self.systems),
            tar::Kind::SymbolicLink => {
                if entry.target.is_empty() || entry.target.len() > MAX_TARGET {
                    let found = entry.target.len();
                    return Err(PoolError::Entry(format!(
                        "a link's target has 1 to {MAX_TARGET} bytes, {found} found"
                    )));
                }
                znode.mode = 0o120_777;
                znode.size = entry.target.len() as u64;
                znode.target = Some(entry.target);
            }
            tar::Kind::Character | tar::Kind::Block => {
                let (major, minor) = entry.device;
                if major >= 1 << 12 || minor >= 1 << 20 {
                    return Err(PoolError::Entry(format!("there is no device {major}:{minor}")));
                }
                znode.device = Some(u64::from(major) << 20 | u64::from(minor));
            }
            _ => {}
        }
        let (system, parent, object) = tree.file(&entry.path, znode.mode, self.systems)?;
        znode.parent = parent;
        let (compression, record) =
            self.systems.get(system).map(|system| (system.compression, system.record)).ok_or(PoolError::Worker)?;
        let mut block_size = SECTOR;
        if entry.kind == tar::Kind::File && entry.size > 0 {
            self.counts.bytes += entry.size;
            block_size = record.min(index(entry.size).next_multiple_of(SECTOR));
            let old = self.systems.get(system).map_or(Ok(None), |system| system.old(object))?;
            self.steps.push_back(Step::Begin(system, object, old.map(Box::new)));
            self.content(&entry.parts, entry.size, block_size, compression, archive)?;
        }
        self.steps.push_back(Step::End(Box::new(End { system, object, znode, block_size, path: entry.path })));
        Ok(())
    }

    /// Deals out the blocks of a file. `parts` are those that are no holes.
    fn content(
        &mut self,
        parts: &[(u64, u64)],
        size: u64,
        block_size: usize,
        compression: Compression,
        archive: &mut dyn Entries,
    ) -> Result<(), PoolError> {
        let step = block_size as u64;
        let blocks = size.div_ceil(step);
        let mut parts = parts.iter().copied().peekable();
        let mut block = 0;
        while block < blocks {
            let Some((offset, _)) = parts.peek() else {
                self.steps.push_back(Step::Holes(blocks - block));
                return Ok(());
            };
            let first = offset / step;
            if first > block {
                self.steps.push_back(Step::Holes(first - block));
                block = first;
            }
            while self.pipeline.is_full() {
                self.commit()?;
            }
            let kind = Kind { object_type: types::PLAIN_FILE, level: 0 };
            let order = Order { kind, compression, hashed: self.hashed };
            let (start, end) = (block * step, (block + 1) * step);
            self.pipeline.deal(block_size, order, |data| {
                let mut filled = 0;
                while let Some((offset, length)) = parts.peek_mut().filter(|(offset, _)| *offset < end) {
                    let here = (*length).min(end - *offset);
                    let at = index(*offset - start);
                    data.get_mut(filled..at).unwrap_or_default().fill(0);
                    filled = at + index(here);
                    archive.read(data.get_mut(at..filled).unwrap_or_default())?;
                    *offset += here;
                    *length -= here;
                    if *length == 0 {
                        parts.next();
                    }
                }
                data.get_mut(filled..).unwrap_or_default().fill(0);
                Ok(())
            })?;
            self.steps.push_back(Step::Block);
            block += 1;
        }
        Ok(())
    }

    /// Commits what is next. Space is given out here only, in the order of the stream.
    fn commit(&mut self) -> Result<(), PoolError> {
        match self.steps.pop_front() {
            None => Ok(()),
            Some(Step::Begin(system, object, old)) => {
                self.file = (system, object);
                let new = dmu::Tree::new(types::PLAIN_FILE, METADATA);
                self.blocks = new.again(old.map(|old| *old));
                Ok(())
            }
            Some(Step::Block) => {
                let done = self.pipeline.collect()?;
                let sealed = match done.sealed {
                    Ok(sealed) => sealed,
                    Err(error) => return Err(PoolError::Compress(error.to_string())),
                };
                let old = self.blocks.old(self.store)?;
                if let Some(hash) = &done.hash
                    && let Some(content) = self.systems.get_mut(self.file.0).and_then(|system| system.content.as_mut())
                {
                    content.block(self.file.1, self.blocks.blocks(), hash);
                }
                let (bp, space) = self.store.place(sealed, (done.data, done.packed), done.kind, 1, old.as_ref())?;
                self.blocks.push(bp, space, self.store)
            }
            Some(Step::Holes(count)) => {
                for _ in 0..count {
                    self.blocks.push(Bp::HOLE, Space::default(), self.store)?;
                }
                Ok(())
            }
            Some(Step::End(end)) => {
                let next = dmu::Tree::new(types::PLAIN_FILE, METADATA);
                let top = std::mem::replace(&mut self.blocks, next).finish(self.store)?;
                let system = self.systems.get_mut(end.system).ok_or(PoolError::Worker)?;
                let added = system.add(end.object, &end.znode, types::PLAIN_FILE, end.block_size, &top, self.store);
                added.map_err(|error| error.of(&end.path))
            }
        }
    }
}
