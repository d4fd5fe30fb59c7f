//! Finding the pool: labels as devices appear, TRYIMPORT for what is complete, patience for what is not.

use super::candidate::Watched;
use super::facts::{leaf_text, missing_text};
use super::failure::Failure;
use super::scan::Scanner;
use super::{Boot, MODULE_POLL};
use crate::cmdline::{Request, Selector};
use crate::plan::facts::{Health, PoolFact};
use crate::plan::select::{Choice, choose};
use crate::zfs::assemble::{Candidate, assemble};
use crate::zfs::label::PoolState;
use crate::zfs::nvlist::NvList;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two status lines while waiting.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Longest sleep: block devices are looked at again even if an event was missed.
const POLL: Duration = Duration::from_secs(1);
/// What may still come within this time of a quiet machine counts before `AUTO` settles for what is there.
const QUIET: Duration = Duration::from_millis(300);

/// A pool that can be imported.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) choice: Choice,
    /// TRYIMPORT's reply and the label's hostid pair; `None` if the pool is imported already.
    pub(super) config: Option<NvList>,
    /// `bootfs` as far as known.
    pub(super) bootfs: Option<String>,
}

impl Boot<'_> {
    /// Waits until the pool that the request means can be imported. Labels are read while the zfs module, which takes
    /// longest, is still initialising.
    pub(super) fn find_pool(&mut self) -> Result<Found, Failure> {
        let mut deadline = deadline_in(self.request.wait.value);
        let mut watched: BTreeMap<u64, Watched> = BTreeMap::new();
        let mut scanner = Scanner::default();
        let mut module_ready = false;
        let mut last_change = Instant::now();
        let mut last_status = Instant::now();
        loop {
            if scanner.update(self.system) {
                last_change = Instant::now();
            }
            let labels = scanner.seen();
            let mut candidates = assemble(&labels);
            candidates.retain(|c| c.state != PoolState::Destroyed);
            if !module_ready {
                module_ready = self.zfs_ready()?;
                if module_ready {
                    // The time to wait is for disks: what the module's own start took does not count.
                    deadline = deadline_in(self.request.wait.value);
                }
            }
            let now = Instant::now();
            let late = now >= deadline;
            if module_ready {
                let quiet = last_change.elapsed() >= QUIET && self.hardware.settled();
                let imported = self.imported_facts();
                candidates.retain(|c| imported.iter().all(|pool| pool.guid != c.guid));
                for candidate in candidates.iter_mut().filter(|c| wanted(&self.request, c)) {
                    let entry = watched.entry(candidate.guid).or_insert(Watched { since: now, tried: None });
                    self.try_candidate(candidate, &labels, entry, late, quiet);
                }
                let facts = self.facts(imported, &candidates, &watched);
                let chosen = choose(&self.request, &facts, &self.image.pools);
                self.report.pools = facts;
                match chosen {
                    Ok(choice) if late || self.enough(&choice, &candidates, &watched, quiet) => {
                        return Ok(found(choice, &mut watched, &self.report.pools));
                    }
                    Err(no) if late || (quiet && (!no.retry || self.hopeless(&candidates, &watched))) => {
                        return Err(Failure::NoRoot {
                            message: no.message,
                            seen: seen(&candidates, &watched, &scanner),
                        });
                    }
                    _ => {}
                }
            }
            if last_status.elapsed() >= STATUS_EVERY {
                last_status = now;
                self.status(&candidates, module_ready, deadline);
            }
            // While the module starts it is the module that is waited for, a moment at a time: see `zfs_ready`.
            let nap = if module_ready { self.nap(&watched, deadline, last_change) } else { Duration::ZERO };
            for name in self.hardware.wait_change(nap).added {
                scanner.forget(&name);
            }
        }
    }

    /// Whether to stop waiting and take the choice: every vdev there, or the grace time for the missing ones over. A choice
    /// that a later pool could better is taken only at the deadline.
    fn enough(&self, choice: &Choice, candidates: &[Candidate], watched: &BTreeMap<u64, Watched>, quiet: bool) -> bool {
        // A pool that nobody named, neither the user nor the packer, may not be the only one: which of several boots must
        // not depend on the order in which disks wake up.
        let named =
            !self.automatic() || self.image.pools.iter().any(|p| p.guid == choice.guid || p.name == choice.pool);
        let grace_over = watched.get(&choice.guid).is_none_or(|w| self.grace_over(w));
        if choice.better.is_some() || !(named || quiet || grace_over) {
            return false;
        }
        let Some(candidate) = candidates.iter().find(|c| c.guid == choice.guid) else { return true };
        choice.health == Health::Online || candidate.missing().next().is_none() || grace_over
    }

    /// Whether missing members of a pool have been waited for long enough.
    pub(super) fn grace_over(&self, watched: &Watched) -> bool {
        self.request.degraded.value.is_some_and(|grace| watched.since.elapsed() >= grace)
    }

    /// Whether the named pool is there, and is in a state that no further disk changes (unsupported features, in use by
    /// another host).
    fn hopeless(&self, candidates: &[Candidate], watched: &BTreeMap<u64, Watched>) -> bool {
        if self.automatic() {
            return false;
        }
        let mut named = candidates.iter().filter(|c| wanted(&self.request, c)).peekable();
        let final_word = |c: &Candidate| {
            let tried = watched.get(&c.guid).and_then(|w| w.tried.as_ref());
            tried.is_some_and(|t| t.judgement.health == Health::Unavailable && !t.judgement.wait_helps)
        };
        named.peek().is_some() && named.all(final_word)
    }

    /// How long nothing needs to be done unless a device appears.
    fn nap(&self, watched: &BTreeMap<u64, Watched>, deadline: Instant, last_change: Instant) -> Duration {
        let grace =
            watched.values().filter_map(|w| Some(self.request.degraded.value?.saturating_sub(w.since.elapsed())));
        // Drivers that are loading tell of themselves only by the devices they bring.
        let settling = if self.hardware.settled() { QUIET.saturating_sub(last_change.elapsed()) } else { MODULE_POLL };
        let events = [settling, deadline.saturating_duration_since(Instant::now())];
        grace.chain(events).filter(|d| !d.is_zero()).min().unwrap_or(POLL).min(POLL)
    }

    /// The line that says what is awaited.
    fn status(&self, candidates: &[Candidate], module_ready: bool, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now()).as_secs();
        if !module_ready {
            self.log.info("waiting for the zfs module to start");
            return;
        }
        let incomplete: Vec<String> = candidates
            .iter()
            .filter(|c| wanted(&self.request, c) && c.missing().next().is_some())
            .map(|c| format!("pool {}: {}", c.name, missing_text(c)))
            .collect();
        let what = if incomplete.is_empty() { "a pool to boot from".to_owned() } else { incomplete.join("; ") };
        self.log.warn(format!("waiting for {what} ({left} s left)"));
    }
}

