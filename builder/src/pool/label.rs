//! The labels: what the pool is, where its root is; written last.

use taproot_init::zfs::label::{self, REGION_SIZE, REGION_START, label_offsets};
use taproot_init::zfs::nvlist::{NvList, Value};

use super::block::{BIRTH, Bp};
use super::bytes::{index, put, put64};
use super::features::Features;
use super::layout::Geometry;
use super::store::Device;
use super::{Compatibility, PoolError};

/// The pool's format: with features.
const VERSION: u64 = 5000;
/// Exported: whoever comes first may import it without force.
const EXPORTED: u64 = 1;
/// Transaction groups behind the last one in which blocks were born: the kernel would read what was born in the last four again.
const LATER: u64 = 4;

const UBERBLOCK_MAGIC: u64 = 0x00ba_b10c;
const MULTIHOST_MAGIC: u64 = 0xa11c_ea11;
/// The ring of uberblocks, from the label's start.
const RING_START: u64 = 128 << 10;
const RING_SIZE: u64 = 128 << 10;
/// The place of what the boot loader is told.
const BOOT_START: u64 = 8 << 10;
const BOOT_SIZE: usize = 8 << 10;

/// Name of a partition of the disk that is the `nth` of a mirror; of the first, as that of a disk that is none, it is the plain one.
pub fn partition_name(plain: &str, nth: usize) -> String {
    if nth == 0 { plain.to_owned() } else { format!("{plain}-{}", nth + 1) }
}

/// What names the pool and its disks, one or several that are a mirror.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) pool_guid: u64,
    pub(super) disk_guids: Vec<u64>,
    /// Of the mirror, or of the one disk.
    pub(super) top_guid: u64,
    /// The transaction group in which the last blocks were born.
    pub(super) birth: u64,
    pub(super) compatibility: Compatibility,
    pub(super) geometry: Geometry,
    /// The object that lists the metaslabs.
    pub(super) metaslab_array: u64,
    /// Seconds since 1970.
    pub(super) time: u64,
}

impl Identity {
    fn disk(id: u64, guid: u64) -> NvList {
        let number = Value::U64;
        [
            ("type", Value::text("disk")),
            ("id", number(id)),
            ("guid", number(guid)),
            // Whoever imports the pool puts the real one here.
            ("path", Value::text(format!("/dev/disk/by-partlabel/{}", partition_name("zfs", index(id))))),
            ("whole_disk", number(0)),
            ("create_txg", number(BIRTH)),
        ]
        .into_iter()
        .collect()
    }

    /// The one vdev at the top.
    fn top(&self) -> NvList {
        let number = Value::U64;
        let mut top = if let [disk] = &*self.disk_guids {
            Self::disk(0, *disk)
        } else {
            let disks = (0..).zip(&self.disk_guids).map(|(id, guid)| Self::disk(id, *guid)).collect();
            [
                ("type", Value::text("mirror")),
                ("id", number(0)),
                ("guid", number(self.top_guid)),
                ("create_txg", number(BIRTH)),
                ("children", Value::ListArray(disks)),
            ]
            .into_iter()
            .collect()
        };
        for (name, value) in [
            ("metaslab_array", number(self.metaslab_array)),
            ("metaslab_shift", number(u64::from(self.geometry.metaslab_shift))),
            ("ashift", number(u64::from(self.geometry.ashift))),
            ("asize", number(self.geometry.asize)),
            ("is_log", number(0)),
        ] {
            top.set(name, value);
        }
        top
    }

    fn common(&self) -> NvList {
        let features = Features::in_label().map(|guid| (guid, Value::Boolean));
        [
            ("version", Value::U64(VERSION)),
            ("name", Value::text(&self.name)),
            ("state", Value::U64(EXPORTED)),
            ("txg", Value::U64(self.birth)),
            ("pool_guid", Value::U64(self.pool_guid)),
            ("errata", Value::U64(0)),
            ("compatibility", Value::text(self.compatibility.property())),
            ("vdev_children", Value::U64(1)),
            ("features_for_read", Value::List(features.into_iter().collect())),
        ]
        .into_iter()
        .collect()
    }

    /// The configuration that a disk carries.
    fn label(&self, disk: u64) -> NvList {
        let mut config = self.common();
        config.set("top_guid", Value::U64(self.top_guid));
        config.set("guid", Value::U64(disk));
        config.set("vdev_tree", Value::List(self.top()));
        config
    }

    /// The configuration in the pool: all disks.
    pub(super) fn config(&self) -> NvList {
        let root: NvList = [
            ("type", Value::text("root")),
            ("id", Value::U64(0)),
            ("guid", Value::U64(self.pool_guid)),
            ("create_txg", Value::U64(BIRTH)),
            ("children", Value::ListArray(vec![self.top()])),
        ]
        .into_iter()
        .collect();
        let mut config = self.common();
        config.set("vdev_tree", Value::List(root));
        config
    }

    fn uberblock(&self, root: &Bp, size: u64) -> Vec<u8> {
        let mut block = vec![0; super::bytes::index(size) - label::TRAILER];
        let mut guids = self.disk_guids.iter().fold(self.pool_guid, |sum, guid| sum.wrapping_add(*guid));
        if self.disk_guids.len() > 1 {
            guids = guids.wrapping_add(self.top_guid);
        }
        for (at, word) in [(0, UBERBLOCK_MAGIC), (8, VERSION), (16, self.birth + LATER), (24, guids), (32, self.time)] {
            put64(&mut block, at, word);
        }
        put(&mut block, 40, &root.0);
        put64(&mut block, 168, VERSION);
        put64(&mut block, 176, MULTIHOST_MAGIC);
        block
    }

    /// Makes a pool of what was written and synced: configuration first, then the uberblocks, without which there is no pool.
    pub(super) fn write(&self, disks: &[Device<'_>], root: &Bp) -> Result<(), PoolError> {
        let seal = |data: Vec<u8>, size: usize, offset: u64| {
            label::seal(data, size, offset).ok_or_else(|| PoolError::TooLarge("the pool's configuration".into()))
        };
        let offsets = label_offsets(self.geometry.size).unwrap_or_default();
        for (out, guid) in disks.iter().zip(&self.disk_guids) {
            let config = self.label(*guid).encode_xdr();
            for offset in offsets {
                let (boot, region) = (offset + BOOT_START, offset + REGION_START);
                out.write_all_at(&seal(Vec::new(), BOOT_SIZE, boot)?, boot)?;
                out.write_all_at(&seal(config.clone(), REGION_SIZE, region)?, region)?;
            }
            out.file.sync_all()?;
        }
        let size = (1_u64 << self.geometry.ashift).clamp(1024, 8192);
        let slot = (self.birth + LATER) % (RING_SIZE / size);
        for out in disks {
            for offset in offsets {
                let at = offset + RING_START + slot * size;
                out.write_all_at(&seal(self.uberblock(root, size), super::bytes::index(size), at)?, at)?;
            }
            out.file.sync_all()?;
        }
        Ok(())
    }
}
