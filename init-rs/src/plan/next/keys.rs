//! Keys and snapshots: the key of the root must be had, others are asked for if the boot needs what they open.

use super::step::Snapshots;
use super::{Moment, Named, Next, Root, Settled, Step, Wait, end_of};
use crate::devices::known::Reading;
use crate::devices::probe::Wanted;
use crate::plan::mounts::{KeyNeed, MountStep};
use crate::plan::names;
use crate::sorted;

impl Moment<'_> {
    /// The key that the root needs.
    pub(super) fn unlock(self, root: &Root) -> Settled<()> {
        let Some(dataset) = root.dataset().filter(|dataset| dataset.key_available == Some(false)) else {
            return Ok(());
        };
        self.key_devices()?;
        let (name, key) = (dataset.name.clone(), dataset.key().to_owned());
        Err(Next::Do(Step::LoadKey { dataset: name, key, ask: dataset.key_is_typed() }))
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

    /// The keys of locked steps that can be looked for now: those whose files lie on nothing that is yet to be mounted. People
    /// are asked first, because what they type may open others.
    pub(super) fn load_keys(self, locked: &[&MountStep], pending: &[&MountStep]) -> Settled<()> {
        let awaited = |step: &&&MountStep| {
            let file = step.key.as_ref().and_then(|key| key.file.as_deref());
            file.is_some_and(|file| pending.iter().any(|other| other.place != step.place && holds(other, file)))
        };
        let mut ready: Vec<&MountStep> = locked.iter().filter(|step| !awaited(step)).copied().collect();
        // Each lies on what another one opens.
        if ready.is_empty() {
            ready = locked.to_vec();
        }
        let mut keys: Vec<KeyNeed> = Vec::new();
        for need in ready.into_iter().filter_map(|step| step.key.as_ref()) {
            match keys.iter_mut().find(|known| known.root == need.root) {
                Some(known) => (known.needed, known.ask) = (known.needed | need.needed, known.ask | need.ask),
                None => keys.push(need.clone()),
            }
        }
        if keys.is_empty() {
            return Ok(());
        }
        sorted::by_key(&mut keys, |key| !key.ask);
        // For what the booted system can mount as well nothing is waited for.
        if keys.iter().any(|key| key.needed) {
            self.key_devices()?;
        }
        Err(Next::Do(Step::LoadKeys { keys }))
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

/// Whether a file lies on what the step mounts.
pub(super) fn holds(step: &MountStep, file: &str) -> bool {
    names::is_within(file, &step.place) || names::is_within(file, &step.target)
}
