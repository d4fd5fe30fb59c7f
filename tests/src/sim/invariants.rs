//! What must be true of every run, whatever the machine and whatever went wrong.

mod calls;
mod late;
pub(super) mod record;
mod untouched;
mod words;

pub use words::silence;

use super::Case;
use super::later::Change;
use super::machine::Machine;
use super::oracle::{Outcome, after_words, outcomes};
use super::seed::Policy;
use super::wide::{Then, relied_on};
use super::world::{End, Event, World};
use std::collections::BTreeSet;

/// What any run has broken, whatever its machine is and whatever was asked.
pub fn of_any(world: &World, end: Option<&End>) -> Vec<String> {
    let mut all = Vec::new();
    let events = in_order(world);
    all.extend(words::quiet(&events, world));
    all.extend(words::unnamed(&events));
    all.extend(calls::refused(&events, world));
    if matches!(end, Some(End::HandOver { .. })) && world.has_scout() {
        all.push("the scout still runs".to_owned());
    }
    all
}

/// What happened. What was shown of a watched call stands behind it.
fn in_order(world: &World) -> Vec<Event> {
    let mut events = world.events();
    events.sort_by_key(|event| event.at);
    events
}

/// What a run has broken, a line each; empty for a good one.
pub fn broken(case: &Case, world: &World, end: Option<&End>) -> Vec<String> {
    let events = in_order(world);
    let happened: BTreeSet<&str> = events.iter().filter_map(|event| event.text.strip_prefix("fault: ")).collect();
    let mut all = of_any(world, end);
    all.extend(ending(case, world, end, &happened));
    all.extend(calls::undeclared(case, &events));
    let after = world.machine();
    all.extend(untouched::disks(case, &events, &after));
    all.extend(untouched::kept(case, &after));
    all.extend(if world.unread("/proc/cmdline") {
        // Nobody knew the words; what a person says then is all there is.
        let mut blind = case.clone();
        blind.asked.read_only &= !matches!(case.asked.more.then, Some(Then::Boot(_)));
        untouched::pools(&blind, &after, false)
    } else {
        untouched::pools(case, &after, relied_on(case))
    });
    if matches!(end, Some(End::HandOver { .. })) {
        all.extend(untouched::looked_at(&events, &after));
    }
    all.extend(late::late(case, &events, world, end));
    all.extend(words::asked_of_nobody(case, &events, world));
    all.extend(record::wrong(case, world, end, happened.is_empty()));
    let mut root = None;
    if let Some(End::HandOver { root: mount, .. }) = end {
        root = Some(mount.source.as_str());
        all.extend(handed_over(world, &after, &mount.source, happened.is_empty()));
    }
    if happened.is_empty() {
        all.extend(untouched::others(case, &events, world, &after, root));
    }
    all
}

/// The run ends as the oracle says; with faults in any of the ways that are meant for them.
fn ending(case: &Case, world: &World, end: Option<&End>, happened: &BTreeSet<&str>) -> Option<String> {
    let never = happened.iter().any(|fault| fault.starts_with("Never"));
    let outcome = match end {
        Some(End::HandOver { root, .. }) => Outcome::Root(root.source.clone()),
        Some(End::Question(_)) => Outcome::Question,
        Some(End::Restart) => Outcome::Restart,
        Some(End::PowerOff) => Outcome::PowerOff,
        Some(End::Resumed(_)) => Outcome::Resumed,
        Some(End::PowerCut) if happened.contains("PowerCut") => return None,
        Some(End::OutOfTime) if never => return None,
        other => return Some(format!("the run ended in {other:?}")),
    };
    let mut allowed = outcomes(case);
    // What is not known to be asked for is not done.
    if world.unread("/proc/cmdline") {
        allowed = typed(case).into_iter().chain([Outcome::Question]).collect();
    }
    if !happened.is_empty() && !world.unread("/proc/cmdline") {
        allowed.extend(match case.asked.policy {
            Policy::Ask => vec![Outcome::Question],
            Policy::Restart => vec![Outcome::Restart, Outcome::PowerOff],
            Policy::PowerOff => vec![Outcome::PowerOff],
        });
        // Nothing is written to what a hibernated system relies on, so it may be booted as well.
        if case.asked.read_only && case.asked.more.resume.is_some() {
            let mut without = case.clone();
            without.asked.more.resume = None;
            allowed.extend(outcomes(&without));
        }
        // A check that cannot be run keeps no file system from being mounted.
        let mut unchecked = case.clone();
        unchecked.machine.programs.clear();
        allowed.extend(outcomes(&unchecked));
        // A fault may take the first choice away; what is booted then must still be one that was asked for.
        allowed.extend(second_choices(case));
        allowed.extend(after_words(case));
    }
    (!allowed.contains(&outcome)).then(|| format!("the run ended in {outcome:?}, expected {allowed:?}"))
}

/// What may be booted when the first choice fails: the fallback, or, unnamed, another pool's root.
fn second_choices(case: &Case) -> Vec<Outcome> {
    let unnamed = case.asked.root == super::seed::Wish::Auto;
    let fallback = match &case.asked.fallback {
        Some(super::seed::Wish::Dataset(name)) => Some(Outcome::Root(name.clone())),
        Some(super::seed::Wish::Device(_, name)) => Some(Outcome::Root(format!("/dev/{name}"))),
        _ => None,
    };
    let chosen = case.asked.more.chosen.iter().map(|name| Outcome::Root(name.clone()));
    let pools = case.machine.pools.iter().filter(|_| unnamed);
    let others = pools.filter_map(|pool| Some(Outcome::Root(pool.full(pool.bootfs.as_ref()?))));
    others.chain(fallback).chain(typed(case)).chain(chosen).collect()
}

/// What a person who types at the prompt can bring about.
fn typed(case: &Case) -> Option<Outcome> {
    let outcome = match case.asked.more.then.as_ref()? {
        Then::Boot(name) | Then::Words(Change::Root(name)) => Outcome::Root(name.clone()),
        Then::Reboot => Outcome::Restart,
        Then::PowerOff => Outcome::PowerOff,
        Then::Retry | Then::Words(_) => return None,
    };
    Some(outcome)
}

/// What the booted system finds.
fn handed_over(world: &World, after: &Machine, root: &str, whole: bool) -> Vec<String> {
    let mut all = Vec::new();
    let own = root.split('/').next().unwrap_or_default();
    for pool in after.pools.iter().filter(|pool| pool.imported.is_some() && pool.name != own) {
        if whole {
            all.push(format!("pool {} is left imported, and the root is {root}", pool.name));
        }
    }
    let patience = world.file("/sys/module/zfs/parameters/zfs_vdev_open_timeout_ms");
    if whole && patience.is_some_and(|value| value != b"1000\n" && value != b"1000") {
        all.push("zfs_vdev_open_timeout_ms is not as it was".to_owned());
    }
    all
}
