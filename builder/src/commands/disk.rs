//! `taproot first-boot` and `taproot grow`.

use crate::cli::disk::{FirstBootArgs, GrowArgs};
use crate::firstboot;
use crate::output::print;
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

fn root() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "this reads and writes this machine's disks; run it as root");
    Ok(())
}
