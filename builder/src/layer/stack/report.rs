//! How far everything is: the stack, its uppers, what is under way, what the next boot does.

use super::running::{Live, Running};
use crate::layer::hidden;
use anyhow::Result;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;
use taproot_init::layers::request::Mounted;
use taproot_init::layers::state::{Kind, Layer, Operation, Stack, TRIES};
use taproot_init::layers::steps::{Step, Wait, next};
use taproot_init::layers::{State, Store, boot};
use taproot_init::sys::System;
use taproot_init::sys::linux::Linux;

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where the state is.
    pub state: PathBuf,
    /// Its generation; `null` if there is none yet.
    pub generation: Option<u64>,
    /// What is mounted: lowers from the top.
    pub mounted: Vec<String>,
    /// What takes what is written.
    pub upper: String,
    /// The command line lists layers, so that nothing of the state goes on.
    pub listed: bool,
    /// What the next boot mounts, as far as it is known now.
    pub next: Option<NextBoot>,
    /// The stack is on trial: which of its boots this is.
    pub trial: Option<u8>,
    /// What is under way.
    pub operations: Vec<Under>,
    /// What can be gone back to.
    pub pasts: Vec<PastStack>,
    /// What is to be removed.
    pub to_remove: usize,
    /// What is done now, or waited for.
    pub waits_for: String,
    /// What the upper hides of the layers; `null` if that was not asked for.
    pub hidden: Option<hidden::Report>,
}

/// What the next boot does.
#[derive(Debug, Serialize)]
pub struct NextBoot {
    /// Number of its upper.
    pub upper: u32,
    /// Lowers from the top.
    pub layers: Vec<String>,
    /// In words.
    pub does: Vec<String>,
    /// Layers that it would need and that lack.
    pub lacking: Vec<String>,
}

/// An operation.
#[derive(Debug, Serialize)]
pub struct Under {
    /// `commit`, `merge` or `rollback`.
    pub kind: &'static str,
    /// By what it is named.
    pub name: String,
    /// How far it is.
    pub phase: &'static str,
    /// What goes into the image.
    pub sources: Vec<String>,
    /// Why it waits.
    pub trouble: Option<String>,
    /// It waits for room alone.
    pub lacks_room: bool,
}

/// A stack of the past.
#[derive(Debug, Serialize)]
pub struct PastStack {
    /// By which it is named.
    pub number: u32,
    /// Its upper, if one was set aside.
    pub upper: Option<u32>,
    /// Lowers from the top.
    pub layers: Vec<String>,
}

/// Looks; also at all files of all layers if what is hidden of them is asked for.
pub fn report(running: &Running, with_hidden: bool) -> Result<Report> {
    let linux = Linux::new();
    let system: &dyn System = &linux;
    let store = Store::new(&system, &running.places);
    let loaded = store.load()?;
    let state = loaded.map(|loaded| loaded.state);
    let mut report = Report {
        state: running.places.state.clone(),
        generation: state.as_ref().map(|state| state.generation),
        mounted: running.lowers.iter().map(|lower| format!("{lower}")).collect(),
        upper: running.live.to_string(),
        listed: running.listed,
        next: None,
        trial: None,
        operations: Vec::new(),
        pasts: Vec::new(),
        to_remove: 0,
        waits_for: "nothing: nothing was asked for yet".to_owned(),
        hidden: with_hidden.then(|| running.hidden()).transpose()?,
    };
    if let Some(state) = &state {
        let mounted = running.mounted(state);
        fill(&mut report, state, &mounted);
        report.next = Some(next_boot(state, &store)?);
    }
    Ok(report)
}

fn names(layers: &[Layer]) -> Vec<String> {
    layers.iter().map(ToString::to_string).collect()
}

fn fill(report: &mut Report, state: &State, mounted: &Mounted) {
    report.trial = state.trial.as_ref().map(|trial| trial.tries);
    report.operations = state.operations.iter().map(under).collect();
    report.pasts = state
        .pasts
        .iter()
        .map(|past| PastStack { number: past.number, upper: past.upper, layers: names(&past.layers) })
        .collect();
    report.to_remove = state.discards.len();
    report.waits_for = match next(state, mounted) {
        Step::Wait(Wait::Idle) => "nothing".to_owned(),
        Step::Wait(Wait::Boot) => "the next boot".to_owned(),
        Step::Wait(Wait::Confirmation) => "this boot to be called good (taproot layer confirm)".to_owned(),
        Step::Wait(Wait::Person(name)) => format!("a person, who decides about {name}"),
        _ => "the background (systemctl status taproot-layer-work, or taproot layer work)".to_owned(),
    };
}

