//! The block before each entry.

use super::until_nul;

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;

/// What a block says.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) path: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) kind: u8,
    pub(super) target: Vec<u8>,
    pub(super) device: (u32, u32),
}

impl Header {
    /// `None` if the checksum or a number is wrong.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Option<Self> {
        let field = |from: usize, length: usize| block.get(from..from + length).unwrap_or_default();
        let stored = number(field(148, 8))?;
        // The checksum counts as spaces; some old programs added bytes with a sign.
        let bytes = || block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
        let unsigned: i64 = bytes().map(i64::from).sum();
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        if stored != unsigned && stored != signed {
            return None;
        }
        let positive = |from: usize, length: usize| u64::try_from(number(field(from, length))?).ok();
        let mut path = until_nul(field(0, 100));
        let magic = field(257, 8);
        if magic == b"ustar\x0000" {
            let prefix = until_nul(field(345, 155));
            if !prefix.is_empty() {
                path = [&prefix[..], b"/", &path].concat();
            }
        }
        let small = |from: usize| u32::try_from(positive(from, 8)?).ok();
        Some(Header {
            path,
            mode: small(100)? & 0o7777,
            uid: positive(108, 8)?,
            gid: positive(116, 8)?,
            size: positive(124, 12)?,
            mtime: number(field(136, 12))?,
            kind: block.get(156).copied().unwrap_or(0),
            target: until_nul(field(157, 100)),
            device: if magic.starts_with(b"ustar") { (small(329)?, small(337)?) } else { (0, 0) },
        })
    }
}

/// Octal digits between spaces, or a binary number behind a byte with its highest bit set.
fn number(field: &[u8]) -> Option<i64> {
    if let [first @ (0x80 | 0xff), rest @ ..] = field {
        let start = if *first == 0xff { -1_i64 } else { 0 };
        return rest.iter().try_fold(start, |value, byte| Some(value.checked_mul(256)? | i64::from(*byte)));
    }
    let text = until_nul(field);
    text.trim_ascii().iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}
