//! What a boot does next: a pure function over what is asked and what is known. [`next`], read from top to bottom, is the
//! order of a boot. The executor in `boot/` does one step, adds what it learnt to the facts and asks again; `taproot explain`
//! and the simulation ask the same function.

mod check;
pub mod facts;
mod init;
mod keys;
pub mod layers;
mod mounts;
mod others;
mod plain;
mod pool;
mod recovery;
mod resume;
mod step;

pub use layers::integrity::IntegrityFacts;
pub use layers::{
    Copying, KeptStep, LayerStep, Part, Release, entry, layer_not_mounted, nested_image, not_copied, not_kept,
    not_overlaid, part_not_mounted,
};
pub use mounts::not_mounted;
pub use pool::{no_dataset, not_mountable};
pub use recovery::{Recovery, arrived, awaited, patient, recover};
pub use step::{Mount, Next, Question, Snapshots, Step, Wait, place_of};

use super::failure::{Code, Failure};
use super::root::Root;
use crate::cmdline::{Request, Selector, Stack, Stage};
use crate::devices::known::{Ambiguous, Device, Hardware, Module};
use crate::devices::probe::Wanted;
use crate::zfs::assemble::Candidate;
use facts::Facts;
use std::time::Duration;

/// How long the zfs module's own start may take; emulated machines need half a minute.
const ZFS_LIMIT: Duration = Duration::from_secs(300);
/// A disk that has only just come is about to be read. No pool is opened meanwhile: the kernel would open the disk too, should it
/// be a spare or cache of the pool, and never come back if it does not answer. Nor is a device taken by a label that this disk
/// may carry as well.
pub const FRESH: Duration = Duration::from_millis(300);
/// The module of the firmware's variables.
const EFIVARFS: &str = crate::firmware::EFIVARFS;
/// How long another module may take to start.
const MODULE_LIMIT: Duration = Duration::from_secs(10);

/// What is asked, what is known, and the time (since the kernel started).
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// What the command line, or a person since, asks for.
    pub request: &'a Request,
    /// Devices and modules.
    pub hardware: &'a Hardware,
    /// Everything else.
    pub facts: &'a Facts,
    /// Now.
    pub now: Duration,
}

/// Says what is to be done next. What it says of a moment depends on nothing but that moment.
pub fn next(moment: Moment<'_>) -> Next {
    match moment.boot() {
        Ok(done) => done,
        Err(Next::Fail(failure)) => moment.leaves_trial(&failure).map_or(Next::Fail(failure), Next::Do),
        Err(first) => first,
    }
}

/// A part of the boot that is behind us brings its result; else what has to be done first.
type Settled<T> = Result<T, Next>;

