//! The process that copies layers to memory, as a machine without one has it.

use super::machine::Medium;
use super::world::{State, World};
use std::io;
use std::path::Path;
use std::time::Duration;
use taproot_init::scout::copy::{COPY, MEASURE, PROGRESS};
use taproot_init::sys::consoles::Secret;
use taproot_init::sys::{Ended, Finished, System as _};

/// How long a copy takes, whatever there is to copy.
const TAKES: Duration = Duration::from_secs(12);
/// Between two looks at whether it is still wanted.
const TURN: Duration = Duration::from_millis(250);

fn finished(ended: Ended, text: &str) -> Finished {
    Finished { ended, output: Secret::new(text.bytes().collect()) }
}

/// Bytes, in whole pages, and files of what lies there.
fn extent(state: &State, path: &Path) -> (u64, u64) {
    let size = |bytes: &[u8]| (bytes.len() as u64).next_multiple_of(4096);
    if let Ok(bytes) = state.names.bytes(path) {
        return (size(bytes), 1);
    }
    let (bytes, files) = state.names.part(path.to_string_lossy().trim_start_matches('/')).extent(&size);
    (bytes, files + 1)
}

/// Runs it with the words behind its name.
pub(super) fn run(world: &World, words: &[String], stop: &mut dyn FnMut() -> bool) -> io::Result<Finished> {
    let (what, pairs) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let pairs: Vec<(&Path, &Path)> =
        pairs.chunks_exact(2).filter_map(|pair| Some((Path::new(pair.first()?), Path::new(pair.last()?)))).collect();
    let (bytes, files) = {
        let state = world.state();
        pairs.iter().map(|(from, _)| extent(&state, from)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    if what == MEASURE {
        return Ok(finished(Ended::Exit(0), &format!("{bytes} {files}")));
    }
    assert_eq!(what, COPY, "the copier has no other work");
    let medium = world.state().machine.medium;
    let mut took = Duration::ZERO;
    while took < TAKES {
        if stop() {
            return Ok(finished(Ended::Stopped, ""));
        }
        let half = took >= TAKES / 2;
        match medium {
            Medium::Fails if half => {
                return Ok(finished(Ended::Exit(1), "/run/taproot/base/middle.sqsh: Input/output error (os error 5)"));
            }
            Medium::Silent if half => {}
            Medium::Good | Medium::Fails | Medium::Silent => {
                took += TURN;
                let done = bytes * took.as_secs() / TAKES.as_secs();
                world.write(Path::new(PROGRESS), done.to_string().as_bytes())?;
            }
        }
        world.pass(TURN);
    }
    let mut state = world.state();
    for (from, to) in pairs {
        state.names.copy(from, to)?;
    }
    Ok(finished(Ended::Exit(0), ""))
}
