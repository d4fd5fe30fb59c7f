//! The rules, one dataset or fstab line at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::foreign::foreign;
use super::{Foreign, MountStep, Origin, target_path};
use crate::cmdline::{Also, MountSettings, Request, Which};
use crate::plan::environments::Environments;
use crate::plan::facts::{CanMount, Dataset, Kind, Mountpoint};
use crate::plan::fstab::FstabEntry;
use crate::plan::names;
use crate::plan::options::{MountOptions, foreign_options, mount_options};
use crate::plan::root::Root;

/// Trees that are moved into the new root or set up by the booted system; a dataset mounted there would be covered.
const SYSTEM_TREES: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];

/// What an init may need before it has mounted anything itself; `/lib` stands for `/lib*`.
const INIT_TREES: [&str; 5] = ["/usr", "/etc", "/bin", "/sbin", "/lib"];

/// Why volumes are not mounted.
const NO_FILESYSTEM: &str = "it is not a filesystem";

pub(super) struct Planner<'a> {
    root: &'a Root,
    settings: &'a MountSettings,
    /// `Some(true)` if the pool is imported read-only: whatever properties and fstab say, so are the mounts.
    read_only: Option<bool>,
    datasets: BTreeMap<&'a str, &'a Dataset>,
    /// Of a root that is a dataset.
    environments: Option<Environments<'a>>,
    /// Target to the dataset that is mounted there.
    mounted: BTreeMap<String, String>,
    /// Datasets that have a step.
    done: BTreeSet<String>,
    pub(super) steps: Vec<MountStep>,
    /// The first reason for each dataset.
    pub(super) skipped: BTreeMap<String, String>,
    /// What was asked for by name and is not done.
    pub(super) warnings: Vec<String>,
}

