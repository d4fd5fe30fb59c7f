//! What is left to mount in the booted system: all that `zfs mount -a` would, but nothing of another boot environment, and
//! nothing over what is mounted.

use std::collections::{BTreeMap, BTreeSet};

use super::nearness::Nearness;
use super::{MountStep, Origin, Skipped, parts, target_path};
use crate::plan::environments::Environments;
use crate::plan::facts::{CanMount, Dataset, Kind};
use crate::plan::options::mount_options;
use crate::sorted;

/// What is to be mounted, and what `zfs mount -a` would mount besides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rest {
    /// In the order of paths, parents before children.
    pub steps: Vec<MountStep>,
    /// What stays unmounted, and why.
    pub left: Vec<Skipped>,
}

/// Plans the rest. `datasets`: those of all imported pools, that of the root among them; `mounted`: what is mounted where,
/// of ZFS.
pub fn rest(root: &Dataset, datasets: &[Dataset], mounted: &[(String, String)]) -> Rest {
    let environments = Environments::new(root, datasets);
    let all: BTreeMap<&str, &Dataset> = sorted::map(datasets.iter().map(|d| (d.name.as_str(), d)));
    let mut taken: BTreeMap<String, String> =
        sorted::map(mounted.iter().map(|(dataset, target)| (target.clone(), dataset.clone())));
    let done: BTreeSet<&str> =
        mounted.iter().map(|(dataset, _)| dataset.as_str()).chain([root.name.as_str()]).collect();
    let mut wanted: Vec<(Nearness, &Dataset, String)> = datasets
        .iter()
        .filter(|d| !done.contains(d.name.as_str()))
        .filter_map(|d| Some((Nearness::of(d, &root.name, &all), d, automatic(d)?)))
        .collect();
    sorted::by(&mut wanted, |a, b| a.0.cmp(&b.0));
    let mut rest = Rest::default();
    for (_, dataset, target) in wanted {
        let holder = taken.get(&target).map(|holder| format!("{holder} is mounted on {target}"));
        let why = environments.other(&dataset.name).map(|other| other.why).or(holder);
        if let Some(why) = why {
            rest.left.push(Skipped { dataset: dataset.name.clone(), why, more: 0 });
            continue;
        }
        taken.insert(target.clone(), dataset.name.clone());
        rest.steps.push(step(dataset, target));
    }
    sorted::by(&mut rest.steps, |a, b| parts(&a.target).cmp(parts(&b.target)));
    rest
}

/// Which of these datasets belong to another boot environment or system than the root, and why.
pub fn foreign(root: &Dataset, datasets: &[Dataset]) -> BTreeMap<String, String> {
    let environments = Environments::new(root, datasets);
    sorted::map(datasets.iter().filter_map(|d| Some((d.name.clone(), environments.other(&d.name)?.why))))
}

/// Where `zfs mount -a` would mount a dataset, if it would.
fn automatic(dataset: &Dataset) -> Option<String> {
    let ours = dataset.kind == Kind::Filesystem
        && dataset.canmount == CanMount::On
        && !dataset.zoned
        && dataset.key_available != Some(false);
    target_path(dataset.path().filter(|_| ours)?).ok()
}

