//! `taproot explain`.

use crate::cli::ExplainArgs;
use crate::explain::facts::{Facts, system_has_zfs};
use crate::explain::{Explanation, explain};
use crate::initramfs::tree::{bounded, named};
use crate::inspect;
use crate::output::print;
use anyhow::{Context, Result};
use std::path::Path;
use taproot_init::image::ImageConfig;
use taproot_init::report::boot::REPORT_PATH;

const CMDLINE: &str = "/proc/cmdline";
/// No record of a boot is longer, however many datasets its pools have.
const RECORD: u64 = 64 << 20;

/// Explains, on standard output; whether it would boot, as far as the facts tell.
pub fn run(args: &ExplainArgs) -> Result<bool> {
    let explanation = make(args)?;
    let boots = explanation.boot.as_ref().is_none_or(|boot| boot.failure.is_none());
    print(&if args.json { format!("{}\n", serde_json::to_string_pretty(&explanation)?) } else { explanation.text() })?;
    Ok(boots)
}

fn make(args: &ExplainArgs) -> Result<Explanation> {
    let mut facts = facts(args.facts.as_deref())?;
    let recorded = facts.as_ref().and_then(|f| Some((f.words.clone()?, f.source.clone())));
    let (mut line, mut from) = match (&args.cmdline, recorded) {
        (Some(line), _) => (line.clone(), "--cmdline".to_owned()),
        (None, Some(recorded)) => recorded,
        (None, None) => {
            let bytes = std::fs::read(CMDLINE).with_context(|| format!("{CMDLINE}: reading"))?;
            (String::from_utf8_lossy(&bytes).into_owned(), CMDLINE.to_owned())
        }
    };
    let mut packed = facts.as_ref().and_then(|facts| facts.packed.clone());
    if let Some(path) = &args.image {
        let image = image(path)?;
        if !image.cmdline.is_empty() {
            line = format!("{} {line}", image.cmdline);
            from = format!("{} and {from}", path.display());
        }
        packed = image.root;
        if let Some(facts) = &mut facts {
            facts.known.expected = image.pools;
        }
    }
    Ok(explain(&line, &from, packed.as_ref(), facts.as_mut()))
}

/// The facts asked for, or the nearest at hand.
fn facts(wanted: Option<&Path>) -> Result<Option<Facts>> {
    let read =
        |path: &Path| Facts::from_json(&String::from_utf8_lossy(&named(path, RECORD)?), &path.display().to_string());
    match wanted.map(|path| (path, path.to_str())) {
        Some((_, Some("system"))) => Facts::of_system().map(Some),
        Some((_, Some("none"))) => Ok(None),
        Some((_, Some("-"))) => {
            let bytes = bounded(std::io::stdin().lock(), Path::new("standard input"), RECORD)?;
            Facts::from_json(&String::from_utf8_lossy(&bytes), "standard input").map(Some)
        }
        Some((path, _)) => read(path).map(Some),
        None if Path::new(REPORT_PATH).exists() => read(Path::new(REPORT_PATH)).map(Some),
        None if system_has_zfs() => Facts::of_system().map(Some),
        None => Ok(None),
    }
}

/// What the packer left in an image: its words, the pools it expects.
fn image(path: &Path) -> Result<ImageConfig> {
    let shown = path.display();
    let bytes = named(path, inspect::LIMIT)?;
    let text = inspect::config(&bytes)
        .with_context(|| format!("{shown}"))?
        .with_context(|| format!("{shown}: expected an image that taproot packed; it holds no image configuration"))?;
    Ok(ImageConfig::parse(&text))
}
