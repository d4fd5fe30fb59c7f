//! Blocks: compression, checksum, and the pointers that lead to them.

use super::PoolError;
use super::bytes::{get64, low8, put, put64};

/// Largest block that is written.
pub(super) const MAX_BLOCK: usize = 128 << 10;
/// Largest payload that fits in a block pointer.
const MAX_EMBEDDED: usize = 112;
/// Transaction group in which the blocks of the first state are born.
pub(super) const BIRTH: u64 = 4;

const CHECKSUM_FLETCHER4: u64 = 7;
const COMPRESS_OFF: u8 = 2;
const COMPRESS_LZ4: u8 = 15;
const COMPRESS_ZSTD: u8 = 16;
/// The version that the kernel's zstd writes into each block: 1.4.5.
const ZSTD_VERSION: u32 = 10405;
const ZSTD_MAGIC: usize = 4;

/// How the data of a dataset is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all; holes and small blocks are written out, too.
    Off,
    /// The fast one, which every loader reads.
    #[default]
    Lz4,
    /// Zstandard, levels 1 to 19; 3 is the kernel's own.
    Zstd(u8),
}

impl Compression {
    /// The property's number.
    pub(super) fn property(self) -> u64 {
        match self {
            Compression::Off => u64::from(COMPRESS_OFF),
            Compression::Lz4 => u64::from(COMPRESS_LZ4),
            Compression::Zstd(3) => u64::from(COMPRESS_ZSTD),
            Compression::Zstd(level) => u64::from(COMPRESS_ZSTD) | u64::from(level) << 7,
        }
    }
}

/// What a block holds: the type of its object, and the level above the data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) object_type: u8,
    pub(super) level: u8,
}

/// A block pointer as it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bp(pub(super) [u8; 128]);

impl Bp {
    /// Nothing is there: reads as zeros.
    pub(super) const HOLE: Bp = Bp([0; 128]);

    /// A pointer to a stored block, `offset` bytes behind the start of what can be allocated.
    pub(super) fn stored(kind: Kind, sealed: &Stored, lsize: usize, offset: u64, asize: u64, fill: u64) -> Self {
        let mut bp = [0; 128];
        put64(&mut bp, 0, asize / 512);
        put64(&mut bp, 8, offset / 512);
        let sizes = (lsize as u64 / 512 - 1) | (sealed.psize as u64 / 512 - 1) << 16;
        let what = u64::from(sealed.compression) << 32
            | CHECKSUM_FLETCHER4 << 40
            | u64::from(kind.object_type) << 48
            | u64::from(kind.level) << 56
            | 1 << 63;
        put64(&mut bp, 48, sizes | what);
        put64(&mut bp, 88, fill);
        for (at, word) in (96..).step_by(8).zip(sealed.checksum) {
            put64(&mut bp, at, word);
        }
        Bp(bp)
    }

    /// A pointer that holds its block itself.
    fn embedded(kind: Kind, payload: &[u8], lsize: usize, compression: u8) -> Self {
        let mut whole = [0; MAX_EMBEDDED];
        put(&mut whole, 0, payload);
        let mut bp = [0; 128];
        for (to, from, length) in [(0, 0, 48), (56, 48, 24), (88, 72, 40)] {
            put(&mut bp, to, whole.get(from..from + length).unwrap_or_default());
        }
        let sizes = (lsize as u64 - 1) | (payload.len() as u64 - 1) << 25;
        let what = u64::from(compression) << 32 | 1 << 39 | u64::from(kind.object_type) << 48 | 1 << 63;
        put64(&mut bp, 48, sizes | what);
        Bp(bp)
    }

    /// The same, born in a transaction group.
    pub(super) fn born(mut self, txg: u64) -> Self {
        put64(&mut self.0, 80, txg);
        self
    }

    /// Whether this stands for the same bytes as `new`, though born at another time or stored elsewhere. The checksum alone is no
    /// proof for a stored block.
    pub(super) fn resembles(&self, new: &Bp) -> bool {
        let same = |range: std::ops::Range<usize>| self.0.get(range.clone()) == new.0.get(range);
        let place = self.is_embedded() == new.is_embedded() && (!self.is_embedded() || same(0..16));
        place && same(16..80) && same(88..128)
    }

    /// Whether the block is in the pointer.
    pub(super) fn is_embedded(&self) -> bool {
        get64(&self.0, 48) >> 39 & 1 == 1
    }

    pub(super) fn is_hole(&self) -> bool {
        *self == Bp::HOLE
    }

    /// How many blocks of data, or used dnodes, are below.
    pub(super) fn fill(&self) -> u64 {
        if self.is_embedded() { 1 } else { get64(&self.0, 88) }
    }
}

