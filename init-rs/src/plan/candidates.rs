//! Pools as the labels on the disks and the kernel's answer to TRYIMPORT show them: what is decided from, and what is told.

use super::facts::{Health, PoolFact};
use super::standing::standing;
use crate::devices::known::{Device, Hardware, Reading, Zfs, ZfsLabel};
use crate::zfs::assemble::{Candidate, Doubt, Leaf, Seen, Standing};
use crate::zfs::judge::Judgement;
use crate::zfs::label::{PoolState, printable};
use crate::zfs::nvlist::NvList;
use std::collections::BTreeSet;
use std::time::Duration;

/// The problem of a pool that is complete but was not opened, because nobody asked for it.
pub const NOT_OPENED: &str = "not opened yet";

/// What the kernel said of a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// The devices it was opened with, sorted: with the same ones the answer would be the same.
    pub devices: Vec<String>,
    /// The verdict.
    pub judgement: Judgement,
    /// The kernel's reply with the label's hostid, to be handed to the import; `None` if the call failed.
    pub reply: Option<NvList>,
}

impl Opened {
    /// Whether opening the candidate again could tell anything new.
    pub fn is_current(&self, candidate: &Candidate) -> bool {
        self.devices == devices(candidate)
    }
}

/// The devices found for a candidate, sorted.
pub fn devices(candidate: &Candidate) -> Vec<String> {
    let mut devices: Vec<String> = candidate.leaves.iter().filter_map(|l| l.device.clone()).collect();
    devices.sort();
    devices
}

/// The labels that assembling starts from: of all devices that may be searched, or only of those in `only`.
/// `started`: the disk that the machine was started from.
pub fn labels(hardware: &Hardware, only: Option<&BTreeSet<String>>, started: Option<&str>) -> Vec<Seen> {
    let allowed = |node: &str| only.is_none_or(|only| only.contains(node));
    let devices = hardware.devices.values().filter(|d| d.left_out.is_none() && allowed(&d.node));
    let seen = devices.filter_map(|device| match &device.content()?.zfs {
        Zfs::Member(member) => Some(Seen {
            device: device.node.clone(),
            label: member.label.clone(),
            place: device.place(),
            standing: standing(hardware, device, member),
            started: started.is_some_and(|disk| *disk == *device.disk.as_ref().unwrap_or(&device.name)),
        }),
        Zfs::Nothing | Zfs::Damaged(_) => None,
    });
    seen.collect()
}

/// Nodes that the kernel must not come upon when it opens a pool, because what their labels say is over.
pub fn leftovers(labels: &[Seen]) -> impl Iterator<Item = &str> {
    labels.iter().filter(|seen| matches!(seen.standing, Standing::Leftover(_))).map(|seen| seen.device.as_str())
}

/// What the plan decides from: a candidate, and what the kernel said of it if it was opened.
pub fn fact(candidate: &Candidate, judgement: Option<&Judgement>, own_hostid: u32) -> PoolFact {
    let destroyed = candidate.state == PoolState::Destroyed;
    let problem = match judgement {
        _ if destroyed => None,
        _ if candidate.is_ambiguous() => Some(problems(candidate)),
        None => Some(missing_text(candidate)),
        Some(j) if j.health == Health::Unavailable => {
            let missing: Vec<String> = candidate.missing().map(leaf_text).chain(tops_text(candidate)).collect();
            let list = if missing.is_empty() { String::new() } else { format!("; missing: {}", missing.join(", ")) };
            Some(format!("{}{list}", j.reason))
        }
        Some(_) => None,
    };
    PoolFact {
        name: candidate.name.clone(),
        guid: candidate.guid,
        bootfs: judgement.and_then(|j| j.bootfs.clone()),
        bootfs_unknown: judgement.is_none_or(|j| j.bootfs_unknown),
        health: judgement.map_or(Health::Unavailable, |j| j.health),
        problem,
        hopeless: candidate.is_ambiguous()
            || judgement.is_some_and(|j| j.health == Health::Unavailable && !j.wait_helps),
        exported: candidate.state == PoolState::Exported,
        hostid: candidate.hostid.and_then(|h| u32::try_from(h).ok()).unwrap_or(0),
        hostname: candidate.hostname.clone(),
        destroyed,
        foreign: foreign(candidate, own_hostid),
        missing_log: judgement.and_then(|j| (!j.missing_logs.is_empty()).then(|| j.missing_logs.join(", "))),
        unwritable: judgement.and_then(|j| j.unwritable.clone()),
        devices: devices(candidate),
        doubt: doubt(&candidate.doubts),
        started: candidate.started,
    }
}

/// All doubts as one.
fn doubt(doubts: &[Doubt]) -> Option<Doubt> {
    let texts: Vec<&str> = doubts.iter().map(|doubt| doubt.text.as_str()).collect();
    let grave = doubts.iter().any(|doubt| doubt.grave);
    (!texts.is_empty()).then(|| Doubt { text: texts.join("; "), grave })
}

