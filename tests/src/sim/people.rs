//! Consoles, and the person before them.

use super::machine::Typed;
use super::world::{End, World};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use taproot_init::sys::consoles::{Answer, Consoles, Secret, Timeout};
use taproot_init::sys::keymap::Keymap;

/// How often the caller's condition is looked at while nobody types.
const TURN: Duration = Duration::from_millis(500);
/// How long it is looked at where nobody will ever type: what can still come has come by then.
const ENOUGH: Duration = Duration::from_secs(600);

/// What the story says of a question that ends without an answer.
pub(super) const UNANSWERED: &str = "unanswered";

/// The consoles of a simulated machine.
#[derive(Debug)]
pub(super) struct Screen(pub(super) World);

impl Screen {
    /// What the person types as an answer to this, if anything.
    fn typed(&self, question: &str) -> Option<Typed> {
        let mut state = self.0.state();
        let at = state.machine.person.iter().position(|typed| question.contains(&typed.question))?;
        Some(state.machine.person.remove(at))
    }

    /// The question is gone before anything was typed: it is the answer to the next of its kind.
    fn not_typed(&self, typed: Typed) {
        self.0.state().machine.person.insert(0, typed);
    }

    /// Lets time pass while the caller's condition is looked at; true if it came true.
    fn wait(&self, time: Duration, stop: &mut dyn FnMut() -> bool) -> bool {
        let until = self.0.time().saturating_add(time);
        loop {
            if stop() {
                return true;
            }
            let left = until.saturating_sub(self.0.time());
            if left.is_zero() {
                return false;
            }
            self.0.pass(left.min(TURN));
        }
    }
}

impl Consoles for Screen {
    fn path(&self, console: usize) -> Option<PathBuf> {
        (console == 0).then(|| PathBuf::from("/dev/tty1"))
    }

    fn print(&self, text: &str) {
        let mut state = self.0.state();
        state.printed.push_str(text);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            state.note(false, &format!("screen: {line}"));
        }
    }

    fn has_screen(&self) -> bool {
        true
    }

    fn print_on_screens(&self, text: &str) {
        self.print(text);
    }

    fn load_keymap(&self, keymap: &Keymap) -> io::Result<()> {
        self.0.enter("load_keymap", &format!("of {} tables", keymap.tables.len()))
    }

    fn ask(&mut self, question: &str, echo: bool, timeout: Timeout, stop: &mut dyn FnMut() -> bool) -> Answer {
        let timeout = timeout.time();
        self.print(question);
        if self.0.enter("ask", question.trim()).is_err() {
            return Answer::NoConsole;
        }
        // The call that it is about was done first, and has not come back.
        let kept = self.0.state().shown.is_some();
        if kept && !stop() {
            let Some(typed) = self.typed(question) else {
                self.0.finish(End::Question(question.trim().to_owned()));
                return Answer::NoConsole;
            };
            return Answer::Line { console: 0, text: Secret::new(typed.line.into_bytes()) };
        }
        let typed = self.typed(question).filter(|typed| timeout.is_none_or(|timeout| typed.after < timeout));
        let Some(typed) = typed else {
            if self.wait(timeout.unwrap_or(ENOUGH), stop) {
                self.0.state().note(false, UNANSWERED);
                return Answer::Stopped;
            }
            if timeout.is_none() {
                self.0.finish(End::Question(question.trim().to_owned()));
            }
            self.0.state().note(false, UNANSWERED);
            return Answer::TimedOut;
        };
        if self.wait(typed.after, stop) {
            self.not_typed(typed);
            self.0.state().note(false, UNANSWERED);
            return Answer::Stopped;
        }
        self.print(if echo { &typed.line } else { "" });
        self.print("\n");
        self.0.state().note(false, &format!("typed: {}", if echo { &typed.line } else { "(hidden)" }));
        Answer::Line { console: 0, text: Secret::new(typed.line.into_bytes()) }
    }
}
