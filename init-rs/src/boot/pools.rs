//! Steps with pools: the module asked, candidates opened, the chosen one imported, others given back.

use super::Boot;
use crate::cmdline::Request;
use crate::devices::known::{Hardware, Reading};
use crate::firmware::Variables;
use crate::firmware::origin::Origin;
use crate::plan::candidates;
use crate::plan::facts::{Health, PoolFact};
use crate::plan::failure::{Code, Failure};
use crate::plan::next::FRESH;
use crate::plan::next::facts::{Attempt, Facts, Found, Import, Watched, ZfsModule};
use crate::plan::refusal_of;
use crate::plan::select::Choice;
use crate::pools::{self, ImportError, ImportRequest, Pools};
use crate::sys::System;
use crate::zfs::assemble::{assemble, aux_devices};
use crate::zfs::ioctl::Zfs;
use crate::zfs::nvlist::NvList;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// How long the controllers' modaliases may take to be told.
const UNDRIVEN_PATIENCE: Duration = Duration::from_secs(2);

impl Boot<'_> {
    /// What is done with pools, without the disks that do not answer: opening one would hold up the kernel, and us. Nor may it
    /// come upon a disk with a label that is left over: it would write all of them anew.
    pub(super) fn with_pools<T>(&self, work: impl FnOnce(Pools<'_>) -> T) -> T {
        let now = self.system.now();
        let devices = self.scout.hardware.devices.values().filter(|d| d.content == Reading::Waiting);
        let silent = devices.filter(|d| now.saturating_sub(d.since) >= FRESH);
        let silent = silent.map(|d| d.node.clone());
        let left = candidates::leftovers(&self.facts.disks.labels).map(str::to_owned);
        let Attempt { found, aside, .. } = &self.facts.attempt;
        let left = left.chain(aside.iter().filter(|_| found.is_some()).cloned());
        let silent: Vec<String> = silent.chain(left).collect();
        work(Pools::new(self.system, self.log, self.phases).without(&silent))
    }

    /// Asks the firmware which disk the machine was started from; labels are looked at anew with that in mind.
    pub(super) fn read_origin(&mut self) {
        let origin = Variables::open(self.system).and_then(|variables| Origin::read(&variables)).unwrap_or_else(|e| {
            self.log.info(format!("the firmware does not tell which disk the machine was started from: {e}"));
            Origin::default()
        });
        if let Some(disk) = origin.disk(self.system, &self.scout.hardware) {
            self.log.info(format!("the machine was started from {disk}, as its firmware has it"));
        }
        self.facts.origin = Some(origin);
        self.facts.disks.generation = None;
        self.look_at_labels();
    }

    /// What the labels amount to, made anew where they changed.
    pub(super) fn look_at_labels(&mut self) {
        look_at_labels(self.system, &self.request, &self.scout.hardware, &mut self.facts);
    }

    /// With the module come this system's hostid and the check that we speak its language.
    pub(super) fn ask_zfs(&mut self) -> Result<(), Failure> {
        let version = self.system.text("/sys/module/zfs/version");
        let hostid = pools::own_hostid(self.system);
        self.log.info(format!("OpenZFS {version}, hostid {hostid:08x}"));
        self.report.zfs = Some(version.clone());
        let imported = Zfs::new(self.system).imported_pools();
        imported.map_err(|e| Failure::module(&e.to_string(), &self.facts.kernel.release))?;
        // In another tool's initramfs udev may be at its links. Asked a second time, it is short already.
        if !self.facts.hook && self.patience.is_none() {
            self.patience = pools::impatient(self.system);
        }
        self.facts.zfs = Some(ZfsModule { version, hostid, ready: self.system.now() });
        self.check_dirs();
        Ok(())
    }

    /// Says once which directories of the command line are not followed.
    fn check_dirs(&self) {
        for dir in &self.request.import.dirs {
            let path = Path::new(&dir.value);
            let awaited = path.parent() == Some(Path::new("/dev"));
            if path.starts_with("/dev/disk") {
                let text = "all block devices are looked at, their names in";
                self.log.warn(format!("{}: {text} {} are not needed", dir.why, dir.value));
            } else if !awaited && path != Path::new("/dev") && !self.system.exists(path) {
                self.log.warn(format!("{}: {} is not there; all block devices are looked at", dir.why, dir.value));
            }
        }
    }

    pub(super) fn ask_imported(&mut self) {
        let imported = self.with_pools(|pools| pools.imported());
        self.guard.are_imported(imported.iter().map(|pool| pool.name.as_str()));
        self.facts.imported = Some(imported);
    }

    pub(super) fn open(&mut self, guid: u64) {
        let Some(mut candidate) = self.facts.disks.candidates.iter().find(|c| c.guid == guid).cloned() else { return };
        // Such as the other paths to a disk, and outdated labels.
        for problem in &candidate.problems {
            self.log.info(format!("pool {}: {problem}", candidate.name));
        }
        let aux = aux_devices(&self.facts.disks.labels);
        let opened = self.with_pools(|pools| pools.open(&mut candidate, &aux));
        let now = self.system.now();
        let watched = self.facts.disks.watched.entry(guid).or_insert(Watched { since: now, opened: None });
        watched.opened = Some(opened);
    }

    pub(super) fn take(&mut self, found: Found) {
        self.log.info(format!("pool {}: {}", found.choice.pool, found.choice.why));
        for warning in &found.choice.warnings {
            self.log.warn(warning);
        }
        self.note_pools();
        self.report.choice = Some(found.choice.clone());
        let guid = found.choice.guid;
        self.guard.choose(guid, &found.choice.pool, self.nodes_of(guid));
        self.facts.attempt.imported = found.config.is_none();
        if self.facts.attempt.imported {
            self.tell_of_writable(&found.choice.pool, guid);
        }
        self.facts.attempt.aside = candidates::leftovers(&self.facts.disks.labels).map(str::to_owned).collect();
        self.facts.attempt.found = Some(found);
    }

    /// Nodes of a pool's disks, as far as they were found.
    fn nodes_of(&self, guid: u64) -> Vec<String> {
        let leaves = self.facts.disks.candidates.iter().filter(|c| c.guid == guid).flat_map(|c| &c.leaves);
        leaves.filter_map(|leaf| leaf.device.clone()).collect()
    }

    /// Every pool that is known, for the record and the rescue.
    pub(super) fn pool_facts(&self) -> Vec<PoolFact> {
        let mut pools = self.facts.imported.clone().unwrap_or_default();
        let hostid = self.facts.zfs.as_ref().map_or(0, |zfs| zfs.hostid);
        let disks = &self.facts.disks;
        for candidate in &disks.candidates {
            if pools.iter().all(|pool| pool.guid != candidate.guid) {
                let opened = disks.watched.get(&candidate.guid).and_then(|w| w.opened.as_ref());
                pools.push(candidates::fact(candidate, opened.map(|opened| &opened.judgement), hostid));
            }
        }
        // What it has told itself since it was imported.
        let Attempt { found, bootfs, .. } = &self.facts.attempt;
        if let (Some(found), Some(bootfs)) = (found, bootfs) {
            for pool in pools.iter_mut().filter(|pool| pool.guid == found.choice.guid) {
                pool.bootfs.clone_from(bootfs);
                pool.bootfs_unknown = false;
            }
        }
        pools
    }

    /// Puts them into the record. The one that was chosen stays as it was then, unless the kernel has told of it since: whoever read its
    /// disks may have been lost meanwhile, and what another one tells of them is less than what it was chosen by. So does one that was
    /// imported, until it is asked again what is, or something else is known of it.
    pub(super) fn note_pools(&mut self) {
        let chosen = self.facts.attempt.found.as_ref().map(|found| found.choice.guid);
        let told = |guid| self.facts.imported.iter().flatten().any(|pool| pool.guid == guid);
        let now = self.pool_facts();
        let seen = |guid: u64| now.iter().any(|fact| fact.guid == guid);
        let (ours, asked) = (&self.facts.ours, self.facts.imported.is_some());
        let imported = |guid: u64| !asked && ours.contains_key(&guid) && !seen(guid);
        let kept = |guid: u64| if chosen == Some(guid) { !told(guid) } else { imported(guid) };
        self.report.pools.retain(|fact| kept(fact.guid));
        for fact in now {
            if self.report.pools.iter().all(|known| known.guid != fact.guid) {
                self.report.pools.push(fact);
            }
        }
        if chosen.is_none() {
            self.report.choice = None;
        }
    }

    /// Imports what was chosen.
    pub(super) fn import(&mut self, choice: &Choice) -> Result<(), Failure> {
        let config = self.facts.attempt.found.as_ref().and_then(|found| found.config.clone());
        let Some(config) = config else { return Ok(()) };
        self.import_as(choice, &config, false).map_err(|e| {
            Failure::refused(
                Code::Import,
                refusal_of(&e, "a pool that this kernel can import", e.detail.clone(), e.advice.clone()),
            )
        })?;
        self.facts.attempt.imported = true;
        Ok(())
    }

    /// Imports a pool under its own name and with the paths its labels record.
    fn import_as(&mut self, choice: &Choice, config: &NvList, beside: bool) -> Result<(), ImportError> {
        let Choice { pool, guid, health, .. } = choice;
        if *health == Health::Degraded {
            self.log.warn(format!("importing pool {pool} degraded: not all of its disks are there"));
        }
        let read_only = self.request.import.read_only.value;
        let missing_log = self.request.import.missing_log.value;
        let asked =
            ImportRequest { pool, guid: *guid, config, read_only, missing_log, checkpoint: false, rewind: None };
        self.with_pools(|pools| pools.import(&asked))?;
        self.facts.ours.insert(*guid, Import { pool: pool.clone(), read_only, beside });
        self.facts.imported = None;
        Ok(())
    }

    /// Imports a pool beside the root's; without it the boot goes on as far as it can.
    pub(super) fn import_other(&mut self, wanted: String, found: Found) {
        let Found { choice, config, .. } = found;
        let Choice { pool, guid, why, warnings, .. } = &choice;
        self.log.info(format!("pool {pool}: {why}"));
        for warning in warnings {
            self.log.warn(warning);
        }
        // Where the root is in no pool, nothing has told of pools before.
        for fact in self.pool_facts() {
            if self.report.pools.iter().all(|known| known.guid != fact.guid) {
                self.report.pools.push(fact);
            }
        }
        self.guard.choose_beside(*guid, pool, self.nodes_of(*guid));
        let result = self.import_as(&choice, &config.unwrap_or_default(), true);
        if let Err(e) = &result {
            self.trouble(format!("{e}; the boot goes on without it"));
        }
        self.facts.attempt.others.insert(wanted, result.map(|()| choice.guid).map_err(|e| e.to_string()));
    }

    /// Goes on without a pool beside the root's.
    pub(super) fn do_without(&mut self, wanted: String, why: String, warn: bool) {
        if warn {
            self.trouble(format!("{why}; the boot goes on without it"));
        } else {
            self.log.info(&why);
        }
        self.facts.attempt.others.insert(wanted, Err(why));
    }

    /// Gives a pool back, so that the booted system does not find it imported.
    pub(super) fn export(&mut self, pool: &str, guid: u64) -> Result<(), Failure> {
        // It cannot be without its disk: what is still to be written would be waited for.
        if let Some(why) = self.with_pools(|pools| pools.keeps(pool)) {
            self.guard.leave(pool);
            return self.stays_imported(pool, guid, &format!("it {why}"), true);
        }
        if !self.facts.attempt.mounted {
            // What an earlier attempt left.
            let _ = self.system.unmount(&self.new_root, true);
        }
        match self.with_pools(|pools| pools.export(pool)) {
            Ok(()) => {
                self.log.info(format!("exported pool {pool}: it is not the one to boot from, or not in this way"));
            }
            Err(e) => return self.stays_imported(pool, guid, &e.to_string(), false),
        }
        self.facts.exported(guid);
        // Its labels say other things now than when they were read.
        let nodes = self.nodes_of(guid);
        let devices = self.scout.hardware.devices.values().filter(|d| nodes.contains(&d.node));
        for name in devices.map(|d| d.name.clone()).collect::<Vec<_>>() {
            self.scout.reread(&name);
        }
        Ok(())
    }

    /// A pool could not be given back. The boot goes on with it, unless that would not be what the words say: in the root's pool
    /// something could be written that is not to be, or nothing that is; nor does another one stay writable where nothing is to be
    /// written, but for one that `waits` for its disk, which takes no writes either.
    fn stays_imported(&mut self, pool: &str, guid: u64, why: &str, waits: bool) -> Result<(), Failure> {
        let attempt = &self.facts.attempt;
        let same = attempt.found.as_ref().is_some_and(|found| found.choice.guid == guid);
        let writable = self.facts.ours.get(&guid).is_some_and(|import| !import.read_only);
        let against = writable && self.request.import.read_only.value && !waits;
        if !attempt.mounted && (same || against) {
            // It is still ours: the next attempt tries again.
            return Err(imported_otherwise(&self.request, pool, writable, why));
        }
        self.trouble(format!("pool {pool} stays imported: {why}"));
        self.facts.exported(guid);
        Ok(())
    }

    /// A pool that somebody else has imported, before the hook, is not ours to be exported: that it is writable where nothing is to
    /// be written is told.
    fn tell_of_writable(&mut self, pool: &str, guid: u64) {
        let read_only = &self.request.import.read_only;
        if !read_only.value || self.facts.ours.contains_key(&guid) {
            return;
        }
        if self.with_pools(|pools| pools.ask(pool)).is_ok_and(|told| !told.read_only) {
            let said = read_only.why.clone();
            self.trouble(format!(
                "pool {pool} was imported writable before, and not by this boot, so it stays so, though {said} says that nothing is \
                 to be written: what is mounted of it is mounted read-only"
            ));
        }
    }

    /// What stands on disks that have no driver belongs into the explanation of what was not found.
    pub(super) fn add_missing_drivers(&mut self, failure: &mut Failure) {
        if matches!(failure.code, Code::NoPool | Code::NoDevice) {
            let undriven = self.scout.undriven(UNDRIVEN_PATIENCE);
            // Told already where they were known from an earlier attempt.
            let lines = candidates::missing_drivers(&undriven);
            failure.refusal.found.retain(|line| !lines.contains(line));
            failure.refusal.found.extend(lines);
        }
    }
}

