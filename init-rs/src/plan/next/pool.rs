//! Which pool: labels are read by the scout while the zfs module, which takes longest, still starts; what is complete is
//! opened, what is not is waited for.

use super::facts::{Found, Import, Watched, ZfsModule};
use super::{
    Candidate, Code, EFIVARFS, FRESH, Failure, MODULE_LIMIT, Moment, Next, Root, Settled, Step, Wait, ZFS_LIMIT,
    end_of, fail,
};
use crate::cmdline::{Decided, Selector};
use crate::devices::known::{Device, Reading};
use crate::firmware::origin::Origin;
use crate::plan::candidates::{self, awaited, device_lines, lines, missing_drivers};
use crate::plan::facts::{Dataset, Health, PoolFact};
use crate::plan::names;
use crate::plan::select::{self, Choice, NoChoice, choose};
use crate::sorted;
use crate::zfs::judge::Judgement;
use std::collections::BTreeSet;
use std::time::Duration;

/// What may still come within this time of a quiet machine counts before `AUTO` settles for what is there.
const QUIET: Duration = Duration::from_millis(300);
/// A disk that has not answered for this time does not hold up a choice that can be made without it.
const SLOW: Duration = Duration::from_millis(1500);
/// A disk that has not answered for this time is taken for missing: those that spin up have, by then.
const DEAD: Duration = Duration::from_secs(60);

/// The search for a pool at one moment.
pub(super) struct Search<'a> {
    moment: Moment<'a>,
    /// Pools that are not imported, the ones that can win first.
    candidates: Vec<&'a Candidate>,
    /// What is decided from: imported pools, then candidates.
    facts: Vec<PoolFact>,
    /// The end of the patience; `None`: for ever.
    deadline: Option<Duration>,
    /// Nothing has happened for a while, and nothing is under way.
    quiet: bool,
}

