//! What disks cost that do not answer and that nobody needs.

use anyhow::{Context as _, Result};
use taproot_tests::kit::System;
use taproot_tests::show;
use taproot_tests::silent::Beside;
use taproot_tests::vm::Running;

use crate::Limits;
use crate::boot::{HAND_OVER, stamp};

/// Seconds that they may put off the hand-over.
const LIMIT_SILENT: f64 = 2.0;
/// Seconds between the line that tells of the hand-over and the end of execve(2).
const LIMIT_EXEC: f64 = 0.2;
/// Has the kernel tell of every execve(2), with a time stamp.
const TELL_EXEC: &str = "tp_printk trace_event=sched:sched_process_exec";

/// Each machine without and with them.
pub(crate) fn table(system: &System, runs: usize, limits: &Limits) -> Result<()> {
    let heading = ["", "hand-over [s]", "later [s]", "", "to execve [s]", "", "to the real init [s]"];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    for beside in Beside::ALL {
        let mut without = None;
        for silent in [0, beside.silent()] {
            let what = beside.what(silent);
            let least = Least::of(beside, system, silent, runs)?;
            let (mut later, mut verdict) = (String::new(), String::new());
            if let Some(without) = without.replace(least.told) {
                let more = least.told - without;
                later = format!("{more:.3}");
                verdict = limits.verdict(&what, more <= LIMIT_SILENT, "limit 2 s");
            }
            let exec = limits.verdict(&format!("execve, {what}"), least.exec <= LIMIT_EXEC, "limit 0.2 s");
            let [told, executed, began] = [least.told, least.exec, least.init].map(|time| format!("{time:.3}"));
            table.push(vec![what, told, later, verdict, executed, exec, began]);
        }
    }
    println!("{}", show::table(&table));
    Ok(())
}

/// The smallest figure of all rounds, in seconds.
struct Least {
    /// Up to the line that tells of the hand-over.
    told: f64,
    /// From that line to the end of execve(2).
    exec: f64,
    /// From that line to the real init's first instruction.
    init: f64,
}

impl Least {
    fn of(beside: Beside, system: &System, silent: usize, runs: usize) -> Result<Self> {
        let [mut told, mut exec, mut init] = [f64::INFINITY; 3];
        for run in 0..runs {
            let name = format!("bench-{beside:?}-{silent}-{run}").to_lowercase();
            let (vm, when) = beside.boot(&name, system, silent, TELL_EXEC)?;
            told = told.min(when.told);
            exec = exec.min(exec_after(&vm)?);
            init = init.min(when.began - when.told);
        }
        Ok(Self { told, exec, init })
    }
}

/// Seconds between the line that tells of the hand-over and the end of the execve(2) behind it, by the kernel's stamps on both.
fn exec_after(vm: &Running) -> Result<f64> {
    let text = vm.console.text();
    let mut lines = text.lines().skip_while(|line| !line.contains(HAND_OVER));
    let line = lines.next().and_then(stamp).context("no time stamp on the line about the hand-over")?;
    let exec = lines.find(|line| line.contains("sched_process_exec: ") && line.contains(" pid=1 "));
    Ok((exec.and_then(stamp).context("the kernel told of no execve of PID 1")? - line) / 1000.0)
}
