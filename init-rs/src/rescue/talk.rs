//! Where a person is talked to: on every console as PID 1, on the terminal of the shell as an applet.

use crate::sys::consoles::{Answer, Consoles as _, Secret, Tty, terminals};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lines between two stops of a long text: a terminal has at least 24.
const PAGE: usize = 20;

/// One conversation.
#[derive(Debug)]
pub(super) struct Talk {
    consoles: Tty,
    /// An applet's output can be redirected.
    to_stdout: bool,
    /// Where the last answer was typed.
    terminal: Option<PathBuf>,
}

impl Talk {
    /// On all consoles.
    pub(super) fn on_consoles() -> Self {
        Self { consoles: Tty::open(), to_stdout: false, terminal: None }
    }

    /// Opens the consoles anew: the end of a shell hangs up its terminal for everybody who has it open (`disassociate_ctty`
    /// in `drivers/tty/tty_jobctrl.c`).
    pub(super) fn reopen(&mut self) {
        self.consoles = Tty::open();
    }

    /// As a program of the shell.
    pub(super) fn as_applet() -> Self {
        Self { consoles: Tty::open_terminals(&[PathBuf::from("/dev/tty")]), to_stdout: true, terminal: None }
    }

    /// Shows a text. A console that is gone is no reason to stop.
    pub(super) fn say(&self, text: &str) {
        if self.to_stdout {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes());
            let _ = out.flush();
        } else {
            self.consoles.print(text);
        }
    }

    /// Shows a long text, a page at a time where it cannot be piped into a pager.
    pub(super) fn page(&mut self, text: &str) {
        if self.to_stdout {
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
        match self.consoles.ask(question, echo, timeout, &mut || false) {
            Answer::Line { console, text } => {
                self.terminal = self.consoles.path(console);
                Some(text)
            }
            Answer::TimedOut | Answer::Stopped | Answer::NoConsole => None,
        }
    }

    /// Whether `yes` was typed to something that cannot be undone.
    pub(super) fn confirm(&mut self, danger: &str) -> bool {
        self.ask(&format!("{danger}\nType yes to do it: ")).as_deref() == Some("yes")
    }

    /// The terminal of the last answer, else the preferred console.
    pub(super) fn terminal(&self) -> Option<PathBuf> {
        self.terminal.clone().or_else(|| terminals().pop())
    }
}
