//! The words `mount` and `umount`.

use super::desk::Desk;
use super::{hands, mounted};
use crate::devices::filesystems;
use crate::devices::probe::{SEALED_HEAD, Sealed, sealed};
use crate::plan::{from_zfs, names, options};
use crate::pools::waits;
use crate::zfs::ioctl::Zfs;
use std::path::Path;

/// Where `mount` mounts without a directory.
const MOUNT_AT: &str = "/mnt";
/// What everything here needs.
const KEPT: [&str; 5] = ["/", "/dev", "/proc", "/sys", "/run"];

/// `DATASET[@SNAPSHOT] [DIR] [ro]`; a name may have blanks in it.
fn parse<'w>(rest: &[&'w str]) -> (String, &'w str, bool) {
    let (rest, read_only) = rest.strip_suffix(&["ro"]).map_or((rest, false), |rest| (rest, true));
    let (name, dir) = match rest.split_last() {
        Some((dir, name)) if dir.starts_with('/') => (name, *dir),
        _ => (rest, MOUNT_AT),
    };
    (name.join(" "), dir, read_only)
}

/// Mounts an image, such as a layer.
fn mount_image(desk: &mut Desk<'_>, image: &str, dir: &str) -> Result<(), String> {
    let mut head = [0; SEALED_HEAD];
    let len = desk.system.read_at(Path::new(image), 0, &mut head).map_err(|e| format!("{image}: {e}"))?;
    let Some(Sealed { kind, .. }) = sealed(head.get(..len).unwrap_or_default()) else {
        return Err(format!(
            "{image} is neither squashfs nor erofs; what is below a directory is there without mount (ls)"
        ));
    };
    let modules: Vec<&str> = ["loop"].into_iter().chain(filesystems::modules(kind)).collect();
    hands::load(desk.hands, &modules);
    desk.system.make_dirs(Path::new(dir)).map_err(|e| format!("{dir}: {e}"))?;
    let mounted = desk.system.mount_image(Path::new(image), Path::new(dir), kind);
    mounted.map_err(|e| format!("{image} on {dir}: {e}"))?;
    desk.talk.say(&format!("{image} is mounted on {dir}, read-only\n"));
    Ok(())
}

/// Mounts a dataset, a snapshot or an image.
pub(super) fn mount(desk: &mut Desk<'_>, rest: &[&str]) -> Result<(), String> {
    if let [image, more @ ..] = rest
        && image.starts_with('/')
    {
        return match more {
            [] => mount_image(desk, image, MOUNT_AT),
            [dir] if dir.starts_with('/') => mount_image(desk, image, dir),
            _ => Err("expected an image, and a directory if not /mnt".to_owned()),
        };
    }
    let (name, dir, read_only) = parse(rest);
    if name.is_empty() {
        return Err("expected a dataset, snapshot or image, and a directory if not /mnt".to_owned());
    }
    let (dataset, snapshot) = name.split_once('@').map_or((name.as_str(), false), |(dataset, _)| (dataset, true));
    names::check(dataset).map_err(|e| format!("{dataset}: {e}"))?;
    let pool = names::pool_of(dataset);
    if let Some(waits) = waits(desk.system, pool) {
        return Err(format!("pool {pool} {waits}"));
    }
    desk.system.make_dirs(Path::new(dir)).map_err(|e| format!("{dir}: {e}"))?;
    let objset = Zfs::new(desk.system).objset(&name).map_err(|e| e.to_string())?;
    let read_only = read_only || snapshot;
    let options = options::mount_options(&from_zfs::dataset(&objset, true), Some(read_only), dir, &[]);
    let result = desk.system.mount(&name, Path::new(dir), "zfs", options.flags, &options.data);
    result.map_err(|e| match e.raw_os_error() {
        Some(libc::EACCES) => {
            format!("{name} is encrypted and its key is not loaded; `key {dataset}` asks for it")
        }
        _ => format!("{name} on {dir}: {e}"),
    })?;
    let how = if read_only { ", read-only" } else { "" };
    desk.talk.say(&format!("{name} is mounted on {dir}{how}\n"));
    Ok(())
}

/// Unmounts what is mounted on a directory, or a dataset from wherever it is mounted.
pub(super) fn unmount(desk: &mut Desk<'_>, what: &str) -> Result<(), String> {
    if what.is_empty() {
        return Err("expected a directory or a dataset; cat /proc/mounts lists what is mounted".to_owned());
    }
    let mounts = mounted::all(desk.system);
    let meant = |m: &&mounted::Mounted| m.target == Path::new(what) || (m.source == what && m.pool().is_some());
    let targets: Vec<&Path> = mounts.iter().rev().filter(meant).map(|m| m.target.as_path()).collect();
    if targets.is_empty() {
        return Err(format!("{what} is not mounted; cat /proc/mounts lists what is"));
    }
    for target in targets {
        let shown = target.display();
        if KEPT.iter().any(|kept| target == Path::new(kept)) {
            return Err(format!("{shown} is needed here, so it stays"));
        }
        desk.system.unmount(target, false).map_err(|e| match e.raw_os_error() {
            Some(libc::EBUSY) => format!("{shown}: something is mounted in it, or uses it; unmount that first"),
            _ => format!("{shown}: {e}"),
        })?;
        desk.talk.say(&format!("{shown} is unmounted\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_where_and_how() {
        for (line, name, dir, ro) in [
            ("", "", "/mnt", false),
            ("t/a", "t/a", "/mnt", false),
            ("t/a b@s /x", "t/a b@s", "/x", false),
            ("t/a /x ro", "t/a", "/x", true),
            ("t/a ro", "t/a", "/mnt", true),
            ("/x", "", "/x", false),
        ] {
            let parts: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(parse(&parts), (name.to_owned(), dir, ro), "{line}");
        }
    }
}
