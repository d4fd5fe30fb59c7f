//! What a boot does with the state before it mounts the root: seals the upper for a commit, takes a new stack on trial, and leaves one
//! that was tried in vain. Milliseconds: nothing here reads or writes more than names and the state.

use super::request::aside;
use super::state::{
    Kind, Layer, MAX_FROZEN, MAX_LAYERS, MAX_PASTS, Operation, Past, Phase, Stack, State, TRIES, Trial, Trouble,
};
use super::steps::{replaced, settle};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What is there of what a state names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// Sizes of its images.
    pub files: BTreeMap<String, u64>,
    /// Its uppers, live or frozen.
    pub uppers: BTreeSet<u32>,
}

/// What a boot mounts, and what it writes before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// To be made first: an upper that is not there yet.
    pub make: Option<u32>,
    /// To be written, durably, before anything is mounted.
    pub state: Option<State>,
    /// To be mounted.
    pub stack: Stack,
    /// To be mounted instead if the state cannot be written.
    pub otherwise: Stack,
    /// For the log and the console.
    pub notes: Vec<Note>,
}

/// What a boot did with the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The upper was sealed for this commit.
    Sealed(String),
    /// These are on trial.
    OnTrial {
        /// Names of operations.
        names: Vec<String>,
        /// Which try this is.
        tries: u8,
    },
    /// The stack before is taken again.
    WentBack {
        /// Names of operations.
        names: Vec<String>,
        /// Why.
        why: String,
    },
    /// An operation does not go on.
    Stuck {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// An upper in RAM went with the power before it was copied.
    LostWithRam(String),
    /// The upper was set aside, under this number, and a fresh one begun.
    SetAside(u32),
    /// No fresh upper was begun.
    NotAfresh(String),
    /// Nothing may be written, so what waits for a boot waits on.
    LeftAsItIs,
    /// The state could not be written, or not durably.
    NotWritten(String),
    /// The state's file was damaged; its copy, of this generation, was read.
    Older(u64),
}

impl Note {
    /// Whether people have to know of it.
    pub fn is_trouble(&self) -> bool {
        !matches!(self, Self::Sealed(_) | Self::OnTrial { .. } | Self::LeftAsItIs)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sealed(name) => write!(f, "the upper is sealed for layer {name}, a fresh one is live"),
            Self::OnTrial { names, tries } => write!(f, "on trial, boot {tries} of {TRIES}: {}", names.join(", ")),
            Self::WentBack { names, why } => {
                write!(f, "back to the stack before {}: {why}; see `taproot layer status`", names.join(", "))
            }
            Self::Stuck { name, why } => {
                write!(f, "layer operation {name} does not go on: {why}; see `taproot layer status`")
            }
            Self::LostWithRam(name) => {
                write!(f, "commit {name} is lost: the upper was in RAM, and was not copied before the system ended")
            }
            Self::SetAside(number) => {
                write!(
                    f,
                    "the upper that was there is set aside, and a fresh one begun; `taproot layer rollback {number}` goes back to it"
                )
            }
            Self::NotAfresh(why) => write!(f, "no fresh upper is begun: {why}"),
            Self::LeftAsItIs => {
                f.write_str("nothing may be written: what waits for a boot in the layer state waits for another one")
            }
            Self::NotWritten(why) => {
                write!(
                    f,
                    "the layer state could not be written ({why}): what this boot seals, tries or leaves is done again by the next"
                )
            }
            Self::Older(generation) => {
                write!(f, "the layer state was damaged; its copy, generation {generation}, is used")
            }
        }
    }
}

/// Layers of the state that are not there, and nothing to go back to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected all layers that the layer state names, found none or another size of {}; bring them back, or name layers at the prompt",
    .lacking.join(", ")
)]
pub struct Broken {
    /// Their files, and directories of uppers.
    pub lacking: Vec<String>,
}

/// What a boot does with this state.
pub fn enter(state: &State, disk: &Disk) -> Result<Entry, Broken> {
    let entry = match &state.trial {
        Some(trial) => {
            let lacking = lacking(state, &state.stack, disk);
            if lacking.is_empty() && trial.tries < TRIES { again(state, trial) } else { tried(state, trial, &lacking) }
        }
        None => go_on(state, disk),
    };
    let mut disk = disk.clone();
    disk.uppers.extend(entry.make);
    let lacking = lacking(entry.state.as_ref().unwrap_or(state), &entry.stack, &disk);
    if lacking.is_empty() { Ok(entry) } else { Err(Broken { lacking }) }
}

