//! How long a boot may take: what its words say, added up.

use super::super::Case;
use super::super::faults::{Effect, Fault};
use super::super::files::Tree;
use super::super::machine::Device;
use super::super::oracle;
use super::super::people::UNANSWERED;
use super::super::seed::{Policy, Wish};
use super::super::wide::Named;
use super::super::world::{End, Event, World};
use super::super::zfs::pool::Pool;
use super::record;
use super::untouched::{Line, early, named, pool_of};
use std::time::Duration;

/// What starting, modules, mounting and asking the kernel may take, one attempt at one root.
const WORK: Duration = Duration::from_secs(5);
/// A disk that does not answer is taken for one that spins up for as long.
const SPINS_UP: Duration = Duration::from_secs(60);
/// How long a device with a key, with a line of fstab, or with a hibernated system is waited for, where no word says it.
const DEVICE: Duration = Duration::from_secs(10);
/// How long such a device may take to answer, once it is there.
const ANSWER: Duration = Duration::from_secs(30);
/// A device that is there so soon, and answers so soon, is not waited for.
const PROMPT: Duration = Duration::from_secs(1);
/// What the kernel takes to see that a disk is missing.
const OPEN: Duration = Duration::from_secs(1);
/// The devices of a hibernated system, and of a key.
const SWAP_DEVICE: &str = "swap0";
const KEY_DEVICE: &str = "stick0";
/// What the kernel takes to see whether another system uses a pool.
const MULTIHOST: Duration = Duration::from_secs(22);
/// Before a machine that nobody watches restarts or is switched off (`taproot.rescue=reboot:5`).
const DELAY: Duration = Duration::from_secs(5);
/// Attempts where restarts are not counted by the firmware.
const ATTEMPTS: u32 = 3;
/// What is said before another one.
const AGAIN: &str = "trying again in";
/// How long a pool may wait for a disk that has gone before the machine is ended, or a person asked; and as much for another attempt.
const GONE: Duration = Duration::from_secs(150);
/// What any other fault may bring about: another console is tried, another scout started, a process given up.
const TROUBLE: Duration = Duration::from_secs(30);

/// Not later than all waits together. The time in which a question stands is a person's.
pub(super) fn late(case: &Case, events: &[Event], world: &World, end: Option<&End>) -> Option<String> {
    let happened = happened(case, world);
    // Nothing ends a call that never comes back where the kernel does not say that it waits.
    if end == Some(&End::OutOfTime) && happened.iter().any(|fault| fault.effect == Effect::Never) {
        return None;
    }
    let took = world.time().saturating_sub(case.machine.started).saturating_sub(asked(events, world.time()));
    let sought = if at_once(case, world, end, &happened) { Duration::ZERO } else { search(case) };
    let limit = limit(case, events, &happened, sought);
    let (took, limit) = (took.as_secs_f64(), limit.as_secs_f64());
    (took > limit).then(|| format!("it took {took:.1} s, and its words ask for {limit:.1} s at most"))
}

/// The faults that have happened.
fn happened(case: &Case, world: &World) -> Vec<Fault> {
    let mut left = world.unused();
    let mut all = case.faults.clone();
    all.retain(|fault| match left.iter().position(|other| other == fault) {
        Some(at) => {
            left.remove(at);
            false
        }
        None => true,
    });
    all
}

/// How long questions stood.
fn asked(events: &[Event], end: Duration) -> Duration {
    let (mut sum, mut since) = (Duration::ZERO, None);
    for event in events {
        if event.text.starts_with("ask ") {
            since.get_or_insert(event.at);
        } else if event.text.starts_with("typed") || event.text == UNANSWERED {
            sum += since.take().map_or(Duration::ZERO, |since| event.at.saturating_sub(since));
        }
    }
    sum + since.map_or(Duration::ZERO, |since| end.saturating_sub(since))
}

/// All attempts at all roots, what follows them, and what went wrong.
fn limit(case: &Case, events: &[Event], happened: &[Fault], search: Duration) -> Duration {
    let roots = if case.asked.fallback.is_some() { 2 } else { 1 };
    let again = events.iter().filter(|event| event.text.starts_with("screen: ") && event.text.contains(AGAIN)).count();
    let again = u32::try_from(again).unwrap_or(ATTEMPTS);
    // Where the firmware counts them, the first failure restarts the machine.
    let most = if case.machine.firmware.is_some() && happened.is_empty() { 1 } else { ATTEMPTS };
    let (attempts, delay) = match case.asked.policy {
        Policy::Ask => (1 + answers(events), Duration::ZERO),
        Policy::Restart => (most.min(1 + again), DELAY),
        Policy::PowerOff => (1, DELAY),
    };
    let trouble = happened.iter().map(|fault| match fault.effect {
        Effect::Late(time) => time,
        Effect::Gone(_) | Effect::Never | Effect::Lost => GONE,
        _ => TROUBLE,
    });
    (attempt(case, search) * roots + delay) * attempts + trouble.sum::<Duration>()
}

