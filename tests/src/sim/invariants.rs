//! What must be true of every run, whatever the machine and whatever went wrong.

use super::Case;
use super::later::{self, Change};
use super::machine::Machine;
use super::oracle::{Outcome, after_words, outcomes};
use super::people::UNANSWERED;
use super::seed::Policy;
use super::wide::{More, Then, relied_on};
use super::world::{End, Event, World};
use super::zfs::pool::{ACTIVE, DESTROYED, Pool};
use std::collections::BTreeSet;
use std::time::Duration;

/// Longest time without a word while something is waited for; a moment more than what is promised, for the step under way.
const SILENCE: Duration = Duration::from_millis(5600);
/// What starting modules, opening and importing may add to the waits that the command line names.
const WORK: Duration = Duration::from_secs(90);

/// Calls that change a pool and that no word of a case asks for.
const FORBIDDEN: [&str; 7] =
    ["zfs DESTROY", "zfs DESTROY_SNAPS", "zfs ROLLBACK", "zfs CLONE", "zfs SNAPSHOT", "zfs SET_PROP", "zfs ?"];

/// What a run has broken, a line each; empty for a good one.
pub fn broken(case: &Case, world: &World, end: Option<&End>) -> Vec<String> {
    let mut events = world.events();
    // What was shown of a watched call stands behind it.
    events.sort_by_key(|event| event.at);
    let happened: BTreeSet<&str> = events.iter().filter_map(|event| event.text.strip_prefix("fault: ")).collect();
    let mut all = Vec::new();
    all.extend(ending(case, world, end, &happened));
    all.extend(silence(&events));
    all.extend(calls(case, &events));
    let after = world.machine();
    all.extend(if world.unread("/proc/cmdline") {
        // Nobody knew the words; what a person says then is all there is.
        let mut blind = case.clone();
        blind.asked.read_only &= !matches!(case.asked.more.then, Some(Then::Boot(_)));
        pools(&blind, &after, false)
    } else {
        pools(case, &after, relied_on(case))
    });
    if happened.is_empty() {
        all.extend(late(case, world, end));
    }
    if let Some(End::HandOver { root, .. }) = end {
        all.extend(handed_over(case, world, &after, &root.source, happened.is_empty()));
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
    // Where restarts are not counted by firmware, the machine gives up after some attempts.
    if allowed.contains(&Outcome::Restart) {
        allowed.insert(Outcome::PowerOff);
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

/// Nothing is waited for in silence: a line at least every five seconds.
pub(super) fn silence(events: &[Event]) -> Option<String> {
    let mut spoke = events.first()?.at;
    let mut asked = false;
    // Whatever the log tells meanwhile, a question stands until it is answered, or needless.
    let mut question = false;
    for event in events {
        // A line that the kernel did not take was said all the same.
        let speaks = event.log || event.text == "kmsg" || event.text.starts_with("screen: ");
        // A person who is asked knows what is waited for; so does who was told of a pause.
        let excused = asked || question || event.at.saturating_sub(spoke) <= SILENCE;
        if !excused {
            let gap = event.at.saturating_sub(spoke).as_secs_f64();
            return Some(format!("no word for {gap:.1} s until {:.1} s ({})", event.at.as_secs_f64(), event.text));
        }
        if event.text.starts_with("ask ") {
            question = true;
        } else if event.text.starts_with("typed") || event.text == UNANSWERED {
            // Until then it stood there to be read.
            (question, spoke) = (false, event.at);
        }
        if event.text.starts_with("sleep ") {
            asked = true;
        } else if speaks || event.text.starts_with("typed") {
            asked = false;
        }
        if speaks || asked || question {
            spoke = event.at;
        }
    }
    None
}

/// No call that is not asked for.
fn calls(case: &Case, events: &[Event]) -> Vec<String> {
    let forbidden = |event: &&Event| {
        FORBIDDEN.iter().any(|call| event.text.strip_prefix(call).is_some_and(|rest| rest.starts_with(' ')))
    };
    let changed = later::changed(case);
    let asked = |event: &&Event| {
        let call = event.text.split(' ').nth(1).unwrap_or_default();
        let asks = |case: &Case| !case.asked.read_only && case.asked.more.asks_for(call);
        asks(case) || changed.as_ref().is_some_and(asks)
    };
    let mut all: Vec<String> = events
        .iter()
        .filter(|event| !event.log)
        .filter(forbidden)
        .filter(|event| !asked(event))
        .map(|event| format!("undeclared call: {}", event.text))
        .collect();
    if case.asked.more.resume.is_none() {
        let resumes = events.iter().filter(|event| event.text.starts_with("write /sys/power/resume"));
        all.extend(resumes.map(|event| format!("undeclared write: {}", event.text)));
    }
    all
}

/// Whether the words let a boot write to this pool at all.
fn may_write(case: &Case, pool: &Pool) -> bool {
    if later::changed(case).is_some_and(|after| may_write(&after, pool)) {
        return true;
    }
    let named = |wish: &super::seed::Wish| match wish {
        super::seed::Wish::Auto => true,
        super::seed::Wish::Pool(name) => *name == pool.name,
        super::seed::Wish::Dataset(name) => name.split('/').next() == Some(&pool.name),
        super::seed::Wish::Device(..) => false,
    };
    let by_name = |wish: &super::seed::Wish| named(wish) && *wish != super::seed::Wish::Auto;
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
fn pools(case: &Case, after: &Machine, relied_on: bool) -> Vec<String> {
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

/// Not later than all waits together.
fn late(case: &Case, world: &World, end: Option<&End>) -> Option<String> {
    if matches!(end, Some(End::Question(_)) | None) {
        return None;
    }
    let attempts = if case.asked.policy == Policy::Ask { 1 } else { 4 };
    let roots = if case.asked.fallback.is_some() { 2 } else { 1 };
    // A disk that spins up is waited for for a minute.
    let more = if case.asked.more == More::default() { Duration::ZERO } else { WORK };
    let one = Duration::from_secs(case.asked.wait.max(60) + 10) + WORK + more;
    let limit = one * attempts * roots;
    (world.time() > limit).then(|| format!("it took {:?}, at most {limit:?} expected", world.time()))
}

/// Whether a person has typed a word that takes the place of this one.
fn replaced(case: &Case, world: &World, asked: &str) -> bool {
    let Some(Then::Words(change)) = &case.asked.more.then else { return false };
    let typed = format!("typed: {}", change.line());
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let names: Vec<String> = match change {
        Change::Root(_) => ["zfs", "root", "bootfs"].map(str::to_owned).to_vec(),
        _ => change.line().split(' ').skip(1).map(name).collect(),
    };
    names.contains(&name(asked)) && world.events().iter().any(|event| event.text == typed)
}

/// What the booted system finds.
fn handed_over(case: &Case, world: &World, after: &Machine, root: &str, whole: bool) -> Vec<String> {
    let mut all = Vec::new();
    let own = root.split('/').next().unwrap_or_default();
    for pool in after.pools.iter().filter(|pool| pool.imported.is_some() && pool.name != own) {
        if whole {
            all.push(format!("pool {} is left imported, and the root is {root}", pool.name));
        }
    }
    match world.file("/run/taproot/boot.json").map(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes)) {
        // What stands there then is of an earlier attempt.
        Some(Ok(_)) if world.unwritten("/run/taproot/boot.json") => {}
        Some(Ok(report)) => {
            let text = report.to_string();
            let words = case.machine.cmdline.split_whitespace().filter(|word| !replaced(case, world, word));
            let left_out: Vec<&str> = words.filter(|word| !text.contains(*word)).collect();
            if !left_out.is_empty() && !world.unread("/proc/cmdline") {
                all.push(format!("boot.json does not have what was asked: {left_out:?}"));
            }
            let spelled = match &case.asked.root {
                super::seed::Wish::Device(spelled, _) => spelled,
                _ => root,
            };
            let fallback = match &case.asked.fallback {
                Some(super::seed::Wish::Device(spelled, _)) => spelled,
                _ => spelled,
            };
            if ![root, spelled, fallback].into_iter().any(|name| text.contains(name)) {
                all.push(format!("boot.json does not name the root {root}"));
            }
            if whole {
                all.extend(crate::agreement::disagreements(&report));
            }
        }
        Some(Err(e)) => all.push(format!("boot.json is no JSON: {e}")),
        None if whole => all.push("there is no boot.json".to_owned()),
        None => {}
    }
    let patience = world.file("/sys/module/zfs/parameters/zfs_vdev_open_timeout_ms");
    if whole && patience.is_some_and(|value| value != b"1000\n" && value != b"1000") {
        all.push("zfs_vdev_open_timeout_ms is not as it was".to_owned());
    }
    if world.has_scout() {
        all.push("the scout still runs".to_owned());
    }
    all
}
