//! What follows when an attempt fails, or is stopped on purpose: a fallback root, a person's choice, or - where nobody
//! is to be asked - another attempt, a restart or the end.

use super::{Boot, Failure, person};
use crate::cmdline::{self, Decided, OnFailure, Request, Selector, SnapshotSettings, Stage};
use crate::plan::facts::Dataset;
use crate::plan::roots;
use crate::rescue::{Decision, Occasion, Scene};

/// A root as it was asked for.
#[derive(Debug, Clone)]
struct Asked {
    root: Decided<Selector>,
    snapshot: Option<Decided<String>>,
    snapshots: SnapshotSettings,
}

/// Where this start of the machine is.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// Stops that are still to be made, with the words that asked.
    stops: Vec<Decided<Stage>>,
    /// Where a retry begins: the root of the command line, or the one that a person chose.
    begin: Option<Asked>,
    /// The fallback root that is next.
    fallback: usize,
    /// Failures in a row since this start, where nobody is asked.
    pub(super) failed: u32,
    /// Failures of earlier starts that were taken for over, right before the hand-over.
    pub(super) forgotten: u32,
    /// Whether the menu of roots was shown.
    offered: bool,
}

impl Course {
    pub(super) fn new(request: &Request) -> Self {
        let begin = Asked {
            root: request.root.clone(),
            snapshot: request.snapshot.clone(),
            snapshots: request.snapshots.clone(),
        };
        Self { stops: request.rescue.stops.clone(), begin: Some(begin), ..Self::default() }
    }

    /// Inside another tool's initramfs: its own words stop the boot, and menus are not ours to show.
    pub(super) fn without_stops(request: &Request) -> Self {
        Self { stops: Vec::new(), offered: true, ..Self::new(request) }
    }
}

