//! Which datasets are mounted where, in which order, and why the others are not.
//!
//! The rules, in the order they are tried, are in `docs/mounts.md`.

mod claims;
mod foreign;
mod nearness;
mod planner;
mod remount;
mod rest;
mod span;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::environments::Environments;
use super::facts::Dataset;
use super::fstab::FstabEntry;
use super::options::{MountOptions, mount_options, root_flags};
use super::root::Root;
use super::root_words;
use crate::cmdline::{Request, Which};
use crate::sorted;
pub(crate) use claims::in_init_tree;
use planner::Planner;
pub use rest::{Rest, foreign, rest};

/// How many left-out datasets are named for one reason; the others are counted.
const NAMED: usize = 8;

/// Where a step comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The root itself.
    Root,
    /// Property `mountpoint` with `canmount=on`.
    Property,
    /// A line of the root's fstab.
    Fstab,
    /// `taproot.also=`.
    Also,
}

/// What a step of another file system than ZFS needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Type, as fstab has it; `auto`: whatever the device holds.
    pub fstype: String,
    /// Whether the source is a block device, by path or by a tag such as `LABEL=`.
    pub device: bool,
    /// How long to wait for the device; [`Duration::MAX`] is for ever.
    pub wait: Duration,
}

/// The key that a step waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyNeed {
    /// Encryption root.
    pub root: String,
    /// The file that `keylocation` names, as the booted system sees it.
    pub file: Option<String>,
    /// Whether the boot needs what it opens: one of init's trees, or what somebody named.
    pub needed: bool,
    /// Whether people are asked for it: it is needed, and no file or server is said to have it.
    pub ask: bool,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountStep {
    /// Dataset; of another file system the source as fstab has it.
    pub dataset: String,
    /// Absolute path in the new root, `/` for the root itself; no empty, `.` or `..` parts.
    pub target: String,
    /// Where that leads, by the links that were there when it was planned.
    pub place: String,
    /// Flags and options.
    pub options: MountOptions,
    /// Why, in a few words.
    pub why: String,
    /// Where it comes from.
    pub origin: Origin,
    /// fstab says `nofail`: no fuss if it cannot be mounted.
    pub nofail: bool,
    /// Set if it is not ZFS.
    pub foreign: Option<Foreign>,
    /// Set while its key is not loaded.
    pub key: Option<KeyNeed>,
    /// Whether it may cover a directory that is not empty.
    pub overlay: bool,
}

/// A mount that was made, or could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Dataset or source.
    pub dataset: String,
    /// Path in the new root.
    pub target: String,
    /// Where it really is.
    pub at: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it is mounted.
    pub mounted: bool,
}

/// A dataset (or fstab line) that is not mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Dataset.
    pub dataset: String,
    /// Why not.
    pub why: String,
    /// How many more were left out for the same reason without being named: see [`condense`].
    pub more: usize,
}

/// All mounts of the new root that are not made yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountPlan {
    /// Steps in the order of where they lead: the root first, then parents before children.
    pub steps: Vec<MountStep>,
    /// Where `/etc` leads.
    pub etc: String,
    /// Where targets lead that lead elsewhere than they say.
    pub places: BTreeMap<String, String>,
    /// What is not mounted, by dataset name; also fstab lines left out whose dataset is mounted in another way.
    pub skipped: Vec<Skipped>,
    /// What was asked for by name (settings, `rootflags=`, an fstab line for the early boot) and is not done.
    pub warnings: Vec<String>,
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

/// How to mount the root: whatever its `canmount` and `mountpoint` say. `rootflags=` goes over the properties, and its `ro`
/// or `rw` over the word of that name. From a pool that is imported read-only nothing is mounted otherwise.
pub fn root_step(root: &Root, request: &Request) -> MountStep {
    match root {
        Root::Dataset(dataset) => dataset_step(dataset, request),
        Root::Layers(layers) => MountStep {
            dataset: layers.name.clone(),
            target: "/".to_owned(),
            options: MountOptions {
                flags: if layers.read_only { libc::MS_RDONLY } else { 0 },
                data: layers
                    .overlay
                    .options
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect::<Vec<_>>()
                    .join(","),
            },
            why: format!("root, selected by {}; upper: {}", layers.why, layers.upper),
            origin: Origin::Root,
            place: "/".to_owned(),
            nofail: false,
            foreign: Some(Foreign { fstype: "overlay".to_owned(), device: false, wait: Duration::ZERO }),
            key: None,
            overlay: true,
        },
        Root::Device(device) => MountStep {
            dataset: device.name.clone(),
            target: "/".to_owned(),
            options: device.options.clone(),
            why: format!("root, selected by {}", request.root.why),
            origin: Origin::Root,
            place: "/".to_owned(),
            nofail: false,
            foreign: Some(Foreign { fstype: device.fstype.clone(), device: true, wait: Duration::ZERO }),
            key: None,
            overlay: true,
        },
    }
}

