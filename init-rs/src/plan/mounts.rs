//! Which datasets are mounted where, in which order, and why the others are not.
//!
//! The rules, in the order they are tried, are in `docs/mounts.md`.

use std::collections::{BTreeMap, BTreeSet};

use super::environments::Environments;
use super::facts::{CanMount, Dataset, Kind, Mountpoint};
use super::fstab::FstabEntry;
use super::names;
use super::options::{MountOptions, mount_options};
use crate::cmdline::Request;

/// Trees that are moved into the new root or set up by the booted system; a dataset mounted there would be covered.
const SYSTEM_TREES: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];

/// Where a step comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The root itself.
    Root,
    /// Property `mountpoint` with `canmount=on`.
    Property,
    /// A line of the root's fstab.
    Fstab,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountStep {
    /// Dataset.
    pub dataset: String,
    /// Absolute path in the new root, `/` for the root itself; no empty, `.` or `..` parts.
    pub target: String,
    /// Flags and options.
    pub options: MountOptions,
    /// Why, in a few words.
    pub why: String,
    /// Where it comes from.
    pub origin: Origin,
    /// fstab says `nofail`: no fuss if it cannot be mounted.
    pub nofail: bool,
}

/// A dataset (or fstab line) that is not mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Dataset.
    pub dataset: String,
    /// Why not.
    pub why: String,
}

/// All mounts of the new root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountPlan {
    /// Steps in the order to do them: the root first, then parents before children.
    pub steps: Vec<MountStep>,
    /// What is not mounted, by dataset name; also fstab lines left out whose dataset is mounted in another way.
    pub skipped: Vec<Skipped>,
    /// Set when `ro` mounted the root read-only but nothing in the booted system would make it writable.
    pub remount_root: Option<Remount>,
}

/// The root is to be remounted after all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remount {
    /// Options, without `MS_REMOUNT`.
    pub options: MountOptions,
    /// Why.
    pub why: String,
}

/// How to mount the root: whatever its `canmount` and `mountpoint` say.
pub fn root_step(root: &Dataset, request: &Request) -> MountStep {
    let ro = request.read_only.as_ref();
    let why = match ro.filter(|ro| ro.value) {
        Some(ro) => format!("root, selected by {}; read-only by {}", request.root.why, ro.why),
        None => format!("root, selected by {}", request.root.why),
    };
    MountStep {
        dataset: root.name.clone(),
        target: "/".to_owned(),
        options: mount_options(root, ro.map(|ro| ro.value), "/", &[]),
        why,
        origin: Origin::Root,
        nofail: false,
    }
}

/// Plans every mount. `all`: every dataset of the root's pool, in any order; `fstab`: of the selected root.
pub fn plan(root: &Dataset, all: &[Dataset], fstab: &[FstabEntry], request: &Request) -> MountPlan {
    let mut planner = Planner {
        root,
        datasets: all.iter().map(|d| (d.name.as_str(), d)).collect(),
        environments: Environments::new(root, all),
        mounted: BTreeMap::from([("/".to_owned(), root.name.clone())]),
        done: BTreeSet::from([root.name.clone()]),
        steps: Vec::new(),
        skipped: BTreeMap::new(),
    };
    // fstab first: it was written for this very root, properties hold for the whole pool.
    for entry in fstab.iter().filter(|e| e.fstype == "zfs") {
        planner.fstab_line(entry);
    }
    let mut by_nearness: Vec<&Dataset> = planner.datasets.values().copied().collect();
    by_nearness.sort_by_key(|d| std::cmp::Reverse(shared_parts(&d.name, &root.name)));
    for dataset in by_nearness {
        planner.property(dataset);
    }
    planner.steps.sort_by(|a, b| parts(&a.target).cmp(parts(&b.target)));

    let mut steps = vec![root_step(root, request)];
    steps.append(&mut planner.steps);
    let skipped = planner.skipped.into_iter().map(|(dataset, why)| Skipped { dataset, why }).collect();
    MountPlan { steps, skipped, remount_root: remount_root(root, fstab, request) }
}

struct Planner<'a> {
    root: &'a Dataset,
    datasets: BTreeMap<&'a str, &'a Dataset>,
    environments: Environments<'a>,
    /// Target to the dataset that is mounted there.
    mounted: BTreeMap<String, String>,
    /// Datasets that have a step.
    done: BTreeSet<String>,
    steps: Vec<MountStep>,
    /// The first reason for each dataset.
    skipped: BTreeMap<String, String>,
}

