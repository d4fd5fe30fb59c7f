//! Disks of a VM: copy-on-write overlays over the kit's pool images.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::kit::{self, System};

/// What a disk is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bus {
    /// virtio-blk.
    #[default]
    Virtio,
    /// A disk of a virtio-scsi controller.
    Scsi,
    /// `NVMe`.
    Nvme,
    /// SATA behind an AHCI controller.
    Ahci,
    /// USB mass storage behind an xHCI controller.
    Usb,
    /// A SAS disk behind an LSI `MegaRAID` SAS 2108.
    Sas,
}

/// One disk image as a VM sees it.
#[derive(Debug, Clone)]
pub struct Disk {
    /// Image file.
    pub path: PathBuf,
    /// As QEMU calls it: `raw`, `qcow2`, `vmdk` or `vhdx`; `logged`: raw, and what is written to it stands in a log beside it (`.log`), in the order in which it was.
    pub format: &'static str,
    /// Serial number; udev names the disk after it.
    pub serial: String,
    /// What it is attached to.
    pub bus: Bus,
    /// The guest cannot write.
    pub read_only: bool,
}

impl Disk {
    /// An image that the guest may write.
    pub fn writable(path: &Path, format: &'static str, serial: &str) -> Self {
        Self { read_only: false, format, ..Self::read_only(path, serial) }
    }

    /// A raw image that the guest cannot write.
    pub fn read_only(path: &Path, serial: &str) -> Self {
        Self { path: path.to_owned(), format: "raw", serial: serial.to_owned(), bus: Bus::Virtio, read_only: true }
    }

    /// The same disk on another bus.
    #[must_use]
    pub fn on(mut self, bus: Bus) -> Self {
        self.bus = bus;
        self
    }

    /// The value of QEMU's `-blockdev` (also the arguments of QMP's `blockdev-add`).
    pub fn blockdev(&self) -> serde_json::Value {
        if self.format == "logged" {
            // The log is of what the guest says, its flushes included.
            let file = Self { format: "raw", serial: format!("{}-file", self.serial), ..self.clone() };
            return serde_json::json!({
                "driver": "blklogwrites", "node-name": self.node(), "file": file.blockdev(), "log": {
                    "driver": "file", "filename": self.path.with_extension("log"), "locking": "off", "cache": { "no-flush": true },
                },
            });
        }
        // Nothing here outlives the test, so the guest's flushes need not reach the platter.
        serde_json::json!({
            "driver": self.format, "node-name": self.node(), "read-only": self.read_only, "discard": "unmap",
            "cache": { "no-flush": true },
            "file": { "driver": "file", "filename": self.path, "discard": "unmap", "locking": "off", "cache": { "no-flush": true } },
        })
    }

    /// The name of the block node.
    pub fn node(&self) -> String {
        format!("node-{}", self.serial)
    }
}

/// A directory for the overlays of one test; gone when dropped.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
}

