//! Calls that change something.

use super::asks::exists;
use super::dataset::{Dataset, Prop, Snapshot};
use super::load::{give_up, suspended};
use super::pool::Pool;
use super::{Answer, Host, SYNC};
use taproot_init::sys::ZfsCall;
use taproot_init::zfs::nvlist::{NvList, Value};

/// Properties that are one of a list, and are taken as numbers only.
const NUMBERS: [&str; 9] =
    ["canmount", "readonly", "atime", "relatime", "devices", "exec", "setuid", "compression", "zoned"];

/// `ZFS_ERR_IOC_ARG_REQUIRED`.
const ARGUMENT_MISSING: i32 = 1031;

/// `LOAD_KEY`: works on read-only pools as well.
pub(super) fn load_key(pool: &mut Pool, name: &str, src: &NvList) -> Answer {
    let Some(dataset) = pool.datasets.get_mut(name) else { return Answer::errno(libc::ENOENT) };
    let Some(Value::U8Array(bytes)) = src.list("hidden_args").and_then(|hidden| hidden.get("wkeydata")) else {
        return Answer::errno(ARGUMENT_MISSING);
    };
    let Some(key) = &mut dataset.key else { return Answer::errno(libc::EINVAL) };
    let errno = match () {
        () if bytes.len() != 32 => libc::EINVAL,
        () if key.loaded => libc::EEXIST,
        () if key.bytes != *bytes => libc::EACCES,
        () => 0,
    };
    if errno == 0 && !src.flag("noop") {
        key.loaded = true;
    }
    Answer::errno(errno)
}

/// `EXPORT`.
pub(super) fn export(pool: &mut Pool, host: &Host<'_>) -> Answer {
    if pool.datasets.keys().any(|name| (host.mounted)(&pool.full(name))) {
        return Answer::errno(libc::EBUSY);
    }
    if suspended(pool, host) {
        return Answer::errno(libc::EAGAIN);
    }
    give_up(pool);
    for dataset in pool.datasets.values_mut() {
        if let Some(key) = &mut dataset.key {
            key.loaded = false;
        }
    }
    Answer::done().after(SYNC * 3)
}

/// Calls that write to the pool.
pub(super) fn change(
    pool: &mut Pool,
    host: &Host<'_>,
    call: &ZfsCall<'_>,
    act: &str,
    name: &str,
    src: &NvList,
) -> Answer {
    if pool.imported.as_ref().is_some_and(|imported| imported.read_only) {
        return Answer::errno(libc::EROFS);
    }
    if suspended(pool, host) {
        return Answer::errno(libc::EAGAIN);
    }
    let result = match act {
        "SET_PROP" => set_properties(pool, name, src),
        "SNAPSHOT" => snapshot(pool, src),
        "CLONE" => clone(pool, name, src),
        "ROLLBACK" => roll_back(pool, name, src),
        "DESTROY_SNAPS" => destroy_snapshots(pool, src),
        "DESTROY" => destroy(pool, host, name),
        _ => Ok(()),
    };
    match result {
        Ok(()) => {
            pool.written = true;
            Answer::done().after(SYNC)
        }
        Err((errno, items)) if items.is_empty() => Answer::errno(errno),
        Err((errno, items)) => {
            let list: NvList = items.into_iter().map(|(name, errno)| (name, Value::I32(errno))).collect();
            Answer::list(call, errno, &list)
        }
    }
}

/// The errno of a call, and of each thing in it that failed.
type Changed = Result<(), (i32, Vec<(String, i32)>)>;

fn fail(errno: i32) -> Changed {
    Err((errno, Vec::new()))
}

fn fail_for(name: String, errno: i32) -> Changed {
    Err((errno, vec![(name, errno)]))
}

fn property(name: &str, value: &Value) -> Result<Prop, i32> {
    match value {
        Value::U64(number) => Ok(Prop::Number(*number)),
        Value::Str(_) if NUMBERS.contains(&name) => Err(libc::EINVAL),
        Value::Str(text) => Ok(Prop::Text(String::from_utf8_lossy(text).into_owned())),
        _ => Err(libc::EINVAL),
    }
}

fn set_properties(pool: &mut Pool, name: &str, src: &NvList) -> Changed {
    let Some(dataset) = pool.datasets.get_mut(name) else { return fail(libc::ENOENT) };
    for (name, value) in src.iter() {
        let name = String::from_utf8_lossy(name).into_owned();
        match property(&name, value) {
            Ok(value) => dataset.set(&name, value),
            Err(errno) => return fail_for(name, errno),
        }
    }
    Ok(())
}

/// The name of a dataset or snapshot without the pool's; `None` for one of another pool.
fn inside<'a>(pool: &Pool, full: &'a str) -> Option<&'a str> {
    let rest = full.strip_prefix(&pool.name)?;
    if rest.is_empty() || rest.starts_with('@') { Some(rest) } else { rest.strip_prefix('/') }
}

