//! Simulated power cuts of commits, merges and rollbacks of layers; [`USAGE`] has the words.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use taproot_tests::cuts::{self, story};
use taproot_tests::seeds;

const USAGE: &str = "\
usage: layer-sim [SEEDS [FIRST]]    plays the stories of SEEDS seeds (100000) from FIRST (0) on and says what was broken
       layer-sim --seed SEED        tells one story

examples:
  layer-sim 30000 500000            other stories than the suite's
  layer-sim --seed 9395             what happened in one of them";

/// Broken runs that are told one by one.
const TOLD: usize = 20;
/// Of each cut in a story that is gone through, so many of the losses that it can bring.
const LOSSES: u64 = 40;

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &str| text.parse::<u64>().with_context(|| format!("{text}: expected a number"));
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--seed", seed] => Ok(tell(number(seed)?)),
        ["-h" | "--help"] => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        [] => Ok(all(100_000, 0)),
        [seeds] => Ok(all(number(seeds)?, 0)),
        [seeds, first] => Ok(all(number(seeds)?, number(first)?)),
        _ => bail!("expected SEEDS, SEEDS FIRST, or --seed SEED; see layer-sim --help"),
    }
}

fn tell(seed: u64) -> ExitCode {
    let outcome = cuts::run(seed);
    println!("{}", outcome.told.join("\n"));
    if outcome.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Sum {
    cuts: BTreeMap<String, u64>,
    changes: u64,
    broken: Vec<(u64, Vec<String>)>,
}

fn all(seeds: u64, first: u64) -> ExitCode {
    let began = Instant::now();
    let mut whole = true;
    let mut sum: Sum = seeds::run(seeds, first, cuts::run, |sum: &mut Sum, seed, outcome| {
        for (what, count) in outcome.cuts {
            *sum.cuts.entry(what).or_default() += count;
        }
        sum.changes += outcome.changes;
        if !outcome.broken.is_empty() {
            sum.broken.push((seed, outcome.broken));
        }
    });
    for (what, acts) in story::STORIES {
        let (runs, broken) = cuts::every_cut(acts, LOSSES);
        println!("{what}: {runs} runs, broken: {}", broken.len());
        if let Some(line) = broken.first() {
            println!("  {line}");
        }
        whole &= broken.is_empty();
    }
    sum.broken.sort();
    for (seed, lines) in sum.broken.iter().take(TOLD) {
        println!("seed {seed}: {}", lines.join("; "));
    }
    let never: Vec<&str> = story::CUTS.into_iter().filter(|what| !sum.cuts.contains_key(*what)).collect();
    let cuts: Vec<String> = sum.cuts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    println!("power cuts: {}", cuts.join(", "));
    if !never.is_empty() {
        println!("never cut: {}; expected a cut of each, try more seeds", never.join(", "));
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{seeds} stories in {seconds:.1} s, {} changes of the disk; broken: {}", sum.changes, sum.broken.len());
    if whole && sum.broken.is_empty() && never.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
