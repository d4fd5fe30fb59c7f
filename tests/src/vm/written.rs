//! Whether a guest wrote to a disk: what the image and the vdev labels say once the machine has ended.

use std::fs;
use std::io;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use taproot_init::zfs::label::{Label, PoolState, label_offsets, read_labels};

use super::disk::{Disk, Scratch, first_partition};
use crate::kit;

/// Where the ring of uberblocks begins in a label, and how long it is (`vdev_impl.h`).
const RING_START: u64 = 128 * 1024;
const RING_SIZE: u64 = 128 * 1024;
/// The smallest slot of the ring; larger ones begin at multiples of it (`VDEV_UBERBLOCK_SHIFT`).
const SLOT: usize = 1024;
/// `UBERBLOCK_MAGIC`.
const MAGIC: u64 = 0x00ba_b10c;

impl Scratch {
    /// The newest transaction group in the uberblocks of the first partition: it grows with everything that is written to
    /// the pool. Only after the machine has ended.
    pub fn newest_txg(&self, disk: &Disk) -> Result<u64> {
        let (start, size) = self.partition(disk)?;
        let offsets = label_offsets(size).context("a partition too small for a vdev")?;
        let mut newest = None;
        for label in offsets {
            let ring = self.read(disk, start + label + RING_START, RING_SIZE)?;
            newest = newest.max(ring.chunks(SLOT).filter_map(uberblock_txg).max());
        }
        newest.with_context(|| format!("{}: no uberblock in any label", disk.path.display()))
    }

    /// The transaction group of the configuration in the labels of the first partition: it grows when the pool's
    /// configuration is written, as an import for writing does. Only after the machine has ended.
    pub fn label_txg(&self, disk: &Disk) -> Result<u64> {
        self.label(disk)?.txg().with_context(|| format!("{}: a label without txg", disk.path.display()))
    }

    /// Whether the pool on the first partition was exported. Only after the machine has ended.
    pub fn exported(&self, disk: &Disk) -> Result<bool> {
        Ok(self.label(disk)?.state() == PoolState::Exported)
    }

    fn label(&self, disk: &Disk) -> Result<Label> {
        let (start, size) = self.partition(disk)?;
        let mut read = |offset: u64, buffer: &mut [u8]| {
            let bytes = self.read(disk, start + offset, buffer.len() as u64).map_err(io::Error::other)?;
            buffer.copy_from_slice(&bytes);
            Ok(())
        };
        read_labels(&mut read, size).with_context(|| format!("{}", disk.path.display()))
    }

    /// True if the guest never wrote to the disk, not even the same bytes: the overlay is as empty as it was made.
    pub fn untouched(&self, disk: &Disk) -> Result<bool> {
        ensure!(disk.format == "qcow2", "{}: expected an overlay, found {}", disk.path.display(), disk.format);
        let map = kit::run(Command::new("qemu-img").args(["map", "-f", "qcow2", "--output=json"]).arg(&disk.path))?;
        let map: serde_json::Value = serde_json::from_str(&map).context("what qemu-img map says")?;
        let extents = map.as_array().context("qemu-img map: expected a list")?;
        ensure!(!extents.is_empty(), "{}: qemu-img map shows nothing at all", disk.path.display());
        // Depth 0 is the overlay, deeper is what it was made over.
        Ok(extents.iter().all(|extent| extent.get("depth").and_then(serde_json::Value::as_u64).is_some_and(|d| d > 0)))
    }

    fn partition(&self, disk: &Disk) -> Result<(u64, u64)> {
        first_partition(&self.read(disk, 0, 4096)?).with_context(|| format!("{}", disk.path.display()))
    }

    /// Bytes of a disk image of any format; whole sectors only.
    fn read(&self, disk: &Disk, offset: u64, length: u64) -> Result<Vec<u8>> {
        let output = self.path().join("piece");
        let image = serde_json::json!({
            "driver": "raw", "offset": offset, "size": length,
            "file": { "driver": disk.format, "file": { "driver": "file", "filename": disk.path } },
        });
        kit::run(Command::new("qemu-img").args(["convert", "-O", "raw", &format!("json:{image}")]).arg(&output))?;
        let bytes = fs::read(&output).with_context(|| format!("reading {}", output.display()))?;
        ensure!(
            bytes.len() as u64 == length,
            "{}: expected {length} bytes at {offset}, found {}",
            disk.path.display(),
            bytes.len()
        );
        Ok(bytes)
    }
}

/// The transaction group of an uberblock, if there is one at the beginning of this slot; the kit's writers are all
/// little-endian.
fn uberblock_txg(slot: &[u8]) -> Option<u64> {
    let word = |index: usize| Some(u64::from_le_bytes(slot.get(index * 8..index * 8 + 8)?.try_into().ok()?));
    (word(0)? == MAGIC).then(|| word(2)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uberblocks_are_known_by_their_magic() {
        let mut slot = [0; SLOT];
        assert_eq!(uberblock_txg(&slot), None);
        slot[..4].copy_from_slice(&[0x0c, 0xb1, 0xba, 0]);
        slot[16] = 42;
        assert_eq!(uberblock_txg(&slot), Some(42));
        assert_eq!(uberblock_txg(&slot[..10]), None);
    }
}
