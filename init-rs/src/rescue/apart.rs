//! Whether the imported pools answer, tried by a process of its own: whoever asks a pool for what only a disk holds that is
//! gone waits for ever, and that must not be PID 1. What this process was told the kernel then has at hand.

use crate::pools::waits;
use crate::sys::System;
use crate::sys::linux::Linux;
use crate::zfs::ioctl::Zfs;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the pools may take; thousands of datasets take seconds.
const PATIENCE: Duration = Duration::from_secs(20);
const TURN: Duration = Duration::from_millis(20);
/// What the process is called with.
pub(super) const WORD: &str = "try-pools";
/// Makes sure that questions to the imported pools come back, but for those that wait for a disk: they are not to be asked. A
/// program of the shell is a process of its own already.
pub(super) fn pools_answer(system: &dyn System) -> Result<(), String> {
    if std::process::id() != 1 || Zfs::new(system).imported_pools().unwrap_or_default().is_empty() {
        return Ok(());
    }
    let mut command = Command::new("/proc/self/exe");
    command.arg0("taproot-init").arg(WORD).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Without it, as before: the pools are asked.
    let Ok(mut child) = command.spawn() else { return Ok(()) };
    if ended(&mut child) {
        return Ok(());
    }
    // One that waits for a disk cannot be killed: it is left behind.
    Err(format!("no pool has answered for {} s: one of them waits for its disks; reboot works", PATIENCE.as_secs()))
}

/// Whether the process came to its end in time.
fn ended(child: &mut Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        std::thread::sleep(TURN);
    }
    false
}

/// What the process does.
pub(super) fn try_pools() {
    let system = Linux::new();
    let zfs = Zfs::new(&system);
    for (pool, _) in zfs.imported_pools().unwrap_or_default() {
        if waits(&system, &pool).is_none() {
            let _ = zfs.bootfs(&pool);
            let _ = zfs.datasets(&pool);
        }
    }
}

/// Why a file must not be read: it lies in a dataset of a pool that waits for a disk.
pub(super) fn unreadable(system: &dyn System, path: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let pool = source_of(&mounts, path)?.split(['/', '@']).next().unwrap_or_default();
    waits(system, pool).map(|waits| format!("{} is on pool {pool}, which {waits}", path.display()))
}

/// The dataset that a path lies in, where it is ZFS.
fn source_of<'m>(mounts: &'m str, path: &Path) -> Option<&'m str> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let over =
        fields.filter_map(|f| Some((*f.first()?, *f.get(1)?, *f.get(2)?))).filter(|(_, at, _)| path.starts_with(at));
    over.max_by_key(|(_, at, _)| at.len()).filter(|(_, _, kind)| *kind == "zfs").map(|(source, ..)| source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dataset_below_a_path() {
        let mounts = "rootfs / rootfs rw 0 0\nt/ROOT /newroot zfs rw 0 0\ntmpfs /newroot/tmp tmpfs rw 0 0\n";
        let at = |path: &str| source_of(mounts, Path::new(path));
        assert_eq!(at("/newroot/etc/fstab"), Some("t/ROOT"));
        assert_eq!(at("/newroot"), Some("t/ROOT"));
        assert_eq!((at("/newroot/tmp/x"), at("/newroot2"), at("/proc/mounts")), (None, None, None));
    }
}
