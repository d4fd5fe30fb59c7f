//! What other devices are made of: encrypted volumes, legs of arrays, physical volumes. No driver mounts them.

use super::superblock::{Read, Superblock, magic, text, uuid};

const MD_MAGIC: u32 = 0xa92b_4efc;
const SECTOR: u64 = 512;

pub(super) fn find(head: &[u8], read: &mut Read<'_>, size: u64) -> Option<Superblock> {
    luks(head).or_else(|| lvm(head)).or_else(|| md_at(head, 0)).or_else(|| md(read, size))
}

/// LUKS 1 has no label.
fn luks(head: &[u8]) -> Option<Superblock> {
    if !magic(head, 0, b"LUKS\xba\xbe") {
        return None;
    }
    let label = magic(head, 6, &[0, 2]).then(|| text(head, 24, 48)).flatten();
    Some(Superblock { kind: "LUKS", label, uuid: text(head, 168, 40) })
}

/// The label of a physical volume lies in one of the first four sectors.
fn lvm(head: &[u8]) -> Option<Superblock> {
    let at = (0..4).map(|sector| sector * 512).find(|at| magic(head, *at, b"LABELONE"))?;
    // The offset of the header behind the label, from the label.
    let offset = usize::try_from(u32::from_le_bytes(head.get(at + 20..at + 24)?.try_into().ok()?)).ok()?;
    let id = text(head, at.checked_add(offset)?, 32).filter(|id| id.is_ascii() && id.len() == 32);
    let uuid = id.map(|id| {
        let groups = [0..6, 6..10, 10..14, 14..18, 18..22, 22..26, 26..32];
        groups.map(|group| id.get(group).unwrap_or_default()).join("-")
    });
    Some(Superblock { kind: "LVM2_member", label: None, uuid })
}

/// Version 1.1 lies at the beginning, 1.2 4 KiB behind it, 1.0 and 0.90 at the end.
fn md(read: &mut Read<'_>, size: u64) -> Option<Superblock> {
    let mut sb = [0_u8; 512];
    let sectors = size / SECTOR;
    let newer = [Some(4096), sectors.checked_sub(16).map(|at| (at & !7) * SECTOR)];
    for at in newer.into_iter().flatten() {
        if read(at, &mut sb).is_ok()
            && let Some(found) = md_at(&sb, 0)
        {
            return Some(found);
        }
    }
    let at = (size & !0xffff).checked_sub(0x1_0000)?;
    read(at, &mut sb).ok()?;
    let old = magic(&sb, 0, &MD_MAGIC.to_le_bytes()) && magic(&sb, 4, &[0, 0, 0, 0]);
    // Its UUID is in four pieces, the first of which stands apart.
    let id = [sb.get(20..24)?, sb.get(52..64)?].concat();
    old.then(|| Superblock { kind: "linux_raid_member", label: None, uuid: uuid(&id, 0) })
}

fn md_at(bytes: &[u8], at: usize) -> Option<Superblock> {
    let sb = bytes.get(at..)?;
    let newer = magic(sb, 0, &MD_MAGIC.to_le_bytes()) && magic(sb, 4, &[1, 0, 0, 0]);
    newer.then(|| Superblock { kind: "linux_raid_member", label: text(sb, 32, 32), uuid: uuid(sb, 16) })
}
