//! A pool that loses a disk which it cannot do without while the kernel works on it for us: that call never comes back. It is told of
//! every few seconds, by whoever watches the call, who asks what becomes of the machine then. Where nobody is to be asked it is ended as
//! its words say.

use super::Boot;
use super::people::Headless;
use crate::cmdline::{OnFailure, Request};
use crate::firmware::Variables;
use crate::plan::failure::Failure;
use crate::plan::next::Step;
use crate::pools::suspended;
use crate::report::slow;
use crate::rescue::attempts::{self, Counter, Failed, Next};
use crate::rescue::stuck::{self, Gone};
use crate::sys::System;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How long a pool may be suspended, or leave a question without an answer, where nobody is to be asked: a disk that comes back
/// does so before. Thousands of datasets take seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// What ends a machine.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lost {
    /// Somebody who is asked.
    Asked,
    /// Nobody watches: so many failures.
    Headless(Unwatched),
}

/// A machine that nobody watches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unwatched {
    failed: Failed,
    /// Whether failures are counted by the firmware.
    counts: bool,
}

impl Lost {
    fn of(request: &Request, headless: &Headless, efi: bool) -> Self {
        let policy = &request.rescue;
        let power_off = match policy.on_failure.value {
            OnFailure::PowerOff(_) => true,
            OnFailure::Reboot(_) => false,
            OnFailure::Menu | OnFailure::Shell | OnFailure::Locked => return Self::Asked,
        };
        let failed = Failed { here: headless.failed + 1, ..headless.situation(policy, power_off) };
        Self::Headless(Unwatched { failed, counts: !power_off && policy.attempts.value != 0 && efi })
    }

    fn patience(&self) -> Duration {
        match self {
            Self::Asked => stuck::PATIENCE,
            Self::Headless(_) => PATIENCE,
        }
    }
}

impl Unwatched {
    /// Ends the machine. What PID 1 did is left as it is: it cannot be had back. Comes back where that failed.
    fn end(&self, system: &dyn System, why: &str) {
        let counter = self.counts.then(|| Variables::open(system).ok()).flatten().map(Counter::new);
        let next = attempts::next(&Failed { stored: counter.as_ref().map(Counter::read), ..self.failed });
        let off = match (next, &counter) {
            // One that cannot be counted could be followed by any number of others.
            (Next::Restart(Some(count)), Some(counter)) => counter.write(count).is_err(),
            (Next::GiveUp, Some(counter)) => {
                let _ = counter.remove();
                true
            }
            (Next::GiveUp | Next::PowerOff, _) => true,
            // Another attempt without a restart is beyond us.
            (Next::TryAgain | Next::Restart(_), _) => false,
        };
        let what = if off { "switched off" } else { "restarted" };
        let line = format!("{why}; nobody is to be asked, so the machine is {what}");
        let _ = system.kmsg(&format!("<3>taproot: {line}\n"));
        super::person::print(system, &format!("taproot: {line}\n"));
        let _ = if off { system.power_off() } else { system.restart() };
    }
}

/// What a boot needs.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Nodes of its pools.
    pub(super) nodes: Vec<String>,
    /// Pools that wait for a disk, and that it goes on without.
    pub(super) left: BTreeSet<String>,
}

/// A watched call, and how long something that it needs has been gone.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    lost: Option<Lost>,
    /// What the kernel was asked, if it answers that in no time.
    question: Option<&'a str>,
    needs: Needs,
    clock: Gone,
    /// The call came back.
    over: &'a AtomicBool,
}

impl<'a> Watch<'a> {
    /// With what ends the machine, if anything does, what the boot needs, and whether the call came back.
    pub(super) fn new(lost: Option<Lost>, question: Option<&'a str>, needs: Needs, over: &'a AtomicBool) -> Self {
        Self { lost, question, needs, clock: Gone::default(), over }
    }

