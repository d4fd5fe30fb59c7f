//! The image: read once, measured and compressed on the way.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use gptman::GPT;
use sha2::{Digest as _, Sha256};
use taproot_init::hex::hex;

use super::orders::{EDGE, Measure};

/// What a zstd frame begins with.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The partition type of EFI system partitions, as it lies on the disk.
const ESP: [u8; 16] = [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
const CHUNK: usize = 1 << 20;

/// Measures bytes that come piece by piece, whose end is not known before.
#[derive(Debug, Default)]
pub(super) struct Measurer {
    bytes: u64,
    body: Sha256,
    head: Vec<u8>,
    /// What may be the last [`EDGE`] bytes.
    last: Vec<u8>,
}

impl Measurer {
    /// Takes the next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let (head, rest) = bytes.split_at(bytes.len().min(EDGE - self.head.len()));
        self.head.extend_from_slice(head);
        self.last.extend_from_slice(rest);
        let sure = self.last.len().saturating_sub(EDGE);
        self.body.update(self.last.get(..sure).unwrap_or_default());
        self.last.drain(..sure);
    }

    /// The sums, and the first and last bytes.
    pub(super) fn done(self) -> (Measure, Vec<u8>, Vec<u8>) {
        let measure = Measure {
            bytes: self.bytes,
            head: hex(&Sha256::digest(&self.head)),
            body: hex(&self.body.finalize()),
            tail: hex(&Sha256::digest(&self.last)),
        };
        (measure, self.head, self.last)
    }
}

/// What an image is, as far as its ends show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// Bytes of a sector.
    pub(super) sector: u64,
    /// BIOS firmware finds code in its first sector.
    pub(super) bios: bool,
    /// UEFI firmware finds a system partition.
    pub(super) uefi: bool,
}

/// Looks at both ends of an image: a disk with a GPT, of which nothing is missing.
pub(super) fn shape(head: &[u8], tail: &[u8]) -> Result<Shape> {
    let sector = [512, 4096]
        .into_iter()
        .find(|sector| head.get(*sector..).is_some_and(|header| header.starts_with(b"EFI PART")));
    let sector = sector.context("expected the image of a disk, found no GPT in it")?;
    let table = GPT::read_from(&mut io::Cursor::new(head), sector as u64).context("its GPT is damaged")?;
    let backup = tail.len().checked_sub(sector).and_then(|at| tail.get(at..));
    ensure!(
        backup.is_some_and(|header| header.starts_with(b"EFI PART")),
        "expected the second copy of its GPT in its last sector: the image is not whole"
    );
    let uefi = table.iter().any(|(_, partition)| partition.partition_type_guid == ESP);
    let bios = head.get(..440).is_some_and(|code| code.iter().any(|byte| *byte != 0));
    Ok(Shape { sector: sector as u64, bios, uefi })
}

/// Reads from one, and writes the same to others on the way.
struct Copying<'a, R> {
    from: R,
    sum: &'a mut Sha256,
    to: Option<&'a mut dyn Write>,
}

impl<R: Read> Read for Copying<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buf)?;
        let bytes = buf.get(..count).unwrap_or_default();
        self.sum.update(bytes);
        if let Some(to) = &mut self.to {
            to.write_all(bytes)?;
        }
        Ok(count)
    }
}

/// Reads an image, raw or compressed by zstd, and writes it compressed; its sum as a file must be `sum`.
pub(super) fn copy(path: &Path, sum: &str, out: &mut dyn Write) -> Result<(Measure, Shape)> {
    let failed = || format!("reading {}", path.display());
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut magic = Vec::new();
    (&file).take(4).read_to_end(&mut magic).with_context(failed)?;
    io::Seek::rewind(&mut file).with_context(failed)?;
    let mut found = Sha256::new();
    let measurer = if magic == ZSTD {
        let tee = Copying { from: file, sum: &mut found, to: Some(out) };
        let mut measurer = Measurer::default();
        let mut decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(CHUNK, tee)).with_context(failed)?;
        pump(&mut decoder, |bytes| {
            measurer.take(bytes);
            Ok(())
        })
        .with_context(failed)?;
        measurer
    } else {
        let mut encoder = zstd::Encoder::new(out, 3).context("starting the compressor")?;
        let threads = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
        encoder.multithread(threads).context("starting the compressor")?;
        let mut measurer = Measurer::default();
        let mut from = Copying { from: file, sum: &mut found, to: None };
        let taken = pump(&mut from, |bytes| {
            measurer.take(bytes);
            encoder.write_all(bytes)
        });
        taken.and_then(|()| encoder.finish().map(drop)).with_context(failed)?;
        measurer
    };
    let found = hex(&found.finalize());
    ensure!(
        found.eq_ignore_ascii_case(sum),
        "{}: expected the SHA-256 {sum}, found {found}: it is another image, or it was damaged on its way; get it again",
        path.display()
    );
    let (measure, head, tail) = measurer.done();
    ensure!(
        measure.bytes >= 4 * EDGE as u64,
        "{}: expected the image of a disk, found {} bytes",
        path.display(),
        measure.bytes
    );
    let shape = shape(&head, &tail).with_context(|| path.display().to_string())?;
    Ok((measure, shape))
}

