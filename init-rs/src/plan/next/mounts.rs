//! The root and everything that belongs to it, mounted.

use super::keys::holds;
use super::step::Mount;
use super::{Code, Failure, LayerStep, Moment, Named, Next, Root, Settled, Step, Wait, end_of};
use crate::devices::filesystems::{goes_without_replay, in_memory, never_written, without_replay};
use crate::devices::known::{Device, Reading};
use crate::devices::probe::Wanted;
use crate::plan::facts::Dataset;
use crate::plan::mounts::{self, Foreign, Made, MountStep};
use crate::plan::names;
use std::collections::BTreeSet;
use std::time::Duration;

impl Moment<'_> {
    pub(super) fn mount_root(self, root: &Root) -> Settled<()> {
        if self.facts.attempt.mounted {
            return Ok(());
        }
        if let Root::Layers(layers) = root {
            return Err(Next::Do(Step::Layer(LayerStep::Overlay(layers.clone()))));
        }
        let step = mounts::root_step(root, self.request);
        let mount = match root {
            Root::Dataset(dataset) => Mount { step, source: dataset.name.clone(), fstype: "zfs".to_owned() },
            Root::Device(device) => Mount::of_device(device, step),
            Root::Layers(layers) => Mount { step, source: layers.name.clone(), fstype: "overlay".to_owned() },
        };
        Err(Next::Do(Step::MountRoot(Box::new(mount))))
    }

    /// What the root's pool and its own fstab add, in rounds: what holds `/etc` comes first, because fstab, the list of datasets
    /// and keys lie there; then what needs no key; then keys, as soon as what holds their files is mounted, and what they open.
    pub(super) fn mount_others(self, root: &Root) -> Settled<()> {
        let attempt = &self.facts.attempt;
        let fstab = attempt.fstab.as_ref().map(|fstab| fstab.below);
        let named = self.named_root(root);
        // No dataset holds the /etc of a root on a device.
        if named.is_none() && fstab.is_none() {
            return Err(Next::Do(Step::ReadFstab { below: 0 }));
        }
        self.other_pools(root, attempt.fstab.as_ref().map_or(&[], |fstab| fstab.entries.as_slice()))?;
        if let Some(named) = named
            && attempt.datasets.as_ref().is_none_or(|datasets| datasets.fstab != fstab)
        {
            return Err(Next::Do(Step::AskDatasets { root: Box::new(named.clone()), all: fstab.is_some() }));
        }
        let Some(plan) = &attempt.plan else {
            return Err(Next::Do(Step::PlanMounts { root: Box::new(root.clone()), all: fstab.is_some() }));
        };
        let pending = plan.steps.iter().filter(|step| !attempt.made.contains_key(&step.place));
        let pending: Vec<&MountStep> = pending.collect();
        self.due(&holders(&pending, &plan.etc), &pending)?;
        let holds_etc = |made: &&Made| made.mounted && names::is_within(&plan.etc, &made.at);
        let below = attempt.made.values().filter(holds_etc).count();
        if fstab != Some(below) {
            return Err(Next::Do(Step::ReadFstab { below }));
        }
        if let (Some(how), false) = (&plan.remount_root, attempt.remounted) {
            return Err(Next::Do(Step::Remount { root: Box::new(root.clone()), how: how.clone() }));
        }
        self.due(&pending, &pending)?;
        if attempt.told { Ok(()) } else { Err(Next::Do(Step::TellLeftOut)) }
    }

    /// What comes next of these steps, in their order: what needs no key before what does. `pending`: all that are left.
    fn due(self, steps: &[&MountStep], pending: &[&MountStep]) -> Settled<()> {
        let locked = pending.iter().filter(|step| step.key.is_some()).map(|step| step.place.as_str());
        let locked: BTreeSet<&str> = locked.collect();
        // What lies below one that is locked would be covered by it.
        let waits = |step: &MountStep| names::lineage(&step.place).any(|above| locked.contains(above));
        if let Some(step) = steps.iter().find(|step| !waits(step)) {
            return Err(self.mount(step).unwrap_or_else(|first| first));
        }
        let locked: Vec<&MountStep> = steps.iter().filter(|step| step.key.is_some()).copied().collect();
        self.load_keys(&locked, pending)
    }

    /// The root to plan the mounts for: the dataset, where a snapshot of it is mounted.
    fn named_root<'d>(&'d self, root: &'d Root) -> Option<&'d Dataset> {
        let viewed = self.facts.attempt.stand_ins.as_ref().and_then(|s| s.viewed.as_ref());
        let of_layers = match root {
            Root::Layers(layers) => layers.dataset.as_ref(),
            Root::Dataset(_) | Root::Device(_) => None,
        };
        viewed.or(root.dataset()).or(of_layers)
    }

    /// One mount: the dataset, or the device of another file system once it is there, checked and with its driver loaded.
    fn mount(self, step: &MountStep) -> Settled<Next> {
        let source = step.dataset.clone();
        let Some(foreign) = &step.foreign else {
            return Ok(self.mount_of(step, source, "zfs".to_owned()));
        };
        if !foreign.device {
            self.filesystem(&foreign.fstype, self.facts.attempt.last_step)?;
            return Ok(self.mount_of(step, source, foreign.fstype.clone()));
        }
        let device = self.foreign_device(step, foreign)?;
        if let Some(why) = self.is_no_file_system(device) {
            return Err(pass_over(step, format!("{}: {why}", device.node)));
        }
        let fstype = match (foreign.fstype.as_str(), device.superblock()) {
            ("auto", Some(superblock)) => superblock.kind.clone(),
            ("auto", None) => {
                return Err(pass_over(step, format!("{} holds no known file system", device.node)));
            }
            (fstype, _) => fstype.to_owned(),
        };
        self.filesystem(&fstype, self.facts.attempt.last_step)?;
        if let Err(why) = self.check(&device.node, &fstype)? {
            return Err(pass_over(step, why));
        }
        Ok(self.mount_of(step, device.node.clone(), fstype))
    }

    /// The device of an fstab line, waited for as long as the line allows.
    fn foreign_device(&self, step: &MountStep, foreign: &Foreign) -> Settled<&Device> {
        let spec = &step.dataset;
        let Some(wanted) = Wanted::parse(spec) else {
            return Err(pass_over(step, format!("{spec} names no device")));
        };
        let until = end_of(self.facts.attempt.last_step, foreign.wait);
        let over = self.is_over(until);
        let device = match self.named(&wanted, over) {
            Named::There(device) => device,
            Named::Several(ambiguous) => {
                return Err(pass_over(
                    step,
                    format!("{ambiguous}; PARTUUID= or a path below /dev/disk/by-id names one"),
                ));
            }
            Named::Awaited { .. } if over => return Err(pass_over(step, no_device(spec, foreign.wait))),
            Named::Awaited { again } => return Err(Next::Wait(Wait { what: spec.clone(), until, again })),
        };
        // Where the line says the type, nobody need have read it.
        let typed = foreign.fstype != "auto";
        match &device.content {
            Reading::Done(_) => Ok(device),
            Reading::Failed(_) if typed => Ok(device),
            Reading::Failed(why) => Err(pass_over(step, format!("{} cannot be read: {why}", device.node))),
            Reading::Waiting | Reading::Never if !over => Err(Next::Wait(Wait::until(spec.clone(), until))),
            Reading::Never if typed => Ok(device),
            // A mount of one that is silent would never come back.
            Reading::Waiting => Err(pass_over(step, format!("{} does not answer", device.node))),
            Reading::Never => Err(pass_over(step, format!("{} holds nothing that can be read", device.node))),
        }
    }

    /// A mount as it is made. Where pools are imported read-only, nothing else is written either, journals included; so it is with a device
    /// that cannot be written to.
    fn mount_of(self, step: &MountStep, source: String, fstype: String) -> Next {
        let mut step = step.clone();
        let nothing_written = self.is_kept(&source) && !in_memory(&fstype);
        if never_written(&fstype) || nothing_written {
            step.options.flags |= libc::MS_RDONLY;
        }
        let option = without_replay(&fstype);
        if nothing_written && !option.is_empty() {
            let options = step.options.data.split(',').filter(|word| !word.is_empty());
            let options = options.filter(|word| goes_without_replay(&fstype, word)).chain([option]);
            step.options.data = options.collect::<Vec<_>>().join(",");
        }
        self.part_of_root(Mount { step, source, fstype })
    }
}

