//! What happens while a prompt stands: a person types other words, or a disk comes that was too late. From streams of their own, so
//! that each seed keeps its machine.

use super::Case;
use super::machine::{Device, Holds, Typed};
use super::prng::Prng;
use super::seed::{Policy, Wish};
use super::wide::Then;
use std::time::Duration;

/// Words that a person types, and what they ask for then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `root=ZFS=` this dataset.
    Root(String),
    /// `noresume`.
    NoResume,
    /// `resume=`.
    Resume,
    /// `taproot.import=rw`.
    Writable,
    /// `taproot.import=ro`, after an attempt that may have imported pools writable.
    ReadOnly,
    /// `zfs_force=1`.
    Force,
    /// `taproot.missing_log=yes`.
    MissingLog,
    /// `taproot.mounts=none`.
    NoMounts,
}

impl Change {
    /// As it is typed.
    pub fn line(&self) -> String {
        match self {
            Self::Root(name) => format!("retry root=ZFS={name}"),
            Self::NoResume => "retry noresume".to_owned(),
            Self::Resume => "retry resume=".to_owned(),
            Self::Writable => "retry taproot.import=rw".to_owned(),
            Self::ReadOnly => "retry taproot.import=ro".to_owned(),
            Self::Force => "retry zfs_force=1".to_owned(),
            Self::MissingLog => "retry taproot.missing_log=yes".to_owned(),
            Self::NoMounts => "retry taproot.mounts=none".to_owned(),
        }
    }
}

/// The case as it is once the words are typed that its person types after a failure.
pub fn changed(case: &Case) -> Option<Case> {
    let Some(Then::Words(change)) = &case.asked.more.then else { return None };
    let mut after = case.clone();
    let asked = &mut after.asked;
    asked.more.then = None;
    match change {
        Change::Root(name) => {
            asked.root = Wish::Dataset(name.clone());
            (asked.more.snapshot, asked.more.chosen) = (None, None);
        }
        Change::NoResume => asked.more.noresume = true,
        Change::Resume if case.machine.cmdline.contains("resume=") => asked.more.resume = None,
        Change::Resume | Change::NoMounts => {}
        Change::Writable => asked.read_only = false,
        Change::ReadOnly => asked.read_only = true,
        Change::Force => asked.force = true,
        Change::MissingLog => asked.missing_log = true,
    }
    Some(after)
}

/// Adds it to a case.
pub fn widen(case: &mut Case) {
    other_words(case);
    much_later(case);
    look_only(case);
}

/// How long after the time to wait a disk comes that is too late.
const TOO_LATE: u64 = 20;

/// A disk that comes when a prompt stands. From a stream of its own, too.
fn much_later(case: &mut Case) {
    let mut prng = Prng::new(case.seed.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ 0x0007_a7e3);
    let free = case.asked.policy == Policy::Ask && case.asked.more.then.is_none() && case.faults.is_empty();
    // A disk that does not answer prolongs the wait, so that another one is not too late.
    let answers =
        case.machine.devices.iter().all(|device| device.answers.is_some_and(|time| time < Duration::from_secs(5)));
    if !free || !answers || !prng.chance(15) {
        return;
    }
    let mut disks = case.machine.devices.iter_mut().filter(|device| matches!(device.holds, Holds::Vdev(_)));
    if let Some(device) = disks.next().filter(|device| device.arrives != Duration::MAX && device.answers.is_some()) {
        device.arrives = Duration::from_secs(case.asked.wait + TOO_LATE);
    }
}

/// The case as it would be if what comes while a prompt stands had come in time.
pub fn in_the_end(case: &Case) -> Option<Case> {
    let late = |device: &&mut Device| device.arrives == Duration::from_secs(case.asked.wait + TOO_LATE);
    let mut after = case.clone();
    after.machine.devices.iter_mut().find(late)?.arrives = Duration::from_millis(700);
    Some(after)
}

/// A person who tries again tries other words, most times. From a stream of its own, so that each seed keeps its machine.
fn other_words(case: &mut Case) {
    let mut prng = Prng::new(case.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x0077_0a2d);
    if case.asked.more.then != Some(Then::Retry) || !prng.chance(75) {
        return;
    }
    let at = usize::try_from(prng.below(case.machine.pools.len() as u64)).unwrap_or(0);
    let name = case.machine.pools.get(at).map_or_else(|| "tank/nosuch".to_owned(), |pool| pool.full("ROOT/b"));
    let change = prng.pick(
        Change::Root(name),
        &[Change::NoResume, Change::Resume, Change::Writable, Change::Force, Change::MissingLog, Change::NoMounts],
    );
    let person = &mut case.machine.person;
    if let Some(typed) = person.iter_mut().find(|typed| typed.line == "retry") {
        typed.line = change.line();
    }
    person.push(Typed::line("Type yes to do it", "yes"));
    person.push(Typed::line("Type yes to do it", "yes"));
    case.asked.more.then = Some(Then::Words(change));
}

/// Where nobody was to type anything, a person tries again without writing. From a stream of its own.
fn look_only(case: &mut Case) {
    let mut prng = Prng::new(case.seed.wrapping_mul(0xa076_1d64_78bd_642f) ^ 0x0005_3e7d);
    let free = case.asked.policy == Policy::Ask && case.asked.more.then.is_none() && !case.asked.read_only;
    if !free || in_the_end(case).is_some() || !prng.chance(10) {
        return;
    }
    case.machine.person.push(Typed::line("(taproot) #", &Change::ReadOnly.line()));
    case.asked.more.then = Some(Then::Words(Change::ReadOnly));
}
