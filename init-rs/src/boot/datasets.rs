//! The step that asks for the datasets which the mounts are planned from: no more than can matter, because the kernel opens
//! each that it is asked about.

use super::Boot;
use super::mounts::TEXT_MAX;
use crate::cmdline::Which;
use crate::plan::facts::Dataset;
use crate::plan::{from_zfs, listcache, mounts, names};
use crate::sys::beneath::resolve;
use crate::zfs::ioctl::{Objset, Zfs};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// In a pool with more datasets than this, those to mount are taken from the list that the root keeps, if it keeps one: the
/// kernel needs milliseconds for each that it is asked about.
const MANY: usize = 100;

/// Datasets by their names.
type All = BTreeMap<String, Dataset>;

impl Boot<'_> {
    /// Every dataset that the settings can mean, and those of whatever imported pool that somebody named. Until fstab is read
    /// (`all`), only those below the root, and those that the words name.
    pub(super) fn ask_datasets(&mut self, root: &Dataset, all: bool) {
        let phase = self.phases.start("datasets");
        let attempt = &self.facts.attempt;
        let known = attempt.datasets.clone().unwrap_or_default().all;
        let fstab = attempt.fstab.clone();
        let mut found: All = known.into_iter().map(|dataset| (dataset.name.clone(), dataset)).collect();
        found.insert(root.name.clone(), root.clone());
        let entries = fstab.as_ref().map(|fstab| fstab.entries.as_slice()).unwrap_or_default();
        let mut named = with_parents(mounts::named(entries, &self.request));
        named.extend(counterparts(root, entries.iter().map(|entry| entry.source.as_str())));
        let which = self.request.mounts.which.value.clone();
        let below = matches!(which, Which::All | Which::Children | Which::System);
        if !all && below {
            self.walk(&root.name, root, usize::MAX, &mut found);
        }
        let mut to_ask = named.clone();
        if all && which == Which::All && names::parent(&root.name).is_some() {
            to_ask.extend(self.rest_of_pool(root, &mut found));
        }
        self.leave_waiting(names::pool_of(&root.name), &mut to_ask, &mut found);
        self.ask_for(root, to_ask, &named, &mut found);
        self.find_keys(&mut found);
        drop(phase);
        self.facts.datasets_asked(found.into_values().collect());
    }

    /// What lies outside of the root's own subtree. In a large pool with a list, those to ask for come back instead.
    fn rest_of_pool(&mut self, root: &Dataset, found: &mut All) -> BTreeSet<String> {
        let pool = names::pool_of(&root.name);
        let Some(listed) = self.listed(pool) else {
            self.walk(pool, root, usize::MAX, found);
            return BTreeSet::new();
        };
        if self.walk(pool, root, MANY, found) {
            return BTreeSet::new();
        }
        self.log.info(format!(
            "pool {pool} has more than {MANY} datasets besides those of the root: the {} to look at are those of {}",
            listed.len(),
            listcache::path(pool)
        ));
        with_parents(listed.iter().map(String::as_str))
    }

    /// Every dataset below `top`, but for the root's own if that is not the top, and for what lies in another environment;
    /// false if there are more than the limit.
    fn walk(&mut self, top: &str, root: &Dataset, limit: usize, found: &mut All) -> bool {
        let relatime = self.relatime_default();
        let enter = |o: &Objset| {
            o.name != root.name && !mounts::begins_another_environment(root, &from_zfs::dataset(o, relatime))
        };
        match Zfs::new(self.system).walk(top, limit, &enter) {
            Ok(walk) if walk.complete => {
                for objset in &walk.found {
                    found.entry(objset.name.clone()).or_insert_with(|| from_zfs::dataset(objset, relatime));
                }
                true
            }
            Ok(_) => false,
            Err(e) => {
                self.trouble(format!("only what is named is mounted of {top}: {e}"));
                true
            }
        }
    }

    /// Takes away what lies in another pool than the root's that waits for a disk: nothing of it is worth waiting with it.
    fn leave_waiting(&mut self, own: &str, to_ask: &mut BTreeSet<String>, found: &mut All) {
        let pools: BTreeSet<String> = to_ask.iter().map(|name| names::pool_of(name).to_owned()).collect();
        for pool in pools.iter().filter(|pool| *pool != own) {
            if let Some(why) = self.with_pools(|pools| pools.keeps(pool)) {
                self.trouble(format!("nothing is mounted of pool {pool}: it {why}"));
                self.guard.leave(pool);
                to_ask.retain(|name| names::pool_of(name) != pool);
                found.retain(|name, _| names::pool_of(name) != pool);
            }
        }
    }

    /// Asks for datasets by name. What lies in another environment is asked for only if it was `named`.
    fn ask_for(&self, root: &Dataset, to_ask: BTreeSet<String>, named: &BTreeSet<String>, found: &mut All) {
        let (zfs, relatime) = (Zfs::new(self.system), self.relatime_default());
        // Parents come before their children in this order, so that another environment's children need not be asked about.
        let mut closed: Option<String> = None;
        for name in to_ask {
            let foreign = closed.as_ref().is_some_and(|closed| names::is_within(&name, closed));
            if found.contains_key(&name) || (foreign && !named.contains(&name)) {
                continue;
            }
            // One that does not exist, or whose pool is not imported, is told of by the plan.
            let Ok(objset) = zfs.objset(&name) else { continue };
            let dataset = from_zfs::dataset(&objset, relatime);
            if mounts::begins_another_environment(root, &dataset) {
                closed = Some(name.clone());
            }
            found.insert(name, dataset);
        }
    }

    /// Where the keys of locked datasets are: only the encryption root itself says so.
    fn find_keys(&self, found: &mut All) {
        let mut known: BTreeMap<String, Option<String>> = BTreeMap::new();
        for dataset in found.values_mut().filter(|d| d.key_available == Some(false) && d.key_location.is_none()) {
            let ask = || self.key_location(&dataset.name);
            dataset.key_location = known.entry(dataset.key().to_owned()).or_insert_with(ask).clone();
        }
    }

    /// `keylocation` of a dataset's encryption root.
    pub(super) fn key_location(&self, dataset: &str) -> Option<String> {
        Zfs::new(self.system).encryption(dataset).ok().flatten().map(|facts| facts.location)
    }

    /// What the root's own list of the pool has to be looked at; `None` without a list.
    fn listed(&self, pool: &str) -> Option<Vec<String>> {
        let path = resolve(self.system, &self.new_root, Path::new(&listcache::path(pool))).ok()?;
        let bytes = match self.system.read(&path, TEXT_MAX) {
            Ok(bytes) => Some(bytes).filter(|bytes| !bytes.is_empty())?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => {
                let path = listcache::path(pool);
                self.log.warn(format!("{path} cannot be read, so every dataset of pool {pool} is asked about: {e}"));
                return None;
            }
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Some(listcache::to_look_at(&text, pool).into_iter().map(str::to_owned).collect())
    }
}

fn with_parents<'n>(names: impl IntoIterator<Item = &'n str>) -> BTreeSet<String> {
    names.into_iter().flat_map(names::lineage).map(str::to_owned).collect()
}

/// What the datasets of another environment that fstab names could be called in this one. Most do not exist.
fn counterparts<'n>(root: &Dataset, named: impl Iterator<Item = &'n str>) -> BTreeSet<String> {
    let own = |name: &str| {
        let rest = name.strip_prefix(names::parent(&root.name)?)?.strip_prefix('/')?;
        Some(format!("{}/{}", root.name, rest.split_once('/')?.1))
    };
    named.filter(|name| !names::is_within(name, &root.name)).filter_map(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counterparts_of_what_lies_beside_the_root() {
        let root = Dataset::with_defaults("p/ROOT/new");
        let named = ["p/ROOT/old/usr", "p/ROOT/new/var", "p/srv", "p/ROOT/old", "/dev/sda1"];
        assert_eq!(counterparts(&root, named.into_iter()), BTreeSet::from(["p/ROOT/new/usr".to_owned()]));
    }
}
