//! Mounting and unmounting, as the kernel does it.

use super::files::{Mount, Node, errno};
use super::machine::Holds;
use super::verity;
use super::world::{State, World};
use std::io;
use std::path::Path;
use std::time::Duration;

/// What a mount takes.
const TAKES: Duration = Duration::from_millis(8);
/// File systems that need a module, and which.
const MODULES: [(&str, &str); 14] = [
    ("zfs", "zfs"),
    ("ext2", "ext4"),
    ("ext3", "ext4"),
    ("ext4", "ext4"),
    ("xfs", "xfs"),
    ("btrfs", "btrfs"),
    ("f2fs", "f2fs"),
    ("vfat", "vfat"),
    ("exfat", "exfat"),
    ("ntfs3", "ntfs3"),
    ("squashfs", "squashfs"),
    ("erofs", "erofs"),
    ("iso9660", "isofs"),
    ("efivarfs", "efivarfs"),
];

/// The module of a file system.
pub(super) fn module_of(fstype: &str) -> &str {
    MODULES.iter().find(|(name, _)| *name == fstype).map_or(fstype, |(_, module)| module)
}

/// What mounting comes to.
enum Found {
    Tree(usize, bool),
    /// The device does not answer, or the pool has lost one.
    Never,
}

/// Mounts.
pub(super) fn mount(
    world: &World,
    source: &str,
    target: &Path,
    fstype: &str,
    flags: u64,
    data: &str,
) -> io::Result<()> {
    world.pass(TAKES);
    let mut state = world.state();
    let place = state.names.walk(target, true)?;
    if !matches!(state.names.node(target)?, Node::Dir) {
        return Err(errno(libc::ENOTDIR));
    }
    let path = place.path;
    if flags & libc::MS_REMOUNT != 0 {
        return remount(&mut state, &path, flags & !libc::MS_REMOUNT, data);
    }
    if flags & libc::MS_MOVE != 0 {
        let from = state.names.walk(Path::new(source), true)?.path;
        let at = state.mount_at(&from).map(|(at, _)| at).ok_or_else(|| errno(libc::EINVAL))?;
        if let Some(mount) = state.names.mounts.get_mut(at) {
            mount.target = path;
        }
        return Ok(());
    }
    if flags & libc::MS_BIND != 0 {
        return bind(&mut state, source, path);
    }
    let found = match fstype {
        "zfs" => zfs(&mut state, source, flags),
        "devtmpfs" | "proc" | "sysfs" | "tmpfs" | "ramfs" | "efivarfs" => {
            if state.mount_at(&path).is_some_and(|(_, mount)| mount.fstype == fstype) {
                return Err(errno(libc::EBUSY));
            }
            if fstype == "efivarfs" && (!state.loaded(fstype) || state.machine.firmware.is_none()) {
                return Err(errno(libc::ENODEV));
            }
            let tree = state.pseudo_tree(fstype).ok_or_else(|| errno(libc::ENODEV))?;
            Ok(Found::Tree(tree, false))
        }
        _ => match verity::files(&state, Path::new(source), fstype) {
            Some(files) => files.map(|files| Found::Tree(state.names.add(files), true)),
            None => disk(&mut state, source, fstype),
        },
    };
    let (tree, read_only) = match found? {
        Found::Tree(tree, read_only) => (tree, read_only),
        Found::Never => {
            if fstype == "zfs" {
                state.show_suspended(source);
            }
            drop(state);
            world.never();
            return Err(errno(libc::EIO));
        }
    };
    let flags = if read_only { flags | libc::MS_RDONLY } else { flags };
    let mount = Mount {
        source: source.to_owned(),
        target: path,
        fstype: fstype.to_owned(),
        flags,
        data: data.to_owned(),
        tree,
    };
    state.names.mounts.push(mount);
    Ok(())
}

/// Shows a mount elsewhere too, without what is mounted below it. Only whole mounts: a boot binds nothing else.
fn bind(state: &mut State, source: &str, target: String) -> io::Result<()> {
    let from = state.names.walk(Path::new(source), true)?.path;
    let mount = state.mount_at(&from).map(|(_, mount)| mount.clone()).ok_or_else(|| errno(libc::EINVAL))?;
    state.names.mounts.push(Mount { target, ..mount });
    Ok(())
}

fn remount(state: &mut State, path: &str, flags: u64, data: &str) -> io::Result<()> {
    let at = state.mount_at(path).map(|(at, _)| at).ok_or_else(|| errno(libc::EINVAL))?;
    let Some(mount) = state.names.mounts.get(at) else { return Err(errno(libc::EINVAL)) };
    let pool = mount.source.split('/').next().unwrap_or_default().to_owned();
    let frozen = mount.fstype == "zfs"
        && state.machine.pools.iter().any(|p| p.name == pool && p.imported.as_ref().is_some_and(|i| i.read_only));
    if frozen && flags & libc::MS_RDONLY == 0 {
        return Err(errno(libc::EROFS));
    }
    if let Some(mount) = state.names.mounts.get_mut(at) {
        mount.flags = flags;
        data.clone_into(&mut mount.data);
    }
    Ok(())
}

