//! Steps that mount what belongs to the root. Paths are resolved as the new root will see them: an absolute link there must
//! not lead into the initramfs.

use super::{Boot, slow};
use crate::cmdline::Which;
use crate::plan::facts::Dataset;
use crate::plan::fstab::{self, FstabEntry};
use crate::plan::mounts::{self, MountStep, Origin, Remount};
use crate::plan::next::Mount;
use crate::plan::root::Root;
use crate::plan::{from_zfs, listcache, names, snapshots};
use crate::report::boot::MountDone;
use crate::sys::beneath::resolve;
use crate::sys::{FileKind, System};
use crate::zfs::ioctl::{Objset, Zfs};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// In a pool with more datasets than this, those to mount are taken from the list that the root keeps, if it keeps one: the
/// kernel needs milliseconds for each that it is asked about.
const MANY: usize = 100;
/// Bytes of an fstab, or of a list of datasets, that are read.
const TEXT_MAX: usize = 16 << 20;

impl Boot<'_> {
    /// The root's fstab. That of a clone names the datasets of its original; their clones are meant.
    pub(super) fn read_fstab(&mut self) {
        let mut entries = fstab_of(self.system, &self.new_root).unwrap_or_else(|text| {
            self.trouble(text);
            Vec::new()
        });
        let stand_ins = self.facts.attempt.stand_ins.clone().unwrap_or_default();
        for entry in entries.iter_mut().filter(|_| stand_ins.viewed.is_none()) {
            if let Some(clone) = stand_ins.names.get(&entry.source) {
                self.log.info(format!("fstab line {} names {}: its clone {clone} is meant", entry.line, entry.source));
                entry.source.clone_from(clone);
            }
        }
        self.facts.attempt.fstab = Some(entries);
    }

    /// Every dataset that the settings can mean, and those of whatever imported pool that somebody named.
    pub(super) fn ask_datasets(&mut self, root: &Dataset) {
        let phase = self.phases.start("datasets");
        let relatime = self.relatime_default();
        let zfs = Zfs::new(self.system);
        let pool = names::pool_of(&root.name);
        let listed = self.listed(pool);
        let limit = if listed.is_some() { MANY } else { usize::MAX };
        let enter = |o: &Objset| !mounts::begins_another_environment(root, &from_zfs::dataset(o, relatime));
        let walk = match self.request.mounts.which.value {
            Which::All => Some(zfs.walk(pool, limit, &enter)),
            Which::Children | Which::System => Some(zfs.walk(&root.name, usize::MAX, &enter)),
            Which::None | Which::List(_) => None,
        };
        let fstab = self.facts.attempt.fstab.clone().unwrap_or_default();
        let named = with_parents(mounts::named(&fstab, &self.request));
        let mut to_ask = named.clone();
        let mut all = BTreeMap::from([(root.name.clone(), root.clone())]);
        match walk {
            Some(Ok(walk)) if walk.complete => {
                all.extend(walk.found.iter().map(|o| (o.name.clone(), from_zfs::dataset(o, relatime))));
            }
            Some(Ok(_)) => {
                let listed = listed.unwrap_or_default();
                self.log.info(format!(
                    "pool {pool} has more than {MANY} datasets: the {} to look at are those of {}",
                    listed.len(),
                    listcache::path(pool)
                ));
                to_ask.extend(with_parents(listed.iter().map(String::as_str)));
            }
            Some(Err(e)) => {
                self.log.error(format!("only what is named is mounted besides the root: {e}"));
                self.report.problems.push(e.to_string());
            }
            None => {}
        }
        // Parents come before their children in this order, so that another environment's children need not be asked about.
        let mut closed: Option<String> = None;
        for name in to_ask {
            let foreign = closed.as_ref().is_some_and(|closed| names::is_within(&name, closed));
            if all.contains_key(&name) || (foreign && !named.contains(&name)) {
                continue;
            }
            // One that does not exist, or whose pool is not imported, is told of by the plan.
            let Ok(objset) = zfs.objset(&name) else { continue };
            if !enter(&objset) {
                closed = Some(name.clone());
            }
            all.insert(name, from_zfs::dataset(&objset, relatime));
        }
        drop(phase);
        self.facts.attempt.datasets = Some(all.into_values().collect());
    }

    /// What the root's own list of the pool has to be mounted; `None` without a list.
    fn listed(&self, pool: &str) -> Option<Vec<String>> {
        let path = resolve(self.system, &self.new_root, Path::new(&listcache::path(pool))).ok()?;
        let bytes = self.system.read(&path, TEXT_MAX).ok().filter(|bytes| !bytes.is_empty())?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Some(listcache::mounted(&text, pool).into_iter().map(str::to_owned).collect())
    }

    /// Plans the mounts besides the root, in the order of where they really go: `/lib/modules` lies below `/usr` where `/lib`
    /// is a link into it.
    pub(super) fn plan_mounts(&mut self, root: &Root) {
        let attempt = &self.facts.attempt;
        let (datasets, fstab) =
            (attempt.datasets.clone().unwrap_or_default(), attempt.fstab.clone().unwrap_or_default());
        let viewed = attempt.stand_ins.as_ref().and_then(|s| Some((s.viewed.clone()?, s.names.clone())));
        let mut plan = match &viewed {
            None => mounts::plan(root, &datasets, &fstab, &self.request),
            // Where a snapshot is mounted as it is, nothing but snapshots may be mounted for what lies below its dataset.
            Some((of, names)) => {
                let mut plan = mounts::plan(&Root::Dataset(of.clone()), &datasets, &fstab, &self.request);
                snapshots::view_mounts(&mut plan, &of.name, names);
                plan
            }
        };
        (self.report.datasets, self.report.fstab) = (datasets, fstab);
        let steps = std::mem::take(&mut plan.steps).into_iter().filter(|step| step.origin != Origin::Root);
        plan.steps = in_order(self.system, &self.new_root, steps.collect());
        for warning in &plan.warnings {
            self.log.warn(warning);
        }
        self.report.problems.extend(plan.warnings.iter().cloned());
        self.report.skipped = mounts::condense(std::mem::take(&mut plan.skipped));
        for skipped in &self.report.skipped {
            let more = if skipped.more > 0 { format!(" and {} more", skipped.more) } else { String::new() };
            self.log.debug(format!("{}{more} not mounted: {}", skipped.dataset, skipped.why));
        }
        self.facts.attempt.plan = Some(plan);
    }

    /// Changes the options of the mounted root.
    pub(super) fn remount(&mut self, root: &Root, how: &Remount) {
        let Remount { options, why } = how;
        let flags = options.flags | libc::MS_REMOUNT;
        match slow::mount(self.system, self.log, (root.name(), &self.new_root, "zfs"), flags, &options.data) {
            Ok(()) => self.log.info(format!("remounted / ({why})")),
            Err(e) => self.trouble(format!("/ stays mounted as it is: remounting it ({why}) failed: {e}")),
        }
        self.facts.attempt.remounted = true;
    }

    pub(super) fn mount(&mut self, mount: Mount) {
        let start = self.system.now();
        let result = self.try_mount(&mount);
        let took = self.system.now().saturating_sub(start);
        let step = mount.step;
        match &result {
            Ok(()) => {
                self.log.info(format!("mounted {} on {} ({})", step.dataset, step.target, step.why));
                if step.foreign.as_ref().is_some_and(|foreign| foreign.device) {
                    self.tell_other_paths(&step.dataset);
                }
            }
            Err(e) => self.not_mounted(&step, &e.to_string()),
        }
        self.done(step, took, result.err().map(|e| e.to_string()));
    }

    pub(super) fn pass_over(&mut self, step: MountStep, why: &str) {
        self.not_mounted(&step, why);
        self.done(step, Duration::ZERO, Some(why.to_owned()));
    }

    fn done(&mut self, step: MountStep, took: Duration, error: Option<String>) {
        self.report.mounts.push(MountDone { step, took, error });
        self.facts.attempt.done += 1;
    }

    fn not_mounted(&mut self, step: &MountStep, why: &str) {
        let MountStep { dataset, target, .. } = step;
        if step.nofail {
            return self.log.info(format!("{dataset} not mounted on {target}: {why} (nofail)"));
        }
        self.log.warn(format!("{dataset} not mounted on {target}: {why}"));
        self.report.problems.push(format!("{dataset} not mounted on {target}: {why}"));
    }

    fn try_mount(&self, mount: &Mount) -> io::Result<()> {
        let Mount { step, source, fstype } = mount;
        let target = resolve(self.system, &self.new_root, Path::new(&step.target))?;
        match self.system.stat(&target).map(|info| info.kind) {
            Ok(FileKind::Directory) => {
                if self.system.list(&target).is_ok_and(|names| !names.is_empty()) {
                    self.log.info(format!("{} is not empty; {} covers what is in it", step.target, step.dataset));
                }
            }
            Ok(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.system.make_dirs(&target).map_err(|e| missing(step, &e))?;
            }
            Err(e) => return Err(e),
        }
        slow::mount(self.system, self.log, (source, &target, fstype), step.options.flags, &step.options.data)
    }
}

