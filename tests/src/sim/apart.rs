//! What our own program does in a process of its own, on which the kernel may keep its hand: PID 1 is not held up by that.

use super::world::World;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;
use taproot_init::boot::LOOK;
use taproot_init::pools::ASK;
use taproot_init::sys::consoles::Secret;
use taproot_init::sys::{Ended, Finished};

/// How often the caller is asked whether it is still wanted.
const TURN: Duration = Duration::from_millis(250);

/// Leaves a process that the kernel does not let go of; caught where it was begun.
struct Stuck;

/// The process does not come back from a call.
pub(super) fn stick() {
    resume_unwind(Box::new(Stuck));
}

/// Runs our program with these arguments; `None`: it is another one.
pub(super) fn run(
    world: &World,
    args: &[String],
    limit: Option<Duration>,
    stop: &mut dyn FnMut() -> bool,
) -> Option<Finished> {
    let began = world.time();
    let said = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [LOOK, ..] => look(world, args.get(1..).unwrap_or_default()),
        [ASK, pool] => apart(world, || taproot_init::pools::answer(world, pool)),
        _ => return None,
    };
    if let Some(said) = said {
        return Some(match left_behind(world, began, limit, stop) {
            Some(ended) => Finished { ended, output: Secret::default() },
            None => Finished { ended: Ended::Exit(0), output: Secret::new(said.into_bytes()) },
        });
    }
    let until = world.time().saturating_add(limit.unwrap_or(Duration::MAX));
    while world.time() < until && !stop() {
        world.pass(until.saturating_sub(world.time()).min(TURN));
    }
    Some(Finished { ended: Ended::Late, output: Secret::default() })
}

/// What it did took its time: meanwhile the caller was asked whether it is still wanted, and did not wait for longer than it was to be
/// waited for. How it ended then; `None`: by itself.
fn left_behind(
    world: &World,
    began: Duration,
    limit: Option<Duration>,
    stop: &mut dyn FnMut() -> bool,
) -> Option<Ended> {
    let end = world.time();
    let until = began.saturating_add(limit.unwrap_or(Duration::MAX)).min(end);
    let mut at = began + TURN;
    let mut stopped = false;
    while at < until && !stopped {
        let before = world.state().shown.replace(at);
        stopped = stop();
        world.state().shown = before;
        at += TURN;
    }
    let (at, ended) = if stopped { (at.saturating_sub(TURN), Ended::Stopped) } else { (until, Ended::Late) };
    if at == end {
        return None;
    }
    // What it would have done later it has not.
    let mut state = world.state();
    state.now = at;
    state.events.retain(|event| event.at <= at);
    Some(ended)
}

/// `None`: the kernel does not let go of it.
fn apart<T>(world: &World, work: impl FnOnce() -> T) -> Option<T> {
    world.state().apart = true;
    let result = catch_unwind(AssertUnwindSafe(work));
    world.state().apart = false;
    match result {
        Ok(result) => Some(result),
        Err(payload) if payload.is::<Stuck>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// Looks into a file system; some disks never let it.
fn look(world: &World, args: &[String]) -> Option<String> {
    let device = args.first().and_then(|node| node.strip_prefix("/dev/")).unwrap_or_default().to_owned();
    let stuck = world.state().machine.stuck.contains(&device);
    if stuck { None } else { apart(world, || taproot_init::boot::look(world, args)) }
}
