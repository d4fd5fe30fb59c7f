//! Long calls into the kernel: a line every few seconds, so that a pool that replays its log, or makes sure that nobody else
//! uses it, does not look like a hang. There is no time limit: the kernel may need minutes.

use super::trouble;
use crate::report::log::{Level, Log};
use crate::sys::System;
use std::time::Duration;

/// What the kernel says of pools that are being opened or imported.
const UNDER_WAY: &str = "/proc/spl/kstat/zfs/import_progress";
const TICK: Duration = Duration::from_secs(1);
/// Between two lines, whatever the one before was about; with a tick it makes five seconds.
const EVERY: Duration = Duration::from_secs(4);

/// What is being done.
pub(super) struct Work<'a> {
    /// `opening`, `importing`.
    pub(super) what: &'a str,
    pub(super) pool: &'a str,
    pub(super) guid: u64,
}

impl Work<'_> {
    /// Does it, and says every few seconds that it is still going on.
    pub(super) fn watched<T>(&self, system: &dyn System, log: &Log, mut work: impl FnMut() -> T) -> T {
        let mut told = Level::Info;
        let mut tell = |elapsed: Duration| {
            let elapsed = elapsed.as_secs();
            let (level, line) = self.line(elapsed, &system.text(UNDER_WAY), &trouble::state(system, self.pool));
            // A new situation is told at once, an old one from time to time.
            if told != level || system.now().saturating_sub(log.last()) >= EVERY {
                log.line(level, &line);
                told = level;
            }
        };
        // After a wait the last word can be some seconds old already.
        let last = log.last();
        if !last.is_zero() && system.now().saturating_sub(last) + TICK >= EVERY {
            log.info(format!("{} pool {}", self.what, self.pool));
        }
        let mut result = None;
        system.watched(TICK, &mut tell, &mut || result = Some(work()));
        result.unwrap_or_else(work)
    }

    /// The line. `table`: `import_progress` of the kernel, a row a pool: guid, load state, seconds that the multihost check
    /// still takes, last txg, name and, since 2.3, a note.
    fn line(&self, elapsed: u64, table: &str, state: &str) -> (Level, String) {
        let Self { what, pool, guid } = self;
        if state == "SUSPENDED" {
            let text = "is suspended: a disk it cannot do without does not answer; nothing goes on until it does";
            return (Level::Error, format!("pool {pool} {text} ({elapsed} s so far)"));
        }
        let guid = guid.to_string();
        let row = table.lines().find(|line| line.split_whitespace().next() == Some(&guid)).unwrap_or_default();
        let mut fields = row.split_whitespace().skip(2);
        let left = fields.next().and_then(|seconds| seconds.parse::<i64>().ok()).unwrap_or(0).max(0);
        let note = fields.skip(2).collect::<Vec<_>>().join(" ");
        if left > 0 || note.contains("MMP") {
            let text = "multihost: checking that no other system uses pool";
            return (Level::Warn, format!("{text} {pool}: {elapsed} s so far, about {left} s to go"));
        }
        let note = if matches!(note.as_str(), "" | "-") { String::new() } else { format!(" ({note})") };
        (Level::Info, format!("{what} pool {pool}: {elapsed} s so far{note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::linux::Linux;
    use std::sync::Arc;

    const TABLE: &str = "\
pool_guid            load_state      multihost_secs  max_txg         pool_name            notes
11111111111111111111 2               0               0               other                Loading checkpoint txg
7                    2               13              0               $import              -
";

    fn line(guid: u64, table: &str, state: &str) -> (Level, String) {
        Work { what: "opening", pool: "tank", guid }.line(12, table, state)
    }

    #[test]
    fn the_multihost_check_counts_down() {
        let (level, text) = line(7, TABLE, "");
        assert_eq!(level, Level::Warn);
        assert_eq!(text, "multihost: checking that no other system uses pool tank: 12 s so far, about 13 s to go");
    }

    #[test]
    fn the_last_second_of_the_check_is_still_the_check() {
        let table = "7 2 0 0 $import Checking MMP activity, 21159 ms remaining\n";
        assert!(line(7, table, "").1.ends_with("12 s so far, about 0 s to go"));
    }

    #[test]
    fn other_work_is_told_with_the_kernels_note() {
        let text = "opening pool tank: 12 s so far (Loading checkpoint txg)";
        assert_eq!(line(11_111_111_111_111_111_111, TABLE, ""), (Level::Info, text.to_owned()));
        assert_eq!(line(8, TABLE, "").1, "opening pool tank: 12 s so far");
        assert_eq!(line(7, "", "ONLINE").1, "opening pool tank: 12 s so far");
    }

    #[test]
    fn a_suspended_pool_is_an_error() {
        let (level, text) = line(7, TABLE, "SUSPENDED");
        assert_eq!(level, Level::Error);
        assert!(text.contains("pool tank is suspended"), "{text}");
    }

    #[test]
    fn the_result_comes_back_at_once() {
        let system = Arc::new(Linux::new());
        let log = Log::new(Arc::<Linux>::clone(&system));
        assert_eq!(Work { what: "opening", pool: "tank", guid: 7 }.watched(&*system, &log, || 42), 42);
        assert_eq!(log.text(), "");
    }
}
