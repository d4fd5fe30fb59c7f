//! When the boot cannot go on, or is stopped on purpose: say why, then ask a person what to do. PID 1 never ends here.

mod apart;
mod applet;
pub mod attempts;
mod change;
mod choose;
mod desk;
mod devices;
mod explanation;
mod export;
pub(crate) mod hands;
mod import;
mod key;
pub mod lock;
mod menu;
mod mount;
pub(crate) mod mounted;
mod pools;
mod save;
mod shell;
mod status;
pub mod stuck;
mod talk;
#[cfg(test)]
mod tests;
mod words;

pub use applet::run as applet;
pub use choose::offer as offer_roots;
pub use explanation::Explanation;
pub use hands::Hands;
pub use shell::take_decision;

use crate::cmdline::OnFailure;
use crate::devices::known::Hardware;
use crate::plan::facts::PoolFact;
use crate::report::boot::BootReport;
use crate::report::log::{LOG_PATH, Log, printable};
use crate::report::phases::Phases;
use crate::sys::{Panic, System, Terminals};
use menu::Menu;
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The explanation, for `why`.
const WHY_FILE: &str = "/run/taproot/why";
/// What was asked, found and chosen, for `status`.
const STATUS_FILE: &str = "/run/taproot/status";

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Try to boot again.
    Retry {
        /// Words that take the place of those that there are; empty: the same ones.
        words: String,
    },
    /// Try again, and wait this long for the pool.
    Wait(Duration),
    /// Boot this dataset, or a clone of this snapshot (`dataset@snapshot`).
    Boot {
        /// Its name.
        name: String,
        /// Words as for `Retry`.
        words: String,
    },
    /// Try again with these words instead of those of the kernel command line.
    Cmdline(String),
    /// Go on from where the boot was stopped.
    Continue,
    /// Restart the machine.
    Reboot,
    /// Switch it off.
    PowerOff,
}

/// Why a person is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The boot failed.
    Failed,
    /// It was stopped because the command line says so.
    Stopped,
}

/// What a failed attempt waited for in vain.
pub trait Awaited {
    /// In words.
    fn what(&self) -> &str;
    /// Whether it has come.
    fn arrived(&mut self, hardware: &Hardware, now: Duration) -> bool;
}

/// What the rescue knows of the boot.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The kernel.
    pub system: &'a dyn System,
    /// The log of the boot.
    pub log: &'a Log,
    /// How long what is done here takes goes there.
    pub phases: &'a Phases,
    /// Devices and drivers.
    pub hands: &'a RefCell<dyn Hands + 'a>,
    /// What was asked, found and done.
    pub report: &'a BootReport,
    /// The words of the attempt, the image's own before them; `None`: the kernel's could not be read.
    pub words: Option<&'a str>,
    /// The image's own.
    pub packed: &'a str,
    /// Pools that were seen, with their bootfs.
    pub pools: &'a [PoolFact],
    /// Why a person is asked, after a failure.
    pub explanation: Option<&'a Explanation>,
    /// What the failed attempt waited for in vain, if it did: when it comes the boot goes on.
    pub awaited: Option<&'a RefCell<dyn Awaited + 'a>>,
    /// What the command line wants to happen.
    pub policy: OnFailure,
    /// The packed hash of the rescue password.
    pub password: Option<&'a str>,
}

impl std::fmt::Debug for Scene<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Decision {
    /// Try again, as it was.
    pub const RETRY: Self = Self::Retry { words: String::new() };
}

impl<'a> Scene<'a> {
    /// One of which nothing is known.
    fn bare(
        system: &'a dyn System,
        log: &'a Log,
        phases: &'a Phases,
        hands: &'a RefCell<dyn Hands + 'a>,
        report: &'a BootReport,
    ) -> Self {
        Self {
            system,
            log,
            phases,
            hands,
            report,
            words: None,
            packed: "",
            pools: &[],
            explanation: None,
            awaited: None,
            policy: OnFailure::Menu,
            password: None,
        }
    }

