//! System attributes: what a file system records of a file, packed by layouts that each data set lists.

use taproot_init::zfs::nvlist::{NvList, Value as NvValue};

use super::PoolError;
use super::block::BIRTH;
use super::bytes::{low16, put, put16, put32, words};
use super::zap::{Entry, Value};

const MAGIC: u32 = 0x002f_505a;
/// Most that fits in a dnode, and in one that also has a pointer to a spill block.
const BONUS: usize = 320;
const BONUS_WITH_SPILL: usize = 192;
/// Longest value of an extended attribute, and most of them together, that the kernel keeps with the attributes.
pub(super) const MAX_XATTR: usize = 32 << 10;
const MAX_XATTRS: usize = 64 << 10;
/// The first layout's number; those below are of an older format.
const FIRST_LAYOUT: u64 = 2;

/// Attributes, numbered by their place here: name, length (0: varies), kind of bytes.
const REGISTRY: [(&str, u64, u64); 21] = [
    ("ZPL_ATIME", 16, 0),
    ("ZPL_MTIME", 16, 0),
    ("ZPL_CTIME", 16, 0),
    ("ZPL_CRTIME", 16, 0),
    ("ZPL_GEN", 8, 0),
    ("ZPL_MODE", 8, 0),
    ("ZPL_SIZE", 8, 0),
    ("ZPL_PARENT", 8, 0),
    ("ZPL_LINKS", 8, 0),
    ("ZPL_XATTR", 8, 0),
    ("ZPL_RDEV", 8, 0),
    ("ZPL_FLAGS", 8, 0),
    ("ZPL_UID", 8, 0),
    ("ZPL_GID", 8, 0),
    ("ZPL_PAD", 32, 0),
    ("ZPL_ZNODE_ACL", 88, 3),
    ("ZPL_DACL_COUNT", 8, 0),
    ("ZPL_SYMLINK", 0, 3),
    ("ZPL_SCANSTAMP", 32, 3),
    ("ZPL_DACL_ACES", 0, 4),
    ("ZPL_DXATTR", 0, 3),
];
const ATIME: u16 = 0;
const MTIME: u16 = 1;
const CTIME: u16 = 2;
const CRTIME: u16 = 3;
const GEN: u16 = 4;
const MODE: u16 = 5;
const SIZE: u16 = 6;
const PARENT: u16 = 7;
const LINKS: u16 = 8;
const RDEV: u16 = 10;
const FLAGS: u16 = 11;
const UID: u16 = 12;
const GID: u16 = 13;
const DACL_COUNT: u16 = 16;
const SYMLINK: u16 = 17;
const DACL_ACES: u16 = 19;
const DXATTR: u16 = 20;

/// To be archived, changed since it was looked at for viruses, and with an access list that says no more than the mode.
const TRIVIAL: u64 = 0x0000_0408_0000_0004;
/// Nobody's right to execute is denied: directories are walked without looking at the list.
const NO_EXECS_DENIED: u64 = 0x100;

/// What there is to record of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Znode {
    /// Type and permissions, as in `st_mode`.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, u32),
    pub(super) parent: u64,
    pub(super) links: u64,
    pub(super) size: u64,
    /// The kernel's device number.
    pub(super) device: Option<u64>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Attributes in their packed form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) bonus: Vec<u8>,
    pub(super) spill: Option<Vec<u8>>,
}

/// The layouts in use.
#[derive(Debug, Default)]
pub(super) struct Layouts(Vec<Vec<u16>>);

impl Layouts {
    fn number(&mut self, layout: Vec<u16>) -> u64 {
        let known = self.0.iter().position(|known| *known == layout);
        let at = known.unwrap_or_else(|| {
            self.0.push(layout);
            self.0.len() - 1
        });
        at as u64 + FIRST_LAYOUT
    }

