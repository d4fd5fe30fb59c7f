//! The tree itself, as `veritysetup format` makes it.

use super::{Digest, Format};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read};

/// A tree of hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The hash of its top block.
    pub root: Digest,
    /// Its blocks as they lie on disk, the top level first; empty over a single data block.
    pub blocks: Vec<u8>,
}

/// Makes the tree over what `read` gives, which must not end before the data that the format speaks of. Takes as much memory as
/// the tree: a hundredth of the data, with blocks of 4 KiB.
pub fn build(format: &Format, read: &mut dyn Read) -> io::Result<Tree> {
    let salted = Sha256::new_with_prefix(format.salt());
    let digest = |block: &[u8]| -> [u8; Digest::LEN] {
        let mut hasher = salted.clone();
        hasher.update(block);
        hasher.finalize().into()
    };
    let [data_block, hash_block] =
        [format.data_block(), format.hash_block()].map(|size| usize::try_from(size).unwrap_or(0));
    let mut block = vec![0; data_block];
    let mut hashes = Vec::new();
    for _ in 0..format.data_bytes() / u64::from(format.data_block()) {
        read.read_exact(&mut block)?;
        hashes.extend(digest(&block));
    }
    let mut levels = Vec::new();
    while hashes.len() > Digest::LEN {
        hashes.resize(hashes.len().next_multiple_of(hash_block), 0);
        let above = hashes.chunks(hash_block).flat_map(digest).collect();
        levels.push(std::mem::replace(&mut hashes, above));
    }
    // One is left: there is at least one data block.
    let root =
        <[u8; Digest::LEN]>::try_from(hashes.as_slice()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    levels.reverse();
    Ok(Tree { root: Digest::new(root), blocks: levels.concat() })
}
