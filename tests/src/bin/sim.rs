//! Simulated boots; [`USAGE`] has the words.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use taproot_tests::seeds;
use taproot_tests::sim::{self, End};

const USAGE: &str = "\
usage: sim [RUNS [FIRST]]           boots the machines of RUNS seeds (20000) from FIRST (0) on and says what was broken
       sim --seed|--narrow SEED     the whole story of one machine, or of its narrow one

examples:
  sim 1000000                       the seeds below a million, in a quarter of an hour on two cores
  sim --seed 17259                  what happened in one of them";

/// What a boot may take, as is promised. Beside it the mean is shown; how fast this machine is is no verdict on the runs.
const PROMISED_MS: u64 = 50;
/// Broken runs that are told one by one.
const TOLD: usize = 20;

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &str| text.parse::<u64>().with_context(|| format!("{text}: expected a number"));
    // A panic is told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--seed", seed] => Ok(tell(&sim::seed::case(number(seed)?))),
        ["--narrow", seed] => Ok(tell(&sim::seed::narrow(number(seed)?))),
        ["-h" | "--help"] => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        [] => Ok(all(20_000, 0)),
        [runs] => Ok(all(number(runs)?, 0)),
        [runs, first] => Ok(all(number(runs)?, number(first)?)),
        _ => bail!("expected RUNS, RUNS FIRST, or --seed SEED; see sim --help"),
    }
}

/// One seed with its whole story.
fn tell(case: &sim::Case) -> ExitCode {
    println!("seed {}: {}\nasked: {:?}", case.seed, case.machine.cmdline, case.asked);
    for pool in &case.machine.pools {
        println!(
            "pool {} guid {} state {} hostid {:x} bootfs {:?} unsupported {:?} multihost {} {}",
            pool.name,
            pool.guid,
            pool.state,
            pool.hostid,
            pool.bootfs,
            pool.unsupported,
            pool.multihost,
            pool.elsewhere
        );
    }
    for device in &case.machine.devices {
        println!("device {} {:?}: comes {:?}, answers {:?}", device.name, device.links, device.arrives, device.answers);
    }
    println!("expected pools: {:?}", case.machine.image.pools);
    println!("faults: {:?}\nexpected: {:?}\n", case.faults, sim::oracle::outcomes(case));
    let ran = sim::boot(case);
    print!("{}", ran.world.story());
    println!("\nended in {:?} after {:?}", ran.end, ran.world.time());
    for line in &ran.broken {
        println!("BROKEN: {line}");
    }
    if ran.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What came of many runs.
#[derive(Default)]
struct Sum {
    ends: BTreeMap<&'static str, u64>,
    /// How often each was reached, and by which seed first.
    codes: BTreeMap<String, (u64, u64)>,
    /// What the boots took, one by one.
    took: Duration,
    /// How many faults were planned, and how many of them happened, by what they do.
    faults: BTreeMap<String, (u64, u64)>,
    broken: Vec<(u64, Vec<String>)>,
}

fn all(runs: u64, first: u64) -> ExitCode {
    let began = Instant::now();
    let timed = |seed| {
        let start = Instant::now();
        let case = sim::seed::case(seed);
        let ran = sim::boot(&case);
        let codes = ran.codes();
        (ran, codes, case.faults, start.elapsed())
    };
    let mut sum = seeds::run(runs, first, timed, |sum: &mut Sum, seed, (ran, codes, faults, took)| {
        *sum.ends.entry(kind(ran.end.as_ref())).or_default() += 1;
        for code in codes {
            let (count, first) = sum.codes.entry(code).or_insert((0, seed));
            (*count, *first) = (*count + 1, seed.min(*first));
        }
        sum.took += took;
        for fault in &faults {
            let (planned, happened) = sum.faults.entry(effect(fault)).or_default();
            (*planned, *happened) = (*planned + 1, *happened + 1);
        }
        for fault in &ran.world.unused() {
            sum.faults.entry(effect(fault)).or_default().1 -= 1;
        }
        if !ran.broken.is_empty() {
            sum.broken.push((seed, ran.broken));
        }
    });
    sum.broken.sort();
    for (seed, lines) in sum.broken.iter().take(TOLD) {
        println!("seed {seed}: {}", lines.join("; "));
    }
    let codes = sum.codes.iter().map(|(code, (count, seed))| format!("{code} {count} (seed {seed})"));
    println!("codes reached: {}", codes.collect::<Vec<_>>().join(", "));
    let faults = sum.faults.iter().map(|(effect, (planned, happened))| format!("{effect} {happened} of {planned}"));
    println!("faults that happened: {}", faults.collect::<Vec<_>>().join(", "));
    let ends: Vec<String> = sum.ends.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    println!("ends: {}", ends.join(", "));
    let mean = sum.took.as_secs_f64() * 1000.0 / f64::from(u32::try_from(runs.max(1)).unwrap_or(u32::MAX));
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{runs} runs in {seconds:.1} s, {mean:.2} ms a boot (promised: {PROMISED_MS} ms); broken: {}",
        sum.broken.len()
    );
    if sum.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a fault does, without the details.
fn effect(fault: &sim::Fault) -> String {
    format!("{:?}", fault.effect).chars().take_while(|c| c.is_alphanumeric()).collect()
}

fn kind(end: Option<&End>) -> &'static str {
    match end {
        Some(End::HandOver { .. }) => "handed over",
        Some(End::Resumed(_)) => "resumed",
        Some(End::Restart) => "restarted",
        Some(End::PowerOff) => "switched off",
        Some(End::Question(_)) => "question",
        Some(End::PowerCut) => "power cut",
        Some(End::OutOfTime) => "out of time",
        Some(End::Spinning) => "in circles",
        None => "came back",
    }
}
