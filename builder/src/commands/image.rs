//! `taproot image`.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::cli::image::ImageArgs;
use crate::image::config::{Config, keys, paczfs};
use crate::image::edit::{Edits, Identity, Report};
use crate::image::pipeline::{Job, Summary};
use crate::image::states::{Later, Maker, Recipe};
use crate::output::{Cleanup, print, printable};
use crate::pool::{Snapshot, State};
use crate::progress::{Progress, megabytes};
use crate::settings::source_date_epoch;
use taproot_init::sys::allocator;

/// Makes the image and says what was made.
pub fn run(args: &ImageArgs) -> Result<()> {
    allocator::return_large_buffers();
    if args.template {
        return print(&keys::template());
    }
    if let Some(file) = &args.from_paczfs {
        return from_paczfs(file, args.to.as_deref());
    }
    // Before any other thread is there.
    let cleanup = Cleanup::on_signals();
    let time = i64::from(source_date_epoch()?);
    let config = Config::load(&args.source.config, std::env::vars(), &args.said()?, time)?;
    if args.show {
        return print(&config.show());
    }
    let summary = make(args, &config, &cleanup)?;
    if args.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&summary)?));
    }
    if args.quiet { Ok(()) } else { report(&summary) }
}

/// Converts a configuration of paczfs.
fn from_paczfs(file: &Path, to: Option<&Path>) -> Result<()> {
    let shown = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("{shown}: expected a configuration of paczfs"))?;
    let converted = paczfs::convert(&text).with_context(|| shown.to_string())?;
    for note in &converted.notes {
        eprintln!("note: {}", printable(note));
    }
    let Some(to) = to else { return print(&converted.whole) };
    let made = converted.write(to)?;
    let names: Vec<String> = made.iter().map(|path| path.display().to_string()).collect();
    print(&format!("{}\n", names.join("\n")))
}

fn make(args: &ImageArgs, config: &Config, cleanup: &Cleanup) -> Result<Summary> {
    let mut plan = config.plan(&config.words())?;
    if let Some(jobs) = args.jobs {
        plan.pool.jobs = jobs.get();
    }
    let mut edits = config.edits()?;
    let source = config.source_or_hook()?;
    let job = Job::open(&plan, args.yes, cleanup)?;
    let additions = job.additions()?;
    edits.add.extend(additions.iter().cloned());
    edits.fstab = Some(job.fstab());
    let (fstab, allow_empty_root) = (edits.fstab.clone(), true);
    let identity = Identity::Keep;
    let essential = Edits { add: additions, fstab, allow_empty_root, identity, time: config.time, ..Edits::default() };

    let progress = Progress::new(args.quiet || args.json);
    let stages = job.stages(config, &progress)?;
    let all = config.states();
    let recipe = Recipe { source, states: all.clone(), edits, essential, stages: stages.clone() };
    let maker = RefCell::new(Maker::new(recipe)?);
    let last = all.len().saturating_sub(1);
    let mut inputs = (0..all.len()).map(|nth| Later::new(&maker, nth)).collect::<Vec<_>>();
    if let Some(first) = inputs.first_mut() {
        first.now()?;
    }
    let (earlier, rest) = inputs.split_at_mut(last);
    let mut earlier: Vec<State<'_>> = all
        .iter()
        .zip(earlier)
        .map(|(state, input)| State {
            snapshot: Snapshot { name: state.name.clone(), holds: state.holds.clone() },
            everywhere: state.everywhere,
            input,
        })
        .collect();
    let input = rest.first_mut().context("expected a state of the tree, found none")?;
    let filled = job.fill(&mut earlier, input, &stages)?;
    drop(earlier);
    drop(inputs);
    let maker = maker.into_inner();
    let result = job.complete(filled, &stages);
    progress.finish();
    let mut summary = result?;
    summary.notes.extend(maker.notes);
    summary.changes = Some(maker.report);
    Ok(summary)
}

/// What people should know, and what of the tree was changed.
pub(super) fn tell(notes: &[String], changes: Option<&Report>) {
    for note in notes {
        eprintln!("note: {}", printable(note));
    }
    if let Some(changes) = changes {
        eprint!("{}", printable(&changes.to_string()));
    }
}

fn report(summary: &Summary) -> Result<()> {
    tell(&summary.notes, summary.changes.as_ref());
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
