//! The rules, one dataset or fstab line at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::claims::{Claims, in_init_tree};
use super::foreign::foreign;
use super::nearness::Nearness;
use super::{Foreign, Ground, KeyNeed, MountPlan, MountStep, Origin, Skipped, target_path};
use crate::cmdline::{Also, MountSettings, Request, Which};
use crate::plan::environments::{Environments, Other};
use crate::plan::facts::{CanMount, Dataset, Kind, Mountpoint};
use crate::plan::fstab::FstabEntry;
use crate::plan::names;
use crate::plan::options::{MountOptions, foreign_options, mount_options};
use crate::plan::root::Root;
use crate::sorted;

/// Trees that are moved into the new root or set up by the booted system; a dataset mounted there would be covered.
const SYSTEM_TREES: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];

/// The administrator's own part of `/usr`: no init needs it, and many pools have it beside the root.
const LOCAL: &str = "/usr/local";

/// Why volumes are not mounted.
const NO_FILESYSTEM: &str = "it is not a filesystem";

pub(super) struct Planner<'a> {
    ground: Ground<'a>,
    root: &'a Root,
    settings: &'a MountSettings,
    /// `Some(true)` if the pool is imported read-only: whatever properties and fstab say, so are the mounts.
    read_only: Option<bool>,
    datasets: BTreeMap<&'a str, &'a Dataset>,
    /// Of a root that is a dataset.
    environments: Option<Environments<'a>>,
    claims: Claims,
    /// Datasets that have a step, or had one.
    done: BTreeSet<String>,
    steps: Vec<MountStep>,
    /// The first reason for each dataset.
    skipped: BTreeMap<String, String>,
    /// What was asked for by name and is not done.
    warnings: Vec<String>,
    /// Targets that lead elsewhere.
    places: BTreeMap<String, String>,
}

/// What a step is besides its dataset and target.
struct Detail {
    options: MountOptions,
    why: String,
    origin: Origin,
    nofail: bool,
    foreign: Option<Foreign>,
    overlay: bool,
    key: Option<KeyNeed>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(ground: Ground<'a>, request: &'a Request) -> Self {
        let Ground { root, datasets, made, .. } = ground;
        // Of a snapshot that is mounted for a dataset, the dataset is done.
        let done = made.values().map(|made| made.dataset.split('@').next().unwrap_or_default().to_owned());
        Self {
            ground,
            root,
            settings: &request.mounts,
            read_only: request.import.read_only.value.then_some(true),
            datasets: sorted::map(datasets.iter().map(|d| (d.name.as_str(), d))),
            environments: root.dataset().map(|dataset| Environments::new(dataset, datasets)),
            claims: Claims::new(root.name(), made),
            done: done.chain([root.name().to_owned()]).collect(),
            steps: Vec::new(),
            skipped: BTreeMap::new(),
            warnings: Vec::new(),
            places: BTreeMap::new(),
        }
    }

    /// All that came of it, in no order yet.
    pub(super) fn into_plan(mut self) -> MountPlan {
        let etc = self.place("/etc");
        let covered = self.claims.covered(&mut self.steps);
        for (dataset, why) in covered {
            self.skip(&dataset, why);
        }
        let mut warnings = self.warnings;
        warnings.extend(self.claims.warnings());
        let skipped = self.skipped.into_iter().map(|(dataset, why)| Skipped { dataset, why, more: 0 }).collect();
        MountPlan { steps: self.steps, etc, places: self.places, skipped, warnings, remount_root: None }
    }

    /// Where a path leads.
    fn place(&mut self, target: &str) -> String {
        let place = (self.ground.place)(target);
        if place != target {
            self.places.insert(target.to_owned(), place.clone());
        }
        place
    }

    pub(super) fn fstab_line(&mut self, entry: &FstabEntry) {
        let zfs = entry.fstype == "zfs";
        // For the early boot: `/usr`, because no init starts without it, and what says so.
        let early = entry.has("x-initrd.mount") || target_path(&entry.target).is_ok_and(|target| target == "/usr");
        // The root is mounted already; a line for it only tells the booted system how to remount it.
        let own_root = entry.target == "/" && (!zfs || entry.source == self.root.name());
        if own_root || !(zfs || early) || self.is_made(entry) {
            return;
        }
        let result = if zfs { self.try_fstab(entry) } else { self.try_foreign(entry) };
        if let Err(why) = result {
            if early && !entry.has("nofail") && !entry.has("noauto") {
                let FstabEntry { source, target, line, .. } = entry;
                self.warnings.push(format!("fstab line {line}: {source} is not mounted on {target}: {why}"));
            }
            self.skip(&entry.source, format!("fstab line {}: {why}", entry.line));
        }
    }

