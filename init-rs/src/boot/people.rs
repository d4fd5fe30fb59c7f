//! What follows when an attempt fails, or is stopped on purpose, carried out: a fallback root, a person's choice, or - where
//! nobody is to be asked - another attempt, a restart or the end.

use super::hope::Hope;
use super::{Boot, End, person};
use crate::cmdline::{Decided, Fallback, OnFailure, RescueSettings, Stage};
use crate::devices::known::Module;
use crate::firmware::{self, Variables};
use crate::plan::failure::Failure;
use crate::plan::next::facts::Import;
use crate::plan::next::{Question, Recovery, place_of, recover};
use crate::plan::roots;
use crate::pools;
use crate::rescue::attempts::{self, Counter, Failed, Next};
use crate::rescue::stuck::Minded;
use crate::rescue::{Awaited, Decision, Explanation, Occasion, Scene};
use std::cell::RefCell;
use std::time::Duration;

/// Between two tries to restart a machine that refuses.
const STUBBORN: Duration = Duration::from_secs(5);
/// How long the driver of the firmware's variables may take.
const VARIABLES_PATIENCE: Duration = Duration::from_secs(5);

/// Failures that nobody watches.
#[derive(Debug, Default)]
pub(super) struct Headless {
    /// In a row since this start.
    pub(super) failed: u32,
    /// Of earlier starts, that were taken for over right before the hand-over.
    forgotten: u32,
}

impl Headless {
    /// How it stands with failures, as far as it is known without the firmware.
    pub(super) fn situation(&self, policy: &RescueSettings, power_off: bool) -> Failed {
        Failed {
            power_off,
            kernel_word: policy.on_failure.why.starts_with("panic="),
            limit: policy.attempts.value,
            stored: None,
            forgotten: self.forgotten,
            here: self.failed,
        }
    }
}

impl<'a> Boot<'a> {
    /// Prepares the next attempt after a failed one. Comes back with an end where the machine is one that can end.
    pub(super) fn recover(&mut self, mut failure: Failure) -> Option<End> {
        // A hand-over that failed has ended it.
        self.scout.revive();
        self.add_missing_drivers(&mut failure);
        self.keyring.forget();
        self.report.problems.push(failure.to_string());
        self.report.failure = Some((failure.code.code(), failure.to_string()));
        match recover(&self.request, &self.facts, &failure) {
            Recovery::Fallback(next) => {
                self.fall_back(&failure, &next);
                None
            }
            Recovery::Headless { delay, power_off } => {
                let explanation = self.explain(&failure);
                person::print(self.system, &explanation.text());
                self.unattended(delay, power_off)
            }
            Recovery::Ask => {
                let explanation = self.explain(&failure);
                let decision = self.talk(Occasion::Failed, Some(&explanation));
                self.obey(decision)
            }
        }
    }

    pub(super) fn explain(&mut self, failure: &Failure) -> Explanation {
        self.note_pools();
        self.save_report();
        let refusal = failure.refusal.clone();
        let explanation = Explanation {
            code: failure.code.code(),
            problem: refusal.problem,
            expected: refusal.expected,
            found: refusal.found,
            advice: refusal.advice,
            typed: self.report.typed.clone(),
        };
        person::note(self.system, &explanation, &self.report, self.log);
        explanation
    }

    /// Has a person decide, and learns what the words they used have changed.
    fn talk(&mut self, occasion: Occasion, explanation: Option<&Explanation>) -> Decision {
        let hope = explanation.and_then(|_| self.hope()).map(RefCell::new);
        let decision = self.with_scene(explanation, hope.as_ref(), |scene| person::ask(scene, occasion));
        // Where it ends nothing more is asked: a pool that has stopped to answer must not keep the machine on.
        if !matches!(decision, Decision::Reboot | Decision::PowerOff) {
            self.note_imports();
        }
        decision
    }