/// Answers of a person, or disks that came while a question stood: each may begin another attempt, or the wait of one anew.
fn answers(events: &[Event]) -> u32 {
    let begins = |event: &&Event| {
        event.text == UNANSWERED || event.text.strip_prefix("typed: ").is_some_and(|line| line != "(hidden)")
    };
    u32::try_from(events.iter().filter(begins).count()).unwrap_or(u32::MAX)
}

/// One attempt at one root.
fn attempt(case: &Case, search: Duration) -> Duration {
    search + resumed(case) + opened(case) + keys(case) + checked(case) + WORK
}

/// Whether a device is there, and read, before anyone would wait for it.
fn prompt(device: &Device) -> bool {
    device.arrives < PROMPT && device.answers.is_some_and(|time| time < PROMPT)
}

/// How long one of these is waited for, where no word says it.
fn device<'a>(mut devices: impl Iterator<Item = &'a Device>) -> Duration {
    if devices.any(prompt) { Duration::ZERO } else { DEVICE }
}

/// Whether there was nothing to be waited for: the root that was named first is the one, at the first attempt, and all that it lies on is
/// there at once. What other disks say or do not say is of no interest then.
fn at_once(case: &Case, world: &World, end: Option<&End>, happened: &[Fault]) -> bool {
    let Some(End::HandOver { root, .. }) = end else { return false };
    let report = record::read(world).and_then(Result::ok).unwrap_or_default();
    if !happened.is_empty() || report.get("failure").is_none_or(|failure| !failure.is_null()) {
        return false;
    }
    let named = match &case.asked.root {
        Wish::Auto => return false,
        Wish::Device(_, name) => {
            return root.source == format!("/dev/{name}")
                && case.machine.devices.iter().any(|device| device.name == *name && prompt(device));
        }
        Wish::Pool(name) | Wish::Dataset(name) => pool_of(name),
    };
    let all_there =
        |pool: &Pool| pool.devices().iter().all(|leaf| oracle::device(&case.machine, leaf.guid).is_some_and(prompt));
    pool_of(&root.source) == named && case.machine.pools.iter().filter(|pool| pool.name == named).all(all_there)
}

/// The search for the root: the time to wait, and longer where disks may still spin up.
fn search(case: &Case) -> Duration {
    let wait = Duration::from_secs(case.asked.wait);
    let devices = case.machine.devices.iter().filter(|device| device.arrives < Duration::MAX);
    let read = devices.map(|device| device.arrives.saturating_add(device.answers.unwrap_or(SPINS_UP)));
    read.max().unwrap_or_default().min(wait + SPINS_UP).max(wait)
}

/// What a hibernated system is waited for: its device, that it answers, and that all others have.
fn resumed(case: &Case) -> Duration {
    let more = &case.asked.more;
    if more.resume.is_none() {
        return Duration::ZERO;
    }
    let swap = || case.machine.devices.iter().filter(|device| device.name == SWAP_DEVICE);
    let silent = |device: &Device| device.answers.is_none();
    let answer = if swap().any(silent) { ANSWER } else { Duration::ZERO };
    let rest = if case.machine.devices.iter().any(silent) && !more.noresume { SPINS_UP } else { Duration::ZERO };
    let named = swap().filter(|_| more.resume != Some(Named::Nothing));
    (device(named) + answer).max(rest)
}

/// What opening and importing pools takes: each missing disk, and the check whether another system uses it; once opened, once imported.
fn opened(case: &Case) -> Duration {
    let there = |guid: u64| oracle::device(&case.machine, guid).is_some_and(prompt);
    let pools = case.machine.pools.iter().map(|pool| {
        let missing = pool.devices().iter().filter(|leaf| !there(leaf.guid)).map(|_| OPEN).sum::<Duration>();
        if pool.multihost { missing + MULTIHOST } else { missing }
    });
    pools.sum::<Duration>() * 2
}

/// The stick with the key is waited for for the root, and for what is mounted in it.
fn keys(case: &Case) -> Duration {
    let stick = case.machine.devices.iter().filter(|device| device.name == KEY_DEVICE);
    if case.asked.more.key_device { device(stick) * 2 } else { Duration::ZERO }
}

/// Checks of file systems, and devices of the fstab.
fn checked(case: &Case) -> Duration {
    let takes = case.machine.programs.values().filter_map(|program| program.takes).max().unwrap_or_default();
    let line = |line: &Line| takes + device(named(&case.machine, &line.source));
    let lines = |tree: &Tree| early(tree).iter().filter(|line| line.fstype != "zfs").map(line).sum::<Duration>();
    let trees = case.machine.pools.iter().flat_map(|pool| pool.datasets.values()).map(|dataset| &dataset.tree);
    let plain = [Some(&case.asked.root), case.asked.fallback.as_ref()];
    let plain = plain.into_iter().flatten().any(|wish| matches!(wish, Wish::Device(..)));
    trees.map(lines).max().unwrap_or_default() + if plain { takes } else { Duration::ZERO }
}