/// Reads all that there is.
fn pump(from: &mut dyn Read, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buf = vec![0; CHUNK];
    loop {
        match from.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(count) => take(buf.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Decompresses an image that [`copy`] wrote and compares it with its measure.
pub(super) fn check(path: &Path, measure: &Measure) -> Result<()> {
    let mut measurer = Measurer::default();
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut decoder = zstd::Decoder::new(file)?;
    pump(&mut decoder, |bytes| {
        measurer.take(bytes);
        Ok(())
    })
    .with_context(|| format!("reading {}", path.display()))?;
    let (found, ..) = measurer.done();
    if found != *measure {
        bail!(
            "expected {} bytes that have the sums which were taken before, found {} bytes with others",
            measure.bytes,
            found.bytes
        );
    }
    Ok(())
}

/// The sum that is wanted of an image: the one given, or what `sha256sum` wrote beside it.
pub(super) fn wanted_sum(path: &Path, given: Option<&str>) -> Result<String> {
    let beside = {
        let mut name = path.as_os_str().to_owned();
        name.push(".sha256");
        std::path::PathBuf::from(name)
    };
    let text = match given {
        Some(sum) => sum.to_owned(),
        None => std::fs::read_to_string(&beside).with_context(|| {
            format!(
                "expected the image's SHA-256, by --sha256 or in {} as sha256sum writes it: what is written over a disk is to be what was made",
                beside.display()
            )
        })?,
    };
    let sum = text.split_whitespace().next().unwrap_or_default();
    ensure!(
        sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()),
        "expected 64 hexadecimal digits for the image's SHA-256, found {sum:?}"
    );
    Ok(sum.to_ascii_lowercase())
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test fails by panicking")]
pub(super) mod tests {
    use super::*;

    /// A disk with a GPT of one partition, and noise.
    pub(in super::super) fn disk(bytes: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u8::try_from(state >> 24).unwrap()
        };
        let mut disk: Vec<u8> = (0..bytes).map(|at| if at / 4096 % 3 == 0 { noise() } else { 0 }).collect();
        disk[..EDGE].fill(0);
        let mut cursor = io::Cursor::new(&mut disk);
        let mut table = GPT::new_from(&mut cursor, 512, [7; 16]).unwrap();
        table[1] = gptman::GPTPartitionEntry {
            partition_type_guid: ESP,
            unique_partition_guid: [9; 16],
            starting_lba: 2048,
            ending_lba: 4095,
            attribute_bits: 0,
            partition_name: "esp".into(),
        };
        table.write_into(&mut cursor).unwrap();
        disk
    }

    fn sum(bytes: &[u8]) -> String {
        hex(&Sha256::digest(bytes))
    }

    #[test]
    fn raw_and_compressed_images_come_to_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let disk = disk((5 << 20) + 512);
        let compressed = zstd::bulk::compress(&disk, 1).unwrap();
        for (name, bytes) in [("raw", &disk), ("zst", &compressed)] {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let mut out = Vec::new();
            let (measure, shape) = copy(&path, &sum(bytes), &mut out).unwrap();
            assert_eq!(shape, Shape { sector: 512, bios: false, uefi: true });
            assert_eq!(measure.bytes, disk.len() as u64);
            assert_eq!(measure.head, sum(&disk[..EDGE]));
            assert_eq!(measure.body, sum(&disk[EDGE..disk.len() - EDGE]));
            assert_eq!(measure.tail, sum(&disk[disk.len() - EDGE..]));
            let packed = dir.path().join("packed");
            std::fs::write(&packed, &out).unwrap();
            check(&packed, &measure).unwrap();
            let other = Measure { tail: "0".into(), ..measure };
            assert!(check(&packed, &other).is_err());
            std::fs::write(&packed, &out[..out.len() - 9]).unwrap();
            assert!(check(&packed, &other).is_err());
            let error = format!("{:#}", copy(&path, &"0".repeat(64), &mut Vec::new()).unwrap_err());
            assert!(error.contains("expected the SHA-256 0000") && error.contains("get it again"), "{error}");
        }
    }

    #[test]
    fn what_is_no_whole_disk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            format!("{:#}", copy(&path, &sum(bytes), &mut Vec::new()).unwrap_err())
        };
        let mut disk = disk(5 << 20);
        assert!(refused(&disk[..disk.len() - 512]).contains("the image is not whole"));
        assert!(refused(&disk[..2 << 20]).contains("expected the image of a disk"));
        disk[512 + 20] ^= 1;
        assert!(refused(&disk).contains("its GPT is damaged"));
        assert!(refused(&vec![0; 5 << 20]).contains("found no GPT"));
        disk[512 + 20] ^= 1;
        disk[0] = 0xeb;
        std::fs::write(&path, &disk).unwrap();
        assert!(copy(&path, &sum(&disk), &mut Vec::new()).unwrap().1.bios);
    }

    #[test]
    fn sums_are_given_or_lie_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.raw");
        assert!(format!("{:#}", wanted_sum(&path, None).unwrap_err()).contains("a.raw.sha256"));
        let sum = "AB".repeat(32);
        std::fs::write(dir.path().join("a.raw.sha256"), format!("{sum}  a.raw\n")).unwrap();
        assert_eq!(wanted_sum(&path, None).unwrap(), "ab".repeat(32));
        assert!(wanted_sum(&path, Some("abc")).is_err());
    }
}
