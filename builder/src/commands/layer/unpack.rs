//! `taproot layer convert`.

use super::{json, open};
use crate::cli::layer::ConvertArgs;
use crate::layer::copy::{As, Written, copy};
use crate::layer::exclude::Exclusions;
use crate::layer::merge::{Plan, Rules, Totals, plan};
use crate::layer::node::Kind;
use crate::layer::seal::publish;
use crate::layer::tar;
use crate::layer::tree::Source;
use crate::layer::workshop::Workshop;
use crate::output::{Cleanup, directory, free, print};
use crate::progress::{Progress, megabytes};
use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

/// What was written.
#[derive(Debug, Serialize)]
struct Unpacked<'a> {
    path: &'a Path,
    totals: Totals,
    /// Sockets, which a tar has none of.
    left_out: Vec<PathBuf>,
}

/// Unpacks.
pub(super) fn convert(args: &ConvertArgs) -> Result<()> {
    let cleanup = Cleanup::on_signals();
    let standard = args.to == Path::new("-");
    ensure!(!standard || !args.json, "--to - and --json both want standard output; choose one");
    ensure!(
        !standard || args.dry_run || !io::stdout().is_terminal(),
        "-: a tar is nothing for a terminal; send it to a file or a pipe"
    );
    let progress = Progress::new(args.quiet || args.json);
    let sources = open(&args.layers, args.userxattr)?;
    progress.step(&format!("reading {} layers", sources.len()));
    let planned = plan(&sources, Rules { complete: true, exclude: &Exclusions::none() })?;
    let is_tar = standard || args.to.extension().is_some_and(|ending| ending == "tar");
    let sockets = planned.items.iter().filter(|item| is_tar && item.node.kind == Kind::Socket);
    let left_out: Vec<PathBuf> = sockets.map(|item| item.path.clone()).collect();
    let totals = planned.totals();
    if !standard {
        has_room(&args.to, totals)?;
    }
    if !args.dry_run {
        let written = if standard {
            let mut out = BufWriter::new(io::stdout().lock());
            tar::write(&planned, &sources, &mut out, As::Root, true, &progress)?
        } else if is_tar {
            to_tar(&planned, &sources, &args.to, &progress, &cleanup)?
        } else {
            to_directory(&planned, &sources, &args.to, &progress, &cleanup)?
        };
        ensure!(
            written.changed.is_empty(),
            "{}: changed while it was read; what was written is not to be used",
            written.changed.first().map(|path| path.display().to_string()).unwrap_or_default()
        );
    }
    progress.finish();
    for path in left_out.iter().filter(|_| !args.quiet && !args.json) {
        eprintln!("note: a tar has no sockets: {} is left out", path.display());
    }
    if args.json {
        return json(&Unpacked { path: &args.to, totals, left_out });
    }
    if args.quiet || standard {
        return Ok(());
    }
    let verb = if args.dry_run { "would hold" } else { "holds" };
    print(&format!("{}: {verb} {} entries, {}\n", args.to.display(), totals.entries, megabytes(totals.bytes)))
}

fn has_room(target: &Path, totals: Totals) -> Result<()> {
    // A block for each entry, at most.
    let needed = totals.bytes + totals.entries * 4096;
    let place = if target.is_dir() { target } else { directory(target) };
    ensure!(place.is_dir(), "{}: expected the directory {} to be there", target.display(), place.display());
    let free = free(place)?;
    ensure!(
        needed <= free,
        "{}: {} may be needed and {} are free; make room there",
        target.display(),
        megabytes(needed),
        megabytes(free)
    );
    Ok(())
}

fn to_tar(
    planned: &Plan,
    sources: &[Source],
    target: &Path,
    progress: &Progress,
    cleanup: &Cleanup,
) -> Result<Written> {
    ensure!(
        fs::symlink_metadata(target).is_err(),
        "{}: is there already; remove it, or name another file",
        target.display()
    );
    let workshop = Workshop::open(target, cleanup)?;
    let place = workshop.place("tar");
    let failed = || format!("{}: writing it", target.display());
    let mut out = BufWriter::new(File::create(&place).with_context(failed)?);
    let written = tar::write(planned, sources, &mut out, As::Root, true, progress)?;
    out.flush().with_context(failed)?;
    out.get_ref().sync_all().with_context(failed)?;
    publish(&place, target)?;
    Ok(written)
}

fn to_directory(
    planned: &Plan,
    sources: &[Source],
    target: &Path,
    progress: &Progress,
    cleanup: &Cleanup,
) -> Result<Written> {
    if let Ok(meta) = fs::symlink_metadata(target) {
        ensure!(
            meta.is_dir(),
            "{}: expected a directory, an empty one or none, found something else",
            target.display()
        );
        let mut entries = fs::read_dir(target).with_context(|| format!("{}: listing it", target.display()))?;
        let other =
            entries.find_map(|entry| entry.ok().map(|entry| entry.file_name()).filter(|name| name != "lost+found"));
        if let Some(name) = other {
            bail!("{}: expected it to be empty, found {}", target.display(), name.display());
        }
        // A file system of its own: nothing there can be renamed into its place.
        return copy(planned, sources, target, As::Root, progress)
            .with_context(|| format!("{}: what is there now is not whole", target.display()));
    }
    let workshop = Workshop::open(target, cleanup)?;
    let tree = workshop.place("tree");
    fs::create_dir(&tree).with_context(|| format!("{}: making it", tree.display()))?;
    let written = copy(planned, sources, &tree, As::Root, progress)?;
    publish(&tree, target)?;
    Ok(written)
}