impl<'a> Moment<'a> {
    /// The pool that the request means, and that can be imported.
    pub(super) fn pool(self) -> Settled<&'a Found> {
        if let Some(found) = &self.facts.attempt.found {
            return Ok(found);
        }
        let zfs = self.zfs()?;
        let Some(imported) = &self.facts.imported else { return Err(Next::Do(Step::AskImported)) };
        // The time to wait is for disks: what the module's own start took does not count.
        let began = self.facts.attempt.began.max(zfs.ready);
        let mut search = Search::new(self, zfs, imported, end_of(began, self.request.wait.value));
        self.origin(&search)?;
        search.open_next()?;
        match choose(self.request, &search.facts, &self.facts.expected) {
            Ok(choice) if search.late() || search.enough(&choice) => {
                Err(Next::Do(Step::Take(Box::new(search.found(choice)))))
            }
            Err(no) if search.is_final(&no) => Err(Next::Fail(search.nothing(no))),
            _ => Err(Next::Wait(search.wait())),
        }
    }

    /// Where disks are copies of each other, or of each other's past, the firmware knows which one it read; where a pool is meant by
    /// its name alone, such a disk may be still on its way. It is not asked where nothing hangs on it.
    fn origin(self, search: &Search<'_>) -> Settled<()> {
        if self.facts.origin.is_some() || !self.facts.kernel.efi || !(search.doubles() || search.by_name()) {
            return Ok(());
        }
        // A kernel may have it built in: reading tells.
        let _ = self.module(EFIVARFS, self.facts.attempt.last_step, MODULE_LIMIT)?;
        Err(Next::Do(Step::ReadOrigin))
    }

    /// The zfs module, ready to be asked.
    pub(super) fn zfs(self) -> Settled<&'a ZfsModule> {
        if let Some(zfs) = &self.facts.zfs {
            return Ok(zfs);
        }
        match self.module("zfs", self.facts.attempt.began, ZFS_LIMIT)? {
            Ok(()) => Err(Next::Do(Step::AskZfs)),
            Err(why) => fail(Failure::module(&why, &self.facts.kernel.release)),
        }
    }

    /// Pools that this boot imported and that are not the one to boot from are given back: the booted system would find a
    /// foreign pool imported, and its datasets over its own. One that was imported in another way than the request says is, too,
    /// before it is imported as it says: read-only where it was to be looked at, or writable before nothing was to be written.
    pub(super) fn leave_others(self, found: &Found) -> Settled<()> {
        let read_only = self.request.import.read_only.value;
        for (guid, import) in &self.facts.ours {
            let same = *guid == found.choice.guid;
            // Before this attempt.
            let otherwise = same && found.config.is_none() && import.read_only != read_only;
            // Where nothing is to be written, no pool stays writable: what is needed of it is imported again.
            let writable = read_only && !import.read_only;
            // What a person imported may be what the root's fstab is about.
            let left = !same && (writable || !import.beside);
            if left || otherwise {
                return Err(Next::Do(Step::Export { pool: import.pool.clone(), guid: *guid }));
            }
        }
        Ok(())
    }

    /// Pools that were imported for themselves, and of which nothing was mounted with the root, are given back now, but for those
    /// that a word names.
    pub(super) fn give_back(self, root: &Root) -> Settled<()> {
        let datasets = self.facts.attempt.made.values().map(|made| made.dataset.as_str());
        let used: BTreeSet<&str> = datasets.chain(root.datasets()).map(names::pool_of).collect();
        let named = |guid: u64, pool: &str| {
            self.request.import.also.iter().any(|also| also.value == pool || also.value.parse() == Ok(guid))
        };
        let left = |(guid, import): &(&u64, &Import)| {
            import.beside && !used.contains(import.pool.as_str()) && !named(**guid, &import.pool)
        };
        match self.facts.ours.iter().find(left) {
            None => Ok(()),
            Some((guid, import)) => Err(Next::Do(Step::Export { pool: import.pool.clone(), guid: *guid })),
        }
    }

    pub(super) fn import(self, found: &Found) -> Settled<()> {
        if found.config.is_none() || self.facts.attempt.imported {
            return Ok(());
        }
        Err(Next::Do(Step::Import(Box::new(found.choice.clone()))))
    }

    /// The dataset to mount as root: the one named, or the pool's bootfs.
    pub(super) fn dataset(self, found: &Found) -> Settled<Root> {
        if let Some(root) = &self.facts.attempt.root {
            return Ok(root.clone());
        }
        let pool = &found.choice.pool;
        let name = match found.choice.dataset.clone().or_else(|| found.bootfs.clone()) {
            Some(name) => name,
            None => match &self.facts.attempt.bootfs {
                None => return Err(Next::Do(Step::AskBootfs { pool: pool.clone() })),
                Some(Some(name)) => name.clone(),
                Some(None) => return fail(no_bootfs(pool, &self.facts.attempt.candidates)),
            },
        };
        let dataset = name.split_once('@').map_or(name.as_str(), |(dataset, _)| dataset).to_owned();
        Err(Next::Do(Step::AskRoot { dataset }))
    }

    /// The snapshot of the root that is meant: the one that the words name, else the one that bootfs names.
    pub fn snapshot(self) -> Option<Decided<String>> {
        let attempt = &self.facts.attempt;
        self.request.snapshot.clone().or_else(|| {
            let found = attempt.found.as_ref()?;
            let bootfs = attempt.bootfs.clone().flatten();
            let name = found.choice.dataset.clone().or_else(|| found.bootfs.clone()).or(bootfs)?;
            let (_, snapshot) = name.split_once('@')?;
            Some(Decided::new(snapshot.to_owned(), format!("bootfs of pool {}", found.choice.pool)))
        })
    }
}

/// A pool that was chosen for its `bootfs`, but has none; `roots`: datasets of it that look like roots.
fn no_bootfs(pool: &str, roots: &[String]) -> Failure {
    let placeholder = format!("{pool}/DATASET");
    let root = roots.first().unwrap_or(&placeholder);
    let found = roots.iter().map(|root| format!("{root} looks like a root")).collect();
    Failure::new(
        Code::NoBootfs,
        format!("pool {pool} has no bootfs, so there is no root to boot; name one: boot {root} here"),
        "a root dataset named on the command line or by bootfs",
        found,
        &[
            &format!("boot {root} (`boot` alone lists what looks like a root, `datasets` everything)"),
            &format!("name the root: boot {root} here, root=ZFS={root} on the kernel command line"),
            &format!("in the booted system, for good: zpool set bootfs={root} {pool}"),
        ],
    )
}

