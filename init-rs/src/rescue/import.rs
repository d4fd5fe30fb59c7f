//! The word `import`: a pool by hand, in ways that a boot does not choose by itself.

use super::desk::Desk;
use super::{hands, save};
use crate::devices::known::Hardware;
use crate::plan::candidates::{fact, labels, leftovers};
use crate::plan::facts::{Health, PoolFact};
use crate::pools::{ImportError, ImportRequest, Pools, own_hostid};
use crate::sys::System;
use crate::zfs::assemble::{Candidate, Seen, assemble, aux_devices};
use crate::zfs::ioctl::Zfs;
use crate::zfs::label::PoolState;
use crate::zfs::rewind::{Earlier, Rewind};
use std::path::Path;
use std::time::Duration;

/// The module's device; there when it has started.
const DEVICE: &str = "/dev/zfs";
/// How long a module is waited for that is still starting: a boot that stops early is faster than it.
const PATIENCE: Duration = Duration::from_secs(60);
const TURN: Duration = Duration::from_millis(100);
/// Between two lines that say what is awaited.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// How a pool is imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ways {
    read_only: bool,
    missing_log: bool,
    back: Option<Back>,
}

/// To which older state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    /// The checkpoint.
    Checkpoint,
    /// The newest that can be loaded.
    Loadable,
}

impl Ways {
    fn parse<'w>(words: impl Iterator<Item = &'w str>) -> Result<Self, String> {
        let mut ways = Self::default();
        for word in words {
            match word {
                "ro" => ways.read_only = true,
                "missing-log" => ways.missing_log = true,
                "checkpoint" | "rewind" if ways.back.is_some() => {
                    return Err("expected one of checkpoint and rewind, found two".to_owned());
                }
                "checkpoint" => ways.back = Some(Back::Checkpoint),
                "rewind" => ways.back = Some(Back::Loadable),
                _ => return Err(format!("{word}: expected ro, missing-log, checkpoint or rewind")),
            }
        }
        Ok(ways)
    }

    /// What cannot be taken back, or may hurt another system, a line each. `resume`, `read_only`: the words that say that a
    /// hibernated system may wait, and that nothing is to be written.
    fn dangers(self, pool: &PoolFact, resume: Option<&str>, read_only: Option<&str>) -> Vec<String> {
        let mut dangers = Vec::new();
        if self.read_only {
            return dangers;
        }
        let name = &pool.name;
        if let Some(word) = read_only {
            dangers.push(format!("{word} says that nothing is to be written; this makes pool {name} writable."));
        }
        if let Some(whose) = &pool.foreign {
            dangers.push(format!("Pool {name} was {whose}. If that system runs, importing it here destroys the pool."));
        }
        if let Some(doubt) = &pool.doubt {
            dangers.push(format!("{}. Writing to pool {name} may destroy what is there now.", doubt.text));
        }
        if self.back == Some(Back::Checkpoint) {
            dangers.push(format!("All that was written to pool {name} since its checkpoint will be lost."));
        }
        if self.missing_log {
            dangers.push(format!("Without its log device pool {name} loses the last synchronous writes."));
        }
        if let Some(word) = resume {
            dangers.push(format!("If a hibernated system waits at {word}, resuming it later would destroy the pool."));
        }
        dangers
    }
}

/// Pools on the disks that are not imported.
fn candidates(system: &dyn System, hardware: &Hardware) -> (Vec<Candidate>, Vec<Seen>) {
    let imported = Zfs::new(system).imported_pools().unwrap_or_default();
    let seen = labels(hardware, None, None);
    let mut candidates = assemble(&seen);
    candidates.retain(|c| c.state != PoolState::Destroyed && imported.iter().all(|(_, guid)| *guid != c.guid));
    (candidates, seen)
}

/// Whether there is a pool to import, as far as is known, and a module that could.
pub(super) fn possible(system: &dyn System, hardware: &Hardware) -> bool {
    Zfs::new(system).imported_pools().is_ok() && !candidates(system, hardware).0.is_empty()
}

