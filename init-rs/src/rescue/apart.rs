//! Whether the imported pools answer, tried by a process of its own: whoever asks a pool for what only a disk holds that is
//! gone waits for ever, and that must not be PID 1. What this process was told the kernel then has at hand.

use super::{choose, key, mounted, save};
use crate::pools::waits;
use crate::report::log::Log;
use crate::sys::consoles::Secret;
use crate::sys::{Ended, Program, System};
use crate::zfs::ioctl::Zfs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

/// How long the pools may take; thousands of datasets take seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// What the process is called with.
pub(super) const WORD: &str = "try-pools";

/// What the process is called with that does one of [`TOUCHING`] or [`PARTS`].
pub(super) const DO: &str = "do-word";
/// Words that touch what is on a disk.
pub(super) const TOUCHING: [&str; 5] = ["ls", "cat", "mount", "umount", "clear"];
/// What other words do on a disk. Nobody types these: people are asked, and drivers loaded, by whoever is at the prompt.
const PARTS: [Part; 4] = [choose::LOOK, save::SAVE, key::READ, key::LOAD];
/// As much of what it says is shown.
const SAID: usize = 128 << 10;

/// A part of a word that is done apart.
pub(super) struct Part {
    pub(super) name: &'static str,
    /// Does it; what is given back goes to whoever called, and is shown to nobody.
    pub(super) work: fn(&dyn System, &Log, &[&str]) -> Result<Secret, String>,
    /// Where it mounts something for the moment.
    pub(super) mounts: Option<&'static str>,
    /// How long it may take.
    pub(super) patience: Duration,
}

/// Why there is no result.
enum Lost {
    /// It failed, and said so.
    Failed(String),
    /// It did not come to an end: why, and whether it is left behind.
    Gone(String, bool),
}

fn child(system: &dyn System, name: &str, rest: &[&str], patience: Duration) -> Result<Secret, Lost> {
    let args = [DO, name].iter().chain(rest).map(|arg| (*arg).to_owned()).collect();
    let program =
        Program { path: "/proc/self/exe".into(), name: Some("taproot-init".to_owned()), args, ..Program::default() };
    let finished = system.run(&program, Some(patience), SAID, &mut || false);
    let finished = finished.map_err(|e| Lost::Gone(format!("no process could be started for it: {e}"), false))?;
    let said = || String::from_utf8_lossy(&finished.output).into_owned();
    match finished.ended {
        Ended::Exit(0) => Ok(finished.output),
        Ended::Exit(_) => Err(Lost::Failed(said())),
        // One that waits for a disk cannot be killed: it is left behind.
        Ended::Late | Ended::Stopped => {
            let seconds = patience.as_secs();
            let why = "a disk may be dying. It is not waited for any longer; reboot works";
            Err(Lost::Gone(format!("no answer for {seconds} s: {why}"), true))
        }
        Ended::Signal(signal) => Err(Lost::Gone(format!("{}ended by signal {signal}", said()), false)),
    }
}

/// Does a word in a process of its own, on whose disk PID 1 might wait for ever; what it says, as a failure if it is one.
pub(super) fn do_word(system: &dyn System, name: &str, rest: &[&str]) -> Result<String, String> {
    match child(system, name, rest, PATIENCE) {
        Ok(said) => Ok(String::from_utf8_lossy(&said).into_owned()),
        Err(Lost::Failed(said)) => Err(said),
        Err(Lost::Gone(why, _)) => Err(format!("{name}: {why}\n")),
    }
}

/// Does a part of a word: in a process of its own, unless this is one that may wait.
pub(super) fn do_part(system: &dyn System, log: &Log, part: &Part, args: &[&str]) -> Result<Secret, String> {
    if !system.is_init() {
        return (part.work)(system, log, args);
    }
    child(system, part.name, args, part.patience).map_err(|lost| match lost {
        Lost::Failed(said) => said,
        Lost::Gone(why, left) => {
            // It was only for the moment.
            if let Some(at) = part.mounts.filter(|_| left) {
                let _ = do_word(system, "umount", &[at]);
            }
            why
        }
    })
}

/// What the process does that was called for a part; `None`: there is no such part.
pub(super) fn part(system: &dyn System, log: &Log, name: &str, args: &[&str]) -> Option<i32> {
    let part = PARTS.iter().find(|part| part.name == name)?;
    let (said, status) = match (part.work)(system, log, args) {
        Ok(result) => (result, 0),
        Err(why) => (why.into_bytes().into(), 1),
    };
    Some(if io::stdout().write_all(&said).and_then(|()| io::stdout().flush()).is_ok() { status } else { 1 })
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