/// A pool that is imported in another way than the words say, and cannot be exported.
fn imported_otherwise(request: &Request, pool: &str, writable: bool, why: &str) -> Failure {
    let (is, wanted, other) = if writable { ("writable", "read-only", "rw") } else { ("read-only", "writable", "ro") };
    let word = Some(&request.import.read_only.why).filter(|_| writable);
    let said = word.map(|word| format!(" ({word})")).unwrap_or_default();
    Failure::new(
        Code::Import,
        format!("pool {pool} is still imported {is}, and could not be imported {wanted}{said}: {why}"),
        format!("a pool that can be exported, so that it is imported again, {wanted}"),
        vec![format!("pool {pool}, imported {is} before this attempt")],
        &[
            &format!("export {pool} unmounts what is mounted of it, and exports it; then retry"),
            &format!("retry taproot.import={other} boots it as it is, {is}"),
            "reboot",
        ],
    )
}

/// Makes of the labels what they amount to, where they changed.
pub(super) fn look_at_labels(system: &dyn System, request: &Request, hardware: &Hardware, facts: &mut Facts) {
    // What the directories of the command line lead to can change with any device, and so can which disk it is that the machine was
    // started from.
    let any = !request.import.dirs.is_empty() || facts.origin.is_some();
    let generation = if any { hardware.generation } else { hardware.label_generation };
    if facts.disks.generation == Some(generation) {
        return;
    }
    let now = system.now();
    facts.only = only(system, request);
    let disks = &mut facts.disks;
    disks.generation = Some(generation);
    let started = facts.origin.as_ref().and_then(|origin| origin.disk(system, hardware));
    let labels = candidates::labels(hardware, facts.only.as_ref(), started.as_deref());
    if labels != disks.labels {
        disks.candidates = assemble(&labels);
        // A pool of which no disk is seen any more is waited for anew when one comes back.
        let candidates = &disks.candidates;
        disks.watched.retain(|guid, _| candidates.iter().any(|candidate| candidate.guid == *guid));
        disks.labels = labels;
        for candidate in &disks.candidates {
            disks.watched.entry(candidate.guid).or_insert(Watched { since: now, opened: None });
        }
    }
}

/// The nodes that the directories and devices of the command line lead to; `None`: every device. The names below
/// `/dev/disk` are made by udev, which may not run here, and lead to every disk anyway.
fn only(system: &dyn System, request: &Request) -> Option<BTreeSet<String>> {
    let node = |path: &Path| Some(system.canonical(path).ok()?.display().to_string());
    let mut nodes = BTreeSet::new();
    for dir in &request.import.dirs {
        let path = Path::new(&dir.value);
        if path == Path::new("/dev") || path.starts_with("/dev/disk") {
            return None;
        }
        match system.list(path) {
            Ok(names) => nodes.extend(names.iter().filter_map(|name| node(&path.join(name)))),
            // A device may come later; a directory must be in the image.
            Err(_) if path.parent() == Some(Path::new("/dev")) || system.exists(path) => {
                nodes.extend(node(path));
            }
            Err(_) => return None,
        }
    }
    Some(nodes).filter(|_| !request.import.dirs.is_empty())
}

#[cfg(test)]
mod tests;