impl<'a> Search<'a> {
    /// `deadline`: the end of the patience, if there is one.
    pub(super) fn new(moment: Moment<'a>, zfs: &ZfsModule, imported: &[PoolFact], deadline: Option<Duration>) -> Self {
        let Moment { hardware, facts, now, .. } = moment;
        let is_imported = |guid: u64| imported.iter().any(|pool| pool.guid == guid);
        let mut candidates: Vec<&Candidate> = facts.disks.candidates.iter().filter(|c| !is_imported(c.guid)).collect();
        sorted::by(&mut candidates, |a, b| {
            let key = |c: &&'a Candidate| (select::rank(&facts.expected, &c.name, c.guid), &c.name, c.guid);
            key(a).cmp(&key(b))
        });
        let of = |c: &&Candidate| candidates::fact(c, judgement(moment, c), zfs.hostid);
        let facts_of = imported.iter().cloned().chain(candidates.iter().map(of)).collect();
        let holds_up = |device: &Device| device.content == Reading::Waiting && now.saturating_sub(device.since) < SLOW;
        let unread = hardware.devices.values().any(holds_up);
        let quiet = now.saturating_sub(hardware.last_change) >= QUIET && hardware.settled && !unread;
        Self { moment, candidates, facts: facts_of, deadline, quiet }
    }

    /// What is decided from.
    pub(super) fn facts(&self) -> &[PoolFact] {
        &self.facts
    }