impl Planner<'_> {
    fn fstab_line(&mut self, entry: &FstabEntry) {
        // The root is mounted already; a line for it only tells the booted system how to remount it.
        if self.done.contains(&entry.source) && entry.target == "/" {
            return;
        }
        if let Err(why) = self.try_fstab(entry) {
            self.skip(&entry.source, format!("fstab line {}: {why}", entry.line));
        }
    }

    fn try_fstab(&mut self, entry: &FstabEntry) -> Result<(), String> {
        let source = entry.source.as_str();
        let target = target_path(&entry.target)?;
        if target == "/" {
            return Err(format!("it names another root, but {} was selected", self.root.name));
        }
        if let Some(option) = ["noauto", "x-systemd.automount", "bind", "rbind"].into_iter().find(|o| entry.has(o)) {
            return Err(format!("it has the option {option}"));
        }
        if source.contains('@') {
            return Err("it is a snapshot; left to the booted system".to_owned());
        }
        if names::pool_of(source) != names::pool_of(&self.root.name) {
            return Err(format!("it lies in another pool than the root {}; left to the booted system", self.root.name));
        }
        if self.done.contains(source) {
            return Err("it is mounted already; left to the booted system".to_owned());
        }
        let dataset = *self.datasets.get(source).ok_or("there is no such dataset")?;
        mountable(dataset)?;
        if dataset.mountpoint != Mountpoint::Legacy && !entry.has("zfsutil") {
            let is = dataset.path().unwrap_or("none");
            return Err(format!("its mountpoint is {is}, not legacy, so mount(8) would need the option zfsutil"));
        }
        let mut why = format!("fstab line {}", entry.line);
        if let Some(other) = self.environments.other(source) {
            why = format!("{why}, although {other}");
        }
        let extra: Vec<&str> = entry.options.iter().map(String::as_str).collect();
        let options = mount_options(dataset, None, &target, &extra);
        self.step(dataset, target, MountDetail { options, why, origin: Origin::Fstab, nofail: entry.has("nofail") })
    }

    fn property(&mut self, dataset: &Dataset) {
        if dataset.kind == Kind::Filesystem
            && !self.done.contains(&dataset.name)
            && let Err(why) = self.try_property(dataset)
        {
            self.skip(&dataset.name, why);
        }
    }

    fn try_property(&mut self, dataset: &Dataset) -> Result<(), String> {
        if let Some(other) = self.environments.other(&dataset.name) {
            return Err(other);
        }
        let path = match (dataset.canmount, &dataset.mountpoint) {
            (CanMount::Off, _) => return Err("canmount=off".to_owned()),
            (CanMount::NoAuto, _) => return Err("canmount=noauto".to_owned()),
            (CanMount::On, Mountpoint::Legacy) => return Err("mountpoint=legacy and no fstab line".to_owned()),
            (CanMount::On, Mountpoint::None) => return Err("mountpoint=none".to_owned()),
            (CanMount::On, Mountpoint::Path(path)) => path,
        };
        mountable(dataset)?;
        let target = target_path(path)?;
        let (target, why) = match self.rebase(dataset, &target) {
            Some(below) => (below, format!("canmount=on, mountpoint={path} below the root's own")),
            None => (target, format!("canmount=on, mountpoint={path}")),
        };
        let options = mount_options(dataset, None, &target, &[]);
        self.step(dataset, target, MountDetail { options, why, origin: Origin::Property, nofail: false })
    }

    /// A root whose mountpoint is not `/` is mounted there all the same, so its children move with it.
    fn rebase(&self, dataset: &Dataset, target: &str) -> Option<String> {
        let base = target_path(self.root.path()?).ok().filter(|base| base != "/")?;
        if !names::is_within(&dataset.name, &self.root.name) {
            return None;
        }
        let below = target.strip_prefix(&base)?;
        match below {
            "" => Some("/".to_owned()),
            below => below.starts_with('/').then(|| below.to_owned()),
        }
    }

    fn step(&mut self, dataset: &Dataset, target: String, detail: MountDetail) -> Result<(), String> {
        if let Some(other) = self.mounted.get(&target) {
            return Err(format!("{other} is mounted at {target}"));
        }
        if let Some(tree) = SYSTEM_TREES.into_iter().find(|tree| names::is_within(&target, tree)) {
            return Err(format!("{target} lies in {tree}, which the booted system sets up; left to it"));
        }
        self.mounted.insert(target.clone(), dataset.name.clone());
        self.done.insert(dataset.name.clone());
        let MountDetail { options, why, origin, nofail } = detail;
        self.steps.push(MountStep { dataset: dataset.name.clone(), target, options, why, origin, nofail });
        Ok(())
    }

    fn skip(&mut self, dataset: &str, why: String) {
        self.skipped.entry(dataset.to_owned()).or_insert(why);
    }
}

/// What neither property nor fstab can get round.
fn mountable(dataset: &Dataset) -> Result<(), String> {
    if dataset.kind != Kind::Filesystem {
        return Err("it is not a filesystem".to_owned());
    }
    if dataset.zoned {
        return Err("zoned=on: it belongs to a container".to_owned());
    }
    if dataset.key_available == Some(false) {
        let key = dataset.encryption_root.as_deref().unwrap_or(&dataset.name);
        return Err(format!("the key of {key} is not loaded"));
    }
    Ok(())
}

/// The rest of a step.
struct MountDetail {
    options: MountOptions,
    why: String,
    origin: Origin,
    nofail: bool,
}

/// Boot loaders put `ro` on every command line, trusting the booted system to remount the root. It does so only for a
/// root that has a line in its fstab, which a root on ZFS seldom has.
fn remount_root(root: &Dataset, fstab: &[FstabEntry], request: &Request) -> Option<Remount> {
    let ro = request.read_only.as_ref().filter(|ro| ro.value)?;
    if root.readonly || fstab.iter().any(|entry| entry.target == "/") {
        return None;
    }
    let why =
        format!("`{}` was given, but the root's fstab has no line for / that would make it writable later", ro.why);
    Some(Remount { options: mount_options(root, None, "/", &[]), why })
}

/// An absolute path without empty or `.` parts; `..` is refused.
fn target_path(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!("`{path}` is not an absolute path"));
    }
    if path.contains('\0') || parts(path).any(|part| part == "..") {
        return Err(format!("{path:?} is not a plain path"));
    }
    let clean: String = parts(path).filter(|part| *part != ".").flat_map(|part| ["/", part]).collect();
    Ok(if clean.is_empty() { "/".to_owned() } else { clean })
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// How many leading parts two names have in common.
fn shared_parts(a: &str, b: &str) -> usize {
    a.split('/').zip(b.split('/')).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests;
