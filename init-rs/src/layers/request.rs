//! What people and the unit that calls a boot good ask for, in the running system. Nothing here touches more than the state.

use super::state::{
    Discard, Kind, Layer, MAX_DISCARDS, MAX_FROZEN, MAX_LAYERS, MAX_OPERATIONS, MAX_PASTS, Operation, Past, Phase,
    Stack, State, check_file,
};
use super::steps::{perhaps_named, settle};

/// What the running system was booted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Its stack. Where the upper is in RAM, that of the stack is its topmost lower.
    pub stack: Stack,
    /// The live upper is in RAM.
    pub ram: bool,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Command line or rescue chose other layers.
    #[error(
        "this system runs on other layers than the layer state names for the next boot (its command line lists some, or they were \
         changed since it started): boot what the state names first"
    )]
    OtherLayers,
    /// The name cannot be one.
    #[error("`{file}` cannot be the file of a layer: {why}")]
    Name {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is taken.
    #[error("there is a layer `{0}` already, or one is being made or removed: take another name")]
    Taken(String),
    /// One at a time.
    #[error("`{0}` waits for the next boot already: reboot, or withdraw it first")]
    Waiting(String),
    /// What is asked for needs the stack as it is.
    #[error("`{0}` is not finished: let it finish, or withdraw it first")]
    Unfinished(String),
    /// The upper cannot be put on other lowers.
    #[error(
        "this upper was made with {0}, so that it cannot be told what it holds without these very lowers: start a fresh upper with {0} off"
    )]
    Flags(String),
    /// Too much waits.
    #[error("{found} {what}, at most {most} are possible: {help}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there can be.
        most: usize,
        /// What to do.
        help: &'static str,
    },
    /// More layers than there are.
    #[error("expected at least {least} and at most {most} layers to merge, found {found}")]
    Count {
        /// Asked for.
        found: usize,
        /// The fewest.
        least: usize,
        /// All.
        most: usize,
    },
    /// No such thing.
    #[error("expected one of the operations or numbers that `taproot layer status` lists, found `{0}`")]
    Unknown(String),
    /// A rollback needs what it would remove.
    #[error("the stack {0} is what the rollback under way goes to: withdraw that first")]
    InUse(u32),
}

fn same_layers(state: &State, mounted: &Mounted) -> Result<(), Refusal> {
    if mounted.stack == state.stack { Ok(()) } else { Err(Refusal::OtherLayers) }
}

fn nothing_pending(state: &State) -> Result<(), Refusal> {
    state.pending().next().map_or(Ok(()), |operation| Err(Refusal::Unfinished(operation.name().to_owned())))
}

/// Room for one more operation, and for what will be left behind by all of them.
fn room(state: &State) -> Result<(), Refusal> {
    let help = "let those finish, or withdraw one";
    let refusal = |what, found, most| Err(Refusal::TooMany { what, found, most, help });
    if state.operations.len() >= MAX_OPERATIONS {
        return refusal("operations", state.operations.len(), MAX_OPERATIONS);
    }
    // Each can add all its layers, and the caps are far apart: half is plenty.
    if state.discards.len() > MAX_DISCARDS / 2 {
        return refusal("files that wait to be removed", state.discards.len(), MAX_DISCARDS / 2);
    }
    Ok(())
}

/// No layer of that name is there or comes.
fn free_name(state: &State, file: &str) -> Result<(), Refusal> {
    check_file(file).map_err(|why| Refusal::Name { file: file.to_owned(), why })?;
    let stem = |file: &str| file.rsplit_once('.').map_or(file, |(stem, _)| stem).to_owned();
    let discards = state.discards.iter().filter_map(|discard| match discard {
        Discard::File(file, _) => Some(file.as_str()),
        Discard::Upper(_) => None,
    });
    let operations = state.operations.iter().filter_map(Operation::file);
    let taken = state.images.keys().map(String::as_str).chain(operations).chain(discards);
    match taken.map(stem).find(|taken| *taken == stem(file)) {
        Some(taken) => Err(Refusal::Taken(taken)),
        None => Ok(()),
    }
}

