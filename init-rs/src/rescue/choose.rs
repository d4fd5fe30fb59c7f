//! The roots that could be booted, as a list to choose from.

use super::Scene;
use super::talk::Talk;
use crate::plan::facts::{Dataset, PoolFact};
use crate::plan::from_zfs;
use crate::plan::roots::{RootCandidate, candidates};
use crate::sys::System;
use crate::zfs::ioctl::Zfs;
use std::fmt::Write as _;
use std::time::Duration;

/// Every root of the imported pools, then the bootfs of pools that were seen and can be imported.
pub(super) fn roots(system: &dyn System, seen: &[PoolFact], current: Option<&str>) -> Vec<RootCandidate> {
    let zfs = Zfs::new(system);
    let imported = zfs.imported_pools().unwrap_or_default();
    let mut roots = Vec::new();
    for (pool, _) in &imported {
        let all: Vec<Dataset> =
            zfs.datasets(pool).unwrap_or_default().iter().map(|o| from_zfs::dataset(o, true)).collect();
        roots.extend(candidates(&all, zfs.bootfs(pool).ok().flatten().as_deref(), current));
    }
    for pool in seen.iter().filter(|p| imported.iter().all(|(_, guid)| *guid != p.guid) && p.problem.is_none()) {
        if let Some(bootfs) = &pool.bootfs {
            roots.push(RootCandidate {
                dataset: bootfs.clone(),
                why: "bootfs, not imported yet".into(),
                locked: false,
            });
        }
    }
    roots
}

/// Whether a dataset of an imported pool waits for its key.
pub(super) fn key_missing(zfs: Zfs<'_>) -> bool {
    let locked = |pool: &(String, u64)| {
        let all = zfs.datasets(&pool.0).unwrap_or_default();
        all.iter().any(|o| from_zfs::dataset(o, true).key_available == Some(false))
    };
    zfs.imported_pools().unwrap_or_default().iter().any(locked)
}

/// The list, with the number of each; `mark` is the one that is booted if nothing else is said.
fn list(roots: &[RootCandidate], mark: Option<&str>) -> String {
    let mut text = String::from("\n");
    for (at, root) in roots.iter().enumerate() {
        let star = if Some(root.dataset.as_str()) == mark { '*' } else { ' ' };
        let locked = if root.locked { ", key not loaded" } else { "" };
        let _ = writeln!(text, " {star}{:>2}  {}  ({}{locked})", at + 1, root.dataset, root.why);
    }
    text.push('\n');
    text
}

/// The root or snapshot that was typed: a number of the list or a name.
fn typed(answer: &str, roots: &[RootCandidate]) -> Result<String, String> {
    match answer.parse::<usize>() {
        Ok(number) => match number.checked_sub(1).and_then(|at| roots.get(at)) {
            Some(root) => Ok(root.dataset.clone()),
            None => Err(format!("{number}: expected a number from 1 to {}", roots.len())),
        },
        Err(_) => Ok(answer.to_owned()),
    }
}

/// Lets a person choose; `None` if nothing was chosen.
pub(super) fn ask(talk: &mut Talk, roots: &[RootCandidate]) -> Option<String> {
    if roots.is_empty() {
        talk.say("no root was found in the imported pools; `pools` lists what is on the disks\n");
        return None;
    }
    talk.page(&list(roots, None));
    let answer = talk.ask("Which one? Number, or name, or name@snapshot; Enter for none: ")?;
    if answer.is_empty() {
        return None;
    }
    typed(&answer, roots).map_err(|e| talk.say(&format!("{e}\n"))).ok()
}

/// The menu that `taproot.menu` asks for: `current` is booted when nothing is typed in time. Returns another root that
/// was chosen.
pub fn offer(scene: &Scene<'_>, current: &str, countdown: Option<Duration>) -> Option<String> {
    let mut talk = Talk::on_consoles();
    let roots = roots(scene.system, scene.pools, Some(current));
    talk.say("\ntaproot: which root is to be booted?\n");
    talk.say(&list(&roots, Some(current)));
    let when = countdown.map_or_else(String::new, |time| format!(", also after {} s", time.as_secs()));
    let question = format!("Number or name[@snapshot]; Enter boots {current}{when}: ");
    loop {
        let answer = talk.ask_for(&question, countdown);
        if answer.is_empty() {
            return None;
        }
        match typed(&answer, &roots) {
            Ok(name) if name == current => return None,
            Ok(name) => return Some(name),
            Err(e) => talk.say(&format!("{e}\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names() {
        let root = |name: &str| RootCandidate { dataset: name.into(), why: "a root".into(), locked: false };
        let roots = [root("t/a"), root("t/b")];
        assert_eq!(typed("2", &roots), Ok("t/b".into()));
        assert_eq!(typed("t/c@s", &roots), Ok("t/c@s".into()));
        assert!(typed("3", &roots).is_err() && typed("0", &roots).is_err());
        assert!(list(&roots, Some("t/b")).contains(" * 2  t/b"));
    }
}
