//! File systems: attributes of files by the layouts that their data set lists, names, content.

use std::collections::BTreeMap;

use taproot_init::zfs::nvlist::{NvList, Value};

use super::blocks::Blocks;
use super::objects::{Dnode, Objects};
use super::{ReadError, damaged, zap};
use crate::pool::bytes::{get16, get32, get64, index};
use crate::pool::content::{Content, hash_block};
use crate::pool::dmu::types;
use crate::pool::sa::Znode;

const MAGIC: u32 = 0x002f_505a;
const SET_ZPL: u64 = 2;
const SET_ZVOL: u64 = 3;
const MASTER: u64 = 1;
const VOLUME: u64 = 1;
const VOLUME_SIZE: u64 = 2;
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

/// How attributes are packed.
#[derive(Debug, Clone, Default)]
struct Packing {
    /// Name and length (0: varies) of each attribute.
    attributes: BTreeMap<u16, (Vec<u8>, usize)>,
    layouts: BTreeMap<u16, Vec<u16>>,
}

/// A file system that is being read.
pub(in crate::pool) struct FileSystem<'b, 'd> {
    blocks: &'b Blocks<'d>,
    pub(super) objects: Objects,
    packing: Packing,
}

impl<'b, 'd> FileSystem<'b, 'd> {
    pub(in crate::pool) fn new(blocks: &'b Blocks<'d>, mut objects: Objects) -> Result<Self, ReadError> {
        if objects.kind != SET_ZPL {
            return damaged("a data set that is no file system");
        }
        let table = |objects: &mut Objects, number: u64| {
            let dnode = objects.object(blocks, number)?;
            Ok::<_, ReadError>(zap::numbers(blocks, &dnode)?.into_iter().collect::<BTreeMap<_, _>>())
        };
        let master = table(&mut objects, MASTER)?;
        let named = |table: &BTreeMap<Vec<u8>, u64>, name: &str| {
            let found = table.get(name.as_bytes()).copied();
            found.map_or_else(|| damaged(&format!("a file system without its {name}")), Ok)
        };
        named(&master, "ROOT")?;
        let attributes = table(&mut objects, named(&master, "SA_ATTRS")?)?;
        let mut packing = Packing::default();
        for (name, word) in table(&mut objects, named(&attributes, "REGISTRY")?)? {
            let (number, length) = (crate::pool::bytes::low16(word), index(word >> 24 & 0xffff));
            packing.attributes.insert(number, (name, length));
        }
        let layouts = objects.object(blocks, named(&attributes, "LAYOUTS")?)?;
        zap::each(blocks, &layouts, &mut |name, value| {
            let number = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
            let list = value.as_chunks::<2>().0.iter().map(|word| u16::from_be_bytes(*word)).collect();
            packing.layouts.insert(number.map_or_else(|| damaged("a layout without a number"), Ok)?, list);
            Ok(())
        })?;
        Ok(FileSystem { blocks, objects, packing })
    }

    /// The attributes of a file, and its number of names.
    pub(in crate::pool) fn attributes(&self, dnode: &Dnode) -> Result<Znode, ReadError> {
        let mut znode = Znode::default();
        self.packing.unpack(&dnode.bonus, &mut znode)?;
        if let Some(spill) = &dnode.spill {
            let block = self.blocks.read(spill)?.unwrap_or_default();
            self.packing.unpack(&block, &mut znode)?;
        }
        Ok(znode)
    }
}

impl Packing {
    /// Adds what a packed block of attributes says.
    fn unpack(&self, block: &[u8], znode: &mut Znode) -> Result<(), ReadError> {
        let info = get16(block, 4);
        let layout = self.layouts.get(&(info & 0x3ff));
        let (true, Some(layout)) = (get32(block, 0) == MAGIC, layout) else {
            return damaged("attributes of an unknown layout");
        };
        let mut at = usize::from(info >> 10) * 8;
        let mut lengths = (6..at).step_by(2);
        for number in layout {
            let Some((name, length)) = self.attributes.get(number) else { return damaged("an unknown attribute") };
            let length =
                if *length == 0 { lengths.next().map_or(0, |at| usize::from(get16(block, at))) } else { *length };
            let Some(value) = block.get(at..).and_then(|rest| rest.get(..length)) else {
                return damaged("attributes that are cut off");
            };
            take(znode, name, value)?;
            at += length.next_multiple_of(8);
        }
        Ok(())
    }
}

