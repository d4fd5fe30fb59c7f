//! What a machine should boot, said in another way than the program says it: without time, without steps.

use super::Case;
use super::files::Tree;
use super::later;
use super::machine::{Device, Holds, Machine, ZfsVersion};
use super::seed::{Asked, Policy, Wish};
use super::wide::{self, Image, Then};
use super::zfs::pool::{ACTIVE, DESTROYED, Kind, Pool};
use std::collections::BTreeSet;
use std::time::Duration;

/// How a run may end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// With this root: the source of its mount.
    Root(String),
    /// A person is asked.
    Question,
    /// The machine restarts.
    Restart,
    /// It is switched off.
    PowerOff,
    /// A hibernated system goes on.
    Resumed,
}

/// The ends that are right for a case in which nothing goes wrong. More than one where it is a matter of milliseconds.
pub fn outcomes(case: &Case) -> BTreeSet<Outcome> {
    let mut all = BTreeSet::new();
    let image = wide::image(case);
    match image {
        Image::Resumed if wide::silent(case) => all.extend([Outcome::Resumed]),
        Image::Resumed => return BTreeSet::from([Outcome::Resumed]),
        _ => {}
    }
    // A person at the prompt meets the same again. The kernel discards the image when it cannot freeze whoever reads a disk that does
    // not answer.
    if image != Image::None && !case.asked.read_only {
        all.extend(failures(case, false));
        all.extend(after_words(case));
        return all;
    }
    // A person types each line once, whichever pool asks for it; a question that nobody answers is the end.
    let asks = |pool: &&Pool| pool.key_of("ROOT").is_some_and(|(_, key)| key.format == 3);
    let answered = case.machine.person.iter().any(|typed| typed.line == "secret");
    let asking = case.machine.pools.iter().filter(asks).count();
    if case.asked.prompt && (asking > 1 || (asking == 1 && !answered)) {
        all.insert(failure(case));
    }
    let mut open = tried(case, &mut all, &[Some(&case.asked.root), case.asked.fallback.as_ref()]);
    // What is chosen from the menu is booted, or nothing; the menu may not have been reached.
    if let Some(chosen) = &case.asked.more.chosen {
        open |= tried(case, &mut all, &[Some(&Wish::Dataset(chosen.clone()))]);
    }
    if open {
        all.extend(failures(case, true));
        all.extend(after_words(case));
        all.extend(taken_over(case));
    }
    // After a stop the time to wait begins anew, and what comes then counts.
    if case.machine.cmdline.contains("taproot.break=") {
        all.extend(later::in_the_end(case).iter().flat_map(outcomes));
    }
    all
}

/// Adds what these wishes, one after the other, can come to; whether they may all fail.
fn tried(case: &Case, all: &mut BTreeSet<Outcome>, wishes: &[Option<&Wish>]) -> bool {
    for (number, wish) in wishes.iter().enumerate() {
        let Some(wish) = wish else { continue };
        let first = number == 0 && **wish == case.asked.root;
        let (roots, sure) = roots(case, wish, first);
        all.extend(roots.into_iter().map(Outcome::Root));
        // Without its module no other root in a pool would do better.
        let possible = !needs_zfs(wish) || case.machine.modules.contains_key("zfs");
        if sure || !possible {
            return !sure;
        }
    }
    true
}

/// What can follow a failure; `roots`: whether another root may do better.
fn failures(case: &Case, another: bool) -> BTreeSet<Outcome> {
    let then = case.asked.more.then.as_ref().filter(|_| case.asked.policy == Policy::Ask);
    match then {
        None => BTreeSet::from([failure(case)]),
        Some(Then::Reboot) => BTreeSet::from([Outcome::Restart]),
        Some(Then::PowerOff) => BTreeSet::from([Outcome::PowerOff]),
        Some(Then::Retry | Then::Words(_)) => BTreeSet::from([Outcome::Question]),
        Some(Then::Boot(name)) => {
            let roots = if another { roots(case, &Wish::Dataset(name.clone()), false).0 } else { BTreeSet::new() };
            roots.into_iter().map(Outcome::Root).chain([Outcome::Question]).collect()
        }
    }
}

/// What can follow a failure without that a person decides on a root: words that are typed, or a disk that comes.
pub fn after_words(case: &Case) -> BTreeSet<Outcome> {
    let comes = later::in_the_end(case);
    // It may come while the fallback is waited for, which has its own time: the first root was given up then, and with it what was asked
    // of its snapshots, also of one that is chosen from the menu now.
    let instead = |case: &Case| -> Vec<Wish> {
        let Some(fallback) = case.asked.fallback.clone() else { return Vec::new() };
        std::iter::once(fallback).chain(case.asked.more.chosen.clone().map(Wish::Dataset)).collect()
    };
    let fallback = comes.iter().flat_map(|case| instead(case).into_iter().flat_map(|wish| roots(case, &wish, false).0));
    let fallback = fallback.map(Outcome::Root);
    let later = [later::changed(case), comes.clone()];
    later.iter().flatten().flat_map(outcomes).chain(fallback).collect()
}

