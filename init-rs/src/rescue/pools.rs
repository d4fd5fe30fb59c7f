//! The pools on the disks, read from their labels (that works without the zfs module), and importing one by hand.

use super::desk::Desk;
use super::status;
use crate::devices::block;
use crate::sys::System;
use crate::zfs::assemble::{Candidate, Seen, assemble};
use crate::zfs::ioctl::{Zfs, describe};
use crate::zfs::label::{PoolState, read_labels};
use crate::zfs::nvlist::{NvList, Value};
use crate::zfs::paths::{self, LeafPath};
use std::fmt::Write as _;
use std::path::Path;

/// Labels of all disks, and a line for each disk without one.
fn scan(system: &dyn System) -> (Vec<Candidate>, String) {
    let mut seen = Vec::new();
    let mut other = String::new();
    for device in block::enumerate(Path::new("/sys"), Path::new("/dev")).devices {
        let mut read = |offset, buf: &mut [u8]| system.read_at(&device.node, offset, buf);
        match read_labels(&mut read, device.size_bytes) {
            Ok(label) => seen.push(Seen { device: device.node.display().to_string(), label }),
            Err(problem) => {
                let _ = writeln!(other, "{}: {problem}", device.node.display());
            }
        }
    }
    (assemble(&seen), other)
}

/// Pools on the disks, then the imported ones.
pub(super) fn text(system: &dyn System) -> String {
    let (candidates, mut out) = scan(system);
    for pool in candidates {
        let _ = writeln!(out, "pool {} guid {} {:?}", pool.name, pool.guid, pool.state);
        for leaf in &pool.leaves {
            let recorded = leaf.recorded_path.as_deref().unwrap_or("(no path)");
            let _ = writeln!(out, "  {recorded}  {}", leaf.device.as_deref().unwrap_or("MISSING"));
        }
        for problem in &pool.problems {
            let _ = writeln!(out, "  {problem}");
        }
    }
    out + &status::imported(system)
}

fn not_imported(system: &dyn System) -> Vec<Candidate> {
    let imported = Zfs::new(system).imported_pools().unwrap_or_default();
    let mut candidates = scan(system).0;
    candidates.retain(|c| c.state != PoolState::Destroyed && imported.iter().all(|(_, guid)| *guid != c.guid));
    candidates
}

/// Whether there is a pool to import, and a module that could.
pub(super) fn importable(system: &dyn System) -> bool {
    Zfs::new(system).imported_pools().is_ok() && !not_imported(system).is_empty()
}

/// The word `import`.
pub(super) fn import(desk: &mut Desk<'_>, rest: &[&str]) -> Result<(), String> {
    let candidates = not_imported(desk.system);
    let known = || {
        let lines: Vec<String> = candidates.iter().map(|c| format!("  {} (guid {})\n", c.name, c.guid)).collect();
        lines.concat()
    };
    let typed = match rest {
        [] => {
            desk.talk.say(&format!("pools that are not imported:\n{}", known()));
            desk.talk.ask("Which pool, and how (nothing, or ro): ").unwrap_or_default()
        }
        words => words.join(" "),
    };
    let mut words = typed.split_whitespace();
    let Some(wanted) = words.next() else { return Ok(()) };
    let mut read_only = false;
    for word in words {
        match word {
            "ro" => read_only = true,
            _ => return Err(format!("{word}: expected ro")),
        }
    }
    let mut matching = candidates.iter().filter(|c| c.name == wanted || wanted == c.guid.to_string());
    let candidate = matching.next().ok_or_else(|| format!("no such pool; not imported are:\n{}", known()))?;
    if matching.next().is_some() {
        return Err(format!("several pools are called {wanted}; name it by its guid:\n{}", known()));
    }
    import_candidate(desk.system, candidate.clone(), read_only)?;
    desk.talk.say(&status::imported(desk.system));
    Ok(())
}

fn import_candidate(system: &dyn System, mut candidate: Candidate, read_only: bool) -> Result<(), String> {
    for leaf in candidate.leaves.clone() {
        let Some(device) = &leaf.device else { continue };
        if let LeafPath::Use(path) = paths::ensure(Path::new("/dev"), leaf.recorded_path.as_deref(), device) {
            candidate.set_path(leaf.guid, &path);
        }
    }
    let zfs = Zfs::new(system);
    let reply = zfs.try_import(&candidate.name, &candidate.config).map_err(|e| e.to_string())?;
    let mut properties = NvList::new();
    properties.set("cachefile", Value::Str(b"none".to_vec()));
    if read_only {
        properties.set("readonly", Value::U64(1));
    }
    zfs.import(&candidate.name, candidate.guid, &reply, &properties)
        .map_err(|e| format!("pool {}: {}", candidate.name, describe(e.error.errno)))
}