    pub(super) fn late(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.moment.now >= deadline)
    }

    /// The end of the patience with disks that spin up.
    fn prolonged(&self) -> Option<Duration> {
        self.deadline.and_then(|deadline| deadline.checked_add(DEAD))
    }

    /// Whether there are disks that may still answer: they spin up, and are not missing.
    fn spinning_up(&self) -> bool {
        let Moment { hardware, now, .. } = self.moment;
        let silent = |d: &Device| d.content == Reading::Waiting && now.saturating_sub(d.since) < DEAD;
        // Where nobody reads, none will have answered.
        !hardware.unwatched && hardware.devices.values().any(silent)
    }

    /// Whether a disk has only just come.
    fn any_fresh(&self) -> bool {
        let Moment { hardware, now, .. } = self.moment;
        hardware.devices.values().any(|d| d.content == Reading::Waiting && now.saturating_sub(d.since) < FRESH)
    }

    fn automatic(&self) -> bool {
        matches!(self.moment.request.root.value, Selector::Auto)
    }

    fn watched(&self, guid: u64) -> Option<&'a Watched> {
        self.moment.facts.disks.watched.get(&guid)
    }

    /// Whether several disks, or several pools, answer to one name.
    fn doubles(&self) -> bool {
        let pools: Vec<&PoolFact> = self.facts.iter().filter(|pool| !pool.destroyed).collect();
        let twin = |pool: &&PoolFact| pools.iter().any(|other| other.name == pool.name && other.guid != pool.guid);
        pools.iter().any(twin) || self.candidates.iter().any(|candidate| candidate.has_copies())
    }

    /// Whether a pool can be had for which nothing but its name speaks.
    fn by_name(&self) -> bool {
        let Moment { request, facts, .. } = self.moment;
        choose(request, &self.facts, &facts.expected).is_ok_and(|choice| !choice.certain)
    }

    /// Whether the machine was started from another disk than those of a pool for which nothing but its name speaks: the one that is
    /// meant may lie there.
    fn elsewhere(&self, choice: &Choice) -> bool {
        let known = self.moment.facts.origin.as_ref().is_some_and(Origin::is_known);
        let candidate = self.candidates.iter().find(|candidate| candidate.guid == choice.guid);
        known && !choice.certain && candidate.is_some_and(|candidate| !candidate.started)
    }

    /// TRYIMPORT where there is anything new to learn from it: all leaves are there, or the grace time for them is over. What
    /// the boot leaves alone anyway is not opened, nor what could not be better than what can be had already.
    pub(super) fn open_next(&mut self) -> Settled<()> {
        let Moment { request, facts, .. } = self.moment;
        for candidate in &self.candidates {
            let fact = self.facts.iter().find(|f| f.guid == candidate.guid);
            let untouched = fact.is_none_or(|fact| select::untouched(request, fact, &facts.expected).is_some());
            if candidate.is_ambiguous() || untouched || self.cannot_win(candidate) {
                continue;
            }
            let leaves_there = candidate.missing().next().is_none();
            // A vdev that was removed from the pool leaves a gap that labels cannot tell from a missing disk: only the
            // kernel knows, so it is asked as soon as no more disks are on their way.
            let complete = leaves_there && (candidate.missing_tops() == 0 || self.quiet);
            let due = complete || self.late() || self.grace_over(candidate.guid);
            let opened = self.watched(candidate.guid).and_then(|w| w.opened.as_ref());
            if due && !self.any_fresh() && opened.is_none_or(|opened| !opened.is_current(candidate)) {
                return Err(Next::Do(Step::Open { guid: candidate.guid }));
            }
        }
        Ok(())
    }

    /// Whether the image expects another pool before this one, and that one can be had.
    fn cannot_win(&self, candidate: &Candidate) -> bool {
        let Moment { request, facts, .. } = self.moment;
        if !self.automatic() {
            return false;
        }
        let rank = |name: &str, guid| select::rank(&facts.expected, name, guid);
        choose(request, &self.facts, &facts.expected).is_ok_and(|choice| {
            let best = rank(&choice.pool, choice.guid);
            // Of pools that nobody expects, all are rivals.
            choice.better.is_none() && best < rank(&candidate.name, candidate.guid)
        })
    }

    /// Whether to stop waiting and take the choice: every vdev there, or the grace time for the missing ones over. A choice
    /// that a later pool could better is taken only at the deadline.
    pub(super) fn enough(&self, choice: &Choice) -> bool {
        // A pool that nobody named, neither the user nor the packer, may not be the only one: which of several boots must
        // not depend on the order in which disks wake up.
        let expected = &self.moment.facts.expected;
        let named = !self.automatic() || expected.iter().any(|p| p.guid == choice.guid || p.name == choice.pool);
        let grace_over = self.watched(choice.guid).is_none() || self.grace_over(choice.guid);
        let hasty = (choice.unsure || self.elsewhere(choice)) && !self.quiet;
        if choice.better.is_some() || hasty || !(named || self.quiet || grace_over) {
            return false;
        }
        let Some(candidate) = self.candidates.iter().find(|c| c.guid == choice.guid) else { return true };
        choice.health == Health::Online || awaited(candidate, judgement(self.moment, candidate)).is_none() || grace_over
    }

    /// Whether missing members of a pool have been waited for long enough.
    fn grace_over(&self, guid: u64) -> bool {
        let over = |w: &Watched| Some(self.moment.now >= w.since.checked_add(self.moment.request.degraded.value?)?);
        self.watched(guid).and_then(over).unwrap_or(false)
    }

    /// Whether waiting longer changes nothing.
    pub(super) fn is_final(&self, no: &NoChoice) -> bool {
        // Disks that come and go without ever answering do not prolong this for ever.
        let spinning_up = self.spinning_up() && self.prolonged().is_none_or(|end| self.moment.now < end);
        let over = self.late() && !(no.retry && spinning_up);
        over || (self.quiet && !no.retry)
    }

    /// The choice, with what to import it with.
    pub(super) fn found(&self, choice: Choice) -> Found {
        let opened = self.watched(choice.guid).and_then(|w| w.opened.as_ref());
        let imported = !self.candidates.iter().any(|c| c.guid == choice.guid);
        let config = opened.filter(|_| !imported).and_then(|opened| opened.reply.clone());
        let bootfs = self.facts.iter().find(|f| f.guid == choice.guid).and_then(|f| f.bootfs.clone());
        Found { choice, config, bootfs }
    }

    /// No pool to boot from, with everything that is on the disks.
    fn nothing(&self, no: NoChoice) -> Failure {
        let Moment { request, hardware, facts, now } = self.moment;
        let mut found: Vec<String> = self.candidates.iter().flat_map(|c| lines(c, judgement(self.moment, c))).collect();
        if self.candidates.is_empty() {
            found.push("no disk with a label of a pool".to_owned());
        }
        found.extend(device_lines(hardware, facts.only.as_ref(), now));
        found.extend(missing_drivers(&hardware.undriven));
        let by_name = "name the root: boot POOL/DATASET here, root=ZFS=POOL/DATASET on the kernel command line";
        if matches!(request.root.value, Selector::Unusable(_)) {
            let expected = "a word that names a root: a dataset, or a block device";
            return Failure::new(Code::UnusableRoot, no.message, expected, found, &[by_name]);
        }
        let mut advice = self.remedies();
        // A pool that cannot be imported is no better for being named.
        if self.facts.iter().any(|pool| pool.problem.is_none() && !pool.destroyed) {
            advice.push(by_name.to_owned());
        }
        let advice: Vec<&str> = advice.iter().map(String::as_str).collect();
        Failure::new(
            Code::NoPool,
            no.message,
            "a pool with all its disks, and a root dataset named on the command line or by the pool's bootfs",
            found,
            &advice,
        )
    }

    /// What helps: disks only where some are missing, an older state only where they are there.
    fn remedies(&self) -> Vec<String> {
        let judged = |c: &Candidate| judgement(self.moment, c);
        let lacks = |c: &Candidate| awaited(c, judged(c)).is_some();
        let mut advice = Vec::new();
        if self.candidates.is_empty() || self.candidates.iter().any(|c| lacks(c)) || self.spinning_up() {
            let text =
                "attach the missing disks and type retry; `wait SECONDS` waits longer, as does taproot.wait=SECONDS";
            advice.push(text.to_owned());
        }
        if !advice.is_empty() && self.moment.hardware.devices.values().any(|d| candidates::closed(d).is_some()) {
            let text = "a pool inside LUKS, LVM or md is seen only where something else opens it: boot by that initramfs \
                        (as a hook of mkinitcpio, taproot-init works in it)";
            advice.push(text.to_owned());
        }
        let damaged = |c: &&&Candidate| !lacks(c) && judged(c).is_some_and(|judgement| judgement.damaged);
        for candidate in self.candidates.iter().filter(damaged) {
            let alone = self.facts.iter().filter(|fact| fact.name == candidate.name).count() == 1;
            let name = if alone { candidate.name.clone() } else { candidate.guid.to_string() };
            advice.push(format!(
                "look at the cables, then retry; `import {name} rewind` says whether an older state of the pool can be loaded \
                 and what would be lost, and asks"
            ));
        }
        if advice.is_empty() {
            let text = "look at what is said of each pool; `pools` lists them again, `import` imports one by hand";
            advice.push(text.to_owned());
        }
        advice
    }

    pub(super) fn wait(&self) -> Wait {
        let Moment { request, hardware, now, .. } = self.moment;
        let wanted = |c: &&&Candidate| self.automatic() || select::names(request, &c.name, c.guid);
        let lacks = |c: &&Candidate| Some(format!("pool {}: {}", c.name, awaited(c, judgement(self.moment, c))?));
        let mut what: Vec<String> = self.candidates.iter().filter(wanted).filter_map(lacks).collect();
        if what.is_empty() {
            what.push(match &request.root.value {
                Selector::Pool(pool) | Selector::Dataset { pool, .. } => format!("pool {pool}"),
                _ => "a pool to boot from".to_owned(),
            });
        }
        let silent = hardware.devices.values().filter(|d| d.content == Reading::Waiting);
        let silent: Vec<&str> =
            silent.filter(|d| now.saturating_sub(d.since) >= SLOW).map(|d| d.name.as_str()).collect();
        if !silent.is_empty() {
            what.push(format!("an answer of {}", silent.join(" ")));
        }
        let grace = self.candidates.iter().filter_map(|c| {
            self.watched(c.guid)?.since.checked_add(request.degraded.value?).filter(|over| *over > now)
        });
        let unread = hardware.devices.values().filter(|d| d.content == Reading::Waiting).flat_map(|d| {
            [FRESH, SLOW, DEAD].map(|time| d.since.saturating_add(time)).into_iter().filter(|when| *when > now)
        });
        let quiet = Some(hardware.last_change.saturating_add(QUIET)).filter(|when| *when > now);
        let until = if self.late() { self.prolonged() } else { self.deadline };
        let again = grace.chain(unread).chain(quiet).chain(until.filter(|end| *end > now)).min();
        Wait { what: what.join("; "), until, again }
    }
}