/// The pool that the fallback names is imported once that was tried, and is ours then, whoever had it: another attempt, as after any
/// restart, finds it where nobody names a pool.
fn taken_over(case: &Case) -> BTreeSet<Outcome> {
    let Some(Wish::Dataset(fallback)) = &case.asked.fallback else { return BTreeSet::new() };
    let another = match case.asked.policy {
        Policy::Ask => matches!(case.asked.more.then, Some(Then::Retry | Then::Words(_))),
        Policy::Restart => true,
        Policy::PowerOff => false,
    };
    if case.asked.root != Wish::Auto || !another {
        return BTreeSet::new();
    }
    let name = fallback.split('/').next().unwrap_or(fallback);
    named(case, name, None).0.into_iter().map(Outcome::Root).collect()
}

fn needs_zfs(wish: &Wish) -> bool {
    !matches!(wish, Wish::Device(..))
}

fn failure(case: &Case) -> Outcome {
    match case.asked.policy {
        Policy::Ask => Outcome::Question,
        // Where no firmware counts restarts, it is tried again some times instead, and then given up.
        Policy::Restart if case.machine.firmware.is_some() => Outcome::Restart,
        Policy::Restart | Policy::PowerOff => Outcome::PowerOff,
    }
}

/// Roots that a wish can come to, and whether it is sure to come to one of them; `first`: what is asked to be done with
/// snapshots is done.
fn roots(case: &Case, wish: &Wish, first: bool) -> (BTreeSet<String>, bool) {
    let Case { machine, asked, .. } = case;
    match wish {
        Wish::Device(_, name) => {
            let device = machine.devices.iter().find(|device| device.name == *name);
            let there = device.filter(|device| in_time(device, asked));
            let node = there.filter(|d| checked(case, d)).map(|d| format!("/dev/{}", d.name));
            let sure = node.is_some();
            (node.into_iter().collect(), sure)
        }
        _ if !machine.modules.contains_key("zfs") => (BTreeSet::new(), false),
        Wish::Dataset(name) => {
            let pool = name.split('/').next().unwrap_or(name);
            let (roots, sure) = named(case, pool, Some(name));
            let snapshots = first && (case.asked.more.snapshot.is_some() || case.asked.more.rollback_to.is_some());
            if snapshots { at_snapshot(case, pool, name) } else { (roots, sure) }
        }
        Wish::Pool(pool) => named(case, pool, None),
        Wish::Auto => auto(case),
    }
}

/// Whether what is on the device is a file system, and one that its check lets pass.
fn checked(case: &Case, device: &Device) -> bool {
    let Holds::Filesystem { kind, .. } = &device.holds else { return false };
    let program = case.machine.programs.get(&format!("/sbin/fsck.{kind}"));
    // Where nothing is written nothing is repaired either.
    case.asked.more.skip_fsck || case.asked.read_only || program.is_none_or(|program| program.status & !3 == 0)
}

/// The root as it was at a snapshot.
fn at_snapshot(case: &Case, pool: &str, full: &str) -> (BTreeSet<String>, bool) {
    let pools = case.machine.pools.iter();
    let pool = pools.filter(|p| p.name == pool).find(|p| usable(case, p, true));
    let root = pool.and_then(|pool| root_at(case, pool, full.strip_prefix(&pool.name)?.strip_prefix('/')?));
    let sure = root.is_some();
    (root.into_iter().collect(), sure)
}

fn root_at(case: &Case, pool: &Pool, name: &str) -> Option<String> {
    let Asked { read_only, more, .. } = &case.asked;
    let dataset = pool.datasets.get(name).filter(|dataset| !dataset.volume && key(case, pool, name))?;
    let full = pool.full(name);
    let starts = |tree: &Tree| tree.get("sbin/init").is_some();
    let wanted = more.snapshot.as_ref().or(more.rollback_to.as_ref())?;
    if more.rollback_to.is_some() && *read_only {
        return Some(full).filter(|_| starts(&dataset.tree));
    }
    let snapshot = dataset.snapshots.get(wanted).filter(|snapshot| starts(&snapshot.tree))?;
    if *read_only {
        return Some(format!("{full}@{wanted}"));
    }
    if more.rollback || more.rollback_to.is_some() {
        let mut newer = dataset.snapshots.values().filter(|other| other.createtxg > snapshot.createtxg).peekable();
        let may = newer.peek().is_none() || (more.destroy_newer && newer.all(|other| other.holds == 0));
        return Some(full).filter(|_| may);
    }
    // What lies there already is no clone.
    let taken = pool.datasets.contains_key(&format!("{name}_{wanted}"));
    Some(format!("{full}_{wanted}")).filter(|_| !taken)
}

