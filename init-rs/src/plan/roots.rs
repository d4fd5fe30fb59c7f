//! The datasets of a pool that look like roots, for a person to choose from.

use super::environments::Environments;
use super::facts::{CanMount, Dataset, Kind, Mountpoint};
use super::names;
use crate::cmdline::{Decided, Fallback, Request, Selector, Stack, is_block_device};
use crate::image::ExpectedRoot;

/// A dataset that could be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootCandidate {
    /// Its name.
    pub dataset: String,
    /// What shows that it is a root.
    pub why: String,
    /// Whether its key has to be entered first.
    pub locked: bool,
    /// Whether it was looked into, and there is no init.
    pub no_init: bool,
}

impl RootCandidate {
    fn new(dataset: &Dataset, why: String) -> Self {
        let locked = dataset.key_available == Some(false);
        Self { dataset: dataset.name.clone(), why, locked, no_init: false }
    }
}

fn legacy(dataset: &Dataset) -> Option<RootCandidate> {
    let mountable = dataset.kind == Kind::Filesystem && dataset.canmount != CanMount::Off;
    mountable.then(|| RootCandidate::new(dataset, "mountpoint=legacy".to_owned()))
}

/// The roots of one pool, by name; `all` are its datasets. What counts as one depends on a root that is known to be one:
/// `current`, else `bootfs`, else the first that is mounted on /.
pub fn candidates(all: &[Dataset], bootfs: Option<&str>, current: Option<&str>) -> Vec<RootCandidate> {
    let named = |name: Option<&str>| all.iter().find(|d| Some(d.name.as_str()) == name);
    let on_slash = || all.iter().find(|d| d.path() == Some("/") && d.canmount != CanMount::Off);
    let in_container = || all.iter().find(|d| names::parent(&d.name).is_some_and(|p| names::base(p) == "ROOT"));
    let Some(known) = named(current).or_else(|| named(bootfs)).or_else(on_slash).or_else(in_container) else {
        // Nothing shows a root: what an fstab mounts may be one.
        return all.iter().filter(|d| d.mountpoint == Mountpoint::Legacy).filter_map(legacy).collect();
    };
    let environments = Environments::new(known, all);
    let candidate = |dataset: &Dataset| {
        let why = if Some(dataset.name.as_str()) == bootfs {
            "bootfs".to_owned()
        } else if dataset.name == known.name {
            "a root".to_owned()
        } else {
            environments.sign(&dataset.name)?.to_owned()
        };
        Some(RootCandidate::new(dataset, why))
    };
    all.iter().filter(|d| d.kind == Kind::Filesystem).filter_map(candidate).collect()
}

/// Names of [`candidates`] of a pool without `bootfs`.
pub fn names(all: &[Dataset]) -> Vec<String> {
    candidates(all, None, None).into_iter().map(|root| root.dataset).collect()
}

/// Makes `name` (`pool/dataset`, `pool/dataset@snapshot`, a block device such as `UUID=...`, or `layers:NAME:...`) the wanted root.
pub fn ask_for(request: &mut Request, name: &str, why: &str) -> Result<(), String> {
    if let Some(stack) = Stack::parse(name) {
        take_layers(request, &stack?, why);
        return Ok(());
    }
    if is_block_device(name) {
        take(request, Decided::new(Selector::Device(name.to_owned()), why));
        return Ok(());
    }
    let (dataset, snapshot) = name.split_once('@').map_or((name, None), |(d, s)| (d, Some(s)));
    names::check(dataset).map_err(|e| format!("{dataset:?}: {e}"))?;
    if let Some(snapshot) = snapshot
        && (snapshot.is_empty() || snapshot.contains(['@', '/']))
    {
        return Err(format!("{name:?}: expected dataset@snapshot"));
    }
    let pool = names::pool_of(dataset).to_owned();
    take(request, Decided::new(Selector::Dataset { pool, dataset: dataset.to_owned() }, why));
    request.snapshot = snapshot.map(|s| Decided::new(s.to_owned(), why));
    Ok(())
}

