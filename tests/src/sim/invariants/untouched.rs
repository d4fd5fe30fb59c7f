//! What is to stay as it was: pools and file systems that nobody asked for.

use super::super::Case;
use super::super::files::{Node, Tree};
use super::super::later::{self, Change};
use super::super::machine::{Device, Holds, Machine, ZfsVersion};
use super::super::seed::Wish;
use super::super::wide::Then;
use super::super::world::{Event, World};
use super::super::zfs::pool::{ACTIVE, DESTROYED, Pool};
use super::record;
use std::collections::{BTreeMap, BTreeSet};

/// Whether the words let a boot write to this pool at all.
fn may_write(case: &Case, pool: &Pool) -> bool {
    if later::changed(case).is_some_and(|after| may_write(&after, pool)) {
        return true;
    }
    let named = |wish: &Wish| *wish == Wish::Auto || may_be(case, wish, pool);
    let by_name = |wish: &Wish| named(wish) && *wish != Wish::Auto;
    let wished = named(&case.asked.root) || case.asked.fallback.as_ref().is_some_and(named);
    let ours = pool.state != ACTIVE || pool.hostid == 0 || pool.hostid == case.asked.more.hostid();
    let known = case.machine.image.pools.iter().any(|e| e.guid == pool.guid)
        || by_name(&case.asked.root)
        || case.asked.fallback.as_ref().is_some_and(by_name)
        || case.asked.force;
    let typed = match (&case.asked.more.then, &case.asked.more.chosen) {
        (Some(Then::Boot(name)), _) | (_, Some(name)) => name.split('/').next() == Some(&pool.name),
        _ => false,
    };
    (wished || typed) && pool.state != DESTROYED && !case.asked.read_only && (ours || known || typed)
}

/// Nothing is written to a pool that is to stay untouched (each is, where a hibernated system relies on it), and none is renamed.
pub(super) fn pools(case: &Case, after: &Machine, relied_on: bool) -> Vec<String> {
    let mut all = Vec::new();
    for (before, after) in case.machine.pools.iter().zip(&after.pools) {
        if after.written && (relied_on || !may_write(case, before)) {
            all.push(format!("pool {} was written to", before.name));
        }
        if before.name != after.name {
            all.push(format!("pool {} was renamed to {}", before.name, after.name));
        }
        if after.imported.as_ref().is_some_and(|imported| imported.cachefile.as_deref() != Some("none")) {
            all.push(format!("pool {} was imported with a cache file", before.name));
        }
    }
    all
}

/// Whatever an attempt before has done: once a person has typed that nothing is to be written, no system is handed a pool that is
/// imported writable. One that waits for its disk cannot be given back, and takes no writes.
pub(super) fn looked_at(events: &[Event], after: &Machine) -> Vec<String> {
    let typed = format!("typed: {}", Change::ReadOnly.line());
    let stays = |pool: &Pool| {
        let told = format!("pool {} stays imported: it ", pool.name);
        events.iter().any(|event| event.log && event.text.contains(&told))
    };
    let writable = |pool: &&Pool| pool.imported.as_ref().is_some_and(|imported| !imported.read_only);
    let pools = after.pools.iter().filter(|_| events.iter().any(|event| event.text == typed));
    let wrong = pools.filter(writable).filter(|pool| !stays(pool));
    wrong.map(|pool| format!("pool {} is imported writable, though nothing was to be written", pool.name)).collect()
}

/// No dataset is lost, no snapshot that is not to make room for a rollback, and no hibernated system but one that is not to be resumed.
pub(super) fn kept(case: &Case, after: &Machine) -> Vec<String> {
    let changed = later::changed(case);
    let more = || std::iter::once(case).chain(changed.as_ref()).map(|case| &case.asked.more);
    let may_destroy = more().any(|more| more.asks_for("DESTROY_SNAPS"));
    let mut all = Vec::new();
    for (before, after) in case.machine.pools.iter().zip(&after.pools) {
        for (name, dataset) in &before.datasets {
            let Some(now) = after.datasets.get(name) else {
                all.push(format!("dataset {name} of pool {} is gone", before.name));
                continue;
            };
            let lost = dataset.snapshots.keys().find(|snapshot| !now.snapshots.contains_key(*snapshot));
            if let Some(lost) = lost.filter(|_| !may_destroy) {
                all.push(format!("snapshot {name}@{lost} of pool {} is gone", before.name));
            }
        }
    }
    let image = |device: &Device| matches!(device.holds, Holds::Swap { image: Some(_), .. });
    let images = case.machine.devices.iter().filter(|device| image(device));
    let lost = |device: &&Device| after.devices.iter().any(|now| now.name == device.name && !image(now));
    let lost = images.filter(lost).filter(|_| !more().any(|more| more.noresume));
    all.extend(lost.map(|device| format!("the hibernated system on {} is gone", device.name)));
    all
}

