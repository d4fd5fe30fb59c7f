//! Which disk it is: by what stays the same in another kernel, where names do not.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use taproot_init::devices::block;
use taproot_init::hex::hex;

/// What a disk is known by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Serial number.
    pub(super) serial: Option<String>,
    /// World wide name.
    pub(super) wwid: Option<String>,
    /// What its partition table is known by: the GUID of a GPT, the signature of an MBR.
    pub(super) table: Option<String>,
    /// Size in bytes.
    pub(super) bytes: u64,
    /// Bytes of a sector.
    pub(super) sector: u64,
}

impl Identity {
    /// Whether there is anything to tell it from another disk of its size by.
    pub(super) fn is_known(&self) -> bool {
        self.serial.is_some() || self.wwid.is_some() || self.table.is_some()
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes)?;
        for (name, value) in [("serial", &self.serial), ("wwid", &self.wwid), ("partition table", &self.table)] {
            if let Some(value) = value {
                write!(f, ", {name} {value}")?;
            }
        }
        Ok(())
    }
}

fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The serial number in SCSI's page 0x80: four bytes, then the number.
fn page_80(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(bytes.get(4..)?).trim_matches(['\0', ' ']).to_owned();
    (!text.is_empty()).then_some(text)
}

/// What the first sectors are known by.
pub(super) fn table(head: &[u8], sector: usize) -> Option<String> {
    let header = head.get(sector..sector + 72)?;
    if header.starts_with(b"EFI PART") {
        return header.get(56..72).map(hex);
    }
    let signature = head.get(440..444)?;
    (head.get(510..512)? == [0x55, 0xaa] && signature != [0; 4]).then(|| hex(signature))
}

/// Looks at a disk; `sys` is `/sys`, `dev` is `/dev`.
pub(super) fn look(sys: &Path, dev: &Path, name: &str) -> io::Result<Identity> {
    let dir = sys.join("class/block").join(name);
    let sector = block::number(&dir.join("queue/logical_block_size")).max(512);
    let mut head = vec![0; 8192];
    let table = match File::open(block::node(dev, name))?.read_exact_at(&mut head, 0) {
        Ok(()) => table(&head, usize::try_from(sector).unwrap_or(512)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
        Err(error) => return Err(error),
    };
    let serial = text(&dir.join("serial")).or_else(|| text(&dir.join("device/serial")));
    Ok(Identity {
        serial: serial.or_else(|| page_80(&dir.join("device/vpd_pg80"))),
        wwid: text(&dir.join("wwid")).or_else(|| text(&dir.join("device/wwid"))),
        table,
        bytes: block::number(&dir.join("size")).saturating_mul(512),
        sector,
    })
}

/// The disks that can be written to, without partitions and what is made of others.
pub(super) fn all(sys: &Path, dev: &Path) -> Vec<(String, Identity)> {
    let real = |name: &String| {
        let dir = sys.join("class/block").join(name);
        let place = dir.canonicalize().unwrap_or_default();
        !place.join("partition").exists()
            && !place.components().any(|part| part.as_os_str() == "virtual")
            && block::number(&dir.join("size")) > 0
    };
    let names = block::names(sys).into_iter().filter(real);
    names.filter_map(|name| look(sys, dev, &name).ok().map(|identity| (name, identity))).collect()
}

/// The one disk that is it: everything that was known is the same.
pub(super) fn find<'a>(wanted: &Identity, seen: &'a [(String, Identity)]) -> Result<&'a str, String> {
    let found: Vec<&str> = seen.iter().filter(|(_, disk)| disk == wanted).map(|(name, _)| name.as_str()).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => {
            let seen: Vec<String> = seen.iter().map(|(name, disk)| format!("{name} ({disk})")).collect();
            Err(format!(
                "expected the disk of {wanted}, found {}",
                if seen.is_empty() { "none".to_owned() } else { seen.join("; ") }
            ))
        }
        several => {
            Err(format!("expected one disk of {wanted}, found {}: they cannot be told apart", several.join(", ")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn disk(serial: Option<&str>, table: Option<&str>, bytes: u64) -> Identity {
        Identity { serial: serial.map(Into::into), table: table.map(Into::into), bytes, sector: 512, wwid: None }
    }

    #[test]
    fn the_disk_is_the_one_that_is_all_the_same() {
        let seen = [
            ("vda".to_owned(), disk(Some("A"), Some("t"), 10)),
            ("vdb".to_owned(), disk(Some("B"), Some("t"), 10)),
            ("vdc".to_owned(), disk(None, Some("u"), 10)),
            ("vdd".to_owned(), disk(None, Some("u"), 10)),
        ];
        assert_eq!(find(&seen[1].1, &seen), Ok("vdb"));
        for other in [disk(Some("A"), Some("t"), 11), disk(Some("A"), None, 10), disk(Some("C"), Some("t"), 10)] {
            let error = find(&other, &seen).unwrap_err();
            assert!(error.contains("expected the disk of") && error.contains("vda (10 bytes, serial A"), "{error}");
        }
        assert!(find(&seen[2].1, &seen).unwrap_err().contains("found vdc, vdd"));
        assert!(find(&seen[0].1, &[]).unwrap_err().ends_with("found none"));
        assert!(!disk(None, None, 10).is_known() && disk(None, Some("u"), 10).is_known());
    }

    #[test]
    fn tables() {
        let mut head = vec![0; 8192];
        assert_eq!(table(&head, 512), None);
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(table(&head, 512), None, "a signature of zeros tells nothing");
        head[440..444].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(table(&head, 512).as_deref(), Some("01020304"));
        head[4096..4104].copy_from_slice(b"EFI PART");
        head[4096 + 56] = 0xab;
        assert_eq!(table(&head, 4096), Some(format!("ab{}", "0".repeat(30))));
        assert_eq!(table(&[], 512), None);
    }

    #[test]
    fn disks_of_a_machine() {
        let dir = tempfile::tempdir().unwrap();
        let (sys, dev) = (dir.path().join("sys"), dir.path().join("dev"));
        fs::create_dir_all(sys.join("class/block")).unwrap();
        fs::create_dir_all(&dev).unwrap();
        for (name, at) in
            [("vda", "pci/virtio0"), ("vda1", "pci/virtio0/vda"), ("loop0", "virtual"), ("sdb", "pci/ata")]
        {
            let place = sys.join("devices").join(at).join(name);
            fs::create_dir_all(place.join("queue")).unwrap();
            fs::create_dir_all(place.join("device")).unwrap();
            fs::write(place.join("size"), "4096\n").unwrap();
            fs::write(place.join("queue/logical_block_size"), "512\n").unwrap();
            std::os::unix::fs::symlink(&place, sys.join("class/block").join(name)).unwrap();
            fs::write(dev.join(name), vec![0; 8192]).unwrap();
        }
        fs::write(sys.join("class/block/vda/serial"), "root0\n").unwrap();
        fs::write(sys.join("class/block/vda1/partition"), "1\n").unwrap();
        fs::write(sys.join("class/block/sdb/device/vpd_pg80"), b"\0\x80\0\x08  QM0001").unwrap();
        fs::write(sys.join("class/block/sdb/device/wwid"), "naa.5\n").unwrap();
        let found = all(&sys, &dev);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["sdb", "vda"]);
        assert_eq!(found[0].1.to_string(), "2097152 bytes, serial QM0001, wwid naa.5");
        assert_eq!(found[1].1.serial.as_deref(), Some("root0"));
    }
}