/// Makes this the wanted root, without layers. What was asked to be done to the root that the command line named (roll it back, take a
/// snapshot of it) is not done to this one.
pub fn take(request: &mut Request, root: Decided<Selector>) {
    request.snapshot = None;
    request.layers = None;
    nothing_with_snapshots(request, &root.why);
    let first = request.instead_of.take().unwrap_or_else(|| request.root.value.clone());
    request.instead_of = Some(first).filter(|first| *first != root.value);
    request.root = root;
}

/// Makes this the wanted root; it stands in for another.
pub fn fall_back_to(request: &mut Request, fallback: Decided<Fallback>) {
    match fallback.value {
        Fallback::Root(root) => take(request, Decided::new(root, fallback.why)),
        Fallback::Layers(stack) => take_layers(request, &stack, &fallback.why),
    }
}

/// Makes these layers the wanted root, with what the words say of layers whichever they are.
fn take_layers(request: &mut Request, stack: &Stack, why: &str) {
    let base = stack.base.clone().unwrap_or_else(|| request.root.value.clone());
    take(request, Decided::new(base, why));
    let named = request.stacking.as_ref().map(|settings| settings.named(Decided::new(stack.names.clone(), why)));
    let unusable = "a word about layers on the command line cannot be obeyed; retry with another in its place";
    match named {
        Some(Ok(settings)) => request.layers = Some(settings),
        Some(Err(note)) => request.root.value = Selector::Unusable(note.message),
        None => request.root.value = Selector::Unusable(unusable.to_owned()),
    }
}

fn nothing_with_snapshots(request: &mut Request, why: &str) {
    request.snapshots.rollback = Decided::new(false, why);
    request.snapshots.rollback_to = None;
    request.snapshots.take = None;
    request.snapshots.clone = None;
}

