//! Keys and snapshots: the key of the root must be had, the others are asked for if they would be mounted now.

use super::step::Snapshots;
use super::{Moment, Named, Next, Root, Settled, Step, Wait, end_of};
use crate::devices::known::Reading;
use crate::devices::probe::Wanted;
use crate::plan::facts::Dataset;
use crate::plan::fstab::FstabEntry;
use crate::plan::mounts;
use std::collections::BTreeSet;

impl Moment<'_> {
    /// The key that the root needs.
    pub(super) fn unlock(self, root: &Root) -> Settled<()> {
        let Some(dataset) = root.dataset().filter(|dataset| dataset.key_available == Some(false)) else {
            return Ok(());
        };
        let key = dataset.encryption_root.clone().unwrap_or_else(|| dataset.name.clone());
        self.key_devices()?;
        Err(Next::Do(Step::LoadKey { dataset: dataset.name.clone(), key }))
    }

    /// The root after all that is asked to be done with snapshots.
    pub(super) fn snapshots(self, root: &Root) -> Settled<Root> {
        let Some(dataset) = root.dataset() else { return Ok(root.clone()) };
        let asked = &self.request.snapshots;
        let snapshot = self.snapshot();
        let nothing = snapshot.is_none() && asked.take.is_none() && asked.rollback_to.is_none();
        if nothing || self.facts.attempt.stand_ins.is_some() {
            return Ok(root.clone());
        }
        Err(Next::Do(Step::Snapshots(Box::new(Snapshots { root: dataset.clone(), snapshot }))))
    }

    /// Encryption roots without a key of what the plan would mount with it, in the order of the mounts, and whether people
    /// are asked: not for what fstab calls `nofail`.
    pub(super) fn locked_keys(self, root: &Dataset, all: &[Dataset], fstab: &[FstabEntry]) -> Vec<(String, bool)> {
        let unlocked =
            |dataset: &Dataset| Dataset { key_available: dataset.key_available.map(|_| true), ..dataset.clone() };
        let locked = all.iter().filter(|d| d.key_available == Some(false));
        let locked: BTreeSet<&str> = locked.map(|d| d.name.as_str()).collect();
        if locked.is_empty() {
            return Vec::new();
        }
        let open: Vec<Dataset> = all.iter().map(unlocked).collect();
        let steps = mounts::plan(&Root::Dataset(root.clone()), &open, fstab, self.request).steps;
        let mut keys: Vec<(String, bool)> = Vec::new();
        for step in steps.iter().filter(|step| locked.contains(step.dataset.as_str())) {
            let dataset = all.iter().find(|d| d.name == step.dataset);
            let key = dataset.and_then(|d| d.encryption_root.clone()).unwrap_or_else(|| step.dataset.clone());
            match keys.iter_mut().find(|(known, _)| *known == key) {
                Some((_, ask)) => *ask |= !step.nofail,
                None => keys.push((key, !step.nofail)),
            }
        }
        keys.retain(|(key, _)| !self.facts.attempt.keys_tried.contains(key));
        keys
    }

    /// The devices of key files, and their file systems' drivers, are waited for before the key is looked for.
    pub(super) fn key_devices(self) -> Settled<()> {
        let wait = self.request.keys.file_wait.value;
        let began = self.facts.attempt.last_step;
        let until = end_of(began, wait);
        let over = self.is_over(until);
        for file in &self.request.keys.files {
            let Some(wanted) = file.device.as_deref().and_then(Wanted::parse) else { continue };
            match self.named(&wanted, over) {
                // What is on it is not known yet.
                Named::There(device) if device.content == Reading::Waiting && !over => {
                    return Err(Next::Wait(Wait::until(format!("{wanted} with the key file to be read"), until)));
                }
                Named::There(device) => {
                    if let Some(superblock) = device.superblock() {
                        self.filesystem(&superblock.kind.clone(), began)?;
                    }
                }
                Named::Awaited { again } if !over => {
                    return Err(Next::Wait(Wait { what: format!("{wanted} with the key file"), until, again }));
                }
                // The unlocker says that it is not there, or not the only one.
                Named::Awaited { .. } | Named::Several(_) => {}
            }
        }
        Ok(())
    }
}
