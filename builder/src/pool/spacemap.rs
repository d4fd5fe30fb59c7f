//! Space maps: which part of a metaslab is taken.

use super::bytes::words;

/// Bytes of a block of a map.
pub(super) const BLOCK: usize = 4096;
/// Longest run that an entry says, in units.
const MAX_RUN: u64 = 32_768;

/// The map of a metaslab from whose start `taken` bytes are taken, and how many bytes of the block count.
pub(super) fn map(taken: u64, ashift: u32) -> (Vec<u8>, u64) {
    let units = taken >> ashift;
    let mut entries = Vec::new();
    let mut at = 0;
    while at < units {
        let run = (units - at).min(MAX_RUN);
        entries.push(at << 16 | (run - 1));
        at += run;
    }
    let mut block = words(&entries);
    let length = block.len() as u64;
    block.resize(block.len().next_multiple_of(BLOCK).max(BLOCK), 0);
    (block, length)
}

#[cfg(test)]
mod tests {
    use super::super::bytes::get64;
    use super::*;

    #[test]
    fn runs_are_split() {
        let (block, length) = map(300 << 20, 12);
        assert_eq!((block.len(), length), (BLOCK, 24));
        assert_eq!([get64(&block, 0), get64(&block, 8), get64(&block, 16)], [32_767, 32_768 << 16 | 32_767, 65_536 << 16 | 11_263]);
        assert_eq!(map(0, 12), (vec![0; BLOCK], 0));
        // The largest metaslab of the smallest units needs more than a block.
        let (block, length) = map(1 << 34, 9);
        assert_eq!((block.len(), length), (8192, 8192));
    }
}
