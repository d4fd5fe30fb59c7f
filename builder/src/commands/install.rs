//! `taproot install`.

use anyhow::{Context as _, Result, bail};

use crate::cli::install::InstallArgs;
use crate::install::{Request, install};
use crate::machine::Zfs;
use crate::output::{agrees, print};
use crate::progress::Progress;

/// Makes a boot environment of an archive.
pub fn run(args: &InstallArgs) -> Result<()> {
    let zfs = Zfs::find().context("expected the program zfs, found none; install the ZFS tools")?;
    let last = args.dataset.rsplit('/').next().unwrap_or_default();
    let hostname = args.hostname.as_deref().unwrap_or(last);
    if args.bootfs && !args.yes && !agrees(&format!("Shall {} boot next?", args.dataset))? {
        bail!("expected yes; nothing was done");
    }
    let request = Request {
        archive: &args.archive,
        dataset: &args.dataset,
        hostname,
        encrypt: args.encrypt,
        bootfs: args.bootfs,
    };
    let progress = Progress::new(false);
    let done = install(&request, &zfs, &progress);
    progress.finish();
    for note in done? {
        eprintln!("note: {note}");
    }
    let how = if args.bootfs {
        "it boots next".to_owned()
    } else {
        let pool = args.dataset.split('/').next().unwrap_or_default();
        format!("root=ZFS= with its name boots it, or zpool set bootfs={} {pool}", args.dataset)
    };
    print(&format!("{}: installed; {how}\n", args.dataset))
}
