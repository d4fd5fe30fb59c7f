//! `make bench`: how long a boot takes up to the hand-over, phase by phase, and what the image costs; with ratios to the floor.
//!
//! The floor is what nobody can avoid: the kernel up to `/init` of an image that holds nothing, the module initialisation of
//! OpenZFS, the kernel's part of the import, and mount(2). The minimal boot (`tests/src/minimal.rs`) is as near to it as a boot
//! can come. `BENCH_RUNS` (default 3) rounds, in each one boot of every kind; of each figure the smallest of all rounds is
//! shown, because on a shared machine only interference makes one larger. Ends with 1 when a limit is missed.

mod boot;
mod images;
mod large;
mod layers;
mod pools;
mod silent;
mod turn;

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use taproot_tests::kit::{SYSTEMS, System};
use taproot_tests::vm::{Scratch, accel};
use taproot_tests::{image, kit, show};

/// What can be asked for alone.
const TABLES: [(&str, &str); 7] = [
    ("turn", "one turn of the boot's loop with a pool of 255 disks, in no machine"),
    ("boot", "the image, and the time up to the hand-over"),
    ("silent", "what disks cost that do not answer"),
    ("many", "a pool of 60 disks beside one of two"),
    ("large", "a pool of 10 000 datasets"),
    (
        "layers",
        "layers mounted against a script, made against mksquashfs, and a live system's boot against live-boot and dracut",
    ),
    ("images", "disk images made against mksquashfs, mkfs.ext4 and the way of paczfs"),
];
/// Bytes of `taproot-init`.
const LIMIT_INIT: u64 = 4_000_000;
/// Megabytes of the generic image with the small rescue set.
const LIMIT_SIZE: f64 = 13.5;
/// Seconds to pack it.
const LIMIT_PACK: f64 = 1.0;

/// What was measured against a limit.
#[derive(Debug, Default)]
struct Limits {
    missed: RefCell<Vec<String>>,
}

impl Limits {
    /// The note on one figure; a limit that is missed is remembered.
    fn verdict(&self, what: &str, good: bool, limit: &str) -> String {
        if !good {
            self.missed.borrow_mut().push(format!("{what} ({limit})"));
        }
        format!("({limit}: {})", if good { "kept" } else { "MISSED" })
    }
}

fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let only = match words.as_slice() {
        [] => None,
        [word] if TABLES.iter().any(|(name, _)| name == word) => Some(word.as_str()),
        [word] if word == "--help" => {
            println!("{}", usage());
            return Ok(ExitCode::SUCCESS);
        }
        _ => {
            eprintln!("expected one of these words, found {words:?}\n{}", usage());
            return Ok(ExitCode::from(2));
        }
    };
    let limits = Limits::default();
    if only.is_none_or(|only| only == "turn") {
        turn::table(&limits)?;
    }
    if only == Some("turn") {
        return Ok(ended(limits));
    }
    let runs: usize = std::env::var("BENCH_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(3).max(1);
    let names = std::env::var("TAPROOT_SYSTEM").map_or_else(|_| SYSTEMS.map(str::to_owned).to_vec(), |name| vec![name]);
    let size = std::fs::metadata(image::boot_binary()).context("taproot-init")?.len();
    let verdict = limits.verdict("taproot-init", size <= LIMIT_INIT, "limit 4 MB");
    println!("taproot-init: {:.2} MB {verdict}", megabytes(usize::try_from(size)?));
    println!("QEMU with {}; fastest of {runs} runs each", accel()?.argument());
    for name in names {
        tables(&System::open(&name)?, only, runs, &limits)?;
    }
    Ok(ended(limits))
}

fn usage() -> String {
    let names = TABLES.map(|(name, _)| name).join("|");
    let lines = TABLES.map(|(name, what)| format!("  {name:<6}  {what}")).join("\n");
    format!(
        "usage: bench [{names}]\n{lines}\n\
         all of them without a word; TAPROOT_SYSTEM=NAME: on one kit system; BENCH_RUNS=N: N rounds instead of 3"
    )
}

/// Names the limits that were missed.
fn ended(limits: Limits) -> ExitCode {
    let missed = limits.missed.into_inner();
    for what in &missed {
        println!("limit missed: {what}");
    }
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All tables of one system, or one of them.
fn tables(system: &System, only: Option<&str>, runs: usize, limits: &Limits) -> Result<()> {
    let wanted = |word: &str| only.is_none_or(|only| only == word);
    let scratch = Scratch::new()?;
    println!("\n== {}: kernel {}, OpenZFS {}", system.name, system.kernel, system.zfs);
    if wanted("boot") {
        let packed = pack_table(system, &scratch, runs, limits)?;
        boot::boot_table(system, &scratch, &packed, runs, limits)?;
    }
    let packed = image::standard(system)?;
    if wanted("silent") {
        silent::table(system, runs, limits)?;
    }
    if wanted("many") {
        pools::many_table(system, &packed, runs, limits)?;
    }
    if wanted("large") {
        large::table(system, &packed, runs, limits)?;
    }
    if wanted("layers") {
        layers::stack_table(system, &packed, runs, limits)?;
        layers::image_table(system, runs, limits)?;
        layers::live_table(system, &packed, runs, limits)?;
    }
    if wanted("images") {
        images::table(system, &packed, runs, limits)?;
    }
    Ok(())
}

/// Packs with several settings and shows time and size; returns the image for the boots.
fn pack_table(system: &System, scratch: &Scratch, runs: usize, limits: &Limits) -> Result<PathBuf> {
    let mut rows = vec![["image", "time [s]", "size [MB]", "limits", "identical"].map(str::to_owned).to_vec()];
    let standard = scratch.path().join("small.img");
    for rescue in ["small", "none", "full"] {
        let options = ["--modules", "generic", "--rescue", rescue];
        let file = scratch.path().join(format!("{rescue}.img"));
        let again = scratch.path().join("again.img");
        let mut best = f64::INFINITY;
        for _ in 0..runs {
            let start = Instant::now();
            kit::run(&mut image::pack_command(system, &options, &file))?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        kit::run(&mut image::pack_command(system, &options, &again))?;
        let bytes = std::fs::read(&file).context("the packed image")?;
        let same = bytes == std::fs::read(&again).context("the second image")?;
        let size = megabytes(bytes.len());
        let verdict = if rescue == "small" {
            let good = best <= LIMIT_PACK && size <= LIMIT_SIZE;
            limits.verdict("packing time and size of the generic image", good, "1 s, 13.5 MB")
        } else {
            String::new()
        };
        if !same {
            limits.missed.borrow_mut().push(format!("the same image twice (--rescue {rescue})"));
        }
        rows.push(vec![
            options.join(" "),
            format!("{best:.2}"),
            format!("{size:.2}"),
            verdict,
            if same { "yes".to_owned() } else { "NO".to_owned() },
        ]);
    }
    println!("\n{}", show::table(&rows));
    Ok(standard)
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