/// The upper is to become the layer `file`, with the topmost `below` layers in it. The caller has seen that there is no file of that
/// name and enough room, and that the upper is neither volatile nor full of redirects.
pub fn commit(state: &State, mounted: &Mounted, file: &str, below: u16) -> Result<State, Refusal> {
    same_layers(state, mounted)?;
    free_name(state, file)?;
    room(state)?;
    if let Some(flag) = state.flags.hindrance() {
        return Err(Refusal::Flags(flag));
    }
    let waits =
        |operation: &&Operation| operation.phase == Phase::Requested || matches!(operation.kind, Kind::Rollback { .. });
    if let Some(waiting) = state.pending().find(waits) {
        return Err(Refusal::Waiting(waiting.name().to_owned()));
    }
    if state.frozen() >= MAX_FROZEN {
        let help = "let the commits that are under way finish, or merge the sealed uppers";
        return Err(Refusal::TooMany { what: "sealed uppers", found: state.frozen(), most: MAX_FROZEN, help });
    }
    if below > 0 {
        nothing_pending(state)?;
    }
    // A copy changes the stack at once, which must not be one that may be left again.
    if let Some(trial) = state.pending().find(|operation| mounted.ram && operation.phase == Phase::Trial) {
        return Err(Refusal::Unfinished(trial.name().to_owned()));
    }
    let most = state.stack.layers.len();
    if most + 2 > MAX_LAYERS {
        let help = "merge some of them";
        return Err(Refusal::TooMany { what: "layers", found: most, most: MAX_LAYERS - 2, help });
    }
    if usize::from(below) > most {
        return Err(Refusal::Count { found: usize::from(below), least: 0, most });
    }
    let mut new = state.clone();
    let copy = mounted.ram.then(|| new.another_upper());
    if copy.is_some() {
        new.another_upper(); // `above` it
    }
    let kind = Kind::Commit { file: file.to_owned(), below, copy };
    new.operations.push(Operation { kind, phase: Phase::Requested, sources: Vec::new(), trouble: None });
    Ok(settle(state, new))
}

/// The `count` topmost layers are to become the layer `file`. Nothing has to be sealed for that.
pub fn merge(state: &State, mounted: &Mounted, file: &str, count: usize) -> Result<State, Refusal> {
    same_layers(state, mounted)?;
    free_name(state, file)?;
    room(state)?;
    nothing_pending(state)?;
    // A single directory can become an image; an image is one.
    let least = if matches!(state.stack.layers.first(), Some(Layer::Frozen(_))) { 1 } else { 2 };
    let most = state.stack.layers.len();
    let sources = state.stack.layers.get(..count).filter(|_| count >= least);
    let sources = sources.ok_or(Refusal::Count { found: count, least, most })?.to_vec();
    let mut new = state.clone();
    let kind = Kind::Merge { file: file.to_owned() };
    new.operations.push(Operation { kind, phase: Phase::Sealed, sources, trouble: None });
    Ok(settle(state, new))
}

/// The layers of a past are to be booted, with its upper if it has one, else with a fresh one; without a number the layers of now with
/// a fresh upper. The upper of now is set aside.
pub fn rollback(state: &State, mounted: &Mounted, to: Option<u32>) -> Result<State, Refusal> {
    same_layers(state, mounted)?;
    room(state)?;
    nothing_pending(state)?;
    let past = match to {
        None => None,
        Some(number) => Some(find_past(state, number)?),
    };
    if state.pasts.len() >= MAX_PASTS / 2 {
        let help = "forget one of them";
        let (found, most) = (state.pasts.len(), MAX_PASTS / 2);
        return Err(Refusal::TooMany { what: "stacks to go back to", found, most, help });
    }
    let mut new = state.clone();
    let set_aside = past.and_then(|past| past.upper);
    // What was set aside is as it was left; a fresh one gets the files that belong to this machine first.
    let phase = if set_aside.is_some() { Phase::Ready } else { Phase::Requested };
    let upper = set_aside.unwrap_or_else(|| new.another_upper());
    let kind = Kind::Rollback { to, upper };
    new.operations.push(Operation { kind, phase, sources: Vec::new(), trouble: None });
    Ok(settle(state, new))
}

fn find_past(state: &State, number: u32) -> Result<&Past, Refusal> {
    state.pasts.iter().find(|past| past.number == number).ok_or_else(|| Refusal::Unknown(number.to_string()))
}