/// Names in a set.
fn names(src: &NvList, key: &str) -> Vec<String> {
    let names = src.list(key).into_iter().flat_map(NvList::iter);
    names.map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect()
}

fn snapshot(pool: &mut Pool, src: &NvList) -> Changed {
    for full in names(src, "snaps") {
        let Some((dataset, name)) = inside(pool, &full).and_then(|rest| rest.split_once('@')) else {
            return fail(libc::EXDEV);
        };
        let txg = next_txg(pool);
        let Some(found) = pool.datasets.get_mut(dataset) else { return fail_for(full.clone(), libc::ENOENT) };
        if name.is_empty() || name.contains(|c: char| !(c.is_ascii_alphanumeric() || "-_.: ".contains(c))) {
            return fail(libc::EINVAL);
        }
        if found.snapshots.contains_key(name) {
            return fail_for(full.clone(), libc::EEXIST);
        }
        found.snapshot(name, txg);
    }
    Ok(())
}

fn next_txg(pool: &mut Pool) -> u64 {
    pool.txg += 1;
    pool.txg
}

fn clone(pool: &mut Pool, name: &str, src: &NvList) -> Changed {
    let Some(origin) = src.text("origin") else { return fail(ARGUMENT_MISSING) };
    let Some(origin) = inside(pool, &origin).map(str::to_owned) else { return fail(libc::EXDEV) };
    let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
    if exists(pool, name) {
        return fail(libc::EEXIST);
    }
    if !exists(pool, parent) {
        return fail(libc::ENOENT);
    }
    let Some((dataset, snap)) = origin.split_once('@') else { return fail(libc::EINVAL) };
    if pool.locked(dataset) {
        return fail(libc::EACCES);
    }
    let txg = next_txg(pool);
    let Some(from) = pool.datasets.get(dataset) else { return fail(libc::ENOENT) };
    let Some(tree) = from.snapshots.get(snap).map(|s| s.tree.clone()) else { return fail(libc::ENOENT) };
    let mut made = Dataset { tree, volume: from.volume, ..Dataset::new(txg) };
    made.encryption_root.clone_from(&from.encryption_root);
    made.origin = Some(origin.clone());
    for (name, value) in src.list("props").into_iter().flat_map(NvList::iter) {
        let name = String::from_utf8_lossy(name).into_owned();
        match property(&name, value) {
            Ok(value) => made.set(&name, value),
            Err(errno) => return fail_for(name, errno),
        }
    }
    pool.datasets.insert(name.to_owned(), made);
    Ok(())
}

fn roll_back(pool: &mut Pool, name: &str, src: &NvList) -> Changed {
    let target = src.text("target").and_then(|full| Some(inside(pool, &full)?.split_once('@')?.1.to_owned()));
    let Some(target) = target else { return fail(libc::ESRCH) };
    let Some(dataset) = pool.datasets.get_mut(name) else { return fail(libc::ENOENT) };
    let Some(snapshot) = dataset.snapshots.get(&target).cloned() else { return fail(libc::ESRCH) };
    let newest = |other: &Snapshot| other.createtxg <= snapshot.createtxg;
    if !dataset.snapshots.values().all(newest) {
        return fail(libc::EEXIST);
    }
    dataset.tree = snapshot.tree;
    dataset.rolled_back += 1;
    Ok(())
}

fn destroy_snapshots(pool: &mut Pool, src: &NvList) -> Changed {
    let mut gone = Vec::new();
    let mut items = Vec::new();
    for full in names(src, "snaps") {
        let Some(rest) = inside(pool, &full) else { return fail(libc::EXDEV) };
        let Some((dataset, name)) = rest.split_once('@') else { return fail(libc::EINVAL) };
        // One that is not there counts as destroyed.
        let Some(snapshot) = pool.datasets.get(dataset).and_then(|d| d.snapshots.get(name)) else { continue };
        if snapshot.holds > 0 {
            items.push((full.clone(), libc::EBUSY));
        } else if pool.clones(rest).next().is_some() {
            items.push((full.clone(), libc::EEXIST));
        } else {
            gone.push((dataset.to_owned(), name.to_owned()));
        }
    }
    if let Some(errno) = items.first().map(|(_, errno)| *errno) {
        return Err((errno, items));
    }
    for (dataset, name) in gone {
        pool.datasets.get_mut(&dataset).and_then(|d| d.snapshots.remove(&name));
    }
    Ok(())
}

fn destroy(pool: &mut Pool, host: &Host<'_>, name: &str) -> Changed {
    let Some(dataset) = pool.datasets.get(name) else { return fail(libc::ENOENT) };
    if !dataset.snapshots.is_empty() || (host.mounted)(&pool.full(name)) {
        return fail(libc::EBUSY);
    }
    if !pool.children(name).is_empty() {
        return fail(libc::EEXIST);
    }
    pool.datasets.remove(name);
    Ok(())
}
