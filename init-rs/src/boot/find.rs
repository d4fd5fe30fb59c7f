//! Finding the pool: labels as devices appear, TRYIMPORT for what is complete, patience for what is not.

use super::failure::Failure;
use super::seen::{self, Watched};
use super::{Boot, MODULE_POLL};
use crate::cmdline::Selector;
use crate::plan::facts::{Health, PoolFact};
use crate::plan::select::{self, Choice, choose};
use crate::pools::{self, Pools, Scanner};
use crate::zfs::assemble::{Candidate, Seen, assemble, aux_devices};
use crate::zfs::nvlist::NvList;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two status lines while waiting.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Longest sleep: block devices are looked at again even if an event was missed.
const POLL: Duration = Duration::from_secs(1);
/// What may still come within this time of a quiet machine counts before `AUTO` settles for what is there.
const QUIET: Duration = Duration::from_millis(300);

/// How long the zfs module's own start may take; emulated machines need half a minute.
const MODULE_LIMIT: Duration = Duration::from_secs(300);

/// What is said of a zfs module that does not come to an end with its start; `None` while there is hope.
fn stuck(waited: Duration) -> Option<Failure> {
    let text = || format!("it is still starting after {} s; the kernel's log (log) may say why", waited.as_secs());
    (waited >= MODULE_LIMIT).then(|| Failure::Module(text()))
}

/// How long labels of new disks are waited for before anything else is done; one that is slower is looked for again soon.
const LABELS: Duration = Duration::from_secs(1);
const LABELS_AGAIN: Duration = Duration::from_millis(200);
/// A disk whose label takes longer is told of; one that takes this long is taken for missing.
const SLOW_DISK: Duration = Duration::from_secs(5);
const DEAD_DISK: Duration = Duration::from_secs(60);

/// A pool that can be imported.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) choice: Choice,
    /// TRYIMPORT's reply and the label's hostid pair; `None` if the pool is imported already.
    pub(super) config: Option<NvList>,
    /// `bootfs` as far as known.
    pub(super) bootfs: Option<String>,
}

/// The search under way.
struct Search {
    scanner: Scanner,
    watched: BTreeMap<u64, Watched>,
    /// `None`: for ever.
    deadline: Option<Instant>,
    last_change: Instant,
    last_look: Option<Instant>,
    last_status: Instant,
}

impl Search {
    fn late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline) && !self.reads_labels()
    }

    /// Whether there are disks whose labels may still come: they spin up, and are not missing.
    fn reads_labels(&self) -> bool {
        self.scanner.is_reading(DEAD_DISK)
    }

    /// Time to the deadline; `None`: for ever.
    fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

