//! What was seen of the pools, as the plan and the explanation need it.

use super::Pools;
use crate::plan::facts::{Health, PoolFact};
use crate::zfs::assemble::{Candidate, Leaf};
use crate::zfs::ioctl::Zfs;
use crate::zfs::judge::{Judgement, judge};
use crate::zfs::label::PoolState;

/// The problem of a pool that is complete but was not opened, because nobody asked for it.
pub const NOT_OPENED: &str = "not opened yet";

/// What the plan decides from: a candidate, and what the kernel said of it if it was opened.
pub fn fact(candidate: &Candidate, judgement: Option<&Judgement>, own_hostid: u32) -> PoolFact {
    let destroyed = candidate.state == PoolState::Destroyed;
    let problem = match judgement {
        _ if destroyed => None,
        _ if candidate.is_ambiguous() => Some(problems(candidate)),
        None => Some(missing_text(candidate)),
        Some(j) if j.health == Health::Unavailable => {
            let missing: Vec<String> = candidate.missing().map(leaf_text).collect();
            let list = if missing.is_empty() { String::new() } else { format!("; missing: {}", missing.join(", ")) };
            Some(format!("{}{list}", j.reason))
        }
        Some(_) => None,
    };
    PoolFact {
        name: candidate.name.clone(),
        guid: candidate.guid,
        bootfs: judgement.and_then(|j| j.bootfs.clone()),
        health: judgement.map_or(Health::Unavailable, |j| j.health),
        problem,
        exported: candidate.state == PoolState::Exported,
        hostid: candidate.hostid.and_then(|h| u32::try_from(h).ok()).unwrap_or(0),
        hostname: candidate.hostname.clone(),
        destroyed,
        foreign: foreign(candidate, own_hostid),
        missing_log: judgement.and_then(|j| (!j.missing_logs.is_empty()).then(|| j.missing_logs.join(", "))),
        unwritable: judgement.and_then(|j| j.unwritable.clone()),
    }
}

/// Whose pool it is, if another system may still be using it. The kernel does not look at the hostid, so this is the only
/// protection against taking a pool from another live host.
fn foreign(candidate: &Candidate, own: u32) -> Option<String> {
    let theirs = candidate.hostid.unwrap_or(0);
    if candidate.state != PoolState::Active || theirs == 0 || theirs == u64::from(own) {
        return None;
    }
    let host = candidate.hostname.as_deref().unwrap_or("unknown");
    let ours = if own == 0 { "this one has none".to_owned() } else { format!("this one's is {own:08x}") };
    Some(format!("last used by another system, {host} (hostid {theirs:08x}; {ours}), and not exported there"))
}

impl Pools<'_> {
    /// Pools that are imported already: a second attempt after the rescue, or an import by hand.
    pub fn imported(&self) -> Vec<PoolFact> {
        let zfs = Zfs::new(self.system);
        let fact = |(name, guid): (String, u64)| {
            let stats = zfs.pool_stats(&name).ok();
            let waits = super::waits(self.system, &name);
            PoolFact {
                // What a pool without its disks is asked for may never come.
                bootfs: if waits.is_some() { None } else { zfs.bootfs(&name).ok().flatten() },
                health: stats.as_ref().map_or(Health::Online, |s| judge(s).health),
                problem: waits.map(|waits| format!("it is imported, but {waits}")),
                ..PoolFact::named(name, guid)
            }
        };
        zfs.imported_pools().unwrap_or_default().into_iter().map(fact).collect()
    }
}

/// Everything that is odd about a candidate.
fn problems(candidate: &Candidate) -> String {
    candidate.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A member as its label knows it.
pub fn leaf_text(leaf: &Leaf) -> String {
    format!("{} (guid {})", leaf.recorded_path.as_deref().unwrap_or("a vdev without a path"), leaf.guid)
}

/// What a candidate still lacks.
pub fn missing_text(candidate: &Candidate) -> String {
    let mut parts: Vec<String> = candidate.missing().map(leaf_text).collect();
    match candidate.missing_tops() {
        0 => {}
        n => parts.push(format!("{n} top-level vdev(s) of which no disk was seen")),
    }
    if parts.is_empty() { NOT_OPENED.to_owned() } else { format!("missing: {}", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zfs::assemble::Problem;
    use crate::zfs::nvlist::NvList;

    fn candidate(state: PoolState, hostid: Option<u64>) -> Candidate {
        Candidate {
            guid: 7,
            name: "tank".into(),
            state,
            hostid,
            hostname: Some("elsewhere".into()),
            txg: 4,
            config: NvList::new(),
            leaves: vec![],
            problems: vec![],
        }
    }

    fn whose(state: PoolState, hostid: Option<u64>, own: u32) -> Option<String> {
        fact(&candidate(state, hostid), None, own).foreign
    }

    #[test]
    fn only_an_active_pool_of_another_hostid_is_foreign() {
        let text = whose(PoolState::Active, Some(0xabc), 1).unwrap();
        assert_eq!(
            text,
            "last used by another system, elsewhere (hostid 00000abc; this one's is 00000001), and not exported there"
        );
        assert!(whose(PoolState::Active, Some(0xabc), 0).unwrap().contains("this one has none"));
        assert_eq!(whose(PoolState::Active, Some(1), 1), None);
        assert_eq!(whose(PoolState::Active, Some(0), 1), None);
        assert_eq!(whose(PoolState::Active, None, 1), None);
        assert_eq!(whose(PoolState::Exported, Some(0xabc), 1), None);
        assert_eq!(whose(PoolState::Destroyed, Some(0xabc), 1), None);
    }

    #[test]
    fn states_and_copies() {
        let destroyed = fact(&candidate(PoolState::Destroyed, None), None, 1);
        assert!(destroyed.destroyed && destroyed.problem.is_none() && destroyed.health == Health::Unavailable);
        assert_eq!(fact(&candidate(PoolState::Active, None), None, 1).problem.unwrap(), "not opened yet");
        let mut twice = candidate(PoolState::Exported, None);
        let devices = vec!["/dev/a".into(), "/dev/b".into()];
        twice.problems.push(Problem::Duplicate { guid: 3, devices, decided: false });
        let fact = fact(&twice, None, 1);
        assert!(fact.problem.unwrap().contains("/dev/a and /dev/b carry the same label"));
        assert!(fact.exported);
    }
}
