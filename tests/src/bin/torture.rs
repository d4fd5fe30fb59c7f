//! `torture [TRIALS [SEED]]`: the power of a real machine fails at random moments of commits and merges of layers; which, and what
//! came of it, in a line each. A trial is repeated by its seed.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use taproot_tests::kit::{SYSTEMS, System};
use taproot_tests::torture::Torture;

fn main() -> Result<ExitCode> {
    let number = |text: &String| text.parse::<u64>().with_context(|| format!("{text}: expected a number"));
    let (trials, seed) = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => (60, 1),
        [trials] => (number(trials)?, 1),
        [trials, seed] => (number(trials)?, number(seed)?),
        _ => bail!("expected: torture [TRIALS [SEED]]"),
    };
    let system = System::open(SYSTEMS[0])?;
    let began = Instant::now();
    let torture = Torture::prepare(&system)?;
    println!("prepared in {} s", began.elapsed().as_secs());
    let mut broken = 0;
    for seed in seed..seed.saturating_add(trials) {
        match torture.run(seed) {
            Ok(line) => println!("{line}"),
            Err(error) => {
                broken += 1;
                println!("BROKEN {error:#}");
            }
        }
    }
    println!("{trials} power cuts in {} s; broken: {broken}", began.elapsed().as_secs());
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
