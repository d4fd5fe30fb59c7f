//! Where blocks go: allocation in order of arrival, and large sequential writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use taproot_init::zfs::label::{LABEL_SIZE, label_offsets};

use super::PoolError;
use super::block::{BIRTH, Bp, Codec, Compression, Embed, Kind, MAX_BLOCK, Sealed};
use super::bytes::index;
use super::layout::{Allocator, Geometry, START};
use super::reader::ReadError;
use super::reader::blocks::{Blocks, Disk, Pointer};
use super::sink::Sink;

/// Bytes that are gathered for one write.
const GATHER: usize = 1 << 20;

/// What blocks take, as datasets account for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Space {
    /// Bytes allocated.
    pub(super) used: u64,
    /// Bytes on disk.
    pub(super) compressed: u64,
    /// Bytes of data before compression; metadata counts as it is on disk.
    pub(super) uncompressed: u64,
}

impl Space {
    /// What the block behind a pointer takes.
    pub(super) fn of(pointer: &Pointer) -> Self {
        let Some(block) = pointer.block() else { return Space::default() };
        // What is in a pointer has no size on the disk.
        let (used, psize) = match pointer {
            Pointer::Stored { asize, .. } => (*asize, block.psize),
            _ => (0, 0),
        };
        let metadata = block.level > 0 || is_metadata(block.object_type);
        let uncompressed = if metadata { psize } else { block.lsize } as u64;
        Space { used, compressed: psize as u64, uncompressed }
    }

    pub(super) fn add(&mut self, other: Space) {
        self.used += other.used;
        self.compressed += other.compressed;
        self.uncompressed += other.uncompressed;
    }
}

/// The part of a file or device that a pool has.
#[derive(Debug, Clone, Copy)]
pub struct Device<'a> {
    /// The file or device.
    pub file: &'a File,
    /// Where the pool begins there.
    pub offset: u64,
}

impl Device<'_> {
    pub(super) fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, self.offset + at)
    }
}

impl Disk for Device<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, self.offset + offset)
    }
}

/// The devices being written, all alike.
#[derive(Debug)]
pub(super) struct Store<'a> {
    /// None for a rehearsal, which only allocates.
    disks: Vec<Device<'a>>,
    /// The transaction group in which blocks are born.
    pub(super) birth: u64,
    pub(super) geometry: Geometry,
    pub(super) allocator: Allocator,
    gathered: Vec<u8>,
    gathered_at: u64,
    sink: Option<Sink>,
    codec: Codec,
    packed: Vec<u8>,
}

impl<'a> Store<'a> {
    /// Begins with a device without labels, so that nothing half written can be taken for a pool.
    pub(super) fn new(disks: &[Device<'a>], geometry: Geometry) -> Result<Self, PoolError> {
        let zeros = vec![0; index(LABEL_SIZE)];
        for disk in disks {
            for offset in label_offsets(geometry.size).unwrap_or_default() {
                disk.write_all_at(&zeros, offset)?;
            }
            disk.file.sync_data()?;
        }
        let mut store = Self::rehearsal(geometry, Allocator::new(geometry));
        store.disks = disks.to_vec();
        store.sink = Some(Sink::new(disks)?);
        store.gathered.reserve_exact(GATHER + MAX_BLOCK);
        Ok(store)
    }

    /// Allocates as the real one would from here on, and writes nothing.
    pub(super) fn rehearsal(geometry: Geometry, allocator: Allocator) -> Self {
        let codec = Codec::new(geometry.ashift);
        Store {
            disks: Vec::new(),
            birth: BIRTH,
            geometry,
            allocator,
            gathered: Vec::new(),
            gathered_at: 0,
            sink: None,
            codec,
            packed: Vec::new(),
        }
    }

    /// What is written, to read it again.
    pub(super) fn blocks(&self) -> Option<Blocks<'a>> {
        self.disks.first().map(|disk| Blocks::of(*disk, self.geometry.asize))
    }