/// The same boot with a fresh upper: that of now is set aside with its layers, and can be gone back to. Not while a stack is on trial,
/// which may need it.
pub fn begin_afresh(state: &State, mut entry: Entry) -> Entry {
    let mut new = entry.state.clone().unwrap_or_else(|| state.clone());
    let is_fresh = entry.make.is_some();
    let hindrance = match &new.trial {
        Some(_) => Some("a stack is on trial"),
        None if new.pasts.len() >= MAX_PASTS / 2 => Some("too many are set aside already"),
        None => None,
    };
    if let Some(why) = hindrance.filter(|_| !is_fresh) {
        entry.notes.push(Note::NotAfresh(why.to_owned()));
    }
    if is_fresh || hindrance.is_some() {
        return entry;
    }
    let upper = new.another_upper();
    let old = std::mem::replace(&mut new.stack.upper, upper);
    new.last_past = new.last_past.saturating_add(1);
    let (number, layers) = (new.last_past, new.stack.layers.clone());
    new.pasts.push(Past { number, upper: Some(old), layers });
    (entry.make, entry.stack) = (Some(upper), new.stack.clone());
    entry.notes.push(Note::SetAside(number));
    entry.state = Some(settle(state, new));
    entry
}

/// What a boot mounts that may write nothing: what is known to work. Nothing goes on.
pub fn look(state: &State, disk: &Disk) -> Result<Entry, Broken> {
    let stack = state.trial.as_ref().map_or(&state.stack, |trial| &trial.back).clone();
    let lacking = lacking(state, &stack, disk);
    if !lacking.is_empty() {
        return Err(Broken { lacking });
    }
    let waits = enter(state, disk).is_ok_and(|entry| entry.state.is_some());
    let notes = if waits { vec![Note::LeftAsItIs] } else { Vec::new() };
    Ok(Entry { make: None, state: None, otherwise: stack.clone(), stack, notes })
}

/// The stack on trial cannot be mounted, or the boot failed in another way that is its fault: what is mounted instead. `None` if
/// nothing is on trial.
pub fn give_up(state: &State, why: &str) -> Option<Entry> {
    let trial = state.trial.as_ref()?;
    Some(back(state, trial, why))
}

fn again(state: &State, trial: &Trial) -> Entry {
    let tries = trial.tries.saturating_add(1);
    let mut new = state.clone();
    new.trial = Some(Trial { tries, back: trial.back.clone() });
    let notes = vec![Note::OnTrial { names: on_trial(state), tries }];
    Entry { make: None, stack: state.stack.clone(), otherwise: trial.back.clone(), state: Some(new), notes }
}

fn tried(state: &State, trial: &Trial, lacking: &[String]) -> Entry {
    let why = if lacking.is_empty() {
        format!("none of its {} boots was confirmed as good", trial.tries)
    } else {
        format!("missing or damaged: {}", lacking.join(", "))
    };
    back(state, trial, &why)
}

fn on_trial(state: &State) -> Vec<String> {
    let on_trial = state.operations.iter().filter(|operation| operation.phase == Phase::Trial);
    on_trial.map(|operation| operation.name().to_owned()).collect()
}

fn back(state: &State, trial: &Trial, why: &str) -> Entry {
    let mut new = state.clone();
    let names = on_trial(state);
    for operation in new.operations.clone() {
        if operation.phase == Phase::Trial {
            aside(&mut new, &operation.kind);
        }
    }
    new.operations.retain(|operation| operation.phase != Phase::Trial || operation.file().is_some());
    for operation in new.operations.iter_mut().filter(|operation| operation.phase == Phase::Trial) {
        operation.phase = Phase::Sealed;
        operation.trouble = Some(Trouble::new(format!("its trial failed: {why}")));
    }
    new.stack = trial.back.clone();
    new.trial = None;
    let (stack, why) = (trial.back.clone(), why.to_owned());
    let notes = vec![Note::WentBack { names, why }];
    Entry { make: None, state: Some(settle(state, new)), otherwise: stack.clone(), stack, notes }
}

/// Seals first, so that what is gone back to has what was sealed.
fn go_on(state: &State, disk: &Disk) -> Entry {
    let mut new = state.clone();
    let mut notes = Vec::new();
    forget_ram(&mut new, &mut notes);
    let make = seal(&mut new, disk, &mut notes);
    adopt(&mut new, disk, &mut notes);
    let stack = new.stack.clone();
    let changed = (new != *state).then(|| settle(state, new));
    Entry { make, state: changed, stack, otherwise: state.stack.clone(), notes }
}

fn forget_ram(new: &mut State, notes: &mut Vec<Note>) {
    new.operations.retain(|operation| {
        let lost = matches!(operation.kind, Kind::Commit { copy: Some(_), .. }) && operation.phase == Phase::Requested;
        if lost {
            notes.push(Note::LostWithRam(operation.name().to_owned()));
        }
        !lost
    });
}