fn step(dataset: &Dataset, target: String) -> MountStep {
    MountStep {
        dataset: dataset.name.clone(),
        options: mount_options(dataset, None, &target, &[]),
        place: target.clone(),
        target,
        why: "canmount=on".to_owned(),
        origin: Origin::Property,
        nofail: false,
        foreign: None,
        key: None,
        overlay: dataset.overlay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::sample::dataset;

    use CanMount::{NoAuto, Off, On};

    fn layout() -> Vec<Dataset> {
        let rows = [
            ("r", Off, "none"),
            ("r/ROOT/a", NoAuto, "/"),
            ("r/ROOT/a/log", On, "/var/log"),
            ("r/ROOT/b", NoAuto, "/"),
            ("r/ROOT/b/log", On, "/var/log"),
            ("r/ROOT/b/only", On, "/only"),
            ("r/home", On, "/home"),
            ("r/archive/home", On, "/home"),
            ("r/archive/ROOT/x", NoAuto, "/"),
            ("r/late", On, "/srv/late"),
            ("r/later/home", On, "/home"),
            ("r/off", Off, "/off"),
            ("r/noauto", NoAuto, "/noauto"),
            ("r/legacy", On, "legacy"),
            ("data", On, "/data"),
            ("data/www", On, "/srv"),
            ("data/www2", On, "/srv"),
            ("data/old/ROOT/x", NoAuto, "/"),
            ("data/old/ROOT/x/var", On, "/var"),
            ("data/old/home", On, "/home"),
        ];
        rows.iter().map(|(name, canmount, mountpoint)| dataset(name, *canmount, mountpoint)).collect()
    }

    /// Datasets that are planned, and those that stay unmounted with the end of the reason.
    fn planned(all: &[Dataset], mounted: &[(&str, &str)]) -> (Vec<String>, Vec<(String, String)>) {
        let root = all.iter().find(|d| d.name == "r/ROOT/a").unwrap();
        let mounted: Vec<_> = mounted.iter().map(|(d, t)| ((*d).to_owned(), (*t).to_owned())).collect();
        let rest = rest(root, all, &mounted);
        let left = rest.left.into_iter().map(|skip| (skip.dataset, skip.why));
        (rest.steps.iter().map(|step| format!("{} {}", step.dataset, step.target)).collect(), left.collect())
    }

    #[test]
    fn nothing_of_another_environment_and_nothing_over_what_is_mounted() {
        let early = [("r/ROOT/a", "/"), ("r/ROOT/a/log", "/var/log"), ("r/home", "/home")];
        let (steps, left) = planned(&layout(), &early);
        // Parents first, although the other pool's dataset is farther away.
        assert_eq!(steps, ["data /data", "data/www /srv", "r/late /srv/late"]);
        let why = |name: &str| left.iter().find(|(dataset, _)| dataset == name).map(|(_, why)| why.as_str());
        for name in ["r/ROOT/b/log", "r/ROOT/b/only"] {
            assert!(why(name).unwrap().contains("another boot environment, r/ROOT/b"), "{left:?}");
        }
        assert!(why("r/archive/home").unwrap().contains("r/archive holds the root r/archive/ROOT/x"), "{left:?}");
        assert!(why("data/old/ROOT/x/var").unwrap().contains("data/old/ROOT/x"), "{left:?}");
        // Another pool's own dataset is no system's subtree: what lies beside one in it is mounted.
        assert!(why("data/old/home").unwrap().contains("data/old holds the root"), "{left:?}");
        assert_eq!(why("r/later/home"), Some("r/home is mounted on /home"));
        assert_eq!(why("data/www2"), Some("data/www is mounted on /srv"));
        assert_eq!(left.len(), 7, "what `zfs mount -a` would not mount is not told of: {left:?}");
    }

    #[test]
    fn a_machine_with_one_environment_leaves_nothing() {
        let all: Vec<_> = layout().into_iter().filter(|d| ["r", "r/ROOT/a", "r/home"].contains(&&*d.name)).collect();
        assert_eq!(planned(&all, &[("r/ROOT/a", "/")]), (vec!["r/home /home".to_owned()], vec![]));
    }

    #[test]
    fn what_zfs_mount_would_not_mount_is_not_mounted() {
        let mut all = vec![dataset("r/ROOT/a", NoAuto, "/"), dataset("r/ROOT/b", NoAuto, "/")];
        let mut add = |name: &str, change: fn(&mut Dataset)| {
            let mut one = dataset(name, On, "/x");
            change(&mut one);
            all.push(one);
        };
        add("r/locked", |d| d.key_available = Some(false));
        add("r/zoned", |d| d.zoned = true);
        add("r/volume", |d| d.kind = Kind::Volume);
        add("r/dots", |d| d.mountpoint = crate::plan::facts::Mountpoint::Path("/a/../b".into()));
        assert_eq!(planned(&all, &[("r/ROOT/a", "/")]), (vec![], vec![]));
        let unlocked = all.iter_mut().find(|d| d.name == "r/locked").unwrap();
        unlocked.key_available = Some(true);
        assert_eq!(planned(&all, &[("r/ROOT/a", "/")]).0, ["r/locked /x"]);
    }
}
