//! dm-verity: a tree of hashes over a device's blocks, which the kernel checks at each read against one root hash.
//!
//! The root hash alone is trusted. The superblock in front of the tree, which says how the tree was made, is for programs like this
//! one: the kernel is told everything in the table's line (`Documentation/admin-guide/device-mapper/verity.rst`; cryptsetup's
//! `lib/verity/verity.c` has the superblock). That a tree was made otherwise than its superblock says shows as a wrong root hash.

mod digest;
#[cfg(test)]
mod tests;
mod tree;

pub use digest::Digest;
pub use tree::{Tree, build};

use crate::hex::hex;
use crate::sys::Mapping;
use std::fmt::Write as _;

/// Modules that a verity device needs, the first of them without fail: the processor's own SHA-256 is a separate module where it is
/// not built in, and five times as fast.
pub const MODULES: [&str; 2] = ["dm_verity", "sha256_ssse3"];
/// Bytes of a superblock on disk.
pub const SUPERBLOCK_LEN: usize = 512;
/// What of an image has to be read to know where it ends ([`appended_at`]).
pub const HEAD_LEN: usize = 2048;

const MAGIC: &[u8; 8] = b"verity\0\0";
const ALGORITHM: &str = "sha256";
const ALGORITHM_LEN: usize = 32;
/// Bytes of the longest salt that the superblock has room for.
const MAX_SALT: usize = 256;
/// Limits of cryptsetup; the kernel takes data blocks of a page at most.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 512..=512 * 1024;
const SECTOR: u64 = 512;
/// Blocks that a tree appended to an image begins at a multiple of.
const ALIGNMENT: u64 = 4096;

/// What is wrong with a superblock, or with what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerityError {
    /// Something else is there, or nothing.
    #[error("expected a verity superblock, found none; seal the layer again, and copy its tree with it")]
    NoSuperblock,
    /// Of another format.
    #[error("expected a verity superblock of version 1 and hash type 1, found version {version} and type {kind}")]
    Version {
        /// Version.
        version: u32,
        /// Hash type; 0 is that of Chromium OS.
        kind: u32,
    },
    /// Made with another hash.
    #[error("expected a hash tree of {ALGORITHM}, found one of {0:?}; make it anew with --hash={ALGORITHM}")]
    Algorithm(String),
    /// A block size that cannot be.
    #[error("expected blocks of 512 to 524288 bytes, a power of two, found {0}")]
    BlockSize(u32),
    /// Nothing is protected, or more than can be.
    #[error("expected from one block to 8 EiB of data, found {blocks} blocks of {size} bytes")]
    Blocks {
        /// Blocks.
        blocks: u64,
        /// Bytes of each.
        size: u32,
    },
    /// A salt that is too long.
    #[error("expected a salt of at most {MAX_SALT} bytes, found {0}")]
    Salt(usize),
    /// Not a root hash.
    #[error("expected a root hash of 64 hexadecimal digits, as `veritysetup format` prints it, found {0:?}")]
    RootHash(String),
    /// Not a word for what is done about corruption.
    #[error("expected error, restart or panic as what is done about a corrupted block, found {0:?}")]
    OnCorruption(String),
}

/// A root hash in the spellings in use: the digits alone, or behind `roothash=`, as in a command line of systemd or in a file
/// `NAME.roothash`.
pub fn root_hash(text: &str) -> Result<Digest, VerityError> {
    let text = text.trim();
    let digits = text.strip_prefix("roothash=").unwrap_or(text);
    Digest::parse(digits).ok_or_else(|| VerityError::RootHash(text.chars().take(80).collect()))
}

/// How a tree is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    data_block: u32,
    hash_block: u32,
    data_blocks: u64,
    salt: Vec<u8>,
}