/// The steps that hold a file, with those that hold the key files of these.
fn holders<'p>(pending: &[&'p MountStep], file: &str) -> Vec<&'p MountStep> {
    let mut places = BTreeSet::new();
    let mut files = vec![file];
    while let Some(file) = files.pop() {
        for step in pending.iter().filter(|step| holds(step, file)) {
            if places.insert(step.place.as_str()) {
                files.extend(step.key.as_ref().and_then(|key| key.file.as_deref()));
            }
        }
    }
    pending.iter().filter(|step| places.contains(step.place.as_str())).copied().collect()
}

fn no_device(spec: &str, wait: Duration) -> String {
    match wait.as_secs() {
        0 => format!("no device {spec} was found"),
        seconds => format!("no device {spec} was found within {seconds} s"),
    }
}

fn pass_over(step: &MountStep, why: String) -> Next {
    Next::Do(Step::PassOver { step: Box::new(step.clone()), why })
}

/// The root could not be mounted.
pub fn not_mounted(name: &str, fstype: &str, errno: Option<i32>, error: &str) -> Failure {
    let found = match errno {
        Some(libc::EACCES) if fstype == "zfs" => vec!["it is encrypted and its key is not loaded".to_owned()],
        Some(libc::ENODEV) => {
            vec!["the kernel does not know the file system: its module is not in the image".to_owned()]
        }
        _ => vec![],
    };
    Failure::new(
        Code::Mount,
        format!("root {name} could not be mounted: {error}"),
        "a mountable file system",
        found,
        &["look at the log (log)", "choose another root"],
    )
}