fn take(znode: &mut Znode, name: &[u8], value: &[u8]) -> Result<(), ReadError> {
    let word = get64(value, 0);
    let short = u32::try_from(word).unwrap_or(u32::MAX);
    match name {
        b"ZPL_MODE" => znode.mode = short,
        b"ZPL_UID" => znode.uid = short,
        b"ZPL_GID" => znode.gid = short,
        b"ZPL_SIZE" => znode.size = word,
        b"ZPL_LINKS" => znode.links = word,
        b"ZPL_PARENT" => znode.parent = word,
        b"ZPL_RDEV" => znode.device = Some(word),
        b"ZPL_MTIME" => {
            znode.mtime = (word.cast_signed(), u32::try_from(get64(value, 8)).unwrap_or(u32::MAX));
        }
        b"ZPL_SYMLINK" => znode.target = Some(value.to_vec()),
        b"ZPL_DXATTR" => {
            let list = NvList::decode(value).map_err(|error| ReadError::Damaged(error.to_string()))?;
            for (name, value) in list.iter() {
                let Value::ByteArray(bytes) = value else { return damaged("an extended attribute that is no bytes") };
                znode.xattrs.push((name.to_vec(), bytes.clone()));
            }
        }
        _ => {}
    }
    Ok(())
}

/// What a data set holds, all of it read and hashed. A hole holds nothing.
pub(in crate::pool) fn content(blocks: &Blocks<'_>, mut objects: Objects) -> Result<Content, ReadError> {
    let mut content = Content::default();
    if objects.kind == SET_ZVOL {
        let size = objects.object(blocks, VOLUME_SIZE)?;
        let size =
            zap::numbers(blocks, &size)?.into_iter().find(|(name, _)| name == b"size").map_or(0, |(_, size)| size);
        let dnode = objects.object(blocks, VOLUME)?;
        content.volume(size, dnode.block_size);
        hash_blocks(blocks, &dnode, VOLUME, &mut content)?;
        return Ok(content);
    }
    let system = FileSystem::new(blocks, objects)?;
    // Names found less names said, each weighed by its file: all are right when nothing is left.
    let mut names_left = 0_u64;
    system.objects.each(blocks, &mut |number, dnode| {
        if !matches!(dnode.what, types::PLAIN_FILE | types::DIRECTORY) {
            return Ok(());
        }
        let znode = system.attributes(&dnode)?;
        content.file(number, &znode);
        if znode.mode & 0o170_000 == FILE {
            hash_blocks(blocks, &dnode, number, &mut content)?;
        }
        if znode.mode & 0o170_000 != DIRECTORY {
            names_left = names_left.wrapping_sub(weight(number).wrapping_mul(znode.links));
            return Ok(());
        }
        let (mut names, mut below) = (0, 0);
        zap::each(blocks, &dnode, &mut |name, value| {
            let value = zap::number(value);
            names += 1;
            below += u64::from(value >> 60 == 4);
            content.name(number, name, value);
            if value >> 60 != 4 {
                names_left = names_left.wrapping_add(weight(value & ((1 << 48) - 1)));
            }
            Ok(())
        })?;
        if znode.size != names + 2 || znode.links != below + 2 {
            return damaged(&format!("directory {number} with another number of names than it says"));
        }
        Ok(())
    })?;
    if names_left != 0 {
        return damaged("a file with another number of names than it says");
    }
    Ok(content)
}

/// A number that looks random (`SplitMix64`).
fn weight(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn hash_blocks(blocks: &Blocks<'_>, dnode: &Dnode, number: u64, content: &mut Content) -> Result<(), ReadError> {
    dnode.walk(blocks, &mut |id, bp, pointer| {
        if pointer.block().is_some_and(|block| block.level > 0) {
            return Ok(true);
        }
        let data = blocks.read(bp)?.unwrap_or_default();
        if data.len() != dnode.block_size {
            return damaged("a block of another size than its object's");
        }
        if let Some(hash) = hash_block(&data) {
            content.block(number, id, &hash);
        }
        Ok(false)
    })
}
