//! The prompt: numbered choices, or words. It is there on every console; whoever types first is answered.

use super::desk::{Desk, Outcome};
use super::lock::{Lock, Verdict};
use super::talk::Talk;
use super::words;
use super::{Decision, Occasion, Scene, apart, choose, hands, import, key, shell};
use crate::cmdline::{self, OnFailure};
use crate::sys::Terminals;
use std::fmt::Write as _;
use std::time::Duration;

/// Seconds until a machine without any console that gives input tries again.
const NO_CONSOLE_RETRY: Duration = Duration::from_secs(30);
/// Where a line is typed.
const PROMPT: &str = "(taproot) # ";

/// The prompt of one occasion.
pub(super) struct Menu<'a> {
    desk: Desk<'a>,
    occasion: Occasion,
    lock: Option<Lock<'a>>,
    /// The policy asks for the shell first.
    shell_first: bool,
    /// Words behind the numbers shown last.
    choices: Vec<&'static str>,
}

impl<'a> Menu<'a> {
    pub(super) fn new(scene: &Scene<'a>, occasion: Occasion) -> Self {
        let stopped = occasion == Occasion::Stopped;
        Self {
            desk: Desk {
                system: scene.system,
                log: scene.log,
                phases: scene.phases,
                hands: scene.hands,
                talk: Talk::on(scene.system, Terminals::All),
                request: scene.report.request.clone().unwrap_or_else(|| cmdline::parse(b"")),
                pools: scene.pools,
                stopped,
            },
            occasion,
            lock: scene.locked().then(|| Lock::new(scene.password)),
            shell_first: scene.policy == OnFailure::Shell,
            choices: Vec::new(),
        }
    }

    /// Answers until something is decided.
    pub(super) fn run(mut self) -> Decision {
        if self.shell_first
            && self.lock.is_none()
            && let Some(decision) = self.shell()
        {
            return decision;
        }
        self.show();
        loop {
            let Some(line) = self.desk.talk.ask(PROMPT) else {
                self.desk.system.sleep(NO_CONSOLE_RETRY);
                return self.go_on();
            };
            if let Some(decision) = self.line(&line) {
                return decision;
            }
        }
    }

    fn announce_keyboard(&self) {
        self.desk.talk.announce_keyboard(self.desk.system, self.desk.log);
    }

    fn go_on(&self) -> Decision {
        if self.occasion == Occasion::Stopped { Decision::Continue } else { Decision::Retry }
    }

    fn line(&mut self, line: &str) -> Option<Decision> {
        let mut parts: Vec<&str> = line.split_whitespace().collect();
        let Some(first) = parts.first_mut() else {
            self.show();
            return None;
        };
        if let Ok(number) = first.parse::<usize>() {
            let Some(name) = number.checked_sub(1).and_then(|at| self.choices.get(at)) else {
                self.desk
                    .talk
                    .say(&format!("{number}: expected a number from 1 to {}, or a word\n", self.choices.len()));
                return None;
            };
            *first = name;
        }
        let (name, rest) = parts.split_first().map(|(name, rest)| (*name, rest))?;
        if self.lock.is_some() && !words::find(name).is_some_and(|w| w.open) {
            let how = if self.can_unlock() { "; `unlock` asks for the password" } else { "" };
            self.desk.talk.say(&format!("{name}: not available, the prompt is locked{how}\n"));
            return None;
        }
        match name {
            "help" | "?" => self.help(),
            "menu" => self.show(),
            "exit" => return Some(self.go_on()),
            "unlock" => return self.unlock(),
            "shell" => return self.shell(),
            _ => match self.desk.answer(name, rest) {
                Outcome::Decided(decision) => return Some(decision),
                Outcome::Done | Outcome::Failed => {}
            },
        }
        None
    }

    fn can_unlock(&self) -> bool {
        self.lock.as_ref().is_some_and(Lock::has_password)
    }

    fn help(&self) {
        let text = words::help(|w| {
            (w.open || self.lock.is_none())
                && match w.name {
                    "unlock" => self.can_unlock(),
                    "shell" => shell::packed(self.desk.system),
                    "continue" => self.desk.stopped,
                    _ => true,
                }
        });
        self.desk.talk.say(&text);
    }

