//! In the place of `zfs-mount-generator(8)`: becomes it, and shows it the lists of datasets without those of other boot
//! environments. By its unit such a dataset would be mounted wherever this environment has none, and of two for one directory
//! the generator takes the first.

use super::{GENERATOR, GENERATORS, of_name, root_name, zfs_mounts};
use crate::plan::facts::Dataset;
use crate::plan::{listcache, mounts};
use crate::sys::{FileKind, Program, System};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Bytes of a list of datasets that are read.
const LIST_MAX: usize = 16 << 20;

/// Runs with the arguments of a generator; comes back, with the exit status, only if there is none to become.
pub fn run(system: &dyn System, dirs: &[String]) -> i32 {
    let Some(path) = real(system) else { return 0 };
    if let Some(root) = root_name(system, &zfs_mounts(system))
        && let Err(e) = show_own(system, &root)
    {
        eprintln!("taproot: {GENERATOR} makes units for datasets of other boot environments too: {e}");
    }
    let error =
        system.become_program(&Program { path: path.clone().into(), args: dirs.to_vec(), ..Program::default() });
    eprintln!("taproot: {path}: {error}");
    1
}

/// The generator that systemd would have taken; none where an administrator has switched it off.
fn real(system: &dyn System) -> Option<String> {
    let mut places = GENERATORS.iter().map(|dir| format!("{dir}/{GENERATOR}"));
    let kind = |path: &String| system.stat(Path::new(path)).ok().map(|info| info.kind);
    let first = places.find(|path| kind(path).is_some())?;
    (kind(&first) == Some(FileKind::File)).then_some(first)
}

/// Puts lists without other environments over ZED's, for this process alone.
fn show_own(system: &dyn System, root: &str) -> io::Result<()> {
    let (lists, unreadable) = lists(system);
    for why in unreadable {
        eprintln!("taproot: {why}: no unit is made of what that list names");
    }
    let datasets: Vec<Dataset> = lists.values().flat_map(|text| listcache::datasets(text)).collect();
    let foreign = mounts::foreign(&of_name(root, &datasets), &datasets);
    let is_own = |line: &&str| !line.split('\t').next().is_some_and(|name| foreign.contains_key(name));
    if lists.values().all(|text| text.lines().all(|line| is_own(&line))) {
        return Ok(());
    }
    system.own_mounts()?;
    system.mount("tmpfs", Path::new(listcache::DIR), "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, "mode=0755")?;
    for (pool, text) in lists {
        let own: String = text.lines().filter(is_own).flat_map(|line| [line, "\n"]).collect();
        system.write(Path::new(&listcache::path(&pool)), own.as_bytes())?;
    }
    Ok(())
}

/// ZED's lists, by pool, and why others cannot be read.
pub(super) fn lists(system: &dyn System) -> (BTreeMap<String, String>, Vec<String>) {
    let mut unreadable = Vec::new();
    let pools = system.list(Path::new(listcache::DIR)).unwrap_or_else(|e| {
        if e.kind() != io::ErrorKind::NotFound {
            unreadable.push(format!("{}: {e}", listcache::DIR));
        }
        Vec::new()
    });
    let mut lists = BTreeMap::new();
    for pool in pools {
        let path = listcache::path(&pool);
        match system.read(Path::new(&path), LIST_MAX) {
            Ok(bytes) => {
                lists.insert(pool, String::from_utf8_lossy(&bytes).into_owned());
            }
            Err(e) => unreadable.push(format!("{path}: {e}")),
        }
    }
    (lists, unreadable)
}