/// Makes the root that the image was packed for the one that is asked for, where no word names any.
pub fn prefer_packed(request: &mut Request, packed: Option<&ExpectedRoot>) {
    if let Some(root) = packed.filter(|root| request.root.is_default() && is_block_device(&root.source)) {
        let why = "default: the image was packed for it";
        request.root = Decided::new(Selector::Device(root.source.clone()), why);
        request.ours = false;
        request.root_fstype.get_or_insert_with(|| Decided::new(vec![root.fstype.clone()], why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::sample::dataset;

    fn names_of(all: &[Dataset], bootfs: Option<&str>, current: Option<&str>) -> Vec<String> {
        candidates(all, bootfs, current).into_iter().map(|c| c.dataset).collect()
    }

    use CanMount::{NoAuto, Off, On};

    #[test]
    fn environments_are_found_from_any_known_root() {
        let all = [
            dataset("r", Off, "/"),
            dataset("r/ROOT", Off, "none"),
            dataset("r/ROOT/a", NoAuto, "/"),
            dataset("r/ROOT/a/var", On, "/var"),
            dataset("r/ROOT/b", NoAuto, "legacy"),
            dataset("r/home", On, "/home"),
        ];
        let both = ["r/ROOT/a", "r/ROOT/b"];
        assert_eq!(names_of(&all, Some("r/ROOT/b"), None), both);
        assert_eq!(names_of(&all, None, Some("r/ROOT/a")), both);
        assert_eq!(names_of(&all, None, None), both);
        assert_eq!(candidates(&all, Some("r/ROOT/b"), None)[1].why, "bootfs");
    }

    #[test]
    fn legacy_siblings_of_bootfs() {
        let all = [
            dataset("s", On, "none"),
            dataset("s/default", On, "legacy"),
            dataset("s/mini", On, "legacy"),
            dataset("s/home", On, "/home"),
        ];
        assert_eq!(names_of(&all, Some("s/default"), None), ["s/default", "s/mini"]);
        assert_eq!(names_of(&all, None, None), ["s/default", "s/mini"]);
    }

    #[test]
    fn without_any_sign_what_fstab_mounts_may_be_a_root() {
        let all = [
            dataset("n", On, "none"),
            dataset("n/nixos", NoAuto, "legacy"),
            dataset("n/home", On, "/home"),
            dataset("n/off", Off, "legacy"),
        ];
        assert_eq!(names_of(&all, None, None), ["n/nixos"]);
        assert_eq!(names(&all), ["n/nixos"]);
    }

    #[test]
    fn volumes_are_no_roots_and_locked_ones_say_so() {
        let volume = Dataset { kind: Kind::Volume, ..dataset("p/ROOT/v", NoAuto, "/") };
        let locked = Dataset { key_available: Some(false), ..dataset("p/ROOT/x", NoAuto, "/") };
        let found = candidates(&[volume, locked], None, None);
        assert_eq!(found.len(), 1);
        assert!(found[0].locked && found[0].dataset == "p/ROOT/x");
    }

    #[test]
    fn a_chosen_root_is_not_rolled_back() {
        let mut request = crate::cmdline::parse(b"root=ZFS=p/a");
        request.snapshots.rollback_to = Some(Decided::new(None, "bootfs.rollback"));
        ask_for(&mut request, "p/b@s", "chosen").unwrap();
        assert_eq!(request.root.value, Selector::Dataset { pool: "p".into(), dataset: "p/b".into() });
        assert_eq!(request.snapshot.clone().unwrap().value, "s");
        assert!(request.snapshots.rollback_to.is_none());
        ask_for(&mut request, "p/c", "chosen").unwrap();
        assert!(request.snapshot.is_none());
        for wrong in ["p//a", "p/a@", "p/a@b@c", "p/a@b/c", ""] {
            assert!(ask_for(&mut request, wrong, "x").is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn layers_by_their_name() {
        let mut request = crate::cmdline::parse(b"root=UUID=1 taproot.layers=new:base taproot.upper=ram");
        ask_for(&mut request, "layers:old:base", "chosen").unwrap();
        assert_eq!(request.root.value, Selector::Device("UUID=1".into()));
        let layers = request.layers.clone().unwrap();
        assert_eq!(
            (layers.names.value, layers.upper.why.as_str()),
            (vec!["old".into(), "base".into()], "taproot.upper=ram")
        );
        fall_back_to(&mut request, Decided::new(Fallback::Root(Selector::Auto), "fallback"));
        assert_eq!((&request.root.value, &request.layers), (&Selector::Auto, &None));
        ask_for(&mut request, "layers:a@t/b", "chosen").unwrap();
        assert!(
            request.layers.is_some()
                && matches!(&request.root.value, Selector::Dataset { dataset, .. } if dataset == "t/b")
        );
        assert!(ask_for(&mut request, "layers:a:a", "chosen").is_err());
        let mut request = crate::cmdline::parse(b"root=UUID=1 taproot.upper=x");
        ask_for(&mut request, "layers:a", "chosen").unwrap();
        assert!(matches!(request.root.value, Selector::Unusable(_)));
    }

    #[test]
    fn a_packed_root_counts_where_no_word_names_one() {
        let packed = ExpectedRoot { source: "UUID=1-2".into(), fstype: "ext4".into() };
        let root = |line: &str| {
            let mut request = crate::cmdline::parse(line.as_bytes());
            prefer_packed(&mut request, Some(&packed));
            let types = request.root_fstype.map(|types| types.value.join(",")).unwrap_or_default();
            (request.root.value, types)
        };
        for line in ["", "quiet ro taproot.wait=5"] {
            assert_eq!(root(line), (Selector::Device("UUID=1-2".into()), "ext4".into()), "{line}");
        }
        assert_eq!(root("rootfstype=xfs"), (Selector::Device("UUID=1-2".into()), "xfs".into()));
        for line in
            ["root=zfs:AUTO", "zfs=bootfs", "zfs=tank", "rpool=tank", "bootfs=tank/r", "rootfstype=zfs", "boot=zfs"]
        {
            assert!(!matches!(root(line).0, Selector::Device(_)), "{line}");
        }
        assert_eq!(root("root=LABEL=x"), (Selector::Device("LABEL=x".into()), String::new()));
        let mut request = crate::cmdline::parse(b"");
        prefer_packed(&mut request, None);
        assert_eq!(request.root.value, Selector::Auto);
    }
}
