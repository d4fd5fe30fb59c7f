//! `taproot image`.

use std::io::BufReader;

use anyhow::{Result, ensure};

use crate::cli::image::ImageArgs;
use crate::image::config::{Config, keys};
use crate::image::edit::Edited;
use crate::image::pipeline::{Job, Summary};
use crate::image::source;
use crate::output::{Cleanup, print, printable};
use crate::progress::{Progress, megabytes};
use crate::settings::source_date_epoch;
use crate::tar::Archive;

/// Bytes of the archive that are read at once; whole blocks are read without the detour.
const READ_AHEAD: usize = 64 << 10;

/// Makes the image and says what was made.
pub fn run(args: &ImageArgs) -> Result<()> {
    if args.template {
        return print(&keys::template());
    }
    // Before any other thread is there.
    let cleanup = Cleanup::on_signals();
    let time = i64::from(source_date_epoch()?);
    let config = Config::load(&args.config, std::env::vars(), &args.said()?, time)?;
    if args.show {
        return print(&config.show());
    }
    ensure!(config.hooks().0.is_empty(), "hooks: not run by this version; take the section out");
    let mut plan = config.plan(&config.words())?;
    if let Some(jobs) = args.jobs {
        plan.pool.jobs = jobs.get();
    }
    let mut edits = config.edits()?;
    let from = config.source()?;
    let job = Job::open(&plan, args.yes, &cleanup)?;
    edits.add.extend(job.additions()?);
    edits.fstab = Some(job.fstab());

    let progress = Progress::new(args.quiet || args.json);
    let archive = Archive::new(BufReader::with_capacity(READ_AHEAD, source::open(from, time)?));
    let mut edited = Edited::new(archive, edits);
    let filled = job.fill(&mut edited, &progress)?;
    let (changes, archive) = edited.finish();
    let notes = archive.into_inner().into_inner().finish()?;
    let result = job.complete(filled, &progress);
    progress.finish();
    let mut summary = result?;
    summary.notes.extend(notes);
    summary.changes = Some(changes);
    if args.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&summary)?));
    }
    if args.quiet { Ok(()) } else { report(&summary) }
}

fn report(summary: &Summary) -> Result<()> {
    for note in &summary.notes {
        eprintln!("note: {}", printable(note));
    }
    if let Some(changes) = &summary.changes {
        eprint!("{}", printable(&changes.to_string()));
    }
    let names: Vec<String> = summary.outputs.iter().map(|path| path.display().to_string()).collect();
    let seconds: f64 = summary.seconds.values().sum();
    print(&format!(
        "{}: a disk of {}, pool {} with {} files ({} on disk), kernel {}, OpenZFS {}, {seconds:.2} s\n",
        names.join(", "),
        megabytes(summary.size),
        summary.pool,
        summary.entries,
        megabytes(summary.allocated),
        summary.kernel,
        summary.zfs.as_deref().unwrap_or("built in"),
    ))
}
