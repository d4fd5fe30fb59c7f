//! The root and everything that belongs to it, mounted.

use super::failure::Failure;
use super::{Boot, newroot, otherfs};
use crate::devices::probe::Prober;
use crate::plan::facts::Dataset;
use crate::plan::mounts;
use crate::plan::mounts::{MountPlan, MountStep, Origin};
use crate::report::boot::MountDone;
use std::path::Path;

impl Boot<'_> {
    /// The root, then what its pool and its own fstab add.
    pub(super) fn mount_everything(&mut self, root: &Dataset) -> Result<(), Failure> {
        let began = self.phases.start("mount");
        let new_root = self.new_root.clone();
        let step = mounts::root_step(root, &self.request);
        self.report.mounts = vec![newroot::mount_root(self.system, &new_root, step, &self.log)?];
        let fstab = self.fstab();
        let named = self.named_root(root).clone();
        let datasets = self.datasets(&named, &fstab);
        let datasets = self.unlock_others(&named, datasets, &fstab);
        let mut plan = mounts::plan(&named, &datasets, &fstab, &self.request);
        self.stand_in(&mut plan);
        if let Some(remount) = &plan.remount_root {
            let (options, why) = (&remount.options, &remount.why);
            let failed = newroot::remount_root(self.system, &new_root, &root.name, options, why, &self.log);
            if let Some(text) = failed {
                self.trouble(text);
            }
        }
        (self.report.datasets, self.report.fstab) = (datasets, fstab);
        let MountPlan { steps, skipped, warnings, .. } = plan;
        let others: Vec<MountStep> = steps.into_iter().filter(|step| step.origin != Origin::Root).collect();
        let mut prober = Prober::new(Path::new("/sys"), Path::new("/dev"));
        for step in newroot::in_order(&new_root, others) {
            let what = otherfs::find(self.system, &step, &self.hardware, &mut prober, &self.log);
            let done = newroot::mount(self.system, &new_root, step, what, &self.log);
            self.report.mounts.push(done);
        }
        for warning in &warnings {
            self.log.warn(warning);
        }
        self.report.problems.extend(warnings);
        self.report.skipped = mounts::condense(skipped);
        for skipped in &self.report.skipped {
            let more = if skipped.more > 0 { format!(" and {} more", skipped.more) } else { String::new() };
            self.log.debug(format!("{}{more} not mounted: {}", skipped.dataset, skipped.why));
        }
        let failed = self.report.mounts.iter().filter(|m| !m.step.nofail).filter_map(failed_mount);
        self.report.problems.extend(failed.collect::<Vec<_>>());
        drop(began);
        Ok(())
    }

    /// `relatime` is on by default since OpenZFS 2.2.
    pub(super) fn relatime_default(&self) -> bool {
        let version = self.report.zfs.as_deref().unwrap_or("");
        let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (2, 2)
    }
}

fn failed_mount(done: &MountDone) -> Option<String> {
    done.error.as_ref().map(|e| format!("{} not mounted on {}: {e}", done.step.dataset, done.step.target))
}