/// A block that has to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Bytes on disk.
    pub(super) psize: usize,
    compression: u8,
    checksum: [u64; 4],
    /// Whether the bytes are those in the buffer for compressed ones.
    pub(super) packed: bool,
}

/// What became of a block.
#[derive(Debug, Clone)]
pub(super) enum Sealed {
    /// All zeros.
    Hole,
    /// Small enough for its pointer.
    Embedded(Box<Bp>),
    /// To be stored.
    Stored(Stored),
}

/// Whether a block may live in its pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Embed {
    Yes,
    No,
}

/// Compresses and checksums; keeps its tables between blocks.
pub(super) struct Codec {
    ashift: u32,
    zstd: Option<(u8, zstd::bulk::Compressor<'static>)>,
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codec").field("ashift", &self.ashift).finish_non_exhaustive()
    }
}

impl Codec {
    pub(super) fn new(ashift: u32) -> Self {
        Codec { ashift, zstd: None }
    }

    /// Does to a block what the kernel would. `data` is a multiple of 512 bytes long; compressed bytes are put in `packed`,
    /// which keeps its size.
    pub(super) fn seal(
        &mut self,
        data: &[u8],
        packed: &mut Vec<u8>,
        kind: Kind,
        compression: Compression,
        embed: Embed,
    ) -> Result<Sealed, PoolError> {
        if compression == Compression::Off {
            return Ok(Sealed::Stored(store(data, data.len(), COMPRESS_OFF, false)));
        }
        if is_zero(data) {
            return Ok(Sealed::Hole);
        }
        let unit = 1_usize << self.ashift;
        // It has to save an eighth, and a unit of allocation.
        let limit = (data.len() - data.len() / 8) & !(unit - 1);
        let size = self.compress(data, packed, compression)?;
        let id = if compression == Compression::Lz4 { COMPRESS_LZ4 } else { COMPRESS_ZSTD };
        if embed == Embed::Yes && size <= MAX_EMBEDDED {
            let payload = packed.get(..size).unwrap_or_default();
            return Ok(Sealed::Embedded(Box::new(Bp::embedded(kind, payload, data.len(), id))));
        }
        if size > limit {
            return Ok(Sealed::Stored(store(data, data.len(), COMPRESS_OFF, false)));
        }
        let psize = size.next_multiple_of(unit);
        packed.get_mut(size..psize).unwrap_or_default().fill(0);
        Ok(Sealed::Stored(store(packed, psize, id, true)))
    }

    /// The compressed size with the kernel's header before it.
    fn compress(&mut self, data: &[u8], packed: &mut Vec<u8>, compression: Compression) -> Result<usize, PoolError> {
        let room =
            lz4_flex::block::get_maximum_output_size(data.len()).max(zstd::zstd_safe::compress_bound(data.len()));
        if packed.len() < room + 8192 {
            packed.resize(room + 8192, 0);
        }
        let Compression::Zstd(level) = compression else {
            let size = lz4_flex::block::compress_into(data, packed.get_mut(4..).unwrap_or_default())
                .map_err(|error| PoolError::Compress(error.to_string()))?;
            put(packed, 0, &length(size));
            return Ok(size + 4);
        };
        let failed = |error: std::io::Error| PoolError::Compress(error.to_string());
        if self.zstd.as_ref().is_none_or(|(ready, _)| *ready != level) {
            let mut new = zstd::bulk::Compressor::new(i32::from(level)).map_err(failed)?;
            new.include_contentsize(false).map_err(failed)?;
            new.include_checksum(false).map_err(failed)?;
            self.zstd = Some((level, new));
        }
        let Some((_, zstd)) = &mut self.zstd else { return Err(PoolError::Compress("no compressor".into())) };
        // The frame's magic number comes to lie where the header's second half goes: on disk it has none.
        let place = packed.get_mut(8 - ZSTD_MAGIC..).unwrap_or_default();
        let size = zstd.compress_to_buffer(data, place).map_err(failed)?.saturating_sub(ZSTD_MAGIC);
        put(packed, 0, &length(size));
        put(packed, 4, &(ZSTD_VERSION << 8 | u32::from(level)).to_be_bytes());
        Ok(size + 8)
    }
}

fn length(size: usize) -> [u8; 4] {
    u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes()
}

fn store(bytes: &[u8], psize: usize, compression: u8, packed: bool) -> Stored {
    let checksum = fletcher4(bytes.get(..psize).unwrap_or_default());
    Stored { psize, compression: low8(u64::from(compression)), checksum, packed }
}