/// The last verdict on a candidate.
fn judgement<'a>(moment: Moment<'a>, candidate: &Candidate) -> Option<&'a Judgement> {
    let watched = moment.facts.disks.watched.get(&candidate.guid)?;
    watched.opened.as_ref().map(|opened| &opened.judgement)
}

/// A root that was named and does not exist; `found`: datasets of the pool that do.
pub fn no_dataset(dataset: &str, found: Vec<String>) -> Failure {
    Failure::new(
        Code::NoDataset,
        format!("root dataset {dataset} does not exist"),
        "a file system of that name",
        found,
        &[
            "name one of these: boot pool/dataset here, root=ZFS=pool/dataset on the kernel command line",
            "or set bootfs to one of them",
        ],
    )
}

/// A root that was named but is no file system.
pub fn not_mountable(dataset: &Dataset) -> Option<Failure> {
    use crate::plan::facts::Kind;
    let kind = match dataset.kind {
        Kind::Filesystem => return None,
        Kind::Volume => "volume",
        Kind::Other => "dataset of another kind",
    };
    Some(Failure::new(
        Code::NotMountable,
        format!("{} is a {kind}, which cannot be mounted as the root", dataset.name),
        "a file system of a pool",
        vec![],
        &["name another one: boot pool/dataset here, root=ZFS=pool/dataset on the kernel command line; or set bootfs"],
    ))
}