    /// The ZAP that lists them.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let numbered = (FIRST_LAYOUT..).zip(&self.0);
        numbered.map(|(number, layout)| (number.to_string().into_bytes(), Value::Words(layout.clone()))).collect()
    }

    /// Packs a file's attributes; those that do not fit in the dnode are for a spill block.
    pub(super) fn pack(&mut self, znode: &Znode) -> Result<Packed, PoolError> {
        let attributes = attributes(znode)?;
        let (size, fits) = measure(&attributes);
        if fits && size <= BONUS {
            return Ok(Packed { bonus: self.block(&attributes), spill: None });
        }
        let kept = (0..=attributes.len())
            .rev()
            .find(|kept| measure(attributes.get(..*kept).unwrap_or_default()).0 <= BONUS_WITH_SPILL)
            .unwrap_or(0);
        let (here, there) = attributes.split_at(kept);
        let mut spill = self.block(there);
        // Layouts are numbered in the order of their first use.
        let bonus = self.block(here);
        spill.resize(spill.len().next_multiple_of(512), 0);
        if spill.len() > super::block::MAX_BLOCK {
            return Err(PoolError::Entry("its extended attributes are too large".into()));
        }
        Ok(Packed { bonus, spill: Some(spill) })
    }

    fn block(&mut self, attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let number = self.number(attributes.iter().map(|(number, _)| *number).collect());
        let varying = attributes.iter().filter(|(number, _)| varies(*number));
        let header = header_size(attributes);
        let mut block = vec![0; header];
        put32(&mut block, 0, MAGIC);
        put16(&mut block, 4, low16(number | (header as u64 / 8) << 10));
        for (at, (_, value)) in (6..).step_by(2).zip(varying) {
            put16(&mut block, at, low16(value.len() as u64));
        }
        for (_, value) in attributes {
            block.resize(block.len().next_multiple_of(8), 0);
            block.extend_from_slice(value);
        }
        block.resize(block.len().next_multiple_of(8), 0);
        block
    }
}

/// The ZAP of all attributes.
pub(super) fn registry() -> Vec<Entry> {
    let coded = (0_u64..).zip(REGISTRY);
    coded.map(|(n, (name, size, bytes))| (name.into(), Value::Number(n | bytes << 16 | size << 24))).collect()
}

fn varies(number: u16) -> bool {
    matches!(number, SYMLINK | DACL_ACES | DXATTR)
}

/// The first length is part of the smallest header.
fn header_size(attributes: &[(u16, Vec<u8>)]) -> usize {
    let varying = attributes.iter().filter(|(number, _)| varies(*number)).count();
    8 + (varying.saturating_sub(1) * 2).next_multiple_of(8)
}

/// Bytes that attributes take, and whether their lengths can be said.
fn measure(attributes: &[(u16, Vec<u8>)]) -> (usize, bool) {
    let values: usize = attributes.iter().map(|(_, value)| value.len().next_multiple_of(8)).sum();
    (header_size(attributes) + values, attributes.iter().all(|(_, value)| u16::try_from(value.len()).is_ok()))
}

/// The attributes in the kernel's order. Loaders read mode, size and the target of a link at fixed places.
fn attributes(znode: &Znode) -> Result<Vec<(u16, Vec<u8>)>, PoolError> {
    let number = |value: u64| words(&[value]);
    let (seconds, nanoseconds) = znode.mtime;
    let time = words(&[seconds.cast_unsigned(), u64::from(nanoseconds)]);
    let aces = access_list(znode.mode);
    let executable = if znode.mode & 0o111 == 0o111 { NO_EXECS_DENIED } else { 0 };
    let mut all = vec![
        (MODE, number(u64::from(znode.mode))),
        (SIZE, number(znode.size)),
        (GEN, number(BIRTH)),
        (UID, number(u64::from(znode.uid))),
        (GID, number(u64::from(znode.gid))),
        (PARENT, number(znode.parent)),
        (FLAGS, number(TRIVIAL | executable)),
        (ATIME, time.clone()),
        (MTIME, time.clone()),
        (CTIME, time.clone()),
        (CRTIME, time),
        (LINKS, number(znode.links)),
    ];
    if let Some(device) = znode.device {
        all.push((RDEV, number(device)));
    }
    all.push((DACL_COUNT, number(aces.len() as u64 / 8)));
    all.push((DACL_ACES, aces));
    if let Some(target) = &znode.target {
        all.push((SYMLINK, target.clone()));
    }
    if !znode.xattrs.is_empty() {
        all.push((DXATTR, extended(&znode.xattrs)?));
    }
    Ok(all)
}

