//! ZAPs: all names with their values, each found where a look-up would find it.

use super::blocks::Blocks;
use super::objects::{Cursor, Dnode};
use super::{ReadError, damaged};
use crate::pool::bytes::{get16, get32, get64, index, low16};
use crate::pool::zap::hash;

const LEAF: u64 = 1 << 63;
const HEADER: u64 = (1 << 63) + 1;
const MICRO: u64 = (1 << 63) + 3;
const MAGIC: u64 = 0x2_f52a_b2ab;
const LEAF_MAGIC: u32 = 0x02ab_1eaf;
const MICRO_ENTRY: usize = 64;
const CHUNK: usize = 24;
const CHUNK_BYTES: usize = 21;
const CHUNK_END: u16 = 0xffff;
const CHUNK_ARRAY: u8 = 251;
const CHUNK_ENTRY: u8 = 252;
/// Longest name or value.
const MAX_BYTES: usize = 64 << 10;

/// Called with a name and the big-endian bytes of its value.
type Each<'v> = &'v mut dyn FnMut(&[u8], &[u8]) -> Result<(), ReadError>;

/// Goes through all names of a ZAP.
pub(in crate::pool) fn each(blocks: &Blocks<'_>, dnode: &Dnode, visit: Each<'_>) -> Result<(), ReadError> {
    let mut cursor = Cursor::new(dnode.clone());
    let first = cursor.read(blocks, 0)?;
    match get64(&first, 0) {
        MICRO => micro(&first, visit),
        HEADER => Fat { salt: get64(&first, 80), blocks, cursor }.each(&first, visit),
        _ => damaged("a ZAP without its header"),
    }
}

/// The numbers of a ZAP by name.
pub(in crate::pool) fn numbers(blocks: &Blocks<'_>, dnode: &Dnode) -> Result<Vec<(Vec<u8>, u64)>, ReadError> {
    let mut all = Vec::new();
    each(blocks, dnode, &mut |name, value| {
        all.push((name.to_vec(), number(value)));
        Ok(())
    })?;
    Ok(all)
}

/// A value as a number.
pub(in crate::pool) fn number(value: &[u8]) -> u64 {
    value.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn micro(block: &[u8], visit: Each<'_>) -> Result<(), ReadError> {
    let (entries, _) = block.as_chunks::<MICRO_ENTRY>();
    for entry in entries.iter().skip(1) {
        let name = entry.get(14..).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
        if !name.is_empty() {
            visit(name, &get64(entry, 0).to_be_bytes())?;
        }
    }
    Ok(())
}

struct Fat<'b, 'd> {
    salt: u64,
    blocks: &'b Blocks<'d>,
    cursor: Cursor,
}

impl Fat<'_, '_> {
    fn each(&mut self, header: &[u8], visit: Each<'_>) -> Result<(), ReadError> {
        let (start, outside, shift) = (get64(header, 16), get64(header, 24), get64(header, 32));
        let (leaves, entries) = (get64(header, 64), get64(header, 72));
        let size = header.len();
        let per_block = (size / 8) as u64;
        let room = if start == 0 { per_block / 2 } else { outside.saturating_mul(per_block) };
        if get64(header, 8) != MAGIC || shift > 40 || 1 << shift > room || room > 1 << 26 {
            return damaged("a ZAP whose table cannot be");
        }
        let (mut at, mut found, mut names) = (0_u64, 0_u64, 0_u64);
        let mut table = (u64::MAX, Vec::new());
        while at < 1 << shift {
            let leaf = if start == 0 {
                get64(header, size / 2 + index(at) * 8)
            } else {
                let block = start.saturating_add(at / per_block);
                if table.0 != block {
                    table = (block, self.cursor.read(self.blocks, block)?);
                }
                get64(&table.1, index(at % per_block) * 8)
            };
            let block = self.cursor.read(self.blocks, leaf)?;
            let (bits, count) = self.leaf(&block, at, shift, visit)?;
            found += 1;
            names = names.saturating_add(count);
            // The entries of the table that lead to the same leaf are passed over.
            at += 1 << (shift - bits);
        }
        if found != leaves || names != entries {
            return damaged("a ZAP with another number of names than it says");
        }
        Ok(())
    }

    /// The names of the leaf for the hashes that begin with `at`; returns how many bits of them count, and how many names there are.
    fn leaf(&self, block: &[u8], at: u64, shift: u64, visit: Each<'_>) -> Result<(u64, u64), ReadError> {
        let size = block.len();
        let (prefix, bits) = (get64(block, 16), u64::from(get16(block, 32)));
        if get64(block, 0) != LEAF || get32(block, 24) != LEAF_MAGIC || bits > shift || at >> (shift - bits) != prefix {
            return damaged("a leaf of a ZAP at another place than its own");
        }
        let buckets = size / 32;
        let bucket_bits = u64::from(buckets.checked_ilog2().unwrap_or(0));
        let chunks = Chunks { block, start: 48 + 2 * buckets };
        let mut names = 0;
        for bucket in 0..buckets {
            let mut chunk = get16(block, 48 + 2 * bucket);
            while chunk != CHUNK_END {
                let place = chunks.place(chunk);
                if block.get(place) != Some(&CHUNK_ENTRY) || names > size as u64 {
                    return damaged("a leaf of a ZAP with a broken chain");
                }
                let width = usize::from(block.get(place + 1).copied().unwrap_or(0));
                let name = chunks.array(get16(block, place + 4), usize::from(get16(block, place + 6)))?;
                let value = chunks.array(get16(block, place + 8), width * usize::from(get16(block, place + 10)))?;
                let name = name.strip_suffix(&[0]).unwrap_or_default();
                let hash = hash(self.salt, name);
                let own = hash.checked_shr(u32::from(low16(64 - bits))).unwrap_or(0);
                let slot =
                    hash >> 64_u64.saturating_sub(bucket_bits + bits).min(63) & (buckets as u64).saturating_sub(1);
                if hash != get64(block, place + 16) || own != prefix || slot != bucket as u64 {
                    return damaged("a name of a ZAP where it would not be found");
                }
                visit(name, &value)?;
                names += 1;
                chunk = get16(block, place + 2);
            }
        }
        if names != u64::from(get16(block, 30)) {
            return damaged("a leaf of a ZAP with another number of names than it says");
        }
        Ok((bits, names))
    }
}

struct Chunks<'b> {
    block: &'b [u8],
    start: usize,
}

impl Chunks<'_> {
    fn place(&self, chunk: u16) -> usize {
        self.start + CHUNK * usize::from(chunk)
    }

    /// Bytes that are a chain of chunks.
    fn array(&self, first: u16, length: usize) -> Result<Vec<u8>, ReadError> {
        if length > MAX_BYTES {
            return damaged("a name or value of a ZAP that is too long");
        }
        let mut all = Vec::with_capacity(length);
        let mut chunk = first;
        while all.len() < length {
            let at = self.place(chunk);
            let bytes = self.block.get(at + 1..at + 1 + CHUNK_BYTES);
            let (Some(CHUNK_ARRAY), Some(bytes)) = (self.block.get(at).copied(), bytes) else {
                return damaged("a broken name or value of a ZAP");
            };
            all.extend_from_slice(bytes.get(..(length - all.len()).min(CHUNK_BYTES)).unwrap_or_default());
            chunk = get16(self.block, at + 22);
        }
        Ok(all)
    }
}
