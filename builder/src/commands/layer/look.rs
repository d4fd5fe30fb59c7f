//! `taproot layer list`, `taproot layer verify` and `taproot layer diff`.

use super::{json, namespace, open};
use crate::cli::layer::{DiffArgs, ListArgs, VerifyArgs};
use crate::layer::diff::{Difference, between, of_upper};
use crate::layer::exclude::Exclusions;
use crate::layer::image::{self, Layer, noted_checksum, sum};
use crate::layer::merge::{Rules, plan};
use crate::layer::node::{Kind, Namespace};
use crate::layer::tree::Source;
use crate::output::print;
use crate::progress::{Progress, megabytes};
use anyhow::{Context as _, Result, ensure};
use rayon::prelude::*;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Lists; whether all are whole.
pub(super) fn list(args: &ListArgs) -> Result<bool> {
    let mut layers = image::list(&args.directory)?;
    for layer in layers.iter_mut().filter(|layer| layer.bytes.is_some()) {
        let read = |path: &Path| sum(path, |_| ()).map(|(_, sum)| Some(sum.to_string()));
        match if args.sha256 { read(&layer.path) } else { noted_checksum(&layer.path) } {
            Ok(sum) => layer.sha256 = sum,
            Err(error) => layer.problem = Some(layer.problem.take().unwrap_or_else(|| format!("{error:#}"))),
        }
    }
    if args.json {
        json(&layers)?;
    } else {
        print(&table(&layers))?;
    }
    Ok(layers.iter().all(|layer| layer.problem.is_none()))
}

fn table(layers: &[Layer]) -> String {
    let width = layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0).max(4);
    let mut text =
        format!("{:<width$}  {:<9}  {:>12}  {:<11}  {:<16}  STATE\n", "NAME", "TYPE", "SIZE", "COMPRESSION", "SHA256");
    for layer in layers {
        let _ = writeln!(
            text,
            "{:<width$}  {:<9}  {:>12}  {:<11}  {:<16}  {}",
            layer.name,
            layer.kind,
            layer.bytes.map_or_else(|| "-".to_owned(), megabytes),
            layer.compression.unwrap_or("-"),
            layer.sha256.as_deref().and_then(|sum| sum.get(..16)).unwrap_or("-"),
            layer.problem.as_deref().unwrap_or("whole"),
        );
    }
    text
}

/// What was found of an image.
#[derive(Debug, Serialize)]
struct Verdict {
    path: PathBuf,
    good: bool,
    bytes: Option<u64>,
    sha256: Option<String>,
    /// The checksum is the one beside it; `null` if there is none.
    noted: Option<bool>,
    /// How many entries were read; `null` if that takes root.
    entries: Option<usize>,
    problems: Vec<String>,
}

/// Looks at images; whether all are good.
pub(super) fn verify(args: &VerifyArgs) -> Result<bool> {
    let progress = Progress::new(args.quiet || args.json);
    let verdicts: Vec<Verdict> = args.images.iter().map(|path| verdict(path, &progress)).collect();
    progress.finish();
    if args.json {
        json(&verdicts)?;
    } else {
        print(&verdicts.iter().map(said).collect::<String>())?;
    }
    Ok(verdicts.iter().all(|verdict| verdict.good))
}

fn verdict(path: &Path, progress: &Progress) -> Verdict {
    let mut verdict = Verdict {
        path: path.to_owned(),
        good: false,
        bytes: None,
        sha256: None,
        noted: None,
        entries: None,
        problems: Vec::new(),
    };
    if let Err(error) = look(path, progress, &mut verdict) {
        verdict.problems.push(format!("{error:#}"));
    }
    verdict.good = verdict.problems.is_empty();
    verdict
}

fn look(path: &Path, progress: &Progress, verdict: &mut Verdict) -> Result<()> {
    image::whole(path)?;
    let bytes = std::fs::metadata(path).with_context(|| format!("{}: looking at it", path.display()))?.len();
    verdict.bytes = Some(bytes);
    progress.step(&format!("reading {}", path.display()));
    let (_, found) = sum(path, |done| progress.part("reading", done, bytes))?;
    let found = found.to_string();
    if let Some(noted) = noted_checksum(path)? {
        verdict.noted = Some(noted == found);
        if noted != found {
            verdict.problems.push(format!(
                "{}: its checksum is {found}, expected {noted} (in {}); copy or make it again",
                path.display(),
                image::checksum_file(path).display()
            ));
        }
    }
    verdict.sha256 = Some(found);
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    progress.step(&format!("reading what is in {}", path.display()));
    let source = Source::open(path, Namespace::Trusted)?;
    let content = plan(std::slice::from_ref(&source), Rules { complete: false, exclude: &Exclusions::none() })?;
    let files =
        content.items.par_iter().filter(|item| matches!(item.node.kind, Kind::File(_)) && item.link_to.is_none());
    let read = files.map(|item| source.pour(&item.path, item.node.size(), |_| Ok(())).map(drop));
    // The whole of it: each file that cannot be read is named.
    let failed: Vec<String> = read.filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    verdict.problems.extend(failed);
    verdict.entries = Some(content.items.len());
    Ok(())
}

fn said(verdict: &Verdict) -> String {
    let mut text = String::new();
    for problem in &verdict.problems {
        let _ = writeln!(text, "{problem}");
    }
    if verdict.good {
        let checksum = if verdict.noted.is_some() { "as noted beside it" } else { "not noted beside it" };
        let content = verdict.entries.map_or_else(
            || "what is in it was not read, which takes root".to_owned(),
            |entries| format!("{entries} entries read"),
        );
        let _ = writeln!(
            text,
            "{}: good: {}, sha256 {} ({checksum}), {content}",
            verdict.path.display(),
            megabytes(verdict.bytes.unwrap_or(0)),
            verdict.sha256.as_deref().unwrap_or("-"),
        );
    }
    text
}

/// Says what differs; whether two layers are the same, or just done.
pub(super) fn diff(args: &DiffArgs) -> Result<bool> {
    let layers = open(&args.layers, args.userxattr)?;
    let (list, answer) = match layers.as_slice() {
        [upper] => {
            ensure!(
                !args.lowers.is_empty(),
                "expected a second layer to compare with, or --lowers and the stack below this one"
            );
            let lowers: Result<Vec<Source>> =
                args.lowers.iter().map(|path| Source::open(path, namespace(args.userxattr))).collect();
            (of_upper(upper, &lowers?)?, true)
        }
        [old, new] => {
            ensure!(args.lowers.is_empty(), "expected one layer with --lowers, found two");
            let list = between(old, new)?;
            let same = list.is_empty();
            (list, same)
        }
        _ => (Vec::new(), true),
    };
    if args.json {
        json(&list)?;
    } else {
        print(&list.iter().map(line).collect::<String>())?;
    }
    Ok(answer)
}

fn line(difference: &Difference) -> String {
    let Difference { path, what, detail } = difference;
    let detail = if detail.is_empty() { String::new() } else { format!("  ({})", detail.join(", ")) };
    format!("{} /{}{detail}\n", what.letter(), path.display())
}