    /// Shows the choices that make sense now.
    fn show(&mut self) {
        let mut choices: Vec<(&'static str, &'static str)> = Vec::new();
        if self.desk.stopped {
            choices.push(("continue", "go on with the boot"));
        }
        choices.push(("retry", "try to boot again"));
        choices.push(("wait", "wait longer for the disks, then try again"));
        if self.can_unlock() {
            choices.push(("unlock", "enter the rescue password"));
        }
        if self.lock.is_none() {
            let answers = apart::pools_answer(self.desk.system);
            if let Err(why) = &answers {
                self.desk.talk.say(&format!("{why}\n"));
            }
            let answers = answers.is_ok();
            let (system, pools) = (self.desk.system, self.desk.pools);
            let bootable =
                || !choose::roots(system, pools, None).is_empty() || !choose::silent(system, pools).is_empty();
            if answers && bootable() {
                choices.push(("boot", "boot another environment or snapshot"));
            }
            hands::catch_up(self.desk.hands);
            if answers && import::possible(self.desk.system, self.desk.hands.borrow().hardware()) {
                choices.push(("import", "import a pool: read-only, without its log device, rewound"));
            }
            if answers && !key::missing(self.desk.system).is_empty() {
                choices.push(("key", "enter the key of an encrypted dataset"));
            }
            if shell::packed(self.desk.system) {
                choices.push(("shell", "a shell"));
            }
            choices.push(("log", "show the log of this boot"));
            choices.push(("save-log", "save the log to a disk"));
        } else {
            choices.push(("status", "what was asked, found and chosen"));
        }
        choices.push(("reboot", "restart the machine"));
        choices.push(("poweroff", "switch the machine off"));
        let mut text = String::from("Type a number or a word; `help` lists all words.\n\n");
        for (at, (name, help)) in choices.iter().enumerate() {
            let _ = writeln!(text, "  {:>2}  {name:<10} {help}", at + 1);
        }
        text.push('\n');
        self.desk.talk.say(&text);
        self.announce_keyboard();
        self.choices = choices.into_iter().map(|(name, _)| name).collect();
    }

    /// Asks for the password; right, it opens the rest.
    fn unlock(&mut self) -> Option<Decision> {
        if !self.lock.as_ref()?.has_password() {
            self.desk.talk.say("unlock: no rescue password is packed in this image\n");
            return None;
        }
        self.announce_keyboard();
        let typed = self.desk.talk.ask_secret("Rescue password: ")?;
        self.desk.talk.say("checking...\n");
        match self.lock.as_mut()?.check(&typed) {
            Verdict::Right => {
                self.lock = None;
                if self.shell_first
                    && let Some(decision) = self.shell()
                {
                    return Some(decision);
                }
                self.show();
            }
            Verdict::Wrong => self.desk.talk.say("wrong password\n"),
            Verdict::Pause(time) => {
                self.desk.talk.say(&format!("wrong password; the next try is possible in {} s\n", time.as_secs()));
                self.desk.system.sleep(time);
            }
            Verdict::Unusable(why) => self.desk.talk.say(&format!("the packed password hash cannot be used: {why}\n")),
        }
        None
    }

    fn shell(&mut self) -> Option<Decision> {
        if !shell::packed(self.desk.system) {
            self.desk.talk.say("no shell is packed in this image; this prompt is all there is\n");
            return None;
        }
        let Some(terminal) = self.desk.talk.terminal() else {
            self.desk.talk.say("there is no terminal for a shell\n");
            return None;
        };
        self.desk.talk.say(&format!(
            "The shell is on {}; `help` lists our words in it, `exit` comes back here.\n",
            terminal.display()
        ));
        self.announce_keyboard();
        let ended = shell::run(self.desk.system, &terminal);
        self.desk.talk.reopen(self.desk.system);
        match ended {
            Ok(Some(Decision::Continue)) if !self.desk.stopped => {
                self.desk
                    .talk
                    .say("continue: the boot failed, so there is nothing to go on with; `retry` tries again\n");
            }
            Ok(Some(decision)) => return Some(decision),
            Ok(None) => {}
            Err(e) => self.desk.talk.say(&format!("the packed shell did not start: {e}\n")),
        }
        self.show();
        None
    }
}
