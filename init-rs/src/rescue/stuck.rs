//! A pool has lost a disk, and the kernel keeps PID 1 in a call on it. Nothing can be started any more but the machine itself:
//! whoever watches the call asks for that.

use super::talk::{Asked, Talk};
use crate::pools::suspended;
use crate::sys::consoles::Timeout;
use crate::sys::{System, Terminals};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PROMPT: &str = "(waiting for the disk) # ";
/// What is told at every tick of a watched call.
type Tell<'t> = dyn FnMut(Duration) + Send + 't;

/// Nobody can be asked for so long where there is no console.
const NO_CONSOLE: Duration = Duration::from_secs(10);
/// How long a call may last before somebody is asked.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// For how long something has been gone that a watched call needs.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    since: Option<Duration>,
}

impl Gone {
    /// Notes what is gone, `took` after the call began; says so once it has been for `patience`, and then begins anew: whoever waits
    /// on is asked again after the same time, and what the question took does not count.
    pub(crate) fn past(&mut self, patience: Duration, took: Duration, what: Option<String>) -> Option<String> {
        let Some(what) = what else {
            self.since = None;
            return None;
        };
        let waited = took.saturating_sub(*self.since.get_or_insert(took));
        (waited >= patience).then(|| {
            self.since = None;
            format!("{what} for {} s", waited.as_secs())
        })
    }
}

/// The seam as the prompt has it: that pools answer was made sure of, but one can lose its disk since. Whatever the kernel then
/// keeps PID 1 in, somebody is asked.
pub(crate) struct Minded<'a> {
    system: &'a dyn System,
}

impl<'a> Minded<'a> {
    /// The same system.
    pub(crate) fn new(system: &'a dyn System) -> Self {
        Self { system }
    }

    fn mind(&self, question: Option<&str>, tick: Duration, tell: &mut Tell<'_>, work: &mut dyn FnMut()) {
        let system = self.system;
        // Those do not keep the kernel: what works on them is not begun.
        let (before, over, mut clock) = (suspended(system), AtomicBool::new(false), Gone::default());
        let mut look = |took: Duration| {
            tell(took);
            let pool = suspended(system).into_iter().find(|pool| !before.contains(pool));
            let gone = pool.map(|pool| waits(&pool)).or_else(|| question.map(unanswered));
            if let Some(why) = clock.past(PATIENCE, took, gone) {
                ask(system, &why, &over);
            }
        };
        let mut work = || {
            work();
            over.store(true, Ordering::Release);
        };
        system.watched(tick, &mut look, &mut work);
    }
}

impl System for Minded<'_> {
    fn watched(&self, tick: Duration, tell: &mut Tell<'_>, work: &mut dyn FnMut()) {
        self.mind(None, tick, tell, work);
    }

    fn questioned(&self, what: &str, tick: Duration, tell: &mut Tell<'_>, work: &mut dyn FnMut()) {
        self.mind(Some(what), tick, tell, work);
    }

    crate::delegate_files!(system);
    crate::delegate_writes!(system);
    crate::delegate_layers!(system);
    crate::delegate_kept!(system);
    crate::delegate_log!(system);
    crate::delegate_clock_and_scout!(system);
    crate::delegate_others!(system);
    crate::delegate_rest!(system);
}

/// What is said of a pool that lost a disk in the middle of a call.
pub(crate) fn waits(pool: &str) -> String {
    format!("pool {pool} has been waiting for a disk that is gone")
}

/// What is said of a question that the kernel has not answered.
pub(crate) fn unanswered(question: &str) -> String {
    format!("{question}: the kernel has not answered")
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
