//! What each word does, the same at the prompt and as a program of the packed shell.

use super::hands::{self, Hands};
use super::talk::Talk;
use super::{Decision, STATUS_FILE, WHY_FILE, apart, choose, devices, export, import, key, pools, save, status};
use crate::cmdline::Request;
use crate::plan::facts::PoolFact;
use crate::plan::{names, options};
use crate::report::boot::REPORT_PATH;
use crate::report::log::{LOG_PATH, Log};
use crate::report::phases::Phases;
use crate::sys::System;
use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

/// Files shown by `cat` are cut here: a prompt is no pager.
pub(super) const SHOWN: usize = 64 << 10;
/// As much of our own records is shown a page at a time.
const LOGGED: usize = 4 << 20;
/// Where `mount` mounts without a second word.
const MOUNT_AT: &str = "/mnt";
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
    pub(super) talk: Talk,
    /// What the command line asks for.
    pub(super) request: Request,
    /// Pools that the boot saw.
    pub(super) pools: &'a [PoolFact],
    /// Whether there is something to go on with.
    pub(super) stopped: bool,
}

impl Desk<'_> {
    /// Answers one word.
    pub(super) fn answer(&mut self, name: &str, rest: &[&str]) -> Outcome {
        // Dataset names may have blanks in them.
        let all = rest.join(" ");
        let first = rest.first().copied();
        let answers = match name {
            "status" | "pools" | "datasets" | "import" | "export" | "key" | "mount" | "boot" => {
                apart::pools_answer(self.system)
            }
            _ => Ok(()),
        };
        let result = match name {
            "why" => self.file(WHY_FILE, false),
            "status" => {
                let _ = self.file(STATUS_FILE, false);
                answers.and_then(|()| self.say(&status::imported(self.system)))
            }
            "log" => self.file(LOG_PATH, true),
            "report" => self.file(REPORT_PATH, true),
            "devices" => {
                hands::read_all(self.system, self.hands);
                let text = devices::text(self.hands.borrow().hardware());
                self.paged(&text)
            }
            "pools" => {
                hands::read_all(self.system, self.hands);
                let text = pools::text(self.hands.borrow().hardware(), self.system.now());
                let imported = if answers.is_ok() { status::imported(self.system) } else { String::new() };
                answers.and(self.paged(&(text + &imported)))
            }
            _ if answers.is_err() => answers,
            "datasets" => status::datasets(self.system, first).map(|text| self.talk.page(&text)),
            "import" => import::run(self, rest),
            "export" => export::run(self, &all),
            "key" => key::run(self, &all),
            "mount" => self.mount(first, rest.get(1).copied()),
            "boot" => return self.boot(&all),
            "cmdline" if all.is_empty() => self.file("/proc/cmdline", false),
            "cmdline" => return Outcome::Decided(Decision::Cmdline(all)),
            "retry" => return Outcome::Decided(Decision::Retry),
            "wait" => return self.wait(first),
            "continue" if self.stopped => return Outcome::Decided(Decision::Continue),
            "continue" => Err("the boot failed, so there is nothing to go on with; `retry` tries again".to_owned()),
            "save-log" => save::run(self, first),
            "reboot" => return Outcome::Decided(Decision::Reboot),
            "poweroff" => return Outcome::Decided(Decision::PowerOff),
            "ls" => self.list(first.unwrap_or("/")),
            "cat" => match first {
                Some(path) => self.file(path, false),
                None => Err("expected a file, e.g. cat /proc/mounts".to_owned()),
            },
            _ => Err("not a word of this prompt; `help` lists them".to_owned()),
        };
        match result {
            Ok(()) => Outcome::Done,
            Err(e) => {
                self.talk.say(&format!("{name}: {e}\n"));
                Outcome::Failed
            }
        }
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

    fn boot(&mut self, name: &str) -> Outcome {
        let chosen = if name.is_empty() {
            choose::ask(self.system, self.log, &mut self.talk, self.pools).map(Ok)
        } else if name.bytes().all(|b| b.is_ascii_digit()) {
            // A number of the list: no dataset is called so, and whoever means a pool can name what is in it.
            Some(choose::typed(name, &choose::roots(self.system, self.pools, None)))
        } else {
            Some(Ok(name.to_owned()))
        };
        let Some(chosen) = chosen else { return Outcome::Done };
        let chosen = chosen.and_then(|name| choose::check(&name).map(|()| name));
        match chosen {
            Ok(chosen) => Outcome::Decided(Decision::Boot(chosen)),
            Err(e) => {
                self.talk.say(&format!("boot: {e}\n"));
                Outcome::Failed
            }
        }
    }

    fn wait(&mut self, seconds: Option<&str>) -> Outcome {
        let answer = match seconds {
            Some(seconds) => seconds.to_owned(),
            None => self.talk.ask("How many seconds? ").unwrap_or_default(),
        };
        match answer.parse::<u64>() {
            Ok(seconds) if (1..=LONGEST_WAIT).contains(&seconds) => {
                Outcome::Decided(Decision::Wait(Duration::from_secs(seconds)))
            }
            _ => {
                self.talk.say(&format!("wait: expected seconds, 1 to {LONGEST_WAIT}, found {answer:?}\n"));
                Outcome::Failed
            }
        }
    }

    fn mount(&mut self, dataset: Option<&str>, dir: Option<&str>) -> Result<(), String> {
        let dataset = dataset.ok_or("expected a dataset, and a directory if not /mnt")?;
        names::check(dataset).map_err(|e| format!("{dataset}: {e}"))?;
        let pool = names::pool_of(dataset);
        if let Some(waits) = crate::pools::waits(self.system, pool) {
            return Err(format!("pool {pool} {waits}"));
        }
        let dir = dir.unwrap_or(MOUNT_AT);
        self.system.make_dirs(Path::new(dir)).map_err(|e| format!("{dir}: {e}"))?;
        let objset = crate::zfs::ioctl::Zfs::new(self.system).objset(dataset).map_err(|e| e.to_string())?;
        let options = options::mount_options(&crate::plan::from_zfs::dataset(&objset, true), None, dir, &[]);
        let result = self.system.mount(dataset, Path::new(dir), "zfs", options.flags, &options.data);
        result.map_err(|e| match e.raw_os_error() {
            Some(libc::EACCES) => {
                format!("{dataset} is encrypted and its key is not loaded; `key {dataset}` asks for it")
            }
            _ => format!("{dataset} on {dir}: {e}"),
        })?;
        self.talk.say(&format!("{dataset} is mounted on {dir}\n"));
        Ok(())
    }
}