/// What a step is besides its dataset and target.
struct Detail {
    options: MountOptions,
    why: String,
    origin: Origin,
    nofail: bool,
    foreign: Option<Foreign>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(root: &'a Root, all: &'a [Dataset], request: &'a Request) -> Self {
        Self {
            root,
            settings: &request.mounts,
            read_only: request.import.read_only.value.then_some(true),
            datasets: all.iter().map(|d| (d.name.as_str(), d)).collect(),
            environments: root.dataset().map(|dataset| Environments::new(dataset, all)),
            mounted: BTreeMap::from([("/".to_owned(), root.name().to_owned())]),
            done: BTreeSet::from([root.name().to_owned()]),
            steps: Vec::new(),
            skipped: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn fstab_line(&mut self, entry: &FstabEntry) {
        let zfs = entry.fstype == "zfs";
        // For the early boot: `/usr`, because no init starts without it, and what says so.
        let early = entry.has("x-initrd.mount") || target_path(&entry.target).is_ok_and(|target| target == "/usr");
        // The root is mounted already; a line for it only tells the booted system how to remount it.
        let own_root = entry.target == "/" && (!zfs || self.done.contains(&entry.source));
        if own_root || !(zfs || early) {
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

    /// A dataset that `taproot.also=` names.
    pub(super) fn also(&mut self, also: &Also) {
        let name = also.dataset.as_str();
        let result = match self.place_of(name) {
            Some(place) if also.target.as_deref().is_none_or(|target| target_path(target).as_deref() == Ok(place)) => {
                Ok(())
            }
            Some(place) => {
                Err(format!("not on {}, because it is mounted on {place}", also.target.as_deref().unwrap_or("/")))
            }
            None => self.try_also(also),
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
        let mut by_nearness: Vec<&Dataset> = self.datasets.values().copied().filter(ours).collect();
        let shared = |d: &Dataset| shared_parts(&d.name, &root.name);
        by_nearness.sort_by_key(|dataset| std::cmp::Reverse(shared(dataset)));
        for dataset in by_nearness {
            if !self.done.contains(&dataset.name)
                && let Err(why) = self.try_property(dataset)
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
        if dataset.mountpoint != Mountpoint::Legacy && !entry.has("zfsutil") {
            let is = dataset.path().unwrap_or("none");
            return Err(format!("its mountpoint is {is}, not legacy, so mount(8) would need the option zfsutil"));
        }
        let why = self.although(source, format!("fstab line {}", entry.line));
        let extra: Vec<&str> = entry.options.iter().map(String::as_str).collect();
        let options = mount_options(dataset, self.read_only, &target, &extra);
        let nofail = entry.has("nofail");
        self.step(source, target, Detail { options, why, origin: Origin::Fstab, nofail, foreign: None })
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
        Err(format!("it lies in another pool than the root {root}, which is not imported; left to the booted system"))
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
            self.place(dataset, path)?
        };
        let why = self.although(name, format!("taproot.also, {why}"));
        let options = mount_options(dataset, self.read_only, &target, &[]);
        self.step(name, target, Detail { options, why, origin: Origin::Also, nofail: false, foreign: None })
    }

    fn try_property(&mut self, dataset: &Dataset) -> Result<(), String> {
        if let Some(other) = self.other(&dataset.name) {
            return Err(other);
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
        let (target, why) = self.place(dataset, path)?;
        self.asked_for(dataset, &target, below)?;
        let options = mount_options(dataset, self.read_only, &target, &[]);
        let why = format!("canmount=on, {why}");
        self.step(
            &dataset.name,
            target,
            Detail { options, why, origin: Origin::Property, nofail: false, foreign: None },
        )
    }

    /// Whether the setting wants it.
    fn asked_for(&self, dataset: &Dataset, target: &str, below: bool) -> Result<(), String> {
        let in_init_tree = || {
            let first = target.split('/').nth(1).unwrap_or_default();
            INIT_TREES.iter().any(|tree| names::is_within(target, tree)) || first.starts_with("lib")
        };
        let wanted = match &self.settings.which.value {
            Which::All => true,
            Which::Children => below,
            Which::System => below && in_init_tree(),
            Which::None => false,
            Which::List(names) => names.contains(&dataset.name),
        };
        if wanted { Ok(()) } else { Err(format!("left out by {}", self.settings.which.why)) }
    }

    /// Where a dataset with this mountpoint goes, and why there.
    fn place(&self, dataset: &Dataset, path: &str) -> Result<(String, String), String> {
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
            Some(other) => format!("{why}, although {other}"),
            None => why,
        }
    }

    /// Whether a dataset lies below the root.
    fn below(&self, dataset: &Dataset) -> bool {
        self.root.dataset().is_some_and(|root| names::is_within(&dataset.name, &root.name))
    }

    /// Which other boot environment a dataset belongs to.
    fn other(&self, name: &str) -> Option<String> {
        self.environments.as_ref()?.other(name)
    }

    /// Where a dataset is mounted by what was planned so far.
    fn place_of(&self, name: &str) -> Option<&str> {
        self.mounted.iter().find(|(_, dataset)| *dataset == name).map(|(target, _)| target.as_str())
    }

    fn step(&mut self, dataset: &str, target: String, detail: Detail) -> Result<(), String> {
        if let Some(other) = self.mounted.get(&target) {
            return Err(format!("{other} is mounted at {target}"));
        }
        if let Some(tree) = SYSTEM_TREES.into_iter().find(|tree| names::is_within(&target, tree)) {
            return Err(format!("{target} lies in {tree}, which the booted system sets up; left to it"));
        }
        self.mounted.insert(target.clone(), dataset.to_owned());
        self.done.insert(dataset.to_owned());
        let Detail { options, why, origin, nofail, foreign } = detail;
        self.steps.push(MountStep { dataset: dataset.to_owned(), target, options, why, origin, nofail, foreign });
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
    if dataset.key_available == Some(false) {
        let key = dataset.encryption_root.as_deref().unwrap_or(&dataset.name);
        return Err(format!("the key of {key} is not loaded"));
    }
    Ok(())
}

/// How many leading parts two names have in common.
fn shared_parts(a: &str, b: &str) -> usize {
    a.split('/').zip(b.split('/')).take_while(|(a, b)| a == b).count()
}
