//! Names and UUIDs of partitions: from the uevent file as far as the kernel tells, else from the table on the disk. The
//! kernel has checked that table before it made the partition, so no checksum is checked again.

use super::{ReadAt, number};
use crate::devices::block;
use std::fs;
use std::path::{Path, PathBuf};

/// Entries of a GPT that are looked at; tables have 128.
const MAX_ENTRIES: u32 = 1024;
/// Sizes of an entry that the format allows and somebody uses.
const ENTRY_SIZES: std::ops::RangeInclusive<u32> = 128..=4096;

/// A block device, perhaps a partition.
pub(super) struct Partition {
    pub(super) name: String,
    dir: PathBuf,
    dev: PathBuf,
    uevent: String,
}

impl Partition {
    pub(super) fn new(sys: &Path, dev: &Path, name: &str) -> Self {
        let dir = sys.join("class/block").join(name);
        let uevent = fs::read_to_string(dir.join("uevent")).unwrap_or_default();
        Self { name: name.to_owned(), dir, dev: dev.to_owned(), uevent }
    }

    /// A value of the uevent file.
    pub(super) fn uevent(&self, key: &str) -> Option<String> {
        let value = |line: &str| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
        self.uevent.lines().find_map(value)
    }

    /// The kernel gives names in ASCII only; others are compared as the table has them.
    pub(super) fn label_is(&self, label: &str, read_at: &mut ReadAt<'_>) -> bool {
        if label.is_ascii() {
            return self.uevent("PARTNAME").as_deref() == Some(label);
        }
        self.uevent("PARTNAME").is_some() && self.entry(read_at).is_some_and(|entry| entry.1 == label)
    }

    pub(super) fn uuid_is(&self, uuid: &str, read_at: &mut ReadAt<'_>) -> bool {
        let known = self.uevent("PARTUUID").or_else(|| self.entry(read_at).map(|entry| entry.0));
        known.is_some_and(|known| known.eq_ignore_ascii_case(uuid))
    }

    /// UUID and name of this partition in the table of its disk.
    fn entry(&self, read_at: &mut ReadAt<'_>) -> Option<(String, String)> {
        let index = number(&self.dir.join("partition"));
        if index == 0 {
            return None;
        }
        // The class entry is a link to .../DISK/PARTITION.
        let disk = fs::canonicalize(&self.dir).ok()?.parent()?.to_owned();
        let node = block::node(&self.dev, &disk.file_name()?.to_string_lossy());
        let sector = number(&disk.join("queue/logical_block_size")).max(512);
        let start = number(&self.dir.join("start")) * 512 / sector;
        let mut header = [0_u8; 92];
        read_at(&node, sector, &mut header).ok()?;
        if header.starts_with(b"EFI PART") {
            return gpt(&header, sector, start, &mut |at, buf| read_at(&node, at, buf).ok());
        }
        let mut mbr = [0_u8; 512];
        read_at(&node, 0, &mut mbr).ok()?;
        let signature = u32::from_le_bytes(mbr.get(440..444)?.try_into().ok()?);
        Some((format!("{signature:08x}-{index:02x}"), String::new()))
    }
}

/// UUID and name of the partition that begins at sector `start`, from the table that the header of a GPT describes.
pub fn gpt(
    header: &[u8],
    sector: u64,
    start: u64,
    read: &mut dyn FnMut(u64, &mut [u8]) -> Option<()>,
) -> Option<(String, String)> {
    let word = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let table = u64::from_le_bytes(header.get(72..80)?.try_into().ok()?).checked_mul(sector)?;
    let (count, size) = (word(80)?.min(MAX_ENTRIES), word(84).filter(|size| ENTRY_SIZES.contains(size))?);
    for index in 0..count {
        let mut entry = [0_u8; 128];
        read(table.checked_add(u64::from(index) * u64::from(size))?, &mut entry)?;
        let used = entry.iter().take(16).any(|b| *b != 0);
        if used && u64::from_le_bytes(entry.get(32..40)?.try_into().ok()?) == start {
            let units =
                entry.get(56..128)?.chunks(2).map(|pair| pair.iter().rev().fold(0, |n, b| n << 8 | u16::from(*b)));
            let name: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
            return Some((guid(entry.get(16..32)?), String::from_utf16_lossy(&name)));
        }
    }
    None
}

/// The first three groups are little-endian.
fn guid(bytes: &[u8]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let hex = |at: &usize| bytes.get(*at).map_or_else(String::new, |b| format!("{b:02x}"));
    let digits: Vec<String> = order.iter().map(hex).collect();
    super::superblock::dashed(&digits.concat())
}
