//! Exporting a pool that the boot no longer wants, so that the booted system does not find it imported.

use super::Pools;
use super::progress::Work;
use crate::plan::names;
use crate::sys::System;
use crate::zfs::ioctl::{Zfs, describe};
use std::path::Path;

/// The mounts of this process, as fstab(5) writes them.
const MOUNTS: &str = "/proc/self/mounts";
/// As much of them as is looked at.
const MAX_MOUNTS: usize = 16 << 20;

/// An export that did not happen; the pool is imported as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Datasets of it are mounted.
    #[error(
        "pool {pool} cannot be exported while anything of it is mounted; mounted are {}; unmount them (umount PLACE), then retry",
        places.join(", ")
    )]
    Mounted {
        /// The pool.
        pool: String,
        /// `DATASET on PLACE`, the last mounted first.
        places: Vec<String>,
    },
    /// Something else uses it.
    #[error(
        "pool {pool} cannot be exported: something uses it, though none of its datasets is mounted here; expected nobody: \
         unmount and close what lies on its volumes (/dev/zd*), and end what was started from it, then retry"
    )]
    Busy {
        /// The pool.
        pool: String,
    },
    /// One of its spares stands in for a disk of another pool.
    #[error("pool {pool} cannot be exported: another pool uses one of its spares; export that pool first, then retry")]
    SharedSpare {
        /// The pool.
        pool: String,
    },
    /// There is no such pool.
    #[error("pool {pool} is not imported, so there is nothing to export; status lists the pools that are")]
    NotImported {
        /// The pool.
        pool: String,
    },
    /// Anything else that the kernel says.
    #[error("pool {pool} cannot be exported: {reason}; look at the log (log), then retry")]
    Other {
        /// The pool.
        pool: String,
        /// The kernel's reason in words.
        reason: String,
    },
}

impl Pools<'_> {
    /// Exports a pool, without force. What is mounted of it is to be unmounted before: that is looked after here, because an
    /// export that the kernel refuses is not without consequences.
    pub fn export(&self, pool: &str) -> Result<(), ExportError> {
        let name = || pool.to_owned();
        let places = mounted(self.system, pool);
        if !places.is_empty() {
            return Err(ExportError::Mounted { pool: name(), places });
        }
        let result = self.phases.time("export", || {
            let work = Work { what: "exporting", pool, guid: 0 };
            work.watched(self.system, self.log, || Zfs::new(self.system).export(pool))
        });
        result.map_err(|e| match e.errno {
            libc::EBUSY => ExportError::Busy { pool: name() },
            libc::EXDEV => ExportError::SharedSpare { pool: name() },
            libc::ENOENT => ExportError::NotImported { pool: name() },
            errno => ExportError::Other { pool: name(), reason: describe(errno) },
        })?;
        self.log.info(format!("pool {pool} is exported"));
        Ok(())
    }
}

/// What is mounted of a pool, the last mounted first: the order in which it can be unmounted.
fn mounted(system: &dyn System, pool: &str) -> Vec<String> {
    let text = system.read(Path::new(MOUNTS), MAX_MOUNTS).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let place = |line: &str| {
        let mut fields = line.split(' ');
        let (source, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "zfs" && names::pool_of(source) == pool).then(|| format!("{source} on {place}"))
    };
    text.lines().rev().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::log::Log;
    use crate::report::phases::Phases;
    use crate::sys::ZfsReply;
    use crate::sys::fake::Tree;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// The result with a kernel that answers with `errno`, and how often it was asked.
    fn export(errno: i32, mounts: &str) -> (Result<(), ExportError>, u32, String) {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let tree = Tree::answering(move |_, call| {
            assert_eq!((call.number, call.name, call.cookie, call.guid), (3, &b"tank"[..], 0, 0));
            count.fetch_add(1, Ordering::Relaxed);
            ZfsReply { errno, ..ZfsReply::default() }
        });
        let tree = Arc::new(tree.with(MOUNTS, mounts));
        let log = Log::new(Arc::<Tree>::clone(&tree));
        let phases = Phases::new(Arc::<Tree>::clone(&tree));
        let result = Pools::new(&*tree, &log, &phases).export("tank");
        (result, asked.load(Ordering::Relaxed), log.text())
    }

    #[test]
    fn an_export_is_told() {
        let others = "tanker/x /a zfs rw 0 0\n/dev/sda1 /b ext4 rw 0 0\ntank /c tmpfs rw 0 0\n";
        let (result, asked, log) = export(0, others);
        assert_eq!((result, asked), (Ok(()), 1));
        assert!(log.contains("pool tank is exported"), "{log}");
    }

    #[test]
    fn what_is_mounted_is_named_and_the_kernel_not_asked() {
        let (result, asked, _) =
            export(0, "tank/ROOT/a /newroot zfs rw 0 0\ntank/home /newroot/my\\040home zfs rw 0 0\n");
        let error = result.unwrap_err().to_string();
        assert!(error.contains("tank/home on /newroot/my\\040home, tank/ROOT/a on /newroot; unmount"), "{error}");
        assert_eq!(asked, 0);
    }

    #[test]
    fn refusals_of_the_kernel_in_words() {
        for (errno, part) in [
            (libc::EBUSY, "something uses it"),
            (libc::EXDEV, "another pool uses one of its spares"),
            (libc::ENOENT, "is not imported"),
            (1038, "being exported already"),
            (libc::EIO, "Input/output error"),
        ] {
            let (result, asked, log) = export(errno, "");
            let error = result.unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("pool tank"), "{error}");
            assert_eq!((asked, log.as_str()), (1, ""));
        }
    }
}