/// The end of a wait; for ever is thirty years.
fn deadline_in(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now + Duration::from_secs(1_000_000_000))
}

/// Whether the request can mean this pool; others are left alone.
fn wanted(request: &Request, candidate: &Candidate) -> bool {
    match &request.root.value {
        Selector::Auto => true,
        Selector::Pool(pool) | Selector::Dataset { pool, .. } => {
            *pool == candidate.name || *pool == candidate.guid.to_string()
        }
        Selector::Unusable(_) => false,
    }
}

fn found(choice: Choice, watched: &mut BTreeMap<u64, Watched>, facts: &[PoolFact]) -> Found {
    let config = watched.remove(&choice.guid).and_then(|w| w.tried).and_then(|t| t.reply);
    let bootfs = facts.iter().find(|f| f.guid == choice.guid).and_then(|f| f.bootfs.clone());
    Found { choice, config, bootfs }
}

/// Everything on the disks, for the explanation.
fn seen(candidates: &[Candidate], watched: &BTreeMap<u64, Watched>, scanner: &Scanner) -> Vec<String> {
    let mut lines = Vec::new();
    for candidate in candidates {
        let judgement = watched.get(&candidate.guid).and_then(|w| w.tried.as_ref()).map(|t| &t.judgement);
        let state = match judgement {
            None => missing_text(candidate),
            Some(judgement) => judgement.to_string(),
        };
        lines.push(format!("pool {} (guid {}): {state}", candidate.name, candidate.guid));
        lines.extend(candidate.missing().map(|leaf| format!("  missing {}", leaf_text(leaf))));
        lines.extend(candidate.problems.iter().map(|p| format!("  {p}")));
        for leaf in &candidate.leaves {
            if let Some(device) = &leaf.device {
                lines.push(format!("  {device} is {}", leaf_text(leaf)));
            }
        }
    }
    if candidates.is_empty() {
        lines.push("no disk with a label of a pool".to_owned());
    }
    lines.extend(scanner.problems());
    lines
}
