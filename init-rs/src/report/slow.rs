//! What takes long: a disk spins up, a log is replayed, a program reads. It is told of, so that it does not look like a hang.

use super::log::Log;
use crate::sys::System;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How often it is looked at.
pub const TICK: Duration = Duration::from_secs(1);
/// Between two lines, whatever the one before was about; with a tick it makes five seconds.
const EVERY: Duration = Duration::from_secs(4);
/// Between two lines about a program.
const PROGRAM_EVERY: Duration = Duration::from_millis(4900);

/// Mounts `what` (source, target, type), and says every few seconds that it is still going on.
pub fn mount(system: &dyn System, log: &Log, what: (&str, &Path, &str), flags: u64, data: &str) -> io::Result<()> {
    let (source, target, fstype) = what;
    working(system, log, &format!("mounting {source}"), || system.mount(source, target, fstype, flags, data))
}

/// Does `what`, which may take as long as it takes, and says every few seconds that it is still going on.
pub fn working<T>(system: &dyn System, log: &Log, what: &str, mut work: impl FnMut() -> T) -> T {
    let mut tell = |took: Duration| say_if_quiet(system, log, || format!("{what}: {} s so far", took.as_secs()));
    let mut result = None;
    system.watched(TICK, &mut tell, &mut || result = Some(work()));
    result.unwrap_or_else(work)
}

/// Asks the kernel what it answers in no time, and says every few seconds that it has not.
pub fn asked<T>(system: &dyn System, log: &Log, what: &str, mut work: impl FnMut() -> T) -> T {
    let line = |took: Duration| format!("{what}: {} s without an answer of the kernel so far", took.as_secs());
    let mut tell = |took: Duration| say_if_quiet(system, log, || line(took));
    let mut result = None;
    system.questioned(what, TICK, &mut tell, &mut || result = Some(work()));
    result.unwrap_or_else(work)
}

/// Says this, if nothing else was said for some seconds.
fn say_if_quiet(system: &dyn System, log: &Log, line: impl Fn() -> String) {
    if system.now().saturating_sub(log.last()) >= EVERY {
        log.warn(line());
    }
}

/// What a program is asked for while it runs: it goes on, and every few seconds a line says so.
pub fn still<'a>(system: &'a dyn System, log: &'a Log, what: String) -> impl FnMut() -> bool + 'a {
    let began = system.now();
    // The last line can be some seconds old already.
    let mut told = log.last().min(began);
    move || {
        let now = system.now();
        if now.saturating_sub(told) >= PROGRAM_EVERY {
            told = now;
            log.info(format!("still {what}: {} s so far", now.saturating_sub(began).as_secs()));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Tree;
    use std::sync::Arc;

    /// A machine that was told of its pause five seconds ago must not wait five more for a word.
    #[test]
    fn a_program_is_told_of_in_time_whenever_the_last_line_was() {
        let tree = Arc::new(Tree::new());
        let log = Log::new(Arc::<Tree>::clone(&tree));
        let lines = || log.text().lines().filter(|line| line.contains("still asking")).count();
        log.info("the next one in 5 s");
        tree.sleep(Duration::from_secs(5));
        let mut tell = still(&*tree, &log, "asking".to_owned());
        tell();
        assert_eq!(lines(), 1, "{}", log.text());
        tree.sleep(Duration::from_secs(3));
        tell();
        assert_eq!(lines(), 1, "{}", log.text());
        tree.sleep(Duration::from_secs(2));
        tell();
        assert_eq!(lines(), 2, "{}", log.text());
    }
}