    /// Whether what the line asks for was done, or tried, before.
    fn is_made(&mut self, entry: &FstabEntry) -> bool {
        let Ok(target) = target_path(&entry.target) else { return false };
        let place = self.place(&target);
        self.ground.made.get(&place).is_some_and(|made| made.dataset == entry.source)
    }

    /// A dataset that `taproot.also=` names.
    pub(super) fn also(&mut self, also: &Also) {
        let name = also.dataset.as_str();
        let wanted = also.target.as_deref().map(|target| target_path(target).map(|target| self.place(&target)));
        let result = match (self.claims.place_of(name), wanted) {
            (Some(_), None) => Ok(()),
            (Some(place), Some(Ok(wanted))) if place == wanted => Ok(()),
            (Some(place), _) => {
                Err(format!("not on {}, because it is mounted on {place}", also.target.as_deref().unwrap_or("/")))
            }
            (None, _) => self.try_also(also),
        };
        if let Err(why) = result {
            self.warnings.push(format!("taproot.also: {name} is not mounted: {why}"));
            self.skip(name, format!("taproot.also: {why}"));
        }
    }

    /// Every dataset of the root's pool that has no step yet.
    pub(super) fn properties(&mut self) {
        let Some(root) = self.root.dataset() else { return };
        let pool = names::pool_of(&root.name);
        let ours = |d: &&Dataset| d.kind == Kind::Filesystem && names::pool_of(&d.name) == pool;
        let mut by_nearness: Vec<(Nearness, &Dataset)> = self
            .datasets
            .values()
            .copied()
            .filter(ours)
            .map(|d| (Nearness::of(d, &root.name, &self.datasets), d))
            .collect();
        sorted::by(&mut by_nearness, |a, b| a.0.cmp(&b.0));
        for (nearness, dataset) in by_nearness {
            if !self.done.contains(&dataset.name)
                && let Err(why) = self.try_property(dataset, &nearness)
            {
                self.skip(&dataset.name, why);
            }
        }
        if let Which::List(names) = &self.settings.which.value {
            let setting = &self.settings.which.why;
            let left_out = names.iter().filter(|name| !self.done.contains(*name));
            let mut told =
                left_out.map(|name| format!("{setting}: {name} is not mounted: {}", self.why_not(name))).collect();
            self.warnings.append(&mut told);
        }
    }

    /// Why a dataset of the setting's list has no step.
    fn why_not(&self, name: &str) -> String {
        match (self.named(name), self.skipped.get(name)) {
            (Err(why), _) => why,
            (Ok(_), Some(why)) => why.clone(),
            (Ok(dataset), None) if dataset.kind != Kind::Filesystem => NO_FILESYSTEM.to_owned(),
            (Ok(_), None) => "it lies in another pool than the root; taproot.also= mounts it".to_owned(),
        }
    }

    fn try_fstab(&mut self, entry: &FstabEntry) -> Result<(), String> {
        let source = entry.source.as_str();
        let target = self.fstab_target(entry)?;
        if let Some(option) = ["bind", "rbind"].into_iter().find(|o| entry.has(o)) {
            return Err(format!("it has the option {option}"));
        }
        let dataset = self.named(source)?;
        if self.done.contains(source) {
            return Err("it is mounted already; left to the booted system".to_owned());
        }
        mountable(dataset)?;
        let zfsutil = entry.has("zfsutil");
        if dataset.mountpoint != Mountpoint::Legacy && !zfsutil {
            let is = dataset.path().unwrap_or("none");
            return Err(format!("its mountpoint is {is}, not legacy, so mount(8) would need the option zfsutil"));
        }
        let why = self.although(source, format!("fstab line {}", entry.line));
        let extra: Vec<&str> = entry.options.iter().map(String::as_str).collect();
        let nofail = entry.has("nofail");
        let detail = Detail {
            options: mount_options(dataset, self.read_only, &target, &extra),
            why,
            origin: Origin::Fstab,
            nofail,
            foreign: None,
            // mount(8) alone looks at no property.
            overlay: dataset.overlay || !zfsutil,
            key: self.key(dataset, !nofail)?,
        };
        self.step(source, target, detail)?;
        self.warn_of_counterpart(entry);
        Ok(())
    }

