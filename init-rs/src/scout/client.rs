//! PID 1's side of the scout: starts it, hears it, keeps what it tells as facts, and starts another one when it dies.

mod apply;
#[cfg(test)]
mod tests;

pub use apply::apply;

use apply::changed;

use super::message::{Command, Message, PEEK_MAX, Refused};
use super::run::NO_MODULES;
use crate::devices::known::{Ambiguous, Device, Hardware, Module, Reading};
use crate::devices::loader::LoadError;
use crate::devices::probe::Wanted;
use crate::devices::table::canonical_name;
use crate::report::log::Log;
use crate::report::modules::ModuleDone;
use crate::sys::{Heard, System};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

/// Most messages that are taken at once, so that a scout that never stops talking stops nobody.
const BURST: usize = 10_000;
/// How often in a row a scout that dies is started again.
const RESTARTS: u32 = 5;
/// One that lived as long as this begins a new row; and as long after the last one that did not, another one is tried.
const LIVED: Duration = Duration::from_secs(60);
/// Between two lines about what the scout is to answer, and until the first at least.
const WORD_EVERY: Duration = Duration::from_secs(4);
const FIRST_WORD: Duration = Duration::from_millis(500);
/// Longest sleep where there is no scout.
const NAP: Duration = Duration::from_secs(1);
/// Why a module is not there that nobody is left to load.
const NOBODY: &str = "the process that loads modules is gone";
/// Why nothing is known of a device that nobody is left to read.
const NO_READER: &str = "the process that reads devices is gone";

/// Whether there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Yes, started again so often in a row.
    Runs(u32),
    /// No: it died too often. Another one is tried from time to time.
    GivenUp,
    /// No: it was ended.
    Stopped,
}

/// The scout, as PID 1 has it.
pub struct Scout<'a> {
    system: &'a dyn System,
    log: &'a Log,
    load_modules: bool,
    /// What it has told so far.
    pub hardware: Hardware,
    /// Modules that have ended, in that order.
    done: Vec<ModuleDone>,
    /// The last question's number.
    asked: u64,
    /// Answers to questions that somebody waits for.
    answers: BTreeMap<u64, Answer>,
    /// What somebody waits for an answer to: another scout is asked it again.
    question: Option<Command>,
    /// Whether the answer about devices without a driver has come.
    undriven_told: bool,
    /// Devices that did not answer the scout before this one, and of which this one has told nothing so far.
    untold: BTreeSet<String>,
    life: Life,
    /// Why it did not get what it was last told, if it did not.
    unheard: Option<String>,
}

/// What came for a question.
#[derive(Debug)]
enum Answer {
    Peeked(Result<Vec<u8>, Refused>),
    Discarded(Result<bool, Refused>),
}

impl std::fmt::Debug for Scout<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scout").field("devices", &self.hardware.devices.len()).finish_non_exhaustive()
    }
}

/// Whether nobody was left to load this.
fn unloaded(state: &Module) -> bool {
    matches!(state, Module::Failed(why) if why == NOBODY)
}

impl<'a> Scout<'a> {
    /// Starts it. `load_modules`: whether drivers are loaded for the devices that are there, and what the image says is
    /// needed in any case; else only what [`Scout::load`] asks for. That it cannot be started is told in the log, and
    /// nothing is known then, until another one is tried.
    pub fn start(system: &'a dyn System, load_modules: bool, log: &'a Log) -> Self {
        let mut scout = Self {
            system,
            log,
            load_modules,
            hardware: Hardware { last_change: system.now(), ..Hardware::default() },
            done: Vec::new(),
            asked: 0,
            answers: BTreeMap::new(),
            question: None,
            undriven_told: false,
            untold: BTreeSet::new(),
            life: Life::Runs(0),
            unheard: None,
        };
        scout.launch();
        scout
    }

