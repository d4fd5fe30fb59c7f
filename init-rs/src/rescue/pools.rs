//! The pools on the disks, read from their labels: that works without the zfs module.

use crate::pools::Scanner;
use crate::sys::System;
use crate::zfs::assemble::assemble;
use std::fmt::Write as _;

/// Those on the disks, as text.
pub(super) fn text(system: &dyn System) -> String {
    let mut scanner = Scanner::new();
    scanner.update(system);
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