fn extended(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<u8>, PoolError> {
    if let Some((name, value)) = xattrs.iter().find(|(_, value)| value.len() > MAX_XATTR) {
        let name = String::from_utf8_lossy(name);
        return Err(PoolError::Entry(format!(
            "its attribute {name} has {} bytes, at most {MAX_XATTR} fit",
            value.len()
        )));
    }
    let list: NvList = xattrs.iter().map(|(name, value)| (name, NvValue::ByteArray(value.clone()))).collect();
    let packed = list.encode_xdr();
    if packed.len() >= MAX_XATTRS {
        return Err(PoolError::Entry(format!(
            "its extended attributes have {} bytes, at most {MAX_XATTRS} fit",
            packed.len()
        )));
    }
    Ok(packed)
}

/// Where the number of links lies in a packed bonus.
pub(super) fn links_place(bonus: &[u8]) -> usize {
    let header = bonus.get(5).map_or(0, |info| usize::from(info >> 2) * 8);
    header + 7 * 8 + 4 * 16
}

/// The access list that says what the mode says.
fn access_list(mode: u32) -> Vec<u8> {
    const OWNER: u16 = 0x1000;
    const GROUP: u16 = 0x2000 | 0x40;
    const EVERYONE: u16 = 0x4000;
    const READ_ALL: u32 = 0x0012_0088;
    const OWNER_ALL: u32 = READ_ALL | 0x000c_0110;
    let directory = mode & 0o170_000 == 0o040_000;
    let bits = |rights: u32| {
        let write = if directory { 0x46 } else { 0x06 };
        (rights >> 2 & 1) | ((rights >> 1 & 1) * write) | ((rights & 1) * 0x20)
    };
    let [owner, group, other] = [mode >> 6 & 7, mode >> 3 & 7, mode & 7];
    let allow_first = owner & !group & other;
    let deny_owner = !owner & (group | other) & 7;
    let deny_group = !group & other & 7;
    let entries = [
        (0, OWNER, bits(allow_first)),
        (1, OWNER, bits(deny_owner)),
        (1, GROUP, bits(deny_group)),
        (0, OWNER, OWNER_ALL | bits(owner)),
        (0, GROUP, READ_ALL | bits(group)),
        (0, EVERYONE, READ_ALL | bits(other)),
    ];
    let mut list = Vec::new();
    for (kind, who, mask) in entries.into_iter().filter(|(_, _, mask)| *mask != 0) {
        let mut entry = [0; 8];
        put16(&mut entry, 0, kind);
        put16(&mut entry, 2, who);
        put(&mut entry, 4, &u32::to_le_bytes(mask));
        list.extend_from_slice(&entry);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::super::bytes::get64;
    use super::*;

    fn file() -> Znode {
        Znode { mode: 0o100_644, uid: 1, gid: 2, mtime: (-1, 5), parent: 34, links: 1, size: 77, ..Znode::default() }
    }

    #[test]
    fn a_plain_file_as_loaders_expect_it() {
        let mut layouts = Layouts::default();
        let packed = layouts.pack(&file()).unwrap();
        assert_eq!(packed.spill, None);
        let bonus = packed.bonus;
        assert_eq!(bonus.len(), 168);
        assert_eq!(bonus[..8], [0x5a, 0x50, 0x2f, 0, 2, 4, 24, 0]);
        assert_eq!((get64(&bonus, 8), get64(&bonus, 16), get64(&bonus, 48)), (0o100_644, 77, 34));
        assert_eq!((get64(&bonus, 80), get64(&bonus, 88)), (u64::MAX, 5));
        assert_eq!(get64(&bonus, links_place(&bonus)), 1);
        assert_eq!(get64(&bonus, 136), 3, "entries of the access list");
        assert_eq!(bonus[144..152], [0, 0, 0, 0x10, 0x9f, 0x01, 0x1e, 0]);
        assert_eq!(bonus[152..160], [0, 0, 0x40, 0x20, 0x89, 0, 0x12, 0]);
    }

    #[test]
    fn what_is_more_needs_a_longer_header_or_a_spill_block() {
        let mut layouts = Layouts::default();
        layouts.pack(&file()).unwrap();
        let link = Znode { mode: 0o120_777, target: Some(b"usr/bin".to_vec()), ..file() };
        let packed = layouts.pack(&link).unwrap();
        assert_eq!(packed.bonus[5] >> 2, 2, "two lengths");
        assert_eq!(&packed.bonus[16 + 160..], b"usr/bin\0");
        assert_eq!(get64(&packed.bonus, links_place(&packed.bonus)), 1);
        let long = Znode { target: Some(vec![b'x'; 4000]), ..link };
        let packed = layouts.pack(&long).unwrap();
        assert_eq!(packed.bonus.len(), 168);
        let spill = packed.spill.unwrap();
        assert_eq!(spill.len(), 4096);
        assert_eq!(spill[6..8], 4000_u16.to_le_bytes());
        assert_eq!(layouts.entries().len(), 3);
    }

    #[test]
    fn too_large_attributes_are_refused() {
        let large = |size: usize| Znode { xattrs: vec![(b"user.a".to_vec(), vec![1; size])], ..file() };
        let mut layouts = Layouts::default();
        assert!(layouts.pack(&large(20)).unwrap().spill.is_none());
        assert!(layouts.pack(&large(MAX_XATTR)).unwrap().spill.is_some());
        assert!(layouts.pack(&large(MAX_XATTR + 1)).unwrap_err().to_string().contains("user.a"));
    }

    /// Others may what the owner may not: that has to be denied first.
    #[test]
    fn odd_modes_have_longer_access_lists() {
        assert_eq!(access_list(0o100_755).len(), 24);
        assert_eq!(access_list(0o100_077).len(), 32);
        assert_eq!(access_list(0o100_705).len(), 40, "the group alone may not");
    }
}