/// Makes the upper a layer for a commit that was requested; the number of the fresh one.
fn seal(new: &mut State, disk: &Disk, notes: &mut Vec<Note>) -> Option<u32> {
    let is_request = |op: &Operation| matches!(op.kind, Kind::Commit { .. }) && op.phase == Phase::Requested;
    let at = new.operations.iter().position(|operation| is_request(operation) && operation.trouble.is_none())?;
    let hindrance = if !disk.uppers.contains(&new.stack.upper) {
        Some(format!("upper {} is not there", new.stack.upper))
    } else if new.frozen() >= MAX_FROZEN || new.stack.layers.len() >= MAX_LAYERS {
        Some("there are too many layers".to_owned())
    } else {
        None
    };
    let upper = new.another_upper();
    let operation = new.operations.get_mut(at)?;
    let name = operation.name().to_owned();
    if let Some(why) = hindrance {
        operation.trouble = Some(Trouble::new(&why));
        notes.push(Note::Stuck { name, why });
        return None;
    }
    let below = match operation.kind {
        Kind::Commit { below, .. } => usize::from(below),
        _ => 0,
    };
    let old = std::mem::replace(&mut new.stack.upper, upper);
    new.stack.layers.insert(0, Layer::Frozen(old));
    operation.sources = new.stack.layers.iter().take(below + 1).cloned().collect();
    operation.phase = Phase::Sealed;
    notes.push(Note::Sealed(name));
    Some(upper)
}

/// Takes everything that is ready on trial.
fn adopt(new: &mut State, disk: &Disk, notes: &mut Vec<Note>) {
    let back = new.stack.clone();
    let mut names = Vec::new();
    for at in 0..new.operations.len() {
        let Some(operation) = new.operations.get(at).filter(|op| op.phase == Phase::Ready && op.trouble.is_none())
        else {
            continue;
        };
        let name = operation.name().to_owned();
        let outcome = target(new, operation, disk);
        let Some(operation) = new.operations.get_mut(at) else { continue };
        match outcome {
            Ok(stack) => {
                operation.phase = Phase::Trial;
                new.stack = stack;
                names.push(name);
            }
            Err(why) => {
                if operation.file().is_some() {
                    operation.phase = Phase::Sealed;
                }
                operation.trouble = Some(Trouble::new(&why));
                notes.push(Note::Stuck { name, why });
            }
        }
    }
    if !names.is_empty() {
        new.trial = Some(Trial { tries: 1, back });
        notes.push(Note::OnTrial { names, tries: 1 });
    }
}

/// The stack that a ready operation makes of that of now.
fn target(state: &State, operation: &Operation, disk: &Disk) -> Result<Stack, String> {
    let stack = match &operation.kind {
        Kind::Commit { file, .. } | Kind::Merge { file } => {
            let layers = replaced(&state.stack.layers, &operation.sources, file)
                .ok_or("the layers that it replaces are not in the stack any more")?;
            Stack { upper: state.stack.upper, layers }
        }
        Kind::Rollback { to: None, upper } => Stack { upper: *upper, layers: state.stack.layers.clone() },
        Kind::Rollback { to: Some(number), upper } => {
            let past = state.pasts.iter().find(|past| past.number == *number);
            let past = past.ok_or_else(|| format!("the stack {number} is not kept any more"))?;
            Stack { upper: *upper, layers: past.layers.clone() }
        }
    };
    // Only what it changes: what lacks of the stack of now lacks with or without it.
    let known: Vec<String> = lacking(state, &state.stack, disk);
    let lacking: Vec<String> = lacking(state, &stack, disk).into_iter().filter(|what| !known.contains(what)).collect();
    if lacking.is_empty() { Ok(stack) } else { Err(format!("missing or damaged: {}", lacking.join(", "))) }
}

/// What of a stack is not there as it should be.
fn lacking(state: &State, stack: &Stack, disk: &Disk) -> Vec<String> {
    let image_is_whole = |file: &String| {
        let size = state.images.get(file).map(|image| image.digest.size);
        size.is_some() && disk.files.get(file).copied() == size
    };
    let layers = stack.layers.iter().filter(|layer| match layer {
        Layer::Image(file) => !image_is_whole(file),
        Layer::Frozen(number) => !disk.uppers.contains(number),
    });
    let upper = (!disk.uppers.contains(&stack.upper)).then(|| format!("upper {}", stack.upper));
    layers.map(ToString::to_string).chain(upper).collect()
}
