//! The word `export`: lets go of a pool that was imported, so that another root can be booted without it. And `clear`: goes on
//! with one that waits for its disks.

use super::desk::Desk;
use super::mounted::{self, Mounted};
use crate::image::CONFIG_PATH;
use crate::pools::{Pools, imported, waits};
use crate::report::slow;
use crate::zfs::ioctl::Zfs;
use std::path::{Path, PathBuf};

/// The word.
pub(super) fn run(desk: &mut Desk<'_>, pool: &str) -> Result<(), String> {
    let imported = imported(desk.system, desk.log).map_err(|e| e.to_string())?;
    let names: Vec<&str> = imported.iter().map(|(name, _)| name.as_str()).collect();
    let names =
        if names.is_empty() { "no pool is imported".to_owned() } else { format!("imported: {}", names.join(" ")) };
    if pool.is_empty() {
        return Err(format!("expected a pool; {names}"));
    }
    if imported.iter().all(|(name, _)| name != pool) {
        return Err(format!("pool {pool} is not imported; {names}"));
    }
    if let Some(waits) = desk.asking("asking the pool", |system| waits(system, pool)) {
        return Err(format!("pool {pool} {waits}"));
    }
    let in_image = desk.system.exists(Path::new(CONFIG_PATH));
    let targets = to_unmount(&mounted::all(desk.system), pool, in_image)?;
    for target in &targets {
        let unmount = || desk.system.unmount(target, false);
        slow::working(desk.system, desk.log, &format!("unmounting {}", target.display()), unmount).map_err(|e| {
            format!(
                "{} could not be unmounted: {e}; leave it (cd /) and what uses it, then try again",
                target.display()
            )
        })?;
        desk.log.info(format!("{} is unmounted, to export pool {pool}", target.display()));
    }
    Pools::new(desk.system, desk.log, desk.phases).export(pool).map_err(|e| e.to_string())?;
    desk.talk.say(&format!("pool {pool} is exported\n"));
    Ok(())
}

/// The word `clear`.
pub(super) fn clear(desk: &mut Desk<'_>, pool: &str) -> Result<(), String> {
    let imported = imported(desk.system, desk.log).map_err(|e| e.to_string())?;
    if imported.iter().all(|(name, _)| name != pool) {
        let names: Vec<&str> = imported.iter().map(|(name, _)| name.as_str()).collect();
        return Err(format!("expected an imported pool, found {pool:?}; imported: {}", names.join(" ")));
    }
    Zfs::new(desk.system)
        .clear(pool)
        .map_err(|e| format!("{e}; are its disks back? `devices` lists those that are there"))?;
    if let Some(waits) = waits(desk.system, pool) {
        return Err(format!("pool {pool} still {waits}"));
    }
    desk.talk.say(&format!("the errors of pool {pool} are cleared\n"));
    Ok(())
}

/// What has to be unmounted before the pool can be exported, in order: its datasets, and what is mounted in them. In an image
/// all of it was mounted by the boot or by hand; elsewhere it is somebody's.
fn to_unmount(mounts: &[Mounted], pool: &str, in_image: bool) -> Result<Vec<PathBuf>, String> {
    let datasets: Vec<&Mounted> = mounts.iter().filter(|m| m.pool() == Some(pool)).collect();
    if let Some(root) = datasets.iter().find(|m| m.target == Path::new("/")) {
        return Err(format!("pool {pool} holds the running root ({}), so it stays imported", root.source));
    }
    if let (Some(first), false) = (datasets.first(), in_image) {
        let at = first.target.display();
        return Err(format!("{} is mounted on {at}, and not by a boot of an image; unmount it first", first.source));
    }
    let above = |m: &&Mounted| datasets.iter().any(|d| m.target.starts_with(&d.target));
    Ok(mounts.iter().rev().filter(above).map(|m| m.target.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "rootfs / rootfs rw 0 0\nproc /proc proc rw 0 0\nt/ROOT/a /newroot zfs rw 0 0\n\
        u/x /mnt zfs rw 0 0\nt/home /newroot/home zfs rw 0 0\n/dev/vda1 /newroot/boot/efi vfat rw 0 0\n\
        t2/y /newroot2 zfs rw 0 0\n";

    #[test]
    fn what_is_mounted_last_goes_first() {
        let mounts = mounted::parse(MOUNTS.as_bytes());
        let targets = |pool| {
            let paths = to_unmount(&mounts, pool, true).unwrap();
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(targets("t"), ["/newroot/boot/efi", "/newroot/home", "/newroot"]);
        assert_eq!(targets("u"), ["/mnt"]);
        assert!(targets("none").is_empty());
    }

    #[test]
    fn what_runs_and_what_is_not_ours_stays() {
        let mounts = mounted::parse(MOUNTS.as_bytes());
        assert!(to_unmount(&mounts, "u", false).unwrap_err().contains("u/x is mounted on /mnt"));
        assert!(to_unmount(&mounts, "none", false).unwrap().is_empty());
        let running = mounted::parse(b"t/ROOT/a / zfs rw 0 0\n");
        assert!(to_unmount(&running, "t", true).unwrap_err().contains("running root (t/ROOT/a)"));
    }
}