/// A dataset, or a snapshot of one.
fn zfs(state: &mut State, source: &str, flags: u64) -> io::Result<Found> {
    if !state.loaded("zfs") {
        return Err(errno(libc::ENODEV));
    }
    let (pool_name, rest) = source.split_once('/').unwrap_or((source.split('@').next().unwrap_or(source), ""));
    let rest = if rest.is_empty() { source.strip_prefix(pool_name).unwrap_or_default() } else { rest };
    let (name, snapshot) = rest.split_once('@').map_or((rest, None), |(name, snap)| (name, Some(snap)));
    let pools = state.machine.pools.iter();
    let pool = pools.filter(|pool| pool.name == pool_name).find(|pool| pool.imported.is_some());
    let pool = pool.ok_or_else(|| errno(libc::ENOENT))?;
    if state.lost(pool) {
        return Ok(Found::Never);
    }
    let read_only = pool.imported.as_ref().is_some_and(|imported| imported.read_only);
    let dataset = pool.datasets.get(name).ok_or_else(|| errno(libc::ENOENT))?;
    if dataset.volume {
        return Err(errno(libc::EINVAL));
    }
    if pool.locked(name) {
        return Err(errno(libc::EACCES));
    }
    let files = match snapshot {
        None => dataset.tree.clone(),
        Some(snap) => dataset.snapshots.get(snap).ok_or_else(|| errno(libc::ENOENT))?.tree.clone(),
    };
    let times = dataset.rolled_back;
    let wanted = read_only || snapshot.is_some() || flags & libc::MS_RDONLY != 0;
    let other = state.names.mounts.iter().any(|mount| mount.source == source && mount.read_only() != wanted);
    if other {
        return Err(errno(libc::EBUSY));
    }
    let writes = !wanted;
    let guid = pool.guid;
    if writes && let Some(pool) = state.machine.pools.iter_mut().find(|pool| pool.guid == guid) {
        pool.written = true;
    }
    let tree = state.disk_tree(&format!("{guid}:{rest}:{times}"), &files);
    Ok(Found::Tree(tree, read_only || snapshot.is_some()))
}

/// A file system on a device.
fn disk(state: &mut State, source: &str, fstype: &str) -> io::Result<Found> {
    let module = MODULES.iter().find(|(name, _)| *name == fstype).map(|(_, module)| *module);
    if !module.is_some_and(|module| state.loaded(module)) {
        return Err(errno(libc::ENODEV));
    }
    let Some(device) = state.device_at(Path::new(source)) else {
        let there = state.names.node(Path::new(source)).is_ok();
        return Err(errno(if there { libc::ENOTBLK } else { libc::ENOENT }));
    };
    if device.answers.is_none() || state.machine.stuck.contains(&device.name) {
        return Ok(Found::Never);
    }
    let name = device.name.clone();
    let ext = |kind: &str| kind.starts_with("ext") && fstype.starts_with("ext");
    match device.holds.clone() {
        Holds::Filesystem { kind, tree, .. } if kind == fstype || ext(&kind) => {
            let sealed = matches!(fstype, "squashfs" | "erofs" | "iso9660");
            Ok(Found::Tree(state.disk_tree(&name, &tree), sealed))
        }
        _ => Err(errno(libc::EINVAL)),
    }
}

/// `/proc/self/mounts`.
pub(super) fn list(state: &State) -> String {
    let escaped = |text: &str| text.replace('\\', "\\134").replace(' ', "\\040");
    let line =
        |mount: &Mount| format!("{} /{} {} rw 0 0\n", escaped(&mount.source), escaped(&mount.target), mount.fstype);
    state.names.mounts.iter().map(line).collect()
}

/// Unmounts what is mounted there last; with everything below it if lazily.
pub(super) fn unmount(world: &World, target: &Path, lazy: bool) -> io::Result<()> {
    let mut state = world.state();
    let path = state.names.walk(target, true)?.path;
    state.mount_at(&path).ok_or_else(|| errno(libc::EINVAL))?;
    let below = format!("{path}/");
    let inside = |mount: &Mount| mount.target.starts_with(&below);
    if state.names.mounts.iter().any(inside) {
        if !lazy {
            return Err(errno(libc::EBUSY));
        }
        state.names.mounts.retain(|mount| !inside(mount));
    }
    if let Some(at) = state.mount_at(&path).map(|(at, _)| at) {
        state.names.mounts.remove(at);
    }
    Ok(())
}
