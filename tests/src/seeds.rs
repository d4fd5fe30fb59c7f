//! Many seeds at once, as the simulations run them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs `count` seeds, from `first` on, on all processors, and adds what each brings to a sum of all.
pub fn run<S: Default + Send, O>(
    count: u64,
    first: u64,
    one: impl Fn(u64) -> O + Sync,
    add: impl Fn(&mut S, u64, O) + Sync,
) -> S {
    let next = AtomicU64::new(0);
    let sum: Mutex<S> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= count {
                        break;
                    }
                    let seed = first.wrapping_add(run);
                    let outcome = one(seed);
                    add(&mut sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner), seed, outcome);
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}