/// The word.
pub(super) fn run(desk: &mut Desk<'_>, rest: &[&str]) -> Result<(), String> {
    await_module(desk, PATIENCE)?;
    hands::read_all(desk.system, desk.hands);
    let (mut candidates, seen) =
        desk.asking("asking for the imported pools", |system| candidates(system, desk.hands.borrow().hardware()));
    let lines: Vec<String> = candidates.iter().map(|c| format!("  {} (guid {})\n", c.name, c.guid)).collect();
    let known = lines.concat();
    if candidates.is_empty() {
        return Err("no pool is left to be imported; `pools` lists what is on the disks".to_owned());
    }
    let mut typed = rest.join(" ");
    if typed.is_empty() {
        desk.talk.say(&format!("pools that are not imported:\n{known}"));
        typed = desk.talk.ask("Which one? Name or guid; Enter for none: ").unwrap_or_default();
        if typed.is_empty() {
            return Ok(());
        }
        let how = "How? Enter: writable, as a boot does it; or words:\n  ro           nothing is written\n  \
                   missing-log  without its log device\n  checkpoint   back to its checkpoint\n  rewind       \
                   where it cannot be imported: back to a state that can; asks first\n: ";
        typed = format!("{typed} {}", desk.talk.ask(how).unwrap_or_default());
    }
    let mut words = typed.split_whitespace();
    let wanted = words.next().unwrap_or_default();
    let ways = Ways::parse(words)?;
    let matching = |c: &Candidate| c.name == wanted || c.guid.to_string() == wanted;
    if candidates.iter().filter(|c| matching(c)).count() > 1 {
        return Err(format!("several pools are called {wanted}; name it by its guid:\n{known}"));
    }
    let candidate = candidates.iter_mut().find(|c| matching(c));
    let candidate = candidate.ok_or_else(|| format!("pool {wanted} was not found; not imported are:\n{known}"))?;
    import(desk, candidate, &seen, ways)?;
    desk.talk.say(&desk.imported());
    Ok(())
}

fn await_module(desk: &Desk<'_>, patience: Duration) -> Result<(), String> {
    let start = desk.system.now();
    let mut told: Option<Duration> = None;
    while !desk.system.exists(Path::new(DEVICE)) {
        let now = desk.system.now();
        if now.saturating_sub(start) >= patience {
            return Err(format!("there is no {DEVICE}: the zfs module has not started; `log` may say why"));
        }
        if told.is_none_or(|told| now.saturating_sub(told) >= STATUS_EVERY) {
            told = Some(now);
            desk.talk.say("waiting for the zfs module\n");
        }
        desk.system.sleep(TURN);
    }
    Ok(())
}

fn import(desk: &mut Desk<'_>, candidate: &mut Candidate, seen: &[Seen], ways: Ways) -> Result<(), String> {
    let mut silent = hands::silent(desk.system, desk.hands.borrow().hardware());
    silent.extend(leftovers(seen).map(str::to_owned));
    let pools = Pools::new(desk.system, desk.log, desk.phases).without(&silent);
    let tried = pools.open(candidate, &aux_devices(seen));
    let pool = fact(candidate, Some(&tried.judgement), own_hostid(desk.system));
    if candidate.is_ambiguous() {
        return Err(format!("{}; detach all but one of them", pool.problem.unwrap_or_default()));
    }
    // Read-only, or without its log, the kernel may take a pool that it would not open as it is.
    let config = match tried.reply {
        Some(config) if pool.health != Health::Unavailable || ways != Ways::default() => config,
        _ => {
            let older = if tried.judgement.damaged {
                format!("; whether an older state can be loaded says: import {} rewind", pool.name)
            } else {
                String::new()
            };
            return Err(format!("pool {} cannot be imported: {}{older}", pool.name, tried.judgement));
        }
    };
    if let (Some(why), false) = (&pool.unwritable, ways.read_only) {
        return Err(format!("{why}; it can be imported with: import {} ro", pool.name));
    }
    if let (Some(log), false) = (&pool.missing_log, ways.missing_log) {
        return Err(format!("its log device is missing ({log}); to do without: import {} missing-log", pool.name));
    }
    let Ways { read_only, missing_log, back } = ways;
    let (checkpoint, rewind) = (back == Some(Back::Checkpoint), back == Some(Back::Loadable));
    let (name, guid) = (&pool.name, pool.guid);
    let request = ImportRequest { pool: name, guid, config: &config, read_only, missing_log, checkpoint, rewind: None };
    let (resume, forbidden) = (desk.may_resume(), &desk.request.import.read_only);
    let forbidden = forbidden.value.then(|| forbidden.why.clone());
    let mut dangers = ways.dangers(&pool, resume.as_deref(), forbidden.as_deref());
    if rewind {
        desk.talk.say(&format!("asking the kernel how far pool {name} would go back; nothing is written\n"));
        let lost = lost(name, &look_back(pools, request)?);
        if read_only {
            desk.talk.say(&format!("{lost}\nRead-only nothing is lost: this shows what would be left.\n"));
        } else {
            let missing: Vec<&str> = candidate.missing().filter_map(|leaf| leaf.recorded_path.as_deref()).collect();
            let disks = format!(
                "\nFirst of all attach what is missing ({}): the newest state may be there.",
                missing.join(", ")
            );
            dangers.push(if missing.is_empty() { lost } else { lost + &disks });
        }
    }
    for danger in dangers {
        if !desk.talk.confirm(&danger) {
            return Err("nothing was done".to_owned());
        }
    }
    let rewind = rewind.then_some(Rewind::Do);
    pools.import(&ImportRequest { rewind, ..request }).map_err(|e| told(&e))
}

