//! Compressing the archive the way the kernel can unpack it: one frame, its checksums, its lz4 variant.

use std::io::{self, Read, Write};
use std::str::FromStr;

/// Compressor and level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// zstd, levels 1 to 22.
    Zstd(i32),
    /// lz4 in the kernel's legacy framing; it has no levels here.
    Lz4,
    /// xz, levels 0 to 9.
    Xz(u32),
    /// gzip, levels 0 to 9.
    Gzip(u32),
    /// Not compressed.
    None,
}

/// How modules are compressed, each by itself: those that a boot does not need are never decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleCompression {
    /// zstd, levels 1 to 22.
    Zstd(i32),
    /// Not; the archive's compression gets them.
    None,
}

impl Default for ModuleCompression {
    fn default() -> Self {
        Self::Zstd(ZSTD_DEFAULT)
    }
}

impl ModuleCompression {
    /// The level of zstd, if they are compressed.
    pub fn level(self) -> Option<i32> {
        match self {
            Self::Zstd(level) => Some(level),
            Self::None => None,
        }
    }
}

impl FromStr for ModuleCompression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(Compression::Zstd(level)) => Ok(Self::Zstd(level)),
            Ok(Compression::None) => Ok(Self::None),
            Ok(_) => Err(format!("modules are compressed by zstd or not at all, found {text:?}")),
            Err(e) => Err(e),
        }
    }
}

/// Fast enough for two cores and within a few per cent of the best; see `make bench`.
const ZSTD_DEFAULT: i32 = 9;
/// 8 MiB to look back over, twice what the level has: 3 % of an archive whose zfs alone is 12 MB, for 4 MiB more while the kernel
/// unpacks it.
const ZSTD_WINDOW_LOG: u32 = 23;
const XZ_DEFAULT: u32 = 6;
const GZIP_DEFAULT: u32 = 6;
/// Block size that the kernel's legacy lz4 reader expects.
const LZ4_BLOCK: usize = 8 << 20;
const LZ4_LEGACY_MAGIC: u32 = 0x184C_2102;

impl Default for Compression {
    fn default() -> Self {
        Self::Zstd(ZSTD_DEFAULT)
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected zstd, xz or gzip, with an optional level such as zstd:19, or lz4, or none";
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => {
                let level = level.parse::<u32>().map_err(|_| format!("level {level:?} is not a number; {expected}"))?;
                (name, Some(level))
            }
            None => (text, None),
        };
        let within = |level: Option<u32>, default: u32, low: u32, high: u32| match level {
            Some(l) if !(low..=high).contains(&l) => Err(format!("{name} has levels {low} to {high}, found {l}")),
            level => Ok(level.unwrap_or(default)),
        };
        match name {
            "zstd" => Ok(Self::Zstd(within(level, ZSTD_DEFAULT.cast_unsigned(), 1, 22)?.cast_signed())),
            "xz" => Ok(Self::Xz(within(level, XZ_DEFAULT, 0, 9)?)),
            "gzip" => Ok(Self::Gzip(within(level, GZIP_DEFAULT, 0, 9)?)),
            "lz4" | "none" if level.is_some() => Err(format!("{name} takes no level; {expected}")),
            "lz4" => Ok(Self::Lz4),
            "none" => Ok(Self::None),
            _ => Err(format!("unknown compression {name:?}; {expected}")),
        }
    }
}

impl Compression {
    /// Option of the kernel's build configuration that unpacks it.
    pub fn kernel_option(self) -> Option<&'static str> {
        match self {
            Self::Zstd(_) => Some("CONFIG_RD_ZSTD"),
            Self::Lz4 => Some("CONFIG_RD_LZ4"),
            Self::Xz(_) => Some("CONFIG_RD_XZ"),
            Self::Gzip(_) => Some("CONFIG_RD_GZIP"),
            Self::None => None,
        }
    }

    /// Compresses a whole archive; the result does not depend on the number of processors.
    pub fn apply(self, archive: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(archive),
            Self::Zstd(level) => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                // The number of workers does not change the output as long as there is at least one.
                let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(16);
                encoder.multithread(u32::try_from(workers).unwrap_or(1))?;
                encoder.include_checksum(true)?;
                encoder.window_log(ZSTD_WINDOW_LOG)?;
                encoder.set_pledged_src_size(Some(archive.len() as u64))?;
                encoder.write_all(&archive)?;
                encoder.finish()
            }
            Self::Gzip(level) => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
                encoder.write_all(&archive)?;
                encoder.finish()
            }
            Self::Xz(level) => {
                // The kernel's decoder knows no other checksum than CRC32.
                let stream = liblzma::stream::Stream::new_easy_encoder(level, liblzma::stream::Check::Crc32)?;
                let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
                encoder.write_all(&archive)?;
                encoder.finish()
            }
            Self::Lz4 => Ok(lz4_legacy(&archive)),
        }
    }
}

