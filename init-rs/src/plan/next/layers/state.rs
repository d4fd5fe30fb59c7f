//! The stack that the state file of layers names: read, gone on with, and written before anything of it is mounted.

use super::part_of;
use crate::cmdline::{LayerSettings, Upper};
use crate::layers::boot::{self, Broken, Entry};
use crate::layers::store::{Entered, Looked};
use crate::layers::{Layer, Places};
use crate::plan::failure::{Code, Failure};
use crate::plan::layers::{self, BASE, DEVICE, STATE_DIR, UPPERS, is_on_base};
use crate::plan::next::{LayerStep, Moment, Next, Part, Settled, Step, fail};
use crate::plan::root::Root;
use std::path::{Path, PathBuf};

/// Options that decide how an upper is read: with which it was made stands in its state.
const KEPT_FLAGS: [&str; 4] = ["index", "metacopy", "redirect_dir", "xino"];

/// What a boot does with a state: it goes on as the protocol says, or, where nothing may be written, boots what is known to work.
pub fn entry(settings: &LayerSettings, read_only: bool, seen: &Looked) -> Result<Entry, Broken> {
    let state = &seen.loaded.state;
    if only_looks(settings, read_only) {
        return boot::look(state, &seen.disk);
    }
    let mut entry = boot::enter(state, &seen.disk)?;
    if settings.fresh.is_some() {
        entry = boot::begin_afresh(state, entry);
    }
    let mut new = entry.state.as_ref().unwrap_or(state).clone();
    let flags = settings.flags.iter().flat_map(|flags| &flags.value).filter_map(|flag| flag.split_once('='));
    let kept = flags.filter(|(name, _)| KEPT_FLAGS.contains(name));
    new.flags.0.extend(kept.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if new.flags != state.flags {
        entry.state = Some(new);
    }
    Ok(entry)
}

/// Whether the state is left as it is: nothing may be written, what is there is to be a layer, or is given back.
pub(super) fn only_looks(settings: &LayerSettings, read_only: bool) -> bool {
    let in_memory = settings.to_ram.is_some() && matches!(settings.upper.value, Upper::Ram { .. });
    read_only || settings.upper.value == Upper::None || settings.retained.is_some() || in_memory
}

/// Options of the overlay: those of the words, and those that the upper was made with.
pub(super) fn flags(settings: &LayerSettings, entered: Option<&Entered>) -> Vec<(String, String)> {
    let said = settings.flags.iter().flat_map(|flags| &flags.value);
    let said = said.map(|flag| flag.split_once('=').unwrap_or((flag, "")));
    // With a state, what is kept there holds: it may be that the words could not be written to it.
    let said = said.filter(|(name, _)| entered.is_none() || !KEPT_FLAGS.contains(name));
    let made = entered.into_iter().flat_map(|entered| &entered.state.flags.0);
    let made = made.map(|(name, value)| (name.as_str(), value.as_str())).filter(|(_, value)| *value != "off");
    made.chain(said).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Where the state, its uppers and its images lie; images also beside the state, where those that are made are put.
pub(super) fn places(settings: &LayerSettings) -> Places {
    let top = if is_on_base(settings.home()) { BASE } else { UPPERS };
    let parts = [Some(BASE), settings.device.as_ref().map(|_| DEVICE)];
    let mut images = vec![PathBuf::from(top)];
    images.extend(parts.into_iter().flatten().map(|part| layers::below(part, &settings.dir.value).into()));
    images.dedup();
    Places { state: Path::new(top).join(STATE_DIR), images }
}

impl Moment<'_> {
    /// What this boot mounts.
    pub(super) fn stack(&self, settings: &LayerSettings, base: &Root) -> Settled<&Entered> {
        let known = &self.facts.attempt.layers;
        self.uppers(settings, base)?;
        if let Some(entered) = &known.entered {
            return Ok(entered);
        }
        let places = places(settings);
        let seen = match &known.state {
            None => return Err(Next::Do(Step::Layer(LayerStep::ReadState { places }))),
            Some(Err(why)) => return fail(no_state(settings, why)),
            Some(Ok(seen)) => seen,
        };
        match entry(settings, self.request.import.read_only.value, seen) {
            Ok(entry) => Err(Next::Do(Step::Layer(LayerStep::EnterState { places, entry: Box::new(entry) }))),
            Err(broken) => fail(lacking(settings, &places, &broken)),
        }
    }

    /// What the state and its uppers lie on, mounted.
    fn uppers(&self, settings: &LayerSettings, base: &Root) -> Settled<()> {
        let (home, word) = (settings.home(), settings.retained.as_ref().unwrap_or(&settings.upper).why.as_str());
        if is_on_base(home) || self.facts.attempt.layers.uppers_mounted {
            return Ok(());
        }
        let read_only = only_looks(settings, self.request.import.read_only.value);
        match self.upper_mount(home, word, base, part_of(&home.to_string(), UPPERS, word), read_only)? {
            Ok(mount) => Err(Next::Do(Step::Layer(LayerStep::Mount { part: Part::Uppers, mount: Box::new(mount) }))),
            Err(why) => fail(no_state(settings, &why)),
        }
    }

    /// The layers of the stack, and above them its upper, which is one more where another takes what is written.
    pub(super) fn find_stack(settings: &LayerSettings, upper: &Upper, entered: &Entered) -> LayerStep {
        let is_layer = matches!(upper, Upper::Ram { .. } | Upper::None);
        let live = is_layer.then_some(Layer::Frozen(entered.stack.upper));
        let stack = live.into_iter().chain(entered.stack.layers.iter().cloned()).collect();
        LayerStep::FindStack { stack, places: places(settings) }
    }

    /// The directory of the live upper, as the file system that it lies on has it.
    pub(super) fn live_upper(&self) -> Option<String> {
        let entered = self.facts.attempt.layers.entered.as_ref()?;
        Some(format!("{STATE_DIR}/uppers/{}", entered.stack.upper))
    }

    /// A stack on trial that cannot be put together, or that has no program to hand over to, is left at once.
    pub(in crate::plan::next) fn leaves_trial(&self, failure: &Failure) -> Option<Step> {
        let known = &self.facts.attempt.layers;
        let (settings, entered) = (self.request.layers.as_ref()?, known.entered.as_ref()?);
        let is_its_fault = match failure.code {
            Code::NoLayer | Code::BrokenLayer | Code::UncheckedLayer | Code::LayerList | Code::Overlay => true,
            // Not if something that is mounted over it hides the program.
            Code::NoInit => {
                self.facts.attempt.search.iter().flat_map(|search| &search.covers).all(|cover| !cover.hides)
            }
            _ => false,
        };
        let on_trial = entered.state.trial.is_some() && entered.stack == entered.state.stack;
        (is_its_fault && on_trial && !known.gave_up)
            .then(|| Step::Layer(LayerStep::GiveUp { places: places(settings), why: failure.to_string() }))
    }
}

fn no_state(settings: &LayerSettings, why: &str) -> Failure {
    let home = settings.home();
    let on = if is_on_base(home) { "the root device".to_owned() } else { home.to_string() };
    Failure::new(
        Code::LayerState,
        format!("the layer state cannot be had ({}): {why}", settings.names.why),
        format!("{STATE_DIR}/state at the top of {on}"),
        vec![],
        &[
            "retry taproot.layers=NAME:... here lists the layers itself, the topmost first",
            "retry taproot.upper=label:LABEL here, if the state lies on another file system",
        ],
    )
}

fn lacking(settings: &LayerSettings, places: &Places, broken: &Broken) -> Failure {
    let mut found: Vec<String> = places.images.iter().map(|place| format!("looked in {}", place.display())).collect();
    found.extend(broken.lacking.iter().take(8).map(|what| format!("not there, or of another size: {what}")));
    Failure::new(
        Code::NoLayer,
        format!(
            "layers that the layer state names are missing ({}): {}",
            settings.names.why,
            broken.lacking.join(", ")
        ),
        "every image and upper of the stack, of the size that the state notes",
        found,
        &[
            "bring them back, then retry",
            "retry taproot.layerdev=UUID=... says where else layers are",
            "retry taproot.layers=NAME:... here lists the layers itself, and leaves the state as it is",
        ],
    )
}
