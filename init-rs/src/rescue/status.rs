//! What was asked, found, chosen and mounted, and what is imported now.

use crate::plan::facts::{CanMount, Health, Mountpoint};
use crate::plan::from_zfs;
use crate::pools::waits;
use crate::report::boot::BootReport;
use crate::sys::System;
use crate::zfs::ioctl::{ObjsetKind, Zfs};
use crate::zfs::judge::bootfs_text;
use std::fmt::Write as _;

/// Words for a vdev's state (`vdev_state_t` in include/sys/fs/zfs.h).
fn state_words(state: Option<u64>) -> &'static str {
    match state {
        Some(7) => "online",
        Some(6) => "degraded",
        Some(5) => "faulted",
        Some(4) => "cannot be opened",
        _ => "in an unknown state",
    }
}

/// The record of the boot, short.
pub(super) fn text(report: &BootReport) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<9} {value}");
    };
    line("kernel", &format!("{}, OpenZFS {}", report.kernel, report.zfs.as_deref().unwrap_or("not loaded")));
    if let Some(request) = &report.request {
        line("asked", &request.root.why);
    }
    if !report.typed.is_empty() {
        line("typed", &report.typed.join(" "));
    }
    for pool in &report.pools {
        let health = match pool.health {
            Health::Online => "online",
            Health::Degraded => "degraded",
            Health::Unavailable => "unavailable",
        };
        let bootfs = bootfs_text(pool.bootfs.as_deref(), pool.bootfs_unknown);
        let problem = pool.problem.as_ref().map_or_else(String::new, |p| format!("; {p}"));
        line("found", &format!("pool {} (guid {}), {health}, bootfs {bootfs}{problem}", pool.name, pool.guid));
    }
    match &report.choice {
        Some(choice) => line("chosen", &format!("pool {}: {}", choice.pool, choice.why)),
        None => line("chosen", "no pool"),
    }
    line("root", report.root.as_deref().unwrap_or("none"));
    for mount in &report.mounts {
        let error = mount.error.as_ref().map_or_else(String::new, |e| format!(": {e}"));
        let word = if mount.error.is_some() { "failed" } else { "mounted" };
        line(word, &format!("{} on {}{error}", mount.step.dataset, mount.step.target));
    }
    for part in &report.protected {
        line("protected", &format!("{} ({})", part.directory, part.by));
    }
    for problem in &report.problems {
        line("problem", problem);
    }
    out
}

/// The pools that are imported now.
pub(super) fn imported(system: &dyn System) -> String {
    let zfs = Zfs::new(system);
    let pools = match zfs.imported_pools() {
        Ok(pools) => pools,
        Err(e) => return format!("imported  unknown: {e}\n"),
    };
    if pools.is_empty() {
        return "imported  no pool\n".to_owned();
    }
    let mut out = String::new();
    for (name, guid) in pools {
        let pool = format!("imported  pool {name} (guid {guid})");
        if let Some(waits) = waits(system, &name) {
            let _ = writeln!(out, "{pool}, SUSPENDED: it {waits}");
            continue;
        }
        let config = zfs.pool_stats(&name).unwrap_or_default();
        let state = config.list("vdev_tree").and_then(|t| t.u64s("vdev_stats")).and_then(|s| s.get(1)).copied();
        let bootfs = zfs.bootfs(&name);
        let bootfs = bootfs_text(bootfs.as_ref().ok().and_then(Option::as_deref), bootfs.is_err());
        let _ = writeln!(out, "{pool}, {}, bootfs {bootfs}", state_words(state));
    }
    out
}

/// The datasets of one imported pool, or of all.
pub(super) fn datasets(system: &dyn System, pool: Option<&str>) -> Result<String, String> {
    let zfs = Zfs::new(system);
    let pools = match pool {
        Some(pool) => vec![pool.to_owned()],
        None => zfs.imported_pools().map_err(|e| e.to_string())?.into_iter().map(|(name, _)| name).collect(),
    };
    let mut out = String::new();
    for pool in &pools {
        if let Some(waits) = waits(system, pool) {
            let _ = writeln!(out, "{pool}  SUSPENDED: the pool {waits}");
            continue;
        }
        let bootfs = zfs.bootfs(pool).ok().flatten();
        for objset in zfs.datasets(pool).map_err(|e| format!("{e}; is pool {pool} imported?"))? {
            let dataset = from_zfs::dataset(&objset, true);
            let mountpoint = match &dataset.mountpoint {
                _ if objset.kind == ObjsetKind::Volume => "volume",
                Mountpoint::Path(path) => path,
                Mountpoint::Legacy => "legacy",
                Mountpoint::None => "none",
            };
            let canmount = match dataset.canmount {
                CanMount::On => "",
                CanMount::Off => ", canmount=off",
                CanMount::NoAuto => ", canmount=noauto",
            };
            let key = match dataset.key_available {
                None => "",
                Some(true) => ", key loaded",
                Some(false) => ", KEY NOT LOADED",
            };
            let bootfs = if bootfs.as_deref() == Some(dataset.name.as_str()) { ", bootfs" } else { "" };
            let _ = writeln!(out, "{}  {mountpoint}{canmount}{key}{bootfs}", dataset.name);
        }
    }
    if out.is_empty() {
        out.push_str("no pool is imported; `pools` lists what is on the disks\n");
    }
    Ok(out)
}
