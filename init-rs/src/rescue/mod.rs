//! When the boot cannot go on, or is stopped on purpose: say why, then ask a person what to do. PID 1 never ends here.

mod apart;
mod applet;
pub mod attempts;
mod choose;
mod desk;
mod devices;
mod drivers;
mod explanation;
mod import;
mod key;
pub mod lock;
mod menu;
mod pools;
mod save;
mod shell;
mod status;
mod talk;
mod words;

pub use applet::run as applet;
pub use choose::offer as offer_roots;
pub use explanation::Explanation;
pub use shell::take_decision;

use crate::cmdline::OnFailure;
use crate::plan::facts::PoolFact;
use crate::report::boot::BootReport;
use crate::report::log::Log;
use crate::sys::consoles::{Consoles as _, Tty};
use crate::sys::linux::Linux;
use crate::sys::{System, backtrace, power};
use menu::Menu;
use std::time::Duration;

/// The explanation, for `why`.
const WHY_FILE: &str = "/run/taproot/why";
/// What was asked, found and chosen, for `status`.
const STATUS_FILE: &str = "/run/taproot/status";

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Try to boot again.
    Retry,
    /// Try again, and wait this long for the pool.
    Wait(Duration),
    /// Boot this dataset, or a clone of this snapshot (`dataset@snapshot`).
    Boot(String),
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
    /// The boot failed; the explanation has been shown.
    Failed,
    /// It was stopped because the command line says so.
    Stopped,
}

/// What the rescue knows of the boot.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The kernel.
    pub system: &'a dyn System,
    /// The log of the boot.
    pub log: &'a Log,
    /// What was asked, found and done.
    pub report: &'a BootReport,
    /// Pools that were seen, with their bootfs.
    pub pools: &'a [PoolFact],
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

impl Scene<'_> {
    /// Whether a person has to be let in first.
    pub fn locked(&self) -> bool {
        self.policy == OnFailure::Locked || self.password.is_some()
    }
}

/// Says on every console, and in the log, why the boot cannot go on; leaves it for the words of a shell, too.
pub fn explain(explanation: &Explanation, report: &BootReport, log: &Log) {
    log.error(&explanation.problem);
    let _ = std::fs::write(STATUS_FILE, status::text(report));
    let text = explanation.text();
    let _ = std::fs::write(WHY_FILE, &text);
    print(&text);
}

/// Asks on every console what to do. Not for a headless policy.
pub fn ask(scene: &Scene<'_>, occasion: Occasion) -> Decision {
    let _ = std::fs::write(STATUS_FILE, status::text(scene.report));
    if occasion == Occasion::Stopped {
        let _ = std::fs::write(WHY_FILE, "the boot was stopped because the command line asks for it\n");
    }
    Menu::new(scene, occasion).run()
}

/// Writes to every console.
pub fn print(text: &str) {
    Tty::open().print(text);
}

/// The last resort, also from a panic hook: what the policy says, until a restart or power-off succeeds.
pub fn last_resort(problem: &str, policy: OnFailure, password: Option<&str>) -> ! {
    let explanation = Explanation {
        problem: problem.to_owned(),
        expected: "a boot".into(),
        found: vec![],
        advice: vec!["reboot".into(), "poweroff".into()],
    };
    let text = explanation.text();
    let _ = std::fs::write(WHY_FILE, &text);
    print(&text);
    loop {
        let decision = match policy {
            OnFailure::Reboot(delay) => attempts::count_down("restarting", delay, Decision::Reboot),
            OnFailure::PowerOff(delay) => attempts::count_down("switching off", delay, Decision::PowerOff),
            _ => {
                let (system, log, report) = (Linux::new(), Log::new(), BootReport::default());
                let scene = Scene { system: &system, log: &log, report: &report, pools: &[], policy, password };
                Menu::new(&scene, Occasion::Failed).run()
            }
        };
        let error = if decision == Decision::PowerOff { power::power_off() } else { power::restart() };
        print(&format!("taproot: {error}\n"));
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A bug must not become a kernel panic: the message and what the policy says instead of an abort.
pub fn catch_panics(policy: OnFailure, password: Option<String>) {
    std::panic::set_hook(Box::new(move |info| {
        let problem = format!("a bug in taproot-init: {info}");
        let _ = std::fs::write("/dev/kmsg", format!("<2>taproot: {problem}\n"));
        for line in backtrace::lines() {
            let _ = std::fs::write("/dev/kmsg", format!("<2>taproot:   {line}\n"));
        }
        last_resort(&problem, policy, password.as_deref());
    }));
}
