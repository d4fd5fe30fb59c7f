//! What the running system does next, and what is true when it was done. Each step can be repeated: a power cut in the middle of one
//! leaves the state from which it is done again.

use super::request::Mounted;
use super::state::{Digest, Discard, Image, Kind, Layer, Operation, Phase, Stack, State, Trouble, above, temporary};
use std::collections::BTreeSet;

/// Where files that belong to this machine, and are left out of images for that, are kept when the directories go that hold them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Those directories, the topmost first.
    pub frozen: Vec<u32>,
    /// They with the images between them, which may hide what lies under them.
    pub sources: Vec<Layer>,
    /// The upper that is to have them.
    pub upper: u32,
    /// That upper is live over these directories: it must not be written to beside the overlay. Opening a file of the root for
    /// writing copies it up, and those deleted since are not there to be opened. Otherwise the upper is nowhere written to (under an
    /// upper in RAM it may be a lower; what is added to it there shows what shows already), and its directory is.
    pub live: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Remove these; then [`removed`].
    Remove(Vec<Discard>),
    /// Copy the upper that is in RAM to `uppers/into/upper`; then [`copied`].
    Copy {
        /// The operation's image.
        file: String,
        /// Number of the upper that it is copied to.
        into: u32,
        /// Number of the upper that is live then, to be made.
        upper: u32,
    },
    /// Make `uppers/upper`, with the files that belong to this machine in it; then [`prepared`].
    Prepare {
        /// Its number.
        upper: u32,
    },
    /// Note that an image is being built: [`begun`].
    Begin {
        /// The image.
        file: String,
    },
    /// Write the image and prove it; then [`verified`].
    Build {
        /// The image.
        file: String,
        /// Number of its temporary name.
        number: u64,
        /// What goes into it, the topmost first.
        sources: Vec<Layer>,
        /// Nothing lies below these: what marks deleted files can go.
        bottom: bool,
    },
    /// Keep the files that are in no image, and give the image its name; then [`published`], or [`lost`] if it is not there.
    Publish {
        /// The image.
        file: String,
        /// Number of its temporary name.
        number: u64,
        /// What is in it.
        digest: Digest,
        /// Directories that hold files which are in no image, and which must not go with them.
        keep: Keep,
    },
    /// Nothing, for now.
    Wait(Wait),
}

/// Why there is nothing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// All is done.
    Idle,
    /// The rest is the next boot's.
    Boot,
    /// This boot must be called good first.
    Confirmation,
    /// An operation is in trouble, of this name.
    Person(String),
}

/// What comes next in a system that runs on `mounted`.
pub fn next(state: &State, mounted: &Mounted) -> Step {
    let removable: Vec<Discard> =
        state.discards.iter().filter(|discard| !is_mounted(discard, mounted)).cloned().collect();
    if !removable.is_empty() || state.operations.iter().any(|operation| operation.phase == Phase::Done) {
        return Step::Remove(removable);
    }
    let mut waits = Vec::new();
    for operation in &state.operations {
        match of_operation(state, operation, mounted) {
            Step::Wait(wait) => waits.push(wait),
            step => return step,
        }
    }
    // What a person has to do counts most, then what goes on by itself.
    let rank = |wait: &Wait| match wait {
        Wait::Person(_) => 0,
        Wait::Confirmation => 1,
        Wait::Boot => 2,
        Wait::Idle => 3,
    };
    let leftover = if state.discards.is_empty() { Wait::Idle } else { Wait::Boot };
    Step::Wait(waits.into_iter().min_by_key(rank).unwrap_or(leftover))
}

fn is_mounted(discard: &Discard, mounted: &Mounted) -> bool {
    match discard {
        Discard::Upper(number) => {
            mounted.stack.upper == *number || mounted.stack.layers.contains(&Layer::Frozen(*number))
        }
        Discard::File(file, _) => {
            mounted.stack.layers.iter().any(|layer| matches!(layer, Layer::Image(f) if f == file))
        }
    }
}

