//! Where a person is talked to: on every console as PID 1, on the terminal of the shell as an applet.

use crate::keyboard;
use crate::report::calm::Calm;
use crate::report::log::{Log, printable};
use crate::sys::consoles::{Answer, Consoles, Secret, Timeout};
use crate::sys::{System, Terminals};
use std::path::PathBuf;
use std::time::Duration;

/// Lines between two stops of a long text: a terminal has at least 24.
const PAGE: usize = 20;

/// What came of a question that may become needless.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A line.
    Line(String),
    /// It became needless, or the time is over.
    Over,
    /// Nobody can answer.
    Nobody,
}

/// One conversation.
pub(super) struct Talk<'a> {
    system: &'a dyn System,
    consoles: Box<dyn Consoles>,
    terminals: Terminals,
    /// Where the last answer was typed.
    terminal: Option<PathBuf>,
}

impl std::fmt::Debug for Talk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Talk").field("terminals", &self.terminals).finish_non_exhaustive()
    }
}

impl<'a> Talk<'a> {
    /// On all consoles, or as a program of the shell.
    pub(super) fn on(system: &'a dyn System, terminals: Terminals) -> Self {
        Self { system, consoles: system.consoles(terminals), terminals, terminal: None }
    }

    /// Opens the consoles anew: the end of a shell hangs up its terminal for everybody who has it open (`disassociate_ctty`
    /// in `drivers/tty/tty_jobctrl.c`).
    pub(super) fn reopen(&mut self) {
        self.consoles = self.system.consoles(self.terminals);
    }

    /// Where people are talked to.
    pub(super) fn terminals(&self) -> Terminals {
        self.terminals
    }

    /// Says which layout the keyboard has, if it is ours to say; called before people type something new.
    pub(super) fn announce_keyboard(&self, system: &dyn System, log: &Log) {
        keyboard::announce(system, log, &*self.consoles);
    }

    /// Shows a text. A console that is gone is no reason to stop.
    pub(super) fn say(&self, text: &str) {
        self.consoles.print(&printable(text));
    }

    /// Shows a long text, a page at a time where it cannot be piped into a pager.
    pub(super) fn page(&mut self, text: &str) {
        if self.terminals == Terminals::Own {
            return self.say(text);
        }
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let pages = lines.chunks(PAGE).count();
        for (number, page) in lines.chunks(PAGE).enumerate() {
            self.say(&page.concat());
            if number + 1 < pages {
                let question = format!("-- page {} of {pages}: Enter goes on, q ends -- ", number + 1);
                match self.ask(&question) {
                    Some(answer) if answer.is_empty() => {}
                    _ => return,
                }
            }
        }
    }

    /// Asks for a line; `None` if nobody can answer.
    pub(super) fn ask(&mut self, question: &str) -> Option<String> {
        self.question(question, true, None).map(|line| String::from_utf8_lossy(&line).trim().to_owned())
    }

    /// Asks for a line until `stop` says that it became needless, or nobody has typed for this long.
    pub(super) fn ask_until(&mut self, question: &str, timeout: Timeout, stop: &mut dyn FnMut() -> bool) -> Asked {
        match self.put(question, true, timeout, stop) {
            Answer::Line { text, .. } => Asked::Line(String::from_utf8_lossy(&text).trim().to_owned()),
            Answer::Stopped | Answer::TimedOut => Asked::Over,
            Answer::NoConsole => Asked::Nobody,
        }
    }

    /// Asks for a line without showing it.
    pub(super) fn ask_secret(&mut self, question: &str) -> Option<Secret> {
        self.question(question, false, None)
    }

    /// Asks for a line and takes no answer for an empty one after `timeout`.
    pub(super) fn ask_for(&mut self, question: &str, timeout: Option<Duration>) -> String {
        let line = self.question(question, true, timeout);
        line.map(|line| String::from_utf8_lossy(&line).trim().to_owned()).unwrap_or_default()
    }

    fn question(&mut self, question: &str, echo: bool, timeout: Option<Duration>) -> Option<Secret> {
        match self.put(question, echo, timeout.into(), &mut || false) {
            Answer::Line { text, .. } => Some(text),
            Answer::TimedOut | Answer::Stopped | Answer::NoConsole => None,
        }
    }

    fn put(&mut self, question: &str, echo: bool, timeout: Timeout, stop: &mut dyn FnMut() -> bool) -> Answer {
        // What is on the terminal of a shell is somebody else's matter.
        let _calm = (self.terminals == Terminals::All).then(|| Calm::start(self.system));
        let answer = self.consoles.ask(&printable(question), echo, timeout, stop);
        if let Answer::Line { console, .. } = &answer {
            self.terminal = self.consoles.path(*console);
        }
        answer
    }

    /// Whether `yes` was typed to something that cannot be undone.
    pub(super) fn confirm(&mut self, danger: &str) -> bool {
        self.ask(&format!("{danger}\nType yes to do it: ")).as_deref() == Some("yes")
    }

    /// The terminal of the last answer, else the preferred console.
    pub(super) fn terminal(&self) -> Option<PathBuf> {
        self.terminal.clone().or_else(|| (0..).map_while(|at| self.consoles.path(at)).last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::{Machine, Said, Tree};

    #[test]
    fn what_steers_a_terminal_reaches_none() {
        let machine = Machine { said: Said::typing(&["yes"]), ..Machine::new(Tree::new()) };
        let mut talk = Talk::on(&machine, Terminals::All);
        // As an arrow key leaves it in a word, and as a label can have it.
        talk.say("\x1b[A: not a word of this prompt\n");
        assert!(talk.confirm("label \x1b[2J"));
        assert_eq!(machine.said.text(), "?[A: not a word of this prompt\nlabel ?[2J\nType yes to do it: yes\n");
    }

    #[test]
    fn long_texts_stop_at_each_page_and_the_terminal_is_where_somebody_typed() {
        let machine = Machine { said: Said::typing(&["", "q"]), ..Machine::new(Tree::new()) };
        let mut talk = Talk::on(&machine, Terminals::All);
        let said = &machine.said;
        assert_eq!(talk.terminal(), Some(PathBuf::from("/dev/ttyS1")), "the preferred one");
        let lines: Vec<String> = (1..=3 * PAGE).map(|n| format!("line {n}\n")).collect();
        talk.page(&lines.concat());
        let text = said.text();
        assert!(text.contains(&format!("line {}\n", 2 * PAGE)) && !text.contains(&format!("line {}\n", 3 * PAGE)));
        assert!(text.ends_with("-- page 2 of 3: Enter goes on, q ends -- q\n"), "{text}");
        assert_eq!(talk.terminal(), Some(PathBuf::from("/dev/ttyS0")));
    }
}
