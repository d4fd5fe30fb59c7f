//! `taproot takeover`.

use anyhow::{Result, bail};

use crate::cli::takeover::TakeoverArgs;
use crate::output::{agrees, print};
use crate::progress::Progress;
use crate::takeover::{Request, prepare};

/// Leaves the system for one in memory that can replace it.
pub fn run(args: &TakeoverArgs) -> Result<()> {
    let request = Request {
        image: args.image.clone(),
        sum: args.sha256.clone(),
        disk: args.disk.clone(),
        minutes: args.minutes.into(),
        kernel: args.kernel.clone(),
        words: args.cmdline.clone(),
        method: args.method,
    };
    let progress = Progress::new(false);
    let prepared = prepare(&request, &progress);
    progress.finish();
    let prepared = prepared?;
    print(&prepared.told)?;
    if args.dry_run {
        return Ok(());
    }
    if !args.yes && !agrees("The machine leaves its system now. Is its console in reach?")? {
        bail!("expected yes; nothing was done");
    }
    let how = prepared.load(request.method)?;
    print(&format!("loaded by {how}\n"))?;
    prepared.leave()
}
