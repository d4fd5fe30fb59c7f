//! Opening pools: what the kernel makes of a configuration and of the devices that it leads to.

use super::pool::{self, ACTIVE, EXPORTED, Imported, Kind, Pool, Top};
use super::{Answer, Host, Opened, SYNC};
use crate::sim::machine::ZfsVersion;
use std::collections::BTreeMap;
use std::time::Duration;
use taproot_init::sys::ZfsCall;
use taproot_init::zfs::nvlist::{NvList, Value};

const CANNOT_OPEN: u64 = 4;
const DEGRADED: u64 = 6;
const HEALTHY: u64 = 7;
/// `vdev_aux_t`.
const CORRUPT_DATA: u64 = 2;
const NO_REPLICAS: u64 = 3;
const BAD_GUID_SUM: u64 = 4;
const UNSUPPORTED: u64 = 9;
const ACTIVE_ELSEWHERE: u64 = 18;

/// Opening the devices and reading what the pool says of itself.
const LOAD: Duration = Duration::from_millis(150);
/// The check that nobody else writes: ten intervals of a second, twice, and a little more.
const ACTIVITY_CHECK: Duration = Duration::from_secs(22);

/// Flags of an import.
const MISSING_LOG: u64 = 0x4;
const CHECKPOINT: u64 = 0x80;
/// `ZPOOL_DO_REWIND`, in the policy of a configuration.
const DO_REWIND: u32 = 8;
/// `ZFS_ERR_NO_CHECKPOINT`.
const NO_CHECKPOINT: i32 = 1026;

/// What came of opening the devices that a configuration names.
struct Opening {
    /// The pool, if any of its devices was reached: by its place in the list.
    pool: Option<usize>,
    /// Where each vdev was found.
    paths: BTreeMap<u64, String>,
    /// Whether the path of any vdev led somewhere.
    any: bool,
    /// A device does not answer, so neither does the call.
    silent: bool,
    took: Duration,
}

/// Paths and guids of the leaves of a tree.
fn leaves(node: &NvList, found: &mut Vec<(u64, String)>) {
    for key in ["children", "spares", "l2cache"] {
        for child in node.lists(key).unwrap_or_default() {
            leaves(child, found);
        }
    }
    if let (None, Some(guid), Some(path)) = (node.get("children"), node.u64("guid"), node.text("path")) {
        found.push((guid, path.into_owned()));
    }
}

/// Opens what the configuration names, and then what the pool itself names besides.
fn open(pools: &[Pool], host: &Host<'_>, conf: &NvList) -> Opening {
    let mut named = Vec::new();
    conf.list("vdev_tree").map(|tree| leaves(tree, &mut named)).unwrap_or_default();
    let mut opening = Opening { pool: None, paths: BTreeMap::new(), any: false, silent: false, took: LOAD };
    let mut missing = false;
    for (guid, path) in named {
        let opened = (host.open)(&path);
        opening.note(opened, guid, path, &mut missing);
    }
    let guid = conf.u64("pool_guid");
    let reached = |pool: &Pool| pool.tops.iter().flat_map(|t| &t.leaves).any(|l| opening.paths.contains_key(&l.guid));
    opening.pool = pools.iter().position(|pool| Some(pool.guid) == guid && reached(pool));
    if let Some(pool) = opening.pool.and_then(|at| pools.get(at)) {
        for leaf in pool.tops.iter().flat_map(|top| &top.leaves) {
            if !opening.paths.contains_key(&leaf.guid) {
                opening.note((host.open)(&leaf.path), leaf.guid, leaf.path.clone(), &mut missing);
            }
        }
        // One after another, while those of the tree are opened all at once.
        for aux in pool.spares.iter().chain(&pool.caches) {
            match (host.open)(&aux.path) {
                Opened::Missing => opening.took += host.open_timeout,
                Opened::Silent => opening.silent = true,
                _ => {}
            }
        }
    }
    if missing {
        opening.took += host.open_timeout;
    }
    opening
}

impl Opening {
    fn note(&mut self, opened: Opened, guid: u64, path: String, missing: &mut bool) {
        match opened {
            Opened::Missing => *missing = true,
            Opened::Silent => self.silent = true,
            Opened::Vdev(found) if found == guid => {
                self.any = true;
                self.paths.insert(guid, path);
            }
            Opened::Vdev(_) | Opened::Other => self.any = true,
        }
    }
}

/// The state of a top-level vdev when these of its leaves work.
fn top_state(top: &Top, works: &dyn Fn(u64) -> bool) -> u64 {
    let failed = top.leaves.iter().filter(|leaf| !works(leaf.guid)).count();
    let enough = match top.kind {
        Kind::Hole | Kind::Indirect => true,
        Kind::Disk => failed == 0,
        Kind::Mirror => failed < top.leaves.len(),
        Kind::Raidz(parity) => failed as u64 <= parity,
    };
    match (enough, failed) {
        (false, _) => CANNOT_OPEN,
        (true, 0) => HEALTHY,
        (true, _) => DEGRADED,
    }
}

