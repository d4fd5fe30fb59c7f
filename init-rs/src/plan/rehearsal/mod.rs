//! A boot without a machine: [`next`] is asked as the boot asks it, and a pretended executor answers each step from what is
//! known, and writes down what would be done, and why. `taproot explain` shows the result.

mod act;
mod devices;
mod layers;
mod snapshots;
mod words;

use super::facts::{Dataset, PoolFact};
use super::failure::Failure;
use super::fstab::FstabEntry;
use super::mounts::{MountStep, Skipped};
use super::next::facts::{Asked, Facts, Kernel};
use super::next::{Moment, Next, Question, Recovery, Wait, next, place_of, recover};
use super::roots;
use super::select::Choice;
use crate::cmdline::{Decided, Fallback, Request};
use crate::devices::known::Hardware;
use crate::image::ExpectedPool;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[cfg(test)]
pub(super) use words::name;

/// More turns than any boot takes that comes to an end.
const TURNS_MAX: usize = 200_000;

/// What is known of a machine, of its pools and its roots.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The kernel; an empty release is not known.
    pub kernel: Kernel,
    /// Version of the zfs module, empty if it is not known.
    pub zfs: String,
    /// Pools that the image was packed for.
    pub expected: Vec<ExpectedPool>,
    /// Pools, as they are without being imported.
    pub pools: Vec<PoolFact>,
    /// Datasets of these pools. Whether a key is loaded says whether it can be had.
    pub datasets: Vec<Dataset>,
    /// Whether those are all datasets of their pools.
    pub complete: bool,
    /// What is known of roots that were looked into, by name.
    pub roots: BTreeMap<String, KnownRoot>,
    /// Names of devices that cannot be written to, where no others are known.
    pub write_protected: BTreeSet<String>,
    /// Block devices; `None`: none is known, and each that is named is taken to be there.
    pub hardware: Option<Hardware>,
    /// Whether the boot is that of a hook in another tool's initramfs.
    pub hook: bool,
}

/// A root that was looked into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownRoot {
    /// Its fstab.
    pub fstab: Option<Vec<FstabEntry>>,
    /// Where paths in it lead that are links.
    pub places: BTreeMap<String, String>,
    /// The program in it that is handed over to where no word names one.
    pub init: Option<String>,
    /// Type of its file system.
    pub fstype: Option<String>,
}

/// How far a boot goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// To the hand-over.
    HandOver,
    /// To the last mount: another tool goes on.
    Mounted,
    /// To a failure that nothing follows but a person, a restart or the end.
    Failed,
    /// What happens next depends on what is not known.
    #[default]
    NotKnown,
}

/// Something that would be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What kind of thing, in kebab-case.
    pub name: &'static str,
    /// In words.
    pub text: String,
    /// When, by a clock that moves only while something is waited for.
    pub at: Duration,
}

/// What a boot would do. Where a fallback root is taken, choice, root and mounts are those of the last attempt.
#[derive(Debug, Clone, Default)]
pub struct Rehearsal {
    /// The pool.
    pub choice: Option<Choice>,
    /// Name of the root.
    pub root: Option<String>,
    /// Mounts, in order.
    pub mounts: Vec<MountStep>,
    /// What is not mounted.
    pub skipped: Vec<Skipped>,
    /// The program that is handed over to.
    pub init: Option<String>,
    /// Everything that is done, in order.
    pub steps: Vec<Line>,
    /// Warnings, and what is not known.
    pub remarks: Vec<String>,
    /// What the boot fails with.
    pub failure: Option<Failure>,
    /// How far it goes.
    pub end: End,
    /// Datasets that were looked for as roots.
    pub wanted: Vec<String>,
    /// Whether the root depends on snapshots, of which nothing is known: then the mounts are those of the dataset.
    pub snapshots: bool,
}

/// Goes through a boot.
pub fn rehearse(request: &Request, known: &Known) -> Rehearsal {
    let mut play = Play::new(request, known);
    for _ in 0..TURNS_MAX {
        if !play.turn() {
            return play.told;
        }
    }
    play.told.remarks.push("the boot goes in circles, which is a bug".to_owned());
    play.told
}

/// A boot being rehearsed.
pub(super) struct Play<'k> {
    known: &'k Known,
    pub(super) request: Request,
    pub(super) hardware: Hardware,
    pub(super) facts: Facts,
    pub(super) now: Duration,
    pub(super) told: Rehearsal,
    /// Encryption roots whose keys are loaded.
    keys: BTreeSet<String>,
    /// What is waited for, as it was noted.
    waiting: Option<String>,
}

impl<'k> Play<'k> {
    pub(super) fn new(request: &Request, known: &'k Known) -> Self {
        let mut kernel = known.kernel.clone();
        if known.hardware.is_none() {
            kernel.filesystems.insert(devices::UNKNOWN_TYPE.to_owned());
        }
        let facts = Facts {
            kernel,
            expected: known.expected.clone(),
            hook: known.hook,
            begin: Some(Asked::of(request)),
            ..Facts::default()
        };
        let nothing = Hardware { settled: true, ..Hardware::default() };
        Self {
            known,
            request: request.clone(),
            hardware: known.hardware.clone().unwrap_or(nothing),
            facts,
            now: Duration::ZERO,
            told: Rehearsal::default(),
            keys: BTreeSet::new(),
            waiting: None,
        }
    }