    /// The fstab of a clone names the datasets of its original until somebody edits it.
    fn warn_of_counterpart(&mut self, entry: &FstabEntry) {
        let FstabEntry { source, target, line, .. } = entry;
        let Some(other) = self.other(source) else { return };
        let below = source.strip_prefix(&other.root).filter(|rest| !rest.is_empty());
        let own = below.map(|rest| format!("{}{rest}", self.root.name()));
        let Some(own) = own.filter(|own| self.datasets.contains_key(own.as_str())) else { return };
        self.warnings.push(format!(
            "fstab line {line}: {source} of another boot environment is mounted on {target}, although this one has {own}; \
             if this environment is a clone, name {own} in that line"
        ));
    }

    /// A line of another file system, for the early boot.
    fn try_foreign(&mut self, entry: &FstabEntry) -> Result<(), String> {
        let target = self.fstab_target(entry)?;
        let detail = Detail {
            foreign: Some(foreign(entry)?),
            options: foreign_options(&entry.options),
            why: format!("fstab line {}", entry.line),
            origin: Origin::Fstab,
            nofail: entry.has("nofail"),
            overlay: true,
            key: None,
        };
        self.step(&entry.source, target, detail)
    }

    fn fstab_target(&self, entry: &FstabEntry) -> Result<String, String> {
        let target = target_path(&entry.target)?;
        if target == "/" {
            return Err(format!("it names another root, but {} was selected", self.root.name()));
        }
        match ["noauto", "x-systemd.automount"].into_iter().find(|o| entry.has(o)) {
            Some(option) => Err(format!("it has the option {option}")),
            None => Ok(target),
        }
    }

