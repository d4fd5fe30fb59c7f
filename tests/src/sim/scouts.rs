//! Whoever looks for devices dies, and those after it, too; or it cannot be started, or not be told anything.

use super::Case;
use super::faults::{Effect, Fault, When};
use super::prng::Prng;

/// A boot makes some hundred calls.
const CALLS: u64 = 400;
/// How many cases of a hundred, of those in which nothing else goes wrong.
const CHANCE: u64 = 12;
/// How many die in a row: fewer than are started again, as many, more, and all there ever are.
const DIE: [usize; 4] = [2, 6, 9, usize::MAX];

/// Adds it to a case. From a stream of its own, so that each seed keeps its machine.
pub(super) fn widen(case: &mut Case) {
    let mut prng = Prng::new(case.seed.wrapping_mul(0x94d0_49bb_1331_11eb) ^ 0x0005_c007);
    if !case.faults.is_empty() || !prng.chance(CHANCE) {
        return;
    }
    let at = |prng: &mut Prng, most: u64| usize::try_from(prng.below(most)).unwrap_or(0);
    let when = |kind: &str, nth| When::Kind(kind.to_owned(), nth);
    match prng.below(10) {
        0 => {
            let effect = Effect::Errno(prng.pick(libc::EAGAIN, &[libc::ENOMEM, libc::EMFILE]));
            let nth = at(&mut prng, 3);
            // One that is to be started anew has died.
            let died = Fault { when: When::Call(at(&mut prng, CALLS)), effect: Effect::NoScouts(1) };
            case.faults.extend([died, Fault { when: when("start_scout", nth), effect }]);
        }
        1 | 2 => {
            let effect = Effect::Errno(prng.pick(libc::EPIPE, &[libc::ENOBUFS, libc::ECONNREFUSED]));
            case.faults.push(Fault { when: when("tell_scout", at(&mut prng, 8)), effect });
        }
        _ => {
            let effect = Effect::NoScouts(prng.pick(6, &DIE));
            case.faults.push(Fault { when: When::Call(at(&mut prng, CALLS)), effect });
        }
    }
}