fn named(case: &Case, pool: &str, dataset: Option<&str>) -> (BTreeSet<String>, bool) {
    let Some(pool) = case.machine.pools.iter().find(|p| p.name == pool).filter(|p| usable(case, p, true)) else {
        return (BTreeSet::new(), false);
    };
    let name = match dataset {
        Some(name) => name.strip_prefix(&pool.name).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned),
        None => pool.bootfs.clone(),
    };
    let bootable = name.filter(|name| bootable(case, pool, name)).map(|name| pool.full(&name));
    let sure = bootable.is_some();
    (bootable.into_iter().collect(), sure)
}

/// Of the usable pools with a `bootfs` the expected ones first, then by name. Where disks come late, a boot may have settled
/// for another one before.
fn auto(case: &Case) -> (BTreeSet<String>, bool) {
    let expected =
        |pool: &Pool| case.machine.image.pools.iter().position(|e| e.guid == pool.guid).unwrap_or(usize::MAX);
    // Before 2.1.12 nothing is known of a pool without its log until it is imported.
    let seen = |pool: &Pool| case.machine.zfs > ZfsVersion::V2_1 || logs_there(case, pool);
    let pools = case.machine.pools.iter().filter(|pool| pool.bootfs.is_some() && seen(pool));
    let mut usable: Vec<&Pool> = pools.filter(|pool| self::usable(case, pool, false)).collect();
    usable.sort_by_key(|pool| (expected(pool), pool.name.clone()));
    let in_a_hurry =
        |pool: &&Pool| pool.devices().iter().any(|leaf| device(&case.machine, leaf.guid).is_none_or(|d| !prompt(d)));
    let racing = usable.iter().any(in_a_hurry);
    let choices = usable.iter().take(if racing { usable.len() } else { 1 });
    let roots: Vec<Option<String>> = choices
        .map(|pool| pool.bootfs.as_ref().filter(|name| bootable(case, pool, name)).map(|name| pool.full(name)))
        .collect();
    let sure = !roots.is_empty() && roots.iter().all(Option::is_some);
    (roots.into_iter().flatten().collect(), sure)
}

fn logs_there(case: &Case, pool: &Pool) -> bool {
    let mut leaves = pool.tops.iter().filter(|top| top.log).flat_map(|top| &top.leaves);
    leaves.all(|leaf| device(&case.machine, leaf.guid).is_some_and(|device| in_time(device, &case.asked)))
}

/// The device that is this leaf of a pool.
pub(super) fn device(machine: &Machine, guid: u64) -> Option<&Device> {
    machine.devices.iter().find(|device| matches!(device.holds, Holds::Vdev(held) if held == guid))
}

/// Whether it is there, and read, before anyone would have to wait.
fn prompt(device: &Device) -> bool {
    device.arrives < Duration::from_secs(1) && device.answers.is_some_and(|time| time < Duration::from_millis(200))
}

fn in_time(device: &Device, asked: &Asked) -> bool {
    let Some(answers) = device.answers else { return false };
    device.arrives.saturating_add(answers) < Duration::from_secs(asked.wait)
}

/// Whether the pool can be imported with what comes in time, and may be.
fn usable(case: &Case, pool: &Pool, named: bool) -> bool {
    let Case { machine, asked, .. } = case;
    let foreign = pool.state == ACTIVE && pool.hostid != 0 && pool.hostid != asked.more.hostid();
    let known = named || machine.image.pools.iter().any(|e| e.guid == pool.guid) || asked.read_only || asked.force;
    if pool.state == DESTROYED || (foreign && !known) {
        return false;
    }
    let readable = pool.can_read && asked.read_only;
    if !pool.unsupported.is_empty() && !readable {
        return false;
    }
    if pool.multihost && pool.elsewhere && pool.state == ACTIVE && pool.hostid != asked.more.hostid() {
        return false;
    }
    let there = |guid: u64| device(machine, guid).is_some_and(|device| in_time(device, asked));
    pool.tops.iter().all(|top| {
        let missing = top.leaves.iter().filter(|leaf| !there(leaf.guid)).count() as u64;
        let spare = match top.kind {
            Kind::Hole | Kind::Indirect => return true,
            Kind::Disk => 0,
            Kind::Mirror => top.leaves.len() as u64 - 1,
            Kind::Raidz(parity) => parity,
        };
        let allowed = asked.degraded || missing == 0;
        if top.log { missing == 0 || (asked.missing_log && allowed) } else { missing <= spare && allowed }
    })
}

/// Whether the dataset can be mounted and started.
fn bootable(case: &Case, pool: &Pool, name: &str) -> bool {
    let Some(dataset) = pool.datasets.get(name) else { return false };
    !dataset.volume && dataset.tree.get("sbin/init").is_some() && key(case, pool, name)
}

/// Whether its key can be had, if it needs one.
fn key(case: &Case, pool: &Pool, name: &str) -> bool {
    let Some((_, key)) = pool.key_of(name) else { return true };
    match key.format {
        1 => case.machine.files.get("etc/root.key").is_some() || wide::key_there(case),
        _ => case.asked.prompt && case.machine.person.iter().any(|typed| typed.line == "secret"),
    }
}
