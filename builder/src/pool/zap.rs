//! ZAPs: names and their values, as one small block or as a hash table of blocks.

use super::PoolError;
use super::bytes::{index, low16, put, put8, put16, put32, put64};

const BLOCK_LEAF: u64 = 1 << 63;
const BLOCK_HEADER: u64 = (1 << 63) + 1;
const BLOCK_MICRO: u64 = (1 << 63) + 3;
const MAGIC: u64 = 0x2_f52a_b2ab;
const LEAF_MAGIC: u32 = 0x02ab_1eaf;

/// Entries that fit in the largest micro ZAP.
const MICRO_ENTRIES: usize = 2047;
/// Longest name there.
const MICRO_NAME: usize = 49;
/// Bytes of an entry there.
const MICRO_ENTRY: usize = 64;

/// Bytes of a block of the hash table, as a power of two.
const SHIFT: u32 = 14;
const SIZE: usize = 1 << SHIFT;
/// Buckets of a leaf, as a power of two.
const BUCKET_SHIFT: u32 = SHIFT - 5;
const BUCKETS: usize = 1 << BUCKET_SHIFT;
const CHUNK: usize = 24;
/// Bytes of a name or value that a chunk holds.
const CHUNK_BYTES: usize = 21;
const CHUNKS: usize = (SIZE - 2 * BUCKETS) / CHUNK - 2;
const CHUNK_END: u16 = 0xffff;
const CHUNK_ARRAY: u8 = 251;
const CHUNK_ENTRY: u8 = 252;
const CHUNK_FREE: u8 = 253;
/// Bits of a hash that count.
const HASH_BITS: u32 = 28;
/// Entries of the table of leaves in the first block, as a power of two.
const TABLE_SHIFT: u32 = SHIFT - 4;
/// A larger table is refused: names that need it were made to collide.
const MAX_TABLE_SHIFT: u32 = 22;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Number(u64),
    /// Bytes; a string has its NUL.
    Bytes(Vec<u8>),
    Words(Vec<u16>),
}

impl Value {
    /// Bytes of an element, and how many elements.
    fn shape(&self) -> (u8, usize) {
        match self {
            Value::Number(_) => (8, 1),
            Value::Bytes(bytes) => (1, bytes.len()),
            Value::Words(words) => (2, words.len()),
        }
    }

    /// As a leaf holds it: big-endian.
    fn bytes(&self) -> Vec<u8> {
        match self {
            Value::Number(number) => number.to_be_bytes().to_vec(),
            Value::Bytes(bytes) => bytes.clone(),
            Value::Words(words) => words.iter().flat_map(|word| word.to_be_bytes()).collect(),
        }
    }
}

/// A name with its value.
pub(super) type Entry = (Vec<u8>, Value);

/// The blocks of a ZAP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zap {
    pub(super) block_size: usize,
    pub(super) blocks: Vec<Vec<u8>>,
}

/// A ZAP of numbers.
pub(super) fn numbers<N: AsRef<[u8]>>(entries: &[(N, u64)]) -> Vec<Entry> {
    entries.iter().map(|(name, value)| (name.as_ref().to_vec(), Value::Number(*value))).collect()
}

/// Builds a ZAP; its names differ from each other.
pub(super) fn build(entries: &[Entry], salt: u64) -> Result<Zap, PoolError> {
    let salt = salt | 1;
    let micro = entries.len() <= MICRO_ENTRIES
        && entries.iter().all(|(name, value)| name.len() <= MICRO_NAME && matches!(value, Value::Number(_)));
    let mut hashed: Vec<Hashed<'_>> =
        entries.iter().map(|(name, value)| Hashed { hash: hash(salt, name), nth: 0, name, value }).collect();
    hashed.sort_by(|a, b| (a.hash, a.name).cmp(&(b.hash, b.name)));
    let mut before = None;
    for entry in &mut hashed {
        entry.nth = match before {
            Some((hash, nth)) if hash == entry.hash => nth + 1,
            _ => 0,
        };
        before = Some((entry.hash, entry.nth));
    }
    if micro { Ok(small(&hashed, salt)) } else { large(&hashed, salt) }
}

