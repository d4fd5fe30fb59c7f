//! Booting a snapshot: by a clone, by rolling back, or read-only as it is. Says what to do; `docs/snapshots.md` has the
//! rules.

mod cloning;

use std::collections::BTreeMap;

use super::facts::{Kind, Mountpoint};
use super::mounts::{MountPlan, Skipped};
use super::{Refusal, names};
use crate::sorted;
use crate::zfs::ioctl::Objset;
use crate::zfs::nvlist::Value;
use crate::zfs::snapshots::Snapshot;

pub use cloning::{clone, clone_name};

/// User property of a clone that this program makes: whether all that belongs to it is made.
pub const STATE_PROPERTY: &str = "taproot:clone";
/// Its value while clones of descendants are still missing: nothing has run from it.
pub const UNFINISHED: &str = "unfinished";
/// Its value from then on.
pub const COMPLETE: &str = "complete";
/// How many snapshots an explanation lists.
const LISTED: usize = 20;

/// The root or a dataset below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Full name.
    pub name: String,
    /// Kind.
    pub kind: Kind,
    /// Effective mount point.
    pub mountpoint: Mountpoint,
    /// Whether its key is loaded; `None` if not encrypted.
    pub key_available: Option<bool>,
    /// Properties that are set on it, not inherited, as the kernel sends them.
    pub own: Vec<(String, Value)>,
    /// Whether it has the snapshot.
    pub has_snapshot: bool,
    /// Snapshots of it that are newer than the wanted one; looked up for a rollback only.
    pub newer: Vec<Snapshot>,
}

/// A dataset that lies where a clone would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// Full name.
    pub name: String,
    /// The snapshot it is a clone of.
    pub origin: Option<String>,
    /// It says of itself that it is [`UNFINISHED`].
    pub unfinished: bool,
}

/// One change of the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a clone.
    Clone {
        /// Snapshot.
        from: String,
        /// New dataset.
        to: String,
        /// Properties to set on it.
        properties: Vec<(String, Value)>,
    },
    /// Write down that a clone has all that belongs to it.
    Complete(String),
    /// Destroy these snapshots, all or none.
    Destroy(Vec<String>),
    /// Roll a dataset back to this snapshot, which is its newest by now.
    RollBack(String),
}

/// What makes the wanted state the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotPlan {
    /// The dataset (or snapshot) to mount as root.
    pub root: String,
    /// In order.
    pub steps: Vec<Step>,
    /// What happens, in a sentence.
    pub why: String,
    /// Datasets below the root that are not part of it, and why.
    pub left_out: Vec<Skipped>,
    /// Original dataset to what stands in its place: also where the root's fstab names it.
    pub stands_for: BTreeMap<String, String>,
}

/// The properties that are set on this dataset itself.
pub fn own_properties(objset: &Objset) -> Vec<(String, Value)> {
    let own = |(name, pair): (&[u8], &Value)| {
        let Value::List(pair) = pair else { return None };
        let source = pair.text("source")?;
        let here = source == objset.name.as_str() || source == "$recvd";
        Some((String::from_utf8_lossy(name).into_owned(), pair.get("value")?.clone())).filter(|_| here)
    };
    objset.properties.iter().filter_map(own).collect()
}

/// The name of a snapshot that is called as the kernel: what its release may hold and a snapshot's name may not (`+` in
/// Debian's) becomes `_`.
pub fn kernel_name(release: &str) -> String {
    release.replace(|c: char| !(c.is_ascii_alphanumeric() || "-_.:".contains(c)), "_")
}

/// The explanation for a snapshot that does not exist. `have`: those that do, oldest first.
pub fn missing(root: &str, snapshot: &str, why: &str, have: &[Snapshot]) -> Refusal {
    let mut found: Vec<String> = have.iter().rev().take(LISTED).map(|s| s.name.clone()).collect();
    match have.len().saturating_sub(LISTED) {
        0 if have.is_empty() => found.push(format!("{root} has no snapshot at all")),
        0 => {}
        more => found.push(format!("and {more} older ones")),
    }
    Refusal {
        problem: format!("{why} asks for the snapshot {root}@{snapshot}, which does not exist"),
        expected: format!("a snapshot of {root}; {root} as it is now is not booted instead"),
        found,
        advice: vec![
            "boot ROOT@SNAPSHOT here with one of these, or name it on the kernel command line, with @ behind the root"
                .to_owned(),
            format!("or boot it as it is now: root=ZFS={root}"),
        ],
    }
}

