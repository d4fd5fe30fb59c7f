//! What people do on a simulated machine, and when its power fails.

use crate::sim::prng::Prng;

use super::disk::Disk;

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// An orderly reboot, with the upper in RAM or without.
    Reboot {
        /// In RAM.
        ram: bool,
    },
    /// A boot that comes to nothing, and is ended by the switch.
    PowerOff,
    /// A file is written.
    Write {
        /// Its name.
        name: &'static str,
        /// And synced.
        synced: bool,
    },
    /// A file is removed.
    Delete {
        /// Its name.
        name: &'static str,
    },
    /// `commit`
    Commit {
        /// With so many layers below.
        below: u16,
    },
    /// `merge`
    Merge {
        /// So many layers.
        count: usize,
    },
    /// `rollback` to one of the pasts, or to a fresh upper.
    Rollback {
        /// Which.
        at: u64,
    },
    /// `withdraw`
    Withdraw {
        /// Which operation.
        at: u64,
    },
    /// `retry`
    Retry {
        /// Which operation.
        at: u64,
    },
    /// `forget`
    Forget {
        /// Which past.
        at: u64,
    },
    /// The unit behind `boot-complete.target`.
    Confirm,
    /// The companion's service.
    Run,
}

/// Names of files.
pub const NAMES: [&str; 7] = ["a", "b", "c", "e", "f", "machine-id", "host-key"];

const REBOOT: Act = Act::Reboot { ram: false };
const COMMIT: Act = Act::Commit { below: 0 };
const FILE: Act = Act::Write { name: "f", synced: true };
const GONE: Act = Act::Delete { name: "b" };

/// Stories of which every cut is gone through, by what they are about.
pub const STORIES: [(&str, &[Act]); 7] = [
    ("a commit", &[FILE, GONE, COMMIT, REBOOT, FILE, Act::Run, REBOOT, Act::Confirm, Act::Run]),
    (
        "a trial that fails",
        &[
            COMMIT,
            REBOOT,
            Act::Run,
            REBOOT,
            FILE,
            REBOOT,
            REBOOT,
            REBOOT,
            GONE,
            Act::Retry { at: 0 },
            Act::Run,
            REBOOT,
            Act::Confirm,
        ],
    ),
    ("stacked commits", &[FILE, COMMIT, REBOOT, FILE, COMMIT, REBOOT, GONE, Act::Run, REBOOT, Act::Confirm, Act::Run]),
    (
        "a merge",
        &[
            GONE,
            COMMIT,
            REBOOT,
            Act::Run,
            REBOOT,
            Act::Confirm,
            Act::Run,
            Act::Merge { count: 2 },
            Act::Run,
            REBOOT,
            Act::Confirm,
        ],
    ),
    (
        "an upper in RAM",
        &[FILE, Act::Reboot { ram: true }, FILE, GONE, COMMIT, Act::Run, REBOOT, Act::Confirm, Act::Run],
    ),
    (
        "there and back",
        &[
            Act::Rollback { at: 0 },
            Act::Run,
            REBOOT,
            FILE,
            Act::Confirm,
            Act::Run,
            Act::Rollback { at: 0 },
            REBOOT,
            Act::Confirm,
            Act::Run,
        ],
    ),
    ("withdrawn", &[COMMIT, REBOOT, Act::Run, REBOOT, FILE, Act::Withdraw { at: 0 }, REBOOT, Act::Run]),
];

/// A story: a few sessions with something in each.
pub fn random(prng: &mut Prng) -> Vec<Act> {
    let mut acts = Vec::new();
    for _ in 0..3 + prng.below(4) {
        for _ in 0..=prng.below(5) {
            acts.push(one(prng));
        }
        if prng.chance(80) {
            acts.push(Act::Run);
        }
        acts.push(match prng.below(10) {
            0..2 => Act::PowerOff,
            2..4 => Act::Reboot { ram: true },
            _ => Act::Reboot { ram: false },
        });
        if prng.chance(60) {
            acts.push(Act::Confirm);
        }
        if prng.chance(50) {
            acts.push(Act::Run);
        }
    }
    acts
}

fn one(prng: &mut Prng) -> Act {
    let at = prng.below(8);
    let name = NAMES[usize::try_from(prng.below(NAMES.len() as u64)).unwrap_or(0)];
    match prng.below(24) {
        0..6 => Act::Write { name, synced: prng.chance(60) },
        6..8 => Act::Delete { name },
        8..14 => Act::Commit { below: u16::try_from(prng.below(8).saturating_sub(5)).unwrap_or(0) },
        14..16 => Act::Merge { count: 1 + usize::try_from(prng.below(3)).unwrap_or(0) },
        16..18 => Act::Rollback { at },
        18 => Act::Withdraw { at },
        19 => Act::Retry { at },
        20 => Act::Forget { at },
        21 => Act::Confirm,
        _ => Act::Run,
    }
}

/// When the power fails.
#[derive(Debug)]
pub enum Cuts {
    /// Never.
    None,
    /// Now and then.
    Random,
    /// Before the change of this number.
    At(u64),
}

impl Cuts {
    /// At the beginning.
    pub fn begin(&self, disk: &Disk) {
        if let Self::At(change) = self {
            disk.set_fuse(Some(*change));
        }
    }

    /// Before something is done.
    pub fn arm(&self, disk: &Disk, prng: &mut Prng) {
        if !matches!(self, Self::Random) {
            return;
        }
        disk.set_full(prng.chance(2).then(|| prng.below(30)));
        if prng.chance(35) {
            // Few changes in a request or boot, many in the companion.
            let most = prng.pick(12, &[12, 60]);
            disk.set_fuse(Some(prng.below(most)));
        } else {
            disk.set_fuse(None);
        }
    }
}

/// What the power must have cut in enough stories: each thing that writes, and each phase of each kind of operation.
pub const CUTS: [&str; 33] = [
    "in boot that seals",
    "in boot that adopts",
    "in boot that tries again",
    "in boot that goes back",
    "in boot that gives up",
    "in writing files",
    "in commit",
    "in merge",
    "in rollback",
    "in withdraw",
    "in retry",
    "in forget",
    "in confirm",
    "in copy",
    "in prepare",
    "in begin",
    "in build",
    "in publish",
    "in remove",
    "and the state bad",
    "commit requested",
    "commit sealed",
    "commit building",
    "commit verified",
    "commit ready",
    "commit trial",
    "commit from RAM requested",
    "merge sealed",
    "merge building",
    "merge verified",
    "merge ready",
    "merge trial",
    "rollback requested",
];
