//! What disks that do not answer, many disks and many datasets cost.

use std::path::Path;

use anyhow::{Context as _, Result};
use taproot_tests::kit::System;
use taproot_tests::show::{self, seconds};
use taproot_tests::silent;
use taproot_tests::vm::{Bus, Scratch, Vm};

use crate::Limits;
use crate::boot::{Boot, took};

/// Hand-over with 10 000 more datasets and their snapshots in the pool, in hand-overs of the same pool without them; both
/// without IMPORT, in which the kernel opens every dataset whoever asks for it.
const LIMIT_LARGE: f64 = 2.0;
/// Our way from the first label to the imported pool, in runs of the stock `zpool import -N` of the same pool.
const LIMIT_IMPORT: f64 = 1.05;
/// Seconds that the hand-over from a pool of 60 disks may come later than from one of two, each counted from when the kernel has
/// its disks and zfs, TRYIMPORT and IMPORT left out: the kernel finds and opens disk after disk, whoever asks it to.
const LIMIT_MANY: f64 = 0.3;
/// Seconds that a disk that hardly answers, and that nobody needs, may put off the hand-over.
const LIMIT_SILENT: f64 = 2.0;
/// Seconds between the line that tells of the hand-over and the real init's first instruction.
const LIMIT_EXEC: f64 = 0.2;

/// A mirror whose disks answer, without and with one more disk that hardly does.
pub(crate) fn silent_table(system: &System, packed: &Path, runs: usize, limits: &Limits) -> Result<()> {
    let heading = ["", "hand-over [s]", "from its line to the real init [s]", ""];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    let mut hand_overs = Vec::new();
    for count in [0, 1] {
        let (mut hand_over, mut exec) = (f64::INFINITY, f64::INFINITY);
        for run in 0..runs {
            let scratch = Scratch::new()?;
            let vm = Vm::new(&format!("bench-silent{count}-{run}"), system, packed).append("root=zfs:AUTO");
            let vm = silent::disks(vm.disks(scratch.overlays(system, &["mirror0", "mirror1"])?), &scratch, count)?
                .start()?;
            let boot = Boot::of(&vm, vm.report(120)?)?;
            hand_over = hand_over.min(boot.hand_over);
            exec = exec.min(boot.real_init - boot.hand_over);
        }
        let name = if count == 0 { "all disks answer" } else { "one more that does not" };
        let verdict = limits.verdict(&format!("execve, {name}"), exec <= LIMIT_EXEC * 1000.0, "limit 0.2 s");
        table.push(vec![name.to_owned(), seconds(hand_over), seconds(exec), verdict]);
        hand_overs.push(hand_over);
    }
    println!("{}", show::table(&table));
    let [without, with] = hand_overs[..] else { anyhow::bail!("two machines expected") };
    let more = (with - without) / 1000.0;
    let verdict = limits.verdict("a disk that does not answer", more <= LIMIT_SILENT, "limit 2 s");
    println!("  what such a disk costs: {more:.2} s {verdict}\n");
    Ok(())
}

/// The same small root on a mirror of two disks and in a pool of 60 (`tests/kit/pools/many.sh`).
pub(crate) fn many_table(system: &System, packed: &Path, runs: usize, limits: &Limits) -> Result<()> {
    if !system.pool_disk("many0").exists() {
        println!("no pool of many disks for {} (tests/kit/pools.sh {} many)", system.name, system.name);
        return Ok(());
    }
    let heading = ["", "disks and zfs are there [s]", "hand-over [s]", "of it TRYIMPORT and IMPORT [s]"];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    let kernels = |boot: &Boot| took(boot, "tryimport") + took(boot, "import");
    let own = |boot: &Boot| boot.hand_over - kernels(boot) - boot.ready;
    let mut rest = Vec::new();
    for pool in ["few", "many"] {
        let mut best: Option<Boot> = None;
        for run in 0..runs {
            let scratch = Scratch::new()?;
            let disks = scratch.parts(system, &format!("{pool}0"))?.into_iter().map(|disk| disk.on(Bus::Scsi));
            let words = format!("root=ZFS={pool}/ROOT/default");
            let vm = Vm::new(&format!("bench-{pool}-{run}"), system, packed).append(&words).disks(disks).start()?;
            let boot = Boot::of(&vm, vm.report(300)?)?;
            if best.as_ref().is_none_or(|b| own(&boot) < own(b)) {
                best = Some(boot);
            }
        }
        let boot = best.context("no run")?;
        let cells = [pool, &seconds(boot.ready), &seconds(boot.hand_over), &seconds(kernels(&boot))];
        table.push(cells.map(str::to_owned).to_vec());
        rest.push(own(&boot) / 1000.0);
    }
    println!("{}", show::table(&table));
    let [few, many] = rest[..] else { anyhow::bail!("two pools expected") };
    let verdict = limits.verdict("60 disks more than 2", many - few <= LIMIT_MANY, "limit 0.3 s");
    println!("  what is left of it: {:.2} s more with 60 disks than with 2 {verdict}", many - few);
    Ok(())
}