/// Where nothing went wrong and nobody decided anything, no pool is imported but the root's, those that its fstab needs, and, where an
/// attempt has failed, those that it may have tried.
pub(super) fn others(case: &Case, events: &[Event], world: &World, after: &Machine, root: Option<&str>) -> Vec<String> {
    let decided = events.iter().any(|event| event.text.strip_prefix("typed: ").is_some_and(|line| line != "(hidden)"));
    if decided {
        return Vec::new();
    }
    let report = record::read(world).and_then(Result::ok).unwrap_or_default();
    let failed = root.is_none() || report.get("failure").is_some_and(|failure| !failure.is_null());
    let lines = root.and_then(|root| tree(after, root)).map(early).unwrap_or_default();
    let needed = lines.iter().filter(|line| line.fstype == "zfs").map(|line| line.source.as_str());
    let names: BTreeSet<&str> = needed.chain(root).map(pool_of).collect();
    let wishes = [Some(&case.asked.root), case.asked.fallback.as_ref()];
    let tried = |pool: &Pool| failed && wishes.iter().flatten().any(|wish| may_be(case, wish, pool));
    let imported = |pool: &Pool| {
        let call = format!("zfs IMPORT {}", pool.name);
        events.iter().any(|event| event.text == call) || after.pools.iter().any(|p| p.guid == pool.guid && p.written)
    };
    let others = case.machine.pools.iter().filter(|pool| !names.contains(pool.name.as_str()) && !tried(pool));
    let others = others.filter(|pool| imported(pool));
    others.map(|pool| format!("pool {} was imported, and the root is {}", pool.name, root.unwrap_or("none"))).collect()
}

/// Whether a wish can mean this pool: without a name it is one with a `bootfs`, as far as that is known before it is imported.
fn may_be(case: &Case, wish: &Wish, pool: &Pool) -> bool {
    match wish {
        Wish::Auto => pool.bootfs.is_some() || case.machine.zfs == ZfsVersion::V2_1,
        Wish::Pool(name) => *name == pool.name,
        Wish::Dataset(name) => pool_of(name) == pool.name,
        Wish::Device(..) => false,
    }
}

pub(super) fn pool_of(dataset: &str) -> &str {
    dataset.split(['/', '@']).next().unwrap_or(dataset)
}

/// The files of a root, by what was mounted.
fn tree<'a>(machine: &'a Machine, source: &str) -> Option<&'a Tree> {
    if let Some(node) = source.strip_prefix("/dev/") {
        let device = machine.devices.iter().find(|device| device.name == node)?;
        let Holds::Filesystem { tree, .. } = &device.holds else { return None };
        return Some(tree);
    }
    let (name, snapshot) = source.split_once('@').map_or((source, None), |(name, snapshot)| (name, Some(snapshot)));
    let pool = machine.pools.iter().find(|pool| pool.name == pool_of(name))?;
    let dataset = pool.datasets.get(name.strip_prefix(&pool.name)?.trim_start_matches('/'))?;
    match snapshot {
        None => Some(&dataset.tree),
        Some(snapshot) => dataset.snapshots.get(snapshot).map(|snapshot| &snapshot.tree),
    }
}

/// A line of an fstab.
pub(super) struct Line {
    pub(super) source: String,
    pub(super) fstype: String,
}

/// The lines of its fstab that are mounted before init.
pub(super) fn early(tree: &Tree) -> Vec<Line> {
    let Some(Node::File(bytes, _)) = tree.get("etc/fstab") else { return Vec::new() };
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let early = lines.filter_map(|words| match words[..] {
        [source, target, fstype, options, ..] => {
            let of_init = ["/usr", "/etc", "/bin", "/sbin", "/lib"].iter().any(|tree| target.starts_with(tree));
            let early = of_init || options.split(',').any(|option| option == "x-initrd.mount");
            early.then(|| Line { source: source.to_owned(), fstype: fstype.to_owned() })
        }
        _ => None,
    });
    early.collect()
}

/// No file system on a disk is mounted writable but the roots that are asked for, and what the fstab of one that was mounted needs.
pub(super) fn disks(case: &Case, events: &[Event], after: &Machine) -> Vec<String> {
    let changed = later::changed(case);
    let cases = [Some(case), changed.as_ref()];
    let read_only = cases.iter().flatten().all(|case| case.asked.read_only);
    let wishes =
        cases.iter().flatten().flat_map(|case| [Some(&case.asked.root), case.asked.fallback.as_ref()]).flatten();
    let mut asked: BTreeSet<String> = BTreeSet::new();
    asked.extend(wishes.filter_map(|wish| if let Wish::Device(_, name) = wish { Some(name.clone()) } else { None }));
    let mut mounted: BTreeMap<&str, &str> = BTreeMap::new();
    let mut all = Vec::new();
    for event in events.iter().filter(|event| !event.log) {
        let words: Vec<&str> = event.text.split(' ').collect();
        let ["mount", source, target, fstype, flags, ..] = words[..] else { continue };
        let Some(flags) = flags.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok()) else { continue };
        if flags & (libc::MS_MOVE | libc::MS_BIND) != 0 {
            continue;
        }
        let source =
            if flags & libc::MS_REMOUNT == 0 { source } else { mounted.get(target).copied().unwrap_or(source) };
        mounted.insert(target, source);
        // It may have been rolled back since.
        for line in [&case.machine, after].into_iter().filter_map(|then| tree(then, source)).flat_map(early) {
            asked.extend(named(after, &line.source).map(|device| device.name.clone()));
        }
        let Some(name) = source.strip_prefix("/dev/").filter(|_| fstype != "zfs") else { continue };
        if flags & libc::MS_RDONLY == 0 && (read_only || !asked.contains(name)) {
            all.push(format!("{source} was mounted writable: {}", event.text));
        }
    }
    all
}

/// The devices that a line of fstab means.
pub(super) fn named<'a>(machine: &'a Machine, source: &str) -> impl Iterator<Item = &'a Device> {
    let is = |device: &&Device| match &device.holds {
        Holds::Filesystem { uuid, label, .. }
            if source == format!("LABEL={label}") || source == format!("UUID={uuid}") =>
        {
            true
        }
        _ => source.strip_prefix("/dev/") == Some(&device.name),
    };
    machine.devices.iter().filter(is).collect::<Vec<_>>().into_iter()
}