impl Format {
    /// A tree over `data_blocks` blocks of `data_block` bytes, in blocks of `hash_block` bytes.
    pub fn new(data_block: u32, hash_block: u32, data_blocks: u64, salt: &[u8]) -> Result<Self, VerityError> {
        for size in [data_block, hash_block] {
            if !BLOCK_SIZES.contains(&size) || !size.is_power_of_two() {
                return Err(VerityError::BlockSize(size));
            }
        }
        let bytes = data_blocks.checked_mul(u64::from(data_block));
        if data_blocks == 0 || bytes.is_none_or(|bytes| i64::try_from(bytes).is_err()) {
            return Err(VerityError::Blocks { blocks: data_blocks, size: data_block });
        }
        if salt.len() > MAX_SALT {
            return Err(VerityError::Salt(salt.len()));
        }
        Ok(Self { data_block, hash_block, data_blocks, salt: salt.to_vec() })
    }

    /// Bytes of a data block.
    pub fn data_block(&self) -> u32 {
        self.data_block
    }

    /// Bytes of a block of the tree.
    pub fn hash_block(&self) -> u32 {
        self.hash_block
    }

    /// What stands before each block when it is hashed.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Bytes that are protected.
    pub fn data_bytes(&self) -> u64 {
        self.data_blocks.saturating_mul(self.data_block.into())
    }

    /// Blocks of each level of the tree, the lowest first: none if there is a single data block, whose hash is the root.
    pub fn levels(&self) -> Vec<u64> {
        let hashes = u64::from(self.hash_block) / Digest::LEN as u64;
        let mut levels = Vec::new();
        let mut below = self.data_blocks;
        while below > 1 {
            below = below.div_ceil(hashes);
            levels.push(below);
        }
        levels
    }

    /// Bytes of the tree without its superblock.
    pub fn tree_bytes(&self) -> u64 {
        self.levels().iter().sum::<u64>().saturating_mul(self.hash_block.into())
    }

    /// The block of the hash device, of [`Format::hash_block`] bytes, that the tree begins at if its superblock lies at this byte.
    pub fn tree_start(&self, superblock_at: u64) -> u64 {
        superblock_at.saturating_add(SUPERBLOCK_LEN as u64).div_ceil(self.hash_block.into())
    }
}

/// What stands in front of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Of no use to the kernel.
    pub uuid: [u8; 16],
    /// How the tree behind it was made.
    pub format: Format,
}

impl Superblock {
    /// Reads one: the first [`SUPERBLOCK_LEN`] bytes of what is given.
    pub fn parse(bytes: &[u8]) -> Result<Self, VerityError> {
        let field = |at: usize, len: usize| bytes.get(at..at.saturating_add(len)).ok_or(VerityError::NoSuperblock);
        let number = |at: usize, len: usize| {
            field(at, len).map(|bytes| bytes.iter().rev().fold(0_u64, |n, byte| n << 8 | u64::from(*byte)))
        };
        let short = |at: usize| number(at, 4).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        if field(0, SUPERBLOCK_LEN)?.get(..MAGIC.len()) != Some(MAGIC) {
            return Err(VerityError::NoSuperblock);
        }
        let (version, kind) = (short(8)?, short(12)?);
        if (version, kind) != (1, 1) {
            return Err(VerityError::Version { version, kind });
        }
        let algorithm = field(32, ALGORITHM_LEN)?.split(|byte| *byte == 0).next().unwrap_or_default();
        if algorithm != ALGORITHM.as_bytes() {
            return Err(VerityError::Algorithm(String::from_utf8_lossy(algorithm).into_owned()));
        }
        let salt = usize::try_from(number(80, 2)?).unwrap_or(usize::MAX);
        if salt > MAX_SALT {
            return Err(VerityError::Salt(salt));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(field(16, 16)?);
        Ok(Self { uuid, format: Format::new(short(64)?, short(68)?, number(72, 8)?, field(88, salt)?)? })
    }

    /// As it lies on disk.
    pub fn bytes(&self) -> [u8; SUPERBLOCK_LEN] {
        let Format { data_block, hash_block, data_blocks, salt } = &self.format;
        let salt_len = u16::try_from(salt.len()).unwrap_or_default();
        let parts: [(usize, &[u8]); 10] = [
            (0, MAGIC),
            (8, &1_u32.to_le_bytes()),
            (12, &1_u32.to_le_bytes()),
            (16, &self.uuid),
            (32, ALGORITHM.as_bytes()),
            (64, &data_block.to_le_bytes()),
            (68, &hash_block.to_le_bytes()),
            (72, &data_blocks.to_le_bytes()),
            (80, &salt_len.to_le_bytes()),
            (88, salt),
        ];
        let mut bytes = [0; SUPERBLOCK_LEN];
        for (at, part) in parts {
            for (to, from) in bytes.iter_mut().skip(at).zip(part) {
                *to = *from;
            }
        }
        bytes
    }
}

/// What the kernel does when a block is not what the tree says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnCorruption {
    /// The read fails with EIO.
    #[default]
    Error,
    /// The machine restarts (Linux 4.1).
    Restart,
    /// The kernel panics (Linux 5.10).
    Panic,
}