    /// What the rescue knows of the boot.
    fn with_scene<T>(
        &mut self,
        explanation: Option<&Explanation>,
        hope: Option<&RefCell<Hope<'a>>>,
        work: impl FnOnce(&Scene<'_>) -> T,
    ) -> T {
        let pools = self.pool_facts();
        let hands = RefCell::new(&mut self.scout);
        let minded = Minded::new(self.outside);
        let scene = Scene {
            system: &minded,
            log: self.log,
            phases: self.phases,
            hands: &hands,
            report: &self.report,
            words: self.typed.words.as_deref(),
            packed: &self.image.cmdline,
            pools: &pools,
            explanation,
            awaited: hope.map(|hope| hope as &RefCell<dyn Awaited>),
            policy: self.request.rescue.on_failure.value,
            password: self.image.rescue_password.as_deref(),
        };
        work(&scene)
    }

    /// Pools that were imported at the prompt are ours, too: they are given back if the boot takes another one.
    fn note_imports(&mut self) {
        self.facts.imported = None;
        // The module may be there without the boot having asked it anything: at an early stop.
        let there = self.facts.zfs.is_some() || self.scout.hardware.module("zfs") == Some(&Module::Ready);
        if self.facts.hook || !there {
            return;
        }
        let now = pools::imported(self.system, self.log).unwrap_or_default();
        self.facts.ours.retain(|guid, _| now.iter().any(|(_, imported)| imported == guid));
        for (pool, guid) in now {
            self.guard.own(&pool);
            if !self.facts.ours.contains_key(&guid) {
                let told = self.with_pools(|pools| pools.ask(&pool));
                let read_only = told.is_ok_and(|told| told.read_only);
                self.facts.ours.insert(guid, Import { pool, read_only, beside: true });
            }
        }
    }

    /// Whether a person has to be let in before anything but another attempt.
    pub(super) fn locked(&self) -> bool {
        self.request.rescue.on_failure.value == OnFailure::Locked || self.image.rescue_password.is_some()
    }

    /// Takes the next fallback root.
    pub(super) fn fall_back(&mut self, failure: &Failure, next: &Decided<Fallback>) {
        self.facts.fallbacks_taken += 1;
        roots::fall_back_to(&mut self.request, next.clone());
        self.log.warn(format!("{failure}; trying the fallback root {} ({})", next.value, next.why));
        self.report.problems.push(format!("fallback root {} is tried ({})", next.value, next.why));
        self.begin_anew();
    }

    /// Begins again with the root that was asked for.
    pub(super) fn again(&mut self) {
        if let Some(begin) = self.facts.begin.clone() {
            begin.put_into(&mut self.request);
        }
        self.facts.fallbacks_taken = self.typed.fallbacks_over(&self.request);
        self.begin_anew();
    }

    /// What a person decided.
    pub(super) fn obey(&mut self, decision: Decision) -> Option<End> {
        match decision {
            Decision::Retry { words } => {
                self.change_words(&words);
                self.again();
            }
            Decision::Continue => self.again(),
            Decision::Wait(time) => {
                self.wait_longer(time);
                self.again();
            }
            Decision::Boot { name, words } => {
                self.change_words(&words);
                self.choose(&name, "chosen at the rescue prompt");
            }
            Decision::Cmdline(words) => self.other_words(&words),
            Decision::Reboot => return self.restart(),
            Decision::PowerOff => return self.power_off(),
        }
        None
    }

    fn restart(&mut self) -> Option<End> {
        let result = self.system.restart();
        result.map(|()| End::Restarted).map_err(|e| self.log.error(e.to_string())).ok()
    }

    fn power_off(&mut self) -> Option<End> {
        let result = self.system.power_off();
        result.map(|()| End::PoweredOff).map_err(|e| self.log.error(e.to_string())).ok()
    }

    pub(super) fn ask(&mut self, question: &Question) -> Option<End> {
        self.waiting = None;
        match question {
            Question::Stop { stage, word } => self.stop(*stage, word),
            Question::Menu { current, timeout, word } => {
                self.menu(current, *timeout, word);
                None
            }
        }
    }

    /// Stops where the command line says so, once, and asks.
    fn stop(&mut self, stage: Stage, word: &str) -> Option<End> {
        self.facts.stopped.push(stage);
        if self.nobody(word) {
            return None;
        }
        let place = place_of(stage, &self.request.root.value);
        self.note_pools();
        self.save_report();
        self.log.warn(format!("stopped {place} ({word})"));
        person::print(self.system, &format!("\ntaproot: stopped {place}, as {word} asks\n\n"));
        match self.talk(Occasion::Stopped, None) {
            Decision::Continue => {
                self.go_on();
                // The pool may have been imported by hand meanwhile.
                if stage <= Stage::Import {
                    self.facts.attempt.found = None;
                }
                None
            }
            decision => self.obey(decision),
        }
    }

    /// Lets a person choose the root, where the command line asks for that.
    fn menu(&mut self, current: &str, timeout: Option<Duration>, word: &str) {
        self.facts.offered = true;
        if self.nobody(word) {
            return;
        }
        if self.locked() {
            return self.log.warn(format!("{word} is ignored: the rescue is locked"));
        }
        let chosen = self.with_scene(None, None, |scene| person::offer_roots(scene, current, timeout));
        match chosen {
            Some(name) => self.choose(&name, "chosen from the menu"),
            None => self.go_on(),
        }
    }

    /// The attempt goes on after a question. What people take is not taken from the time to wait for devices.
    fn go_on(&mut self) {
        self.facts.attempt.began = self.system.now();
        self.facts.attempt.last_step = self.system.now();
        self.scout.revive();
    }

    /// Whether nobody is to be asked, which is noted for the word that wanted to.
    fn nobody(&self, word: &str) -> bool {
        let policy = &self.request.rescue.on_failure;
        if policy.value.headless() {
            self.log.warn(format!("{word} is ignored: nobody is to be asked ({})", policy.why));
        }
        policy.value.headless()
    }

    /// After a failure that nobody watches; comes back for another attempt.
    pub(super) fn unattended(&mut self, delay: Duration, power_off: bool) -> Option<End> {
        self.headless.failed += 1;
        let limit = self.request.rescue.attempts.value;
        let (what, off) = match self.count_failure(power_off) {
            Next::TryAgain => {
                let (failed, delay_s) = (self.headless.failed, delay.as_secs());
                let line = format!("attempt {failed} of {limit} failed; the next one in {delay_s} s");
                self.log.warn(&line);
                person::print(self.system, &format!("taproot: {line}\n"));
                attempts::count_down(self.system, "trying again", delay, Decision::RETRY);
                self.again();
                return None;
            }
            Next::Restart(count) => {
                if let Some(count) = count {
                    let line = format!("taproot: failed boot {count} of at most {limit} in a row\n");
                    person::print(self.system, &line);
                }
                ("restarting", false)
            }
            Next::PowerOff => ("switching off", true),
            Next::GiveUp => {
                let why = &self.request.rescue.attempts.why;
                let line = format!("{limit} attempts failed ({why}), so the machine is not started again");
                self.log.error(&line);
                person::print(self.system, &format!("taproot: {line}\n"));
                ("switching off", true)
            }
        };
        let decision = if off { Decision::PowerOff } else { Decision::Reboot };
        let decision = attempts::count_down(self.system, what, delay, decision);
        loop {
            let end = if decision == Decision::PowerOff { self.power_off() } else { self.restart() };
            if end.is_some() {
                return end;
            }
            self.system.sleep(STUBBORN);
        }
    }

    /// What follows; the count is brought up to date.
    fn count_failure(&mut self, power_off: bool) -> Next {
        self.await_variables();
        let counter = self.counter();
        let stored = counter.as_ref().map(Counter::read);
        let failed = Failed { stored, ..self.headless.situation(&self.request.rescue, power_off) };
        let next = attempts::next(&failed);
        let Some(counter) = counter else { return next };
        let result = match next {
            Next::Restart(Some(count)) => counter.write(count),
            Next::GiveUp => counter.remove().map(drop),
            _ => Ok(()),
        };
        match result {
            Ok(()) => next,
            Err(e) => {
                self.log.error(format!("the failed boot could not be counted in the firmware: {e}"));
                attempts::next(&Failed { stored: None, ..failed })
            }
        }
    }

    /// Whether failures are counted over restarts at all.
    fn counts(&self) -> bool {
        let policy = &self.request.rescue;
        matches!(policy.on_failure.value, OnFailure::Reboot(_)) && policy.attempts.value != 0 && self.facts.kernel.efi
    }

    fn counter(&self) -> Option<Counter<'_>> {
        if !self.counts() {
            return None;
        }
        let variables = Variables::open(self.system);
        if let Err(e) = &variables {
            self.log.warn(format!(
                "the firmware's variables are not usable ({e}); failed boots are counted in memory only"
            ));
        }
        variables.ok().map(Counter::new)
    }

    /// Starts to load what the variables need, so that nobody has to wait for it later.
    pub(super) fn prepare_variables(&mut self) {
        if self.counts() {
            self.scout.load(firmware::EFIVARFS);
        }
    }

    /// A boot can fail before their driver is there; a failure that is not counted would be repeated for ever. A kernel may
    /// have it built in: reading tells.
    fn await_variables(&mut self) {
        if self.counts() {
            let _ = self.scout.wait_module(firmware::EFIVARFS, VARIABLES_PATIENCE);
        }
    }

    /// Before the hand-over: failures in a row end here.
    pub(super) fn forget_failures(&mut self) {
        let began = self.system.now();
        self.await_variables();
        let Some(counter) = self.counter() else { return };
        let count = counter.read();
        match counter.remove() {
            Ok(true) => self.log.info("the count of failed boots is removed"),
            Ok(false) => {}
            Err(e) => self.log.warn(format!("the count of failed boots could not be removed: {e}")),
        }
        drop(counter);
        // Nothing can be removed behind the hand-over; if it fails, this boot has failed like those before it.
        self.headless.forgotten = count;
        self.log.debug(format!("looked for failed boots in {:.1?}", self.system.now().saturating_sub(began)));
    }
}
