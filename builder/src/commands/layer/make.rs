//! `taproot layer init` and `taproot layer merge`.

use super::{json, open};
use crate::cli::layer::{InitArgs, MergeArgs, SealArgs};
use crate::layer::exclude::{BOOT, Exclusions, MACHINE};
use crate::layer::format::{Compression, Format};
use crate::layer::merge::{Plan, Rules, plan};
use crate::layer::node::Namespace;
use crate::layer::seal::{Order, Outlook, Prepared, Proven, prepare};
use crate::layer::snapshot::Frozen;
use crate::layer::tree::Source;
use crate::layer::untar::untar;
use crate::layer::workshop::Workshop;
use crate::output::{Cleanup, print};
use crate::progress::{Progress, megabytes};
use anyhow::{Context as _, Result, bail, ensure};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use taproot_init::plan::names::check_layer;
use taproot_init::sys::entry::give_way;

/// So many left-out paths are named; all of them stand in the JSON.
const NAMED: usize = 12;

/// Makes the first layer.
pub(super) fn init(args: &InitArgs) -> Result<()> {
    let cleanup = start(&args.seal);
    check_layer(&args.name).map_err(|why| anyhow::anyhow!("{:?} cannot be the name of a layer: {why}", args.name))?;
    let target = args.into.join(format!("{}.{}", args.name, args.format.ending()));
    let order = order(&args.seal, target, args.format, args.live)?;
    let from = args.from.canonicalize().with_context(|| format!("--from {}", args.from.display()))?;
    let progress = Progress::new(args.seal.quiet || args.seal.json);
    let exclude = exclusions(args, &from)?;
    let rules = Rules { complete: true, exclude: &exclude };
    if !from.is_dir() {
        let workshop = Workshop::open(&order.target, &cleanup)?;
        progress.step(&format!("unpacking {}", from.display()));
        let tree = workshop.place("from");
        untar(&from, &tree)?;
        let sources = [Source::open(&tree, Namespace::Trusted)?];
        let planned = plan(&sources, rules)?;
        return made(prepare(planned, &sources, order)?, Some(workshop), &args.seal, &progress, &cleanup);
    }
    let frozen = frozen(&from, args.live, args.seal.dry_run, &progress)?;
    let sources = [Source::open(frozen.as_ref().map_or(&from, |frozen| frozen.path()), Namespace::Trusted)?];
    progress.step(&format!("reading {}", from.display()));
    let planned = plan(&sources, rules)?;
    made(prepare(planned, &sources, order)?, None, &args.seal, &progress, &cleanup)
}

/// Merges layers.
pub(super) fn merge(args: &MergeArgs) -> Result<()> {
    let cleanup = start(&args.seal);
    let ending = args.first.extension().and_then(|ending| ending.to_str());
    let format = ending.and_then(Format::of_ending).with_context(|| {
        format!("{}: expected a name that ends with .sqsh, .squashfs or .erofs", args.first.display())
    })?;
    let name = args.first.file_stem().unwrap_or_default().to_string_lossy();
    check_layer(&name).map_err(|why| anyhow::anyhow!("{name:?} cannot be the name of a layer: {why}"))?;
    let order = order(&args.seal, args.first.clone(), format, false)?;
    let progress = Progress::new(args.seal.quiet || args.seal.json);
    let sources = open(&args.rest, args.userxattr)?;
    progress.step(&format!("reading {} layers", sources.len()));
    let planned: Plan = plan(&sources, Rules { complete: args.bottom, exclude: &Exclusions::none() })?;
    made(prepare(planned, &sources, order)?, None, &args.seal, &progress, &cleanup)
}

/// What comes before any thread is started.
fn start(args: &SealArgs) -> Cleanup {
    if args.low_priority {
        give_way();
    }
    let cleanup = Cleanup::on_signals();
    if let Some(jobs) = args.jobs {
        // Only once, and a pool that is there already does as well.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(jobs.into()).build_global();
    }
    cleanup
}

/// `SOURCE_DATE_EPOCH`.
pub(super) fn epoch() -> Result<Option<u64>> {
    let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let wrong = || format!("SOURCE_DATE_EPOCH={text}: expected seconds since 1970");
    text.trim().parse().ok().with_context(wrong).map(Some)
}

