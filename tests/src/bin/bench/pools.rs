//! What many disks cost.

use std::path::Path;

use anyhow::{Context as _, Result};
use taproot_tests::kit::System;
use taproot_tests::show::{self, seconds};
use taproot_tests::vm::{Bus, Scratch, Vm};

use crate::Limits;
use crate::boot::{Boot, took};

/// Seconds that the hand-over from a pool of 60 disks may come later than from one of two, each counted from when the kernel has
/// its disks and zfs, TRYIMPORT and IMPORT left out: the kernel finds and opens disk after disk, whoever asks it to.
const LIMIT_MANY: f64 = 0.3;

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
