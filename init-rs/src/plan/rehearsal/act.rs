//! Steps, pretended: what each brings is taken from what is known.

use super::{KnownRoot, Play};
use crate::devices::known::Module;
use crate::devices::swap::Header;
use crate::devices::table::canonical_name;
use crate::plan::candidates::{self, Opened};
use crate::plan::facts::{Dataset, Health, Kind, PoolFact};
use crate::plan::failure::Failure;
use crate::plan::mounts::{self, Ground, MountStep, Origin};
use crate::plan::names;
use crate::plan::next::facts::{Found, Import, Note, ZfsModule};
use crate::plan::next::{Mount, Step, no_dataset, not_mountable};
use crate::plan::root::Root;
use crate::plan::roots;
use crate::plan::select::Choice;
use crate::zfs::judge::Judgement;
use crate::zfs::nvlist::NvList;
use std::collections::BTreeSet;

/// Programs that are started where no word names one: the first of them.
const INIT: &str = "/sbin/init";
/// At most so many datasets are named where one was looked for in vain.
const SHOWN: usize = 20;

impl Play<'_> {
    /// Does a step; whether the boot goes on, as far as that is known.
    pub(super) fn act(&mut self, step: Step) -> Result<bool, Failure> {
        match step {
            Step::LoadModule(name) => {
                self.hardware.modules.insert(canonical_name(&name), Module::Ready);
            }
            Step::ReadNote => self.facts.note = Note::Absent,
            Step::ReadOrigin => self.facts.origin = Some(crate::firmware::origin::Origin::default()),
            Step::LookForImage { device, .. } => {
                self.facts.resume.page = Some((device, Ok(Header { image: None, swap: true })));
            }
            // The boot of the hibernated system would end here.
            Step::ResumeImage { .. } => {
                self.facts.resume.tried = Some((None, Ok(Header { image: None, swap: true })));
            }
            Step::ResumeSettled { warn, text, left } => {
                self.facts.resume_settled(left, self.now);
                if warn {
                    self.remark(text);
                }
            }
            Step::DiscardImage { .. } => self.facts.resume.discarded = true,
            Step::AskZfs => {
                self.facts.zfs = Some(ZfsModule { version: self.known.zfs.clone(), hostid: 0, ready: self.now });
            }
            Step::AskImported => self.facts.imported = Some(self.pools_in_sight()),
            Step::Open { guid } => self.open(guid),
            Step::Take(found) => self.take(*found),
            Step::Export { guid, .. } => self.export(guid),
            Step::Import(choice) => {
                let read_only = self.request.import.read_only.value;
                self.facts.ours.insert(choice.guid, Import { pool: choice.pool, read_only, beside: false });
                self.facts.attempt.imported = true;
            }
            Step::ImportOther { wanted, found } => self.import_other(wanted, found.choice),
            Step::DoWithout { wanted, why, warn } => self.do_without(wanted, why, warn),
            Step::AskBootfs { pool } => return Ok(self.ask_bootfs(&pool)),
            Step::AskRoot { dataset } => return self.ask_root(&dataset),
            Step::LoadKey { key, .. } => self.load_key(key),
            Step::Snapshots(asked) => self.settle_snapshots(&asked)?,
            Step::Check { node, .. } => {
                self.facts.attempt.checked.insert(node, Ok(()));
            }
            Step::Layer(step) => self.layer_step(step),
            Step::MountRoot(mount) => self.mount_root(*mount),
            Step::ReadFstab { below } => self.read_fstab(below),
            Step::AskDatasets { root, all } => self.ask_datasets(&root, all),
            Step::LoadKeys { keys } => self.load_keys(keys.into_iter().map(|key| key.root).collect()),
            Step::PlanMounts { root, .. } => self.plan_mounts(&root),
            Step::TellLeftOut => self.tell_left_out(),
            Step::Remount { how, .. } => {
                self.facts.attempt.remounted = true;
                self.remark(format!("the root is remounted ({}): {}", how.options.data, how.why));
            }
            Step::Mount(mount) => self.done(mount.step, true),
            Step::PassOver { step, why } => {
                self.remark(format!("{} would not be mounted on {}: {why}", step.dataset, step.target));
                self.done(*step, false);
            }
            Step::FindInit { .. } => self.find_init(),
            // What hides it is not known: it is always found.
            Step::Uncover { covers } => covers.iter().for_each(|cover| self.facts.uncovered(&cover.made)),
            Step::GetReady => self.facts.attempt.ready = true,
        }
        Ok(true)
    }

    /// Pools to choose from, but for those whose labels are to be opened first.
    fn pools_in_sight(&self) -> Vec<PoolFact> {
        let labelled = |pool: &PoolFact| self.facts.disks.candidates.iter().any(|c| c.guid == pool.guid);
        let imported = |pool: &PoolFact| self.facts.ours.contains_key(&pool.guid);
        self.known.pools.iter().filter(|pool| imported(pool) || !labelled(pool)).cloned().collect()
    }

    /// What the kernel would say of a pool is what is known of it.
    fn open(&mut self, guid: u64) {
        let Some(candidate) = self.facts.disks.candidates.iter().find(|c| c.guid == guid) else { return };
        let devices = candidates::devices(candidate);
        let known = self.known.pools.iter().find(|pool| pool.guid == guid);
        let judgement = match known {
            None => Judgement::failed("nothing is known of this pool".to_owned()),
            Some(pool) => Judgement {
                health: pool.health,
                reason: pool.problem.clone().unwrap_or_default(),
                bootfs: pool.bootfs.clone(),
                bootfs_unknown: pool.bootfs_unknown,
                damaged: false,
                missing_logs: pool.missing_log.iter().cloned().collect(),
                unwritable: pool.unwritable.clone(),
                wait_helps: pool.health == Health::Unavailable && !pool.hopeless,
                bad: Vec::new(),
            },
        };
        let reply = Some(NvList::new());
        self.facts.disks.watched.entry(guid).or_default().opened = Some(Opened { devices, judgement, reply });
    }

    fn take(&mut self, mut found: Found) {
        // In the facts it counts as imported, because there are no labels; but a boot finds it as it is.
        if !self.facts.ours.contains_key(&found.choice.guid) {
            found.config.get_or_insert_with(NvList::new);
        }
        for warning in found.choice.warnings.clone() {
            self.remark(warning);
        }
        self.told.choice = Some(found.choice.clone());
        self.facts.attempt.imported = found.config.is_none();
        self.facts.attempt.found = Some(found);
    }

    fn import_other(&mut self, wanted: String, choice: Choice) {
        for warning in choice.warnings {
            self.remark(warning);
        }
        let read_only = self.request.import.read_only.value;
        self.facts.ours.insert(choice.guid, Import { pool: choice.pool, read_only, beside: true });
        self.facts.attempt.others.insert(wanted, Ok(choice.guid));
        self.facts.imported = None;
    }

    fn do_without(&mut self, wanted: String, why: String, warn: bool) {
        if warn {
            self.remark(why.clone());
        }
        self.facts.attempt.others.insert(wanted, Err(why));
    }

    fn export(&mut self, guid: u64) {
        self.facts.exported(guid);
        self.keys.clear();
    }

    fn ask_bootfs(&mut self, pool: &str) -> bool {
        let known = self.facts.attempt.found.as_ref().map(|found| found.choice.guid);
        let known = self.known.pools.iter().find(|pool| Some(pool.guid) == known);
        if known.is_none_or(|pool| pool.bootfs_unknown) {
            self.remark(format!(
                "the bootfs of pool {pool} is not known here; a boot reads it when the pool is imported"
            ));
            return false;
        }
        self.facts.attempt.bootfs = Some(known.and_then(|pool| pool.bootfs.clone()));
        let of_pool: Vec<Dataset> =
            self.known.datasets.iter().filter(|d| names::is_within(&d.name, pool)).cloned().collect();
        self.facts.attempt.candidates = roots::names(&of_pool);
        true
    }

    fn ask_root(&mut self, name: &str) -> Result<bool, Failure> {
        self.told.root = Some(name.to_owned());
        self.told.wanted.push(name.to_owned());
        self.idle_snapshot_words();
        if let Some(dataset) = self.known.datasets.iter().find(|d| d.name == name) {
            let dataset = self.locked(dataset);
            if let Some(failure) = not_mountable(&dataset) {
                return Err(failure);
            }
            self.facts.attempt.root = Some(Root::Dataset(dataset));
            return Ok(true);
        }
        let pool = names::pool_of(name);
        let of_pool = self.known.datasets.iter().filter(|d| names::is_within(&d.name, pool));
        let mut found: Vec<String> = of_pool.filter(|d| d.kind == Kind::Filesystem).map(|d| d.name.clone()).collect();
        found.sort();
        let more = found.len().saturating_sub(SHOWN);
        found.truncate(SHOWN);
        if more > 0 {
            found.push(format!("and {more} more"));
        }
        if found.is_empty() {
            self.remark(format!("the datasets of pool {pool} are not known here, so no mounts can be planned"));
        } else if self.known.complete {
            return Err(no_dataset(name, found));
        } else {
            let known = found.join(", ");
            self.remark(format!(
                "the record does not hold {name}, so no mounts can be planned; that boot looked at: {known}"
            ));
        }
        Ok(false)
    }

    /// A dataset as it is while only these keys are loaded.
    pub(super) fn locked(&self, dataset: &Dataset) -> Dataset {
        let available = dataset.key_available.map(|_| self.keys.contains(dataset.key()));
        Dataset { key_available: available, ..dataset.clone() }
    }

    fn load_key(&mut self, key: String) {
        self.facts.attempt.layers.unlocked(&key);
        self.keys.insert(key);
        if let Some(Root::Dataset(root)) = &mut self.facts.attempt.root {
            root.key_available = Some(true);
        }
    }

    /// Of other keys than the root's it is known whether they can be had.
    fn load_keys(&mut self, keys: BTreeSet<String>) {
        for dataset in self.known.datasets.iter().filter(|d| d.key_available == Some(true)) {
            if keys.contains(dataset.key()) {
                self.keys.insert(dataset.key().to_owned());
            }
        }
        let all = self.facts.attempt.datasets.clone().unwrap_or_default().all;
        let all = all.iter().map(|d| self.locked(d)).collect();
        self.facts.keys_tried(keys, all);
    }

    fn known_root(&self) -> KnownRoot {
        let name = self.told.root.as_deref().unwrap_or_default();
        self.known.roots.get(name).cloned().unwrap_or_default()
    }

    fn mount_root(&mut self, mount: Mount) {
        if mount.fstype == super::devices::UNKNOWN_TYPE {
            let name = &mount.step.dataset;
            self.remark(format!("the type of the file system on {name} is not known here; a boot reads it"));
        }
        self.told.root = Some(self.told.root.take().unwrap_or_else(|| mount.step.dataset.clone()));
        self.facts.root_mounted(&mount);
        self.told.mounts.push(mount.step);
    }

    fn read_fstab(&mut self, below: usize) {
        let entries = self.known_root().fstab;
        if entries.is_none() {
            let name = self.told.root.clone().unwrap_or_default();
            self.remark(format!("the fstab of {name} is not known here, so nothing is planned from it"));
            // It may say that / stays read-only.
            self.facts.attempt.remounted = true;
        }
        self.facts.fstab_read(entries.unwrap_or_default(), below);
    }

    /// What is known of the root's pool, and of what is named in others; before fstab is read, of what lies below the root.
    fn ask_datasets(&mut self, root: &Dataset, all: bool) {
        let fstab = self.facts.attempt.fstab.clone();
        let entries = fstab.as_ref().map(|fstab| fstab.entries.as_slice()).unwrap_or_default();
        let named = mounts::named(entries, &self.request);
        let named: BTreeSet<&str> = named.into_iter().flat_map(names::lineage).collect();
        let top = if all { names::pool_of(&root.name) } else { &root.name };
        let belongs = |d: &&Dataset| names::is_within(&d.name, top) || named.contains(d.name.as_str());
        let all = self.known.datasets.iter().filter(belongs).map(|d| self.locked(d)).collect();
        self.facts.datasets_asked(all);
    }

    fn plan_mounts(&mut self, root: &Root) {
        let attempt = &self.facts.attempt;
        let datasets = attempt.datasets.clone().unwrap_or_default().all;
        let fstab = attempt.fstab.clone().unwrap_or_default().entries;
        let places = self.known_root().places;
        let place = |target: &str| places.get(target).map_or_else(|| target.to_owned(), String::clone);
        let ground = Ground {
            root,
            datasets: &datasets,
            fstab: &fstab,
            made: &attempt.made,
            given_up: &attempt.keys_tried,
            taken_away: &attempt.taken_away,
            place: &place,
        };
        let mut plan = mounts::plan(ground, &self.request);
        plan.steps.retain(|step| step.origin != Origin::Root);
        for step in plan.steps.iter().filter(|step| step.foreign.as_ref().is_some_and(|f| f.device)) {
            let fstype = step.foreign.as_ref().map(|f| f.fstype.clone()).unwrap_or_default();
            self.pretend(&step.dataset, &fstype);
        }
        self.facts.attempt.plan = Some(plan);
    }

    fn tell_left_out(&mut self) {
        let plan = self.facts.attempt.plan.clone().unwrap_or_default();
        self.told.skipped = mounts::condense(plan.skipped);
        for warning in plan.warnings {
            self.remark(warning);
        }
        self.facts.attempt.told = true;
    }

    pub(super) fn done(&mut self, step: MountStep, mounted: bool) {
        let at = mounted.then(|| step.place.clone());
        self.facts.mount_done(&step, at);
        self.told.mounts.push(step);
    }

    fn find_init(&mut self) {
        let asked = self.request.init.as_ref().map(|init| init.value.clone());
        let init = asked.or_else(|| self.known_root().init).unwrap_or_else(|| INIT.to_owned());
        self.told.init = Some(init.clone());
        self.facts.attempt.init = Some(init);
    }
}
