//! The disk is written: what lies between its ends first, read back, and only then the partition table.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use sha2::{Digest as _, Sha256};
use taproot_init::hex::hex;

use super::orders::{EDGE, Measure};

const CHUNK: usize = 4 << 20;
const EDGE_BYTES: u64 = EDGE as u64;

/// What is done in between.
pub(super) struct Around<'a> {
    /// Lets the kernel forget what it knows of the disk, so that it is read again.
    pub(super) forget: &'a dyn Fn() -> io::Result<()>,
    /// Told how many bytes are written, or read back, of how many.
    pub(super) tell: &'a mut dyn FnMut(&str, u64, u64),
}

fn failed(what: &str) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("{what}: {error}")
}

/// Writes an image over a disk of so many bytes. The ends are emptied first: as long as the new table is not there, nothing of the old
/// system or of the new one is taken for whole.
pub(super) fn write(
    image: &mut dyn Read,
    measure: &Measure,
    disk: &File,
    disk_bytes: u64,
    around: &mut Around<'_>,
) -> Result<(), String> {
    let Some(body) = measure.bytes.checked_sub(2 * EDGE_BYTES).filter(|_| measure.bytes <= disk_bytes) else {
        return Err(format!("an image of {} bytes does not fit a disk of {disk_bytes}", measure.bytes));
    };
    let empty = vec![0; EDGE];
    let ends = [0, disk_bytes - EDGE_BYTES];
    for at in ends {
        disk.write_all_at(&empty, at).map_err(failed("emptying the disk's ends"))?;
    }
    disk.sync_all().map_err(failed("emptying the disk's ends"))?;

    let mut head = vec![0; EDGE];
    image.read_exact(&mut head).map_err(failed("reading the image"))?;
    let mut chunk = vec![0; CHUNK];
    let mut at = EDGE_BYTES;
    while at < EDGE_BYTES + body {
        let part = part_of(&mut chunk, EDGE_BYTES + body - at);
        image.read_exact(part).map_err(failed("reading the image"))?;
        disk.write_all_at(part, at).map_err(failed(&format!("writing at {at}")))?;
        at += part.len() as u64;
        (around.tell)("written", at, measure.bytes);
    }
    let mut tail = vec![0; EDGE];
    image.read_exact(&mut tail).map_err(failed("reading the image"))?;
    disk.sync_all().map_err(failed("syncing the disk"))?;
    (around.forget)().map_err(failed("dropping caches"))?;
    read_back(disk, EDGE_BYTES, body, &measure.body, around)?;

    // The second copy of the table before the first: what has the first is whole.
    let edges = [(measure.bytes - EDGE_BYTES, &tail, &measure.tail), (0, &head, &measure.head)];
    for (at, bytes, sum) in edges {
        if hex(&Sha256::digest(bytes)) != *sum {
            return Err(format!("the image in memory is damaged at {at}"));
        }
        disk.write_all_at(bytes, at).map_err(failed("writing the partition table"))?;
        disk.sync_all().map_err(failed("syncing the partition table"))?;
    }
    (around.forget)().map_err(failed("dropping caches"))?;
    for (at, _, sum) in edges {
        read_back(disk, at, EDGE_BYTES, sum, around)?;
    }
    Ok(())
}

fn part_of(chunk: &mut [u8], left: u64) -> &mut [u8] {
    let size = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
    chunk.get_mut(..size).unwrap_or_default()
}

/// Reads what was written and compares its sum.
fn read_back(disk: &File, from: u64, bytes: u64, sum: &str, around: &mut Around<'_>) -> Result<(), String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut done = 0;
    while done < bytes {
        let part = part_of(&mut chunk, bytes - done);
        disk.read_exact_at(part, from + done).map_err(failed(&format!("reading back at {}", from + done)))?;
        hash.update(&*part);
        done += part.len() as u64;
        (around.tell)("read back", done, bytes);
    }
    let found = hex(&hash.finalize());
    if found == sum {
        return Ok(());
    }
    Err(format!(
        "read back from {from} on: expected the sum {sum}, found {found}: the disk does not keep what is written to it"
    ))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::super::image::{Measurer, tests::disk};
    use super::*;
    use std::cell::RefCell;

    fn measured(image: &[u8]) -> Measure {
        let mut measurer = Measurer::default();
        measurer.take(image);
        measurer.done().0
    }

    /// What is on the disk each time that it is to be read again, and in the end.
    fn written(image: &[u8], measure: &Measure, size: u64, harm: Option<u64>) -> (Result<(), String>, Vec<Vec<u8>>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![0xee; usize::try_from(size).unwrap()]).unwrap();
        let seen = RefCell::new(Vec::new());
        let forget = || {
            seen.borrow_mut().push(std::fs::read(file.path())?);
            match harm {
                Some(at) => file.as_file().write_all_at(&[0x55], at),
                None => Ok(()),
            }
        };
        let mut around = Around { forget: &forget, tell: &mut |_, _, _| {} };
        let result = write(&mut &*image, measure, file.as_file(), size, &mut around);
        let mut seen = seen.into_inner();
        seen.push(std::fs::read(file.path()).unwrap());
        (result, seen)
    }

    #[test]
    fn the_table_comes_last_and_the_whole_is_the_image() {
        let image = disk((9 << 20) + 512);
        let size = 16 << 20;
        let (result, seen) = written(&image, &measured(&image), size, None);
        assert_eq!(result, Ok(()));
        assert_eq!(seen.len(), 3);
        let body = EDGE..image.len() - EDGE;
        assert!(seen[0][..EDGE].iter().all(|b| *b == 0), "no table before everything else was read back");
        assert_eq!(seen[0][body.clone()], image[body]);
        assert!(seen[0][image.len() - EDGE..image.len()].iter().all(|b| *b == 0xee));
        assert_eq!(seen[1][..image.len()], image);
        assert!(seen[1][(16 << 20) - EDGE..].iter().all(|b| *b == 0), "nothing old at the end");
        // A disk that is just as large.
        let (result, seen) = written(&image, &measured(&image), image.len() as u64, None);
        assert_eq!(result, Ok(()));
        assert_eq!(seen[2], image);
    }

    #[test]
    fn what_does_not_come_back_is_told() {
        let image = disk(9 << 20);
        let measure = measured(&image);
        let (result, seen) = written(&image, &measure, 16 << 20, Some(5 << 20));
        assert!(result.unwrap_err().contains("does not keep what is written"));
        assert!(seen[1][..EDGE].iter().all(|b| *b == 0), "a disk that failed gets no table");
        let (result, _) = written(&image, &measure, 16 << 20, Some(100));
        assert!(result.unwrap_err().contains("read back from 0 on"));
        let (result, seen) = written(&image, &measure, 8 << 20, None);
        assert!(result.unwrap_err().contains("does not fit"));
        assert!(seen[0].iter().all(|b| *b == 0xee), "nothing was written");
        let (result, seen) = written(&image[..8 << 20], &measure, 16 << 20, None);
        assert!(result.unwrap_err().contains("reading the image"));
        assert!(seen[0][..EDGE].iter().all(|b| *b == 0));
        let other = Measure { tail: "0".into(), ..measure };
        assert!(written(&image, &other, 16 << 20, None).0.unwrap_err().contains("the image in memory is damaged"));
    }
}
