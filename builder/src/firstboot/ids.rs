//! Identities that a copy of an image must not share with other copies: where each lies, and how it is written in files that refer to it.

use super::table::{Disk, Table};
use crate::uuid;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// Types of partitions, as the table has their bytes.
pub const ESP: [u8; 16] = [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
/// Swap.
pub const SWAP: [u8; 16] =
    [0x6d, 0xfd, 0x57, 0x06, 0xab, 0xa4, 0xc4, 0x43, 0x84, 0xe5, 9, 0x33, 0xc8, 0x4b, 0x4f, 0x4f];
/// `struct swap_header`: where its UUID stands, and how large a page can be, at whose end its magic stands.
const SWAP_UUID: u64 = 1036;
const PAGES: [u64; 3] = [4096, 16384, 65536];

/// What is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The guid of the disk.
    Disk,
    /// The guid of a partition.
    Partition,
    /// The serial number of a FAT file system.
    Fat,
    /// The UUID of a swap area.
    Swap,
}

/// One identity, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What it is.
    pub what: What,
    /// Guid of the vdev on whose disk it is: disks have other names at the next boot.
    pub vdev: u64,
    /// The partition, from 1; 0 for the disk.
    pub partition: u32,
    /// As it was, as people write it.
    pub old: String,
    /// As it is to be.
    pub new: String,
}

/// A serial number of random bytes.
pub fn random_serial(bytes: [u8; 16]) -> String {
    let [a, b, c, d, ..] = bytes;
    format!("{a:02X}{b:02X}-{c:02X}{d:02X}")
}

/// Where the serial number of a FAT file system lies: the boot sector, and its copy.
fn fat_places(disk: &dyn Disk) -> Result<Vec<u64>> {
    let mut boot = [0; 512];
    disk.read_at(0, &mut boot).context("reading the boot sector")?;
    let has = |at: usize, text: &[u8]| boot.get(at..).is_some_and(|rest| rest.starts_with(text));
    let half = |at: usize| match boot.get(at..at + 2) {
        Some([a, b]) => u64::from(u16::from_le_bytes([*a, *b])),
        _ => 0,
    };
    ensure!(has(510, &[0x55, 0xaa]), "it is no FAT file system");
    if has(82, b"FAT32") {
        let (sector, copy) = (half(11), half(50));
        let copies = (copy > 0 && copy < 32 && sector >= 512).then(|| copy * sector + 67);
        return Ok([67].into_iter().chain(copies).collect());
    }
    ensure!(has(54, b"FAT1"), "it is no FAT file system");
    Ok(vec![39])
}

/// The identity of a FAT file system or a swap area, as people write it.
pub fn read(what: What, partition: &dyn Disk) -> Result<String> {
    if what == What::Fat {
        let mut serial = [0; 4];
        let place = fat_places(partition)?.into_iter().next().unwrap_or(67);
        partition.read_at(place, &mut serial).context("reading the boot sector")?;
        let [a, b, c, d] = serial;
        return Ok(format!("{d:02X}{c:02X}-{b:02X}{a:02X}"));
    }
    let mut magic = [0; 10];
    let is_swap = PAGES
        .into_iter()
        .filter(|page| *page <= partition.size())
        .any(|page| partition.read_at(page - 10, &mut magic).is_ok() && &magic == b"SWAPSPACE2");
    ensure!(is_swap, "it is no swap area");
    let mut bytes = [0; 16];
    partition.read_at(SWAP_UUID, &mut bytes).context("reading the swap header")?;
    Ok(uuid::text(bytes))
}

/// Writes it. Only these bytes are written, in what may be mounted or swapped to: nobody else writes there.
pub fn write(what: What, partition: &dyn Disk, new: &str) -> Result<()> {
    if what == What::Fat {
        let digits = u32::from_str_radix(&new.replace('-', ""), 16).context("a serial number of another form")?;
        // The copy first: the one that counts says whether both are done.
        for place in fat_places(partition)?.into_iter().rev() {
            partition.write_at(place, &digits.to_le_bytes()).context("writing the boot sector")?;
        }
    } else {
        let bytes = uuid::parse(new).context("a UUID of another form")?;
        partition.write_at(SWAP_UUID, &bytes).context("writing the swap header")?;
    }
    partition.sync().context("writing")
}

/// The guids of a table, of the disk first: partition (0: the disk) and text.
pub fn guids(table: &Table) -> Vec<(u32, String)> {
    let all = std::iter::once(0).chain(table.numbers());
    let text =
        |number: u32| table.guid((number > 0).then_some(number)).map(|guid| (number, uuid::text(uuid::mixed(guid))));
    all.filter_map(text).collect()
}

/// Puts new guids into a table: those that have the old one. Whether any was.
pub fn renew_guids(table: &mut Table, changes: &[&Change]) -> Result<bool> {
    let mut any = false;
    for change in changes {
        let number = (change.partition > 0).then_some(change.partition);
        let Some(now) = table.guid(number).map(|guid| uuid::text(uuid::mixed(guid))) else {
            bail!("partition {} is not there any more", change.partition);
        };
        if now == change.new {
            continue;
        }
        ensure!(now == change.old, "its guid is {now}; expected {} or {}", change.old, change.new);
        table.set_guid(number, uuid::mixed(uuid::parse(&change.new).context("a guid of another form")?));
        any = true;
    }
    Ok(any)
}

/// Whether a text has one of the new identities.
pub fn mentions(text: &str, changes: &[Change]) -> bool {
    let text = text.to_ascii_lowercase();
    changes.iter().any(|change| text.contains(&change.new.to_ascii_lowercase()))
}

/// A text with other identities in place of the old ones, however their digits are written. An identity stands alone: a longer run of
/// digits is something else.
pub fn replaced(text: &str, changes: &[Change]) -> String {
    let mut out = text.to_owned();
    for change in changes {
        let (lower, old) = (out.to_ascii_lowercase(), change.old.to_ascii_lowercase());
        let upper = change.what == What::Fat;
        let mut new = String::with_capacity(out.len());
        let mut from = 0;
        for (at, _) in lower.match_indices(&old) {
            let end = at + old.len();
            let touches = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-');
            let before = lower.get(..at).and_then(|text| text.chars().next_back());
            let after = lower.get(end..).and_then(|text| text.chars().next());
            if at < from || touches(before) || touches(after) {
                continue;
            }
            new.push_str(out.get(from..at).unwrap_or_default());
            let shown = if upper { change.new.to_ascii_uppercase() } else { change.new.clone() };
            new.push_str(&shown);
            from = end;
        }
        new.push_str(out.get(from..).unwrap_or_default());
        out = new;
    }
    out
}