struct Hashed<'a> {
    hash: u64,
    /// Tells entries of the same hash apart.
    nth: u32,
    name: &'a [u8],
    value: &'a Value,
}

/// CRC-64 (ECMA, reflected) from the salt on; only the high bits count.
pub(super) fn hash(salt: u64, name: &[u8]) -> u64 {
    let mut hash = salt;
    for byte in name {
        let slot = (hash ^ u64::from(*byte)) & 0xff;
        hash = (hash >> 8) ^ CRC.get(index(slot)).copied().unwrap_or(0);
    }
    hash & !((1 << (64 - HASH_BITS)) - 1)
}

static CRC: [u64; 256] = crc_table();

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn crc_table() -> [u64; 256] {
    let mut table = [0_u64; 256];
    let mut n = 0;
    while n < 256 {
        let mut value = n as u64;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xc96c_5795_d787_0f42 } else { value >> 1 };
            bit += 1;
        }
        table[n] = value;
        n += 1;
    }
    table
}

fn small(entries: &[Hashed<'_>], salt: u64) -> Zap {
    let block_size = (MICRO_ENTRY * (entries.len() + 1)).next_multiple_of(512);
    let mut block = vec![0; block_size];
    put64(&mut block, 0, BLOCK_MICRO);
    put64(&mut block, 8, salt);
    for (slot, entry) in block.chunks_exact_mut(MICRO_ENTRY).skip(1).zip(entries) {
        if let Value::Number(number) = entry.value {
            put64(slot, 0, *number);
        }
        put32(slot, 8, entry.nth);
        put(slot, 14, entry.name);
    }
    Zap { block_size, blocks: vec![block] }
}

/// A leaf: the entries whose hashes begin with the same bits.
struct Leaf<'e, 'a> {
    bits: u32,
    entries: &'e [Hashed<'a>],
}

fn large(entries: &[Hashed<'_>], salt: u64) -> Result<Zap, PoolError> {
    let mut leaves = Vec::new();
    split(entries, 0, &mut leaves)?;
    let deepest = leaves.iter().map(|leaf| leaf.bits).max().unwrap_or(0);
    let shift = deepest.max(TABLE_SHIFT);
    if shift > MAX_TABLE_SHIFT {
        return Err(PoolError::Collision);
    }
    let mut table = Vec::with_capacity(1 << shift);
    for (block, leaf) in (1_u64..).zip(&leaves) {
        table.extend(std::iter::repeat_n(block, 1 << (shift - leaf.bits)));
    }
    let table: Vec<u8> = super::bytes::words(&table);
    let count = leaves.len() as u64;
    let outside = if shift == TABLE_SHIFT { 0 } else { (table.len() / SIZE) as u64 };
    let mut header = vec![0; SIZE];
    let first_outside = if outside == 0 { 0 } else { 1 + count };
    let fields = [
        BLOCK_HEADER,
        MAGIC,
        first_outside,
        outside,
        u64::from(shift),
        0,
        0,
        1 + count + outside,
        count,
        entries.len() as u64,
        salt,
        0,
        0,
    ];
    put(&mut header, 0, &super::bytes::words(&fields));
    if outside == 0 {
        put(&mut header, SIZE / 2, &table);
    }
    let mut blocks = vec![header];
    let mut prefix = 0_u64;
    for leaf in &leaves {
        let number = if leaf.bits == 0 { 0 } else { prefix >> (64 - leaf.bits) };
        blocks.push(leaf_block(leaf, number)?);
        prefix = prefix.wrapping_add(1_u64.checked_shl(64 - leaf.bits).unwrap_or(0));
    }
    if outside != 0 {
        blocks.extend(table.chunks(SIZE).map(<[u8]>::to_vec));
    }
    Ok(Zap { block_size: SIZE, blocks })
}

/// Halves the sorted entries by their next bit until each part fits in a leaf.
fn split<'e, 'a>(entries: &'e [Hashed<'a>], bits: u32, leaves: &mut Vec<Leaf<'e, 'a>>) -> Result<(), PoolError> {
    if entries.iter().map(chunks).sum::<usize>() <= CHUNKS {
        leaves.push(Leaf { bits, entries });
        return Ok(());
    }
    if bits >= MAX_TABLE_SHIFT {
        return Err(PoolError::Collision);
    }
    let middle = entries.partition_point(|entry| entry.hash >> (63 - bits) & 1 == 0);
    let (low, high) = entries.split_at(middle);
    split(low, bits + 1, leaves)?;
    split(high, bits + 1, leaves)
}

