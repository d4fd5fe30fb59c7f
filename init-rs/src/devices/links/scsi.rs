//! The pages of vital product data that the SCSI layer keeps of each disk (SPC-4, 7.8), and what udev's `scsi_id` and
//! `ata_id` make of them.

use crate::hex::hex;
use std::fs;
use std::path::Path;

/// Longest page.
const PAGE_MAX: usize = 4096;

/// The pages.
#[derive(Debug, Default)]
pub(super) struct Pages {
    serial: Vec<u8>,
    identification: Vec<u8>,
}

/// One name of a disk.
struct Designator<'a> {
    ascii: bool,
    kind: u8,
    value: &'a [u8],
}

fn trimmed(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

impl Pages {
    /// Those of a disk with this directory.
    pub(super) fn read(dir: &Path) -> Self {
        let page = |name: &str| {
            let mut bytes = fs::read(dir.join("device").join(name)).unwrap_or_default();
            bytes.truncate(PAGE_MAX);
            bytes
        };
        Self { serial: page("vpd_pg80"), identification: page("vpd_pg83") }
    }

    /// The unit serial number: text behind four bytes.
    pub(super) fn serial(&self) -> Option<String> {
        trimmed(self.serial.get(4..)?)
    }

    /// Names of the disk itself, not of its port or target.
    fn designators(&self) -> Vec<Designator<'_>> {
        let mut all = Vec::new();
        let mut rest = self.identification.get(4..).unwrap_or_default();
        while let Some(([head, kind, _, len], behind)) = rest.split_first_chunk::<4>() {
            let Some((value, next)) = behind.split_at_checked(usize::from(*len)) else { break };
            if kind & 0x30 == 0 {
                all.push(Designator { ascii: head & 0xf == 2, kind: kind & 0xf, value });
            }
            rest = next;
        }
        all
    }

    /// Model and serial number of an ATA disk, which libata puts into one name behind `ATA     `.
    pub(super) fn ata(&self) -> Option<(String, String)> {
        let all = self.designators();
        let name = all.iter().find(|d| d.kind == 1 && d.value.starts_with(b"ATA     "))?;
        Some((trimmed(name.value.get(8..48)?)?, trimmed(name.value.get(48..68)?)?))
    }

    /// The NAA name in hex digits.
    pub(super) fn naa(&self) -> Option<String> {
        let all = self.designators();
        // A registered extended one (6) is longer and says more.
        let best =
            all.iter().filter(|d| d.kind == 3 && !d.ascii && d.value.len() >= 8).max_by_key(|d| d.value.len())?;
        Some(hex(best.value))
    }

    /// What `scsi_id` prints: a digit for the kind of name, and the name.
    pub(super) fn scsi_id(&self, vendor: &str, model: &str) -> Option<String> {
        if let Some(naa) = self.naa() {
            return Some(format!("3{naa}"));
        }
        let all = self.designators();
        let of = |kind: u8| all.iter().find(|d| d.kind == kind);
        let value = |d: &Designator<'_>| {
            if d.ascii { trimmed(d.value).unwrap_or_default() } else { hex(d.value) }
        };
        if let Some(name) = of(2) {
            return Some(format!("2{}", value(name)));
        }
        if let Some(name) = of(1) {
            return Some(format!("1{}", value(name)));
        }
        if let Some(name) = of(0) {
            return Some(format!("0{vendor} {model} {}", value(name)));
        }
        self.serial().map(|serial| format!("S{vendor} {model} {serial}"))
    }
}
