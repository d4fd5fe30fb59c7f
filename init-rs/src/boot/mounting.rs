//! The root and everything that belongs to it, mounted.

use super::failure::Failure;
use super::{Boot, newroot};
use crate::plan::facts::Dataset;
use crate::plan::mounts::Origin;
use crate::plan::{from_zfs, mounts, names};
use crate::report::boot::MountDone;
use crate::zfs::ioctl::Zfs;

impl Boot<'_> {
    /// The root, then what its pool and its own fstab add.
    pub(super) fn mount_everything(&mut self, root: &Dataset) -> Result<(), Failure> {
        let began = self.phases.start("mount");
        let new_root = self.new_root.clone();
        let step = mounts::root_step(root, &self.request);
        self.report.mounts = vec![newroot::mount_root(self.system, &new_root, step, &self.log)?];
        let relatime = self.relatime_default();
        let pool = names::pool_of(&root.name);
        let all: Vec<Dataset> = match Zfs::new(self.system).datasets(pool) {
            Ok(all) => all.iter().map(|o| from_zfs::dataset(o, relatime)).collect(),
            Err(e) => {
                self.log.error(format!("only the root and fstab are mounted: {e}"));
                self.report.problems.push(e.to_string());
                vec![root.clone()]
            }
        };
        let mut plan = mounts::plan(self.named_root(root), &all, &self.fstab(), &self.request);
        self.stand_in(&mut plan);
        if let Some(remount) = &plan.remount_root {
            newroot::remount_root(self.system, &new_root, &root.name, &remount.options, &remount.why, &self.log);
        }
        for step in plan.steps.into_iter().filter(|step| step.origin != Origin::Root) {
            let done = newroot::mount(self.system, &new_root, step, &self.log);
            self.report.mounts.push(done);
        }
        for skipped in &plan.skipped {
            self.log.debug(format!("{} not mounted: {}", skipped.dataset, skipped.why));
        }
        self.report.skipped = plan.skipped;
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