    pub(super) fn moment(&self) -> Moment<'_> {
        Moment { request: &self.request, hardware: &self.hardware, facts: &self.facts, now: self.now }
    }

    /// Asks what is next and pretends to do it; false at the end.
    pub(super) fn turn(&mut self) -> bool {
        match next(self.moment()) {
            Next::Do(step) => {
                self.waiting = None;
                self.note(words::name(&step), words::text(&step, &self.request));
                let goes_on = match self.act(step) {
                    Ok(goes_on) => goes_on,
                    Err(failure) => {
                        self.facts.attempt.failure = Some(failure);
                        true
                    }
                };
                self.facts.attempt.last_step = self.now;
                goes_on
            }
            Next::Wait(wait) => self.wait(&wait),
            Next::Ask(question) => {
                self.ask(&question);
                true
            }
            Next::Fail(failure) => self.recover(failure),
            Next::Mounted => {
                self.note("mounted", "go back to the initramfs that asked".to_owned());
                self.end(End::Mounted)
            }
            Next::HandOver { init } => {
                self.note("hand-over", format!("hand over to {init}"));
                self.end(End::HandOver)
            }
        }
    }

    /// Pools, as if they were imported.
    #[cfg(test)]
    pub(super) fn known_pools(&self) -> Vec<PoolFact> {
        self.known.pools.clone()
    }

    fn end(&mut self, end: End) -> bool {
        self.told.end = end;
        false
    }

    pub(super) fn note(&mut self, name: &'static str, text: String) {
        self.told.steps.push(Line { name, text, at: self.now });
    }

    fn remark(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.told.remarks.contains(&text) {
            self.told.remarks.push(text);
        }
    }

    /// Nothing else will come: the clock goes on to when something changes all the same.
    fn wait(&mut self, wait: &Wait) -> bool {
        if self.pretend_awaited(wait) {
            return true;
        }
        self.note_wait(wait);
        let Some(end) = self.end_of(wait) else {
            self.remark(format!("it would wait for {}, for ever", wait.what));
            return self.end(End::NotKnown);
        };
        self.now = end;
        true
    }

    /// Notes what is waited for, once for each row of waits for the same.
    pub(super) fn note_wait(&mut self, wait: &Wait) {
        if self.waiting.as_ref() != Some(&wait.what) {
            self.waiting = Some(wait.what.clone());
            let text = match wait.until {
                Some(until) => {
                    format!("wait up to {} s for {}", until.saturating_sub(self.now).as_secs_f32(), wait.what)
                }
                None => format!("wait for {}, without end", wait.what),
            };
            self.note("wait", text);
        }
    }

    /// When to look again if nothing comes.
    pub(super) fn end_of(&self, wait: &Wait) -> Option<Duration> {
        [wait.until, wait.again].into_iter().flatten().filter(|end| *end > self.now).min()
    }

    /// Questions are passed: what is asked for on the command line goes on.
    fn ask(&mut self, question: &Question) {
        let (name, what, word) = match question {
            Question::Stop { stage, word } => {
                self.facts.stopped.push(*stage);
                let place = place_of(*stage, &self.request.root.value);
                ("stop", format!("stop {place}, and go on when a person says so"), word)
            }
            Question::Menu { current, timeout, word } => {
                self.facts.offered = true;
                let time = timeout.map_or_else(|| "without end".to_owned(), |time| format!("for {} s", time.as_secs()));
                ("menu", format!("offer the roots {time}; {current} is the one that is taken otherwise"), word)
            }
        };
        let policy = &self.request.rescue.on_failure;
        let nobody = if policy.value.headless() {
            format!("; passed over, because nobody is to be asked ({})", policy.why)
        } else {
            String::new()
        };
        self.note(name, format!("{what} ({word}){nobody}"));
    }

    /// What follows a failure: a fallback root, or what the policy says.
    fn recover(&mut self, failure: Failure) -> bool {
        self.note("fail", failure.to_string());
        match recover(&self.request, &self.facts, &failure) {
            Recovery::Fallback(next) => {
                self.fall_back(&failure, &next);
                true
            }
            Recovery::Ask => {
                self.note("explain", "explain the failure, and ask a person what to do".to_owned());
                self.fail(failure)
            }
            Recovery::Headless { delay, power_off } => {
                let (limit, seconds) = (self.request.rescue.attempts.value, delay.as_secs());
                let what = match (power_off, limit) {
                    (true, _) => "switch off".to_owned(),
                    (false, 0) => "restart".to_owned(),
                    (false, limit) => format!("restart, or switch off after {limit} failed boots in a row,"),
                };
                let why = &self.request.rescue.on_failure.why;
                self.note("explain", format!("explain the failure, and {what} after {seconds} s ({why})"));
                self.fail(failure)
            }
        }
    }

    fn fail(&mut self, failure: Failure) -> bool {
        self.told.failure = Some(failure);
        self.end(End::Failed)
    }

    fn fall_back(&mut self, failure: &Failure, next: &Decided<Fallback>) {
        self.facts.fallbacks_taken += 1;
        roots::fall_back_to(&mut self.request, next.clone());
        self.remark(format!("{failure}; the fallback root {} is tried then ({})", next.value, next.why));
        self.note("fallback", format!("try the fallback root {} ({})", next.value, next.why));
        let told = &mut self.told;
        (told.choice, told.root, told.init) = (None, None, None);
        (told.mounts, told.skipped, told.snapshots) = (Vec::new(), Vec::new(), false);
        self.begin_anew();
    }

    fn begin_anew(&mut self) {
        self.waiting = None;
        self.facts.begin_anew(self.now);
    }
}
