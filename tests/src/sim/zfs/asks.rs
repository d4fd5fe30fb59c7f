//! Calls that only ask.

use super::load::{config, suspended};
use super::pool::Pool;
use super::{Answer, Host};
use taproot_init::sys::ZfsCall;
use taproot_init::zfs::nvlist::{NvList, Value};

/// `POOL_CONFIGS`.
pub(super) fn configs(pools: &[Pool], host: &Host<'_>, call: &ZfsCall<'_>) -> Answer {
    let generation = 1 + pools.iter().filter(|pool| pool.imported.is_some()).count() as u64;
    if call.cookie == generation {
        return Answer::errno(libc::EEXIST);
    }
    let imported = pools.iter().filter(|pool| pool.imported.is_some());
    let list: NvList = imported.map(|pool| (pool.name.clone(), Value::List(config(pool, host, false)))).collect();
    let mut answer = Answer::list(call, 0, &list);
    answer.reply.cookie = generation;
    answer
}

/// `POOL_STATS`.
pub(super) fn stats(pool: &Pool, host: &Host<'_>, call: &ZfsCall<'_>) -> Answer {
    let mut list = config(pool, host, true);
    list.set("error_count", Value::U64(0));
    if suspended(pool, host) {
        list.set("suspended", Value::U64(0));
    }
    Answer::list(call, 0, &list)
}

/// `POOL_GET_PROPS`.
pub(super) fn pool_properties(pool: &Pool, call: &ZfsCall<'_>) -> Answer {
    let property = |value: Value, source: u64| {
        let mut list = NvList::new();
        list.set("source", Value::U64(source));
        list.set("value", value);
        Value::List(list)
    };
    let read_only = pool.imported.as_ref().is_some_and(|imported| imported.read_only);
    let mut list = NvList::new();
    list.set("name", property(Value::text(&pool.name), 1));
    list.set("guid", property(Value::U64(pool.guid), 1));
    list.set("health", property(Value::U64(7), 1));
    list.set("readonly", property(Value::U64(u64::from(read_only)), 1));
    list.set("version", property(Value::U64(5000), 2));
    if let Some(bootfs) = pool.bootfs.as_ref().filter(|name| exists(pool, name)) {
        list.set("bootfs", property(Value::text(pool.full(bootfs)), 8));
    }
    if let Some(file) = pool.imported.as_ref().and_then(|imported| imported.cachefile.as_ref()) {
        list.set("cachefile", property(Value::text(file), 8));
    }
    Answer::list(call, 0, &list)
}

/// Whether a dataset or snapshot is there.
pub(super) fn exists(pool: &Pool, name: &str) -> bool {
    match name.split_once('@') {
        None => pool.datasets.contains_key(name),
        Some((dataset, snapshot)) => pool.datasets.get(dataset).is_some_and(|d| d.snapshots.contains_key(snapshot)),
    }
}

/// `OBJSET_STATS`.
pub(super) fn objset(pool: &Pool, name: &str, call: &ZfsCall<'_>) -> Answer {
    let list = match name.split_once('@') {
        None => pool.properties(name),
        Some((dataset, snapshot)) => pool.snapshot_properties(dataset, snapshot),
    };
    let Some(list) = list else { return Answer::errno(libc::ENOENT) };
    let dataset = name.split('@').next().unwrap_or(name);
    let mut answer = Answer::list(call, 0, &list);
    answer.reply.objset_type = if pool.datasets.get(dataset).is_some_and(|d| d.volume) { 3 } else { 2 };
    answer.reply.name = call.name.to_vec();
    answer
}

/// Where a list call goes on: at the entry with this number. Names come in no order that means anything.
fn turn(cookie: u64, len: usize) -> Option<usize> {
    usize::try_from(cookie).ok().filter(|at| *at < len).map(|at| len - 1 - at)
}

/// `DATASET_LIST_NEXT`.
pub(super) fn next_dataset(pool: &Pool, parent: &str, call: &ZfsCall<'_>) -> Answer {
    if !pool.datasets.contains_key(parent) {
        return Answer::errno(libc::ESRCH);
    }
    let children = pool.children(parent);
    let child = turn(call.cookie, children.len()).and_then(|at| children.get(at));
    let Some(child) = child else { return Answer::errno(libc::ESRCH) };
    let mut answer = objset(pool, child, call);
    answer.reply.name = pool.full(child).into_bytes();
    answer.reply.cookie = call.cookie + 1;
    answer
}

/// `SNAPSHOT_LIST_NEXT`.
pub(super) fn next_snapshot(pool: &Pool, dataset: &str, call: &ZfsCall<'_>, src: &NvList) -> Answer {
    let Some(found) = pool.datasets.get(dataset) else { return Answer::errno(libc::ESRCH) };
    let newer = |txg: u64| src.u64("snap_iter_min_txg").is_none_or(|least| txg >= least);
    let names: Vec<&String> = found.snapshots.iter().filter(|(_, s)| newer(s.createtxg)).map(|(n, _)| n).collect();
    let name = turn(call.cookie, names.len()).and_then(|at| names.get(at));
    let Some(name) = name else { return Answer::errno(libc::ESRCH) };
    let mut answer = objset(pool, &format!("{dataset}@{name}"), call);
    answer.reply.name = format!("{}@{name}", pool.full(dataset)).into_bytes();
    answer.reply.cookie = call.cookie + 1;
    answer
}
