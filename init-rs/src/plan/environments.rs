//! Which datasets belong to another boot environment than the selected one.
//!
//! No property says so, so layout has to. The rule errs on the side of leaving a dataset out: a foreign `/var` would shadow
//! the right one. The early boot and what mounts the rest in the booted system go by it alike.

use std::collections::BTreeMap;

use super::facts::{CanMount, Dataset, Mountpoint};
use super::names;
use crate::sorted;

/// Name of the container that holds nothing but boot environments, by the convention of every distribution.
const CONTAINER: &str = "ROOT";

/// The pool as seen from the selected root.
pub(super) struct Environments<'a> {
    root: &'a Dataset,
    datasets: BTreeMap<&'a str, &'a Dataset>,
    /// Subtrees outside of the root's own that hold another system's root: their tops, and that root with what shows it.
    systems: BTreeMap<&'a str, (&'a str, &'static str)>,
}

/// Whose a dataset is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Other {
    /// The root of the other environment.
    pub(super) root: String,
    /// In words.
    pub(super) why: String,
}

impl<'a> Environments<'a> {
    pub(super) fn new(root: &'a Dataset, all: &'a [Dataset]) -> Self {
        let datasets = sorted::map(all.iter().map(|d| (d.name.as_str(), d)));
        let mut environments = Self { root, datasets, systems: BTreeMap::new() };
        let mut systems = BTreeMap::new();
        for dataset in all {
            let name = dataset.name.as_str();
            // The selected root, what it lies in and what lies in it are no other system.
            if names::is_within(&root.name, name) || names::is_within(name, &root.name) {
                continue;
            }
            if let (Some(sign), Some(top)) = (environments.sign(name), top(name, &root.name)) {
                systems.entry(top).or_insert((name, sign));
            }
        }
        environments.systems = systems;
        environments
    }

    /// Whether `dataset` is the root of another environment, so that nothing below it can belong to the selected root.
    pub(super) fn begins_at(root: &Dataset, dataset: &Dataset) -> bool {
        let alone = Environments::new(root, std::slice::from_ref(dataset));
        !names::is_within(&root.name, &dataset.name) && alone.sign(&dataset.name).is_some()
    }

    /// Whether `name` is, or lies below, the root of another boot environment, or in the same subtree as the root of another
    /// system; says which and how that shows.
    pub(super) fn other(&self, name: &str) -> Option<Other> {
        // The selected root and what it lies in are not foreign.
        let mut foreign = names::lineage(name).filter(|part| !names::is_within(&self.root.name, part));
        foreign.find_map(|part| {
            if let Some(sign) = self.sign(part) {
                let why = format!("it belongs to another boot environment, {part} ({sign})");
                return Some(Other { root: part.to_owned(), why });
            }
            let (root, sign) = self.systems.get(part)?;
            let why = format!("it belongs to another system: {part} holds the root {root} ({sign})");
            Some(Other { root: (*root).to_owned(), why })
        })
    }

    /// What shows that `name` itself is the root of an environment.
    pub(super) fn sign(&self, name: &str) -> Option<&'static str> {
        let parent = names::parent(name)?;
        if names::base(parent) == CONTAINER {
            return Some("it lies in a container named ROOT");
        }
        let dataset = *self.datasets.get(name)?;
        // canmount=off makes a container, e.g. one with mountpoint=/ so that its children land in /home and /srv.
        if dataset.canmount == CanMount::Off {
            return None;
        }
        if dataset.path() == Some("/") {
            return Some("its mountpoint is /");
        }
        if Some(parent) == names::parent(&self.root.name) { self.sibling_sign(dataset) } else { None }
    }

    /// What shows that a sibling of the selected root is a root too, not data beside it such as `pool/home`.
    fn sibling_sign(&self, sibling: &Dataset) -> Option<&'static str> {
        if sibling.canmount == CanMount::NoAuto {
            return Some("beside the root, canmount=noauto");
        }
        match (&sibling.mountpoint, &self.root.mountpoint) {
            (Mountpoint::Legacy, _) => Some("beside the root, mountpoint=legacy"),
            (Mountpoint::None, Mountpoint::None) => Some("beside the root, mountpoint=none like it"),
            (Mountpoint::Path(a), Mountpoint::Path(b))
                if inherited_place(sibling, a) == inherited_place(self.root, b) =>
            {
                inherited_place(sibling, a).map(|_| "beside the root, mountpoint derived from its name like the root's")
            }
            _ => None,
        }
    }
}

/// The top of the subtree that holds `name` and not `root`: the first of its lineage in which `root` does not lie. Another
/// pool's own dataset is not that: data and a copy of a system can lie in it side by side.
fn top<'a>(name: &'a str, root: &str) -> Option<&'a str> {
    names::lineage(name).skip(1).find(|part| !names::is_within(root, part))
}

