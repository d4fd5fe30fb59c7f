//! Whether the imported pools answer, tried by a process of its own: whoever asks a pool for what only a disk holds that is
//! gone waits for ever, and that must not be PID 1. What this process was told the kernel then has at hand.

use super::mounted;
use crate::pools::waits;
use crate::sys::{Ended, Program, System};
use crate::zfs::ioctl::Zfs;
use std::path::Path;
use std::time::Duration;

/// How long the pools may take; thousands of datasets take seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the process is called with.
pub(super) const WORD: &str = "try-pools";

/// What the process is called with that does one of [`TOUCHING`], and the words themselves: they touch what is on a disk.
pub(super) const DO: &str = "do-word";
pub(super) const TOUCHING: [&str; 5] = ["ls", "cat", "mount", "umount", "clear"];
/// As much of what it says is shown.
const SAID: usize = 128 << 10;

/// Does a word in a process of its own, on whose disk PID 1 might wait for ever; what it says, as a failure if it is one.
pub(super) fn do_word(system: &dyn System, name: &str, rest: &[&str]) -> Result<String, String> {
    let args = [DO, name].iter().chain(rest).map(|arg| (*arg).to_owned()).collect();
    let program =
        Program { path: "/proc/self/exe".into(), name: Some("taproot-init".to_owned()), args, ..Program::default() };
    let finished = system.run(&program, Some(PATIENCE), SAID, &mut || false);
    let finished = finished.map_err(|e| format!("{name}: no process could be started for it: {e}\n"))?;
    let said = String::from_utf8_lossy(&finished.output).into_owned();
    match finished.ended {
        Ended::Exit(0) => Ok(said),
        Ended::Exit(_) => Err(said),
        // One that waits for a disk cannot be killed: it is left behind.
        Ended::Late | Ended::Stopped => Err(format!(
            "{name}: no answer for {} s: a disk may be dying. It is not waited for any longer; reboot works\n",
            PATIENCE.as_secs()
        )),
        Ended::Signal(signal) => Err(format!("{said}{name}: ended by signal {signal}\n")),
    }
}

/// Makes sure that questions to the imported pools come back, but for those that wait for a disk: they are not to be asked. A
/// program of the shell is a process of its own already.
pub(super) fn pools_answer(system: &dyn System) -> Result<(), String> {
    if !system.is_init() || Zfs::new(system).imported_pools().unwrap_or_default().is_empty() {
        return Ok(());
    }
    let name = Some("taproot-init".to_owned());
    // Not by its own path: after a hand-over that failed nothing is there.
    let program = Program { path: "/proc/self/exe".into(), name, args: vec![WORD.to_owned()], ..Program::default() };
    match system.run(&program, Some(PATIENCE), 0, &mut || false) {
        // One that waits for a disk cannot be killed: it is left behind.
        Ok(finished) if finished.ended == Ended::Late => Err(format!(
            "no pool has answered for {} s: one of them waits for its disks; reboot works",
            PATIENCE.as_secs()
        )),
        // Without it, as before: the pools are asked.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What the process does.
pub(super) fn try_pools(system: &dyn System) {
    let zfs = Zfs::new(system);
    for (pool, _) in zfs.imported_pools().unwrap_or_default() {
        if waits(system, &pool).is_none() {
            let _ = zfs.bootfs(&pool);
            let _ = zfs.datasets(&pool);
        }
    }
}

/// Why a file must not be read: it lies in a dataset of a pool that waits for a disk.
pub(super) fn unreadable(system: &dyn System, path: &Path) -> Option<String> {
    let mounts = mounted::all(system);
    let pool = mounted::over(&mounts, path)?.pool()?;
    waits(system, pool).map(|waits| format!("{} is on pool {pool}, which {waits}", path.display()))
}
