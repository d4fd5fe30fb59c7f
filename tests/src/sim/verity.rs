//! Loop devices and dm-verity: a block that is not what the tree and the root hash say is not read.

use super::files::{Tree, errno};
use super::layering;
use super::world::{State, World};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use taproot_init::devices::verity::{Digest, Format, build};
use taproot_init::sys::{Attached, Mapping};

/// The kernel's number for loop devices.
const LOOP: u32 = 7;
const SECTOR: usize = 512;

/// What is attached and mapped.
#[derive(Debug, Clone, Default)]
pub(super) struct Images {
    attached: Vec<Vec<u8>>,
    mapped: BTreeMap<String, (u32, Option<Vec<u8>>)>,
    made: u32,
}

pub(super) fn attach(world: &World, image: &Path) -> io::Result<Attached> {
    let mut state = world.state();
    if !state.loaded("loop") {
        return Err(errno(libc::ENODEV));
    }
    let mut bytes = state.names.bytes(image)?.to_vec();
    bytes.truncate(bytes.len() / SECTOR * SECTOR);
    let number = u32::try_from(state.images.attached.len()).unwrap_or(u32::MAX);
    state.images.attached.push(bytes);
    Ok(Attached { node: PathBuf::from(format!("/dev/loop{number}")), number: (LOOP, number) })
}

/// The bytes of a device; the inner error is that a block of it is not what it must be. `None`: it is another device's name.
fn bytes<'a>(state: &'a State, node: &Path) -> Option<io::Result<&'a [u8]>> {
    let name = node.strip_prefix("/dev").ok()?.to_str()?;
    if let Some(number) = name.strip_prefix("loop") {
        let bytes = state.images.attached.get(number.parse::<usize>().ok()?);
        return bytes.map(|bytes| Ok(bytes.as_slice()));
    }
    let number: u32 = name.strip_prefix("dm-")?.parse().ok()?;
    let (_, bytes) = state.images.mapped.values().find(|(made, _)| *made == number)?;
    Some(bytes.as_deref().ok_or_else(|| errno(libc::EIO)))
}

pub(super) fn read(world: &World, node: &Path, take: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<()> {
    let bytes = bytes(&world.state(), node).ok_or_else(|| errno(libc::ENOENT))??.to_vec();
    take(&bytes);
    Ok(())
}

/// What a file system on such a device has in it.
pub(super) fn files(state: &State, node: &Path, fstype: &str) -> Option<io::Result<Tree>> {
    let bytes = bytes(state, node)?;
    if !state.loaded(fstype) {
        return Some(Err(errno(libc::ENODEV)));
    }
    Some(bytes.and_then(|bytes| layering::files(state, bytes)))
}

pub(super) fn map(world: &World, mapping: &Mapping) -> io::Result<PathBuf> {
    let mut state = world.state();
    if !state.loaded("dm_verity") {
        return Err(errno(libc::EINVAL));
    }
    if state.images.mapped.contains_key(&mapping.name) {
        return Err(errno(libc::EBUSY));
    }
    let (data, good) = checked(&state.images, &mapping.parameters).ok_or_else(|| errno(libc::EINVAL))?;
    let content = good.then_some(data);
    let number = state.images.made;
    state.images.made += 1;
    state.images.mapped.insert(mapping.name.clone(), (number, content));
    Ok(PathBuf::from(format!("/dev/dm-{number}")))
}

/// The data of a table's line, and whether they, the tree and the root hash fit each other; `None` if the line itself is wrong.
fn checked(images: &Images, line: &str) -> Option<(Vec<u8>, bool)> {
    let words: Vec<&str> = line.split(' ').collect();
    let ["1", data, hash, data_block, hash_block, blocks, start, "sha256", root, "-", ..] = words.as_slice() else {
        return None;
    };
    let device = |number: &str| images.attached.get(number.strip_prefix("7:")?.parse::<usize>().ok()?);
    let format = Format::new(data_block.parse().ok()?, hash_block.parse().ok()?, blocks.parse().ok()?, b"").ok()?;
    let data = device(data)?.get(..usize::try_from(format.data_bytes()).ok()?)?;
    let start = start.parse::<usize>().ok()?.checked_mul(hash_block.parse().ok()?)?;
    let stored = device(hash)?.get(start..start + usize::try_from(format.tree_bytes()).ok()?)?;
    let tree = build(&format, &mut &*data).ok()?;
    let good = Some(tree.root) == Digest::parse(root) && tree.blocks == stored;
    Some((data.to_vec(), good))
}

pub(super) fn unmap(world: &World, name: &str) -> io::Result<()> {
    let mut state = world.state();
    let (number, _) = state.images.mapped.get(name).ok_or_else(|| errno(libc::ENXIO))?;
    let node = format!("/dev/dm-{number}");
    if state.names.mounts.iter().any(|mount| mount.source == node) {
        return Err(errno(libc::EBUSY));
    }
    state.images.mapped.remove(name);
    Ok(())
}

impl World {
    /// Device-mapper devices that there are.
    #[cfg(test)]
    pub(super) fn mapped(&self) -> Vec<String> {
        self.state().images.mapped.keys().cloned().collect()
    }
}
