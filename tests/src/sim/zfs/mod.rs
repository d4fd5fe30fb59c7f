//! A model of `/dev/zfs`: it answers ioctls on lists as the kernel does, over pools that are plain data.

mod acts;
mod asks;
pub mod dataset;
mod load;
pub mod pool;
#[cfg(test)]
mod tests;

use super::machine::ZfsVersion;
pub(super) use load::suspended;
use pool::Pool;
use std::time::Duration;
use taproot_init::sys::{ZfsCall, ZfsReply};
use taproot_init::zfs::nvlist::NvList;

/// What a path leads to, as the kernel finds when it opens a vdev.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// Nothing is there.
    Missing,
    /// A device that does not answer.
    Silent,
    /// A device with the label of this vdev.
    Vdev(u64),
    /// Another device.
    Other,
}

/// What the kernel knows besides the pools.
pub(super) struct Host<'a> {
    pub(super) version: ZfsVersion,
    pub(super) hostid: u32,
    /// Opens a path.
    pub(super) open: &'a dyn Fn(&str) -> Opened,
    /// How long a path that leads nowhere is tried.
    pub(super) open_timeout: Duration,
    /// Whether a dataset is mounted.
    pub(super) mounted: &'a dyn Fn(&str) -> bool,
}

/// What a call does.
pub(super) struct Answer {
    pub(super) reply: ZfsReply,
    /// How long it takes; `None`: it does not come back.
    pub(super) took: Option<Duration>,
}

impl Answer {
    fn errno(errno: i32) -> Self {
        Self { reply: ZfsReply { errno, ..ZfsReply::default() }, took: Some(QUICK) }
    }

    fn never() -> Self {
        Self { took: None, ..Self::errno(0) }
    }

    fn done() -> Self {
        Self::errno(0)
    }

    fn after(mut self, took: Duration) -> Self {
        self.took = self.took.map(|_| took);
        self
    }

    /// With a list; `ENOMEM` if there is not enough room for it.
    fn list(call: &ZfsCall<'_>, errno: i32, list: &NvList) -> Self {
        let dst = list.encode_native();
        let dst_size = dst.len() as u64;
        if dst.len() > call.dst_capacity {
            return Self {
                reply: ZfsReply { errno: libc::ENOMEM, dst_size, ..ZfsReply::default() },
                took: Some(QUICK),
            };
        }
        Self { reply: ZfsReply { errno, dst, dst_size, ..ZfsReply::default() }, took: Some(QUICK) }
    }
}

/// What a call takes that needs no disk.
const QUICK: Duration = Duration::from_micros(50);
/// What a change takes: a transaction group.
const SYNC: Duration = Duration::from_millis(60);

/// The names of the calls, for the story and for faults.
pub(super) fn name_of(number: u32) -> &'static str {
    match number {
        0x02 => "IMPORT",
        0x03 => "EXPORT",
        0x04 => "POOL_CONFIGS",
        0x05 => "POOL_STATS",
        0x06 => "TRYIMPORT",
        0x12 => "OBJSET_STATS",
        0x14 => "DATASET_LIST_NEXT",
        0x15 => "SNAPSHOT_LIST_NEXT",
        0x16 => "SET_PROP",
        0x18 => "DESTROY",
        0x19 => "ROLLBACK",
        0x23 => "SNAPSHOT",
        0x27 => "POOL_GET_PROPS",
        0x3b => "DESTROY_SNAPS",
        0x42 => "CLONE",
        0x47 => "POOL_SYNC",
        0x49 => "LOAD_KEY",
        _ => "?",
    }
}

/// `ZFS_ERR_IOC_CMD_UNAVAIL`.
const UNKNOWN_CALL: i32 = 1029;

/// Answers a call.
pub(super) fn answer(pools: &mut [Pool], host: &Host<'_>, call: &ZfsCall<'_>) -> Answer {
    let lists = |bytes: &[u8]| if bytes.is_empty() { Some(NvList::new()) } else { NvList::decode(bytes).ok() };
    let (Some(src), Some(conf)) = (lists(call.src), lists(call.conf)) else { return Answer::errno(libc::EINVAL) };
    let name = String::from_utf8_lossy(call.name).into_owned();
    match name_of(call.number) {
        "POOL_CONFIGS" => return asks::configs(pools, host, call),
        "TRYIMPORT" => return load::try_import(pools, host, call, &conf),
        "IMPORT" => return load::import(pools, host, call, &name, &conf, &src),
        "?" => return Answer::errno(UNKNOWN_CALL),
        _ => {}
    }
    ask_imported(pools, host, call, &name, &src)
}

/// Calls that read from the pool.
const READING: [&str; 5] = ["POOL_GET_PROPS", "OBJSET_STATS", "DATASET_LIST_NEXT", "SNAPSHOT_LIST_NEXT", "LOAD_KEY"];

/// Answers a call on an imported pool.
fn ask_imported(pools: &mut [Pool], host: &Host<'_>, call: &ZfsCall<'_>, name: &str, src: &NvList) -> Answer {
    let (pool_name, rest) = split(name);
    let Some(pool) = pools.iter_mut().find(|pool| pool.imported.is_some() && pool.name == pool_name) else {
        // Before 2.3 the legacy handler of this call loses its error.
        let lost = name_of(call.number) == "POOL_GET_PROPS" && host.version < ZfsVersion::V2_3;
        return Answer::errno(if lost { libc::EFAULT } else { libc::ENOENT });
    };
    // What only a disk has that is gone is waited for for ever. Some of it may be in memory; nobody can count on that.
    if READING.contains(&name_of(call.number)) && suspended(pool, host) {
        return Answer::never();
    }
    match name_of(call.number) {
        "POOL_STATS" => asks::stats(pool, host, call),
        "POOL_GET_PROPS" => asks::pool_properties(pool, call),
        "OBJSET_STATS" => asks::objset(pool, rest, call),
        "DATASET_LIST_NEXT" => asks::next_dataset(pool, rest, call),
        "SNAPSHOT_LIST_NEXT" => asks::next_snapshot(pool, rest, call, src),
        "LOAD_KEY" => acts::load_key(pool, rest, src),
        "EXPORT" => acts::export(pool, host),
        act => acts::change(pool, host, call, act, rest, src),
    }
}

/// A name's pool, and what is behind it without the `/`.
fn split(name: &str) -> (&str, &str) {
    let end = name.find(['/', '@']).unwrap_or(name.len());
    let (pool, rest) = name.split_at(end);
    (pool, rest.strip_prefix('/').unwrap_or(rest))
}