fn find(state: &State, name: &str) -> Result<usize, Refusal> {
    let is = |operation: &Operation| operation.phase != Phase::Done && operation.name() == name;
    state.operations.iter().position(is).ok_or_else(|| Refusal::Unknown(name.to_owned()))
}

/// An operation is not to be done after all. What was sealed for it stays a layer as it is; what is on trial is left with the next
/// boot.
pub fn withdraw(state: &State, name: &str) -> Result<State, Refusal> {
    let at = find(state, name)?;
    let mut new = state.clone();
    let operation = new.operations.remove(at);
    // The trial of others goes on.
    if operation.phase == Phase::Trial
        && let Some(trial) = new.trial.take()
    {
        if matches!(operation.kind, Kind::Rollback { .. }) {
            aside(&mut new, &operation.kind);
        }
        new.stack = trial.back;
        for other in new.operations.iter_mut().filter(|other| other.phase == Phase::Trial) {
            other.phase = Phase::Ready;
        }
    }
    let mut new = settle(state, new);
    new.discards.extend(perhaps_named(&operation));
    Ok(new)
}

/// Keeps what was written under the stack of a rollback that is left: it becomes a past of its own, unless it was one all along.
pub(super) fn aside(state: &mut State, kind: &Kind) {
    let Kind::Rollback { upper, .. } = kind else { return };
    if state.pasts.iter().any(|past| past.upper == Some(*upper)) {
        return;
    }
    state.last_past = state.last_past.saturating_add(1);
    let (number, layers) = (state.last_past, state.stack.layers.clone());
    state.pasts.push(Past { number, upper: Some(*upper), layers });
}

/// An operation that waits because of trouble is to be tried again.
pub fn retry(state: &State, name: &str) -> Result<State, Refusal> {
    let at = find(state, name)?;
    let mut new = state.clone();
    if let Some(operation) = new.operations.get_mut(at) {
        operation.trouble = None;
    }
    Ok(new)
}

/// Nobody wants to go back to this past; an upper that was set aside with it goes too.
pub fn forget(state: &State, number: u32) -> Result<State, Refusal> {
    find_past(state, number)?;
    let goes_there = |operation: &Operation| matches!(operation.kind, Kind::Rollback { to, .. } if to == Some(number));
    if state.pending().any(goes_there) {
        return Err(Refusal::InUse(number));
    }
    let mut new = state.clone();
    new.pasts.retain(|past| past.number != number);
    Ok(settle(state, new))
}

/// This boot is good. `None` if nothing was on trial, or this boot is not what was.
pub fn confirm(state: &State, mounted: &Mounted) -> Option<State> {
    let trial = state.trial.as_ref().filter(|_| mounted.stack == state.stack)?;
    let mut new = state.clone();
    new.trial = None;
    new.good = state.generation.saturating_add(1);
    for operation in new.operations.iter_mut().filter(|operation| operation.phase == Phase::Trial) {
        operation.phase = Phase::Done;
        let (upper, layers) = match &operation.kind {
            Kind::Commit { file, .. } => {
                let before = operation.sources.iter().skip_while(|layer| matches!(layer, Layer::Frozen(_)));
                (None, before.cloned().chain(below(&state.stack.layers, file)).collect())
            }
            Kind::Merge { file } => {
                (None, operation.sources.iter().cloned().chain(below(&state.stack.layers, file)).collect())
            }
            Kind::Rollback { to, .. } => {
                new.pasts.retain(|past| Some(past.number) != *to);
                (Some(trial.back.upper), trial.back.layers.clone())
            }
        };
        new.last_past = new.last_past.saturating_add(1);
        new.pasts.push(Past { number: new.last_past, upper, layers });
    }
    // Uppers that were set aside stay until they are forgotten by name.
    let without = new.pasts.iter().filter(|past| past.upper.is_none()).count();
    let mut surplus = without.saturating_sub(usize::from(new.keep));
    new.pasts.retain(|past| {
        let goes = past.upper.is_none() && surplus > 0;
        surplus -= usize::from(goes);
        !goes
    });
    Some(settle(state, new))
}

/// The layers under this image.
fn below(layers: &[Layer], image: &str) -> Vec<Layer> {
    let is_image = |layer: &&Layer| matches!(layer, Layer::Image(file) if file == image);
    layers.iter().skip_while(|layer| !is_image(layer)).skip(1).cloned().collect()
}