impl Boot<'_> {
    /// Prepares the next attempt after a failed one; does not come back where the machine is to be restarted or switched
    /// off.
    pub(super) fn recover(&mut self, failure: &Failure) {
        if !self.recover_alone(failure) {
            let decision = person::ask(&self.scene(), Occasion::Failed);
            self.obey(decision);
        }
    }

    /// What needs nobody: a fallback root, another attempt, a restart. False, after an explanation, if a person is to decide.
    pub(super) fn recover_alone(&mut self, failure: &Failure) -> bool {
        self.keyring.forget();
        if matches!(failure, Failure::Again) {
            return true;
        }
        self.report.problems.push(failure.to_string());
        if self.fall_back(failure) {
            return true;
        }
        self.save_report();
        person::explain(self.system, &failure.explain(), &self.report, &self.log);
        match self.request.rescue.on_failure.value {
            OnFailure::Reboot(delay) => self.headless(delay, false),
            OnFailure::PowerOff(delay) => self.headless(delay, true),
            OnFailure::Menu | OnFailure::Shell | OnFailure::Locked => return false,
        }
        true
    }

    fn scene(&self) -> Scene<'_> {
        Scene {
            system: self.system,
            phases: self.phases,
            hands: &self.hands,
            log: &self.log,
            report: &self.report,
            pools: &self.report.pools,
            policy: self.request.rescue.on_failure.value,
            password: self.image.rescue_password.as_deref(),
        }
    }

    /// Whether a person has to be let in before anything but another attempt.
    pub(super) fn locked(&self) -> bool {
        self.scene().locked()
    }

    /// Takes the next fallback root, if there is one and it can help.
    fn fall_back(&mut self, failure: &Failure) -> bool {
        if !failure.another_root_may_help() {
            return false;
        }
        while let Some(next) = self.request.fallback.get(self.course.fallback).cloned() {
            self.course.fallback += 1;
            match roots::ask_for(&mut self.request, &next.value, &next.why) {
                Ok(()) => {
                    self.log.warn(format!("{failure}; trying the fallback root {} ({})", next.value, next.why));
                    self.report.problems.push(format!("fallback root {} is tried ({})", next.value, next.why));
                    return true;
                }
                Err(e) => self.log.error(format!("{}: {e}", next.why)),
            }
        }
        false
    }

    /// Begins again with the root that was asked for.
    pub(super) fn again(&mut self) {
        if let Some(begin) = self.course.begin.clone() {
            self.request.root = begin.root;
            self.request.snapshot = begin.snapshot;
            self.request.snapshots = begin.snapshots;
        }
        self.course.fallback = 0;
    }

    /// What a person decided.
    pub(super) fn obey(&mut self, decision: Decision) {
        match decision {
            Decision::Retry | Decision::Continue => self.again(),
            Decision::Wait(time) => {
                self.request.wait = Decided::new(time, "typed at the rescue prompt");
                self.again();
            }
            Decision::Boot(name) => self.choose(&name, "chosen at the rescue prompt"),
            Decision::Cmdline(words) => self.take_words(&words),
            Decision::Reboot => self.refused(self.system.restart()),
            Decision::PowerOff => self.refused(self.system.power_off()),
        }
    }

    /// Begins again as if the kernel command line said this.
    fn take_words(&mut self, words: &str) {
        self.log.info(format!("words of the next attempt, typed at the rescue prompt: {words}"));
        let mut request = cmdline::parse(format!("{} {words}", self.image.cmdline).as_bytes());
        super::start::hostid(self.system, &mut request, &self.log);
        self.report.request = Some(request.clone());
        self.course = Course::new(&request);
        self.request = request;
    }

    fn refused(&self, ended: std::io::Result<()>) {
        if let Err(error) = ended {
            self.log.error(error.to_string());
        }
    }

    /// Makes `name` the root of the next attempt and of retries. A person watches: fallbacks are not tried by themselves.
    fn choose(&mut self, name: &str, why: &str) {
        if let Err(e) = roots::ask_for(&mut self.request, name, why) {
            self.log.error(e);
            return;
        }
        self.log.info(format!("root {name}, {why}"));
        let fallbacks = self.request.fallback.len();
        self.course.begin = Course::new(&self.request).begin;
        self.course.fallback = fallbacks;
    }

    /// Stops where the command line says so, once, and asks.
    pub(super) fn stop_at(&mut self, stage: Stage) -> Result<(), Failure> {
        let Some(at) = self.course.stops.iter().position(|s| s.value == stage) else { return Ok(()) };
        let word = self.course.stops.remove(at).why;
        if self.nobody(&word) {
            return Ok(());
        }
        let where_ = match stage {
            Stage::Start => "before anything is looked for",
            Stage::Import => "before the pool is imported",
            Stage::Mount => "before anything is mounted",
            Stage::HandOver => "before the hand-over",
        };
        self.save_report();
        self.log.warn(format!("stopped {where_} ({word})"));
        person::print(self.system, &format!("\ntaproot: stopped {where_}, as {word} asks\n\n"));
        match person::ask(&self.scene(), Occasion::Stopped) {
            Decision::Continue => Ok(()),
            decision => {
                self.obey(decision);
                Err(Failure::Again)
            }
        }
    }

    /// Lets a person choose the root, where the command line asks for that.
    pub(super) fn offer_roots(&mut self, current: &Dataset) -> Result<(), Failure> {
        let Some(menu) = self.request.rescue.menu.clone() else { return Ok(()) };
        if std::mem::replace(&mut self.course.offered, true) || self.course.begin.is_none() || self.nobody(&menu.why) {
            return Ok(());
        }
        if self.locked() {
            self.log.warn(format!("{} is ignored: the rescue is locked", menu.why));
            return Ok(());
        }
        let Some(name) = person::offer_roots(&self.scene(), &current.name, menu.value) else { return Ok(()) };
        self.choose(&name, "chosen from the menu");
        Err(Failure::Again)
    }

    /// Whether nobody is to be asked, which is noted for the word that wanted to.
    fn nobody(&self, word: &str) -> bool {
        let policy = &self.request.rescue.on_failure;
        if policy.value.headless() {
            self.log.warn(format!("{word} is ignored: nobody is to be asked ({})", policy.why));
        }
        policy.value.headless()
    }
}