/// State and reason of the pool as a whole.
fn root_state(pool: &Pool, version: ZfsVersion, works: &dyn Fn(u64) -> bool) -> (u64, u64) {
    let states = pool.tops.iter().map(|top| (top_state(top, works), top.log));
    let (mut lost, mut without_log, mut degraded) = (false, false, false);
    for (state, log) in states {
        lost |= state == CANNOT_OPEN && !log;
        without_log |= state == CANNOT_OPEN && log;
        degraded |= state != HEALTHY;
    }
    if lost {
        (CANNOT_OPEN, NO_REPLICAS)
    } else if without_log && version < ZfsVersion::V2_3 {
        // Before 2.1.12, and even when it is imported.
        (CANNOT_OPEN, BAD_GUID_SUM)
    } else {
        (if degraded { DEGRADED } else { HEALTHY }, 0)
    }
}

/// The tree with its statistics; `root`: state and reason of the pool.
fn tree(pool: &Pool, paths: &BTreeMap<u64, String>, root: (u64, u64)) -> NvList {
    let works = |guid: u64| paths.contains_key(&guid);
    let stats = |guid: u64| -> (u64, u64) {
        if guid == pool.guid {
            return root;
        }
        let top = pool.tops.iter().find(|top| top.guid == guid && top.leaves.len() != 1);
        match top {
            Some(top) => (top_state(top, &works), 0),
            None if works(guid) => (HEALTHY, 0),
            // The reason is not told where the device is simply not there.
            None => (CANNOT_OPEN, 0),
        }
    };
    let path = |leaf: &pool::Leaf, _: u64| paths.get(&leaf.guid).unwrap_or(&leaf.path).clone();
    let children = (0..).zip(&pool.tops).map(|(id, top)| top.node(id, &path, Some(&stats))).collect();
    let mut node = pool::numbers(&[("id", 0), ("guid", pool.guid), ("create_txg", 4)]);
    node.set("type", Value::text("root"));
    pool::add_stats(&mut node, pool.guid, Some(&stats));
    node.set("children", Value::ListArray(children));
    let aux = |leaves: &[pool::Leaf]| {
        let entry = |(id, leaf): (u64, &pool::Leaf)| {
            let mut node = pool::numbers(&[("id", id), ("guid", leaf.guid), ("whole_disk", 0)]);
            node.set("type", Value::text("disk"));
            node.set("path", Value::text(&leaf.path));
            pool::add_stats(&mut node, leaf.guid, Some(&|_| (HEALTHY, 0)));
            node
        };
        Value::ListArray((0..).zip(leaves).map(entry).collect())
    };
    for (key, leaves) in [("spares", &pool.spares), ("l2cache", &pool.caches)] {
        if !leaves.is_empty() {
            node.set(key, aux(leaves));
        }
    }
    node
}

/// The configuration of an imported pool, with statistics if asked.
pub(super) fn config(pool: &Pool, host: &Host<'_>, stats: bool) -> NvList {
    let none = BTreeMap::new();
    let paths = pool.imported.as_ref().map_or(&none, |imported| &imported.paths);
    let mut list = pool.head();
    list.set("errata", Value::U64(0));
    let root = root_state(pool, host.version, &|guid| paths.contains_key(&guid));
    let mut tree = tree(pool, paths, root);
    if !stats {
        tree.remove("vdev_stats");
    }
    list.set("vdev_tree", Value::List(tree));
    list
}

/// Whether an imported pool has lost a device that it cannot do without, or waits for one.
pub(in crate::sim) fn suspended(pool: &Pool, host: &Host<'_>) -> bool {
    let Some(imported) = &pool.imported else { return false };
    let works = |guid: u64| imported.paths.get(&guid).is_some_and(|path| (host.open)(path) == Opened::Vdev(guid));
    pool.tops.iter().any(|top| !top.log && top_state(top, &works) == CANNOT_OPEN)
}

/// What stands in the way, in the order in which the kernel notices it.
enum Obstacle {
    Multihost,
    Features,
}

