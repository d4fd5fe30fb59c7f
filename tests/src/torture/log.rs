//! What a disk was told, as QEMU's `blklogwrites` notes it (the format of the kernel's dm-log-writes), and what is left of it when the
//! power fails: all that was flushed, and of the rest any part.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::sim::prng::Prng;

/// Bytes of a sector of the log, which stands in its first one.
const SECTOR: u64 = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// A write, or a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Where it goes on the disk, in bytes.
    to: u64,
    /// How many; 0 for a flush.
    bytes: u64,
    /// Where they stand in the log.
    at: u64,
    /// Everything before it is durable.
    flushes: bool,
    /// It is durable itself.
    durable: bool,
}

/// What the power took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Loss {
    /// Writes that were not flushed.
    pub(super) unsynced: usize,
    /// How many of them are lost.
    pub(super) lost: usize,
    /// How many are there in part.
    pub(super) torn: usize,
}

/// The entries of a log up to where it breaks off.
fn entries(log: &File) -> Result<Vec<Entry>> {
    let end = log.metadata().context("the log of writes")?.len();
    let mut head = [0; 32];
    log.read_exact_at(&mut head, 0).context("the log of writes")?;
    // The head comes with the first flush.
    ensure!([0, MAGIC].contains(&number(&head, 0)), "expected a log of writes, found something else");
    let (mut at, mut found) = (SECTOR, Vec::new());
    loop {
        // The last one may not be whole: it was never said to be done.
        match log.read_exact_at(&mut head, at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(found),
            read => read.context("the log of writes")?,
        }
        let [sector, sectors, flags] = [0, 8, 16].map(|field| number(&head, field));
        if sectors == 0 && flags == 0 {
            return Ok(found);
        }
        let bytes = if flags & DISCARD == 0 { sectors * SECTOR } else { 0 };
        let data = at + SECTOR;
        if data + bytes > end {
            return Ok(found);
        }
        let (flushes, durable) = (flags & FLUSH != 0, flags & FUA != 0);
        found.push(Entry { to: sector * SECTOR, bytes, at: data, flushes, durable });
        at = data + bytes;
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    field.map_or(0, u64::from_le_bytes)
}

/// Makes of the disk as it was before (`image`) what it is when the power comes back.
pub(super) fn replay(log: &Path, image: &Path, prng: &mut Prng) -> Result<Loss> {
    let log = File::open(log).with_context(|| format!("opening {}", log.display()))?;
    let disk = File::options().write(true).open(image).with_context(|| format!("opening {}", image.display()))?;
    let entries = entries(&log)?;
    ensure!(!entries.is_empty(), "expected writes in the log, found none: did QEMU open it?");
    let flushed = entries.iter().rposition(|entry| entry.flushes);
    // Some cuts take all that they can, some nothing.
    let kept = prng.pick(50, &[0, 80, 100]);
    let mut loss = Loss::default();
    for (number, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.bytes > 0) {
        let mut bytes = entry.bytes;
        if flushed.is_none_or(|flushed| number > flushed) && !entry.durable {
            loss.unsynced += 1;
            if !prng.chance(kept) {
                // Of the first part of a write that is torn there is a sector at least.
                if bytes > SECTOR && prng.chance(30) {
                    loss.torn += 1;
                    bytes = SECTOR * (1 + prng.below(bytes / SECTOR - 1));
                } else {
                    loss.lost += 1;
                    continue;
                }
            }
        }
        let mut data = vec![0; usize::try_from(bytes).context("a write too long")?];
        log.read_exact_at(&mut data, entry.at).context("the log of writes")?;
        disk.write_all_at(&data, entry.to).with_context(|| format!("writing to {}", image.display()))?;
    }
    Ok(loss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_flushed_before_the_first_flush() {
        let log = log_of(&[(1, 0, &[1; 512])], 0);
        log.as_file().write_all_at(&[0; 512], 0).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let image = tempfile::NamedTempFile::new().unwrap();
            image.as_file().set_len(1024).unwrap();
            replay(log.path(), image.path(), &mut Prng::new(seed)).unwrap();
            seen.insert(std::fs::read(image.path()).unwrap()[512]);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1]);
        let nothing = log_of(&[], 0);
        assert!(replay(nothing.path(), log.path(), &mut Prng::new(0)).is_err());
    }

    fn log_of(entries: &[(u64, u64, &[u8])], cut: usize) -> tempfile::NamedTempFile {
        let mut bytes = vec![0; 512];
        bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
        for (sector, flags, data) in entries {
            let mut head = vec![0; 512];
            for (at, value) in [(0, *sector), (8, data.len() as u64 / SECTOR), (16, *flags)] {
                head[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            bytes.extend(head);
            bytes.extend(*data);
        }
        bytes.truncate(bytes.len() - cut);
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(&bytes, 0).unwrap();
        file
    }

    #[test]
    fn what_was_flushed_stays_and_of_the_rest_anything_goes() {
        let (one, two) = ([1; 512], [2; 1024]);
        let log = log_of(&[(0, 0, &one), (1, 0, &two), (0, FLUSH, &[]), (0, 0, &two), (4, FUA, &one), (9, 0, &one)], 1);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let image = tempfile::NamedTempFile::new().unwrap();
            image.as_file().set_len(8 * 512).unwrap();
            let loss = replay(log.path(), image.path(), &mut Prng::new(seed)).unwrap();
            let bytes = std::fs::read(image.path()).unwrap();
            let sectors: Vec<u8> = (0..8).map(|sector| bytes[sector * 512 + 511]).collect();
            // The last one broke off.
            assert_eq!((loss.unsynced, &sectors[2..]), (1, &[2, 0, 1, 0, 0, 0][..]), "{seed}");
            seen.insert(sectors[..2].to_vec());
        }
        let expected = [[1, 2], [2, 2]].map(|sectors| sectors.to_vec());
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    }
}
