//! The root and everything that belongs to it, mounted.

use super::step::Mount;
use super::{Code, Failure, Moment, Next, Root, Settled, Step, Wait};
use crate::cmdline::{Fsck, Repair};
use crate::devices::filesystems::never_written;
use crate::devices::known::{Device, Reading};
use crate::devices::probe::Wanted;
use crate::plan::facts::Dataset;
use crate::plan::mounts::{self, Foreign, MountStep};

impl Moment<'_> {
    pub(super) fn mount_root(self, root: &Root) -> Settled<()> {
        if self.facts.attempt.mounted {
            return Ok(());
        }
        let step = mounts::root_step(root, self.request);
        let mount = match root {
            Root::Dataset(dataset) => Mount { step, source: dataset.name.clone(), fstype: "zfs".to_owned() },
            Root::Device(device) => Mount::of_device(device, step),
        };
        Err(Next::Do(Step::MountRoot(Box::new(mount))))
    }

    /// What the root's pool and its own fstab add.
    pub(super) fn mount_others(self, root: &Root) -> Settled<()> {
        let attempt = &self.facts.attempt;
        let Some(fstab) = &attempt.fstab else { return Err(Next::Do(Step::ReadFstab)) };
        if let Some(named) = self.named_root(root) {
            let Some(datasets) = &attempt.datasets else {
                return Err(Next::Do(Step::AskDatasets { root: Box::new(named.clone()) }));
            };
            if attempt.plan.is_none() {
                let keys = self.locked_keys(named, datasets, fstab);
                if !keys.is_empty() {
                    // Where nobody is to be asked for any of them, nothing is waited for either.
                    if keys.iter().any(|(_, ask)| *ask) {
                        self.key_devices()?;
                    }
                    return Err(Next::Do(Step::LoadKeys { keys }));
                }
            }
        }
        let Some(plan) = &attempt.plan else { return Err(Next::Do(Step::PlanMounts { root: Box::new(root.clone()) })) };
        if let (Some(how), false) = (&plan.remount_root, attempt.remounted) {
            return Err(Next::Do(Step::Remount { root: Box::new(root.clone()), how: how.clone() }));
        }
        match plan.steps.get(attempt.done) {
            None => Ok(()),
            Some(step) => Err(self.mount(step).unwrap_or_else(|first| first)),
        }
    }

    /// The root to plan the mounts for: the dataset, where a snapshot of it is mounted.
    fn named_root<'d>(&'d self, root: &'d Root) -> Option<&'d Dataset> {
        let viewed = self.facts.attempt.stand_ins.as_ref().and_then(|s| s.viewed.as_ref());
        viewed.or(root.dataset())
    }

    /// One mount: the dataset, or the device of another file system once it is there, checked and with its driver loaded.
    fn mount(self, step: &MountStep) -> Settled<Next> {
        let source = step.dataset.clone();
        let Some(foreign) = &step.foreign else {
            return Ok(mount_of(step, source, "zfs".to_owned()));
        };
        if !foreign.device {
            self.filesystem(&foreign.fstype, self.facts.attempt.last_step)?;
            return Ok(mount_of(step, source, foreign.fstype.clone()));
        }
        let device = self.foreign_device(step, foreign)?;
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
        Ok(mount_of(step, device.node.clone(), fstype))
    }

    /// The device of an fstab line, waited for as long as the line allows.
    fn foreign_device(&self, step: &MountStep, foreign: &Foreign) -> Settled<&Device> {
        let spec = &step.dataset;
        let Some(wanted) = Wanted::parse(spec) else {
            return Err(pass_over(step, format!("{spec} names no device")));
        };
        let until = self.facts.attempt.last_step.saturating_add(foreign.wait);
        match self.hardware.find(&wanted) {
            Some(device) if device.content().is_some() => Ok(device),
            // Nothing is known of what is on it, but it is not silent: a mount comes back.
            Some(device) if foreign.fstype != "auto" && device.content != Reading::Waiting && self.now >= until => {
                Ok(device)
            }
            _ if self.now < until => Err(Next::Wait(Wait::until(spec.clone(), until))),
            Some(device) => Err(pass_over(step, format!("{} does not answer", device.node))),
            None => {
                let within = match foreign.wait.as_secs() {
                    0 => String::new(),
                    seconds => format!(" within {seconds} s"),
                };
                Err(pass_over(step, format!("no device {spec} was found{within}")))
            }
        }
    }

    /// Whether the file system of a device may be mounted as far as its check is concerned. It is checked where the image has
    /// the program for it.
    pub(super) fn check(self, node: &str, fstype: &str) -> Settled<Result<(), String>> {
        let settings = &self.request.fsck;
        let (mode, program) = (settings.mode.value, self.facts.kernel.fsck.get(fstype));
        let Some(program) = program.filter(|_| mode != Fsck::Skip) else { return Ok(Ok(())) };
        if let Some(result) = self.facts.attempt.checked.get(node) {
            return Ok(result.clone());
        }
        let mut args = Vec::new();
        if mode == Fsck::Force {
            args.push("-f".to_owned());
        }
        args.push(match settings.repair.value {
            Repair::Preen => "-a".to_owned(),
            Repair::Yes => "-y".to_owned(),
            Repair::No => "-n".to_owned(),
        });
        args.push(node.to_owned());
        let (node, fstype, program) = (node.to_owned(), fstype.to_owned(), program.clone());
        Err(Next::Do(Step::Check { node, fstype, program, args }))
    }
}

fn mount_of(step: &MountStep, source: String, fstype: String) -> Next {
    let mut step = step.clone();
    if never_written(&fstype) {
        step.options.flags |= libc::MS_RDONLY;
    }
    Next::Do(Step::Mount(Box::new(Mount { step, source, fstype })))
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
