//! Clones of a root and of what lies below it.

use super::{Existing, STATE_PROPERTY, SnapshotPlan, Source, Step, UNFINISHED, parts};
use crate::plan::facts::Mountpoint;
use crate::plan::{Refusal, names};
use crate::sorted;
use crate::zfs::nvlist::Value;

/// Properties that a clone gets if they are set on the original itself (zfsprops(7)): what decides how the files in it look
/// and are kept. Not those that reserve or limit space, share, or belong to encryption. User properties go along too.
const CARRIED: [&str; 32] = [
    "aclinherit",
    "aclmode",
    "acltype",
    "atime",
    "canmount",
    "checksum",
    "compression",
    "context",
    "copies",
    "defcontext",
    "devices",
    "dnodesize",
    "exec",
    "fscontext",
    "logbias",
    "longname",
    "mountpoint",
    "nbmand",
    "overlay",
    "primarycache",
    "readonly",
    "recordsize",
    "redundant_metadata",
    "relatime",
    "rootcontext",
    "secondarycache",
    "setuid",
    "snapdir",
    "special_small_blocks",
    "sync",
    "xattr",
    "zoned",
];

/// Where the clone of `root@snapshot` goes: `asked`, or the root's name, `_` and the snapshot's.
pub fn clone_name(root: &str, snapshot: &str, asked: Option<&str>) -> Result<String, Refusal> {
    let name = asked.map_or_else(|| format!("{root}_{snapshot}"), str::to_owned);
    let pool = names::pool_of(root);
    let refuse = |problem: String| Refusal {
        problem: format!("{name} cannot be the name of a clone of {root}@{snapshot}: {problem}"),
        expected: format!("a name in pool {pool}, outside of {root}"),
        found: vec![],
        advice: vec![format!(
            "name the clone: retry taproot.clone={pool}/NAME here, or that word on the kernel command line"
        )],
    };
    names::check(&name).map_err(refuse)?;
    if names::pool_of(&name) != pool || names::parent(&name).is_none() {
        return Err(refuse(format!("a clone lies in the pool of its origin, below {pool}")));
    }
    // Below the pool's own dataset lies everything.
    if names::is_within(&name, root) && root != pool {
        return Err(refuse(format!("it would be part of {root}")));
    }
    Ok(name)
}

/// Clones `root@snapshot` and, below the clone, the same snapshot of the datasets below the root. `existing`: what lies at
/// and below `name` already.
pub fn clone(
    root: &str,
    snapshot: &str,
    name: &str,
    sources: &[Source],
    existing: &[Existing],
) -> Result<SnapshotPlan, Refusal> {
    let outside: Vec<Source> = sources.iter().filter(|s| !names::is_within(&s.name, name)).cloned().collect();
    let (parts, left_out) = parts(root, snapshot, &outside);
    let origin = format!("{root}@{snapshot}");
    let target = |source: &str| format!("{name}{}", source.strip_prefix(root).unwrap_or_default());
    let there = |name: &str| existing.iter().find(|e| e.name == name);
    let first = there(name);
    for part in &parts {
        let (to, from) = (target(&part.name), format!("{}@{snapshot}", part.name));
        if let Some(other) = there(&to)
            && (part.name == root || first.is_some_and(|f| f.unfinished))
            && other.origin.as_ref() != Some(&from)
        {
            return Err(taken(&from, other, names::pool_of(root)));
        }
    }
    let mut plan = SnapshotPlan { root: name.to_owned(), left_out, ..SnapshotPlan::default() };
    if let Some(clone) = first
        && !clone.unfinished
    {
        plan.why = format!("{name}, the clone of {origin} that exists already; what was changed in it is kept");
        let kept = parts.iter().filter(|p| there(&target(&p.name)).is_some());
        plan.stands_for = sorted::map(kept.map(|p| (p.name.clone(), target(&p.name))));
        return Ok(plan);
    }
    let alone = parts.len() < 2;
    for part in &parts {
        let to = target(&part.name);
        plan.stands_for.insert(part.name.clone(), to.clone());
        if there(&to).is_none() {
            let properties = clone_properties(part, part.name == root, !alone);
            plan.steps.push(Step::Clone { from: format!("{}@{snapshot}", part.name), to, properties });
        }
    }
    if first.is_some() || !alone {
        plan.steps.push(Step::Complete(name.to_owned()));
    }
    plan.why = match first {
        None => format!("{name}, a new clone of {origin}"),
        Some(_) => format!("{name}, a clone of {origin} that an interrupted boot began and this one completes"),
    };
    Ok(plan)
}

/// What a clone is to have in common with its original.
pub(super) fn clone_properties(source: &Source, root: bool, unfinished: bool) -> Vec<(String, Value)> {
    let carried = |name: &str| CARRIED.contains(&name) || (name.contains(':') && name != STATE_PROPERTY);
    let mut properties: Vec<(String, Value)> = source.own.iter().filter(|(name, _)| carried(name)).cloned().collect();
    if root {
        // A root is mounted by name only. Its mount point is set even where the original inherits it: the clone may have
        // another parent, and its descendants inherit from it.
        properties.retain(|(name, _)| name != "canmount" && name != "mountpoint");
        let mountpoint = match &source.mountpoint {
            Mountpoint::Path(path) => path,
            Mountpoint::Legacy => "legacy",
            Mountpoint::None => "none",
        };
        properties.push(("canmount".to_owned(), Value::U64(2)));
        properties.push(("mountpoint".to_owned(), Value::text(mountpoint)));
        if unfinished {
            properties.push((STATE_PROPERTY.to_owned(), Value::text(UNFINISHED)));
        }
    }
    properties
}

fn taken(from: &str, other: &Existing, pool: &str) -> Refusal {
    let what = match &other.origin {
        Some(origin) => format!("a clone of {origin}"),
        None => "not a clone".to_owned(),
    };
    Refusal {
        problem: format!("{from} is to be cloned as {}, but a dataset of that name exists", other.name),
        expected: format!("no dataset {}, or one that is a clone of {from}", other.name),
        found: vec![format!("{} is {what}; it was left as it is", other.name)],
        advice: vec![
            format!(
                "give the clone another name: retry taproot.clone={pool}/NAME here, or that word on the kernel command line"
            ),
            format!("or rename or destroy {} yourself, if nothing in it is needed", other.name),
        ],
    }
}
