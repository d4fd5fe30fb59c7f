//! The partition table of a disk: UUIDs and names of its partitions. The kernel has checked the table before it made the
//! partitions, so no checksum is checked again.

use std::collections::BTreeMap;
use std::io;

/// Entries of a GPT that are looked at; tables have 128.
const MAX_ENTRIES: u32 = 1024;
/// Sizes of an entry that the format allows and somebody uses.
const ENTRY_SIZES: std::ops::RangeInclusive<u32> = 128..=4096;

/// What a table says of the partitions that the kernel found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionTable {
    /// By the partition's first byte: UUID and name.
    Gpt(BTreeMap<u64, (String, String)>),
    /// The signature, of which UUIDs are made with the partition's number.
    Mbr(u32),
}

impl PartitionTable {
    /// Reads the table of a disk with logical sectors of `sector` bytes; `None` if it has none.
    pub fn read(read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>, sector: u64) -> io::Result<Option<Self>> {
        let mut mbr = [0_u8; 512];
        read(0, &mut mbr)?;
        if !mbr.ends_with(&[0x55, 0xaa]) {
            return Ok(None);
        }
        let mut header = [0_u8; 92];
        if read(sector, &mut header).is_ok()
            && header.starts_with(b"EFI PART")
            && let Some(entries) = gpt(&header, sector, &mut |at, buf| read(at, buf).ok())
        {
            return Ok(Some(Self::Gpt(entries)));
        }
        let signature = mbr.get(440..444).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        Ok(signature.map(Self::Mbr))
    }

    /// UUID and name of the partition with this number that begins at this byte.
    pub fn partition(&self, number: u32, start: u64) -> Option<(String, String)> {
        match self {
            Self::Gpt(entries) => entries.get(&start).cloned(),
            Self::Mbr(signature) => Some((format!("{signature:08x}-{number:02x}"), String::new())),
        }
    }
}

/// The entries of the table that the header of a GPT describes.
fn gpt(
    header: &[u8],
    sector: u64,
    read: &mut dyn FnMut(u64, &mut [u8]) -> Option<()>,
) -> Option<BTreeMap<u64, (String, String)>> {
    let word = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let table = u64::from_le_bytes(header.get(72..80)?.try_into().ok()?).checked_mul(sector)?;
    let (count, size) = (word(80)?.min(MAX_ENTRIES), word(84).filter(|size| ENTRY_SIZES.contains(size))?);
    let size = usize::try_from(size).ok()?;
    let mut bytes = vec![0; usize::try_from(count).ok()?.checked_mul(size)?];
    read(table, &mut bytes)?;
    let mut entries = BTreeMap::new();
    for entry in bytes.chunks_exact(size) {
        if entry.iter().take(16).all(|b| *b == 0) {
            continue;
        }
        let start = u64::from_le_bytes(entry.get(32..40)?.try_into().ok()?).saturating_mul(sector);
        let units = entry.get(56..128)?.chunks(2).map(|pair| pair.iter().rev().fold(0, |n, b| n << 8 | u16::from(*b)));
        let name: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        entries.entry(start).or_insert((guid(entry.get(16..32)?), String::from_utf16_lossy(&name)));
    }
    Some(entries)
}

/// A GUID as firmware stores it, in its usual spelling: the first three groups are little-endian.
pub fn guid(bytes: &[u8]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let hex = |at: &usize| bytes.get(*at).map_or_else(String::new, |b| format!("{b:02x}"));
    let digits: Vec<String> = order.iter().map(hex).collect();
    super::superblock::dashed(&digits.concat())
}
