//! The block devices, and what is on each.

use crate::devices::block;
use crate::devices::probe::superblock;
use crate::sys::System;
use crate::zfs::label::read_labels;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Kernel sectors in sysfs, whatever the disk's own.
const SECTOR: u64 = 512;

/// One device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) node: PathBuf,
    pub(super) bytes: u64,
    /// Model and serial number, for whole disks.
    pub(super) identity: String,
    /// What is on it.
    pub(super) kind: String,
}

/// What the probe for labels does not know: what it is, where, which bytes.
const SIGNATURES: [(&str, u64, &[u8]); 3] =
    [("squashfs", 0, b"hsqs"), ("LUKS", 0, b"LUKS\xba\xbe"), ("GPT", 512, b"EFI PART")];
/// The file systems that a log can be written to.
pub(super) const WRITABLE: [&str; 7] = ["ext4", "vfat", "exfat", "ntfs3", "xfs", "btrfs", "f2fs"];

fn read_text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// Model and serial number as the disk's driver tells them.
fn identity(dir: &Path) -> String {
    let model = read_text(&dir.join("device/model"));
    let serial = ["serial", "device/serial"].iter().find_map(|name| read_text(&dir.join(name)));
    // SCSI: vital product data, four bytes of header before the text.
    let vpd = || fs::read(dir.join("device/vpd_pg80")).ok();
    let serial = serial.or_else(|| vpd().and_then(|b| Some(String::from_utf8_lossy(b.get(4..)?).trim().to_owned())));
    let mut out = model.unwrap_or_default();
    if let Some(serial) = serial {
        let _ = write!(out, "{}serial {serial}", if out.is_empty() { "" } else { ", " });
    }
    out
}

/// What is on a device; empty if nothing known is.
pub(super) fn kind(system: &dyn System, node: &Path, bytes: u64) -> String {
    let has = |at: u64, magic: &[u8]| {
        let mut buffer = vec![0; magic.len()];
        at + magic.len() as u64 <= bytes
            && crate::sys::device::read_at(node, at, &mut buffer).is_ok()
            && buffer == magic
    };
    let mut read = |offset: u64, buf: &mut [u8]| crate::sys::device::read_at(node, offset, buf);
    if let Ok(label) = read_labels(&mut read, bytes) {
        let name = label.config.text("name").unwrap_or_default().into_owned();
        return format!("zfs, pool {name}");
    }
    if let Ok(Some(found)) = superblock(&mut read) {
        return found.kind.to_owned();
    }
    SIGNATURES.iter().find(|(_, at, magic)| has(*at, magic)).map_or_else(String::new, |(name, ..)| (*name).to_owned())
}

/// All that hold something: no empty drives, RAM disks or unused loop devices.
pub(super) fn all(system: &dyn System) -> Vec<Device> {
    let class = Path::new("/sys/class/block");
    let mut devices = Vec::new();
    for name in block::names(Path::new("/sys")) {
        let dir = class.join(&name);
        let sectors = read_text(&dir.join("size")).and_then(|s| s.parse::<u64>().ok()).unwrap_or(0);
        if sectors == 0 || name.starts_with("ram") {
            continue;
        }
        let node = block::node(Path::new("/dev"), &name);
        let bytes = sectors.saturating_mul(SECTOR);
        let identity = if dir.join("partition").exists() { String::new() } else { identity(&dir) };
        let kind = kind(system, &node, bytes);
        devices.push(Device { node, bytes, identity, kind });
    }
    devices
}

/// Size for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

/// The list.
pub(super) fn list(devices: &[Device]) -> String {
    let mut out = String::new();
    for device in devices {
        let parts = [device.kind.as_str(), device.identity.as_str()];
        let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        let _ = writeln!(out, "{:<16} {:>9}  {}", device.node.display(), size(device.bytes), parts.join("  "));
    }
    out
}

/// The list of all devices.
pub(super) fn text(system: &dyn System) -> String {
    let devices = all(system);
    if devices.is_empty() {
        return "no block device at all: is the driver of the disk controller in the image?\n".to_owned();
    }
    list(&devices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::linux::Linux;
    use std::process::Command;

    #[test]
    fn file_systems_are_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        for (kind_of, program) in [("ext4", "mkfs.ext4"), ("vfat", "mkfs.vfat"), ("swap", "mkswap")] {
            let file = fs::File::create(&path).unwrap();
            file.set_len(8 << 20).unwrap();
            match Command::new(program).arg(&path).output() {
                Ok(out) => assert!(out.status.success(), "{out:?}"),
                Err(_) => continue,
            }
            assert_eq!(kind(&Linux::new(), &path, 8 << 20), kind_of);
        }
        for (kind_of, at, magic) in SIGNATURES {
            let mut bytes = vec![0; 1 << 20];
            let at = usize::try_from(at).unwrap();
            bytes[at..at + magic.len()].copy_from_slice(magic);
            fs::write(&path, bytes).unwrap();
            assert_eq!(kind(&Linux::new(), &path, 1 << 20), kind_of);
        }
        fs::write(&path, vec![0; 1 << 20]).unwrap();
        assert_eq!(kind(&Linux::new(), &path, 1 << 20), "");
    }
}