    /// A dataset that somebody named, of this pool or of another one that is imported.
    fn named(&self, name: &str) -> Result<&'a Dataset, String> {
        if name.contains('@') {
            return Err("it is a snapshot; left to the booted system".to_owned());
        }
        if let Some(dataset) = self.datasets.get(name) {
            return Ok(dataset);
        }
        let root = self.root.name();
        if self.root.dataset().is_some() && names::pool_of(name) == names::pool_of(root) {
            return Err("there is no such dataset".to_owned());
        }
        Err(format!(
            "it lies in another pool than the root {root}, which is not imported or waits for a disk; left to the booted system"
        ))
    }

    fn try_also(&mut self, also: &Also) -> Result<(), String> {
        let name = also.dataset.as_str();
        let dataset = self.named(name)?;
        mountable(dataset)?;
        let (target, why) = if let Some(target) = &also.target {
            (target_path(target)?, "where it says".to_owned())
        } else {
            let path = dataset.path().or(dataset.zol_mountpoint.as_deref());
            let path = path.ok_or_else(|| {
                format!("its mountpoint is no path; taproot.also={name}=/path says where it is to be mounted")
            })?;
            self.target(dataset, path)?
        };
        let detail = Detail {
            options: mount_options(dataset, self.read_only, &target, &[]),
            why: self.although(name, format!("taproot.also, {why}")),
            origin: Origin::Also,
            nofail: false,
            foreign: None,
            overlay: dataset.overlay,
            key: self.key(dataset, true)?,
        };
        self.step(name, target, detail)
    }

    fn try_property(&mut self, dataset: &Dataset, nearness: &Nearness) -> Result<(), String> {
        if let Some(other) = self.other(&dataset.name) {
            return Err(other.why);
        }
        match dataset.canmount {
            CanMount::Off => return Err("canmount=off".to_owned()),
            CanMount::NoAuto => return Err("canmount=noauto".to_owned()),
            CanMount::On => {}
        }
        let below = self.below(dataset);
        // Only of the root's own children: so did the initramfs-tools script that the property comes from.
        let zol = dataset.zol_mountpoint.as_deref().filter(|_| below);
        let path = match (&dataset.mountpoint, zol) {
            (Mountpoint::Path(path), _) => path.as_str(),
            (_, Some(path)) => path,
            (Mountpoint::Legacy, None) => return Err("mountpoint=legacy and no fstab line".to_owned()),
            (Mountpoint::None, None) => return Err("mountpoint=none".to_owned()),
        };
        mountable(dataset)?;
        let (target, why) = self.target(dataset, path)?;
        let place = self.place(&target);
        self.asked_for(dataset, &place, below)?;
        let listed = matches!(self.settings.which.value, Which::List(_));
        if !below && !listed && in_init_tree(&place) && !names::is_within(&place, LOCAL) {
            self.claims.leave(&place, &dataset.name, nearness);
            let (root, name) = (self.root.name(), &dataset.name);
            return Err(format!(
                "{target} is init's, and {name} does not lie below the root {root}; left to the booted system \
                 (taproot.also={name} mounts it)"
            ));
        }
        let key = self.key(dataset, listed || in_init_tree(&place));
        if key.is_err() {
            self.claims.leave(&place, &dataset.name, nearness);
        }
        let detail = Detail {
            options: mount_options(dataset, self.read_only, &target, &[]),
            why: format!("canmount=on, {why}"),
            origin: Origin::Property,
            nofail: false,
            foreign: None,
            overlay: dataset.overlay,
            key: key?,
        };
        self.step(&dataset.name, target, detail)?;
        self.claims.near(&place, nearness);
        Ok(())
    }

    /// The key that a dataset waits for; fails if it could not be had.
    fn key(&self, dataset: &Dataset, needed: bool) -> Result<Option<KeyNeed>, String> {
        if dataset.key_available != Some(false) {
            return Ok(None);
        }
        let root = dataset.key();
        if self.ground.given_up.contains(root) {
            return Err(format!("the key of {root} is not loaded"));
        }
        let file = dataset.key_file().map(str::to_owned);
        Ok(Some(KeyNeed { root: root.to_owned(), file, needed, ask: needed && dataset.key_is_typed() }))
    }

    /// Whether the setting wants it.
    fn asked_for(&self, dataset: &Dataset, place: &str, below: bool) -> Result<(), String> {
        let wanted = match &self.settings.which.value {
            Which::All => true,
            Which::Children => below,
            Which::System => below && in_init_tree(place),
            Which::None => false,
            Which::List(names) => names.contains(&dataset.name),
        };
        if wanted { Ok(()) } else { Err(format!("left out by {}", self.settings.which.why)) }
    }

    /// Where a dataset with this mountpoint goes, and why there.
    fn target(&self, dataset: &Dataset, path: &str) -> Result<(String, String), String> {
        let target = target_path(path)?;
        Ok(match self.rebase(dataset, &target) {
            Some(below) => (below, format!("mountpoint={path} below the root's own")),
            None => (target, format!("mountpoint={path}")),
        })
    }

    /// A root whose mountpoint is not `/` is mounted there all the same, so its children move with it.
    fn rebase(&self, dataset: &Dataset, target: &str) -> Option<String> {
        let base = target_path(self.root.dataset()?.path()?).ok().filter(|base| base != "/")?;
        if !self.below(dataset) {
            return None;
        }
        let below = target.strip_prefix(&base)?;
        match below {
            "" => Some("/".to_owned()),
            below => below.starts_with('/').then(|| below.to_owned()),
        }
    }

    fn although(&self, name: &str, why: String) -> String {
        match self.other(name) {
            Some(other) => format!("{why}, although {}", other.why),
            None => why,
        }
    }

    /// Whether a dataset lies below the root.
    fn below(&self, dataset: &Dataset) -> bool {
        self.root.dataset().is_some_and(|root| names::is_within(&dataset.name, &root.name))
    }

    /// Which other boot environment a dataset belongs to.
    fn other(&self, name: &str) -> Option<Other> {
        self.environments.as_ref()?.other(name)
    }

    fn step(&mut self, dataset: &str, target: String, detail: Detail) -> Result<(), String> {
        let place = self.place(&target);
        let Detail { options, why, origin, nofail, foreign, overlay, key } = detail;
        if let Some(tree) = SYSTEM_TREES.into_iter().find(|tree| names::is_within(&place, tree)) {
            return Err(format!("{target} lies in {tree}, which the booted system sets up; left to it"));
        }
        if self.ground.taken_away.contains(dataset) {
            return Err("it is empty and hid the program to start, so it was taken away".to_owned());
        }
        self.claims.take(&place, &target, dataset, &why, origin)?;
        self.done.insert(dataset.to_owned());
        let dataset = dataset.to_owned();
        self.steps.push(MountStep { dataset, target, place, options, why, origin, nofail, foreign, key, overlay });
        Ok(())
    }

    fn skip(&mut self, dataset: &str, why: String) {
        self.skipped.entry(dataset.to_owned()).or_insert(why);
    }
}

/// What neither property nor fstab can get round.
fn mountable(dataset: &Dataset) -> Result<(), String> {
    if dataset.kind != Kind::Filesystem {
        return Err(NO_FILESYSTEM.to_owned());
    }
    if dataset.zoned {
        return Err("zoned=on: it belongs to a container".to_owned());
    }
    Ok(())
}
