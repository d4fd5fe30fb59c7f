//! Images, overlays and what else a root made of layers asks of the kernel.

use super::files::{Mount, Node, Tree, errno};
use super::machine::ZfsVersion;
use super::world::{State, World};
use std::io;
use std::path::Path;
use taproot_init::sys::OverlayMount;

/// Where in an image the name of its tree stands ([`super::Machine::images`]).
const NAME: usize = 100;
/// Bytes of a whole image.
#[cfg(test)]
pub(super) const SIZE: usize = 4096;

/// A file with an ext4: the tree of this name in [`super::Machine::images`].
#[cfg(test)]
pub(super) fn ext4_file(name: &str) -> Node {
    let mut bytes = vec![0; SIZE];
    for (at, value) in [(1024 + 56, &[0x53, 0xef][..]), (NAME, name.as_bytes())] {
        for (slot, byte) in bytes.iter_mut().skip(at).zip(value) {
            *slot = *byte;
        }
    }
    Node::File(bytes, 0o644)
}

/// A file with a squashfs: the tree of this name in [`super::Machine::images`].
#[cfg(test)]
pub(super) fn image(name: &str) -> Node {
    let mut bytes = vec![0; SIZE];
    let fields: [(usize, &[u8]); 4] =
        [(0, b"hsqs"), (28, &[4]), (40, &(SIZE as u64).to_le_bytes()), (NAME, name.as_bytes())];
    for (at, value) in fields {
        for (slot, byte) in bytes.iter_mut().skip(at).zip(value) {
            *slot = *byte;
        }
    }
    Node::File(bytes, 0o644)
}

/// A file with an ISO 9660 file system: the tree of this name.
#[cfg(test)]
pub(super) fn iso(name: &str) -> Node {
    const DESCRIPTOR: usize = 0x8000;
    let mut bytes = vec![0; DESCRIPTOR + 2048];
    for (at, value) in [(NAME, name.as_bytes()), (DESCRIPTOR, b"\x01CD001")] {
        for (slot, byte) in bytes.iter_mut().skip(at).zip(value) {
            *slot = *byte;
        }
    }
    Node::File(bytes, 0o644)
}

fn directory(state: &State, path: &Path) -> io::Result<String> {
    match state.names.node(path)? {
        Node::Dir => Ok(state.names.walk(path, true)?.path),
        _ => Err(errno(libc::ENOTDIR)),
    }
}

fn mounted(state: &mut State, source: String, target: String, fstype: &str, read_only: bool, tree: usize) {
    let flags = if read_only { libc::MS_RDONLY } else { 0 };
    state.names.mounts.push(Mount { source, target, fstype: fstype.to_owned(), flags, data: String::new(), tree });
}

pub(super) fn bind(world: &World, source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
    let mut state = world.state();
    let (source, target) = (directory(&state, source)?, directory(&state, target)?);
    let tree = if let Some((_, mount)) = state.mount_at(&source) {
        mount.tree
    } else {
        let part = state.names.part(&source);
        state.names.add(part)
    };
    mounted(&mut state, source, target, "bind", read_only, tree);
    Ok(())
}

pub(super) fn mount_image(world: &World, image: &Path, target: &Path, fstype: &str) -> io::Result<String> {
    mount_file(world, image, target, fstype, true)
}

pub(super) fn mount_file(
    world: &World,
    image: &Path,
    target: &Path,
    fstype: &str,
    read_only: bool,
) -> io::Result<String> {
    let mut state = world.state();
    if !state.loaded("loop") || !state.loaded(super::mounting::module_of(fstype)) {
        return Err(errno(libc::ENODEV));
    }
    let target = directory(&state, target)?;
    let files = files(&state, state.names.bytes(image)?)?;
    let tree = state.names.add(files);
    let count = state.names.mounts.iter().filter(|mount| mount.source.starts_with("/dev/loop")).count();
    let node = format!("/dev/loop{count}");
    mounted(&mut state, node.clone(), target, fstype, read_only, tree);
    Ok(node)
}

/// What is in the image of these bytes.
pub(super) fn files(state: &State, bytes: &[u8]) -> io::Result<Tree> {
    let name = bytes.get(NAME..).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    state.machine.images.get(&name).cloned().ok_or_else(|| errno(libc::EINVAL))
}

pub(super) fn mount_overlay(world: &World, overlay: &OverlayMount, target: &Path) -> io::Result<()> {
    let mut state = world.state();
    if !state.loaded("overlay") {
        return Err(errno(libc::ENODEV));
    }
    let target = directory(&state, target)?;
    if overlay.upper.is_none() && overlay.lowers.len() < 2 {
        return Err(errno(libc::EINVAL));
    }
    let mut merged = Tree::default();
    for lower in overlay.lowers.iter().rev() {
        let at = directory(&state, lower)?;
        merged.cover_with(&state.names.part(&at));
    }
    if let Some((upper, work)) = &overlay.upper {
        let (upper, work) = (directory(&state, upper)?, directory(&state, work)?);
        let of = |path: &str| state.names.mount_of(path).map(|mount| (mount.target.clone(), mount.read_only()));
        match (of(&upper), of(&work)) {
            (Some((_, true)), _) => return Err(errno(libc::EROFS)),
            (upper, work) if upper != work => return Err(errno(libc::EINVAL)),
            _ => {}
        }
        merged.cover_with(&state.names.part(&upper));
    }
    let tree = state.names.add(merged);
    mounted(&mut state, "overlay".to_owned(), target, "overlay", overlay.upper.is_none(), tree);
    Ok(())
}

pub(super) fn probe_whiteout(world: &World, dir: &Path) -> io::Result<()> {
    let state = world.state();
    let at = directory(&state, dir)?;
    let mount = state.names.mount_of(&at).ok_or_else(|| errno(libc::ENOENT))?;
    if mount.read_only() {
        return Err(errno(libc::EROFS));
    }
    let able = mount.fstype != "zfs" || state.machine.zfs > ZfsVersion::V2_1;
    if able { Ok(()) } else { Err(errno(libc::EINVAL)) }
}

/// A zvol's device is called after it.
pub(super) fn zvol_name(world: &World, node: &Path) -> io::Result<String> {
    let state = world.state();
    let device = state.device_at(node).ok_or_else(|| errno(libc::ENOENT))?;
    let link = device.links.iter().find_map(|link| link.strip_prefix("zvol/"));
    link.map(str::to_owned).ok_or_else(|| errno(libc::ENOTTY))
}
