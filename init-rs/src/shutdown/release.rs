//! What [`super::plan`] says is done, each step within a limit of its own.

use super::plan::{self, Action, Held};
use super::say;
use crate::sys::System;
use crate::zfs::ioctl::{Zfs, describe};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const MOUNTS: &str = "/proc/self/mountinfo";
/// Thousands of mounts make a megabyte.
const LONGEST: usize = 16 << 20;
/// No step takes longer on a disk that works; one that does is left where it sits.
const STEP: Duration = Duration::from_secs(5);
/// Each sets something free, or is the last one. Layers on layers are not deeper.
const ROUNDS: usize = 8;
/// Steps that are told one by one when they fail; of others only how many there were.
const TOLD: usize = 8;
/// Bytes of a record: the kernel cuts longer ones.
const RECORD: usize = 800;

/// `MS_RDONLY | MS_REMOUNT`.
const READ_ONLY: u64 = libc::MS_RDONLY | libc::MS_REMOUNT;

/// How a step ended that did not succeed.
struct Failure {
    action: Action,
    why: String,
}

struct Release<'a> {
    system: &'a Arc<dyn System>,
    /// Steps that did not come back: they are not tried again.
    hanging: BTreeSet<Action>,
}

/// Gives everything back that can be given back.
pub(super) fn all(system: &Arc<dyn System>) {
    let mut release = Release { system, hanging: BTreeSet::new() };
    let mut failures = Vec::new();
    let mut before = None;
    for _ in 0..ROUNDS {
        let Some(held) = release.look() else { return };
        // A loop device that is in use counts as detached, and is still there.
        if before.as_ref() == Some(&held) {
            break;
        }
        failures = release.act(&plan::round(&held));
        before = Some(held);
    }
    release.tell(&failures);
    let Some(held) = release.look() else { return };
    let failed = release.act(&plan::protections(&held));
    release.tell(&failed);
    // An export writes what its pool has to write; this is for what stays.
    let syncing = Arc::clone(system);
    if !system.within(STEP, Box::new(move || syncing.sync_all())) {
        say(&**system, 4, &format!("what is not written could not be written within {} s", STEP.as_secs()));
    }
    for pool in plan::mounted_pools(&held) {
        say(&**system, 4, &format!("pool {pool} stays imported: something of it is still mounted"));
    }
    let failed = release.act(&plan::exports(&held));
    release.tell(&failed);
}

impl Release<'_> {
    /// What there is; `None` if the kernel does not say it in time.
    fn look(&self) -> Option<Held> {
        let found = Arc::new(Mutex::new(None));
        let (system, slot) = (Arc::clone(self.system), Arc::clone(&found));
        let work = move || *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(held(&*system));
        let in_time = self.system.within(STEP, Box::new(work));
        let held = found.lock().unwrap_or_else(PoisonError::into_inner).take().filter(|_| in_time);
        if held.is_none() {
            say(&**self.system, 4, "the kernel does not say what is mounted, so nothing more is given back");
        }
        held
    }

    /// Does these; those that did not succeed.
    fn act(&mut self, actions: &[Action]) -> Vec<Failure> {
        let mut done: Vec<String> = Vec::new();
        let mut failures = Vec::new();
        for action in actions {
            if self.hanging.contains(action) {
                continue;
            }
            match self.step(action) {
                Ok(()) => done.push(action.text()),
                Err(why) => failures.push(Failure { action: action.clone(), why }),
            }
        }
        if !done.is_empty() {
            say(&**self.system, 6, &joined(&done));
        }
        failures
    }

    fn step(&mut self, action: &Action) -> Result<(), String> {
        let result = Arc::new(Mutex::new(Ok(())));
        let (system, slot, work) = (Arc::clone(self.system), Arc::clone(&result), action.clone());
        let work = move || {
            let done = act(&*system, &work);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = done;
        };
        if !self.system.within(STEP, Box::new(work)) {
            let why =
                format!("expected to be done within {} s, and is not; is its disk gone? It is left", STEP.as_secs());
            say(&**self.system, 4, &format!("{}: {why}", action.text()));
            self.hanging.insert(action.clone());
            return Err(why);
        }
        std::mem::replace(&mut *result.lock().unwrap_or_else(PoisonError::into_inner), Ok(()))
    }

    /// Those that hang were told when they did.
    fn tell(&self, failures: &[Failure]) {
        let told: Vec<&Failure> = failures.iter().filter(|failure| !self.hanging.contains(&failure.action)).collect();
        for failure in told.iter().take(TOLD) {
            say(&**self.system, 4, &format!("{}: {}", failure.action.text(), failure.why));
        }
        if told.len() > TOLD {
            say(&**self.system, 4, &format!("and {} more that failed", told.len() - TOLD));
        }
    }
}

/// One record of all of them, cut where the kernel would.
fn joined(texts: &[String]) -> String {
    let (mut line, mut shown) = (String::new(), 0);
    for text in texts {
        if line.len() + text.len() > RECORD {
            break;
        }
        line += if shown == 0 { "" } else { ", " };
        line += text;
        shown += 1;
    }
    match texts.len() - shown {
        0 => line,
        left => format!("{line} and {left} more"),
    }
}

fn held(system: &dyn System) -> Held {
    let mut held =
        Held { mounts: plan::mounts(&system.read(Path::new(MOUNTS), LONGEST).unwrap_or_default()), ..Held::default() };
    for device in system.list(Path::new("/sys/block")).unwrap_or_default() {
        if device.starts_with("loop") && system.exists(Path::new(&format!("/sys/block/{device}/loop/backing_file"))) {
            held.loops.push(device);
        } else if device.starts_with("dm-") {
            held.mapped.push(system.text(&format!("/sys/block/{device}/dm/name")));
        }
    }
    // Without the module nothing is asked: opening the node would ask for the module.
    if system.exists(Path::new("/sys/module/zfs")) {
        let pools = Zfs::new(system).imported_pools().unwrap_or_default();
        held.pools = pools.into_iter().map(|(name, _)| name).collect();
    }
    held
}

fn act(system: &dyn System, action: &Action) -> Result<(), String> {
    let result = match action {
        Action::Unmount(place) => system.unmount(Path::new(place), false),
        Action::Unmap(name) => system.unmap(name),
        Action::Detach(name) => system.detach_loop(&Path::new("/dev").join(name)),
        Action::Protect(place) => system.mount("none", Path::new(place), "", READ_ONLY, ""),
        Action::Export(pool) => {
            return Zfs::new(system).export(pool).map_err(|e| match e.errno {
                libc::EBUSY => "something uses it, so it stays imported".to_owned(),
                errno => describe(errno),
            });
        }
    };
    result.map_err(|e| e.to_string())
}
