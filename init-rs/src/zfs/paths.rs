//! Leaves the device paths that a pool records as they are.
//!
//! A writable import stores the path of every leaf in all labels, so importing `/dev/sda2` would replace the
//! `/dev/disk/by-id/...` the administrator chose. The kernel follows symbolic links: we make the recorded path a link to
//! the node where udev has not run yet; the final system's udev owns `/dev/disk` later (reference zfs-ioctl 4.6).

use crate::sys::System;
use std::io;
use std::path::{Component, Path};

/// The only directory below which links are made.
const DEV: &str = "/dev";

/// What to tell the kernel about a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeafPath {
    /// Import with the recorded path.
    Keep,
    /// The recorded path cannot be kept: import with the node.
    Use(String),
}

/// Makes `recorded` lead to `node`, below `/dev`, if nothing else is there. For leaves, spares and caches alike, and to be
/// done before the kernel opens any of them: it waits for each path that leads nowhere.
pub fn ensure(system: &dyn System, recorded: Option<&str>, node: &str) -> LeafPath {
    match recorded {
        Some(recorded) if leads_to(system, recorded, node) => LeafPath::Keep,
        Some(recorded) if link(system, Path::new(recorded), node).is_ok() => LeafPath::Keep,
        _ => LeafPath::Use(node.to_owned()),
    }
}

/// Whether a path leads to the node.
fn leads_to(system: &dyn System, recorded: &str, node: &str) -> bool {
    match (system.canonical(Path::new(recorded)), system.canonical(Path::new(node))) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

fn link(system: &dyn System, recorded: &Path, node: &str) -> io::Result<()> {
    let dev = Path::new(DEV);
    // The path comes from a disk: only plain names below /dev, never a way out of it.
    let plain = recorded.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    // Names in /dev itself are the kernel's: under one that is taken it would make no node for the disk that gets it next.
    let given_by_kernel = recorded.parent() == Some(dev);
    if !plain || !recorded.starts_with(dev) || recorded == dev || given_by_kernel {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if let Some(parent) = recorded.parent() {
        system.make_dirs(parent)?;
        if !system.canonical(parent)?.starts_with(system.canonical(dev)?) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
    }
    let node = Path::new(node);
    match system.symlink(node, recorded) {
        // A dangling link of an earlier attempt (a disk that came back under another name) may be replaced, a node never.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && !system.exists(recorded) => {
            system.remove(recorded)?;
            system.symlink(node, recorded)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Tree;

    const RECORDED: &str = "/dev/disk/by-id/x-part1";

    fn leads(tree: &Tree, path: &str) -> String {
        tree.canonical(Path::new(path)).unwrap().display().to_string()
    }

    #[test]
    fn links_what_is_missing_and_keeps_what_fits() {
        let tree = Tree::new().with("/dev/vda1", "a").with("/dev/vdb1", "b");
        assert_eq!(ensure(&tree, Some(RECORDED), "/dev/vda1"), LeafPath::Keep);
        assert_eq!(leads(&tree, RECORDED), "/dev/vda1");
        assert_eq!(ensure(&tree, Some(RECORDED), "/dev/vda1"), LeafPath::Keep, "a second time finds it in place");
        tree.remove(Path::new("/dev/vda1")).unwrap();
        assert_eq!(ensure(&tree, Some(RECORDED), "/dev/vdb1"), LeafPath::Keep, "a link to nothing is replaced");
        assert_eq!(leads(&tree, RECORDED), "/dev/vdb1");
        assert_eq!(ensure(&tree, None, "/dev/vdb1"), LeafPath::Use("/dev/vdb1".into()));
    }

    #[test]
    fn another_device_at_the_recorded_path_is_not_touched() {
        let tree = Tree::new().with("/dev/sda", "a").with("/dev/sdb", "b").with_link("../../sda", RECORDED);
        for recorded in ["/dev/sda", RECORDED] {
            assert_eq!(ensure(&tree, Some(recorded), "/dev/sdb"), LeafPath::Use("/dev/sdb".into()));
            assert_eq!(tree.text(recorded), "a");
        }
    }

    #[test]
    fn the_kernels_own_names_are_left_free() {
        let tree = Tree::new().with("/dev/sda1", "a");
        assert_eq!(ensure(&tree, Some("/dev/sdb1"), "/dev/sda1"), LeafPath::Use("/dev/sda1".into()));
        assert!(tree.read_link(Path::new("/dev/sdb1")).is_err());
        assert_eq!(ensure(&tree, Some("/dev/sda1"), "/dev/sda1"), LeafPath::Keep);
    }

    #[test]
    fn hostile_paths_stay_inside_dev() {
        let tree = Tree::new().with("/dev/vda", "a").with("/top", "t").with_link("/", "/dev/out");
        for recorded in ["/dev/../etc/x", "/dev/out/x", "/etc/x", "/dev", "/dev/", "", "dev/disk/x", "/dev/vda/x"] {
            assert_eq!(ensure(&tree, Some(recorded), "/dev/vda"), LeafPath::Use("/dev/vda".into()), "{recorded}");
        }
        assert_eq!(tree.list(Path::new("/")).unwrap(), ["dev", "top"]);
    }
}
