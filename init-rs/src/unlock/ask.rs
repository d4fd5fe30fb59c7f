//! Asking people: on every console, or through an agent where a hook has one.

use super::agents::AgentAnswer;
use super::{Attempt, Effort, UnlockError, Unlocker, Why};
use crate::keyboard;
use crate::report::calm::Calm;
use crate::sys::consoles::{Answer, Secret};
use crate::zfs::ioctl::Zfs;
use crate::zfs::keys::{Encryption, KeyFormat};
use std::time::Duration;

/// Between two looks at the key while an agent asks: each is a call into the kernel.
const KEY_POLL: Duration = Duration::from_millis(500);

/// What came of one question.
enum Reply {
    Typed(Secret, String),
    KeyArrived,
    Ended(Why),
}

impl Unlocker<'_> {
    /// Asks until the key is loaded, by whomever, or there is a reason to stop.
    pub(super) fn ask(&mut self, facts: &Encryption, effort: Effort) -> Result<Result<(), Why>, UnlockError> {
        let noun = match facts.format {
            Some(KeyFormat::Raw) => return Ok(Err(Why::RawNotTyped)),
            Some(KeyFormat::Hex) => "hex key (64 digits)",
            _ => "passphrase",
        };
        if !self.settings.prompt.value {
            return Ok(Err(Why::NoPrompt(self.settings.prompt.why.clone())));
        }
        let root = &facts.root;
        let skip = if effort == Effort::Optional { " (Enter skips it)" } else { "" };
        let question =
            format!("{}{} for {root}{skip}: ", noun.get(..1).unwrap_or("").to_uppercase(), noun.get(1..).unwrap_or(""));
        self.log.warn(format!("{root} is encrypted: waiting for its {noun}"));
        let _calm = Calm::start(self.system);
        let mut wrong = 0;
        loop {
            let (text, place) = match self.question(&question, root) {
                Reply::KeyArrived => {
                    self.log.info(format!("key of {root} was loaded by somebody else"));
                    return Ok(Ok(()));
                }
                Reply::Ended(why) => return Ok(Err(why)),
                Reply::Typed(text, _) if text.is_empty() && effort == Effort::Optional => return Ok(Err(Why::Skipped)),
                Reply::Typed(text, _) if text.is_empty() => continue,
                Reply::Typed(text, place) => (text, place),
            };
            let problem = match self.attempt(facts, &text)? {
                Attempt::Loaded => {
                    self.log.info(format!("key of {root} loaded: {noun} typed on {place}"));
                    self.say(&format!("{root} is unlocked."));
                    if facts.format == Some(KeyFormat::Passphrase) {
                        self.keyring.remember(root, text);
                    }
                    return Ok(Ok(()));
                }
                Attempt::Wrong => format!("wrong {noun} for {root}"),
                Attempt::Bad(bad) => format!("{root}: {bad}"),
            };
            drop(text);
            wrong += 1;
            let left = self.settings.tries.value.saturating_sub(wrong);
            let tries = self.settings.tries.value;
            let rest = match (tries, left) {
                (0, _) => String::new(),
                (_, 1) => ", 1 try left".to_owned(),
                _ => format!(", {left} tries left"),
            };
            self.log.warn(format!("{problem}{rest}"));
            self.say(&format!("{problem}{rest}"));
            if tries > 0 && left == 0 {
                return Ok(Err(Why::Wrong(wrong)));
            }
        }
    }

    /// One question, until it is answered or the key is there.
    fn question(&mut self, question: &str, root: &str) -> Reply {
        let system = self.system;
        let zfs = Zfs::new(system);
        let mut looked = system.now();
        // Where we are PID 1 nobody else is there to load it, and a pool whose disk goes meanwhile must not keep the question.
        let alone = system.is_init();
        let mut arrived = || {
            if alone || system.now().saturating_sub(looked) < KEY_POLL {
                return false;
            }
            looked = system.now();
            zfs.key_available(root)
        };
        let timeout = self.settings.timeout.value;
        let timed_out = || Reply::Ended(Why::TimedOut(timeout.map_or(0, |t| t.as_secs())));
        if let Some(agents) = &self.agents {
            match agents.ask(system, question, root, timeout, &mut arrived) {
                AgentAnswer::Line { text, agent } => return Reply::Typed(text, agent.to_owned()),
                AgentAnswer::Stopped => return Reply::KeyArrived,
                AgentAnswer::TimedOut => return timed_out(),
                AgentAnswer::NoAgent => {}
                AgentAnswer::Failed(why) => self.log.warn(format!("{why}; asking on the consoles")),
            }
        }
        let terminals = self.terminals;
        let consoles = self.consoles.get_or_insert_with(|| system.consoles(terminals));
        keyboard::announce(system, self.log, &**consoles);
        match consoles.ask(question, false, timeout.into(), &mut arrived) {
            Answer::Line { console, text } => {
                let place = consoles.path(console).map_or_else(String::new, |p| p.display().to_string());
                Reply::Typed(text, place)
            }
            Answer::TimedOut => timed_out(),
            Answer::Stopped => Reply::KeyArrived,
            Answer::NoConsole => Reply::Ended(Why::NoConsole),
        }
    }

    /// A line to whoever was asked on the consoles.
    fn say(&self, line: &str) {
        if let Some(consoles) = &self.consoles {
            consoles.print(&format!("taproot: {line}\n"));
        }
    }
}
