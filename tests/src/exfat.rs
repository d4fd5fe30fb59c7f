//! An exFAT file system with one file, as the specification has it (exFAT revision 1.00, sections 3 to 7): no program of the kit's
//! machines writes files into one, and only a kernel with the driver could.

#![allow(clippy::indexing_slicing, reason = "the sizes are of this file; a mistake ends the test that shows it")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

const SECTOR: usize = 512;
const CLUSTER: usize = 4096;
/// Sectors: the first file allocation table, behind both boot regions.
const TABLE: u32 = 24;
/// Boot sectors that the checksum in the twelfth is over.
const SUMMED: usize = 11;
/// The number of the first cluster.
const FIRST: u32 = 2;
/// All dates: 2026-01-02, as FAT has them.
const DATE: u32 = ((46 << 9) | (1 << 5) | 2) << 16;

/// A part of the heap of clusters.
#[derive(Clone, Copy)]
struct Extent {
    first: u32,
    bytes: u64,
}

impl Extent {
    fn clusters(self) -> u32 {
        u32::try_from(self.bytes.div_ceil(CLUSTER as u64)).unwrap_or(u32::MAX)
    }

    /// The one behind it.
    fn then(self, bytes: u64) -> Self {
        Self { first: self.first + self.clusters(), bytes }
    }
}

fn sum16(bytes: impl Iterator<Item = u8>) -> u16 {
    bytes.fold(0, |sum: u16, byte| sum.rotate_right(1).wrapping_add(byte.into()))
}

fn sum32(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0, |sum: u32, byte| sum.rotate_right(1).wrapping_add(byte.into()))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// An entry of a directory that leads to clusters.
fn entry(kind: u8, extent: Extent) -> [u8; 32] {
    let mut entry = [0; 32];
    entry[0] = kind;
    put(&mut entry, 20, &extent.first.to_le_bytes());
    put(&mut entry, 24, &extent.bytes.to_le_bytes());
    entry
}

fn label(name: &str) -> [u8; 32] {
    let mut entry = [0; 32];
    let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    (entry[0], entry[1]) = (0x83, u8::try_from(units.len() / 2).unwrap_or(0));
    put(&mut entry, 2, &units);
    entry
}

/// The entries of a file or directory that lies in one piece.
fn named(name: &str, attributes: u16, extent: Extent) -> Vec<u8> {
    let units: Vec<u16> = name.encode_utf16().collect();
    let parts = units.chunks(15);
    let mut set = vec![0_u8; 32];
    (set[0], set[1]) = (0x85, u8::try_from(1 + parts.len()).unwrap_or(0));
    put(&mut set, 4, &attributes.to_le_bytes());
    for at in [8, 12, 16] {
        put(&mut set, at, &DATE.to_le_bytes());
    }
    let mut stream = entry(0xc0, extent);
    // It has clusters, and they follow one another: nothing of it stands in the table.
    (stream[1], stream[3]) = (3, u8::try_from(units.len()).unwrap_or(0));
    let upper = name.to_ascii_uppercase().encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    put(&mut stream, 4, &sum16(upper.into_iter()).to_le_bytes());
    put(&mut stream, 8, &extent.bytes.to_le_bytes());
    set.extend(stream);
    for part in parts {
        let mut entry = [0; 32];
        entry[0] = 0xc1;
        put(&mut entry, 2, &part.iter().flat_map(|unit| unit.to_le_bytes()).collect::<Vec<u8>>());
        set.extend(entry);
    }
    let sum = sum16(set.iter().enumerate().filter(|(at, _)| !matches!(at, 2 | 3)).map(|(_, byte)| *byte));
    put(&mut set, 2, &sum.to_le_bytes());
    set
}

/// Small letters of ASCII become capital ones, and the rest stays as it is.
fn upcase() -> Vec<u8> {
    let ascii = (0_u8..128).map(|letter| u16::from(letter.to_ascii_uppercase()));
    ascii.chain([0xffff, 0xff80]).flat_map(u16::to_le_bytes).collect()
}