/// An import that failed, with everything that the kernel named.
fn told(error: &ImportError) -> String {
    let lines = error.detail.iter().chain(&error.advice).map(|line| format!("\n  {line}"));
    format!("{error}{}", lines.collect::<String>())
}

/// How far the kernel would take the pool back. It is asked by a read-only import, which fails if there is a reason to go back;
/// TRYIMPORT does not look so far.
fn look_back(pools: Pools<'_>, request: ImportRequest<'_>) -> Result<Earlier, String> {
    let name = request.pool;
    let Err(e) = pools.import(&ImportRequest { read_only: true, rewind: Some(Rewind::Try), ..request }) else {
        let left =
            pools.export(name).map_or_else(|e| format!("; it is imported read-only now ({e})"), |()| String::new());
        return Err(format!(
            "pool {name} can be imported as it is (tried read-only), so it is not taken back: import {name}{left}"
        ));
    };
    match &e.earlier {
        Some(earlier) => Ok(**earlier),
        None => {
            Err(told(&ImportError { advice: vec!["an older state of it cannot be loaded either".to_owned()], ..e }))
        }
    }
}

/// What going back means.
fn lost(name: &str, earlier: &Earlier) -> String {
    let later = match earlier.loss {
        Some(loss) if loss.is_zero() => "in the second after that".to_owned(),
        Some(loss) if loss < Duration::from_secs(120) => format!("in the {} s after that", loss.as_secs()),
        Some(loss) => format!("in the {} minutes after that", loss.as_secs().div_ceil(60)),
        None => "after that".to_owned(),
    };
    let errors = match earlier.data_errors {
        0 => String::new(),
        n => format!(" Even so {n} block(s) of files cannot be read."),
    };
    format!(
        "The newest state of pool {name} cannot be loaded; that of {} can.\nAll that was written {later} will be lost.{errors}",
        save::moment(earlier.time)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_and_their_dangers() {
        let ways = |text: &str| Ways::parse(text.split_whitespace());
        assert!(ways("rw").is_err());
        let pool = PoolFact { foreign: Some("last used by x".into()), ..PoolFact::named("tank", 7) };
        assert_eq!(ways("").unwrap().dangers(&PoolFact::named("tank", 7), None, None), [""; 0]);
        let asked = |text: &str| ways(text).unwrap().dangers(&pool, Some("resume=/dev/x"), Some("taproot.import=ro"));
        assert!(ways("rewind checkpoint").is_err());
        assert_eq!(asked("missing-log checkpoint").len(), 5);
        assert!(asked("")[0].starts_with("taproot.import=ro says"), "{:?}", asked(""));
        assert_eq!(asked("checkpoint ro missing-log").len(), 0);
    }

    #[test]
    fn what_going_back_means() {
        let lost = |seconds: Option<u64>, data_errors| {
            let loss = seconds.map(Duration::from_secs);
            super::lost("tank", &Earlier { time: 1_795_247_112, loss, data_errors })
        };
        assert_eq!(
            lost(Some(5), 0),
            "The newest state of pool tank cannot be loaded; that of 2026-11-21 07:45:12 UTC can.\nAll that was written in the \
             5 s after that will be lost."
        );
        assert!(
            lost(Some(121), 2)
                .ends_with("in the 3 minutes after that will be lost. Even so 2 block(s) of files cannot be read.")
        );
        assert!(lost(None, 0).ends_with("All that was written after that will be lost."));
    }
}