/// The directory a dataset is mounted in, if it is mounted there under its own name.
fn inherited_place<'a>(dataset: &Dataset, path: &'a str) -> Option<&'a str> {
    path.strip_suffix(names::base(&dataset.name)).filter(|place| place.ends_with('/') && *place != "/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::sample::dataset;

    /// Datasets of the layout that count as another environment's, for the given root.
    fn foreign<'a>(root: &str, layout: &[(&'a str, CanMount, &str)]) -> Vec<&'a str> {
        let all: Vec<_> = layout.iter().map(|(n, c, m)| dataset(n, *c, m)).collect();
        let root = all.iter().find(|d| d.name == root).unwrap();
        let environments = Environments::new(root, &all);
        let found: Vec<_> = layout.iter().map(|(n, ..)| *n).filter(|n| environments.other(n).is_some()).collect();
        // Where a walk may stop: at datasets below which all are foreign.
        for end in all.iter().filter(|d| Environments::begins_at(root, d)) {
            assert!(
                all.iter().filter(|d| names::is_within(&d.name, &end.name)).all(|d| found.contains(&d.name.as_str()))
            );
        }
        found
    }

    use CanMount::{NoAuto, Off, On};

    #[test]
    fn debian_guide() {
        let layout = [
            ("rpool", Off, "/"),
            ("rpool/ROOT", Off, "none"),
            ("rpool/ROOT/debian", NoAuto, "/"),
            ("rpool/ROOT/debian/usr", On, "/usr"),
            ("rpool/ROOT/other", NoAuto, "/"),
            ("rpool/ROOT/other/var", On, "/var"),
            ("rpool/home", On, "/home"),
            ("rpool/home/root", On, "/root"),
            ("rpool/var", Off, "/var"),
            ("rpool/var/log", On, "/var/log"),
        ];
        assert_eq!(foreign("rpool/ROOT/debian", &layout), ["rpool/ROOT/other", "rpool/ROOT/other/var"]);
        // the pool's own dataset as root: environments below it are still others
        assert_eq!(foreign("rpool", &layout).len(), 4);
    }

    #[test]
    fn root_beside_data() {
        let layout = [
            ("tank", Off, "none"),
            ("tank/root", NoAuto, "/"),
            ("tank/root2", NoAuto, "/"),
            ("tank/root2/var", On, "/var"),
            ("tank/old", NoAuto, "/old"),
            ("tank/old/var", On, "/var"),
            ("tank/home", On, "/home"),
            ("tank/data", On, "none"),
            ("tank/data/www", On, "/srv/www"),
            ("tank/top", Off, "/"),
            ("tank/top/opt", On, "/opt"),
        ];
        assert_eq!(foreign("tank/root", &layout), ["tank/root2", "tank/root2/var", "tank/old", "tank/old/var"]);
    }

    #[test]
    fn legacy_and_none_roots() {
        let layout = [
            ("system", On, "legacy"),
            ("system/default", On, "legacy"),
            ("system/mini", On, "legacy"),
            ("system/mini/var", On, "/var"),
            ("system/home", On, "/home"),
            ("system/n1", On, "none"),
            ("system/n1/x", On, "/x"),
            ("system/n2", On, "none"),
            ("system/n2/x", On, "/x"),
        ];
        assert_eq!(foreign("system/default", &layout), ["system/mini", "system/mini/var"]);
        assert_eq!(
            foreign("system/n1", &layout),
            ["system/default", "system/mini", "system/mini/var", "system/n2", "system/n2/x"]
        );
    }

    #[test]
    fn mountpoints_derived_from_names() {
        let layout = [
            ("tank", On, "/tank"),
            ("tank/sys", On, "/tank/sys"),
            ("tank/sys/a", On, "/tank/sys/a"),
            ("tank/sys/a/var", On, "/tank/sys/a/var"),
            ("tank/sys/b", On, "/tank/sys/b"),
            ("tank/sys/b/var", On, "/tank/sys/b/var"),
            ("tank/sys/home", On, "/home"),
        ];
        assert_eq!(foreign("tank/sys/a", &layout), ["tank/sys/b", "tank/sys/b/var"]);
    }

    #[test]
    fn two_systems_in_a_pool() {
        let layout = [
            ("t/a/root", NoAuto, "/"),
            ("t/a/home", On, "/home"),
            ("t/b/root", NoAuto, "/"),
            ("t/b/root/var", On, "/var"),
            ("t/b/home", On, "/home"),
        ];
        assert_eq!(foreign("t/a/root", &layout), ["t/b/root", "t/b/root/var", "t/b/home"]);
        // A root inside the selected one's own subtree, a container's, makes foreign only what is below it.
        let layout = [
            ("t/root", NoAuto, "/"),
            ("t/root/var", On, "/var"),
            ("t/root/var/machines", On, "/var/machines"),
            ("t/root/var/machines/guest", NoAuto, "/"),
            ("t/root/var/machines/guest/etc", On, "/etc"),
        ];
        let guest = ["t/root/var/machines/guest", "t/root/var/machines/guest/etc"];
        assert_eq!(foreign("t/root", &layout), guest);
    }

    /// What was received from another machine, with all that belonged to it.
    #[test]
    fn a_subtree_with_another_systems_root_is_that_systems() {
        let layout = [
            ("rpool", Off, "none"),
            ("rpool/ROOT/debian", NoAuto, "/"),
            ("rpool/home", On, "/home"),
            ("rpool/archive", On, "none"),
            ("rpool/archive/old", Off, "none"),
            ("rpool/archive/old/ROOT/debian", NoAuto, "/"),
            ("rpool/archive/old/home", On, "/home"),
            ("rpool/archive/photos", On, "/srv/photos"),
        ];
        let archive = ["archive", "archive/old", "archive/old/ROOT/debian", "archive/old/home", "archive/photos"];
        assert_eq!(foreign("rpool/ROOT/debian", &layout), archive.map(|name| format!("rpool/{name}")));
        let all: Vec<_> = layout.iter().map(|(n, c, m)| dataset(n, *c, m)).collect();
        let other = Environments::new(&all[1], &all).other("rpool/archive/photos").unwrap();
        assert_eq!(other.root, "rpool/archive/old/ROOT/debian");
        assert!(other.why.contains("another system: rpool/archive holds the root"), "{}", other.why);
    }
}