/// Both boot regions.
fn boot(table_sectors: u32, clusters: u32, root: u32) -> Vec<u8> {
    let heap = TABLE + table_sectors;
    let mut region = vec![0_u8; 12 * SECTOR];
    put(&mut region, 0, b"\xeb\x76\x90EXFAT   ");
    put(&mut region, 72, &(u64::from(heap) + u64::from(clusters) * (CLUSTER / SECTOR) as u64).to_le_bytes());
    for (at, value) in [(80, TABLE), (84, table_sectors), (88, heap), (92, clusters), (96, root), (100, 0x1234_abcd)] {
        put(&mut region, at, &value.to_le_bytes());
    }
    put(&mut region, 104, &0x0100_u16.to_le_bytes());
    // Shifts of a sector and of a cluster in sectors, one table, the drive, and that nobody counted what is in use.
    put(&mut region, 108, &[9, 3, 1, 0x80, 0xff]);
    for sector in 0..9 {
        put(&mut region, sector * SECTOR + 510, &[0x55, 0xaa]);
    }
    let summed = region[..SUMMED * SECTOR].iter().enumerate().filter(|(at, _)| !matches!(at, 106 | 107 | 112));
    let sum = sum32(summed.map(|(_, byte)| *byte)).to_le_bytes().repeat(SECTOR / 4);
    put(&mut region, SUMMED * SECTOR, &sum);
    region.repeat(2)
}

/// Makes an image with the file `DIR/NAME`, which has the bytes of `from`.
pub fn image(path: &Path, name: &str, file: (&str, &str), from: &Path) -> Result<()> {
    let mut from = File::open(from).with_context(|| format!("opening {}", from.display()))?;
    let size = from.metadata().context("the size of a file")?.len();
    // The content, what describes it, and some that are free.
    let clusters = u32::try_from(size.div_ceil(CLUSTER as u64)).context("a file for 32 bits of clusters")? + 256;
    let table_sectors = ((clusters + FIRST) * 4).div_ceil(u32::try_from(SECTOR)?).next_multiple_of(8);
    let map = Extent { first: FIRST, bytes: u64::from(clusters).div_ceil(8) };
    let capitals = map.then(upcase().len() as u64);
    let root = capitals.then(CLUSTER as u64);
    let dir = root.then(CLUSTER as u64);
    let content = dir.then(size);

    let image = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let heap = u64::from(TABLE + table_sectors) * SECTOR as u64;
    image.set_len(heap + u64::from(clusters) * CLUSTER as u64)?;
    image.write_all_at(&boot(table_sectors, clusters, root.first), 0)?;
    let mut table = vec![0xffff_fff8_u32, u32::MAX];
    for extent in [map, capitals, root] {
        let last = extent.first + extent.clusters();
        table.extend((extent.first + 1..last).chain([u32::MAX]));
    }
    let table: Vec<u8> = table.into_iter().flat_map(u32::to_le_bytes).collect();
    image.write_all_at(&table, u64::from(TABLE) * SECTOR as u64)?;

    let at = |extent: Extent| heap + u64::from(extent.first - FIRST) * CLUSTER as u64;
    let mut used = vec![0_u8; usize::try_from(map.bytes)?];
    for cluster in 0..usize::try_from(content.first + content.clusters() - FIRST)? {
        used[cluster / 8] |= 1 << (cluster % 8);
    }
    image.write_all_at(&used, at(map))?;
    image.write_all_at(&upcase(), at(capitals))?;
    let mut table_of_capitals = entry(0x82, capitals);
    put(&mut table_of_capitals, 4, &sum32(upcase().into_iter()).to_le_bytes());
    let entries = [&label(name)[..], &entry(0x81, map), &table_of_capitals, &named(file.0, 0x10, dir)].concat();
    image.write_all_at(&entries, at(root))?;
    image.write_all_at(&named(file.1, 0x20, content), at(dir))?;
    let mut to = io::BufWriter::with_capacity(1 << 20, &image);
    io::Seek::seek(&mut to, io::SeekFrom::Start(at(content)))?;
    io::copy(&mut from, &mut to).context("copying the file")?;
    io::Write::flush(&mut to).context("copying the file")
}
