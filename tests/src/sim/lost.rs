//! A pool loses its disks in the middle of a call that needs them, which never comes back; or its disks take their time over it.
//! Whatever that call is, the machine comes to an end that its words name, and is not silent meanwhile.

use super::Case;
use super::faults::{Effect, Fault, When};
use super::prng::Prng;
use super::world::{State, World};
use std::path::Path;
use std::time::Duration;

/// A boot makes some dozens of calls that reach a pool.
const CALLS: u64 = 80;
/// How many cases of a hundred, of those in which nothing else goes wrong.
const CHANCE: u64 = 12;

/// At most so many seconds late is a call that comes back.
const LATE: u64 = 100;

/// Adds it to a case. From a stream of its own, so that each seed keeps its machine.
pub(super) fn widen(case: &mut Case) {
    let mut prng = Prng::new(case.seed.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ 0x0010_5710);
    if case.faults.is_empty() && prng.chance(CHANCE) {
        let nth = usize::try_from(prng.below(CALLS)).unwrap_or(0);
        let late = Effect::Late(Duration::from_secs(prng.below(LATE)));
        let effect = if prng.chance(40) { late } else { Effect::Lost };
        case.faults.push(Fault { when: When::Reaching(nth), effect });
    }
}

/// The imported pool that a call reaches, by its place in the machine.
pub(super) fn reached(state: &State, kind: &str, about: &str) -> Option<usize> {
    // There PID 1 is alone, so that it is replaced at once; what it looks up, and what starts, was read right before.
    let looked_up = |text: &str| text.starts_with("read_link ");
    if state.events.iter().rfind(|event| !looked_up(&event.text)).is_some_and(|e| e.text.starts_with("hand_over ")) {
        return None;
    }
    let pools = &state.machine.pools;
    let of = |name: &str| {
        let pool = name.split(['/', '@']).next().unwrap_or_default();
        pools.iter().position(|other| other.name == pool && other.imported.is_some())
    };
    if kind.starts_with("zfs ") {
        return if kind == "zfs TRYIMPORT" { None } else { of(about) };
    }
    let on = |path: &str| {
        let mount = state.names.mount_of(path.trim_start_matches('/'))?;
        if mount.fstype == "zfs" { of(&mount.source) } else { None }
    };
    let source = if kind == "mount" { about.split(' ').next().and_then(of) } else { None };
    source.or_else(|| about.split(' ').filter(|word| word.starts_with('/')).find_map(on))
}

/// Takes away all disks of a pool. Does not come back.
pub(super) fn lose(world: &World, pool: Option<usize>) {
    if let Some(pool) = pool {
        take(&mut world.state(), pool);
    }
    world.never();
}

fn take(state: &mut State, pool: usize) {
    let paths = state.machine.pools.get(pool).and_then(|pool| pool.imported.as_ref()).map(|imported| &imported.paths);
    let device = |path: &String| state.device_at(Path::new(path)).map(|device| device.name.clone());
    let names: Vec<String> = paths.into_iter().flat_map(|paths| paths.values()).filter_map(device).collect();
    for name in names {
        state.goes(&name);
    }
}