impl Moment<'_> {
    /// The order of a boot.
    fn boot(self) -> Settled<Next> {
        self.failed()?;
        self.stop(Stage::Start)?;
        self.resume()?;
        let root = match (&self.facts.attempt.root, &self.request.layers) {
            (Some(root @ Root::Layers(_)), _) => root.clone(),
            (_, Some(layers)) => self.layers(layers)?,
            (_, None) => self.base_root()?,
        };
        self.mount_root(&root)?;
        self.keep(&root)?;
        self.mount_others(&root)?;
        self.give_back(&root)?;
        if self.facts.hook {
            self.ready()?;
            return Ok(Next::Mounted);
        }
        let init = self.init(&root)?;
        self.stop(Stage::HandOver)?;
        self.ready()?;
        Ok(Next::HandOver { init })
    }

    /// What `root=` names: the root, or what its layers lie on.
    fn base_root(self) -> Settled<Root> {
        match &self.request.root.value {
            Selector::Device(device) => self.device_root(device),
            _ => self.pool_root(),
        }
    }

    /// A root in a pool: the pool is found and imported, the root unlocked, and what is asked to be done with snapshots done.
    fn pool_root(self) -> Settled<Root> {
        let found = self.pool()?;
        self.stop(Stage::Import)?;
        self.leave_others(found)?;
        self.discard_image()?;
        self.import(found)?;
        let root = self.dataset(found)?;
        self.menu(root.name())?;
        self.stop(Stage::Mount)?;
        self.unlock(&root)?;
        self.snapshots(&root)
    }

    /// A failure ends the attempt.
    fn failed(self) -> Settled<()> {
        match &self.facts.attempt.failure {
            None => Ok(()),
            Some(failure) => fail(failure.clone()),
        }
    }

    /// Stops where the command line says so, each once.
    fn stop(self, stage: Stage) -> Settled<()> {
        let asked = self.request.rescue.stops.iter().find(|stop| stop.value == stage);
        match asked {
            Some(asked) if !self.facts.hook && !self.facts.stopped.contains(&stage) => {
                Err(Next::Ask(Question::Stop { stage, word: asked.why.clone() }))
            }
            _ => Ok(()),
        }
    }

    /// Lets a person choose the root, where the command line asks for that.
    fn menu(self, current: &str) -> Settled<()> {
        let stack = Stack::of(self.request).map(|stack| stack.to_string());
        match &self.request.rescue.menu {
            Some(menu) if !self.facts.hook && !self.facts.offered => Err(Next::Ask(Question::Menu {
                current: stack.unwrap_or_else(|| current.to_owned()),
                timeout: menu.value,
                word: menu.why.clone(),
            })),
            _ => Ok(()),
        }
    }

    /// What is only done once nothing can go wrong any more: failed boots are forgotten, the record is written.
    fn ready(self) -> Settled<()> {
        if self.facts.attempt.ready { Ok(()) } else { Err(Next::Do(Step::GetReady)) }
    }

    /// A module that is needed: there, or not there for a reason.
    fn module(self, name: &str, since: Duration, limit: Duration) -> Settled<Result<(), String>> {
        // Whoever loads it may have been gone meanwhile.
        let since = since.max(self.hardware.since);
        match self.hardware.module(name) {
            None => Err(Next::Do(Step::LoadModule(name.to_owned()))),
            Some(Module::Ready) => Ok(Ok(())),
            Some(Module::Failed(why)) => Ok(Err(why.clone())),
            Some(Module::NotPacked) => Ok(Err(format!("module {name} is not in the image"))),
            Some(Module::Starting) if self.now >= since.saturating_add(limit) => {
                let seconds = limit.as_secs();
                Ok(Err(format!("it is still starting after {seconds} s; the kernel's log (log) may say why")))
            }
            Some(Module::Starting) => {
                Err(Next::Wait(Wait::until(format!("the {name} module to start"), since.saturating_add(limit))))
            }
        }
    }

    /// Makes sure that the kernel knows a file system. One that may be built in is no failure: the mount tells.
    fn filesystem(self, fstype: &str, since: Duration) -> Settled<()> {
        if self.facts.kernel.filesystems.contains(fstype) {
            return Ok(());
        }
        for module in crate::devices::filesystems::modules(fstype) {
            let _ = self.module(module, since, MODULE_LIMIT)?;
        }
        Ok(())
    }
}

/// A device as somebody named it.
enum Named<'a> {
    /// This one.
    There(&'a Device),
    /// There is none, or another one may be meant, too; `again`: when that is known.
    Awaited { again: Option<Duration> },
    /// There are several.
    Several(Ambiguous),
}

impl<'a> Moment<'a> {
    /// A device by its name. Which one is taken does not depend on which disk answers first: `over` says that there is no more time
    /// to wait for those that are about to be read.
    fn named(self, wanted: &Wanted, over: bool) -> Named<'a> {
        let fresh = self.hardware.may_be(wanted).map(|device| device.since.saturating_add(FRESH));
        let again = fresh.filter(|end| *end > self.now && !over).max();
        match self.hardware.find(wanted) {
            Err(ambiguous) => Named::Several(ambiguous),
            Ok(Some(device)) if again.is_none() => Named::There(device),
            Ok(_) => Named::Awaited { again },
        }
    }

    /// Whether a time is over; `None` never is.
    fn is_over(self, until: Option<Duration>) -> bool {
        until.is_some_and(|until| self.now >= until)
    }
}

/// The end of a wait that began then; `None`: it has none.
fn end_of(began: Duration, wait: Duration) -> Option<Duration> {
    began.checked_add(wait).filter(|_| wait != Duration::MAX)
}

/// The attempt is over.
fn fail<T>(failure: Failure) -> Settled<T> {
    Err(Next::Fail(failure))
}

#[cfg(test)]
mod tests;