fn dataset_step(root: &Dataset, request: &Request) -> MountStep {
    let flags = request.root_flags.as_ref().map(|f| root_flags(&f.value)).unwrap_or_default();
    let mut why = format!("root, selected by {}", request.root.why);
    let import = &request.import.read_only;
    let ro = match (flags.read_only, request.read_only.as_ref()) {
        _ if import.value => {
            why = format!("{why}; read-only by {}", import.why);
            Some(true)
        }
        (Some(ro), _) => Some(ro),
        (None, Some(ro)) => {
            if ro.value {
                why = format!("{why}; read-only by {}", ro.why);
            }
            Some(ro.value)
        }
        (None, None) => None,
    };
    MountStep {
        dataset: root.name.clone(),
        target: "/".to_owned(),
        options: mount_options(root, ro, "/", &flags.options),
        why,
        origin: Origin::Root,
        place: "/".to_owned(),
        nofail: false,
        foreign: None,
        key: None,
        overlay: true,
    }
}

/// What the mounts are planned from: as much as is known by then.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The root.
    pub root: &'a Root,
    /// Datasets of the root's pool, and those of other imported pools that [`named`] gives, in any order.
    pub datasets: &'a [Dataset],
    /// Of the selected root; empty until it can be read.
    pub fstab: &'a [FstabEntry],
    /// Mounts that were made already, by their steps' places.
    pub made: &'a BTreeMap<String, Made>,
    /// Encryption roots whose keys could not be had.
    pub given_up: &'a BTreeSet<String>,
    /// Datasets that were mounted, hid the program to start, and were taken away again.
    pub taken_away: &'a BTreeSet<String>,
    /// Where a path of the new root leads.
    pub place: &'a dyn Fn(&str) -> String,
}

impl std::fmt::Debug for Ground<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").field("root", &self.root).finish_non_exhaustive()
    }
}

/// Plans every mount that is not made yet.
pub fn plan(ground: Ground<'_>, request: &Request) -> MountPlan {
    let Ground { root, fstab, .. } = ground;
    if let Root::Layers(layers) = root
        && let Some(dataset) = &layers.dataset
    {
        // What belongs to a dataset that is a layer belongs to the root; how that one is mounted is another matter.
        let root = Root::Dataset(dataset.clone());
        return MountPlan { remount_root: None, ..plan(Ground { root: &root, ..ground }, request) };
    }
    let mut planner = Planner::new(ground, request);
    // fstab first: it was written for this very root, properties hold for the whole pool.
    if request.mounts.fstab.value {
        for entry in fstab {
            planner.fstab_line(entry);
        }
    }
    for also in &request.mounts.also {
        planner.also(also);
    }
    planner.properties();
    let mut plan = planner.into_plan();
    if let (Some(flags), Root::Dataset(_)) = (&request.root_flags, root) {
        let unknown = root_flags(&flags.value).unknown.into_iter();
        plan.warnings
            .extend(unknown.map(|word| format!("{}: the zfs module has no option `{word}`; left out", flags.why)));
    }
    if let (Some(flags), Root::Device(device)) = (&request.root_flags, root) {
        let (_, left) = root_words::flags(request, &device.fstype);
        let left = left.into_iter();
        plan.warnings.extend(
            left.map(|word| {
                format!("{}: `{word}` is not for {} on {}; left out", flags.why, device.fstype, device.name)
            }),
        );
    }
    plan.steps.push(root_step(root, request));
    sorted::by(&mut plan.steps, |a, b| parts(&a.place).cmp(parts(&b.place)));
    plan.remount_root = remount::remount_root(root, fstab, request);
    plan
}

/// Datasets that fstab or a setting names, of whatever pool: they are looked up by name.
pub fn named<'a>(fstab: &'a [FstabEntry], request: &'a Request) -> Vec<&'a str> {
    let zfs = fstab.iter().filter(|e| request.mounts.fstab.value && e.fstype == "zfs").map(|e| e.source.as_str());
    let listed = match &request.mounts.which.value {
        Which::List(names) => names.as_slice(),
        _ => &[],
    };
    let also = request.mounts.also.iter().map(|also| &also.dataset);
    let settings = also.chain(listed).map(String::as_str);
    zfs.chain(settings).filter(|name| !name.contains('@')).collect()
}

/// Whether nothing below `dataset` can belong to `root`, because it is the root of another boot environment.
pub fn begins_another_environment(root: &Dataset, dataset: &Dataset) -> bool {
    Environments::begins_at(root, dataset)
}

/// Shortens a long list for the log and the record: of many datasets with one reason the first are named, the others
/// counted with the last one named.
pub fn condense(skipped: Vec<Skipped>) -> Vec<Skipped> {
    let mut seen: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut short: Vec<Skipped> = Vec::new();
    for skip in skipped {
        match seen.get_mut(&skip.why) {
            Some((count, last)) if *count >= NAMED => {
                if let Some(last) = short.get_mut(*last) {
                    last.more += 1;
                }
            }
            Some((count, last)) => {
                (*count, *last) = (*count + 1, short.len());
                short.push(skip);
            }
            None => {
                seen.insert(skip.why.clone(), (1, short.len()));
                short.push(skip);
            }
        }
    }
    short
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

#[cfg(test)]
mod tests;
