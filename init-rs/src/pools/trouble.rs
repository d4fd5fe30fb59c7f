//! Imported pools that have lost a disk they cannot do without. Whoever asks such a pool for what is not in memory waits for
//! ever, and the kernel calls it suspended only once it has noticed: some releases then wait in the middle of a
//! transaction group and never say so.

use crate::image::CONFIG_PATH;
use crate::sys::System;
use crate::zfs::ioctl::Zfs;
use crate::zfs::judge;
use crate::zfs::nvlist::NvList;
use std::path::Path;

/// What the kernel says of imported pools.
const POOLS: &str = "/proc/spl/kstat/zfs";
/// Depth of a vdev tree as far as it is followed.
const MAX_DEPTH: u32 = 16;
/// A healthy vdev, and one that does with what it has (`vdev_state_t`).
const HEALTHY: u64 = 7;
const DEGRADED: u64 = 6;

/// The pool's state in the kernel, from a file that can always be read; a pool that is being opened has none.
pub(super) fn state(system: &dyn System, pool: &str) -> String {
    system.text(&format!("{POOLS}/{pool}/state"))
}

/// Imported pools of which the kernel says that they wait for a disk.
pub fn suspended(system: &dyn System) -> Vec<String> {
    let pools = system.list(Path::new(POOLS)).unwrap_or_default();
    pools.into_iter().filter(|pool| state(system, pool) == "SUSPENDED").collect()
}

/// The disks that an imported pool waits for, if it waits: end of a sentence that begins with the pool. One whose state is not
/// known may wait: whatever else it was asked might never be answered.
pub fn waits(system: &dyn System, pool: &str) -> Option<String> {
    let stats = match Zfs::new(system).pool_stats(pool) {
        Ok(stats) => stats,
        Err(e) if e.errno == libc::ENOENT => return None,
        Err(e) => return Some(format!("could not be asked whether it waits for a disk: {e}")),
    };
    // Elsewhere the names that the kernel knows need not be there for everybody, in a container for one.
    let initramfs = system.exists(Path::new(CONFIG_PATH));
    let there = |path: &str| !initramfs || system.exists(Path::new(path));
    waiting(&stats, state(system, pool) == "SUSPENDED", &there)
}

/// The same from the pool's configuration.
pub(super) fn waiting(stats: &NvList, suspended: bool, there: &dyn Fn(&str) -> bool) -> Option<String> {
    let mut gone = Vec::new();
    let tops = stats.list("vdev_tree").and_then(|tree| tree.lists("children")).unwrap_or_default();
    let lost = tops.iter().filter(|top| top.u64("is_log") != Some(1)).any(|top| !works(top, 0, there, &mut gone));
    let names = if gone.is_empty() { String::new() } else { format!(" ({})", gone.join(", ")) };
    (lost || suspended || judge::suspended(stats))
        .then(|| format!("waits for a disk that is gone{names}; nothing that needs it goes on, but reboot works"))
}

/// Whether a vdev does its work with the devices that are there now. A device is only told gone if the kernel still takes it
/// for healthy.
fn works(vdev: &NvList, depth: u32, there: &dyn Fn(&str) -> bool, gone: &mut Vec<String>) -> bool {
    let state = vdev.u64s("vdev_stats").and_then(|stats| stats.get(1)).copied().unwrap_or(HEALTHY);
    let kind = vdev.string("type").unwrap_or_default();
    let Some(children) = vdev.lists("children").filter(|_| depth < MAX_DEPTH) else {
        match vdev.text("path").filter(|path| kind == b"disk" && state == HEALTHY && !there(path)) {
            Some(path) => gone.push(path.into_owned()),
            None => return state >= DEGRADED || matches!(kind, b"hole" | b"indirect"),
        }
        return false;
    };
    let failed = children.iter().filter(|child| !works(child, depth + 1, there, gone)).count();
    match vdev.u64("nparity") {
        Some(parity) => failed as u64 <= parity,
        None => failed < children.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zfs::nvlist::Value;

    fn leaf(path: &str, state: u64) -> NvList {
        let numbers = Value::U64Array(vec![0, state, 0]);
        [("type", Value::text("disk")), ("path", Value::text(path)), ("vdev_stats", numbers)].into_iter().collect()
    }

    fn group(kind: &str, children: Vec<NvList>) -> NvList {
        [("type", Value::text(kind)), ("children", Value::ListArray(children))].into_iter().collect()
    }

    fn pool(tops: Vec<NvList>) -> NvList {
        [("vdev_tree", Value::List(group("root", tops)))].into_iter().collect()
    }

    fn said(stats: &NvList) -> Option<String> {
        waiting(stats, false, &|path| !path.starts_with("/dev/gone"))
    }

    #[test]
    fn a_pool_waits_for_what_it_cannot_do_without() {
        let mut raidz = group("raidz", vec![leaf("/dev/gone1", 7), leaf("/dev/a", 7), leaf("/dev/b", 7)]);
        raidz.set("nparity", Value::U64(1));
        let mut log = leaf("/dev/gone-log", 7);
        log.set("is_log", Value::U64(1));
        let hole = [("type", Value::text("hole"))].into_iter().collect();
        let mirror = |second: u64| group("mirror", vec![leaf("/dev/gone2", 7), leaf("/dev/c", second)]);
        assert_eq!(said(&pool(vec![raidz.clone(), mirror(7), log, hole])), None);
        // Its other half was missing before.
        assert!(said(&pool(vec![mirror(4)])).unwrap().starts_with("waits for a disk that is gone (/dev/gone2); "));
        assert!(said(&pool(vec![leaf("/dev/a", 7), leaf("/dev/gone", 7)])).is_some());
        raidz.set("children", Value::ListArray(vec![leaf("/dev/gone1", 7), leaf("/dev/gone2", 7), leaf("/dev/b", 7)]));
        assert!(said(&pool(vec![raidz])).is_some());
        assert_eq!(said(&NvList::new()), None);
    }

    #[test]
    fn suspended_pools_wait_whatever_their_failmode() {
        let stats = [("suspended", Value::U64(0))].into_iter().collect();
        assert!(said(&stats).is_some());
        assert!(waiting(&NvList::new(), true, &|_| true).is_some());
    }
}
