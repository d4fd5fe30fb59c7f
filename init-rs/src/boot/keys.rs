//! Steps with keys: that of the root must be had, the others are asked for if they would be mounted now.

use super::Boot;
use crate::devices::probe::Wanted;
use crate::plan::facts::Dataset;
use crate::plan::failure::{Code, Failure};
use crate::plan::from_zfs;
use crate::plan::refusal_of;
use crate::plan::root::Root;
use crate::rescue::hands;
use crate::unlock::{Agents, Effort, Keyring, UnlockError, Unlocker};
use crate::zfs::ioctl::Zfs;
use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

impl Boot<'_> {
    /// Loads the key that the root needs.
    pub(super) fn load_key(&mut self, dataset: &str, key: &str) -> Result<(), Failure> {
        let phase = self.phases.start("unlock");
        self.unlock(key, None, Effort::Needed).map_err(|error| no_key(dataset, &error))?;
        drop(phase);
        if let Some(Root::Dataset(root)) = &mut self.facts.attempt.root {
            root.key_available = Some(true);
        }
        Ok(())
    }

    /// Loads the keys of what else would be mounted if its key were there. What cannot be unlocked is left locked: the plan
    /// then skips it and says so.
    pub(super) fn load_keys(&mut self, keys: Vec<(String, bool)>) {
        let phase = self.phases.start("unlock others");
        let new_root = self.new_root.clone();
        for (key, ask) in keys {
            let effort = if ask { Effort::Optional } else { Effort::Silent };
            if let Err(error) = self.unlock(&key, Some(&new_root), effort) {
                self.log.warn(format!("what is encrypted with the key of {key} is not mounted: {error}"));
                self.report.problems.push(error.to_string());
            }
            self.facts.attempt.keys_tried.insert(key);
        }
        drop(phase);
        let (zfs, relatime) = (Zfs::new(self.system), self.relatime_default());
        // Only of the locked ones: a pool can have thousands of others.
        let all = self.facts.attempt.datasets.iter_mut().flatten();
        for dataset in all.filter(|dataset: &&mut Dataset| dataset.key_available == Some(false)) {
            if let Ok(objset) = zfs.objset(&dataset.name) {
                *dataset = from_zfs::dataset(&objset, relatime);
            }
        }
    }

    fn unlock(&mut self, key: &str, root: Option<&Path>, effort: Effort) -> Result<(), UnlockError> {
        let keyring = std::mem::take(&mut self.keyring);
        let scout = RefCell::new(&mut self.scout);
        let (system, log) = (self.system, self.log);
        let load = |module: &str| hands::load(&scout, &[module]);
        // What is to be waited for was waited for before this step.
        let find = |wanted: &Wanted, _: Duration| hands::find(system, log, &scout, wanted, Duration::ZERO);
        let mut unlocker = Unlocker::new(self.system, self.log, &self.request.keys)
            .with_keyring(keyring)
            .with_modules(&load)
            .with_devices(&find);
        if let Some(root) = root {
            unlocker = unlocker.with_root(root);
        }
        if self.facts.hook {
            unlocker = unlocker.with_agents(Agents::of_system());
        }
        let result = unlocker.unlock_with(key, effort);
        let keyring: Keyring = unlocker.into_keyring();
        self.keyring = keyring;
        result
    }
}

fn no_key(dataset: &str, error: &UnlockError) -> Failure {
    let problem = format!("root dataset {dataset} is encrypted: {error}");
    let advice = [
        "type retry to be asked again, or to look for the device with the key file again",
        "name a key file on the kernel command line: taproot.key=LABEL=X:/path or taproot.key=/path/in/image",
    ];
    let advice = advice.map(str::to_owned).to_vec();
    Failure::refused(Code::NoKey, refusal_of(&problem, &error.expected(), error.found(), advice))
}
