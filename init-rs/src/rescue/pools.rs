//! The pools on the disks, read from their labels (that works without the zfs module), and importing one by hand.

use super::desk::Desk;
use super::status;
use crate::pools::{ImportRequest, Pools, Scanner};
use crate::report::log::Log;
use crate::report::phases::Phases;
use crate::sys::System;
use crate::zfs::assemble::{Candidate, Seen, assemble};
use crate::zfs::ioctl::Zfs;
use crate::zfs::judge::Health;
use crate::zfs::label::PoolState;
use std::fmt::Write as _;

fn scan(system: &dyn System) -> Scanner {
    let mut scanner = Scanner::new();
    scanner.update(system);
    scanner
}

/// Pools on the disks, then the imported ones.
pub(super) fn text(system: &dyn System) -> String {
    let scanner = scan(system);
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
    out + &status::imported(system)
}

fn not_imported(system: &dyn System) -> (Vec<Candidate>, Vec<Seen>) {
    let imported = Zfs::new(system).imported_pools().unwrap_or_default();
    let seen = scan(system).seen();
    let mut candidates = assemble(&seen);
    candidates.retain(|c| c.state != PoolState::Destroyed && imported.iter().all(|(_, guid)| *guid != c.guid));
    (candidates, seen)
}

/// Whether there is a pool to import, and a module that could.
pub(super) fn importable(system: &dyn System) -> bool {
    Zfs::new(system).imported_pools().is_ok() && !not_imported(system).0.is_empty()
}

/// How to import, in the words of the rescue.
#[derive(Debug, Clone, Copy, Default)]
struct How {
    read_only: bool,
    missing_log: bool,
    rewind: bool,
}

impl How {
    fn word(&mut self, word: &str) -> Result<(), String> {
        match word {
            "ro" => self.read_only = true,
            "missing-log" => self.missing_log = true,
            "checkpoint" => self.rewind = true,
            _ => return Err(format!("{word}: expected ro, missing-log or checkpoint")),
        }
        Ok(())
    }

    /// What cannot be taken back, if anything.
    fn loses(self) -> Option<&'static str> {
        match self {
            Self { read_only: true, .. } => None,
            Self { rewind: true, .. } => Some("everything written after the checkpoint is lost for good"),
            Self { missing_log: true, .. } => Some("what only the missing log device holds is lost"),
            Self { .. } => None,
        }
    }
}

/// The word `import`.
pub(super) fn import(desk: &mut Desk<'_>, rest: &[&str]) -> Result<(), String> {
    let (mut candidates, seen) = not_imported(desk.system);
    let known: Vec<String> = candidates.iter().map(|c| format!("  {} (guid {})\n", c.name, c.guid)).collect();
    let known = known.concat();
    let typed = match rest {
        [] => {
            desk.talk.say(&format!("pools that are not imported:\n{known}"));
            desk.talk.ask("Which pool, and how (nothing, ro, missing-log, checkpoint): ").unwrap_or_default()
        }
        words => words.join(" "),
    };
    let mut words = typed.split_whitespace();
    let Some(wanted) = words.next() else { return Ok(()) };
    let mut how = How::default();
    for word in words {
        how.word(word)?;
    }
    candidates.retain(|c| c.name == wanted || wanted == c.guid.to_string());
    let candidate = match candidates.as_mut_slice() {
        [candidate] => candidate,
        [] => return Err(format!("no such pool; not imported are:\n{known}")),
        _ => return Err(format!("several pools are called {wanted}; name it by its guid:\n{known}")),
    };
    if let Some(loses) = how.loses() {
        let question = format!("{loses}. Type yes to go on: ");
        if desk.talk.ask(&question).as_deref() != Some("yes") {
            return Err("nothing was done".to_owned());
        }
    }
    open_and_import(desk.system, candidate, &seen, how)?;
    desk.talk.say(&status::imported(desk.system));
    Ok(())
}

fn open_and_import(system: &dyn System, candidate: &mut Candidate, seen: &[Seen], how: How) -> Result<(), String> {
    let (log, phases) = (Log::new(), Phases::new());
    let pools = Pools::new(system, &log, &phases);
    let tried = pools.open(candidate, seen);
    // Read-only, or without its log, the kernel may take a pool that it would not open as it is.
    let bare = !(how.read_only || how.missing_log || how.rewind);
    let config = match &tried.reply {
        Some(reply) if !bare || tried.judgement.health != Health::Unavailable => reply,
        _ => return Err(format!("pool {}: {}", candidate.name, tried.judgement)),
    };
    let request = ImportRequest {
        pool: &candidate.name,
        guid: candidate.guid,
        config,
        read_only: how.read_only,
        missing_log: how.missing_log,
        rewind: how.rewind,
    };
    pools.import(&request).map_err(|e| [vec![e.to_string()], e.detail, e.advice].concat().join("\n  "))
}
