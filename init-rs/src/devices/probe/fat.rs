//! FAT, exFAT and NTFS: the file systems of sticks. The label that tools change is an entry of the root directory; the one
//! in the boot sector may be older.

use super::superblock::{Read, Superblock, magic, text, utf16};

/// Bytes of the root directory that are looked at; the label is its first entry unless it was set later.
const ROOT_BYTES: usize = 16 * 1024;
const ENTRY: usize = 32;
const VOLUME: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;

fn half(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)))
}

/// `1234-ABCD`.
fn serial(bytes: &[u8], at: usize) -> Option<String> {
    let number = word(bytes, at).filter(|number| *number != 0)?;
    Some(format!("{:04X}-{:04X}", number >> 16, number & 0xffff))
}

pub(super) fn vfat(head: &[u8], read: &mut Read<'_>) -> Option<Superblock> {
    let wide = magic(head, 82, b"FAT32   ");
    if !magic(head, 510, &[0x55, 0xaa]) || !(wide || magic(head, 54, b"FAT1") || magic(head, 54, b"FAT ")) {
        return None;
    }
    let at = if wide { (67, 71) } else { (39, 43) };
    let label = root(head, wide).and_then(|(offset, len)| root_label(offset, len, read));
    let label = label.or_else(|| text(head, at.1, 11).filter(|label| label != "NO NAME"));
    Some(Superblock { kind: "vfat", label, uuid: serial(head, at.0) })
}

/// Where the root directory begins, and how much of it is in one piece.
fn root(head: &[u8], wide: bool) -> Option<(u64, usize)> {
    let sector = half(head, 11).filter(|sector| (512..=4096).contains(sector))?;
    let cluster = sector * u64::from(*head.get(13)?);
    let tables = u64::from(*head.get(16)?) * if wide { word(head, 36)? } else { half(head, 22)? };
    let data = (half(head, 14)? + tables) * sector;
    let (offset, len) = if wide {
        (data + word(head, 44)?.checked_sub(2)? * cluster, cluster)
    } else {
        (data, half(head, 17)? * ENTRY as u64)
    };
    Some((offset, usize::try_from(len).ok()?.min(ROOT_BYTES)))
}

fn root_label(offset: u64, len: usize, read: &mut Read<'_>) -> Option<String> {
    let mut entries = vec![0_u8; len];
    read(offset, &mut entries).ok()?;
    let used = entries.chunks(ENTRY).take_while(|entry| entry.first() != Some(&0));
    let mut live = used.filter(|entry| entry.first() != Some(&0xe5));
    let label = live.find(|entry| {
        entry.get(11).is_some_and(|kind| kind & LONG_NAME != LONG_NAME && kind & (VOLUME | DIRECTORY) == VOLUME)
    })?;
    text(label, 0, 11)
}

pub(super) fn exfat(head: &[u8], read: &mut Read<'_>) -> Option<Superblock> {
    if !magic(head, 3, b"EXFAT   ") {
        return None;
    }
    let sector = 1_u64.checked_shl(u32::from(*head.get(108)?).min(12))?;
    let cluster = sector.checked_shl(u32::from(*head.get(109)?).min(25))?;
    let clusters = word(head, 88)? * sector;
    let root = word(head, 96)?.saturating_sub(2).checked_mul(cluster)?.checked_add(clusters)?;
    let mut entries = vec![0_u8; usize::try_from(cluster).ok()?.min(ROOT_BYTES)];
    let label = read(root, &mut entries).ok().and_then(|()| {
        let mut used = entries.chunks(ENTRY).take_while(|entry| entry.first() != Some(&0));
        let label = used.find(|entry| entry.first() == Some(&0x83))?;
        let units = usize::from(*label.get(1)?).min(11);
        utf16(label.get(2..2 + 2 * units)?)
    });
    Some(Superblock { kind: "exfat", label, uuid: serial(head, 100) })
}

/// The label lies in a file of its own and is not read.
pub(super) fn ntfs(head: &[u8]) -> Option<Superblock> {
    if !magic(head, 3, b"NTFS    ") {
        return None;
    }
    let number = word(head, 76)? << 32 | word(head, 72)?;
    Some(Superblock { kind: "ntfs3", label: None, uuid: Some(format!("{number:016X}")) })
}
