//! What is mounted now.

use crate::plan::fstab::decode;
use crate::sys::System;
use std::path::{Path, PathBuf};

/// The kernel's list; a line each.
const MOUNTS: &str = "/proc/self/mounts";
/// Thousands of datasets make a megabyte.
const LONGEST: usize = 16 << 20;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub(crate) source: String,
    pub(crate) target: PathBuf,
    pub(crate) kind: String,
}

impl Mounted {
    /// The pool it belongs to, if it is ZFS.
    pub(super) fn pool(&self) -> Option<&str> {
        (self.kind == "zfs").then(|| self.source.split(['/', '@']).next().unwrap_or_default())
    }
}

/// All mounts, in the order in which they were made.
pub(crate) fn all(system: &dyn System) -> Vec<Mounted> {
    parse(&system.read(Path::new(MOUNTS), LONGEST).unwrap_or_default())
}

pub(super) fn parse(text: &[u8]) -> Vec<Mounted> {
    let mount = |line: &[u8]| {
        let mut fields = line.split(|b| *b == b' ').map(decode);
        let (source, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Mounted { source, target: target.into(), kind })
    };
    text.split(|b| *b == b'\n').filter_map(mount).collect()
}

/// The mount that a path lies in.
pub(super) fn over<'m>(mounts: &'m [Mounted], path: &Path) -> Option<&'m Mounted> {
    mounts.iter().filter(|m| path.starts_with(&m.target)).max_by_key(|m| m.target.as_os_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dataset_below_a_path() {
        let mounts = parse(
            b"rootfs / rootfs rw 0 0\nt/ROOT /newroot zfs rw 0 0\ntmpfs /newroot/tmp tmpfs rw 0 0\nt/a\\040b /a\\040b zfs rw 0 0\nhalf\n",
        );
        let at = |path: &str| over(&mounts, Path::new(path)).map(|m| (m.source.as_str(), m.pool()));
        assert_eq!(at("/newroot/etc/fstab"), Some(("t/ROOT", Some("t"))));
        assert_eq!(at("/newroot"), Some(("t/ROOT", Some("t"))));
        assert_eq!((at("/newroot/tmp/x"), at("/newroot2")), (Some(("tmpfs", None)), Some(("rootfs", None))));
        assert_eq!(at("/a b/c"), Some(("t/a b", Some("t"))));
    }
}