impl Scratch {
    /// A new empty one, in the kit's cache.
    pub fn new() -> Result<Self> {
        let parent = kit::cache_of_tests("run")?;
        Ok(Self { dir: TempDir::new_in(&parent).with_context(|| format!("a directory in {}", parent.display()))? })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A writable copy of the pool disk with this serial; the kit's image stays as it is.
    pub fn overlay(&self, system: &System, serial: &str) -> Result<Disk> {
        self.overlay_image(&system.pool_disk(serial), serial)
    }

    /// A writable copy of a raw image, which stays as it is.
    pub fn overlay_image(&self, image: &Path, serial: &str) -> Result<Disk> {
        let path = self.dir.path().join(format!("{serial}.qcow2"));
        kit::run(
            Command::new("qemu-img").args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(image).arg(&path),
        )?;
        Ok(Disk::writable(&path, "qcow2", serial))
    }

    /// A copy of the pool disk with this serial that several machines can have at the same time: it is raw, and all of
    /// them see what one writes.
    pub fn shared(&self, system: &System, serial: &str) -> Result<Disk> {
        let path = self.dir.path().join(format!("{serial}.img"));
        kit::run(Command::new("cp").arg("--sparse=always").arg(system.pool_disk(serial)).arg(&path))?;
        Ok(Disk::writable(&path, "raw", serial))
    }

    /// The view of a [`Self::shared`] disk that keeps to itself what its machine writes.
    pub fn overlay_of(&self, shared: &Disk) -> Result<Disk> {
        let path = self.dir.path().join(format!("{}.qcow2", shared.serial));
        kit::run(
            Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                .arg(&shared.path)
                .arg(&path),
        )?;
        Ok(Disk { path, format: "qcow2", ..shared.clone() })
    }

    /// Each partition of a pool disk as a disk of its own, with serials `SERIALp1`, `SERIALp2`...
    pub fn parts(&self, system: &System, serial: &str) -> Result<Vec<Disk>> {
        let image = system.pool_disk(serial);
        let mut head = vec![0; 1024 + 128 * 128];
        File::open(&image)
            .and_then(|file| file.read_exact_at(&mut head, 0))
            .with_context(|| format!("reading {}", image.display()))?;
        let parts: Vec<_> = partitions(&head).zip(1..).collect();
        ensure!(!parts.is_empty(), "no partitions on {}", image.display());
        let disk = |((offset, size), number): ((u64, u64), u32)| {
            let serial = format!("{serial}p{number}");
            let path = self.dir.path().join(format!("{serial}.img"));
            let part = serde_json::json!({
                "driver": "raw", "offset": offset, "size": size, "file": { "driver": "file", "filename": image },
            });
            kit::run(Command::new("qemu-img").args(["convert", "-O", "raw", &format!("json:{part}")]).arg(&path))?;
            Ok(Disk::writable(&path, "raw", &serial))
        };
        parts.into_iter().map(disk).collect()
    }

    /// An empty disk.
    pub fn blank(&self, serial: &str, bytes: u64) -> Result<Disk> {
        let path = self.dir.path().join(format!("{serial}.img"));
        File::create(&path)
            .and_then(|file| file.set_len(bytes))
            .with_context(|| format!("creating {}", path.display()))?;
        Ok(Disk::writable(&path, "raw", serial))
    }

    /// Writable copies of several pool disks.
    pub fn overlays(&self, system: &System, serials: &[&str]) -> Result<Vec<Disk>> {
        serials.iter().map(|serial| self.overlay(system, serial)).collect()
    }

    /// Overwrites vdev labels (0 to 3) on the first partition of an overlay.
    pub fn damage_labels(&self, system: &System, disk: &Disk, labels: &[u64]) -> Result<()> {
        let base = system.pool_disk(&disk.serial);
        let mut head = [0; 4096];
        File::open(&base)
            .and_then(|file| file.read_exact_at(&mut head, 0))
            .with_context(|| format!("reading {}", base.display()))?;
        let (start, size) = first_partition(&head).with_context(|| format!("{}", base.display()))?;
        let mut qemu_io = Command::new("qemu-io");
        qemu_io.args(["-f", "qcow2"]);
        for label in labels {
            let offset = start + label_offset(*label, size);
            qemu_io.arg("-c").arg(format!("write -P 0xa5 {offset} {LABEL_SIZE}"));
        }
        kit::run(qemu_io.arg(&disk.path)).map(drop)
    }
}

impl Scratch {
    /// A raw copy of a disk whose newest uberblock on the first partition leads nowhere: what it points at is overwritten.
    pub fn without_newest_state(&self, disk: &Disk) -> Result<Disk> {
        let path = self.dir.path().join(format!("{}-damaged.img", disk.serial));
        kit::run(Command::new("qemu-img").args(["convert", "-O", "raw"]).args([&disk.path, &path]))?;
        let file = File::options().read(true).write(true).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        let mut head = [0; 4096];
        file.read_exact_at(&mut head, 0)?;
        let (start, _) = first_partition(&head)?;
        let mut ring = vec![0; usize::try_from(LABEL_SIZE / 2)?];
        file.read_exact_at(&mut ring, start + LABEL_SIZE / 2)?;
        for offset in newest_blocks(&ring).context("no uberblock")? {
            // Blocks are counted from behind two labels and the room for a boot loader.
            file.write_all_at(&[0xa5; 4096], start + (4 << 20) + offset)?;
        }
        Ok(Disk { path, format: "raw", ..disk.clone() })
    }
}

/// Where the copies of the block lie that the newest uberblock of a ring points at, in bytes (`uberblock_phys_t`, `blkptr_t`).
fn newest_blocks(ring: &[u8]) -> Option<[u64; 3]> {
    const MAGIC: u64 = 0x00ba_b10c;
    let number = |slot: &[u8], at: usize| Some(u64::from_le_bytes(slot.get(at..at + 8)?.try_into().ok()?));
    let used = ring.chunks(1024).filter(|slot| number(slot, 0) == Some(MAGIC));
    let newest = used.max_by_key(|slot| (number(slot, 16), number(slot, 32)))?;
    let offset = |copy: usize| Some((number(newest, 48 + 16 * copy)? & (u64::MAX >> 1)) << 9);
    Some([offset(0)?, offset(1)?, offset(2)?])
}

/// Bytes of one vdev label.
const LABEL_SIZE: u64 = 256 * 1024;

/// Where label `index` begins on a device of `size` bytes: two at the front, two at the end of the size rounded down to
/// whole labels.
fn label_offset(index: u64, size: u64) -> u64 {
    let rounded = size / LABEL_SIZE * LABEL_SIZE;
    if index < 2 { index * LABEL_SIZE } else { rounded - (4 - index) * LABEL_SIZE }
}

/// Start and size in bytes of partition 1 of a GPT disk with 512-byte sectors, from the disk's first bytes.
pub(super) fn first_partition(head: &[u8]) -> Result<(u64, u64)> {
    partitions(head).next().context("no first partition")
}

/// Start and size of the partitions up to the first entry that is not used.
fn partitions(head: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let number = |range: &[u8]| range.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let entries = head.get(1024..).unwrap_or_default().chunks_exact(128);
    let sectors = entries.map(move |entry| [32..40, 40..48].map(|range| entry.get(range).map_or(0, number)));
    sectors
        .take_while(|[first, last]| *first > 0 && last > first)
        .map(|[first, last]| (first * 512, (last - first + 1) * 512))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_up_to_the_first_unused_entry() {
        let mut head = vec![0; 1024 + 3 * 128];
        for (entry, first, last) in [(0, 2048u64, 4095u64), (1, 4096, 6143)] {
            let at = 1024 + entry * 128;
            head[at + 32..at + 40].copy_from_slice(&first.to_le_bytes());
            head[at + 40..at + 48].copy_from_slice(&last.to_le_bytes());
        }
        assert_eq!(partitions(&head).collect::<Vec<_>>(), [(1 << 20, 1 << 20), (2 << 20, 1 << 20)]);
        assert_eq!(first_partition(&head).unwrap(), (1 << 20, 1 << 20));
        assert!(first_partition(&head[..1024]).is_err());
    }

    #[test]
    fn the_newest_uberblock_of_a_ring() {
        let mut ring = vec![0; 8 * 1024];
        for (slot, txg) in [(1, 7u64), (4, 9), (6, 8)] {
            for (at, number) in [(0, 0x00ba_b10c), (16, txg), (48, txg * 2), (64, txg * 3), (80, 1 << 63 | txg)] {
                ring[slot * 1024 + at..][..8].copy_from_slice(&u64::to_le_bytes(number));
            }
        }
        assert_eq!(newest_blocks(&ring), Some([18 << 9, 27 << 9, 9 << 9]));
        assert_eq!(newest_blocks(&[0; 4096]), None);
    }

    #[test]
    fn labels_lie_at_both_ends() {
        let size = 10 * LABEL_SIZE + 4096;
        assert_eq!([0, 1, 2, 3].map(|i| label_offset(i, size) / LABEL_SIZE), [0, 1, 8, 9]);
    }
}