/// The legacy frame: magic, then blocks of at most 8 MiB, each with its compressed size. Crates write the modern one.
fn lz4_legacy(archive: &[u8]) -> Vec<u8> {
    let mut out = LZ4_LEGACY_MAGIC.to_le_bytes().to_vec();
    for block in archive.chunks(LZ4_BLOCK) {
        let packed = lz4_flex::block::compress(block);
        // A block of at most 8 MiB grows by less than 1 %: the size fits.
        out.extend(u32::try_from(packed.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(packed);
    }
    out
}

/// Undoes [`lz4_legacy`], a block at a time.
pub(crate) struct LegacyLz4<'a> {
    rest: &'a [u8],
    /// One block uncompressed, and how much of it is there and was read; one buffer for all blocks.
    block: Vec<u8>,
    full: usize,
    read: usize,
}

impl<'a> LegacyLz4<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, block: vec![0; LZ4_BLOCK], full: 0, read: 0 }
    }

    /// Uncompresses the next block; `false` at the end.
    fn next(&mut self) -> io::Result<bool> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("lz4 legacy frame: {what}"));
        while let Some((size, tail)) = self.rest.split_first_chunk::<4>() {
            // As in the kernel (`lib/decompress_unlz4.c`): padding ends the frame, and another frame may follow.
            match u32::from_le_bytes(*size) {
                0 => break,
                LZ4_LEGACY_MAGIC => self.rest = tail,
                size => {
                    let size = usize::try_from(size).map_err(|_| bad("block size"))?;
                    let packed = tail.get(..size).ok_or_else(|| bad("cut off"))?;
                    let full = lz4_flex::block::decompress_into(packed, &mut self.block);
                    (self.full, self.read) = (full.map_err(|e| bad(&e.to_string()))?, 0);
                    self.rest = tail.get(size..).unwrap_or_default();
                    return Ok(true);
                }
            }
        }
        self.rest = &[];
        Ok(false)
    }
}

impl Read for LegacyLz4<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A block can be empty, and the end is not.
        while self.read == self.full {
            if !self.next()? {
                return Ok(0);
            }
        }
        let n = self.block.get(self.read..self.full).unwrap_or_default().read(buffer)?;
        self.read += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_levels() {
        assert_eq!("zstd".parse(), Ok(Compression::Zstd(ZSTD_DEFAULT)));
        assert_eq!("zstd:19".parse(), Ok(Compression::Zstd(19)));
        assert_eq!("xz:9".parse(), Ok(Compression::Xz(9)));
        assert_eq!("zstd:3".parse::<ModuleCompression>().map(ModuleCompression::level), Ok(Some(3)));
        assert_eq!("none".parse(), Ok(ModuleCompression::None));
        assert!("xz".parse::<ModuleCompression>().is_err() && "zstd:0".parse::<ModuleCompression>().is_err());
        for bad in ["zstd:0", "zstd:23", "gzip:10", "lz4:1", "none:1", "bzip2", "zstd:x", ""] {
            assert!(bad.parse::<Compression>().is_err(), "{bad}");
        }
    }

    #[test]
    fn lz4_frames_that_are_joined_and_padded() {
        let joined = [lz4_legacy(b"one"), lz4_legacy(b"two"), vec![0; 512]].concat();
        let mut out = Vec::new();
        LegacyLz4::new(&joined).read_to_end(&mut out).unwrap();
        assert_eq!(out, b"onetwo");
        assert!(LegacyLz4::new(&joined[..joined.len() - 514]).read_to_end(&mut out).is_err(), "cut off");
    }

    /// Each block used to take a buffer of the largest size for itself.
    #[test]
    fn many_small_lz4_blocks() {
        let block = &lz4_legacy(b"x")[4..];
        let image = [&LZ4_LEGACY_MAGIC.to_le_bytes()[..], &block.repeat(1_000_000)].concat();
        assert_eq!(io::copy(&mut LegacyLz4::new(&image), &mut io::sink()).unwrap(), 1_000_000);
    }

    #[test]
    fn every_compression_is_undone_by_inspect() {
        let archive: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for compression in ["zstd:1", "lz4", "xz:0", "gzip:1", "none"] {
            let packed = compression.parse::<Compression>().unwrap().apply(archive.clone()).unwrap();
            if compression != "none" {
                assert!(packed.len() < archive.len());
                assert!(crate::inspect::unpack(&packed).unwrap() == archive, "{compression}");
            }
        }
    }
}
