//! Leaves the device paths that a pool records as they are.
//!
//! A writable import stores the path of every leaf in all labels, so importing `/dev/sda2` would replace the
//! `/dev/disk/by-id/...` the administrator chose. The kernel follows symbolic links: we make the recorded path a link to
//! the node where udev has not run yet; the final system's udev owns `/dev/disk` later (reference zfs-ioctl 4.6).

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path};

/// What to tell the kernel about a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeafPath {
    /// Import with the recorded path.
    Keep,
    /// The recorded path cannot be kept: import with the node.
    Use(String),
}

/// Makes `recorded` lead to `node`, below `dev` (`/dev` but for tests), if nothing else is there.
pub fn ensure(dev: &Path, recorded: Option<&str>, node: &str) -> LeafPath {
    match recorded {
        Some(recorded) if leads_to(recorded, node) => LeafPath::Keep,
        Some(recorded) if link(dev, Path::new(recorded), node).is_ok() => LeafPath::Keep,
        _ => LeafPath::Use(node.to_owned()),
    }
}

fn leads_to(recorded: &str, node: &str) -> bool {
    match (fs::canonicalize(recorded), fs::canonicalize(node)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

fn link(dev: &Path, recorded: &Path, node: &str) -> io::Result<()> {
    // The path comes from a disk: only plain names below /dev, never a way out of it.
    let plain = recorded.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    // Names in /dev itself are the kernel's: under one that is taken it would make no node for the disk that gets it next.
    let given_by_kernel = recorded.parent() == Some(dev);
    if !plain || !recorded.starts_with(dev) || recorded == dev || given_by_kernel {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if let Some(parent) = recorded.parent() {
        fs::create_dir_all(parent)?;
        if !fs::canonicalize(parent)?.starts_with(fs::canonicalize(dev)?) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
    }
    match symlink(node, recorded) {
        // A dangling link of an earlier attempt (a disk that came back under another name) may be replaced, a node never.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && !recorded.exists() => {
            fs::remove_file(recorded)?;
            symlink(node, recorded)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_what_is_missing_and_keeps_what_fits() {
        let dir = tempfile::tempdir().unwrap();
        let dev = dir.path();
        let node = dev.join("vda1");
        fs::write(&node, "a").unwrap();
        let recorded = dev.join("disk/by-id/x-part1");
        let (node, recorded) = (node.to_str().unwrap(), recorded.to_str().unwrap());
        assert_eq!(ensure(dev, Some(recorded), node), LeafPath::Keep);
        assert_eq!(fs::canonicalize(recorded).unwrap(), fs::canonicalize(node).unwrap());
        assert_eq!(ensure(dev, Some(recorded), node), LeafPath::Keep, "a second time finds it in place");
    }

    #[test]
    fn another_device_at_the_recorded_path_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let dev = dir.path();
        let (a, b) = (dev.join("sda"), dev.join("sdb"));
        fs::write(&a, "a").unwrap();
        fs::write(&b, "b").unwrap();
        let found = ensure(dev, a.to_str(), b.to_str().unwrap());
        assert_eq!(found, LeafPath::Use(b.to_str().unwrap().to_owned()));
        assert_eq!(fs::read(&a).unwrap(), b"a");
    }

    #[test]
    fn the_kernels_own_names_are_left_free() {
        let dir = tempfile::tempdir().unwrap();
        let dev = dir.path();
        let (node, recorded) = (dev.join("sda1"), dev.join("sdb1"));
        fs::write(&node, "a").unwrap();
        let node = node.to_str().unwrap();
        assert_eq!(ensure(dev, recorded.to_str(), node), LeafPath::Use(node.to_owned()));
        assert!(fs::symlink_metadata(&recorded).is_err());
        assert_eq!(ensure(dev, Some(node), node), LeafPath::Keep);
    }

    #[test]
    fn hostile_paths_stay_inside_dev() {
        let dir = tempfile::tempdir().unwrap();
        let dev = dir.path().join("dev");
        fs::create_dir(&dev).unwrap();
        let node = dev.join("vda");
        fs::write(&node, "a").unwrap();
        symlink(dir.path(), dev.join("out")).unwrap();
        for recorded in ["../etc/x", "out/x", "/etc/x", ""] {
            let path = dev.join(recorded);
            assert!(matches!(ensure(&dev, path.to_str(), node.to_str().unwrap()), LeafPath::Use(_)), "{recorded}");
        }
        assert!(!dir.path().join("x").exists());
    }
}
