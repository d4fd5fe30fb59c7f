//! Keys of what is to be mounted: that of the root must be had, the others are asked for if they would be mounted now.

use super::Boot;
use super::failure::Failure;
use crate::devices::probe::{Prober, Wanted};
use crate::order;
use crate::plan::facts::Dataset;
use crate::plan::fstab::FstabEntry;
use crate::plan::{from_zfs, mounts};
use crate::report::log::Log;
use crate::sys::System;
use crate::unlock::{Agents, Effort, KeyDevice, Keyring, UnlockError, Unlocker};
use crate::zfs::ioctl::Zfs;
use std::path::Path;
use std::time::Duration;

impl Boot<'_> {
    /// Loads the key that the root needs; the root as it is then.
    pub(super) fn unlock_root(&mut self, root: Dataset) -> Result<Dataset, Failure> {
        if root.key_available != Some(false) {
            return Ok(root);
        }
        let began = self.phases.start("unlock");
        let key = root.encryption_root.clone().unwrap_or_else(|| root.name.clone());
        self.unlock(&key, None, Effort::Needed).map_err(|error| Failure::Key { dataset: root.name.clone(), error })?;
        drop(began);
        Ok(Dataset { key_available: Some(true), ..root })
    }

    /// Loads the keys of what else would be mounted if its key were there. What cannot be unlocked is left locked: the plan
    /// then skips it and says so.
    pub(super) fn unlock_others(&mut self, root: &Dataset, all: Vec<Dataset>, fstab: &[FstabEntry]) -> Vec<Dataset> {
        let wanted = self.locked_keys(root, &all, fstab);
        if wanted.is_empty() {
            return all;
        }
        let began = self.phases.start("unlock others");
        let new_root = self.new_root.clone();
        for (key, effort) in &wanted {
            if let Err(error) = self.unlock(key, Some(&new_root), *effort) {
                self.log.warn(format!("what is encrypted with the key of {key} is not mounted: {error}"));
                self.report.problems.push(error.to_string());
            }
        }
        drop(began);
        let zfs = Zfs::new(self.system);
        let now = |dataset: Dataset| {
            // Only of those: a pool can have thousands of others.
            let locked = dataset.key_available == Some(false);
            let objset = locked.then(|| zfs.objset(&dataset.name).ok()).flatten();
            objset.map_or(dataset, |objset| from_zfs::dataset(&objset, self.relatime_default()))
        };
        all.into_iter().map(now).collect()
    }

    /// Encryption roots without a key of what the plan would mount with it, in the order of the mounts, and whether to ask:
    /// not for what fstab calls `nofail`.
    fn locked_keys(&self, root: &Dataset, all: &[Dataset], fstab: &[FstabEntry]) -> Vec<(String, Effort)> {
        let unlocked =
            |dataset: &Dataset| Dataset { key_available: dataset.key_available.map(|_| true), ..dataset.clone() };
        let locked = all.iter().filter(|d| d.key_available == Some(false));
        let locked = order::set(locked.map(|d| d.name.as_str()));
        if locked.is_empty() {
            return Vec::new();
        }
        let open: Vec<Dataset> = all.iter().map(unlocked).collect();
        let steps = mounts::plan(root, &open, fstab, &self.request).steps;
        let mut keys: Vec<(String, Effort)> = Vec::new();
        for step in steps.iter().filter(|step| locked.contains(step.dataset.as_str())) {
            let dataset = all.iter().find(|d| d.name == step.dataset);
            let key = dataset.and_then(|d| d.encryption_root.clone()).unwrap_or_else(|| step.dataset.clone());
            let effort = if step.nofail { Effort::Silent } else { Effort::Optional };
            match keys.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) if effort == Effort::Optional => *known = effort,
                Some(_) => {}
                None => keys.push((key, effort)),
            }
        }
        keys
    }

    /// The device that a key file is on. What is awaited is told.
    fn find_device(system: &dyn System, log: &Log, wanted: &Wanted, wait: Duration) -> Option<KeyDevice> {
        let began = system.now();
        let mut told: Option<Duration> = None;
        let mut prober = Prober::new(Path::new("/sys"), Path::new("/dev"));
        loop {
            let mut read_at = |node: &Path, offset: u64, buf: &mut [u8]| crate::sys::device::read_at(node, offset, buf);
            if let Some(found) = prober.find(wanted, &mut read_at) {
                let node = found.node.display().to_string();
                return Some(KeyDevice { node, kind: found.kind.map(str::to_owned) });
            }
            let now = system.now();
            let left = wait.saturating_sub(now.saturating_sub(began));
            if left.is_zero() {
                return None;
            }
            if told.is_none_or(|told| now.saturating_sub(told) >= Duration::from_secs(5)) {
                told = Some(now);
                let left = if wait == Duration::MAX { String::new() } else { format!(" ({} s left)", left.as_secs()) };
                log.warn(format!("waiting for {wanted} with the key file{left}"));
            }
            system.sleep(left.min(Duration::from_millis(250)));
        }
    }

    fn unlock(&mut self, key: &str, root: Option<&Path>, effort: Effort) -> Result<(), UnlockError> {
        let hardware = &self.hardware;
        let load = |module: &str| hardware.load(module);
        let keyring = std::mem::take(&mut self.keyring);
        let (system, log) = (self.system, &*self.log);
        let find = |wanted: &Wanted, wait: Duration| Self::find_device(system, log, wanted, wait);
        let mut unlocker = Unlocker::new(self.system, &self.log, &self.request.keys)
            .with_keyring(keyring)
            .with_modules(&load)
            .with_devices(&find);
        if let Some(root) = root {
            unlocker = unlocker.with_root(root);
        }
        if self.hook {
            unlocker = unlocker.with_agents(Agents::of_system());
        }
        let result = unlocker.unlock_with(key, effort);
        let keyring: Keyring = unlocker.into_keyring();
        self.keyring = keyring;
        result
    }
}
