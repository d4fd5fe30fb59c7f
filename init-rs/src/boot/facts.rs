//! What was seen of the pools, as the plan and the explanation need it.

use super::Boot;
use super::candidate::Watched;
use crate::cmdline::Selector;
use crate::plan::facts::{Health, PoolFact};
use crate::zfs::assemble::{Candidate, Leaf};
use crate::zfs::ioctl::Zfs;
use crate::zfs::label::PoolState;
use std::collections::BTreeMap;

impl Boot<'_> {
    /// What the plan decides from: pools that are imported, and candidates.
    pub(super) fn facts(
        &self,
        mut facts: Vec<PoolFact>,
        candidates: &[Candidate],
        watched: &BTreeMap<u64, Watched>,
    ) -> Vec<PoolFact> {
        for candidate in candidates {
            let tried = watched.get(&candidate.guid).and_then(|w| w.tried.as_ref());
            let judgement = tried.map(|t| &t.judgement);
            let problem = match judgement {
                None => Some(missing_text(candidate)),
                Some(j) if j.health == Health::Unavailable => {
                    let missing: Vec<String> = candidate.missing().map(leaf_text).collect();
                    let list =
                        if missing.is_empty() { String::new() } else { format!("; missing: {}", missing.join(", ")) };
                    Some(format!("{}{list}", j.reason))
                }
                Some(_) if self.automatic() => {
                    self.foreign(candidate).map(|whose| format!("{whose}; name it on the command line to import it"))
                }
                Some(_) => None,
            };
            facts.push(PoolFact {
                name: candidate.name.clone(),
                guid: candidate.guid,
                bootfs: judgement.and_then(|j| j.bootfs.clone()),
                health: judgement.map_or(Health::Unavailable, |j| j.health),
                problem: problem.or_else(|| ambiguous(candidate)),
                exported: candidate.state == PoolState::Exported,
                hostid: candidate.hostid.and_then(|h| u32::try_from(h).ok()).unwrap_or(0),
                hostname: candidate.hostname.clone(),
            });
        }
        facts
    }

    /// Pools that are imported already: a second attempt after the rescue shell, or an import by hand.
    pub(super) fn imported_facts(&self) -> Vec<PoolFact> {
        let zfs = Zfs::new(self.system);
        let pools = zfs.imported_pools().unwrap_or_default();
        let fact = |(name, guid): (String, u64)| PoolFact {
            bootfs: zfs.bootfs(&name).ok().flatten(),
            name,
            guid,
            health: Health::Online,
            problem: None,
            exported: false,
            hostid: 0,
            hostname: None,
        };
        pools.into_iter().map(fact).collect()
    }

    /// Whose pool it is, if another system may still be using it. The kernel does not look at the hostid, so this is the
    /// only protection against taking a pool from another live host.
    pub(super) fn foreign(&self, candidate: &Candidate) -> Option<String> {
        let theirs = candidate.hostid.unwrap_or(0);
        let active = candidate.state == PoolState::Active;
        if !active || theirs == 0 || theirs == u64::from(self.hostid) {
            return None;
        }
        let host = candidate.hostname.as_deref().unwrap_or("unknown");
        let ours = self.hostid;
        Some(format!(
            "last used by another system, {host} (hostid {theirs:08x}, ours {ours:08x}), and not exported there"
        ))
    }

    /// Whether no pool is named. Naming one is the user's word that it is ours.
    pub(super) fn automatic(&self) -> bool {
        matches!(self.request.root.value, Selector::Auto)
    }
}

/// Several disks claim to be one member and nothing tells them apart: importing could destroy the newer copy.
fn ambiguous(candidate: &Candidate) -> Option<String> {
    let first = || candidate.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    candidate.is_ambiguous().then(first)
}

/// A member as its label knows it.
pub(super) fn leaf_text(leaf: &Leaf) -> String {
    format!("{} (guid {})", leaf.recorded_path.as_deref().unwrap_or("a vdev without a path"), leaf.guid)
}

/// What a candidate still lacks.
pub(super) fn missing_text(candidate: &Candidate) -> String {
    let mut parts: Vec<String> = candidate.missing().map(leaf_text).collect();
    match candidate.missing_tops() {
        0 => {}
        n => parts.push(format!("{n} top-level vdev(s) of which no disk was seen")),
    }
    if parts.is_empty() { "not opened yet".to_owned() } else { format!("missing: {}", parts.join(", ")) }
}
