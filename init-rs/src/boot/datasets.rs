//! The datasets that the plan of mounts is made from: no more of them are asked for than it needs.

use super::Boot;
use crate::cmdline::Which;
use crate::order;
use crate::plan::facts::Dataset;
use crate::plan::fstab::FstabEntry;
use crate::plan::{from_zfs, listcache, mounts, names};
use crate::sys::beneath::resolve;
use crate::zfs::ioctl::{Objset, Zfs};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// In a pool with more datasets than this, those to mount are taken from the list that the root keeps, if it keeps one: the
/// kernel needs milliseconds for each that it is asked about.
const MANY: usize = 100;

impl Boot<'_> {
    /// Every dataset that the settings can mean, and those of whatever imported pool that somebody named.
    pub(super) fn datasets(&mut self, root: &Dataset, fstab: &[FstabEntry]) -> Vec<Dataset> {
        let began = self.phases.start("datasets");
        let relatime = self.relatime_default();
        let zfs = Zfs::new(self.system);
        let pool = names::pool_of(&root.name);
        let listed = self.listed(pool);
        let limit = if listed.is_some() { MANY } else { usize::MAX };
        let enter = |o: &Objset| !mounts::begins_another_environment(root, &from_zfs::dataset(o, relatime));
        let walk = match self.request.mounts.which.value {
            Which::All => Some(zfs.walk(pool, limit, &enter)),
            Which::Children | Which::System => Some(zfs.walk(&root.name, usize::MAX, &enter)),
            Which::None | Which::List(_) => None,
        };
        let with_parents = |names: &[&str]| -> BTreeSet<String> {
            order::set(names.iter().flat_map(|name| names::lineage(name)).map(str::to_owned))
        };
        let named = with_parents(&mounts::named(fstab, &self.request));
        let mut to_ask = named.clone();
        let mut all = order::map([(root.name.clone(), root.clone())]);
        match walk {
            Some(Ok(walk)) if walk.complete => {
                all.extend(walk.found.iter().map(|o| (o.name.clone(), from_zfs::dataset(o, relatime))));
            }
            Some(Ok(_)) => {
                let listed = listed.unwrap_or_default();
                self.log.info(format!(
                    "pool {pool} has more than {MANY} datasets: the {} to look at are those of {}",
                    listed.len(),
                    listcache::path(pool)
                ));
                to_ask.extend(with_parents(&listed.iter().map(String::as_str).collect::<Vec<_>>()));
            }
            Some(Err(e)) => {
                self.log.error(format!("only what is named is mounted besides the root: {e}"));
                self.report.problems.push(e.to_string());
            }
            None => {}
        }
        // Parents come before their children in this order, so that another environment's children need not be asked about.
        let mut closed: Option<String> = None;
        for name in to_ask {
            let foreign = closed.as_ref().is_some_and(|closed| names::is_within(&name, closed));
            if all.contains_key(&name) || (foreign && !named.contains(&name)) {
                continue;
            }
            // One that does not exist, or whose pool is not imported, is told of by the plan.
            let Ok(objset) = zfs.objset(&name) else { continue };
            if !enter(&objset) {
                closed = Some(name.clone());
            }
            all.insert(name, from_zfs::dataset(&objset, relatime));
        }
        drop(began);
        all.into_values().collect()
    }

    /// What the root's own list of the pool has to be mounted; `None` without a list.
    fn listed(&self, pool: &str) -> Option<Vec<String>> {
        let path = resolve(self.system, &self.new_root, Path::new(&listcache::path(pool))).ok()?;
        let text = fs::read_to_string(path).ok().filter(|text| !text.is_empty())?;
        Some(listcache::mounted(&text, pool).into_iter().map(str::to_owned).collect())
    }
}
