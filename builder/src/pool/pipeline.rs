//! Workers that compress and checksum blocks. Work is dealt out in turn and collected in the same turn, so what comes out does not
//! depend on how many there are, or which is faster.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::PoolError;
use super::block::{Codec, Compression, Embed, Kind, Sealed};
use super::content::{Hash, hash_block};

/// Blocks that may be under way; each has two buffers of its size.
const UNDER_WAY: usize = 32;

/// A block with its buffers.
#[derive(Debug)]
pub(super) struct Job {
    /// The block before compression.
    pub(super) data: Vec<u8>,
    /// Room for it after compression.
    pub(super) packed: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) compression: Compression,
    /// Whether its hash is wanted, and then that.
    pub(super) hashed: bool,
    pub(super) hash: Option<Hash>,
    pub(super) sealed: Result<Sealed, PoolError>,
}

impl Job {
    fn new() -> Self {
        let kind = Kind { object_type: 0, level: 0 };
        Job {
            data: Vec::new(),
            packed: Vec::new(),
            kind,
            compression: Compression::Off,
            hashed: false,
            hash: None,
            sealed: Ok(Sealed::Hole),
        }
    }
}

#[derive(Debug)]
struct Worker {
    work: SyncSender<Job>,
    done: Receiver<Job>,
}

/// The workers, and where in their turn dealing and collecting are.
#[derive(Debug)]
pub(super) struct Pipeline {
    workers: Vec<Worker>,
    threads: Vec<JoinHandle<()>>,
    dealt: usize,
    collected: usize,
    spare: Vec<Job>,
}

impl Pipeline {
    pub(super) fn new(jobs: usize, ashift: u32) -> Result<Self, PoolError> {
        let count = jobs.clamp(1, UNDER_WAY / 2);
        let mut workers = Vec::new();
        let mut threads = Vec::new();
        for _ in 0..count {
            let (work, todo) = sync_channel::<Job>(UNDER_WAY / count);
            let (finished, done) = sync_channel(UNDER_WAY / count);
            let thread = thread::Builder::new().name("pool-block".into()).spawn(move || {
                let mut codec = Codec::new(ashift);
                while let Ok(mut job) = todo.recv() {
                    job.hash = if job.hashed { hash_block(&job.data) } else { None };
                    job.sealed = codec.seal(&job.data, &mut job.packed, job.kind, job.compression, Embed::Yes);
                    if finished.send(job).is_err() {
                        return;
                    }
                }
            })?;
            workers.push(Worker { work, done });
            threads.push(thread);
        }
        Ok(Pipeline { workers, threads, dealt: 0, collected: 0, spare: Vec::new() })
    }

    /// Buffers to fill; those of a block that is through.
    pub(super) fn buffers(&mut self) -> Job {
        self.spare.pop().unwrap_or_else(Job::new)
    }

    /// Whether one has to be collected before the next can be dealt.
    pub(super) fn is_full(&self) -> bool {
        let each = UNDER_WAY / self.workers.len().max(1);
        self.dealt - self.collected >= each * self.workers.len()
    }

    /// Gives a block to the worker whose turn it is.
    pub(super) fn deal(&mut self, job: Job) -> Result<(), PoolError> {
        let worker = self.workers.get(self.dealt % self.workers.len().max(1));
        self.dealt += 1;
        worker.and_then(|worker| worker.work.send(job).ok()).ok_or(PoolError::Worker)
    }

    /// Waits for the block that was dealt first of those that are out.
    pub(super) fn collect(&mut self) -> Result<Job, PoolError> {
        let worker = self.workers.get(self.collected % self.workers.len().max(1));
        self.collected += 1;
        worker.and_then(|worker| worker.done.recv().ok()).ok_or(PoolError::Worker)
    }

    /// Takes buffers back.
    pub(super) fn recycle(&mut self, job: Job) {
        self.spare.push(job);
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