    fn launch(&mut self) {
        let words: &[&str] = if self.load_modules { &[] } else { &[NO_MODULES] };
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        self.hardware.since = self.system.now();
        if let Err(e) = self.system.start_scout(&words) {
            self.log.error(format!("the process that looks for devices could not be started: {e}"));
            return self.without(Life::GivenUp);
        }
        // What is on its way, and what somebody waits for an answer to, is asked of this one.
        let starting = |(name, state): (&String, &Module)| (*state == Module::Starting).then(|| name.clone());
        let starting = self.hardware.modules.iter().filter_map(starting).map(Command::Load);
        let wanted: Vec<Command> = starting.chain(self.question.clone()).collect();
        for command in wanted {
            self.tell(&command);
        }
    }

    /// Nothing more will come: whoever waits until things have settled, or for a module, need not.
    fn without(&mut self, life: Life) {
        self.life = life;
        self.unheard = None;
        self.hardware.unwatched = true;
        self.hardware.settled = true;
        self.hardware.inserting = false;
        for state in self.hardware.modules.values_mut().filter(|state| **state == Module::Starting) {
            *state = Module::Failed(NOBODY.to_owned());
        }
    }

    /// Waits at most `patience` for something to be told, and takes all that is there; whether anything is known now that
    /// was not before, or no longer.
    pub fn hear(&mut self, patience: Duration) -> bool {
        let mut news = false;
        let mut patience = patience;
        for _ in 0..BURST {
            if !self.is_there() {
                let longest = if self.tried_again() { Duration::ZERO } else { NAP };
                self.system.sleep(patience.min(longest));
                return news;
            }
            // What it said before it could not be told anything counts, and if it has ended that says why.
            let longest = if self.unheard.is_some() { Duration::ZERO } else { patience };
            match self.system.hear_scout(longest) {
                Heard::Message(bytes) => match Message::decode(&bytes) {
                    Ok(message) => news |= self.take(message),
                    Err(e) => {
                        self.system.end_scout();
                        news |= self.lost(&format!("it sent {e}"));
                    }
                },
                Heard::Nothing => match self.unheard.take() {
                    None => return news,
                    Some(why) => {
                        self.system.end_scout();
                        news |= self.lost(&format!("it could not be told what is wanted: {why}"));
                    }
                },
                Heard::Ended(why) => news |= self.lost(&why),
            }
            patience = Duration::ZERO;
        }
        news
    }

    fn is_there(&self) -> bool {
        matches!(self.life, Life::Runs(_))
    }

