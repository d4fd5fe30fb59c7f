//! The search in a guest's memory.

use std::io::{self, Read};

/// Memory is looked at in pieces; pieces that are all zero, which is most of it, are passed over.
const PIECE: usize = 64 * 1024;

/// How often `needle` is in `source`, overlapping ones included. Nothing is found nowhere.
pub fn count(mut source: impl Read, needle: &[u8]) -> io::Result<usize> {
    let Some(overlap) = needle.len().checked_sub(1) else { return Ok(0) };
    let zeros = vec![0; PIECE];
    let skip = skips(needle);
    // The end of what was seen, too short for the needle, and the next piece behind it.
    let mut window: Vec<u8> = Vec::with_capacity(overlap + PIECE);
    let mut found = 0;
    loop {
        let old = window.len();
        if source.by_ref().take(PIECE as u64).read_to_end(&mut window)? == 0 {
            return Ok(found);
        }
        let fresh = window.get(old..).unwrap_or_default();
        if needle.iter().all(|byte| *byte == 0) || zeros.get(..fresh.len()) != Some(fresh) || old > 0 {
            found += count_in(&window, needle, &skip);
        }
        window.drain(..window.len().saturating_sub(overlap));
        // Zeros at the end begin nothing but a needle of zeros.
        if needle.first() != Some(&0) && window.iter().all(|byte| *byte == 0) {
            window.clear();
        }
    }
}

/// Horspool: how far the window moves on, by the byte under its end. The test binaries are not optimised and a gigabyte is
/// long.
fn skips(needle: &[u8]) -> [usize; 256] {
    let mut skip = [needle.len(); 256];
    for (at, byte) in needle.iter().enumerate().take(needle.len().saturating_sub(1)) {
        if let Some(entry) = skip.get_mut(usize::from(*byte)) {
            *entry = needle.len() - 1 - at;
        }
    }
    skip
}

fn count_in(hay: &[u8], needle: &[u8], skip: &[usize; 256]) -> usize {
    let (mut at, mut found) = (0, 0);
    while let Some(window) = hay.get(at..at + needle.len()) {
        if window == needle {
            found += 1;
            at += 1;
            continue;
        }
        let last = window.last().copied().unwrap_or_default();
        at += skip.get(usize::from(last)).copied().unwrap_or(1).max(1);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(hay: &[u8], needle: &[u8]) -> usize {
        hay.windows(needle.len()).filter(|window| *window == needle).count()
    }

    #[test]
    fn finds_across_pieces_between_zeros_and_overlapping() {
        for needle in [&b"secret"[..], b"aa", b"x", b"\0\0x", b"x\0\0", b"\0key\0"] {
            for at in [0, 7, PIECE - 3, PIECE - 1, PIECE, 2 * PIECE - 2, 3 * PIECE + 5] {
                let mut hay = vec![0; 4 * PIECE + 17];
                hay[at..at + needle.len()].copy_from_slice(needle);
                hay[3 * PIECE..3 * PIECE + 4].copy_from_slice(b"aaaa");
                assert_eq!(count(&hay[..], needle).unwrap(), naive(&hay, needle), "{needle:?} at {at}");
            }
        }
        assert_eq!(count(&b"anything"[..], b"").unwrap(), 0);
        assert_eq!(count(&b"any"[..], b"anything").unwrap(), 0);
    }
}