/// Whose pool it is, if another system may still be using it. The kernel does not look at the hostid, so this is the only
/// protection against taking a pool from another live host.
fn foreign(candidate: &Candidate, own: u32) -> Option<String> {
    let theirs = candidate.hostid.unwrap_or(0);
    if candidate.state != PoolState::Active || theirs == 0 || theirs == u64::from(own) {
        return None;
    }
    let host = candidate.hostname.as_deref().unwrap_or("unknown");
    let ours = if own == 0 { "this one has none".to_owned() } else { format!("this one's is {own:08x}") };
    Some(format!("last used by another system, {host} (hostid {theirs:08x}; {ours}), and not exported there"))
}

/// Everything that is odd about a candidate.
fn problems(candidate: &Candidate) -> String {
    candidate.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A member as its label knows it.
pub fn leaf_text(leaf: &Leaf) -> String {
    format!("{} (guid {})", leaf.recorded_path.as_deref().unwrap_or("a vdev without a path"), leaf.guid)
}

/// Whole top-level vdevs that are not there.
fn tops_text(candidate: &Candidate) -> Option<String> {
    match candidate.missing_tops() {
        0 => None,
        n => Some(format!("{n} top-level vdev(s) of which no disk was seen")),
    }
}

/// What a candidate still lacks.
pub fn missing_text(candidate: &Candidate) -> String {
    let parts: Vec<String> = candidate.missing().map(leaf_text).chain(tops_text(candidate)).collect();
    if parts.is_empty() { NOT_OPENED.to_owned() } else { format!("missing: {}", parts.join(", ")) }
}

/// What a candidate still lacks: members as the labels know them and, once it was opened, what only the pool itself knows.
pub fn awaited(candidate: &Candidate, judgement: Option<&Judgement>) -> Option<String> {
    let Some(judgement) = judgement else {
        let lacks = candidate.missing().next().is_some() || candidate.missing_tops() > 0;
        return lacks.then(|| missing_text(candidate));
    };
    let mut missing: Vec<String> = candidate.missing().map(leaf_text).collect();
    missing.extend(judgement.missing_logs.iter().map(|log| format!("log device {log}")));
    // The kernel did not get as far as the pool's own word on which of its vdevs were removed.
    if judgement.unwritable.is_some() || judgement.health == Health::Unavailable {
        missing.extend(tops_text(candidate));
    }
    match missing.as_slice() {
        [] => None,
        list => Some(format!("missing: {}", list.join(", "))),
    }
}

/// Lines on a candidate, for the explanation.
pub fn lines(candidate: &Candidate, judgement: Option<&Judgement>) -> Vec<String> {
    let state = match judgement {
        _ if candidate.state == PoolState::Destroyed => "destroyed".to_owned(),
        None => missing_text(candidate),
        Some(judgement) => judgement.to_string(),
    };
    let mut lines = vec![format!("pool {} (guid {}): {state}", candidate.name, candidate.guid)];
    lines.extend(candidate.missing().map(|leaf| format!("  missing {}", leaf_text(leaf))));
    if judgement.is_some_and(|j| j.health == Health::Unavailable) {
        lines.extend(tops_text(candidate).map(|tops| format!("  missing {tops}")));
    }
    // What the kernel could not use, though its label was found.
    let bad = judgement.map(|j| j.bad.as_slice()).unwrap_or_default();
    for vdev in bad.iter().filter(|vdev| candidate.missing().all(|leaf| leaf.guid != vdev.guid)) {
        let name = vdev.path.as_deref().unwrap_or(vdev.kind.as_str());
        lines.push(format!("  {name} (guid {}): {}", vdev.guid, vdev.state));
    }
    lines.extend(candidate.problems.iter().map(|p| format!("  {p}")));
    lines.extend(candidate.doubts.iter().map(|doubt| format!("  {}", doubt.text)));
    let found = candidate.leaves.iter().filter_map(|leaf| Some((leaf.device.as_ref()?, leaf)));
    lines.extend(found.map(|(device, leaf)| format!("  {device} is {}", leaf_text(leaf))));
    lines
}

/// One line for each device that looks like, but is not, a usable member or has not answered, and one with the others.
pub fn device_lines(hardware: &Hardware, only: Option<&BTreeSet<String>>, now: Duration) -> Vec<String> {
    let mut lines = Vec::new();
    let mut blank = Vec::new();
    let searched = |node: &str| only.is_none_or(|only| only.contains(node));
    for device in hardware.devices.values().filter(|d| d.left_out.is_none() && searched(&d.node)) {
        match &device.content {
            Reading::Waiting => {
                let seconds = now.saturating_sub(device.since).as_secs();
                lines.push(format!(
                    "{}: it has not answered for {seconds} s, so what it holds is not known",
                    device.node
                ));
            }
            Reading::Failed(why) => lines.push(format!("{}: it cannot be read: {why}", device.node)),
            Reading::Never => blank.push(device.name.as_str()),
            Reading::Done(content) => match &content.zfs {
                Zfs::Member(member) => lines.extend(leftover_line(hardware, device, member)),
                Zfs::Nothing => match closed(device) {
                    Some(kind) => lines.push(format!("{}: it holds {kind}, which nothing here opens", device.node)),
                    None => blank.push(device.name.as_str()),
                },
                Zfs::Damaged(why) => lines.push(format!("{}: {why}", device.node)),
            },
        }
    }
    if !blank.is_empty() {
        lines.push(format!("without a ZFS label: {}", blank.join(" ")));
    }
    if hardware.devices.is_empty() {
        lines.push("no block device at all: is the driver of the disk controller in the image?".to_owned());
    }
    if let Some(only) = only {
        let only: Vec<&str> = only.iter().map(String::as_str).collect();
        lines.push(format!("only these were looked at, as the command line says: {}", only.join(" ")));
    }
    lines
}

/// What a device holds that would have to be opened or put together before anything in it is seen, and nothing here does.
pub fn closed(device: &Device) -> Option<&'static str> {
    match device.superblock()?.kind.as_str() {
        "LUKS" => Some("LUKS"),
        "LVM2_member" => Some("a physical volume of LVM"),
        "linux_raid_member" => Some("a part of an md array"),
        _ => None,
    }
}

