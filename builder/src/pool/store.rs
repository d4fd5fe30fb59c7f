//! Where blocks go: allocation in order of arrival, and large sequential writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use taproot_init::zfs::label::{LABEL_SIZE, label_offsets};

use super::PoolError;
use super::block::{Bp, Codec, Compression, Embed, Kind, Sealed};
use super::bytes::index;
use super::layout::{Allocator, Geometry, START};

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
    pub(super) fn add(&mut self, other: Space) {
        self.used += other.used;
        self.compressed += other.compressed;
        self.uncompressed += other.uncompressed;
    }
}

/// The part of a file or device that the pool has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Device<'a> {
    pub(super) file: &'a File,
    pub(super) offset: u64,
}

impl Device<'_> {
    pub(super) fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, self.offset + at)
    }
}

/// The device being written.
#[derive(Debug)]
pub(super) struct Store<'a> {
    /// Absent for a rehearsal, which only allocates.
    out: Option<Device<'a>>,
    pub(super) geometry: Geometry,
    pub(super) allocator: Allocator,
    gathered: Vec<u8>,
    gathered_at: u64,
    codec: Codec,
    packed: Vec<u8>,
}

impl<'a> Store<'a> {
    /// Begins with a device without labels, so that nothing half written can be taken for a pool.
    pub(super) fn new(out: Device<'a>, geometry: Geometry) -> Result<Self, PoolError> {
        let zeros = vec![0; index(LABEL_SIZE)];
        for offset in label_offsets(geometry.size).unwrap_or_default() {
            out.write_all_at(&zeros, offset)?;
        }
        out.file.sync_data()?;
        let mut store = Self::rehearsal(geometry, Allocator::new(geometry));
        store.out = Some(out);
        store.gathered.reserve_exact(2 * GATHER);
        Ok(store)
    }

    /// Allocates as the real one would from here on, and writes nothing.
    pub(super) fn rehearsal(geometry: Geometry, allocator: Allocator) -> Self {
        let codec = Codec::new(geometry.ashift);
        Store { out: None, geometry, allocator, gathered: Vec::new(), gathered_at: 0, codec, packed: Vec::new() }
    }

    /// Stores a block that is compressed here; for metadata.
    pub(super) fn write(
        &mut self,
        data: &[u8],
        kind: Kind,
        fill: u64,
        compression: Compression,
        embed: Embed,
    ) -> Result<(Bp, Space), PoolError> {
        let mut packed = std::mem::take(&mut self.packed);
        let sealed = self.codec.seal(data, &mut packed, kind, compression, embed)?;
        let placed = self.place(&sealed, data, &packed, kind, fill);
        self.packed = packed;
        placed
    }

    /// Stores a block that is compressed already.
    pub(super) fn place(
        &mut self,
        sealed: &Sealed,
        data: &[u8],
        packed: &[u8],
        kind: Kind,
        fill: u64,
    ) -> Result<(Bp, Space), PoolError> {
        let lsize = data.len() as u64;
        let metadata = kind.level > 0 || is_metadata(kind.object_type);
        let counted = |psize: u64| if metadata { psize } else { lsize };
        let stored = match sealed {
            Sealed::Hole => return Ok((Bp::HOLE, Space::default())),
            Sealed::Embedded(bp, psize) => {
                return Ok((**bp, Space { used: 0, compressed: *psize, uncompressed: counted(*psize) }));
            }
            Sealed::Stored(stored) => stored,
        };
        let psize = stored.psize as u64;
        let asize = self.geometry.round(psize);
        let offset = self.allocator.take(asize)?;
        let bytes = if stored.packed { packed } else { data };
        self.gather(offset, bytes.get(..stored.psize).unwrap_or_default(), asize)?;
        let bp = Bp::stored(kind, stored, data.len(), offset, asize, fill);
        Ok((bp, Space { used: asize, compressed: psize, uncompressed: counted(psize) }))
    }

    fn gather(&mut self, offset: u64, bytes: &[u8], asize: u64) -> io::Result<()> {
        if self.out.is_none() {
            return Ok(());
        }
        if self.gathered.len() >= GATHER || self.gathered_at + self.gathered.len() as u64 != offset {
            self.flush()?;
            self.gathered_at = offset;
        }
        let end = self.gathered.len() + index(asize);
        self.gathered.extend_from_slice(bytes);
        self.gathered.resize(end, 0);
        Ok(())
    }

    /// Writes what was gathered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let Some(out) = self.out {
            out.write_all_at(&self.gathered, START + self.gathered_at)?;
        }
        self.gathered_at += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    /// How far the allocation is, to continue in a rehearsal.
    pub(super) fn fork(&self) -> Store<'static> {
        Store::rehearsal(self.geometry, self.allocator.clone())
    }
}

/// Types of objects whose blocks are not users' data.
fn is_metadata(object_type: u8) -> bool {
    !matches!(object_type, 19 | 23)
}
