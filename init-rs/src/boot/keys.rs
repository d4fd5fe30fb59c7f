//! Steps with keys: that of the root must be had, others as far as they can be had.

use super::Boot;
use crate::devices::probe::Wanted;
use crate::plan::facts::Dataset;
use crate::plan::failure::{Code, Failure};
use crate::plan::from_zfs;
use crate::plan::mounts::KeyNeed;
use crate::plan::refusal_of;
use crate::plan::root::Root;
use crate::report::slow;
use crate::rescue::hands;
use crate::unlock::{Agents, Effort, Keyring, UnlockError, Unlocker, Why};
use crate::zfs::ioctl::Zfs;
use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

impl Boot<'_> {
    /// Loads the key that the root needs.
    pub(super) fn load_key(&mut self, dataset: &str, key: &str, ask: bool) -> Result<(), Failure> {
        let phase = self.phases.start("unlock");
        let effort = if ask { Effort::Needed } else { Effort::Unasked };
        self.unlock(key, None, effort).map_err(|error| no_key(dataset, &error))?;
        drop(phase);
        self.facts.attempt.layers.unlocked(key);
        if let Some(Root::Dataset(root)) = &mut self.facts.attempt.root
            && root.key() == key
        {
            root.key_available = Some(true);
        }
        Ok(())
    }

    /// Loads the keys of what else would be mounted if its key were there. What cannot be unlocked is left locked: the plan
    /// then skips it and says so. That is no trouble where the boot does not need it.
    pub(super) fn load_keys(&mut self, keys: Vec<KeyNeed>) {
        let phase = self.phases.start("unlock others");
        let new_root = self.new_root.clone();
        let mut tried = Vec::new();
        for KeyNeed { root, needed, ask, .. } in keys {
            let effort = match (ask, needed) {
                (true, _) => Effort::Optional,
                (false, true) => Effort::Unasked,
                (false, false) => Effort::Silent,
            };
            match self.unlock(&root, Some(&new_root), effort) {
                Ok(()) => {}
                Err(error) if needed => {
                    self.trouble(format!("what is encrypted with the key of {root} is not mounted: {error}"));
                }
                Err(error) => self
                    .log
                    .info(format!("what is encrypted with the key of {root} is left to the booted system: {error}")),
            }
            tried.push(root);
        }
        drop(phase);
        let (zfs, relatime) = (Zfs::new(self.system), self.relatime_default());
        let mut all = self.facts.attempt.datasets.clone().unwrap_or_default().all;
        slow::asked(self.system, self.log, "asking for what the keys have opened", || {
            // Only of the locked ones: a pool can have thousands of others.
            for dataset in all.iter_mut().filter(|dataset| dataset.key_available == Some(false)) {
                if let Ok(objset) = zfs.objset(&dataset.name) {
                    let key_location = dataset.key_location.take();
                    *dataset = Dataset { key_location, ..from_zfs::dataset(&objset, relatime) };
                }
            }
        });
        self.facts.keys_tried(tried, all);
    }

    fn unlock(&mut self, key: &str, root: Option<&Path>, effort: Effort) -> Result<(), UnlockError> {
        let keyring = std::mem::take(&mut self.keyring);
        let scout = RefCell::new(&mut self.scout);
        let (system, log) = (self.system, self.log);
        let load = |module: &str| hands::load(&scout, &[module]);
        // What is to be waited for was waited for before this step. A mount of one that does not answer would never come back.
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
    let first = match error {
        // Who has it in their head can type it all the same.
        UnlockError::NoKey { encryption, why: Why::InFile, .. } => {
            format!("type key {} to type it here, then retry", encryption.root)
        }
        _ => "type retry to be asked again, or to look for the device with the key file again".to_owned(),
    };
    let second = format!(
        "read it from a file: key {dataset} LABEL=X:/path here, taproot.key=LABEL=X:/path on the kernel command line"
    );
    let advice = vec![first, second];
    Failure::refused(Code::NoKey, refusal_of(&problem, &error.expected(), error.found(), advice))
}
