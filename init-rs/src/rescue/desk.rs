//! What each word does, the same at the prompt and as a program of the packed shell.

use super::hands::{self, Hands};
use super::talk::Talk;
use super::{
    Decision, STATUS_FILE, WHY_FILE, apart, change, choose, devices, export, import, key, mount, pools, save, status,
};
use crate::cmdline::Request;
use crate::plan::facts::PoolFact;
use crate::plan::roots::RootCandidate;
use crate::report::boot::{REPORT_PATH, WORDS_PATH};
use crate::report::log::{LOG_PATH, Log};
use crate::report::phases::Phases;
use crate::report::slow;
use crate::sys::System;
use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

/// Files shown by `cat` are cut here: a prompt is no pager.
pub(super) const SHOWN: usize = 64 << 10;
/// As much of our own records is shown a page at a time.
const LOGGED: usize = 4 << 20;
/// Longest wait that can be asked for: a day.
const LONGEST_WAIT: u64 = 86_400;

/// What became of a word.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Failed,
    Decided(Decision),
}

/// Where words are answered.
pub(super) struct Desk<'a> {
    pub(super) system: &'a dyn System,
    pub(super) log: &'a Log,
    pub(super) phases: &'a Phases,
    pub(super) hands: &'a RefCell<dyn Hands + 'a>,
    pub(super) talk: Talk<'a>,
    /// What the command line asks for.
    pub(super) request: Request,
    /// The words of the attempt; `None`: they are not known.
    pub(super) words: Option<String>,
    /// The image's own, which stand before them.
    pub(super) packed: String,
    /// Pools that the boot saw.
    pub(super) pools: &'a [PoolFact],
    /// Whether there is something to go on with.
    pub(super) stopped: bool,
    /// The roots that were listed last: pools come and go, and a number means what was read beside it.
    pub(super) listed: Vec<RootCandidate>,
}

