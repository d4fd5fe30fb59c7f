//! `taproot live`.

use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use super::image::tell;
use crate::cli::live::LiveArgs;
use crate::image::config::Config;
use crate::image::config::settled::size;
use crate::image::edit::Edited;
use crate::image::live::pipeline::{Job, Summary};
use crate::image::live::{Keep, Plan, Sealing};
use crate::image::source;
use crate::layer::format::{Compression, Format};
use crate::output::{Cleanup, print, printable};
use crate::progress::{Progress, megabytes};
use crate::settings::source_date_epoch;
use crate::tar::Archive;
use taproot_init::sys::allocator;

/// Bytes of the archive that are read at once; whole blocks are read without the detour.
const READ_AHEAD: usize = 64 << 10;

/// Makes the medium and says what was made.
pub fn run(args: &LiveArgs) -> Result<()> {
    // Before any other thread is there.
    let cleanup = Cleanup::on_signals();
    allocator::return_large_buffers();
    let time = source_date_epoch()?;
    let config = Config::load(&args.source.config, std::env::vars(), &args.said()?, time.into())?;
    ensure!(config.hooks().0.is_empty(), "hooks: not run by this version; take the section out");
    let plan = plan(args, time)?;
    let mut edits = config.edits()?;
    // The root is no disk's, and other file systems of the machine that the tree comes from are not there.
    edits.fstab = Some(Vec::new());
    let from = config.source()?;
    let job = Job::open(&plan, &cleanup)?;

    let progress = Progress::new(args.quiet || args.json);
    let archive = Archive::new(BufReader::with_capacity(READ_AHEAD, source::open(from, time.into())?));
    let mut edited = Edited::new(archive, edits);
    let squashed = job.squash(&mut edited, &progress)?;
    let (changes, archive) = edited.finish();
    let notes = archive.into_inner().into_inner().finish()?;
    let result = job.complete(squashed, &progress);
    progress.finish();
    let mut summary = result?;
    summary.notes.extend(notes);
    summary.changes = Some(changes);
    if args.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&summary)?));
    }
    if args.quiet { Ok(()) } else { report(&summary) }
}

fn plan(args: &LiveArgs, time: u32) -> Result<Plan> {
    let bytes = |option: &str, text: &str| size(text).with_context(|| option.to_owned());
    let keep = match (&args.persistence, &args.persistence_zvol) {
        (Some(text), _) => Some(Keep::Partition(bytes("--persistence", text)?)),
        (None, Some(text)) => Some(Keep::Zvol(bytes("--persistence-zvol", text)?)),
        (None, None) => None,
    };
    let list = |key: &PathBuf| Sealing::List(key.clone(), args.list_serial);
    let compression = args.compress.clone().unwrap_or_else(|| Compression::default_of(Format::Squashfs));
    compression.words(Format::Squashfs).map_err(anyhow::Error::msg)?;
    ensure!(!args.cmdline.contains(['\n', '\0']), "--cmdline: expected one line");
    Ok(Plan {
        raw: args.raw.clone(),
        iso: args.iso.clone(),
        parts: args.squash.clone(),
        keep,
        sealing: args.layers_sign_key.as_ref().map(list).or(args.verity.then_some(Sealing::Word)),
        compression,
        jobs: args.jobs,
        cmdline: args.cmdline.clone(),
        kernel: args.kernel.clone(),
        init: args.init.clone(),
        time,
    })
}

fn report(summary: &Summary) -> Result<()> {
    tell(&summary.notes, summary.changes.as_ref());
    let names: Vec<String> = summary.outputs.iter().map(|path| path.display().to_string()).collect();
    let seconds: f64 = summary.seconds.values().sum();
    print(&format!(
        "{}: {} entries in an image of {}, kernel {}, {seconds:.2} s\nkernel command line: {}\n",
        names.join(", "),
        summary.entries,
        megabytes(summary.squashfs),
        summary.kernel,
        printable(&summary.cmdline)
    ))
}
