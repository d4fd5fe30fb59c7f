//! What was seen while the pool was looked for: kept for the next look, and told when there is no pool to boot.

use crate::pools::{Scanner, Tried, leaf_text, missing_text};
use crate::zfs::assemble::Candidate;
use crate::zfs::judge::Judgement;
use crate::zfs::label::PoolState;
use std::collections::BTreeMap;
use std::time::Instant;

/// One candidate over time.
pub(super) struct Watched {
    pub(super) since: Instant,
    /// The last TRYIMPORT; another one needs other devices.
    pub(super) tried: Option<Tried>,
}

impl Watched {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), tried: None }
    }
}

/// The last verdict on a candidate.
pub(super) fn judgement<'a>(watched: &'a BTreeMap<u64, Watched>, candidate: &Candidate) -> Option<&'a Judgement> {
    watched.get(&candidate.guid).and_then(|w| w.tried.as_ref()).map(|tried| &tried.judgement)
}

/// What a candidate still lacks: members as the labels know them and, once it was opened, what only the pool itself knows.
pub(super) fn awaited(candidate: &Candidate, judgement: Option<&Judgement>) -> Option<String> {
    let Some(judgement) = judgement else {
        let lacks = candidate.missing().next().is_some() || candidate.missing_tops() > 0;
        return lacks.then(|| missing_text(candidate));
    };
    let mut missing: Vec<String> = candidate.missing().map(leaf_text).collect();
    missing.extend(judgement.missing_logs.iter().map(|log| format!("log device {log}")));
    match missing.as_slice() {
        [] => None,
        list => Some(format!("missing: {}", list.join(", "))),
    }
}

/// Everything on the disks, for the explanation.
pub(super) fn lines(candidates: &[Candidate], watched: &BTreeMap<u64, Watched>, scanner: &Scanner) -> Vec<String> {
    let mut lines: Vec<String> = candidates.iter().flat_map(|c| candidate_lines(c, judgement(watched, c))).collect();
    if candidates.is_empty() {
        lines.push("no disk with a label of a pool".to_owned());
    }
    lines.extend(scanner.problems());
    lines
}

fn candidate_lines(candidate: &Candidate, judgement: Option<&Judgement>) -> Vec<String> {
    let state = match judgement {
        _ if candidate.state == PoolState::Destroyed => "destroyed".to_owned(),
        None => missing_text(candidate),
        Some(judgement) => judgement.to_string(),
    };
    let mut lines = vec![format!("pool {} (guid {}): {state}", candidate.name, candidate.guid)];
    lines.extend(candidate.missing().map(|leaf| format!("  missing {}", leaf_text(leaf))));
    // What the kernel could not use, though its label was found.
    let bad = judgement.map(|j| j.bad.as_slice()).unwrap_or_default();
    for vdev in bad.iter().filter(|vdev| candidate.missing().all(|leaf| leaf.guid != vdev.guid)) {
        let name = vdev.path.as_deref().unwrap_or(vdev.kind.as_str());
        lines.push(format!("  {name} (guid {}): {}", vdev.guid, vdev.state));
    }
    lines.extend(candidate.problems.iter().map(|p| format!("  {p}")));
    let found = candidate.leaves.iter().filter_map(|leaf| Some((leaf.device.as_ref()?, leaf)));
    lines.extend(found.map(|(device, leaf)| format!("  {device} is {}", leaf_text(leaf))));
    lines
}

/// Lines on the devices that look like disks or their controllers, and have no driver in the image. Most other devices need
/// none to boot.
pub(super) fn missing_drivers(modaliases: &[String]) -> Vec<String> {
    const SHOWN: usize = 8;
    let mut disks = modaliases.iter().filter(|m| brings_disks(m)).peekable();
    if disks.peek().is_none() {
        return Vec::new();
    }
    let list: Vec<&str> = disks.map(|m| m.get(..60).unwrap_or(m)).take(SHOWN).collect();
    vec![format!("no driver in the image for {}", list.join(", "))]
}

/// A modalias of a disk, or of something that disks are attached to.
fn brings_disks(modalias: &str) -> bool {
    match modalias.split_once(':') {
        // PCI: base class 01 is mass storage, 0c03 USB, 0c04 fibre channel; the class stands behind the subsystem.
        Some(("pci", rest)) => ["bc01", "bc0Csc03", "bc0Csc04"].iter().any(|class| rest.contains(class)),
        // virtio: 2 block, 8 SCSI.
        Some(("virtio", rest)) => rest.starts_with("d00000002") || rest.starts_with("d00000008"),
        // USB: interface class 08 is mass storage.
        Some(("usb", rest)) => rest.contains("ic08"),
        // SCSI: 0x00 disk, 0x0e simplified disk, 0x14 zoned disk.
        Some(("scsi", rest)) => ["t-0x00", "t-0x0e", "t-0x14"].contains(&rest),
        Some(("mmc" | "nvme" | "vmbus" | "xen" | "sd", _)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disks_and_their_controllers_are_named() {
        let aliases = [
            "pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00",
            "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00",
            "pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30",
            "virtio:d00000002v00001AF4",
            "virtio:d00000001v00001AF4",
            "usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00",
            "usb:v0627p0001d0000dc00dsc00dp00ic03isc00ip00in00",
            "scsi:t-0x00",
            "scsi:t-0x05",
            "acpi:PNP0303:",
        ]
        .map(str::to_owned);
        let lines = missing_drivers(&aliases);
        assert_eq!(lines.len(), 1);
        for there in ["d00001042", "bc0Csc03", "virtio:d00000002", "ic08", "t-0x00"] {
            assert!(lines[0].contains(there), "{there} is not in {}", lines[0]);
        }
        for absent in ["bc02", "d00000001", "ic03", "t-0x05", "acpi"] {
            assert!(!lines[0].contains(absent), "{absent} is in {}", lines[0]);
        }
        assert_eq!(missing_drivers(&aliases[1..2]), [""; 0]);
    }
}