    /// Looks at the pools, `took` after the call began.
    pub(super) fn look(&mut self, system: &dyn System, took: Duration) {
        let Some(lost) = &self.lost else { return };
        let gone = self.gone(system);
        match (self.clock.past(lost.patience(), took, gone), lost) {
            (None, _) => {}
            (Some(why), Lost::Asked) => stuck::ask(system, &why, self.over),
            (Some(why), Lost::Headless(unwatched)) => unwatched.end(system, &why),
        }
    }

    /// What is gone. Not every kernel says of a pool that it waits.
    fn gone(&self, system: &dyn System) -> Option<String> {
        let pool = suspended(system).into_iter().find(|pool| !self.needs.left.contains(pool));
        let node = || self.needs.nodes.iter().find(|node| !system.exists(Path::new(node)));
        pool.map(|pool| stuck::waits(&pool))
            .or_else(|| node().map(|node| format!("{node} of the root's pool has been gone, and the kernel at work,")))
            .or_else(|| self.question.map(stuck::unanswered))
    }
}

impl Boot<'_> {
    /// Does a step, and says every few seconds that the kernel has not come back from it.
    pub(super) fn cared_for(&mut self, step: Step) -> Result<(), Failure> {
        let care = care(&step);
        let (system, log) = (self.system, self.log);
        self.guard.gives_back(if let Step::Export { guid, .. } = step { Some(guid) } else { None });
        let (mut step, mut result) = (Some(step), Ok(()));
        let mut work = || {
            if let Some(step) = step.take() {
                result = self.step(step);
            }
        };
        match care {
            Care::Question(what) => slow::asked(system, log, &what, work),
            Care::Work(what) => slow::working(system, log, &what, work),
            Care::None => work(),
        }
        result
    }

    /// What ends the machine where a pool keeps the kernel.
    pub(super) fn lost(&self) -> Option<Lost> {
        let lost = || Lost::of(&self.request, &self.headless, self.facts.kernel.efi);
        (!self.facts.hook).then(lost)
    }
}

/// How a step is done.
enum Care {
    /// It asks the kernel what is answered in no time, because the disks of it were there a moment ago.
    Question(String),
    /// It takes as long as it takes.
    Work(String),
    /// It asks a person, watches itself what takes time, or needs no disk.
    None,
}

fn care(step: &Step) -> Care {
    let question = match step {
        Step::AskZfs => "asking the zfs module".to_owned(),
        Step::AskBootfs { pool } => format!("asking pool {pool} for its bootfs"),
        Step::AskRoot { dataset } => format!("asking for {dataset}"),
        Step::AskDatasets { root, .. } => format!("asking for the datasets of {}", root.name),
        Step::PlanMounts { .. } => "looking at the places of the mounts".to_owned(),
        Step::ReadFstab { .. } => "reading the root's fstab".to_owned(),
        Step::FindInit { root } => format!("looking for the init of {root}"),
        Step::GetReady => "looking at what the booted system starts with".to_owned(),
        Step::Snapshots(_) => return Care::Work("looking after the snapshots of the root".to_owned()),
        Step::Export { pool, .. } => return Care::Work(format!("giving pool {pool} back")),
        Step::ResumeImage { device, .. } => return Care::Work(format!("resuming from {device}")),
        Step::Layer(_) => return Care::Work("at work on the layers".to_owned()),
        Step::MountRoot(mount) | Step::Mount(mount) => {
            return Care::Work(format!("looking at the place of {}, to mount it there", mount.step.dataset));
        }
        Step::Remount { .. } => return Care::Work("remounting the root".to_owned()),
        Step::Uncover { .. } => return Care::Work("taking away what hides the program to start".to_owned()),
        Step::LoadModule(_)
        | Step::ReadNote
        | Step::ReadOrigin
        | Step::LookForImage { .. }
        | Step::ResumeSettled { .. }
        | Step::DiscardImage { .. }
        | Step::AskImported
        | Step::Open { .. }
        | Step::Take(_)
        | Step::Import(_)
        | Step::ImportOther { .. }
        | Step::DoWithout { .. }
        | Step::LoadKey { .. }
        | Step::Check { .. }
        | Step::LoadKeys { .. }
        | Step::TellLeftOut
        | Step::PassOver { .. } => return Care::None,
    };
    Care::Question(question)
}