/// Whether there is nothing but zeros.
pub(super) fn is_zero(data: &[u8]) -> bool {
    let (chunks, rest) = data.as_chunks::<64>();
    chunks.iter().all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// The checksum of all blocks.
pub(super) fn fletcher4(data: &[u8]) -> [u64; 4] {
    let [mut a, mut b, mut c, mut d] = [0_u64; 4];
    let (words, _) = data.as_chunks::<4>();
    for word in words {
        a = a.wrapping_add(u64::from(u32::from_le_bytes(*word)));
        b = b.wrapping_add(a);
        c = c.wrapping_add(b);
        d = d.wrapping_add(c);
    }
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { object_type: 19, level: 0 };

    fn seal(data: &[u8], compression: Compression, embed: Embed) -> (Sealed, Vec<u8>) {
        let mut packed = Vec::new();
        let sealed = Codec::new(12).seal(data, &mut packed, KIND, compression, embed).unwrap();
        (sealed, packed)
    }

    /// Words 1 to 4: sums, sums of sums and so on, counted by hand.
    #[test]
    fn fletcher4_of_four_words() {
        let data: Vec<u8> = (1..=4_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(fletcher4(&data), [10, 20, 35, 56]);
        assert_eq!(fletcher4(&[]), [0; 4]);
        assert_eq!(fletcher4(&[0xff; 8]), [0x1_ffff_fffe, 0x2_ffff_fffd, 0x3_ffff_fffc, 0x4_ffff_fffb]);
    }

    #[test]
    fn lz4_has_its_length_before_it() {
        let data = [b"taproot ".repeat(4096), vec![7; 512]].concat();
        let (Sealed::Stored(stored), packed) = seal(&data, Compression::Lz4, Embed::No) else {
            panic!("stored expected")
        };
        assert!(stored.packed);
        assert_eq!(stored.psize, 4096);
        let length = usize::try_from(u32::from_be_bytes(*packed.first_chunk().unwrap())).unwrap();
        assert!(packed[4 + length..stored.psize].iter().all(|byte| *byte == 0));
        assert_eq!(lz4_flex::block::decompress(&packed[4..4 + length], data.len()).unwrap(), data);
        assert_eq!(stored.checksum, fletcher4(&packed[..4096]));
    }

    #[test]
    fn zstd_has_length_version_and_level_and_no_magic() {
        let data = b"0123456789abcdef-".repeat(1024 * 4)[..65536].to_vec();
        let (Sealed::Stored(_), packed) = seal(&data, Compression::Zstd(3), Embed::No) else {
            panic!("stored expected")
        };
        let length = usize::try_from(u32::from_be_bytes(packed[..4].try_into().unwrap())).unwrap();
        assert_eq!(packed[4..8], [0x00, 0x28, 0xa5, 0x03]);
        let frame = [&[0x28, 0xb5, 0x2f, 0xfd], &packed[8..8 + length]].concat();
        assert_eq!(zstd::stream::decode_all(&frame[..]).unwrap(), data);
    }

    #[test]
    fn what_does_not_shrink_enough_stays() {
        let mut random = super::super::random::Random::new(b"noise");
        let noise: Vec<u8> = (0..131_072 / 8).flat_map(|_| random.number().to_le_bytes()).collect();
        for compression in [Compression::Off, Compression::Lz4] {
            let (Sealed::Stored(stored), _) = seal(&noise, compression, Embed::Yes) else { panic!("stored expected") };
            assert!(!stored.packed);
            assert_eq!((stored.psize, stored.compression), (131_072, COMPRESS_OFF));
        }
        // Below a unit nothing can be saved.
        let small = b"abcdefgh".repeat(256);
        assert!(matches!(seal(&small, Compression::Lz4, Embed::No).0, Sealed::Stored(stored) if !stored.packed));
    }

    #[test]
    fn small_blocks_live_in_their_pointer() {
        let mut data = vec![0; 512];
        data[..6].copy_from_slice(b"hello\n");
        let (Sealed::Embedded(bp), packed) = seal(&data, Compression::Lz4, Embed::Yes) else {
            panic!("embedded expected")
        };
        let word = get64(&bp.0, 48);
        let size = (word >> 25 & 0x7f) + 1;
        assert_eq!((word & 0x1ff_ffff, size), (511, 4 + u64::from(packed[3])));
        assert_eq!((word >> 32 & 0x7f, word >> 39 & 1, word >> 48 & 0xff, word >> 63), (15, 1, 19, 1));
        assert_eq!((get64(&bp.born(5).0, 80), bp.fill()), (5, 1));
        let payload = [&bp.0[..48], &bp.0[56..80], &bp.0[88..]].concat();
        assert_eq!(payload[..index(size)], packed[..index(size)]);
        assert!(matches!(seal(&[0; 512], Compression::Lz4, Embed::Yes).0, Sealed::Hole));
        assert!(matches!(seal(&[0; 512], Compression::Off, Embed::Yes).0, Sealed::Stored(_)));
    }

    fn index(size: u64) -> usize {
        super::super::bytes::index(size)
    }
}
