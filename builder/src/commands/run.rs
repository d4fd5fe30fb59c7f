//! `taproot run`.

use anyhow::Result;

use crate::cli::run::RunArgs;
use crate::output::{Cleanup, print};
use crate::progress::Progress;
use crate::run::{self, Options, Packing, Subject};

/// Runs a system in a virtual machine.
pub fn run(args: &RunArgs) -> Result<()> {
    // Before any other thread is there.
    let cleanup = Cleanup::on_signals();
    let subject = Subject::new(args.what.as_deref(), args.root.as_deref())?;
    let options = Options {
        memory: args.memory,
        cpus: args.cpus,
        uefi: (args.uefi || args.bios).then_some(args.uefi),
        write: args.write,
        window: args.window,
        forwards: args.forwards.clone(),
        words: args.cmdline.clone(),
        more: args.more.clone(),
    };
    let packing = Packing { kernel: args.kernel.clone(), init: args.init.clone(), work: args.work.clone() };
    let progress = Progress::new(false);
    let done = run::run(&subject, &options, &packing, args.dry_run, &progress, &cleanup);
    progress.finish();
    done?.map_or(Ok(()), |commands| print(&commands))
}