/// Multihost protection and features: what `load_info` says of them; and how long the check took. Nothing is said of a pool whose
/// tree is not whole (`broken`): vdevs are opened before anything is read of them.
fn obstacle(
    pool: &Pool,
    host: &Host<'_>,
    conf: &NvList,
    (broken, checked): (bool, bool),
) -> (Option<Obstacle>, NvList, Duration) {
    let mut info = NvList::new();
    if host.version >= ZfsVersion::V2_3 {
        info.set("hostid", Value::U64(u64::from(pool.hostid)));
    }
    let mut took = Duration::ZERO;
    if broken {
        return (None, info, took);
    }
    if pool.multihost {
        if host.hostid == 0 {
            info.set("mmp_state", Value::U64(2));
            return (Some(Obstacle::Multihost), info, took);
        }
        let ours = conf.u64("hostid") == Some(u64::from(host.hostid));
        if conf.u64("state") == Some(ACTIVE) && !ours && !checked {
            took = ACTIVITY_CHECK;
            if pool.elsewhere {
                info.set("mmp_state", Value::U64(0));
                info.set("mmp_hostname", Value::text("elsewhere"));
                info.set("mmp_hostid", Value::U64(u64::from(pool.hostid)));
                return (Some(Obstacle::Multihost), info, took);
            }
            info.set("mmp_state", Value::U64(1));
            info.set("mmp_txg", Value::U64(pool.txg));
            info.set("mmp_seq", Value::U16(1));
        }
    }
    if !pool.unsupported.is_empty() {
        let names: NvList = pool.unsupported.iter().map(|name| (name.clone(), Value::text(""))).collect();
        info.set("unsup_feat", Value::List(names));
        if pool.can_read {
            info.set("can_rdonly", Value::Boolean);
        }
        return (Some(Obstacle::Features), info, took);
    }
    (None, info, took)
}

/// `TRYIMPORT`.
pub(super) fn try_import(pools: &[Pool], host: &Host<'_>, call: &ZfsCall<'_>, conf: &NvList) -> Answer {
    let needed = conf.get("name").is_some() && conf.get("state").is_some() && conf.get("vdev_tree").is_some();
    let guid = conf.u64("pool_guid");
    let imported = pools.iter().any(|pool| pool.imported.is_some() && Some(pool.guid) == guid);
    if !needed || imported {
        return Answer::errno(libc::EINVAL);
    }
    let opening = open(pools, host, conf);
    if opening.silent {
        return Answer::never();
    }
    let Some(pool) = opening.pool.and_then(|at| pools.get(at)) else {
        return Answer::list(call, 0, &hopeless(conf)).after(opening.took);
    };
    let works = |guid: u64| opening.paths.contains_key(&guid);
    let gone: Vec<&Top> = pool.tops.iter().filter(|top| top_state(top, &works) == CANNOT_OPEN).collect();
    let broken = gone.iter().any(|top| !top.log);
    let (obstacle, mut info, wait) = obstacle(pool, host, conf, (broken, false));
    if !gone.is_empty() && host.version < ZfsVersion::V2_3 {
        info.set("missing_vdevs", missing(&gone));
    }
    let root = match obstacle {
        Some(Obstacle::Multihost) => (CANNOT_OPEN, ACTIVE_ELSEWHERE),
        Some(Obstacle::Features) => (CANNOT_OPEN, UNSUPPORTED),
        None if pool.damaged.is_some() && !broken => (CANNOT_OPEN, CORRUPT_DATA),
        None => root_state(pool, host.version, &|guid| opening.paths.contains_key(&guid)),
    };
    let mut list = pool.head();
    // The reply carries this system's hostid, not the label's.
    if host.hostid != 0 {
        list.set("hostid", Value::U64(u64::from(host.hostid)));
    }
    list.set("state", Value::U64(conf.u64("state").unwrap_or(ACTIVE)));
    list.set("errata", Value::U64(0));
    list.set("timestamp", Value::U64(1_700_000_000));
    list.set("load_info", Value::List(info));
    // Features that matter for writing only are noticed after this was read.
    let known = root.0 >= DEGRADED || (root.1 == UNSUPPORTED && pool.can_read);
    if known && let Some(bootfs) = pool.bootfs.as_ref().filter(|name| super::asks::exists(pool, name)) {
        list.set("bootfs", Value::text(pool.full(bootfs)));
    }
    list.set("vdev_tree", Value::List(tree(pool, &opening.paths, root)));
    Answer::list(call, 0, &list).after(opening.took + wait)
}

/// Vdevs that an import would miss, as `load_info` names them.
fn missing(tops: &[&Top]) -> Value {
    let children = (0..).zip(tops).map(|(id, top)| top.node(id, &|leaf, _| leaf.path.clone(), None)).collect();
    Value::List([("children", Value::ListArray(children))].into_iter().collect())
}

/// The reply for a pool of which nothing could be read: the configuration as it was given.
fn hopeless(conf: &NvList) -> NvList {
    let mut list = conf.clone();
    if let Some(tree) = list.list_mut("vdev_tree") {
        pool::add_stats(tree, 0, Some(&|_| (CANNOT_OPEN, NO_REPLICAS)));
    }
    list.set("load_info", Value::List(NvList::new()));
    list
}

