//! What disks that do not answer and many disks cost.

use std::path::Path;

use anyhow::{Context as _, Result};
use taproot_tests::kit::System;
use taproot_tests::show::{self, seconds};
use taproot_tests::silent;
use taproot_tests::vm::{Bus, Running, Scratch, Vm};

use crate::Limits;
use crate::boot::{Boot, HAND_OVER, stamp, took};

/// Seconds that the hand-over from a pool of 60 disks may come later than from one of two, each counted from when the kernel has
/// its disks and zfs, TRYIMPORT and IMPORT left out: the kernel finds and opens disk after disk, whoever asks it to.
const LIMIT_MANY: f64 = 0.3;
/// Seconds that a disk that hardly answers, and that nobody needs, may put off the hand-over.
const LIMIT_SILENT: f64 = 2.0;
/// Seconds between the line that tells of the hand-over and the end of execve(2).
const LIMIT_EXEC: f64 = 0.2;
/// Has the kernel tell of every execve(2), with a time stamp.
const TELL_EXEC: &str = "tp_printk trace_event=sched:sched_process_exec";

/// A mirror whose disks answer, without and with one more disk that hardly does.
pub(crate) fn silent_table(system: &System, packed: &Path, runs: usize, limits: &Limits) -> Result<()> {
    let heading = ["", "hand-over [s]", "from its line to execve [s]", "", "to the real init's first instruction [s]"];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    let mut hand_overs = Vec::new();
    for count in [0, 1] {
        let [mut hand_over, mut exec, mut start] = [f64::INFINITY; 3];
        for run in 0..runs {
            let scratch = Scratch::new()?;
            let words = format!("root=zfs:AUTO {TELL_EXEC}");
            let vm = Vm::new(&format!("bench-silent{count}-{run}"), system, packed).cpus(2).append(&words);
            let vm = silent::disks(vm.disks(scratch.overlays(system, &["mirror0", "mirror1"])?), &scratch, count)?
                .start()?;
            let boot = Boot::of(&vm, vm.report(120)?)?;
            hand_over = hand_over.min(boot.hand_over);
            exec = exec.min(exec_after(&vm)?);
            start = start.min(boot.real_init - boot.hand_over);
        }
        let name = if count == 0 { "all disks answer" } else { "one more that does not" };
        let verdict = limits.verdict(&format!("execve, {name}"), exec <= LIMIT_EXEC * 1000.0, "limit 0.2 s");
        table.push(vec![name.to_owned(), seconds(hand_over), seconds(exec), verdict, seconds(start)]);
        hand_overs.push(hand_over);
    }
    println!("{}", show::table(&table));
    let [without, with] = hand_overs[..] else { anyhow::bail!("two machines expected") };
    let more = (with - without) / 1000.0;
    let verdict = limits.verdict("a disk that does not answer", more <= LIMIT_SILENT, "limit 2 s");
    println!("  what such a disk costs: {more:.2} s {verdict}\n");
    Ok(())
}

/// Milliseconds between the line that tells of the hand-over and the end of the execve(2) behind it, by the kernel's stamps on both.
fn exec_after(vm: &Running) -> Result<f64> {
    let text = vm.console.text();
    let mut lines = text.lines().skip_while(|line| !line.contains(HAND_OVER));
    let line = lines.next().and_then(stamp).context("no time stamp on the line about the hand-over")?;
    let exec = lines.find(|line| line.contains("sched_process_exec: ") && line.contains(" pid=1 "));
    Ok(exec.and_then(stamp).context("the kernel told of no execve of PID 1")? - line)
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
            let vm =
                Vm::new(&format!("bench-{pool}-{run}"), system, packed).cpus(2).append(&words).disks(disks).start()?;
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