    /// Tries another one, if it is time: a boot that waits for ever is not to wait for what nobody looks for. Whether it was.
    fn tried_again(&mut self) -> bool {
        let due = self.life == Life::GivenUp && self.system.now().saturating_sub(self.hardware.since) >= LIVED;
        if due {
            self.log.info("the process that looks for devices is tried again");
            self.begin(RESTARTS);
        }
        due
    }

    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Log { level, text } => {
                self.log.line(level, &text);
                false
            }
            Message::Peeked { id, result } => self.answered(id, Answer::Peeked(result)),
            Message::Discarded { id, result } => self.answered(id, Answer::Discarded(result)),
            message => {
                if let Message::Module { name, state, took: Some(took) } = &message {
                    let error = match state {
                        Module::Failed(why) => Some(why.clone()),
                        _ => None,
                    };
                    self.done.push(ModuleDone { name: name.clone(), took: *took, error });
                }
                self.undriven_told |= matches!(message, Message::Undriven(_));
                if let Message::Device(device) = &message {
                    self.untold.remove(&device.name);
                }
                // Settled, it has seen all that is there.
                let all = matches!(message, Message::Settled { settled: true, .. });
                let left = if all { std::mem::take(&mut self.untold) } else { BTreeSet::new() };
                let now = self.system.now();
                let mut news = apply(&mut self.hardware, message, now);
                for name in left {
                    news |= apply(&mut self.hardware, Message::Gone(name), now);
                }
                news
            }
        }
    }

    /// Only the last question is waited for: answers to others came too late.
    fn answered(&mut self, id: u64, answer: Answer) -> bool {
        if id == self.asked {
            self.answers.insert(id, answer);
        }
        false
    }

    /// It is gone.
    fn lost(&mut self, why: &str) -> bool {
        self.unheard = None;
        self.forget();
        let lived = self.system.now().saturating_sub(self.hardware.since) >= LIVED;
        match self.life {
            Life::Runs(restarts) if lived || restarts < RESTARTS => {
                self.life = Life::Runs(if lived { 1 } else { restarts + 1 });
                self.log.error(format!("the process that looks for devices is gone ({why}); it is started again"));
                self.launch();
            }
            _ => {
                self.log.error(format!("the process that looks for devices is gone again ({why}); it is given up"));
                self.without(Life::GivenUp);
            }
        }
        true
    }

    /// What it knew of devices, another one tells anew; but which do not answer is not forgotten: no pool may be opened with them
    /// meanwhile.
    fn forget(&mut self) {
        self.hardware.devices.retain(|_, device| device.content == Reading::Waiting);
        self.untold = self.hardware.devices.keys().cloned().collect();
        self.hardware.settled = false;
        self.hardware.inserting = false;
        self.hardware.last_change = self.system.now();
        changed(&mut self.hardware, true);
    }

    fn tell(&mut self, command: &Command) {
        if !self.is_there() {
            return;
        }
        // One that does not know what is wanted is as good as gone, which is seen to when it is heard.
        if let Err(e) = self.system.tell_scout(&command.encode()) {
            self.unheard = Some(e.to_string());
        }
    }

    /// Has a module loaded, with what it needs; how far it is stands in [`Scout::hardware`].
    pub fn load(&mut self, module: &str) {
        let name = canonical_name(module);
        if !self.hardware.modules.contains_key(&name) {
            let state = if self.is_there() { Module::Starting } else { Module::Failed(NOBODY.to_owned()) };
            self.hardware.modules.insert(name.clone(), state);
            self.tell(&Command::Load(name));
        }
    }

    /// Has a module loaded and waits for it; `None` if it is still starting after `patience`.
    pub fn wait_module(&mut self, module: &str, patience: Duration) -> Option<Result<(), String>> {
        let name = canonical_name(module);
        self.load(&name);
        self.until(&format!("the {name} module to start"), patience, |scout| match scout.hardware.modules.get(&name) {
            Some(Module::Ready) => Some(Ok(())),
            Some(Module::Failed(why)) => Some(Err(why.clone())),
            Some(Module::NotPacked) => Some(Err(LoadError::NotPacked { module: name.clone() }.to_string())),
            Some(Module::Starting) | None => None,
        })
    }

    /// What became of each module, in the order in which they ended.
    pub fn modules_done(&self) -> Vec<ModuleDone> {
        self.done.clone()
    }

    /// Has a device read again; until it answers it counts as not read.
    pub fn reread(&mut self, name: &str) {
        let now = self.system.now();
        if let Some(device) = self.hardware.devices.get_mut(name).filter(|device| device.content != Reading::Never) {
            device.content = Reading::Waiting;
            device.since = now;
            self.hardware.last_change = now;
            changed(&mut self.hardware, true);
        }
        self.tell(&Command::Reread(name.to_owned()));
    }

    /// Hears until `found` gives something, at most for `patience`; says from time to time what is waited for.
    fn until<T>(&mut self, what: &str, patience: Duration, mut found: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        let deadline = self.system.now().saturating_add(patience);
        let first = self.system.now().saturating_add(FIRST_WORD);
        // What is known already counts, however short the patience.
        let mut heard = false;
        loop {
            if let Some(found) = found(self) {
                return Some(found);
            }
            let now = self.system.now();
            let left = deadline.saturating_sub(now);
            if (left.is_zero() && heard) || !self.is_there() {
                return None;
            }
            // The last line can be some seconds old already.
            let due = first.max(self.log.last().saturating_add(WORD_EVERY));
            if now >= due {
                self.log.info(format!("waiting for {what} ({} s left)", left.as_secs()));
                continue;
            }
            heard = true;
            self.hear(left.min(due.saturating_sub(now)));
        }
    }

    fn ask(&mut self, what: &str, command: impl FnOnce(u64) -> Command, patience: Duration) -> io::Result<Answer> {
        self.asked += 1;
        let id = self.asked;
        self.answers.clear();
        let answer = self.put(what, command(id), patience, |scout| scout.answers.remove(&id));
        answer.ok_or_else(|| match self.life {
            Life::Runs(_) => {
                io::Error::new(io::ErrorKind::TimedOut, format!("no answer after {} s", patience.as_secs()))
            }
            Life::GivenUp | Life::Stopped => io::Error::other(NO_READER),
        })
    }

    /// Asks something, and hears until the answer is there.
    fn put<T>(
        &mut self,
        what: &str,
        question: Command,
        patience: Duration,
        found: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<T> {
        self.tell(&question);
        self.question = Some(question);
        let answer = self.until(what, patience, found);
        self.question = None;
        answer
    }

    /// A piece of a device, at most [`PEEK_MAX`] bytes, if it answers within `patience`.
    pub fn peek(&mut self, node: &str, offset: u64, len: usize, patience: Duration) -> io::Result<Vec<u8>> {
        let len = u32::try_from(len.min(PEEK_MAX)).unwrap_or(u32::MAX);
        let command = |id| Command::Peek { id, node: node.to_owned(), offset, len };
        match self.ask(&format!("{node} to be read"), command, patience)? {
            Answer::Peeked(result) => result.map_err(io::Error::from),
            Answer::Discarded(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Makes plain swap space of the page of `page` bytes at `offset`, if it begins a hibernation image; whether it did. It
    /// is on the disk when this comes back.
    pub fn discard_image(&mut self, node: &str, offset: u64, page: usize, patience: Duration) -> io::Result<bool> {
        let page = u32::try_from(page).unwrap_or(u32::MAX);
        let command = |id| Command::DiscardImage { id, node: node.to_owned(), offset, page };
        match self.ask(&format!("the image on {node} to be discarded"), command, patience)? {
            Answer::Discarded(result) => result.map_err(io::Error::from),
            Answer::Peeked(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Modaliases of devices that have no driver, neither a packed one nor one of the kernel's own; what is known of them
    /// after `patience`.
    pub fn undriven(&mut self, patience: Duration) -> Vec<String> {
        self.undriven_told = false;
        self.put("what has no driver", Command::Undriven, patience, |scout| scout.undriven_told.then_some(()));
        self.hardware.undriven.clone()
    }

    /// The device that is meant. A path may also be a link that something else has made, such as a running udev.
    pub fn find(&self, wanted: &Wanted) -> Result<Option<&Device>, Ambiguous> {
        let found = self.hardware.find(wanted);
        let Wanted::Node(path) = wanted else { return found };
        match self.system.canonical(path) {
            Ok(node) if found == Ok(None) && node != *path => self.hardware.find(&Wanted::Node(node)),
            _ => found,
        }
    }

    /// Starts it anew if it was ended or given up: another attempt begins, and devices come and go meanwhile.
    pub fn revive(&mut self) {
        if !self.is_there() {
            // What failed may do better with other options.
            self.hardware.modules.retain(|_, state| *state == Module::Ready || unloaded(state));
            self.begin(0);
        }
    }

    /// Starts another one, as if so many had died.
    fn begin(&mut self, died: u32) {
        self.life = Life::Runs(died);
        self.forget();
        self.hardware.unwatched = false;
        for state in self.hardware.modules.values_mut().filter(|state| unloaded(state)) {
            *state = Module::Starting;
        }
        self.launch();
    }

    /// Starts another one: options of modules are read when it starts.
    pub fn renew(&mut self) {
        self.stop();
        self.revive();
    }

    /// Ends it, wherever it sits; nobody waits for that.
    pub fn stop(&mut self) {
        self.system.end_scout();
        self.without(Life::Stopped);
    }
}
