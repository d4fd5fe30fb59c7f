//! Steps that mount what belongs to the root. Paths are resolved as the new root will see them: an absolute link there must
//! not lead into the initramfs.

use super::Boot;
use crate::plan::fstab::{self, FstabEntry};
use crate::plan::mounts::{self, Ground, MountStep, Origin, Remount};
use crate::plan::next::Mount;
use crate::plan::root::Root;
use crate::plan::snapshots;
use crate::report::boot::MountDone;
use crate::report::slow;
use crate::sys::beneath::resolve;
use crate::sys::{FileKind, System};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of an fstab, or of a list of datasets, that are read.
pub(super) const TEXT_MAX: usize = 16 << 20;

impl Boot<'_> {
    /// The root's fstab. That of a clone names the datasets of its original; their clones are meant.
    pub(super) fn read_fstab(&mut self, below: usize) {
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
        self.facts.fstab_read(entries, below);
    }

    /// Plans the mounts besides the root, in the order of where they really go: `/lib/modules` lies below `/usr` where `/lib`
    /// is a link into it.
    pub(super) fn plan_mounts(&mut self, root: &Root) {
        let attempt = &self.facts.attempt;
        let datasets = attempt.datasets.clone().unwrap_or_default().all;
        let fstab = attempt.fstab.clone().unwrap_or_default().entries;
        let viewed = attempt.stand_ins.as_ref().and_then(|s| Some((s.viewed.clone()?, s.names.clone())));
        let place = |target: &str| self.place(target);
        let ground = Ground {
            root,
            datasets: &datasets,
            fstab: &fstab,
            made: &attempt.made,
            given_up: &attempt.keys_tried,
            taken_away: &attempt.taken_away,
            place: &place,
        };
        let mut plan = match &viewed {
            None => mounts::plan(ground, &self.request),
            // Where a snapshot is mounted as it is, nothing but snapshots may be mounted for what lies below its dataset.
            Some((of, names)) => {
                let of_dataset = Root::Dataset(of.clone());
                let mut plan = mounts::plan(Ground { root: &of_dataset, ..ground }, &self.request);
                snapshots::view_mounts(&mut plan, &of.name, names);
                plan
            }
        };
        (self.report.datasets, self.report.fstab) = (datasets, fstab);
        self.report.datasets.extend(self.facts.attempt.layers.all_datasets());
        self.report.places.append(&mut plan.places.clone());
        plan.steps.retain(|step| step.origin != Origin::Root);
        self.facts.attempt.plan = Some(plan);
    }

    /// Where a path of the new root leads now. One that cannot be resolved fails when its turn comes.
    fn place(&self, target: &str) -> String {
        let at = resolve(self.system, &self.new_root, Path::new(target)).ok();
        at.as_deref().and_then(|at| self.beneath(at)).unwrap_or_else(|| target.to_owned())
    }

    /// A path below the new root, as the booted system will see it.
    fn beneath(&self, at: &Path) -> Option<String> {
        Some(format!("/{}", at.strip_prefix(&self.new_root).ok()?.to_str()?))
    }

    /// Tells of what is left out, once it is sure.
    pub(super) fn tell_left_out(&mut self) {
        let mut plan = self.facts.attempt.plan.clone().unwrap_or_default();
        for warning in std::mem::take(&mut plan.warnings) {
            if !self.report.problems.contains(&warning) {
                self.trouble(warning);
            }
        }
        self.report.skipped = mounts::condense(plan.skipped);
        for skipped in &self.report.skipped {
            let more = if skipped.more > 0 { format!(" and {} more", skipped.more) } else { String::new() };
            self.log.debug(format!("{}{more} not mounted: {}", skipped.dataset, skipped.why));
        }
        self.facts.attempt.told = true;
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
            Ok(_) => {
                self.log.info(format!("mounted {} on {} ({})", step.dataset, step.target, step.why));
                if step.foreign.as_ref().is_some_and(|foreign| foreign.device) {
                    self.tell_other_paths(&step.dataset);
                }
            }
            Err(e) => self.not_mounted(&step, &e.to_string()),
        }
        let (at, error) = match result {
            Ok(at) => (Some(at), None),
            Err(e) => (None, Some(e.to_string())),
        };
        self.done(step, took, at, error);
    }

    pub(super) fn pass_over(&mut self, step: MountStep, why: &str) {
        self.not_mounted(&step, why);
        self.done(step, Duration::ZERO, None, Some(why.to_owned()));
    }

    /// Notes what came of a step; `at`: where it is mounted.
    pub(super) fn done(&mut self, step: MountStep, took: Duration, at: Option<String>, error: Option<String>) {
        self.facts.mount_done(&step, at);
        let write_protected = self.is_write_protected(&step.dataset);
        let done = MountDone { step, took, error, write_protected };
        let same = |known: &&mut MountDone| known.step.place == done.step.place;
        // One that had to be made again has its place in the record already.
        match self.report.mounts.iter_mut().find(same) {
            Some(known) => *known = done,
            None => self.report.mounts.push(done),
        }
    }

    pub(super) fn not_mounted(&mut self, step: &MountStep, why: &str) {
        let MountStep { dataset, target, .. } = step;
        if step.nofail {
            return self.log.info(format!("{dataset} not mounted on {target}: {why} (nofail)"));
        }
        self.trouble(format!("{dataset} not mounted on {target}: {why}"));
    }

    /// Mounts, and says where that was.
    fn try_mount(&self, mount: &Mount) -> io::Result<String> {
        let Mount { step, source, fstype } = mount;
        let (target, at) = self.place_of(step)?;
        slow::mount(self.system, self.log, (source, &target, fstype), step.options.flags, &step.options.data)?;
        Ok(at)
    }

    /// Where a step is mounted, in this process and in the new root; the directory is there then.
    pub(super) fn place_of(&self, step: &MountStep) -> io::Result<(PathBuf, String)> {
        let target = resolve(self.system, &self.new_root, Path::new(&step.target))?;
        let at = self.beneath(&target).unwrap_or_else(|| step.place.clone());
        // A link that came with another mount leads there.
        if let Some(other) = self.facts.attempt.made.values().find(|made| made.mounted && made.at == at) {
            return Err(io::Error::other(format!("{} is mounted there, on {}", other.dataset, other.target)));
        }
        match self.system.stat(&target).map(|info| info.kind) {
            Ok(FileKind::Directory) => {
                if self.system.list(&target).is_ok_and(|names| !names.is_empty()) {
                    if !step.overlay {
                        return Err(io::Error::other("the directory is not empty, and the dataset has overlay=off"));
                    }
                    self.log.info(format!("{} is not empty; {} covers what is in it", step.target, step.dataset));
                }
            }
            Ok(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.system.make_dirs(&target).map_err(|e| missing(step, &e))?;
            }
            Err(e) => return Err(e),
        }
        Ok((target, at))
    }
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
    use crate::sys::linux::Linux;
    use std::fs;

    #[test]
    fn a_root_without_fstab_has_no_lines_and_one_that_cannot_be_read_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(fstab_of(&Linux::new(), dir.path()).unwrap().len(), 0);
        fs::create_dir_all(dir.path().join("etc/fstab")).unwrap();
        assert!(fstab_of(&Linux::new(), dir.path()).unwrap_err().contains("could not be read"));
    }
}
