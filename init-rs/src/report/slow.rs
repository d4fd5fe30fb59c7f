//! Mounts that take long: a disk spins up, a log is replayed. They are told of, so that they do not look like a hang.

use super::log::Log;
use crate::sys::System;
use std::io;
use std::path::Path;
use std::time::Duration;

const TICK: Duration = Duration::from_secs(1);
/// Between two lines, whatever the one before was about; with a tick it makes five seconds.
const EVERY: Duration = Duration::from_secs(4);

/// Mounts `what` (source, target, type), and says every few seconds that it is still going on.
pub fn mount(system: &dyn System, log: &Log, what: (&str, &Path, &str), flags: u64, data: &str) -> io::Result<()> {
    let (source, target, fstype) = what;
    let mut tell = |took: Duration| {
        if system.now().saturating_sub(log.last()) >= EVERY {
            log.warn(format!("mounting {source}: {} s so far", took.as_secs()));
        }
    };
    let mut result = Ok(());
    system.watched(TICK, &mut tell, &mut || result = system.mount(source, target, fstype, flags, data));
    result
}