/// The same small root in a pool of its own and among 10 000 datasets with a snapshot each (`tests/kit/pools/large.sh`).
pub(crate) fn large_table(system: &System, packed: &Path, runs: usize, limits: &Limits) -> Result<()> {
    if !system.pool_disk("large0").exists() {
        println!("no large pool for {} (tests/kit/pools.sh {} large)", system.name, system.name);
        return Ok(());
    }
    let mut best: [Option<Boot>; 2] = [None, None];
    for (pool, best) in ["empty", "large"].into_iter().zip(&mut best) {
        // The large pool's import takes minutes without KVM; what is compared is far apart.
        for run in 0..if pool == "large" { 1 } else { runs } {
            let overlays = Scratch::new()?;
            let vm = Vm::new(&format!("bench-{pool}-{run}"), system, packed)
                .append(&format!("root=ZFS={pool}/ROOT/default"))
                .disk(overlays.overlay(system, &format!("{pool}0"))?)
                .start()?;
            let report = vm.report(900)?;
            let boot = Boot::of(&vm, report)?;
            if best.as_ref().is_none_or(|b| boot.hand_over < b.hand_over) {
                *best = Some(boot);
            }
        }
    }
    let [Some(empty), Some(large)] = best else { anyhow::bail!("no run") };
    let mut table = vec![["", "empty pool [s]", "large pool [s]"].map(str::to_owned).to_vec()];
    for phase in show::phases(&large.json) {
        table.push(vec![phase.name.clone(), seconds(took(&empty, &phase.name)), seconds(phase.took)]);
    }
    table.push(vec!["hand-over".to_owned(), seconds(empty.hand_over), seconds(large.hand_over)]);
    println!("{}", show::table(&table));
    let rest = |boot: &Boot| boot.hand_over - took(boot, "import");
    let ratio = rest(&large) / rest(&empty);
    let verdict = limits.verdict("all but IMPORT, of the empty pool's", ratio <= LIMIT_LARGE, "limit 2");
    println!("  all but IMPORT: {ratio:.2} of the empty pool's {verdict}");
    let stock = stock_import(system)?;
    let ratio = (took(&large, "tryimport") + took(&large, "import")) / stock;
    println!(
        "  TRYIMPORT and IMPORT: {ratio:.2} of the {} s that the stock zpool import -N takes {}",
        seconds(stock),
        limits.verdict("TRYIMPORT and IMPORT, of the stock tool's", ratio <= LIMIT_IMPORT, "limit 1.05")
    );
    println!("  hand-over, the kernel's IMPORT included: {:.2} of the empty pool's", large.hand_over / empty.hand_over);
    Ok(())
}

/// Milliseconds that the stock `zpool import -N` of the large pool takes in a VM of the same size, nothing mounted.
fn stock_import(system: &System) -> Result<f64> {
    let script = "set -e; now() { cut -d' ' -f1 /proc/uptime; }; before=$(now)\n\
        zpool import -N -f -o cachefile=none -d /dev/disk/by-id/virtio-large0-part1 large\n\
        echo \"@@TOOK $before $(now)\"\n";
    let overlays = Scratch::new()?;
    let vm = Vm::helper("bench-stock", system, script).disk(overlays.overlay(system, "large0")?).start()?;
    let said = vm.script(1200)?;
    let line = said.lines().find_map(|l| l.strip_prefix("@@TOOK ")).with_context(|| format!("no time in {said:?}"))?;
    let times: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [before, after] = times[..] else { anyhow::bail!("two times expected, found {line:?}") };
    Ok((after - before) * 1000.0)
}
