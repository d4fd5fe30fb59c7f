//! The EFI system partition: a FAT32 with the boot loader's files. All times in it are FAT's first, so the same files give the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use hadris_fat::sync::format::{FatFormatOptions, FatTypeSelection, FatVolumeFormatter, SectorSize};
use hadris_fat::sync::{FatDir, FatVolume, FatVolumeWriteExt as _};
use hadris_fat::time::EpochTimeProvider;

use super::layout::{LEAST_ESP, Layout, Partition};
use super::window::Window;
use crate::progress::megabytes;

/// The volume's label.
const LABEL: &str = "ESP";
/// Bytes of a cluster of a volume that has enough of them to be a FAT32.
const CLUSTER: u64 = 4096;
/// From so many bytes on.
const ENOUGH: u64 = 260 << 20;
/// 1980-01-01 as FAT has it.
const FIRST_DAY: u16 = 1 << 5 | 1;

static CLOCK: EpochTimeProvider = EpochTimeProvider;

/// Files by their paths on the partition, without a slash in front.
pub type Files<Content = Vec<u8>> = BTreeMap<String, Content>;

/// Some of these, whose content is not copied.
pub type Lent<'f> = Files<&'f [u8]>;

/// Files of this machine that are copied, by their paths on the partition.
pub type Copies = BTreeMap<String, PathBuf>;

/// What FAT has no room for in one file.
pub const TOO_LARGE: u64 = 1 << 32;
/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// Bytes that these take.
pub fn bytes_of(copies: &Copies) -> Result<u64> {
    Ok(sizes(copies)?.into_iter().map(|size| size + CLUSTER).sum())
}

/// How large they are.
pub fn sizes(copies: &Copies) -> Result<Vec<u64>> {
    let size = |from: &PathBuf| from.metadata().with_context(|| format!("{}: looking at it", from.display()));
    copies.values().map(|from| Ok(size(from)?.len())).collect()
}

/// Bytes of a partition that these files, with so many more, have room in.
pub fn room_for(files: &Files<impl AsRef<[u8]>>, more: u64) -> u64 {
    (packed(files, more) + (16 << 20)).max(ENOUGH)
}

/// The fewest that these files have room in: nothing is ever added to them.
pub fn least_for(files: &Files<impl AsRef<[u8]>>) -> u64 {
    (packed(files, 0) + (1 << 20)).max(LEAST_ESP)
}

fn packed(files: &Files<impl AsRef<[u8]>>, more: u64) -> u64 {
    let needed = bytes(files) + more;
    needed + needed / 32
}

fn bytes(files: &Files<impl AsRef<[u8]>>) -> u64 {
    files.values().map(|content| content.as_ref().len() as u64 + CLUSTER).sum()
}

/// Makes the file system and writes the files.
pub fn write(file: &File, layout: &Layout, partition: &Partition, files: &Files<impl AsRef<[u8]>>) -> Result<()> {
    write_with(file, layout, partition, files, &Copies::new())
}

/// The same with files that are too large for memory.
pub fn write_with(
    file: &File,
    layout: &Layout,
    partition: &Partition,
    files: &Files<impl AsRef<[u8]>>,
    copies: &Copies,
) -> Result<()> {
    let needed = bytes(files) + bytes_of(copies)?;
    // The tables take less than a fiftieth.
    let room = partition.size - partition.size / 50;
    if needed > room {
        bail!(
            "the EFI system partition has {} and kernels and images need {}: choose a larger --esp",
            megabytes(room),
            megabytes(needed)
        );
    }
    let sector = u32::try_from(layout.sector).unwrap_or(512);
    let cluster = if partition.size >= ENOUGH { CLUSTER } else { layout.sector };
    let options = FatFormatOptions::new(partition.size)
        .volume_label(LABEL)
        .fat_type(FatTypeSelection::Fat32)
        .sector_size(if sector == 4096 { SectorSize::S4096 } else { SectorSize::S512 })
        .sectors_per_cluster(u8::try_from(cluster / layout.sector).unwrap_or(1))
        .hidden_sectors(u32::try_from(partition.start / layout.sector).unwrap_or(0))
        .volume_id(layout.serial());
    let window = || Window::new(file, partition.start, partition.size);
    let failed = |what: &str| format!("{what} on the EFI system partition");
    let made = FatVolumeFormatter::format(window(), options).map_err(|error| anyhow!("{error}"));
    drop(made.with_context(|| failed("making the file system"))?);
    let volume = FatVolume::builder(window()).time_provider(&CLOCK).open();
    let volume = volume.map_err(|error| anyhow!("{error}")).with_context(|| failed("opening the file system"))?;
    for (path, content) in files {
        put(&volume, path, content.as_ref()).with_context(|| failed(&format!("writing {path}")))?;
    }
    for (path, source) in copies {
        copy(&volume, path, source).with_context(|| failed(&format!("writing {path}")))?;
    }
    volume.sync().map_err(|error| anyhow!("{error}")).with_context(|| failed("syncing"))?;
    undated(file, partition).with_context(|| failed("writing the label"))
}

