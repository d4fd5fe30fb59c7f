//! Workers that compress and checksum blocks. Work is dealt out in turn and collected in the same turn, so what comes out does not
//! depend on how many there are, or which is faster. Small blocks go together: handing one over costs more than its checksum.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::PoolError;
use super::block::{Codec, Compression, Embed, Kind, Sealed};
use super::content::{Hash, hash_block};

/// Bytes from which on a batch goes to a worker; with its last block it has twice as many at most.
const BATCH: usize = 128 << 10;
/// Batches that a worker may have, and how many there are at least.
const EACH: usize = 2;
const LEAST: usize = 4;
const MAX_WORKERS: usize = 16;

/// What is to be done to a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) kind: Kind,
    pub(super) compression: Compression,
    /// Whether its hash is wanted.
    pub(super) hashed: bool,
}

/// A block in its batch.
#[derive(Debug)]
struct Block {
    order: Order,
    data: Range<usize>,
    packed: Range<usize>,
    hash: Option<Hash>,
    sealed: Result<Sealed, PoolError>,
}

/// A block that is through.
#[derive(Debug)]
pub(super) struct Done<'b> {
    /// Before compression, and after it.
    pub(super) data: &'b [u8],
    pub(super) packed: &'b [u8],
    pub(super) kind: Kind,
    pub(super) hash: Option<Hash>,
    pub(super) sealed: &'b Result<Sealed, PoolError>,
}

/// Blocks with the buffers that they lie in one behind the other.
#[derive(Debug, Default)]
struct Batch {
    data: Vec<u8>,
    packed: Vec<u8>,
    blocks: Vec<Block>,
}

impl Batch {
    fn used(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.data.end)
    }

    fn seal(&mut self, codec: &mut Codec, scratch: &mut Vec<u8>) {
        self.packed.clear();
        for block in &mut self.blocks {
            let data = self.data.get(block.data.clone()).unwrap_or_default();
            block.hash = if block.order.hashed { hash_block(data) } else { None };
            block.sealed = codec.seal(data, scratch, block.order.kind, block.order.compression, Embed::Yes);
            let start = self.packed.len();
            if let Ok(Sealed::Stored(stored)) = &block.sealed
                && stored.packed
            {
                self.packed.extend_from_slice(scratch.get(..stored.psize).unwrap_or_default());
            }
            block.packed = start..self.packed.len();
        }
    }
}

#[derive(Debug)]
struct Worker {
    work: SyncSender<Batch>,
    done: Receiver<Batch>,
}

/// The workers, and where in their turn dealing and collecting are.
#[derive(Debug)]
pub(super) struct Pipeline {
    workers: Vec<Worker>,
    threads: Vec<JoinHandle<()>>,
    limit: usize,
    /// Batches that went out, and those of which all blocks were collected.
    dealt: usize,
    collected: usize,
    filling: Batch,
    serving: Batch,
    /// The next block of the one that is being served.
    next: usize,
    spare: Vec<Batch>,
}

impl Pipeline {
    pub(super) fn new(jobs: usize, ashift: u32) -> Result<Self, PoolError> {
        let count = jobs.clamp(1, MAX_WORKERS);
        let each = EACH.max(LEAST.div_ceil(count));
        let mut workers = Vec::new();
        let mut threads = Vec::new();
        for _ in 0..count {
            let (work, todo) = sync_channel::<Batch>(each);
            let (finished, done) = sync_channel(each);
            let thread = thread::Builder::new().name("pool-block".into()).spawn(move || {
                let mut codec = Codec::new(ashift);
                let mut scratch = Vec::new();
                while let Ok(mut batch) = todo.recv() {
                    batch.seal(&mut codec, &mut scratch);
                    if finished.send(batch).is_err() {
                        return;
                    }
                }
            })?;
            workers.push(Worker { work, done });
            threads.push(thread);
        }
        let (filling, serving) = (Batch::default(), Batch::default());
        let limit = each * count;
        Ok(Pipeline { workers, threads, limit, dealt: 0, collected: 0, filling, serving, next: 0, spare: Vec::new() })
    }

    /// Whether a block has to be collected before the next can be dealt.
    pub(super) fn is_full(&self) -> bool {
        self.dealt - self.collected >= self.limit
    }

    /// Takes a block of so many bytes, which `fill` writes; what is in the buffer before is of no meaning.
    pub(super) fn deal(
        &mut self,
        size: usize,
        order: Order,
        fill: impl FnOnce(&mut [u8]) -> Result<(), PoolError>,
    ) -> Result<(), PoolError> {
        let start = self.filling.used();
        let end = start + size;
        if self.filling.data.len() < end {
            self.filling.data.resize(end, 0);
        }
        fill(self.filling.data.get_mut(start..end).unwrap_or_default())?;
        let block = Block { order, data: start..end, packed: 0..0, hash: None, sealed: Ok(Sealed::Hole) };
        self.filling.blocks.push(block);
        if end >= BATCH { self.send() } else { Ok(()) }
    }

    /// Gives the batch to the worker whose turn it is.
    fn send(&mut self) -> Result<(), PoolError> {
        let next = self.spare.pop().unwrap_or_default();
        let batch = std::mem::replace(&mut self.filling, next);
        let worker = self.workers.get(self.dealt % self.workers.len().max(1));
        self.dealt += 1;
        worker.and_then(|worker| worker.work.send(batch).ok()).ok_or(PoolError::Worker)
    }

    /// Waits for the block that was dealt first of those that are out.
    pub(super) fn collect(&mut self) -> Result<Done<'_>, PoolError> {
        if self.next == self.serving.blocks.len() {
            self.serve()?;
        }
        let block = self.serving.blocks.get(self.next).ok_or(PoolError::Worker)?;
        self.next += 1;
        if self.next == self.serving.blocks.len() {
            self.collected += 1;
        }
        Ok(Done {
            data: self.serving.data.get(block.data.clone()).unwrap_or_default(),
            packed: self.serving.packed.get(block.packed.clone()).unwrap_or_default(),
            kind: block.order.kind,
            hash: block.hash,
            sealed: &block.sealed,
        })
    }

    /// Waits for the next batch.
    fn serve(&mut self) -> Result<(), PoolError> {
        if self.dealt == self.collected {
            self.send()?;
        }
        let worker = self.workers.get(self.collected % self.workers.len().max(1));
        let next = worker.and_then(|worker| worker.done.recv().ok()).ok_or(PoolError::Worker)?;
        let mut last = std::mem::replace(&mut self.serving, next);
        self.next = 0;
        last.blocks.clear();
        if !last.data.is_empty() {
            self.spare.push(last);
        }
        Ok(())
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.workers.clear();
        for thread in self.threads.drain(..) {
            // It has nothing to say: what went wrong is in the blocks.
            drop(thread.join());
        }
    }
}
