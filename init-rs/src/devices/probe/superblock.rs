//! Superblocks: kind, label and UUID of what is on a device, at the offsets that blkid(8) uses.

use super::{fat, stacked};
use crate::devices::known;
use crate::devices::swap::Header;
use std::io;

/// What is on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// As mount(8) calls it; ext2 and ext3 are `ext4`, whose driver mounts them.
    pub kind: &'static str,
    /// Label.
    pub label: Option<String>,
    /// UUID, or the serial number that stands for one, in blkid's spelling.
    pub uuid: Option<String>,
}

impl From<Superblock> for known::Superblock {
    fn from(found: Superblock) -> Self {
        let Superblock { kind, label, uuid } = found;
        Self { kind: kind.to_owned(), uuid: uuid.unwrap_or_default(), label: label.unwrap_or_default() }
    }
}

/// Reads bytes at an offset.
pub(super) type Read<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<()> + 'a;

/// The first 4 KiB, which hold most superblocks.
const HEAD: usize = 4096;
const BTRFS_AT: u64 = 0x1_0000;
const ISO_AT: u64 = 0x8000;
/// What images of layers begin with; erofs behind its first KiB.
pub(super) const SQUASHFS: &[u8] = b"hsqs";
pub(super) const EROFS: &[u8] = &0xe0f5_e1e2_u32.to_le_bytes();

/// What is on a device of `size` bytes; an error only if its beginning cannot be read.
///
/// What other devices are made of is looked for first: a leg of a mirror begins as the file system in the mirror may do.
pub fn superblock(read: &mut Read<'_>, size: u64) -> io::Result<Option<Superblock>> {
    let mut head = [0_u8; HEAD];
    // A device can be shorter than that.
    let len = usize::try_from(size).unwrap_or(HEAD).clamp(512, HEAD);
    read(0, head.get_mut(..len).unwrap_or_default())?;
    let found = stacked::find(&head, read, size);
    let found = found.or_else(|| xfs(&head)).or_else(|| swap(&head)).or_else(|| ext(&head)).or_else(|| f2fs(&head));
    let found = found.or_else(|| squashfs(&head)).or_else(|| erofs(&head));
    let found =
        found.or_else(|| fat::ntfs(&head)).or_else(|| fat::exfat(&head, read)).or_else(|| fat::vfat(&head, read));
    Ok(found.or_else(|| btrfs(read)).or_else(|| iso(read)))
}

fn ext(head: &[u8]) -> Option<Superblock> {
    let sb = head.get(1024..)?;
    if !magic(sb, 56, &[0x53, 0xef]) {
        return None;
    }
    Some(Superblock { kind: "ext4", label: text(sb, 120, 16), uuid: uuid(sb, 104) })
}

fn xfs(head: &[u8]) -> Option<Superblock> {
    magic(head, 0, b"XFSB").then(|| Superblock { kind: "xfs", label: text(head, 108, 12), uuid: uuid(head, 32) })
}

/// A swap area, also one that holds a hibernated system.
fn swap(head: &[u8]) -> Option<Superblock> {
    Header::read(head).swap.then(|| Superblock { kind: "swap", label: text(head, 1052, 16), uuid: uuid(head, 1036) })
}

fn f2fs(head: &[u8]) -> Option<Superblock> {
    let sb = head.get(1024..)?;
    if !magic(sb, 0, &0xf2f5_2010_u32.to_le_bytes()) {
        return None;
    }
    Some(Superblock { kind: "f2fs", label: utf16(sb.get(124..1148)?), uuid: uuid(sb, 108) })
}

/// It has neither a label nor a UUID.
fn squashfs(head: &[u8]) -> Option<Superblock> {
    magic(head, 0, SQUASHFS).then_some(Superblock { kind: "squashfs", label: None, uuid: None })
}

fn erofs(head: &[u8]) -> Option<Superblock> {
    let sb = head.get(1024..)?;
    let erofs = magic(sb, 0, EROFS);
    erofs.then(|| Superblock { kind: "erofs", label: text(sb, 64, 16), uuid: uuid(sb, 48) })
}

fn btrfs(read: &mut Read<'_>) -> Option<Superblock> {
    let mut sb = [0_u8; 1024];
    read(BTRFS_AT, &mut sb).ok()?;
    magic(&sb, 64, b"_BHRfS_M").then(|| Superblock { kind: "btrfs", label: text(&sb, 299, 256), uuid: uuid(&sb, 32) })
}

/// The UUID is the time of the last change, else of creation.
fn iso(read: &mut Read<'_>) -> Option<Superblock> {
    let mut sb = [0_u8; 2048];
    read(ISO_AT, &mut sb).ok()?;
    if !magic(&sb, 0, b"\x01CD001") {
        return None;
    }
    let time = |at: usize| {
        let digits = std::str::from_utf8(sb.get(at..at + 16)?).ok()?;
        let set = digits.bytes().all(|b| b.is_ascii_digit()) && digits.bytes().any(|b| b != b'0');
        let parts = [0..4, 4..6, 6..8, 8..10, 10..12, 12..14, 14..16].map(|part| digits.get(part).unwrap_or_default());
        set.then(|| parts.join("-"))
    };
    Some(Superblock { kind: "iso9660", label: text(&sb, 40, 32), uuid: time(830).or_else(|| time(813)) })
}

pub(super) fn magic(bytes: &[u8], at: usize, expected: &[u8]) -> bool {
    bytes.get(at..at + expected.len()) == Some(expected)
}

/// A label: up to its first NUL, without the blanks that fill it up.
pub(super) fn text(bytes: &[u8], at: usize, len: usize) -> Option<String> {
    let field = bytes.get(at..at + len)?;
    let field = field.split(|b| *b == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(field).trim_end().to_owned()).filter(|label| !label.is_empty())
}

/// A label in UTF-16, up to its first NUL.
pub(super) fn utf16(bytes: &[u8]) -> Option<String> {
    let units = bytes.chunks(2).map(|pair| pair.iter().rev().fold(0, |n, b| n << 8 | u16::from(*b)));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    Some(String::from_utf16_lossy(&units)).filter(|label| !label.is_empty())
}

pub(super) fn uuid(bytes: &[u8], at: usize) -> Option<String> {
    let field = bytes.get(at..at + 16).filter(|field| field.iter().any(|b| *b != 0))?;
    let digits: Vec<String> = field.iter().map(|b| format!("{b:02x}")).collect();
    Some(dashed(&digits.concat()))
}

/// 32 hex digits in the usual groups.
pub(super) fn dashed(digits: &str) -> String {
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| digits.get(group).unwrap_or_default()).join("-")
}
