//! What `taproot explain` needs to decide a boot again for another command line, in as few bytes as possible: properties at
//! their defaults are left out, one dataset is one line.

use super::json::Json;
use crate::image::{ExpectedPool, ExpectedRoot};
use crate::plan::facts::{CanMount, Dataset, Kind, Mountpoint};
use crate::plan::fstab::FstabEntry;
use crate::plan::names;
use crate::sorted;

/// More datasets than this are counted, not written.
const MOST_DATASETS: usize = 2000;

/// The datasets to write and how many are left out. Those around the root matter most: what is beside it tells which datasets
/// belong to another boot environment.
pub(super) fn datasets(all: &[Dataset], root: Option<&str>) -> (Json, Json) {
    let left_out = all.len().saturating_sub(MOST_DATASETS);
    let near = |d: &Dataset| root.and_then(names::parent).is_none_or(|around| names::is_within(&d.name, around));
    let mut written: Vec<&Dataset> = all.iter().collect();
    if left_out > 0 {
        // The root itself first: without it nothing can be decided again.
        let place = |d: &Dataset| (root != Some(d.name.as_str()), !near(d));
        sorted::by_key(&mut written, |d| place(d));
        written.truncate(MOST_DATASETS);
    }
    (Json::list(&written, |d| dataset(d)), Json::Int(i64::try_from(left_out).unwrap_or(i64::MAX)))
}

fn dataset(dataset: &Dataset) -> Json {
    let usual = Dataset::with_defaults(&dataset.name);
    let mut fields: Vec<(&'static str, Json)> = vec![("name", dataset.name.as_str().into())];
    match dataset.kind {
        Kind::Filesystem => {}
        Kind::Volume => fields.push(("kind", "volume".into())),
        Kind::Other => fields.push(("kind", "other".into())),
    }
    match dataset.canmount {
        CanMount::On => {}
        CanMount::Off => fields.push(("canmount", "off".into())),
        CanMount::NoAuto => fields.push(("canmount", "noauto".into())),
    }
    if dataset.mountpoint != usual.mountpoint {
        let text = match &dataset.mountpoint {
            Mountpoint::Path(path) => path.as_str(),
            Mountpoint::Legacy => "legacy",
            Mountpoint::None => "none",
        };
        fields.push(("mountpoint", text.into()));
    }
    let texts = [("zol_mountpoint", &dataset.zol_mountpoint), ("mountpoint_of", &dataset.mountpoint_of)];
    fields.extend(texts.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?.into()))));
    let switches = [
        ("readonly", dataset.readonly, usual.readonly),
        ("atime", dataset.atime, usual.atime),
        ("relatime", dataset.relatime, usual.relatime),
        ("devices", dataset.devices, usual.devices),
        ("exec", dataset.exec, usual.exec),
        ("setuid", dataset.setuid, usual.setuid),
        ("nbmand", dataset.nbmand, usual.nbmand),
        ("zoned", dataset.zoned, usual.zoned),
        ("received", dataset.received, usual.received),
        ("overlay", dataset.overlay, usual.overlay),
    ];
    fields.extend(switches.into_iter().filter(|(_, on, usual)| on != usual).map(|(name, on, _)| (name, on.into())));
    if let Some(available) = dataset.key_available {
        fields.push(("key_available", available.into()));
    }
    let texts = [("encryption_root", &dataset.encryption_root), ("key_location", &dataset.key_location)];
    fields.extend(texts.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?.into()))));
    if !dataset.contexts.is_empty() {
        let pair = |(key, value): &(String, String)| Json::Array(vec![key.as_str().into(), value.as_str().into()]);
        fields.push(("contexts", Json::list(&dataset.contexts, pair)));
    }
    Json::line(fields)
}

/// The lines of the root's fstab that the plan can use.
pub(super) fn fstab(entries: &[FstabEntry]) -> Json {
    let matters =
        |e: &&FstabEntry| e.fstype == "zfs" || matches!(e.target.as_str(), "/" | "/usr") || e.has("x-initrd.mount");
    let kept: Vec<&FstabEntry> = entries.iter().filter(matters).collect();
    Json::list(&kept, |e| {
        Json::line(vec![
            ("line", Json::Int(i64::try_from(e.line).unwrap_or(0))),
            ("source", e.source.as_str().into()),
            ("target", e.target.as_str().into()),
            ("type", e.fstype.as_str().into()),
            ("options", Json::list(&e.options, |o| o.as_str().into())),
        ])
    })
}

/// A pool that the image was packed for.
pub(super) fn expected_root(root: &ExpectedRoot) -> Json {
    Json::line(vec![("source", root.source.as_str().into()), ("fstype", root.fstype.as_str().into())])
}

pub(super) fn expected(pool: &ExpectedPool) -> Json {
    Json::line(vec![
        ("name", pool.name.as_str().into()),
        ("guid", Json::text(&pool.guid)),
        ("vdevs", Json::list(&pool.vdevs, |v| v.as_str().into())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_usual_is_written() {
        let mut d = Dataset::with_defaults("tank/a");
        assert_eq!(dataset(&d).render(), "{\"name\": \"tank/a\"}\n");
        d.mountpoint = Mountpoint::Legacy;
        d.canmount = CanMount::NoAuto;
        d.exec = false;
        d.key_available = Some(true);
        d.contexts = vec![("context".into(), "a,b".into())];
        assert_eq!(
            dataset(&d).render(),
            "{\"name\": \"tank/a\", \"canmount\": \"noauto\", \"mountpoint\": \"legacy\", \"exec\": false, \
             \"key_available\": true, \"contexts\": [[\"context\", \"a,b\"]]}\n"
        );
    }

    #[test]
    fn of_very_many_the_nearest_are_written() {
        let far = (0..5000).map(|n| format!("tank/data/{n}"));
        let near = (0..100).map(|n| format!("tank/zroot/{n}"));
        let all: Vec<Dataset> = far.chain(near).map(|name| Dataset::with_defaults(&name)).collect();
        let (Json::Array(list), Json::Int(left_out)) = datasets(&all, Some("tank/zroot/7")) else { panic!() };
        assert_eq!((list.len(), left_out), (MOST_DATASETS, 3100));
        assert_eq!(list[0].render(), "{\"name\": \"tank/zroot/7\"}\n");
        assert!(list[..100].iter().all(|d| d.render().contains("tank/zroot/")));
        let (Json::Array(list), _) = datasets(&all, Some("tank/data/999")) else { panic!() };
        assert_eq!(list[0].render(), "{\"name\": \"tank/data/999\"}\n");
        let (Json::Array(list), Json::Int(0)) = datasets(&all[..10], None) else { panic!() };
        assert_eq!(list.len(), 10);
    }
}
