//! In the place of `zfs-mount-generator(8)`: calls it, and takes away what it made for datasets of other boot environments. By
//! its unit such a dataset would be mounted wherever this environment has none, and, where both have one, `systemctl` would show
//! the wrong one.

use super::{GENERATOR, GENERATORS, of_name, root_name, zfs_mounts};
use crate::plan::facts::Dataset;
use crate::plan::{listcache, mounts};
use crate::sys::{Ended, FileKind, Program, System};
use std::collections::BTreeMap;
use std::path::Path;

/// Bytes of a list of datasets, or of a unit, that are read.
const LIST_MAX: usize = 16 << 20;
const UNIT_MAX: usize = 64 << 10;

/// Runs with the arguments of a generator, three directories, of which OpenZFS's uses the first; returns the exit status.
pub fn run(system: &dyn System, dirs: &[String]) -> i32 {
    let Some(path) = real(system) else { return 0 };
    let program = Program { path: path.clone().into(), args: dirs.to_vec(), ..Program::default() };
    let status = match system.run(&program, None, 0, &mut || false) {
        Ok(finished) => i32::from(finished.ended != Ended::Exit(0)),
        Err(e) => {
            eprintln!("taproot: {path}: {e}");
            return 1;
        }
    };
    if let (Some(dir), Some(root)) = (dirs.first(), root_name(&zfs_mounts(system))) {
        let datasets = listed(system);
        take_away(system, Path::new(dir), &mounts::foreign(&of_name(&root, &datasets), &datasets));
    }
    status
}

/// The generator that systemd would have taken; none where an administrator has switched it off.
fn real(system: &dyn System) -> Option<String> {
    let mut places = GENERATORS.iter().map(|dir| format!("{dir}/{GENERATOR}"));
    let kind = |path: &String| system.stat(Path::new(path)).ok().map(|info| info.kind);
    let first = places.find(|path| kind(path).is_some())?;
    (kind(&first) == Some(FileKind::File)).then_some(first)
}

/// What ZED's lists have.
fn listed(system: &dyn System) -> Vec<Dataset> {
    let lists = system.list(Path::new(listcache::DIR)).unwrap_or_default();
    let read = |pool: &String| system.read(Path::new(&listcache::path(pool)), LIST_MAX).unwrap_or_default();
    lists.iter().flat_map(|pool| listcache::datasets(&String::from_utf8_lossy(&read(pool)))).collect()
}

/// Removes the units of these datasets, and the links to them.
fn take_away(system: &dyn System, dir: &Path, foreign: &BTreeMap<String, String>) {
    let names = system.list(dir).unwrap_or_default();
    for unit in names.iter().filter(|name| name.ends_with(".mount")) {
        let path = dir.join(unit);
        let text = system.read(&path, UNIT_MAX).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let Some((dataset, why)) = what(&text).and_then(|what| foreign.get_key_value(what)) else { continue };
        let links = names.iter().filter(|name| name.ends_with(".wants") || name.ends_with(".requires"));
        for link in links.map(|name| dir.join(name).join(unit)) {
            // Most do not exist.
            let _ = system.remove(&link);
        }
        match system.remove(&path) {
            Ok(()) => eprintln!("taproot: no {unit} for {dataset}: {why}"),
            Err(e) => eprintln!("taproot: {unit} for {dataset} could not be removed: {e}"),
        }
    }
}

/// The dataset that a unit of the generator mounts.
fn what(unit: &str) -> Option<&str> {
    let source = format!("SourcePath={}/", listcache::DIR);
    unit.lines().find(|line| line.starts_with(&source))?;
    unit.lines().find_map(|line| line.strip_prefix("What="))
}
