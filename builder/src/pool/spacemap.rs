//! Space maps: which part of a metaslab is taken.

use super::bytes::{put64, words};

/// Bytes of a block of a map.
pub(super) const BLOCK: usize = 4096;
/// Longest run that an entry says, in units.
const MAX_RUN: u64 = 32_768;

/// Name of the feature by which maps say how large the free parts are.
pub(super) const HISTOGRAM: &str = "com.delphix:spacemap_histogram";
/// Where that begins in the bonus, in words, and how many sizes it has.
const HISTOGRAM_WORD: usize = 8;
const SIZES: usize = 32;

/// The bonus of a map whose entries have `length` bytes, of a metaslab of `size` bytes from whose start `taken` are taken.
pub(super) fn bonus(length: u64, taken: u64, size: u64, ashift: u32) -> Vec<u8> {
    let mut bonus = vec![0; 8 * (HISTOGRAM_WORD + SIZES)];
    put64(&mut bonus, 8, length);
    put64(&mut bonus, 16, taken);
    if let Some(bits) = (size.saturating_sub(taken) >> ashift).checked_ilog2() {
        let at = HISTOGRAM_WORD + usize::try_from(bits).unwrap_or(0).min(SIZES - 1);
        put64(&mut bonus, at * 8, 1);
    }
    bonus
}

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
    fn what_is_free_is_one_part() {
        let word = |bonus: &[u8], at: usize| get64(bonus, at * 8);
        let bonus = bonus(24, 3 << 20, 16 << 20, 12);
        assert_eq!((bonus.len(), word(&bonus, 1), word(&bonus, 2)), (320, 24, 3 << 20));
        // 13 MiB are 3328 units: from 2^11 to 2^12.
        assert_eq!((8..40).map(|at| word(&bonus, at)).collect::<Vec<_>>().iter().position(|n| *n == 1), Some(11));
        assert!(super::bonus(8, 4096, 4096, 12)[64..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn runs_are_split() {
        let (block, length) = map(300 << 20, 12);
        assert_eq!((block.len(), length), (BLOCK, 24));
        assert_eq!(
            [get64(&block, 0), get64(&block, 8), get64(&block, 16)],
            [0x7fff, 0x8000 << 16 | 0x7fff, 0x1_0000 << 16 | 0x2bff]
        );
        assert_eq!(map(0, 12), (vec![0; BLOCK], 0));
        // The largest metaslab of the smallest units needs more than a block.
        let (block, length) = map(1 << 34, 9);
        assert_eq!((block.len(), length), (8192, 8192));
    }
}