fn order(args: &SealArgs, target: PathBuf, format: Format, live: bool) -> Result<Order> {
    let epoch = epoch()?;
    let compression = args.compress.clone().unwrap_or_else(|| Compression::default_of(format));
    Ok(Order {
        target,
        format,
        compression,
        jobs: args.jobs.map(usize::from),
        epoch,
        drop_acls: args.drop_acls,
        tight: args.force,
        live,
        empty: false,
    })
}

fn exclusions(args: &InitArgs, from: &Path) -> Result<Exclusions> {
    let defaults =
        if args.keep.iter().any(|kept| kept == "all") { Vec::new() } else { [&MACHINE[..], &BOOT[..]].concat() };
    let mut more = args.exclude.clone();
    // Layers in the very tree that is packed.
    let into = args.into.canonicalize().with_context(|| format!("--into {}", args.into.display()))?;
    if let Ok(inside) = into.strip_prefix(from) {
        ensure!(
            !inside.as_os_str().is_empty(),
            "--into {}: is the directory that is packed; name another one",
            args.into.display()
        );
        more.push(format!("{}/*", inside.display()));
    }
    Ok(Exclusions::new(&defaults, &args.keep, &more))
}

/// A frozen view of the running system; of any other directory none is needed.
fn frozen(from: &Path, live: bool, dry_run: bool, progress: &Progress) -> Result<Option<Frozen>> {
    let place = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    if live || place(from)? != place(Path::new("/"))? {
        return Ok(None);
    }
    if dry_run {
        progress.note("the running system is read as it is, because nothing is made; a real run reads a snapshot");
        return Ok(None);
    }
    progress.step("making a snapshot of the running system");
    match Frozen::of(Path::new("/")) {
        Ok(frozen) => Ok(Some(frozen)),
        Err(error) => bail!(
            "the running system changes while it is read, and no snapshot of it can be made: {error:#}. Boot another system and name its \
             directory, or accept what comes of that (--live)"
        ),
    }
}

fn made(
    prepared: Prepared<'_>,
    workshop: Option<Workshop>,
    args: &SealArgs,
    progress: &Progress,
    cleanup: &Cleanup,
) -> Result<()> {
    let target = prepared.outlook.path.clone();
    if args.dry_run {
        progress.finish();
        return if args.json { json(&prepared.outlook) } else { outlook(&prepared.outlook, "would hold") };
    }
    let workshop = workshop.map_or_else(|| Workshop::open(&target, cleanup), Ok)?;
    let sealed = prepared.build(workshop, progress).and_then(|built| built.prove(progress)).and_then(Proven::publish);
    progress.finish();
    let sealed = sealed?;
    if args.json {
        return json(&sealed);
    }
    if args.quiet {
        return Ok(());
    }
    outlook(&sealed.outlook, "holds")?;
    for path in sealed.changed.iter().take(NAMED) {
        print(&format!("changed while it was read: {}\n", path.display()))?;
    }
    print(&format!("{}: {}, sha256 {}\n", target.display(), megabytes(sealed.bytes), sealed.sha256))
}

fn outlook(outlook: &Outlook, verb: &str) -> Result<()> {
    let Outlook { path, format, compression, totals, estimate, free, .. } = outlook;
    let mut text = String::new();
    for (what, list) in [("left out: ", &outlook.excluded), ("another file system, left out: ", &outlook.foreign)] {
        for path in list.iter().take(NAMED) {
            let _ = writeln!(text, "{what}{}", path.display());
        }
        if let Some(more @ 1..) = list.len().checked_sub(NAMED) {
            let _ = writeln!(text, "{what}{more} more");
        }
    }
    for note in &outlook.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let _ = writeln!(
        text,
        "{}: {verb} {} entries, {}, {} whiteouts, {} opaque directories; {} by {compression}",
        path.display(),
        totals.entries,
        megabytes(totals.bytes),
        totals.whiteouts,
        totals.opaque,
        format.word(),
    );
    let _ = writeln!(text, "about {} are needed, {} are free", megabytes(estimate.needed), megabytes(*free));
    print(&text)
}
