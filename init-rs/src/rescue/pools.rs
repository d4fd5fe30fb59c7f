//! The pools on the disks, read from their labels: that works without the zfs module.

use crate::pools::Scanner;
use crate::zfs::assemble::assemble;
use std::fmt::Write as _;
use std::time::Duration;

/// How long disks are waited for that do not answer: some have to spin up first.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Those on the disks, as text.
pub(super) fn text() -> String {
    let mut scanner = Scanner::new();
    scanner.update(PATIENCE);
    let mut out = String::new();
    for line in scanner.problems() {
        let _ = writeln!(out, "{line}");
    }
    for pool in assemble(&scanner.seen()) {
        let _ = writeln!(out, "pool {} guid {} {:?}", pool.name, pool.guid, pool.state);
        for leaf in &pool.leaves {
            let recorded = leaf.recorded_path.as_deref().unwrap_or("(no path)");
            let _ = writeln!(out, "  {recorded}  {}", leaf.device.as_deref().unwrap_or("MISSING"));
        }
        for problem in &pool.problems {
            let _ = writeln!(out, "  {problem}");
        }
    }
    out
}