/// `IMPORT`.
pub(super) fn import(
    pools: &mut [Pool],
    host: &Host<'_>,
    call: &ZfsCall<'_>,
    name: &str,
    conf: &NvList,
    src: &NvList,
) -> Answer {
    if conf.u64("pool_guid") != Some(call.guid) {
        return Answer::errno(libc::EINVAL);
    }
    if pools.iter().any(|pool| pool.imported.is_some() && (pool.name == name || pool.guid == call.guid)) {
        return Answer::errno(libc::EEXIST);
    }
    let opening = open(pools, host, conf);
    if opening.silent {
        return Answer::never();
    }
    let read_only = src.u64("readonly") == Some(1);
    let Some(pool) = opening.pool.and_then(|at| pools.get_mut(at)) else {
        let errno = if opening.any { libc::ENXIO } else { libc::ENOENT };
        return Answer::errno(errno).after(opening.took);
    };
    let checked = conf.list("load_info").and_then(|info| info.u64("mmp_state")) == Some(1);
    let works = |guid: u64| opening.paths.contains_key(&guid);
    let gone: Vec<&Top> = pool.tops.iter().filter(|top| top_state(top, &works) == CANNOT_OPEN).collect();
    let broken = gone.iter().any(|top| !top.log);
    let (obstacle, mut info, wait) = obstacle(pool, host, conf, (broken, checked));
    let took = opening.took + wait + SYNC;
    let refused = match obstacle {
        Some(Obstacle::Multihost) => Some(libc::EREMOTEIO),
        Some(Obstacle::Features) if !(read_only && pool.can_read) => Some(libc::ENOTSUP),
        _ if broken => Some(libc::ENXIO),
        _ if !gone.is_empty() && call.cookie & MISSING_LOG == 0 => {
            info.set("missing_vdevs", missing(&gone));
            Some(libc::ENXIO)
        }
        _ if call.cookie & CHECKPOINT != 0 && !pool.checkpoint => Some(NO_CHECKPOINT),
        _ => too_new(pool, conf, &mut info),
    };
    if let Some(errno) = refused {
        let mut list = conf.clone();
        list.set("load_info", Value::List(info));
        return Answer::list(call, errno, &list).after(took);
    }
    name.clone_into(&mut pool.name);
    let cachefile = src.text("cachefile").map(std::borrow::Cow::into_owned);
    pool.imported = Some(Imported { read_only, paths: opening.paths, cachefile });
    if !read_only {
        pool.damaged = None;
        take_over(pool, host.hostid);
    }
    let mut reply = config(pool, host, true);
    reply.set("load_info", Value::List(info));
    let root =
        root_state(pool, host.version, &|guid| pool.imported.as_ref().is_some_and(|i| i.paths.contains_key(&guid)));
    if let Some(bootfs) = pool.bootfs.as_ref().filter(|_| root.0 >= DEGRADED) {
        reply.set("bootfs", Value::text(pool.full(bootfs)));
    }
    Answer::list(call, 0, &reply).after(took)
}

/// The newest state cannot be read: the errno, unless the policy says to go back; `info` says how far that would be.
fn too_new(pool: &Pool, conf: &NvList, info: &mut NvList) -> Option<i32> {
    let loss = pool.damaged?.loss;
    let policy = conf.list("load-policy").and_then(|policy| policy.get("load-rewind-policy"));
    if loss.is_some() && matches!(policy, Some(Value::U32(policy)) if policy & DO_REWIND != 0) {
        return None;
    }
    let told = loss.map(|loss| [("rewind_txg_ts", Value::U64(1_700_000_000)), ("seconds_of_rewind", Value::I64(loss))]);
    info.set("rewind_info", Value::List(told.into_iter().flatten().collect()));
    Some(libc::EIO)
}

/// A writable import writes the labels anew.
fn take_over(pool: &mut Pool, hostid: u32) {
    pool.written = true;
    pool.state = ACTIVE;
    pool.hostid = hostid;
    pool.txg += 10;
    let paths = pool.imported.as_ref().map(|imported| imported.paths.clone()).unwrap_or_default();
    for leaf in pool.tops.iter_mut().flat_map(|top| &mut top.leaves) {
        match paths.get(&leaf.guid) {
            Some(path) => {
                leaf.path.clone_from(path);
                leaf.stale = None;
            }
            None => leaf.stale = Some(leaf.stale.unwrap_or(pool.txg - 10)),
        }
    }
}

/// What an export leaves in the labels.
pub(super) fn give_up(pool: &mut Pool) {
    if pool.imported.take().is_some_and(|imported| !imported.read_only) {
        pool.state = EXPORTED;
        pool.txg += 10;
    }
}