fn put<'a>(volume: &'a FatVolume<Window<'a>>, path: &str, content: &[u8]) -> Result<()> {
    pour(volume, path, &mut &*content)
}

fn copy<'a>(volume: &'a FatVolume<Window<'a>>, path: &str, source: &Path) -> Result<()> {
    let mut source = File::open(source).with_context(|| format!("{}: opening it", source.display()))?;
    pour(volume, path, &mut source)
}

fn pour<'a>(volume: &'a FatVolume<Window<'a>>, path: &str, content: &mut dyn io::Read) -> Result<()> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut dir = volume.root_dir();
    for part in above.split('/').filter(|part| !part.is_empty()) {
        dir = directory(volume, &dir, part)?;
    }
    let entry = volume.create_file(&dir, name).map_err(|error| anyhow!("{error}"))?;
    let mut piece = Vec::new();
    let mut next = |piece: &mut Vec<u8>| {
        piece.clear();
        content.take(PIECE as u64).read_to_end(piece)
    };
    if next(&mut piece)? == 0 {
        return Ok(());
    }
    let mut writer = volume.write_file(&entry).map_err(|error| anyhow!("{error}"))?;
    while !piece.is_empty() {
        let written = writer.write(&piece).map_err(|error| anyhow!("{error}"))?;
        ensure!(written == piece.len(), "{} of {} bytes were written", written, piece.len());
        next(&mut piece)?;
    }
    writer.finish().map_err(|error| anyhow!("{error}"))
}

fn directory<'a>(
    volume: &'a FatVolume<Window<'a>>,
    dir: &FatDir<'a, Window<'a>>,
    name: &str,
) -> Result<FatDir<'a, Window<'a>>> {
    match dir.find(name).map_err(|error| anyhow!("{error}"))? {
        Some(entry) => dir.open_entry(&entry).map_err(|error| anyhow!("{error}")),
        None => volume.create_dir(dir, name).map_err(|error| anyhow!("{error}")),
    }
}

/// The label's entry, the first one of the root directory, has the time of day from the library.
fn undated(file: &File, partition: &Partition) -> io::Result<()> {
    let mut boot = [0; 512];
    file.read_exact_at(&mut boot, partition.start)?;
    let half = |at: usize| {
        let bytes = boot.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
        u64::from(bytes.map_or(0, u16::from_le_bytes))
    };
    let word = |at: usize| half(at) | half(at + 2) << 16;
    let (sector, cluster) = (half(11), u64::from(boot.get(13).copied().unwrap_or(0)));
    let data = half(14) + u64::from(boot.get(16).copied().unwrap_or(0)) * word(36);
    let root = partition.start + (data + word(44).saturating_sub(2) * cluster) * sector;
    let mut entry = [0; 32];
    file.read_exact_at(&mut entry, root)?;
    if entry.get(11) != Some(&0x08) {
        return Err(io::Error::other("expected the volume's label as the first entry of the root directory"));
    }
    let [low, high] = FIRST_DAY.to_le_bytes();
    // Tenths, time and day of making; day of access; time and day of change.
    file.write_all_at(&[0, 0, 0, low, high, low, high], root + 13)?;
    file.write_all_at(&[0, 0, low, high], root + 22)
}