    /// Stores a block that is compressed here; for metadata.
    pub(super) fn write(
        &mut self,
        data: &[u8],
        kind: Kind,
        fill: u64,
        (compression, embed): (Compression, Embed),
        old: Option<&Bp>,
    ) -> Result<(Bp, Space), PoolError> {
        let mut packed = std::mem::take(&mut self.packed);
        let sealed = self.codec.seal(data, &mut packed, kind, compression, embed)?;
        let placed = self.place(&sealed, (data, &packed), kind, fill, old);
        self.packed = packed;
        placed
    }

    /// Stores a block that is compressed already, unless `old`, what was in its place in the state before, is the same.
    pub(super) fn place(
        &mut self,
        sealed: &Sealed,
        (data, packed): (&[u8], &[u8]),
        kind: Kind,
        fill: u64,
        old: Option<&Bp>,
    ) -> Result<(Bp, Space), PoolError> {
        let lsize = data.len() as u64;
        let metadata = kind.level > 0 || is_metadata(kind.object_type);
        let counted = |psize: u64| if metadata { psize } else { lsize };
        let stored = match sealed {
            Sealed::Hole => return Ok((Bp::HOLE, Space::default())),
            Sealed::Embedded(bp) => {
                let space = Space { used: 0, compressed: 0, uncompressed: counted(0) };
                let old = old.filter(|old| old.resembles(bp)).copied();
                return Ok((old.unwrap_or_else(|| bp.born(self.birth)), space));
            }
            Sealed::Stored(stored) => stored,
        };
        let psize = stored.psize as u64;
        let asize = self.geometry.round(psize);
        let space = Space { used: asize, compressed: psize, uncompressed: counted(psize) };
        let bytes = if stored.packed { packed } else { data }.get(..stored.psize).unwrap_or_default();
        if let Some(old) = old
            && old.resembles(&Bp::stored(kind, stored, data.len(), 0, asize, fill))
            && self.has(old, bytes)?
        {
            return Ok((*old, space));
        }
        let offset = self.allocator.take(asize)?;
        self.gather(offset, bytes, asize)?;
        Ok((Bp::stored(kind, stored, data.len(), offset, asize, fill).born(self.birth), space))
    }

    /// Whether a block that is stored has these bytes.
    fn has(&self, old: &Bp, bytes: &[u8]) -> Result<bool, ReadError> {
        let (Some(blocks), Pointer::Stored { offset, .. }) = (self.blocks(), Pointer::parse(old)?) else {
            return Ok(false);
        };
        Ok(blocks.raw(offset, bytes.len())? == bytes)
    }

    fn gather(&mut self, offset: u64, bytes: &[u8], asize: u64) -> io::Result<()> {
        if self.disks.is_empty() {
            return Ok(());
        }
        if self.gathered.len() >= GATHER || self.gathered_at + self.gathered.len() as u64 != offset {
            self.pass_on()?;
            self.gathered_at = offset;
        }
        let end = self.gathered.len() + index(asize);
        self.gathered.extend_from_slice(bytes);
        self.gathered.resize(end, 0);
        Ok(())
    }

    /// Has what was gathered written.
    fn pass_on(&mut self) -> io::Result<()> {
        let at = self.gathered_at;
        self.gathered_at += self.gathered.len() as u64;
        if let Some(sink) = self.sink.as_mut().filter(|_| !self.gathered.is_empty()) {
            self.gathered = sink.write(START + at, std::mem::take(&mut self.gathered))?;
        }
        self.gathered.clear();
        Ok(())
    }

    /// Writes what was gathered, and waits for it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.pass_on()?;
        self.sink.as_mut().map_or(Ok(()), Sink::wait)
    }

    /// How far the allocation is, to continue in a rehearsal.
    pub(super) fn fork(&self) -> Store<'static> {
        Store { birth: self.birth, ..Store::rehearsal(self.geometry, self.allocator.clone()) }
    }
}

/// Types of objects whose blocks are not users' data.
fn is_metadata(object_type: u8) -> bool {
    !matches!(object_type, 19 | 23)
}
