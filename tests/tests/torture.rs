//! The power of a real machine fails while its layers change; `make torture` does it more often.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use taproot_tests::kit::SYSTEMS;
use taproot_tests::scenario;
use taproot_tests::torture::Torture;

/// One cut while an upper is sealed and an image built, one each while that is adopted, while layers are merged, and on trial.
const SEEDS: [u64; 4] = [1, 2, 3, 5];

#[test]
fn power_cuts() {
    scenario::run(SYSTEMS[0], |system| {
        let torture = Torture::prepare(system).unwrap();
        for seed in SEEDS {
            println!("{}", torture.run(seed).unwrap());
        }
    });
}