/// What is told of a label that does not count.
pub fn leftover_line(hardware: &Hardware, device: &Device, member: &ZfsLabel) -> Option<String> {
    let Standing::Leftover(why) = standing(hardware, device, member) else { return None };
    let label = &member.label;
    let pool = label.pool_name().map_or_else(|| "a pool".to_owned(), |name| format!("pool {}", printable(&name)));
    let guid = label.pool_guid().map(|guid| format!(" (guid {guid})")).unwrap_or_default();
    Some(format!("{}: a label of {pool}{guid} is left over and does not count: {why}", device.node))
}

/// Lines on the devices that look like disks or their controllers, and have no driver in the image. Most other devices need
/// none to boot.
pub fn missing_drivers(modaliases: &[String]) -> Vec<String> {
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
    use crate::zfs::assemble::Problem;
    use crate::zfs::nvlist::Value;

    fn candidate(state: PoolState, hostid: Option<u64>) -> Candidate {
        Candidate {
            guid: 7,
            name: "tank".into(),
            state,
            hostid,
            hostname: Some("elsewhere".into()),
            txg: 4,
            config: NvList::new(),
            leaves: vec![],
            problems: vec![],
            doubts: vec![],
            started: false,
        }
    }

    fn whose(state: PoolState, hostid: Option<u64>, own: u32) -> Option<String> {
        fact(&candidate(state, hostid), None, own).foreign
    }

    #[test]
    fn only_an_active_pool_of_another_hostid_is_foreign() {
        let text = whose(PoolState::Active, Some(0xabc), 1).unwrap();
        assert_eq!(
            text,
            "last used by another system, elsewhere (hostid 00000abc; this one's is 00000001), and not exported there"
        );
        assert!(whose(PoolState::Active, Some(0xabc), 0).unwrap().contains("this one has none"));
        assert_eq!(whose(PoolState::Active, Some(1), 1), None);
        assert_eq!(whose(PoolState::Active, Some(0), 1), None);
        assert_eq!(whose(PoolState::Active, None, 1), None);
        assert_eq!(whose(PoolState::Exported, Some(0xabc), 1), None);
        assert_eq!(whose(PoolState::Destroyed, Some(0xabc), 1), None);
    }

    #[test]
    fn states_and_copies() {
        let destroyed = fact(&candidate(PoolState::Destroyed, None), None, 1);
        assert!(destroyed.destroyed && destroyed.problem.is_none() && destroyed.health == Health::Unavailable);
        assert_eq!(fact(&candidate(PoolState::Active, None), None, 1).problem.unwrap(), "not opened yet");
        let mut twice = candidate(PoolState::Exported, None);
        let devices = vec!["/dev/a".into(), "/dev/b".into()];
        twice.problems.push(Problem::Duplicate { guid: 3, devices, taken: None });
        let fact = fact(&twice, None, 1);
        assert!(fact.problem.unwrap().contains("/dev/a and /dev/b carry the same label"));
        assert!(fact.exported);
    }

    /// Also after the kernel has said that it cannot open the pool.
    #[test]
    fn whole_vdevs_that_are_not_there_are_told_of() {
        let mut half = candidate(PoolState::Exported, None);
        let missing: NvList = [("type", Value::text("missing"))].into_iter().collect();
        let tree: NvList = [("children", Value::ListArray(vec![missing]))].into_iter().collect();
        half.config.set("vdev_tree", Value::List(tree));
        let verdict = Judgement::failed("too many vdevs are missing".to_owned());
        let told = "1 top-level vdev(s) of which no disk was seen";
        assert!(fact(&half, Some(&verdict), 1).problem.unwrap().contains(told));
        assert!(awaited(&half, Some(&verdict)).unwrap().contains(told));
        assert!(lines(&half, Some(&verdict)).iter().any(|line| line.contains(told)));
    }

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