/// The datasets that take part, parents first, and those that do not.
fn parts<'a>(root: &str, snapshot: &str, sources: &'a [Source]) -> (Vec<&'a Source>, Vec<Skipped>) {
    let mut sorted: Vec<&Source> = sources.iter().filter(|s| names::is_within(&s.name, root)).collect();
    sorted::by(&mut sorted, |a, b| a.name.cmp(&b.name));
    let mut parts: Vec<&Source> = Vec::new();
    let mut left_out = Vec::new();
    for source in sorted {
        let parent_in =
            source.name == root || parts.iter().any(|p| Some(p.name.as_str()) == names::parent(&source.name));
        let why = match source.kind {
            Kind::Filesystem if !source.has_snapshot => format!("it has no snapshot @{snapshot}"),
            Kind::Filesystem if !parent_in => "a dataset above it is left out".to_owned(),
            Kind::Filesystem if source.key_available == Some(false) => "its key is not loaded".to_owned(),
            Kind::Filesystem => {
                parts.push(source);
                continue;
            }
            _ => "it is a volume".to_owned(),
        };
        left_out.push(Skipped { dataset: source.name.clone(), why, more: 0 });
    }
    (parts, left_out)
}

/// Rolls the root, and the datasets below it that have the snapshot, back. `why`: the words that ask.
pub fn roll_back(
    root: &str,
    snapshot: &str,
    why: &str,
    destroy_newer: bool,
    sources: &[Source],
) -> Result<SnapshotPlan, Refusal> {
    let (parts, left_out) = parts(root, snapshot, sources);
    let newer: Vec<&Snapshot> = parts.iter().flat_map(|p| &p.newer).collect();
    let lines = |list: &[&Snapshot]| -> Vec<String> {
        let mut lines: Vec<String> = list.iter().take(LISTED).map(|s| describe(s)).collect();
        if list.len() > LISTED {
            lines.push(format!("and {} more", list.len() - LISTED));
        }
        lines
    };
    if !newer.is_empty() && !destroy_newer {
        return Err(Refusal {
            problem: format!(
                "{why}: rolling {root} back to @{snapshot} would destroy {} newer snapshot(s)",
                newer.len()
            ),
            expected: format!("@{snapshot} as the newest snapshot, or taproot.destroy_newer=yes"),
            found: lines(&newer),
            advice: vec![
                format!("boot a clone instead, which destroys nothing: root=ZFS={root}@{snapshot}, without a rollback"),
                "or destroy these and all that was changed since: retry taproot.destroy_newer=yes here, or that word on the kernel command line".to_owned(),
            ],
        });
    }
    let stuck: Vec<&Snapshot> = newer.iter().copied().filter(|s| !s.clones.is_empty() || s.holds > 0).collect();
    if !stuck.is_empty() {
        return Err(Refusal {
            problem: format!("{why}: {root} cannot be rolled back to @{snapshot}: newer snapshots are in use"),
            expected: "newer snapshots without clones and holds".to_owned(),
            found: lines(&stuck),
            advice: vec![
                format!("boot a clone instead: root=ZFS={root}@{snapshot}, without a rollback"),
                "or destroy or promote the clones (zfs promote) and release the holds (zfs release) yourself"
                    .to_owned(),
            ],
        });
    }
    let mut steps = Vec::new();
    if !newer.is_empty() {
        steps.push(Step::Destroy(newer.iter().map(|s| s.name.clone()).collect()));
    }
    steps.extend(parts.iter().map(|p| Step::RollBack(format!("{}@{snapshot}", p.name))));
    Ok(SnapshotPlan {
        root: root.to_owned(),
        steps,
        why: format!("{root}, rolled back to @{snapshot} ({why})"),
        left_out,
        stands_for: BTreeMap::new(),
    })
}

fn describe(snapshot: &Snapshot) -> String {
    let mut text = snapshot.name.clone();
    if !snapshot.clones.is_empty() {
        text = format!("{text}, cloned as {}", snapshot.clones.join(", "));
    }
    match snapshot.holds {
        0 => text,
        holds => format!("{text}, {holds} hold(s)"),
    }
}

/// The snapshot itself, read-only: for a pool that is imported read-only, where nothing can be cloned.
pub fn view(root: &str, snapshot: &str, sources: &[Source]) -> SnapshotPlan {
    let (parts, left_out) = parts(root, snapshot, sources);
    SnapshotPlan {
        root: format!("{root}@{snapshot}"),
        steps: vec![],
        why: format!("{root}@{snapshot} itself, read-only, because the pool is imported read-only"),
        left_out,
        stands_for: sorted::map(parts.iter().map(|p| (p.name.clone(), format!("{}@{snapshot}", p.name)))),
    }
}

/// Puts snapshots in the place of the datasets of a mount plan that was made for `root`: nothing of another time is mounted
/// with it.
pub fn view_mounts(plan: &mut MountPlan, root: &str, stands_for: &BTreeMap<String, String>) {
    plan.remount_root = None;
    let steps = std::mem::take(&mut plan.steps);
    for mut step in steps {
        match stands_for.get(&step.dataset) {
            Some(snapshot) => {
                step.dataset.clone_from(snapshot);
                step.options.flags |= libc::MS_RDONLY;
                plan.steps.push(step);
            }
            None if names::is_within(&step.dataset, root) => {
                let why = "it has no such snapshot as the root".to_owned();
                plan.skipped.push(Skipped { dataset: step.dataset, why, more: 0 });
            }
            None => plan.steps.push(step),
        }
    }
}

#[cfg(test)]
mod tests;