fn with_parents<'n>(names: impl IntoIterator<Item = &'n str>) -> BTreeSet<String> {
    names.into_iter().flat_map(names::lineage).map(str::to_owned).collect()
}

/// The fstab of the tree at `root`; a root without one has no lines.
fn fstab_of(system: &dyn System, root: &Path) -> Result<Vec<FstabEntry>, String> {
    let text = resolve(system, root, Path::new("/etc/fstab")).and_then(|path| system.read(&path, TEXT_MAX));
    match text {
        Ok(text) => Ok(fstab::parse(&text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(format!("the root's /etc/fstab could not be read, so nothing it names is mounted: {e}")),
    }
}

/// The steps in the order of where they really go.
fn in_order(system: &dyn System, root: &Path, steps: Vec<MountStep>) -> Vec<MountStep> {
    // Path compares by parts. One that cannot be resolved fails when its turn comes.
    let place =
        |step: &MountStep| resolve(system, root, Path::new(&step.target)).unwrap_or(PathBuf::from(&step.target));
    let mut steps: Vec<(PathBuf, MountStep)> = steps.into_iter().map(|step| (place(&step), step)).collect();
    steps.sort_by(|a, b| a.0.cmp(&b.0));
    steps.into_iter().map(|(_, step)| step).collect()
}

fn missing(step: &MountStep, error: &io::Error) -> io::Error {
    let why = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "what it lies in is mounted read-only, so it cannot be made".to_owned(),
        _ => format!("making it failed: {error}"),
    };
    io::Error::new(error.kind(), format!("mount point {} is missing, and {why}", step.target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::parse;
    use crate::sys::linux::Linux;
    use std::fs;

    #[test]
    fn links_in_the_root_change_the_order() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("usr/lib", dir.path().join("lib")).unwrap();
        let root = Root::Dataset(Dataset::with_defaults("t"));
        let step = |target: &str| MountStep { target: target.into(), ..mounts::root_step(&root, &parse(b"")) };
        let steps = ["/lib/modules", "/opt", "/usr", "/usr/lib"].map(step).to_vec();
        let order: Vec<_> = in_order(&Linux::new(), dir.path(), steps).into_iter().map(|s| s.target).collect();
        assert_eq!(order, ["/opt", "/usr", "/usr/lib", "/lib/modules"]);
    }

    #[test]
    fn a_root_without_fstab_has_no_lines_and_one_that_cannot_be_read_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(fstab_of(&Linux::new(), dir.path()).unwrap().len(), 0);
        fs::create_dir_all(dir.path().join("etc/fstab")).unwrap();
        assert!(fstab_of(&Linux::new(), dir.path()).unwrap_err().contains("could not be read"));
    }
}