/// Chunks that an entry takes.
fn chunks(entry: &Hashed<'_>) -> usize {
    let (width, count) = entry.value.shape();
    1 + (entry.name.len() + 1).div_ceil(CHUNK_BYTES) + (usize::from(width) * count).div_ceil(CHUNK_BYTES)
}

/// Puts chunks into a leaf one after the other.
struct Filler {
    block: Vec<u8>,
    next: u16,
}

impl Filler {
    fn place(chunk: u16) -> usize {
        48 + 2 * BUCKETS + CHUNK * usize::from(chunk)
    }

    /// Writes bytes as a chain of chunks and returns the first.
    fn array(&mut self, bytes: &[u8]) -> u16 {
        let first = if bytes.is_empty() { CHUNK_END } else { self.next };
        let count = bytes.len().div_ceil(CHUNK_BYTES);
        for (nth, part) in bytes.chunks(CHUNK_BYTES).enumerate() {
            let at = Self::place(self.next);
            self.next += 1;
            put8(&mut self.block, at, CHUNK_ARRAY);
            put(&mut self.block, at + 1, part);
            put16(&mut self.block, at + 22, if nth + 1 == count { CHUNK_END } else { self.next });
        }
        first
    }
}

fn leaf_block(leaf: &Leaf<'_, '_>, prefix: u64) -> Result<Vec<u8>, PoolError> {
    let mut filler = Filler { block: vec![0; SIZE], next: 0 };
    let mut buckets = vec![CHUNK_END; BUCKETS];
    for entry in leaf.entries {
        let at = Filler::place(filler.next);
        let own = filler.next;
        filler.next += 1;
        let name = filler.array(&[entry.name, &[0]].concat());
        let value = filler.array(&entry.value.bytes());
        let (width, count) = entry.value.shape();
        let bucket = (entry.hash >> (64 - BUCKET_SHIFT - leaf.bits)) & (BUCKETS as u64 - 1);
        let Some(head) = buckets.get_mut(index(bucket)) else { return Err(PoolError::Collision) };
        let block = &mut filler.block;
        put8(block, at, CHUNK_ENTRY);
        put8(block, at + 1, width);
        put16(block, at + 2, std::mem::replace(head, own));
        put16(block, at + 4, name);
        put16(block, at + 6, low16(entry.name.len() as u64 + 1));
        put16(block, at + 8, value);
        put16(block, at + 10, low16(count as u64));
        put32(block, at + 12, entry.nth);
        put64(block, at + 16, entry.hash);
    }
    let used = filler.next;
    let chunks = low16(CHUNKS as u64);
    for free in used..chunks {
        let at = Filler::place(free);
        put8(&mut filler.block, at, CHUNK_FREE);
        put16(&mut filler.block, at + 22, if free + 1 == chunks { CHUNK_END } else { free + 1 });
    }
    let mut block = filler.block;
    put64(&mut block, 0, BLOCK_LEAF);
    put64(&mut block, 16, prefix);
    put32(&mut block, 24, LEAF_MAGIC);
    put16(&mut block, 28, chunks - used);
    put16(&mut block, 30, low16(leaf.entries.len() as u64));
    put16(&mut block, 32, low16(u64::from(leaf.bits)));
    put16(&mut block, 34, if used == chunks { CHUNK_END } else { used });
    for (slot, bucket) in block.get_mut(48..).unwrap_or_default().chunks_exact_mut(2).zip(&buckets) {
        put16(slot, 0, *bucket);
    }
    Ok(block)
}

/// A name for a number, as the kernel makes them.
pub(super) fn key(number: u64) -> Vec<u8> {
    format!("{number:x}").into_bytes()
}

#[cfg(test)]
#[path = "zap_tests.rs"]
mod tests;
