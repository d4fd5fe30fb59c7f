//! A pool has lost a disk, and the kernel keeps PID 1 in a call on it. Nothing can be started any more but the machine itself:
//! whoever watches the call asks for that.

use super::talk::{Asked, Talk};
use crate::sys::consoles::Timeout;
use crate::sys::{System, Terminals};
use std::time::Duration;

const PROMPT: &str = "(waiting for the disk) # ";
/// Nobody can be asked for so long where there is no console.
const NO_CONSOLE: Duration = Duration::from_secs(10);

/// What a person decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    /// Restart the machine.
    Restart,
    /// Switch it off.
    PowerOff,
    /// Wait on, or nothing: the call is over.
    Wait,
}

/// Says `why`, and asks until something is decided, or `over` says that the call came back.
pub fn ask(system: &dyn System, why: &str, over: &mut dyn FnMut() -> bool) -> Stuck {
    let mut talk = Talk::on(system, Terminals::All);
    talk.say(&format!(
        "\ntaproot: {why}.\nThe kernel comes back from there only with the disk: put it back, and the boot goes on. Or type\n  \
         reboot    restart the machine\n  poweroff  switch it off\nEnter waits on.\n"
    ));
    loop {
        let word = match talk.ask_until(PROMPT, Timeout::Never, over) {
            Asked::Line(line) => line,
            Asked::Over => {
                talk.say("\nThe kernel came back: the boot goes on.\n");
                return Stuck::Wait;
            }
            Asked::Nobody => {
                system.sleep(NO_CONSOLE);
                return Stuck::Wait;
            }
        };
        match word.as_str() {
            "reboot" => return Stuck::Restart,
            "poweroff" => return Stuck::PowerOff,
            "" => return Stuck::Wait,
            other => talk.say(&format!("{other}: expected reboot, poweroff, or Enter alone\n")),
        }
    }
}