fn under(operation: &Operation) -> Under {
    let kind = match operation.kind {
        Kind::Commit { .. } => "commit",
        Kind::Merge { .. } => "merge",
        Kind::Rollback { .. } => "rollback",
    };
    Under {
        kind,
        name: operation.name().to_owned(),
        phase: operation.phase.name(),
        sources: names(&operation.sources),
        trouble: operation.trouble.as_ref().map(|trouble| trouble.text.clone()),
        lacks_room: operation.trouble.as_ref().is_some_and(|trouble| trouble.space),
    }
}

/// What the functions that boot would do now.
fn next_boot(state: &State, store: &Store<'_>) -> Result<NextBoot> {
    let disk = store.survey(state)?;
    Ok(match boot::enter(state, &disk) {
        Ok(entry) => {
            let Stack { upper, layers } = &entry.stack;
            let does = entry.notes.iter().map(ToString::to_string).collect();
            NextBoot { upper: *upper, layers: names(layers), does, lacking: Vec::new() }
        }
        Err(broken) => {
            let Stack { upper, layers } = &state.stack;
            NextBoot { upper: *upper, layers: names(layers), does: Vec::new(), lacking: broken.lacking }
        }
    })
}

impl std::fmt::Display for super::running::Lower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Frozen(number) => write!(f, "#{number}"),
            Self::Directory(path) => write!(f, "{}", path.display()),
        }
    }
}

impl std::fmt::Display for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Numbered(number) => write!(f, "upper {number}"),
            Self::Named(dir) => write!(f, "{}", dir.display()),
            Self::Ram => f.write_str("memory"),
            Self::None => f.write_str("nothing: the root is read-only"),
        }
    }
}

/// In words.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "running on     {}", report.mounted.join(" : "));
    let _ = writeln!(text, "written to     {}", report.upper);
    if let Some(tries) = report.trial {
        let _ = writeln!(
            text,
            "on trial       boot {tries} of {TRIES}; the stack before is taken again if none is called good"
        );
    }
    match &report.next {
        _ if report.listed => {
            let _ = writeln!(
                text,
                "next boot      what the command line lists; it goes over the state, of which nothing goes on"
            );
        }
        None => {
            let _ = writeln!(text, "next boot      the same");
        }
        Some(next) => {
            let _ = writeln!(text, "next boot      upper {} over {}", next.upper, next.layers.join(" : "));
            for line in &next.does {
                let _ = writeln!(text, "               {line}");
            }
            if !next.lacking.is_empty() {
                let _ =
                    writeln!(text, "               cannot boot: none or another size of {}", next.lacking.join(", "));
            }
        }
    }
    for operation in &report.operations {
        let Under { kind, name, phase, sources, .. } = operation;
        let of = if sources.is_empty() { String::new() } else { format!(", of {}", sources.join(" : ")) };
        let name = if kind == name { String::new() } else { format!(" {name}") };
        let _ = writeln!(text, "{:<14} {phase}{of}", format!("{kind}{name}"));
        if let Some(trouble) = &operation.trouble {
            let _ = writeln!(text, "               does not go on: {trouble}");
            let name = &operation.name;
            let _ = if operation.lacks_room {
                writeln!(text, "               it is tried again at each start; taproot layer retry {name} does it now")
            } else {
                writeln!(text, "               taproot layer retry {name}, or taproot layer withdraw {name}")
            };
        }
    }
    for past in &report.pasts {
        let upper = past.upper.map_or_else(|| "a fresh upper".to_owned(), |upper| format!("its upper {upper}"));
        let _ = writeln!(text, "{:<14} {upper} over {}", format!("rollback {}", past.number), past.layers.join(" : "));
    }
    if report.to_remove > 0 {
        let _ = writeln!(text, "to be removed  {}", report.to_remove);
    }
    let _ = writeln!(text, "waits for      {}", report.waits_for);
    text + &report.hidden.as_ref().map(hidden::text).unwrap_or_default()
}