    /// Whether a person has to be let in first.
    pub fn locked(&self) -> bool {
        self.policy == OnFailure::Locked || self.password.is_some()
    }
}

/// Notes why the boot cannot go on, also for the words of a shell.
pub fn note(system: &dyn System, explanation: &Explanation, report: &BootReport, log: &Log) {
    log.error(&explanation.problem);
    leave(system, STATUS_FILE, &status::text(report));
    leave(system, WHY_FILE, &explanation.text());
}

/// Asks on every console what to do. Not for a headless policy.
pub fn ask(scene: &Scene<'_>, occasion: Occasion) -> Decision {
    leave(scene.system, STATUS_FILE, &status::text(scene.report));
    if occasion == Occasion::Stopped {
        leave(scene.system, WHY_FILE, "the boot was stopped because the command line asks for it\n");
    }
    Menu::new(scene, occasion).run()
}

/// Writes to every console.
pub fn print(system: &dyn System, text: &str) {
    system.consoles(Terminals::All).print(&printable(text));
}

/// Leaves a text for the words of the prompt and of a shell; without it they say that there is none.
fn leave(system: &dyn System, path: &str, text: &str) {
    let _ = system.write(Path::new(path), text.as_bytes());
}

/// The last resort, also after a bug: what the policy says, until a restart or power-off succeeds. Comes back only in a
/// simulated machine, which has ended then.
pub fn last_resort(system: &Arc<dyn System>, explanation: &Explanation, policy: OnFailure, password: Option<&str>) {
    let text = explanation.text();
    leave(&**system, WHY_FILE, &text);
    if policy.headless() {
        print(&**system, &text);
    }
    let (log, phases) = (Log::new(Arc::clone(system)), Phases::new(Arc::clone(system)));
    let report = BootReport::default();
    let hands = RefCell::new(hands::Own::new(&**system, &log));
    let bare = Scene::bare(&**system, &log, &phases, &hands, &report);
    let scene = Scene { explanation: Some(explanation), policy, password, ..bare };
    loop {
        let decision = match policy {
            OnFailure::Reboot(delay) => attempts::count_down(&**system, "restarting", delay, Decision::Reboot),
            OnFailure::PowerOff(delay) => attempts::count_down(&**system, "switching off", delay, Decision::PowerOff),
            OnFailure::Menu | OnFailure::Shell | OnFailure::Locked => Menu::new(&scene, Occasion::Failed).run(),
        };
        let ended = if decision == Decision::PowerOff { system.power_off() } else { system.restart() };
        let Err(error) = ended else { return };
        print(&**system, &format!("taproot: {error}\n"));
        system.sleep(Duration::from_secs(1));
    }
}

/// A bug must not become a kernel panic: its message, where it was, and what the policy says instead of an abort.
pub fn catch_panics(system: &dyn System, policy: OnFailure, password: Option<String>) {
    system.on_panic(Box::new(move |system, panic| {
        let explanation = note_panic(system, panic);
        last_resort(system, &explanation, policy, password.as_deref());
    }));
}

/// Notes a panic in the kernel's log and in the boot's own, which `log` shows.
fn note_panic(system: &Arc<dyn System>, panic: &Panic) -> Explanation {
    let problem = format!("a bug in taproot-init: {}", panic.message);
    // The boot's own log may be locked for ever.
    let log = Log::new(Arc::clone(system));
    let _ = log.attach();
    log.error(&problem);
    for line in panic.backtrace.lines() {
        log.error(line);
    }
    let _ = system.append(Path::new(LOG_PATH), log.text().as_bytes());
    Explanation {
        code: "bug",
        problem,
        expected: "a boot".to_owned(),
        found: vec![],
        advice: vec![
            "look at the log, which says where it happened (log), and report it".to_owned(),
            "reboot".to_owned(),
        ],
        typed: vec![],
    }
}
