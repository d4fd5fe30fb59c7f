//! What a data set holds, as counts and one hash that does not depend on the order: taken while writing, and again while reading back.

use sha2::{Digest as _, Sha256};

use super::sa::Znode;

/// A block's hash.
pub(super) type Hash = [u8; 32];

/// Counts and the hash of all that a data set holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// Files of all types, directories among them.
    pub files: u64,
    /// Names in directories.
    pub names: u64,
    /// Bytes of files, holes included.
    pub bytes: u64,
    /// Sum of the hashes of all parts.
    sum: [u64; 4],
}

/// The hash of a block; none if it holds nothing but zeros, which may as well be a hole.
pub(super) fn hash_block(data: &[u8]) -> Option<Hash> {
    (!super::block::is_zero(data)).then(|| Sha256::digest(data).into())
}

impl Content {
    fn add(&mut self, hash: Sha256) {
        let hash: Hash = hash.finalize().into();
        for (sum, bytes) in self.sum.iter_mut().zip(hash.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*bytes));
        }
    }

    /// A file with its attributes; how many names it has is told by those.
    pub(super) fn file(&mut self, number: u64, znode: &Znode) {
        self.files += 1;
        if znode.mode & 0o170_000 == 0o100_000 {
            self.bytes += znode.size;
        }
        let (seconds, nanoseconds) = znode.mtime;
        let mut hash = Sha256::new_with_prefix(b"file");
        for word in [
            number,
            u64::from(znode.mode),
            u64::from(znode.uid) << 32 | u64::from(znode.gid),
            seconds.cast_unsigned(),
            u64::from(nanoseconds),
            znode.parent,
            znode.size,
            znode.device.unwrap_or(0),
        ] {
            hash.update(word.to_le_bytes());
        }
        let mut bytes = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        bytes(znode.target.as_deref().unwrap_or_default());
        let mut xattrs: Vec<_> = znode.xattrs.iter().collect();
        xattrs.sort();
        for (name, value) in xattrs {
            bytes(name);
            bytes(value);
        }
        self.add(hash);
    }

    /// A name in a directory.
    pub(super) fn name(&mut self, directory: u64, name: &[u8], value: u64) {
        self.names += 1;
        let words = [directory, value].map(u64::to_le_bytes);
        self.add(Sha256::new_with_prefix(b"name").chain_update(words.concat()).chain_update(name));
    }

    /// A block of a file.
    pub(super) fn block(&mut self, file: u64, number: u64, hash: &Hash) {
        let words = [file, number].map(u64::to_le_bytes);
        self.add(Sha256::new_with_prefix(b"data").chain_update(words.concat()).chain_update(hash));
    }

    /// A volume.
    pub(super) fn volume(&mut self, size: u64, block_size: usize) {
        self.bytes += size;
        let words = [size, block_size as u64].map(u64::to_le_bytes);
        self.add(Sha256::new_with_prefix(b"size").chain_update(words.concat()));
    }
}