impl Boot<'_> {
    /// Waits until the pool that the request means can be imported. Labels are read while the zfs module, which takes
    /// longest, is still initialising.
    pub(super) fn find_pool(&mut self) -> Result<Found, Failure> {
        let (scanner, notes) = Scanner::only(&self.request.import.dirs);
        for note in &notes {
            self.log.warn(note);
        }
        let now = Instant::now();
        let mut search = Search {
            scanner,
            watched: BTreeMap::new(),
            deadline: now.checked_add(self.request.wait.value),
            last_change: now,
            last_look: None,
            last_status: now,
        };
        let mut module_ready = false;
        let mut nap = Duration::ZERO;
        loop {
            self.look(&mut search, nap);
            let labels = search.scanner.seen();
            let mut candidates = assemble(&labels);
            if !module_ready {
                module_ready = self.zfs_ready()?;
                if module_ready {
                    // The time to wait is for disks: what the module's own start took does not count.
                    search.deadline = Instant::now().checked_add(self.request.wait.value);
                } else if let Some(failure) = stuck(now.elapsed()) {
                    return Err(failure);
                }
            }
            if module_ready {
                let quiet = search.last_change.elapsed() >= QUIET && self.hardware.settled() && !search.reads_labels();
                let imported = self.pools().imported();
                candidates.retain(|c| imported.iter().all(|pool| pool.guid != c.guid));
                let late = search.late();
                self.open_candidates(&mut candidates, &labels, &mut search, late, quiet);
                let facts = self.facts(imported, &candidates, &search.watched);
                let chosen = choose(&self.request, &facts, &self.image.pools);
                self.report.pools = facts;
                match chosen {
                    Ok(choice) if late || self.enough(&choice, &candidates, &search, quiet) => {
                        return Ok(found(choice, search.watched, &self.report.pools));
                    }
                    Err(no) if late || (quiet && (!no.retry || self.hopeless(&candidates, &search.watched))) => {
                        let mut lines = seen::lines(&candidates, &search.watched, &search.scanner);
                        lines.extend(seen::missing_drivers(&self.hardware.unmatched()));
                        return Err(Failure::NoRoot { message: no.message, seen: lines });
                    }
                    _ => {}
                }
            }
            if search.last_status.elapsed() >= STATUS_EVERY {
                search.last_status = Instant::now();
                self.status(&candidates, module_ready, &search);
            }
            // While the module starts it is the module that is waited for, a moment at a time: see `zfs_ready`.
            nap = if module_ready { self.nap(&search) } else { Duration::ZERO };
        }
    }

    /// Waits for devices to change, at most `nap`, and reads the labels of those that did.
    fn look(&self, search: &mut Search, nap: Duration) {
        let changes = self.hardware.wait_change(nap);
        let overdue = search.last_look.is_none_or(|when| when.elapsed() >= POLL);
        for name in &changes.added {
            search.scanner.forget(name);
        }
        if changes.any() || overdue || search.reads_labels() {
            search.last_look = Some(Instant::now());
            if search.scanner.update(LABELS) {
                search.last_change = Instant::now();
            }
        }
    }

    /// TRYIMPORT where there is anything new to learn from it: all leaves are there, or the grace time for them is over.
    /// What the boot leaves alone anyway is not opened.
    fn open_candidates(
        &self,
        candidates: &mut [Candidate],
        labels: &[Seen],
        search: &mut Search,
        late: bool,
        quiet: bool,
    ) {
        let reads_labels = search.reads_labels();
        for candidate in candidates.iter_mut() {
            let fact = pools::fact(candidate, None, self.hostid);
            if candidate.is_ambiguous() || select::untouched(&self.request, &fact, &self.image.pools).is_some() {
                continue;
            }
            let watched = search.watched.entry(candidate.guid).or_insert_with(Watched::new);
            let leaves_there = candidate.missing().next().is_none();
            // A vdev that was removed from the pool leaves a gap that labels cannot tell from a missing disk: only the
            // kernel knows, so it is asked as soon as no more disks are on their way.
            let complete = leaves_there && (candidate.missing_tops() == 0 || quiet);
            let due = complete || late || (!reads_labels && self.grace_over(watched));
            if due && watched.tried.as_ref().is_none_or(|tried| !tried.is_current(candidate)) {
                watched.tried = Some(self.pools().open(candidate, &aux_devices(labels)));
            }
        }
    }

    /// What the plan decides from: pools that are imported, and candidates.
    fn facts(
        &self,
        mut facts: Vec<PoolFact>,
        candidates: &[Candidate],
        watched: &BTreeMap<u64, Watched>,
    ) -> Vec<PoolFact> {
        facts.extend(candidates.iter().map(|c| pools::fact(c, seen::judgement(watched, c), self.hostid)));
        facts
    }

    /// Whether to stop waiting and take the choice: every vdev there, or the grace time for the missing ones over. A choice
    /// that a later pool could better is taken only at the deadline.
    fn enough(&self, choice: &Choice, candidates: &[Candidate], search: &Search, quiet: bool) -> bool {
        let (watched, reads_labels) = (&search.watched, search.reads_labels());
        // A pool that nobody named, neither the user nor the packer, may not be the only one: which of several boots must
        // not depend on the order in which disks wake up.
        let named =
            !self.automatic() || self.image.pools.iter().any(|p| p.guid == choice.guid || p.name == choice.pool);
        let grace_over = watched.get(&choice.guid).is_none_or(|w| !reads_labels && self.grace_over(w));
        if choice.better.is_some() || !(named || quiet || grace_over) {
            return false;
        }
        let Some(candidate) = candidates.iter().find(|c| c.guid == choice.guid) else { return true };
        choice.health == Health::Online
            || seen::awaited(candidate, seen::judgement(watched, candidate)).is_none()
            || grace_over
    }

    /// Whether missing members of a pool have been waited for long enough.
    fn grace_over(&self, watched: &Watched) -> bool {
        self.request.degraded.value.is_some_and(|grace| watched.since.elapsed() >= grace)
    }

    /// Whether the named pool is there, and is in a state that no further disk changes (unsupported features, in use by
    /// another host, two copies of a disk).
    fn hopeless(&self, candidates: &[Candidate], watched: &BTreeMap<u64, Watched>) -> bool {
        if self.automatic() {
            return false;
        }
        let mut named = candidates.iter().filter(|c| select::names(&self.request, &c.name, c.guid)).peekable();
        let final_word = |c: &Candidate| {
            let verdict = seen::judgement(watched, c);
            c.is_ambiguous() || verdict.is_some_and(|j| j.health == Health::Unavailable && !j.wait_helps)
        };
        named.peek().is_some() && named.all(final_word)
    }

    /// How long nothing needs to be done unless a device appears.
    fn nap(&self, search: &Search) -> Duration {
        let grace = search
            .watched
            .values()
            .filter_map(|w| Some(self.request.degraded.value?.saturating_sub(w.since.elapsed())));
        // Drivers that are loading tell of themselves only by the devices they bring.
        let settling = match self.hardware.settled() {
            false => MODULE_POLL,
            true if search.reads_labels() => LABELS_AGAIN,
            true => QUIET.saturating_sub(search.last_change.elapsed()),
        };
        grace.chain(search.left()).chain([settling]).filter(|d| !d.is_zero()).min().unwrap_or(POLL).min(POLL)
    }

    /// The line that says what is awaited.
    fn status(&self, candidates: &[Candidate], module_ready: bool, search: &Search) {
        if !module_ready {
            self.log.info("waiting for the zfs module to start");
            return;
        }
        let wanted = |c: &&Candidate| self.automatic() || select::names(&self.request, &c.name, c.guid);
        let awaited = |c: &Candidate| {
            Some(format!("pool {}: {}", c.name, seen::awaited(c, seen::judgement(&search.watched, c))?))
        };
        let incomplete: Vec<String> = candidates.iter().filter(wanted).filter_map(awaited).collect();
        let slow = search.scanner.slow(SLOW_DISK);
        if !slow.is_empty() {
            self.log.warn(format!("no answer yet when reading the labels of: {}", slow.join(" ")));
        }
        let what = if incomplete.is_empty() { "a pool to boot from".to_owned() } else { incomplete.join("; ") };
        let left = search.left().map_or("no deadline".to_owned(), |left| format!("{} s left", left.as_secs()));
        self.log.warn(format!("waiting for {what} ({left})"));
    }

    /// Whether no pool is named. Naming one is the user's word that it is ours.
    fn automatic(&self) -> bool {
        matches!(self.request.root.value, Selector::Auto)
    }

    /// What is done with pools.
    pub(super) fn pools(&self) -> Pools<'_> {
        Pools::new(self.system, &self.log, self.phases)
    }
}

fn found(choice: Choice, mut watched: BTreeMap<u64, Watched>, facts: &[PoolFact]) -> Found {
    let config = watched.get_mut(&choice.guid).and_then(|w| w.tried.take()).and_then(|t| t.reply);
    let bootfs = facts.iter().find(|f| f.guid == choice.guid).and_then(|f| f.bootfs.clone());
    Found { choice, config, bootfs }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_not_waited_for_for_ever() {
        assert!(stuck(Duration::from_secs(60)).is_none());
        assert!(stuck(MODULE_LIMIT).unwrap().to_string().contains("still starting after 300 s"));
    }
}
