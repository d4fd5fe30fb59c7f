//! The prompt: numbered choices, or words. It is there on every console; whoever types first is answered.

use super::desk::{Desk, Outcome};
use super::explanation::{COLUMNS, wrap};
use super::lock::{Lock, Verdict};
use super::talk::{Asked, Talk};
use super::words;
use super::{Awaited, Decision, Explanation, Occasion, Scene, choose, hands, import, key, shell};
use crate::cmdline::{self, OnFailure};
use crate::report::calm::Calm;
use crate::sys::consoles::Timeout;
use crate::sys::{System, Terminals};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::Duration;

/// Seconds until a machine without any console that gives input tries again.
const NO_CONSOLE_RETRY: Duration = Duration::from_secs(30);
/// How long a boot that could go on waits for somebody to type.
const GOES_ON: Duration = Duration::from_secs(10);
/// What a screen holds at least.
const ROWS: usize = 24;
/// A line of so many bytes was cut by the terminal: the kernel's line discipline keeps 4096 (`N_TTY_BUF_SIZE`), an end among them.
const CUT: usize = 4094;
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
    explanation: Option<&'a Explanation>,
    /// Until somebody types.
    awaited: Option<&'a RefCell<dyn Awaited + 'a>>,
}

/// The choices, numbered, in two columns.
fn columns(choices: &[(&str, &str)]) -> String {
    let mut text = String::from("Type a number or a word; `help` lists all words.\n\n");
    let rows = choices.len().div_ceil(2);
    let cell = |at: usize| {
        choices.get(at).map(|(name, help)| format!("  {:>2}  {name:<9} {help}", at + 1)).unwrap_or_default()
    };
    for row in 0..rows {
        let _ = writeln!(text, "{}", format!("{:<40}{}", cell(row), cell(row + rows)).trim_end());
    }
    text.push('\n');
    text
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
                words: scene.words.map(str::to_owned),
                packed: scene.packed.to_owned(),
                pools: scene.pools,
                stopped,
                listed: Vec::new(),
            },
            occasion,
            lock: scene.locked().then(|| Lock::new(scene.password)),
            shell_first: scene.policy == OnFailure::Shell,
            choices: Vec::new(),
            explanation: scene.explanation,
            // A shell that somebody had to leave first is somebody.
            awaited: scene.awaited.filter(|_| scene.policy != OnFailure::Shell),
        }
    }

    /// Answers until something is decided.
    pub(super) fn run(mut self) -> Decision {
        if self.shell_first && self.lock.is_none() {
            let text = self.explanation.map_or_else(String::new, Explanation::text);
            self.desk.talk.say(&text);
            if let Some(decision) = self.shell() {
                return decision;
            }
        } else {
            self.show_all();
        }
        loop {
            let asked = match self.awaited.map(|_| self.ask_while_awaiting()) {
                Some(Ok(asked)) => asked,
                Some(Err(decision)) => return decision,
                None => self.desk.talk.ask_until(PROMPT, Timeout::Never, &mut || false),
            };
            let Asked::Line(line) = asked else {
                self.desk.system.sleep(NO_CONSOLE_RETRY);
                return self.go_on();
            };
            if self.awaited.take().is_some() {
                self.desk.talk.say("The boot does not go on by itself any more; retry tries again.\n");
            }
            if let Some(decision) = self.line(&line) {
                return decision;
            }
        }
    }

    fn announce_keyboard(&self) {
        self.desk.talk.announce_keyboard(self.desk.system, self.desk.log);
    }

    /// Asks for a word, and goes on when what was awaited has come and nobody types.
    fn ask_while_awaiting(&mut self) -> Result<Asked, Decision> {
        let Some(awaited) = self.awaited else { return Ok(Asked::Nobody) };
        let (system, hands) = (self.desk.system, self.desk.hands);
        let mut arrived = || {
            hands.borrow_mut().hear(Duration::ZERO);
            awaited.borrow_mut().arrived(hands.borrow().hardware(), system.now())
        };
        let asked = self.desk.talk.ask_until(PROMPT, Timeout::Never, &mut arrived);
        if asked != Asked::Over {
            return Ok(asked);
        }
        let seconds = GOES_ON.as_secs();
        self.desk
            .talk
            .say(&format!("\nWhat was awaited is there: the boot goes on in {seconds} s; any key stops it.\n"));
        match self.desk.talk.ask_until(PROMPT, Timeout::Untouched(GOES_ON), &mut || false) {
            Asked::Over => {
                self.desk.log.info("what was awaited is there: another attempt begins");
                Err(Decision::RETRY)
            }
            asked => Ok(asked),
        }
    }

    fn go_on(&self) -> Decision {
        if self.occasion == Occasion::Stopped { Decision::Continue } else { Decision::RETRY }
    }

    fn line(&mut self, line: &str) -> Option<Decision> {
        if line.len() >= CUT {
            self.desk
                .talk
                .say(&format!("the line is longer than a terminal takes ({CUT} bytes), so nothing was done\n"));
            return None;
        }
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
        // Other words could open what is locked.
        let open = words::find(name).is_some_and(|w| w.open) && (name != "retry" || rest.is_empty());
        if self.lock.is_some() && !open {
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

    /// The choices that make sense now.
    fn choices(&mut self) -> String {
        let mut choices: Vec<(&'static str, &'static str)> = Vec::new();
        if self.desk.stopped {
            choices.push(("continue", "go on with the boot"));
        }
        choices.push(("retry", "try to boot again"));
        choices.push(("wait", "wait longer for disks"));
        if self.can_unlock() {
            choices.push(("unlock", "the rescue password"));
        }
        if self.lock.is_none() {
            let answers = self.desk.pools_answer();
            if let Err(why) = &answers {
                self.desk.talk.say(&format!("{why}\n"));
            }
            let answers = answers.is_ok();
            let pools = self.desk.pools;
            let roots = |system: &dyn System| choose::roots(system, pools, Some(&self.desk.request), None);
            let bootable = || {
                !self.desk.asking(choose::ASKING, roots).is_empty()
                    || !self.desk.asking(choose::ASKING, |system| choose::silent(system, pools)).is_empty()
            };
            if answers && bootable() {
                choices.push(("boot", "boot another environment"));
            }
            hands::catch_up(self.desk.hands);
            let possible = |system: &dyn System| import::possible(system, self.desk.hands.borrow().hardware());
            if answers && self.desk.asking("asking for the imported pools", possible) {
                choices.push(("import", "import a pool by hand"));
            }
            if answers && !self.desk.asking("asking for keys", key::missing).is_empty() {
                choices.push(("key", "of an encrypted dataset"));
            }
            if shell::packed(self.desk.system) {
                choices.push(("shell", "a shell"));
            }
            choices.push(("log", "the log of this boot"));
            choices.push(("save-log", "write it to a disk"));
        } else {
            choices.push(("status", "what was asked, found"));
        }
        choices.push(("reboot", "restart the machine"));
        choices.push(("poweroff", "switch it off"));
        self.choices = choices.iter().map(|(name, _)| *name).collect();
        columns(&choices)
    }

    /// Shows them, below the explanation as far as a screen holds it, and above the problem.
    fn show_all(&mut self) {
        let choices = self.choices();
        let (mut explained, mut last) = (String::new(), String::new());
        if let Some(awaited) = self.awaited {
            let what =
                format!("The boot goes on by itself when this comes: {}; any key stops that.", awaited.borrow().what());
            last = wrap(&what, COLUMNS).join("\n") + "\n";
        }
        if let Some(explanation) = self.explanation {
            last += &explanation.last();
            let others = choices.lines().count() + last.lines().count() + 2;
            explained = explanation.shortened(ROWS.saturating_sub(others)) + "\n";
        }
        self.desk.talk.say(&format!("{explained}{choices}{last}"));
        self.announce_keyboard();
    }

    /// Shows them again.
    fn show(&mut self) {
        let choices = self.choices();
        let last = self.explanation.map_or_else(String::new, Explanation::last);
        self.desk.talk.say(&format!("{choices}{last}"));
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
        let calm = Calm::start(self.desk.system);
        let ended = shell::run(self.desk.system, &terminal);
        drop(calm);
        self.desk.talk.reopen();
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
