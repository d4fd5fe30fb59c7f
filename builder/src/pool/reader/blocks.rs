//! Blocks: what a pointer says, and the bytes behind it, checked and unpacked.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::{ReadError, damaged};
use crate::pool::block::{Bp, fletcher4};
use crate::pool::bytes::{get64, index, low8};
use crate::pool::layout::START;
use crate::pool::store::Device;

/// Largest block that is read: more than any that is written here.
const MAX_BLOCK: usize = 1 << 20;
const CHECKSUM_FLETCHER4: u8 = 7;
const COMPRESS_OFF: u8 = 2;
const COMPRESS_LZ4: u8 = 15;
const COMPRESS_ZSTD: u8 = 16;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Where a pool's bytes come from.
pub trait Disk {
    /// Fills the buffer with the bytes from `offset` on.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Whether blocks with wrong checksums are read, too: a fuzzer would never get past those.
    fn is_unchecked(&self) -> bool {
        false
    }
}

impl Disk for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl Disk for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)?.get(..buffer.len()));
        from.map(|from| buffer.copy_from_slice(from)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// What a pointer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) enum Pointer {
    Hole,
    /// The block is in the pointer.
    Embedded(Block),
    /// The block is on the disk: so many bytes behind [`START`], so many allocated.
    Stored {
        block: Block,
        offset: u64,
        asize: u64,
    },
}

/// What both kinds say of their block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) struct Block {
    pub(in crate::pool) lsize: usize,
    pub(in crate::pool) psize: usize,
    pub(in crate::pool) object_type: u8,
    pub(in crate::pool) level: u8,
    pub(in crate::pool) birth: u64,
    compression: u8,
}

impl Pointer {
    pub(in crate::pool) fn parse(bp: &Bp) -> Result<Self, ReadError> {
        if bp.is_hole() {
            return Ok(Pointer::Hole);
        }
        let word = get64(&bp.0, 48);
        let block = |lsize: u64, psize: u64| Block {
            lsize: index(lsize),
            psize: index(psize),
            object_type: low8(word >> 48),
            level: low8(word >> 56 & 0x1f),
            birth: get64(&bp.0, 80),
            compression: low8(word >> 32 & 0x7f),
        };
        if word >> 61 != 0b100 {
            return damaged(
                "a block that is encrypted, deduplicated or of the other byte order, which is not read here",
            );
        }
        if word >> 39 & 1 == 1 {
            return Ok(Pointer::Embedded(block((word & 0x1ff_ffff) + 1, (word >> 25 & 0x7f) + 1)));
        }
        let block = block(((word & 0xffff) + 1) * 512, ((word >> 16 & 0xffff) + 1) * 512);
        let (place, where_) = (get64(&bp.0, 0), get64(&bp.0, 8));
        if low8(word >> 40) != CHECKSUM_FLETCHER4 || where_ >> 63 == 1 || place >> 24 != 0 {
            return damaged("a block with another checksum, in a gang, or on a second vdev, which is not read here");
        }
        let (offset, asize) = (where_.checked_mul(512), (place & 0xff_ffff) * 512);
        match offset {
            Some(offset) if asize >= block.psize as u64 => Ok(Pointer::Stored { block, offset, asize }),
            _ => damaged("a block pointer whose sizes cannot be"),
        }
    }

    pub(in crate::pool) fn block(&self) -> Option<&Block> {
        match self {
            Pointer::Hole => None,
            Pointer::Embedded(block) | Pointer::Stored { block, .. } => Some(block),
        }
    }
}

enum Where<'d> {
    Disk(&'d dyn Disk),
    Device(Device<'d>),
}

impl Where<'_> {
    fn is_unchecked(&self) -> bool {
        matches!(self, Where::Disk(disk) if disk.is_unchecked())
    }
}

/// The blocks of a disk.
pub(in crate::pool) struct Blocks<'d> {
    disk: Where<'d>,
    /// Bytes that can be allocated.
    end: u64,
    /// Blocks that may still be read: pointers can be made to lead to the same ones over and over.
    left: Cell<u64>,
}

impl<'d> Blocks<'d> {
    pub(in crate::pool) fn new(disk: &'d dyn Disk, end: u64) -> Self {
        Self::at(Where::Disk(disk), end)
    }

    /// The blocks of a device that is being written.
    pub(in crate::pool) fn of(device: Device<'d>, end: u64) -> Self {
        Self::at(Where::Device(device), end)
    }

    fn at(disk: Where<'d>, end: u64) -> Self {
        let blocks = Blocks { disk, end, left: Cell::new(0) };
        blocks.renew();
        blocks
    }

    /// Allows as many blocks to be read as the disk has.
    pub(in crate::pool) fn renew(&self) {
        self.left.set(self.end / 512 + 1024);
    }

    /// The bytes of a stored block as they are on the disk.
    pub(in crate::pool) fn raw(&self, offset: u64, psize: usize) -> Result<Vec<u8>, ReadError> {
        if offset.checked_add(psize as u64).is_none_or(|end| end > self.end) {
            return damaged("a block behind the end of the disk");
        }
        let mut bytes = vec![0; psize];
        match &self.disk {
            Where::Disk(disk) => disk.read_at(&mut bytes, START + offset)?,
            Where::Device(device) => device.read_at(&mut bytes, START + offset)?,
        }
        Ok(bytes)
    }

    /// The block that a pointer leads to; `None` for a hole.
    pub(in crate::pool) fn read(&self, bp: &Bp) -> Result<Option<Vec<u8>>, ReadError> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.map_or_else(|| damaged("more blocks than the disk has room for"), Ok)?);
        let (block, bytes) = match Pointer::parse(bp)? {
            Pointer::Hole => return Ok(None),
            Pointer::Embedded(block) => {
                let mut payload = [&bp.0[..48], &bp.0[56..80], &bp.0[88..]].concat();
                payload.truncate(block.psize);
                (block, payload)
            }
            Pointer::Stored { block, offset, .. } => {
                let bytes = self.raw(offset, block.psize)?;
                let sum = fletcher4(&bytes);
                if !self.disk.is_unchecked() && (96..).step_by(8).zip(sum).any(|(at, word)| get64(&bp.0, at) != word) {
                    return damaged(&format!("a block with a wrong checksum, {offset} bytes behind the labels"));
                }
                (block, bytes)
            }
        };
        unpack(block, bytes).map(Some)
    }
}

fn unpack(block: Block, bytes: Vec<u8>) -> Result<Vec<u8>, ReadError> {
    if block.lsize > MAX_BLOCK {
        return damaged("a block larger than 1 MiB");
    }
    if block.compression == COMPRESS_OFF {
        return if bytes.len() == block.lsize { Ok(bytes) } else { damaged("a block of two sizes") };
    }
    let unpacked = (|| {
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*head)).ok()?;
        match block.compression {
            COMPRESS_LZ4 => lz4_flex::block::decompress(rest.get(..length)?, block.lsize).ok(),
            COMPRESS_ZSTD => {
                let frame = [&ZSTD_MAGIC, rest.get(4..)?.get(..length)?].concat();
                zstd::bulk::decompress(&frame, block.lsize).ok()
            }
            _ => None,
        }
    })();
    match unpacked {
        Some(data) if data.len() == block.lsize => Ok(data),
        _ => damaged("a block that cannot be unpacked"),
    }
}
