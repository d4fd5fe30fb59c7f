//! Roots that are no datasets, as `kit/plain.sh` makes them: a small root in a file system of each type, on a whole disk and in
//! the first partition of a GPT. The host name of each is its type.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::kit;
use crate::vm::{Disk, Scratch};

/// One type of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain {
    /// As mount(2) calls it, and the host name in the root.
    pub kind: &'static str,
    /// As blkid calls it; a squashfs has none.
    pub uuid: Option<&'static str>,
    /// Volume label, where it has one.
    pub label: Option<&'static str>,
    /// UUID of the partition, on a partitioned disk.
    pub partuuid: &'static str,
    /// Name of the partition, on a partitioned disk.
    pub partlabel: &'static str,
}

/// What differs between the types: two digits in all of its identifiers.
macro_rules! plain {
    ($kind:literal, $number:literal, $uuid:expr, $label:expr) => {
        Plain {
            kind: $kind,
            uuid: $uuid,
            label: $label,
            partuuid: concat!("b1a1b1a1-1111-4000-8000-0000000000", $number),
            partlabel: concat!("plain-", $kind),
        }
    };
}

/// ext4.
pub const EXT4: Plain = plain!("ext4", "01", Some("b1a1b1a1-0000-4000-8000-000000000001"), Some("PEXT4"));
/// XFS.
pub const XFS: Plain = plain!("xfs", "02", Some("b1a1b1a1-0000-4000-8000-000000000002"), Some("PXFS"));
/// btrfs, without subvolumes.
pub const BTRFS: Plain = plain!("btrfs", "03", Some("b1a1b1a1-0000-4000-8000-000000000003"), Some("PBTRFS"));
/// F2FS.
pub const F2FS: Plain = plain!("f2fs", "04", Some("b1a1b1a1-0000-4000-8000-000000000004"), Some("PF2FS"));
/// vfat: names of eight and three characters and longer ones.
pub const VFAT: Plain = plain!("vfat", "05", Some("B1A1-0005"), Some("PVFAT"));
/// squashfs, which has neither UUID nor label.
pub const SQUASHFS: Plain = plain!("squashfs", "06", None, None);
/// EROFS.
pub const EROFS: Plain = plain!("erofs", "07", Some("b1a1b1a1-0000-4000-8000-000000000007"), None);
/// ISO 9660 with Rock Ridge; its UUID is a date.
pub const ISO9660: Plain = plain!("iso9660", "08", Some("2026-01-02-03-04-05-00"), Some("PISO9660"));

/// All types.
pub const ALL: [Plain; 8] = [EXT4, XFS, BTRFS, F2FS, VFAT, SQUASHFS, EROFS, ISO9660];

/// The serial number of the disk with a plain root.
pub const SERIAL: &str = "plain0";

/// An image of `kit/plain.sh`, without its ending. It is shared by all tests: never write to it.
pub fn image(name: &str) -> Result<PathBuf> {
    let path = kit::cache()?.join("plain").join(format!("{name}.img"));
    ensure!(path.exists(), "{} is missing; run: make kit", path.display());
    Ok(path)
}

impl Plain {
    /// A writable copy of the whole disk with this file system.
    pub fn disk(&self, scratch: &Scratch) -> Result<Disk> {
        scratch.overlay_image(&image(self.kind)?, SERIAL)
    }

    /// A writable copy of the disk with this file system in its first partition.
    pub fn partitioned(&self, scratch: &Scratch) -> Result<Disk> {
        scratch.overlay_image(&image(&format!("{}-gpt", self.kind))?, SERIAL)
    }

    /// `UUID=...`
    pub fn by_uuid(&self) -> String {
        format!("UUID={}", self.uuid.unwrap_or_default())
    }

    /// `LABEL=...`
    pub fn by_label(&self) -> String {
        format!("LABEL={}", self.label.unwrap_or_default())
    }

    /// `PARTUUID=...`
    pub fn by_partuuid(&self) -> String {
        format!("PARTUUID={}", self.partuuid)
    }

    /// `PARTLABEL=...`
    pub fn by_partlabel(&self) -> String {
        format!("PARTLABEL={}", self.partlabel)
    }
}

/// A disk with the whole-disk ext4 after these requests of `debugfs -w`: damaged, usually.
pub fn damaged(scratch: &Scratch, requests: &[&str]) -> Result<Disk> {
    let path = scratch.path().join("damaged.img");
    kit::run(Command::new("cp").arg("--sparse=always").arg(image(EXT4.kind)?).arg(&path))?;
    for request in requests {
        kit::run(Command::new("debugfs").args(["-w", "-R", request]).arg(&path))?;
    }
    Ok(Disk::writable(&path, "raw", SERIAL))
}

/// Whether the superblock of a [`damaged`] disk says that the file system is clean.
pub fn is_clean(disk: &Disk) -> Result<bool> {
    let said = kit::run(Command::new("dumpe2fs").arg("-h").arg(&disk.path))?;
    let state = said.lines().find_map(|line| line.strip_prefix("Filesystem state:")).map(str::trim);
    Ok(state == Some("clean"))
}