impl Desk<'_> {
    /// Answers one word.
    pub(super) fn answer(&mut self, name: &str, rest: &[&str]) -> Outcome {
        if self.system.is_init() && apart::TOUCHING.contains(&name) {
            let said = apart::do_word(self.system, name, rest);
            let (Ok(text) | Err(text)) = &said;
            self.talk.say(text);
            return if said.is_ok() { Outcome::Done } else { Outcome::Failed };
        }
        if let Some(outcome) = self.decide(name, rest) {
            return outcome;
        }
        // Names of datasets and files may have blanks in them.
        let all = rest.join(" ");
        let first = rest.first().copied();
        let answers = match name {
            "status" | "pools" | "datasets" | "import" | "export" | "key" => self.pools_answer(),
            _ => Ok(()),
        };
        let result = match name {
            "why" => self.file(WHY_FILE, true),
            "status" => {
                let _ = self.file(STATUS_FILE, false);
                answers.and_then(|()| self.say(&self.imported()))
            }
            "log" => self.file(LOG_PATH, true),
            "kernel-log" => self.paged(&save::kernel_log(self.system)),
            "report" => self.file(REPORT_PATH, true),
            "devices" => {
                hands::read_all(self.system, self.hands);
                let text = devices::text(self.hands.borrow().hardware());
                self.paged(&text)
            }
            "pools" => {
                hands::read_all(self.system, self.hands);
                let text = pools::text(self.hands.borrow().hardware(), self.system.now());
                let imported = if answers.is_ok() { self.imported() } else { String::new() };
                answers.and(self.paged(&(text + &imported)))
            }
            _ if answers.is_err() => answers,
            "datasets" => {
                let text = self.asking("asking for datasets", |system| status::datasets(system, first));
                text.map(|text| self.talk.page(&text))
            }
            "import" => import::run(self, rest),
            "export" => export::run(self, &all),
            "key" => key::run(self, rest),
            "mount" => mount::mount(self, rest),
            "umount" => mount::unmount(self, &all),
            "clear" => export::clear(self, &all),
            "save-log" => save::run(self, first),
            "ls" => self.list(if all.is_empty() { "/" } else { &all }),
            "cat" if all.is_empty() => Err("expected a file, e.g. cat /proc/mounts".to_owned()),
            "cat" => self.file(&all, false),
            _ => Err("not a word of this prompt; `help` lists them".to_owned()),
        };
        self.outcome(name, result.map(|()| Outcome::Done))
    }

    /// Asks the pools for something, and a person if that does not come back.
    pub(super) fn asking<T>(&self, what: &str, work: impl Fn(&dyn System) -> T) -> T {
        slow::asked(self.system, self.log, what, || work(self.system))
    }

    /// Makes sure that the imported pools answer.
    pub(super) fn pools_answer(&self) -> Result<(), String> {
        self.asking("asking whether the pools answer", apart::pools_answer)
    }

    /// The pools that are imported now.
    pub(super) fn imported(&self) -> String {
        self.asking("asking the pools", status::imported)
    }

    /// Words that end the prompt, if they can.
    fn decide(&mut self, name: &str, rest: &[&str]) -> Option<Outcome> {
        let all = rest.join(" ");
        let decided = match name {
            "boot" => self.pools_answer().and_then(|()| self.boot(rest)),
            "cmdline" if all.is_empty() => self.words_now().map(|()| Outcome::Done),
            "cmdline" => change::other_words(self, &all).map(|()| Outcome::Decided(Decision::Cmdline(all))),
            "retry" => change::agree(self, &all).map(|()| Outcome::Decided(Decision::Retry { words: all })),
            "fresh-upper" => self.fresh_upper(),
            "wait" => self.wait(rest.first().copied()),
            "continue" if self.stopped => Ok(Outcome::Decided(Decision::Continue)),
            "continue" => Err("the boot failed, so there is nothing to go on with; `retry` tries again".to_owned()),
            "reboot" => Ok(Outcome::Decided(Decision::Reboot)),
            "poweroff" => Ok(Outcome::Decided(Decision::PowerOff)),
            _ => return None,
        };
        Some(self.outcome(name, decided))
    }

    /// Says what went wrong with a word.
    fn outcome(&mut self, name: &str, result: Result<Outcome, String>) -> Outcome {
        result.unwrap_or_else(|e| {
            self.talk.say(&format!("{name}: {e}\n"));
            Outcome::Failed
        })
    }

    /// The kernel's words, and those that hold after others were typed.
    fn words_now(&mut self) -> Result<(), String> {
        self.file("/proc/cmdline", false)?;
        let typed = self.system.text(WORDS_PATH);
        if typed.is_empty() { Ok(()) } else { self.say(&format!("with what was typed: {typed}\n")) }
    }

    /// The word by which a hibernated system may wait on a disk.
    pub(super) fn may_resume(&self) -> Option<String> {
        let resume = &self.request.resume;
        resume.device.as_ref().filter(|_| resume.disabled.is_none()).map(|device| device.why.clone())
    }

    #[allow(clippy::unnecessary_wraps)] // one shape for all words
    fn say(&mut self, text: &str) -> Result<(), String> {
        self.talk.say(text);
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps)] // one shape for all words
    fn paged(&mut self, text: &str) -> Result<(), String> {
        self.talk.page(text);
        Ok(())
    }

    fn file(&mut self, path: &str, paged: bool) -> Result<(), String> {
        if let Some(why) = apart::unreadable(self.system, Path::new(path)) {
            return Err(why);
        }
        let limit = if paged { LOGGED } else { SHOWN };
        let mut bytes = self.system.read(Path::new(path), limit + 1).map_err(|e| format!("{path}: {e}"))?;
        let cut = bytes.len() > limit;
        bytes.truncate(limit);
        let text = String::from_utf8_lossy(&bytes);
        let newline = if text.ends_with('\n') { "" } else { "\n" };
        let note = if cut { format!("[the first {} bytes]\n", bytes.len()) } else { String::new() };
        let text = format!("{text}{newline}{note}");
        if paged {
            self.talk.page(&text);
        } else {
            self.talk.say(&text);
        }
        Ok(())
    }

    fn list(&mut self, dir: &str) -> Result<(), String> {
        if let Some(why) = apart::unreadable(self.system, Path::new(dir)) {
            return Err(why);
        }
        let names = self.system.list(Path::new(dir)).map_err(|e| format!("{dir}: {e}"))?;
        self.talk.say(&format!("{}\n", names.join("  ")));
        Ok(())
    }

    fn boot(&mut self, rest: &[&str]) -> Result<Outcome, String> {
        let (name, words) = change::split(rest);
        let chosen = if name.is_empty() {
            choose::ask(self).map(Ok)
        } else if name.bytes().all(|b| b.is_ascii_digit()) {
            // A number of the list: no dataset is called so, and whoever means a pool can name what is in it.
            if self.listed.is_empty() {
                return Err(format!("{name}: no list of roots was shown yet; `boot` alone shows it and asks"));
            }
            Some(choose::typed(&name, &self.listed))
        } else {
            Some(Ok(name))
        };
        let Some(chosen) = chosen else { return Ok(Outcome::Done) };
        let name = chosen?;
        choose::check(&name)?;
        change::agree(self, &words)?;
        change::unchecked(self)?;
        Ok(Outcome::Decided(Decision::Boot { name, words }))
    }

    /// Begins a fresh upper where there is one; the old one is set aside.
    fn fresh_upper(&mut self) -> Result<Outcome, String> {
        if self.request.layers.is_none() {
            let help = "`retry taproot.layers=NAME:... taproot.upper_reset` asks for layers and a fresh upper";
            return Err(format!("the words name no layers; {help}"));
        }
        let words = "taproot.upper_reset".to_owned();
        change::agree(self, &words).map(|()| Outcome::Decided(Decision::Retry { words }))
    }

    fn wait(&mut self, seconds: Option<&str>) -> Result<Outcome, String> {
        let answer = match seconds {
            Some(seconds) => seconds.to_owned(),
            None => self.talk.ask("How many seconds? ").unwrap_or_default(),
        };
        match answer.parse::<u64>() {
            Ok(seconds) if (1..=LONGEST_WAIT).contains(&seconds) => {
                Ok(Outcome::Decided(Decision::Wait(Duration::from_secs(seconds))))
            }
            _ => Err(format!("expected seconds, 1 to {LONGEST_WAIT}, found {answer:?}")),
        }
    }
}