fn of_operation(state: &State, operation: &Operation, mounted: &Mounted) -> Step {
    if operation.trouble.is_some() {
        return Step::Wait(Wait::Person(operation.name().to_owned()));
    }
    let Some(file) = operation.file() else { return of_rollback(operation) };
    let file = file.to_owned();
    let sources = operation.sources.clone();
    match operation.phase {
        Phase::Requested => match operation.kind {
            // Another boot's RAM is gone.
            Kind::Commit { copy: Some(into), .. } if mounted.ram && mounted.stack == state.stack => {
                Step::Copy { file, into, upper: above(into) }
            }
            _ => Step::Wait(Wait::Boot),
        },
        // A file of this name is not removed yet, because it is mounted.
        Phase::Sealed if state.discards.iter().any(|discard| matches!(discard, Discard::File(f, _) if *f == file)) => {
            Step::Wait(Wait::Boot)
        }
        // The note that it is sealed was not written, or other layers were named: it is live.
        Phase::Sealed | Phase::Building(_) if sources.contains(&Layer::Frozen(mounted.stack.upper)) && !mounted.ram => {
            Step::Wait(Wait::Boot)
        }
        Phase::Sealed => Step::Begin { file },
        Phase::Building(number) => {
            let bottom = state.stack.layers.ends_with(&sources);
            Step::Build { file, number, sources, bottom }
        }
        Phase::Verified(number, digest) => {
            let frozen: Vec<u32> = sources.iter().filter_map(frozen).collect();
            let upper = state.stack.upper;
            let live = mounted.stack.upper == upper && !mounted.ram;
            // Live, the overlay itself must show the files; otherwise nothing that is not looked at may lie above them.
            let in_sight = if live {
                frozen.iter().all(|number| mounted.stack.layers.contains(&Layer::Frozen(*number)))
            } else {
                state.stack.layers.starts_with(&sources)
            };
            if !frozen.is_empty() && !in_sight {
                return Step::Wait(Wait::Boot);
            }
            Step::Publish { file, number, digest, keep: Keep { frozen, sources, upper, live } }
        }
        Phase::Ready => Step::Wait(Wait::Boot),
        Phase::Trial => Step::Wait(Wait::Confirmation),
        Phase::Done => Step::Wait(Wait::Idle),
    }
}

fn frozen(layer: &Layer) -> Option<u32> {
    match layer {
        Layer::Frozen(number) => Some(*number),
        Layer::Image(_) => None,
    }
}

fn of_rollback(operation: &Operation) -> Step {
    match (&operation.kind, operation.phase) {
        (Kind::Rollback { upper, .. }, Phase::Requested) => Step::Prepare { upper: *upper },
        (_, Phase::Trial) => Step::Wait(Wait::Confirmation),
        (_, Phase::Done) => Step::Wait(Wait::Idle),
        _ => Step::Wait(Wait::Boot),
    }
}

/// These were removed, durably.
pub fn removed(state: &State, gone: &[Discard]) -> State {
    let mut new = state.clone();
    new.discards.retain(|discard| !gone.contains(discard));
    new.operations.retain(|operation| operation.phase != Phase::Done);
    new
}

/// The upper in RAM was copied, durably: it is sealed, and with it the upper that was its lower. `None` if that is not wanted any
/// longer.
pub fn copied(state: &State, file: &str) -> Option<State> {
    let mut new = state.clone();
    let old = state.stack.upper;
    let operation = new.making(file).filter(|operation| operation.phase == Phase::Requested)?;
    let Kind::Commit { copy, below, .. } = &mut operation.kind else { return None };
    let into = copy.take()?;
    let count = usize::from(*below) + 2;
    let layers: Vec<Layer> =
        [Layer::Frozen(into), Layer::Frozen(old)].into_iter().chain(state.stack.layers.iter().cloned()).collect();
    operation.sources = layers.get(..count)?.to_vec();
    operation.phase = Phase::Sealed;
    new.stack = Stack { upper: above(into), layers };
    Some(settle(state, new))
}

/// The upper of a rollback is there, durably.
pub fn prepared(state: &State, upper: u32) -> Option<State> {
    let mut new = state.clone();
    let is = |operation: &&mut Operation| {
        operation.phase == Phase::Requested && matches!(operation.kind, Kind::Rollback { upper: u, .. } if u == upper)
    };
    new.operations.iter_mut().find(is)?.phase = Phase::Ready;
    Some(new)
}

/// An image is about to be written, under a name with the number of this generation.
pub fn begun(state: &State, file: &str) -> Option<State> {
    let mut new = state.clone();
    let number = state.generation.saturating_add(1);
    let operation = new.making(file).filter(|operation| operation.phase == Phase::Sealed)?;
    operation.phase = Phase::Building(number);
    Some(settle(state, new))
}

