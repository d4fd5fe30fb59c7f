//! Long calls into the kernel: a line every few seconds, so that a pool that replays its log does not look like a hang.

use crate::report::log::Log;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(5);

/// What the kernel says about imports under way: a table whose last column is a note.
fn kernel_note() -> String {
    let text = std::fs::read_to_string("/proc/spl/kstat/zfs/import_progress").unwrap_or_default();
    text.lines().last().filter(|line| !line.starts_with("pool_guid")).unwrap_or("").trim().to_owned()
}

/// Runs `work` and says every few seconds that it is still running. There is no time limit: the kernel may need minutes.
pub(super) fn watch<T: Send>(log: &Log, what: &str, work: impl FnOnce() -> T + Send) -> T {
    let (done, waiting) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let start = Instant::now();
            while waiting.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                log.info(format!("{what}: {} s so far {}", start.elapsed().as_secs(), kernel_note()));
            }
        });
        let result = work();
        drop(done);
        result
    })
}