impl OnCorruption {
    /// From a word; systemd's spellings too. That corruption is ignored is none: once a hash is configured there is no way round it.
    pub fn parse(word: &str) -> Result<Self, VerityError> {
        match word {
            "error" => Ok(Self::Error),
            "restart" | "restart-on-corruption" => Ok(Self::Restart),
            "panic" | "panic-on-corruption" => Ok(Self::Panic),
            other => Err(VerityError::OnCorruption(other.chars().take(80).collect())),
        }
    }
}

/// A device to be made: what the kernel is told.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Number of the device with the data.
    pub data: (u32, u32),
    /// Number of the device with the tree, which can be the same.
    pub hash: (u32, u32),
    /// How the tree was made.
    pub superblock: &'a Superblock,
    /// The byte of the hash device at which the superblock lies; the tree follows in the next block.
    pub superblock_at: u64,
    /// What the tree must come to.
    pub root: Digest,
    /// What is done when it does not.
    pub on_corruption: OnCorruption,
}

impl Table<'_> {
    /// The mapping, whose name is `name`; a superblock's uuid is in the mapping's as cryptsetup has it, so that its tools know it.
    pub fn mapping(&self, name: &str) -> Mapping {
        let uuid = hex(&self.superblock.uuid);
        Mapping {
            name: name.to_owned(),
            uuid: format!("CRYPT-VERITY-{uuid}-{name}"),
            target: "verity",
            sectors: self.superblock.format.data_bytes() / SECTOR,
            parameters: self.parameters(),
        }
    }

    fn parameters(&self) -> String {
        let Format { data_block, hash_block, data_blocks, salt } = &self.superblock.format;
        let ((data, data_minor), (hash, hash_minor)) = (self.data, self.hash);
        let start = self.superblock.format.tree_start(self.superblock_at);
        let salt = if salt.is_empty() { "-".to_owned() } else { hex(salt) };
        let mut line =
            format!("1 {data}:{data_minor} {hash}:{hash_minor} {data_block} {hash_block} {data_blocks} {start} ");
        let _ = write!(line, "{ALGORITHM} {} {salt}", self.root);
        match self.on_corruption {
            OnCorruption::Error => {}
            OnCorruption::Restart => line.push_str(" 1 restart_on_corruption"),
            OnCorruption::Panic => line.push_str(" 1 panic_on_corruption"),
        }
        line
    }
}

/// The byte at which what is appended to a squashfs or erofs begins, by the image's own superblock in its first [`HEAD_LEN`] bytes:
/// the image's end, padded to 4 KiB. `None` for anything else. Nothing here need be trusted: whatever lies there must fit the root hash.
pub fn appended_at(head: &[u8]) -> Option<u64> {
    let number = |at: usize, len: usize| {
        head.get(at..at + len).map(|bytes| bytes.iter().rev().fold(0_u64, |n, byte| n << 8 | u64::from(*byte)))
    };
    let end = if head.starts_with(b"hsqs") {
        number(40, 8)?
    } else if number(1024, 4)? == 0xe0f5_e1e2 {
        // Blocks, of two to this power.
        let bits = u32::try_from(number(1024 + 12, 1)?).ok().filter(|bits| (9..=16).contains(bits))?;
        number(1024 + 36, 4)? << bits
    } else {
        return None;
    };
    end.checked_next_multiple_of(ALIGNMENT).filter(|end| *end > 0)
}
