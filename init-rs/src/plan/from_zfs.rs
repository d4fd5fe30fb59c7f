//! From the kernel's property lists to plain facts. Only properties that are set somewhere are sent; the defaults are
//! ours to supply (reference zfs-ioctl 5.3).

use super::facts::{CanMount, Dataset, Mountpoint};
use crate::sorted;
use crate::zfs::ioctl::Objset;
use crate::zfs::nvlist::NvList;
use std::collections::BTreeMap;

/// What the kernel names as the source of a value that came with a stream.
const RECEIVED: &str = "$recvd";
const CONTEXTS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

fn number(properties: &NvList, name: &str) -> Option<u64> {
    properties.list(name).and_then(|p| p.u64("value"))
}

fn string(properties: &NvList, name: &str) -> Option<String> {
    properties.list(name).and_then(|p| p.text("value")).map(std::borrow::Cow::into_owned)
}

/// Where a value comes from: a dataset, [`RECEIVED`], or nowhere.
fn source(properties: &NvList, name: &str) -> Option<String> {
    let source = properties.list(name)?.text("source")?.into_owned();
    Some(source).filter(|source| !source.is_empty())
}

/// A string that was set, or received, on the dataset itself.
fn own_string(properties: &NvList, name: &str, dataset: &str) -> Option<String> {
    let source = source(properties, name)?;
    (source == dataset || source == RECEIVED).then(|| string(properties, name)).flatten()
}

fn on(properties: &NvList, name: &str, default: bool) -> bool {
    number(properties, name).map_or(default, |v| v != 0)
}

/// The effective mount point: inherited paths are continued with the rest of the dataset's name.
fn mountpoint(name: &str, properties: &NvList) -> Mountpoint {
    let Some(value) = string(properties, "mountpoint") else { return Mountpoint::Path(format!("/{name}")) };
    match value.as_str() {
        "none" => return Mountpoint::None,
        "legacy" => return Mountpoint::Legacy,
        _ => {}
    }
    let source = properties.list("mountpoint").and_then(|p| p.text("source")).unwrap_or_default();
    let relative = match source.as_ref() {
        "" => name,
        RECEIVED => "",
        source => name.strip_prefix(source).map_or("", |rest| rest.trim_start_matches('/')),
    };
    let base = value.trim_end_matches('/');
    Mountpoint::Path(match (base, relative) {
        ("", "") => "/".to_owned(),
        (base, "") => base.to_owned(),
        (base, relative) => format!("{base}/{relative}"),
    })
}

/// The facts of one dataset. `relatime_default` is on since OpenZFS 2.2.
pub fn dataset(objset: &Objset, relatime_default: bool) -> Dataset {
    let p = &objset.properties;
    let contexts = CONTEXTS.iter().filter_map(|name| {
        string(p, name).filter(|value| value != "none" && !value.is_empty()).map(|value| ((*name).to_owned(), value))
    });
    Dataset {
        name: objset.name.clone(),
        kind: objset.kind,
        canmount: match number(p, "canmount") {
            Some(0) => CanMount::Off,
            Some(2) => CanMount::NoAuto,
            _ => CanMount::On,
        },
        mountpoint: mountpoint(&objset.name, p),
        mountpoint_of: source(p, "mountpoint").filter(|source| !source.starts_with('$') && *source != objset.name),
        received: source(p, "mountpoint").as_deref() == Some(RECEIVED),
        overlay: on(p, "overlay", true),
        zol_mountpoint: own_string(p, "org.zol:mountpoint", &objset.name),
        readonly: on(p, "readonly", false),
        atime: on(p, "atime", true),
        relatime: on(p, "relatime", relatime_default),
        devices: on(p, "devices", true),
        exec: on(p, "exec", true),
        setuid: on(p, "setuid", true),
        nbmand: on(p, "nbmand", false),
        zoned: on(p, "zoned", false),
        // keystatus: 1 unavailable, 2 available; absent on unencrypted datasets
        key_available: number(p, "keystatus").map(|status| status == 2),
        encryption_root: string(p, "encryptionroot").filter(|root| !root.is_empty()),
        // It is kept only where the key belongs.
        key_location: string(p, "keylocation").filter(|location| location != "none"),
        contexts: contexts.collect(),
    }
}