/// The image with this temporary name is whole and durable.
pub fn verified(state: &State, file: &str, number: u64, digest: Digest) -> Option<State> {
    let mut new = state.clone();
    let operation = new.making(file).filter(|operation| operation.phase == Phase::Building(number))?;
    operation.phase = Phase::Verified(number, digest);
    Some(settle(state, new))
}

/// The image has its name, durably.
pub fn published(state: &State, file: &str) -> Option<State> {
    let mut new = state.clone();
    let operation = new.making(file)?;
    let Phase::Verified(_, digest) = operation.phase else { return None };
    operation.phase = Phase::Ready;
    new.images.insert(file.to_owned(), Image { digest, made: true });
    Some(settle(state, new))
}

/// The image was not there under either name: it is built anew.
pub fn lost(state: &State, file: &str) -> Option<State> {
    let mut new = state.clone();
    let operation = new.making(file).filter(|operation| matches!(operation.phase, Phase::Verified(..)))?;
    let named = perhaps_named(operation);
    operation.phase = Phase::Sealed;
    let mut new = settle(state, new);
    new.discards.extend(named);
    Some(new)
}

/// A step failed. What was sealed stays so; what was half written is removed.
pub fn failed(state: &State, name: &str, trouble: Trouble) -> Option<State> {
    let mut new = state.clone();
    let is = |operation: &&mut Operation| operation.phase != Phase::Done && operation.name() == name;
    let operation = new.operations.iter_mut().find(is)?;
    let named = perhaps_named(operation);
    operation.trouble = Some(trouble);
    if matches!(operation.phase, Phase::Building(_) | Phase::Verified(..)) {
        operation.phase = Phase::Sealed;
    }
    let mut new = settle(state, new);
    new.discards.extend(named);
    Some(new)
}

/// The image of an operation that leaves its phase for an earlier one, or goes: it may have got its name without that being noted.
pub(super) fn perhaps_named(operation: &Operation) -> Option<Discard> {
    match (operation.phase, operation.file()) {
        (Phase::Verified(_, digest), Some(file)) => Some(Discard::File(file.to_owned(), Some(digest))),
        _ => None,
    }
}

/// A copy in which operations that only lacked room have another go: for the start of what carries steps out.
pub fn fresh_start(state: &State) -> Option<State> {
    let mut new = state.clone();
    for operation in &mut new.operations {
        operation.trouble.take_if(|trouble| trouble.space);
    }
    (new != *state).then_some(new)
}

/// What `old` referred to and `new` does not is to be removed; images that nobody refers to are forgotten.
pub(super) fn settle(old: &State, mut new: State) -> State {
    let (files, uppers) = (new.files(), new.uppers());
    for number in old.uppers().difference(&uppers) {
        new.discards.push(Discard::Upper(*number));
    }
    let building: BTreeSet<String> = old.pending().filter_map(temporary_of).collect();
    for file in old.files().difference(&files) {
        match old.images.get(file) {
            Some(image) if image.made => new.discards.push(Discard::File(file.clone(), Some(image.digest))),
            None if building.contains(file) && !renamed(&new, file) => {
                new.discards.push(Discard::File(file.clone(), None));
            }
            _ => {}
        }
    }
    new.images.retain(|file, _| files.contains(file));
    new
}

fn temporary_of(operation: &Operation) -> Option<String> {
    match operation.phase {
        Phase::Building(number) | Phase::Verified(number, _) => operation.file().map(|file| temporary(file, number)),
        _ => None,
    }
}

/// Whether the image of this temporary name has its own now.
fn renamed(state: &State, temporary: &str) -> bool {
    let stem = temporary.strip_prefix("tmp-").and_then(|rest| rest.rsplit_once('.')).map(|(stem, _)| stem);
    state.operations.iter().any(|op| op.phase == Phase::Ready && stem.is_some_and(|stem| stem == op.name()))
}

/// `layers` with the run of an operation's sources replaced by its image; `None` if that run is not there.
pub(super) fn replaced(layers: &[Layer], sources: &[Layer], image: &str) -> Option<Vec<Layer>> {
    if sources.is_empty() {
        return None;
    }
    let at = layers.windows(sources.len()).position(|run| run == sources)?;
    let (above, rest) = layers.split_at_checked(at)?;
    let below = rest.get(sources.len()..)?;
    Some(above.iter().cloned().chain([Layer::Image(image.to_owned())]).chain(below.iter().cloned()).collect())
}
