//! `taproot first-boot`, `taproot grow` and `taproot replace`.

use crate::cli::disk::{FirstBootArgs, GrowArgs, ReplaceArgs};
use crate::firstboot;
use crate::output::print;
use crate::replace;
use anyhow::{Result, bail, ensure};
use taproot_init::sys::linux::Linux;

/// Makes a copy of an image a machine of its own.
pub fn first_boot(args: &FirstBootArgs) -> Result<()> {
    root()?;
    firstboot::run(&Linux::new(), args.dry_run, &mut |text| print(&format!("taproot: {text}\n")))
}

/// Makes use of a disk that has become larger; fails if one was left alone.
pub fn grow(args: &GrowArgs) -> Result<()> {
    root()?;
    let report = firstboot::grow::grow(&Linux::new(), args.pool.as_deref(), args.dry_run)?;
    print(&if args.json { format!("{}\n", serde_json::to_string_pretty(&report)?) } else { report.text() })?;
    if report.refused() {
        bail!("not every disk of the pool {} could be looked after (see above)", report.pool);
    }
    Ok(())
}

/// Puts a new disk in the place of one that is gone.
pub fn replace(args: &ReplaceArgs) -> Result<()> {
    root()?;
    let ReplaceArgs { device, gone, yes, dry_run } = args;
    let request = replace::Request { device, gone: gone.as_deref(), yes: *yes, dry_run: *dry_run };
    replace::run(&Linux::new(), &request, &mut |text| print(&format!("taproot: {text}\n")))
}

fn root() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "this reads and writes this machine's disks; run it as root");
    Ok(())
}