/// Tells datasets where the keys of their encryption roots are, as far as those are among them.
pub fn share_key_locations(all: &mut [Dataset]) {
    let own = |d: &Dataset| Some((d.name.clone(), d.key_location.clone()?));
    let known: BTreeMap<String, String> = sorted::map(all.iter().filter_map(own));
    for dataset in all.iter_mut().filter(|d| d.key_location.is_none() && d.key_available.is_some()) {
        dataset.key_location = known.get(dataset.key()).cloned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zfs::ioctl::ObjsetKind;
    use crate::zfs::nvlist::Value;

    fn objset(name: &str, properties: &[(&str, Value, Option<&str>)]) -> Objset {
        let mut list = NvList::new();
        for (prop, value, source) in properties {
            let mut pair = NvList::new();
            pair.set("value", value.clone());
            if let Some(source) = source {
                pair.set("source", Value::Str(source.as_bytes().to_vec()));
            }
            list.set(prop, Value::List(pair));
        }
        Objset { name: name.into(), kind: ObjsetKind::Filesystem, properties: list }
    }

    #[test]
    fn mountpoints_follow_their_source() {
        let path = |value: &str| Value::Str(value.as_bytes().to_vec());
        let cases = [
            ("tank/home", vec![], "/tank/home"),
            ("tank/home", vec![("mountpoint", path("/home"), Some("tank/home"))], "/home"),
            ("tank/home/a", vec![("mountpoint", path("/home"), Some("tank/home"))], "/home/a"),
            ("penc/ROOT/deb", vec![("mountpoint", path("/"), Some("penc/ROOT"))], "/deb"),
            ("tank/a", vec![("mountpoint", path("/x"), Some("$recvd"))], "/x"),
            ("tank", vec![("mountpoint", path("/"), Some("tank"))], "/"),
            ("tank/a", vec![("mountpoint", path("/"), Some(""))], "/tank/a"),
        ];
        for (name, properties, expected) in cases {
            let found = dataset(&objset(name, &properties), true).mountpoint;
            assert_eq!(found, Mountpoint::Path(expected.into()), "{name} {properties:?}");
        }
    }

    #[test]
    fn a_users_mountpoint_counts_only_where_it_was_set() {
        let path = Value::Str(b"/x".to_vec());
        for (source, expected) in [("t/a", Some("/x")), ("$recvd", Some("/x")), ("t", None)] {
            let facts = dataset(&objset("t/a", &[("org.zol:mountpoint", path.clone(), Some(source))]), true);
            assert_eq!(facts.zol_mountpoint.as_deref(), expected, "{source}");
        }
    }

    #[test]
    fn where_a_mount_point_comes_from() {
        let path = |source| [("mountpoint", Value::Str(b"/x".to_vec()), source)];
        for (source, of, received) in [
            (Some("t/a"), None, false),
            (Some("t"), Some("t"), false),
            (Some("$recvd"), None, true),
            (None, None, false),
        ] {
            let facts = dataset(&objset("t/a", &path(source)), true);
            assert_eq!((facts.mountpoint_of.as_deref(), facts.received), (of, received), "{source:?}");
        }
        let facts = dataset(&objset("t/a", &[("overlay", Value::U64(0), None)]), true);
        assert!(!facts.overlay && dataset(&objset("t/a", &[]), true).overlay);
    }

    #[test]
    fn numbers_and_defaults() {
        let facts = dataset(
            &objset(
                "t/a",
                &[("canmount", Value::U64(2), None), ("keystatus", Value::U64(1), None), ("exec", Value::U64(0), None)],
            ),
            false,
        );
        assert_eq!((facts.canmount, facts.key_available, facts.exec), (CanMount::NoAuto, Some(false), false));
        assert!(facts.atime && facts.setuid && !facts.relatime);
    }
}
