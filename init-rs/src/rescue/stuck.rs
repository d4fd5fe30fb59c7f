//! A pool has lost a disk, and the kernel keeps PID 1 in a call on it. Nothing can be started any more but the machine itself:
//! whoever watches the call asks for that.

use super::talk::{Asked, Talk};
use crate::report::log::Log;
use crate::report::slow;
use crate::sys::consoles::Timeout;
use crate::sys::{System, Terminals};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PROMPT: &str = "(waiting for the disk) # ";
/// Nobody can be asked for so long where there is no console.
const NO_CONSOLE: Duration = Duration::from_secs(10);
/// How long a call may last before somebody is asked.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Does what asks pools, at the prompt: that they answer was made sure of, but one can lose its disk since.
pub(super) fn watched<T>(system: &dyn System, log: &Log, what: &str, mut work: impl FnMut() -> T) -> T {
    // A program of the shell can be ended.
    if !system.is_init() {
        return work();
    }
    let (over, mut since) = (AtomicBool::new(false), Some(Duration::ZERO));
    let mut tell = |took: Duration| {
        slow::unanswered(system, log, what, took);
        let waited = took.saturating_sub(*since.get_or_insert(took));
        if waited >= PATIENCE {
            ask(system, &format!("{what}: the kernel has not answered for {} s", waited.as_secs()), &over);
            // What the question took does not count.
            since = None;
        }
    };
    let mut result = None;
    let mut done = || {
        result = Some(work());
        over.store(true, Ordering::Release);
    };
    system.watched(slow::TICK, &mut tell, &mut done);
    result.unwrap_or_else(work)
}

/// Says `why`, and asks until something is decided, which is done, or until `over` says that the call came back.
pub fn ask(system: &dyn System, why: &str, over: &AtomicBool) {
    let mut talk = Talk::on(system, Terminals::All);
    talk.say(&format!(
        "\ntaproot: {why}.\nThe kernel comes back from there only with the disk: put it back, and the boot goes on. Or type\n  \
         reboot    restart the machine\n  poweroff  switch it off\nEnter waits on.\n"
    ));
    loop {
        let word = match talk.ask_until(PROMPT, Timeout::Never, &mut || over.load(Ordering::Acquire)) {
            Asked::Line(line) => line,
            Asked::Over => return talk.say("\nThe kernel came back.\n"),
            Asked::Nobody => return system.sleep(NO_CONSOLE),
        };
        let done = match word.as_str() {
            "reboot" => system.restart(),
            "poweroff" => system.power_off(),
            "" => return,
            _ => Err(std::io::Error::other("expected reboot, poweroff, or Enter alone")),
        };
        if let Err(why) = done {
            talk.say(&format!("{word}: {why}\n"));
        }
    }
}
