//! What a layered root was made of, for the booted system: `taproot layer` finds everything by it.

use super::json::Json;
use crate::cmdline::{ITSELF, LayerSettings, Upper};
use crate::layers::state::Operation;
use crate::layers::store::Entered;
use crate::plan::layers::{BASE, DEVICE, LayerFile, LayerKind, RAM, STATE_DIR, UPPERS, is_on_base, part_of, place};
use crate::plan::next::facts::LayerFacts;
use crate::plan::root::LayeredRoot;

/// A part that is mounted outside of the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartDone {
    /// The dataset, or the device as the command line names it.
    pub source: String,
    /// Where it is mounted; `None`: the layers are in memory, and it was given back.
    pub place: Option<&'static str>,
}

/// What takes what is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpperDone {
    /// What it is.
    pub what: Upper,
    /// The directory that holds the upper and its work directory.
    pub directory: Option<String>,
    /// What was asked for.
    pub asked: Upper,
    /// Why it is not that.
    pub lacking: Vec<String>,
}

/// The state file of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDone {
    /// The file, if what it lies on is still there.
    pub path: Option<String>,
    /// What this boot did with it, if it went by it and not by a list of layers on the command line.
    pub entered: Option<Entered>,
}

/// A root made of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayersDone {
    /// What `root=` names.
    pub base: PartDone,
    /// The layer device, if that is another one.
    pub device: Option<PartDone>,
    /// The layers, the topmost first.
    pub stack: Vec<LayerFile>,
    /// What takes what is written.
    pub upper: UpperDone,
    /// Options of the overlay.
    pub options: Vec<(String, String)>,
    /// The state file, if there is one.
    pub state: Option<StateDone>,
}

impl LayersDone {
    /// What this root was made of.
    pub fn new(settings: &LayerSettings, known: &LayerFacts, root: &LayeredRoot) -> Self {
        let base = known.base.as_ref().map(|base| base.name().to_owned()).unwrap_or_default();
        let device = settings.device.as_ref().filter(|_| known.device).map(|device| device.value.to_string());
        let at = |place: &'static str| (!known.released.contains(place)).then_some(place);
        Self {
            base: PartDone { source: base, place: at(BASE) },
            device: device.map(|source| PartDone { source, place: at(DEVICE) }),
            stack: known.found.clone().unwrap_or_default(),
            upper: UpperDone {
                what: root.upper.clone(),
                directory: root.overlay.upper.as_ref().map(|dirs| dirs.dir.clone()),
                asked: asked(settings, known),
                lacking: known.no_upper.clone(),
            },
            options: root.overlay.options.clone(),
            state: state_done(settings, known),
        }
    }

    /// Its object in `boot.json`.
    pub(super) fn to_json(&self) -> Json {
        let option = |(name, value): &(String, String)| Json::text(&format!("{name}={value}"));
        Json::Object(vec![
            ("base", part(&self.base)),
            ("device", self.device.as_ref().map(part).into()),
            ("stack", Json::list(&self.stack, |layer| self.layer(layer))),
            ("upper", upper(&self.upper)),
            ("options", Json::list(&self.options, option)),
            ("state", self.state.as_ref().map(state).into()),
        ])
    }

    fn layer(&self, layer: &LayerFile) -> Json {
        let (kind, fstype) = match &layer.kind {
            LayerKind::Image { fstype, .. } => ("image", Some(fstype.as_str())),
            _ => ("directory", None),
        };
        let source = match part_of(&layer.path) {
            Some(DEVICE) => self.device.as_ref().map(|device| device.source.as_str()),
            Some(BASE) => Some(self.base.source.as_str()),
            Some(RAM) => Some("memory"),
            _ => None,
        };
        Json::line(vec![
            ("name", layer.name.as_str().into()),
            ("kind", kind.into()),
            ("type", fstype.into()),
            ("path", layer.path.as_str().into()),
            ("source", source.map_or_else(|| Json::text(&self.upper.asked), Into::into)),
            ("place", Json::Text(if layer.name == ITSELF { layer.path.clone() } else { place(&layer.name) })),
        ])
    }
}

fn asked(settings: &LayerSettings, known: &LayerFacts) -> Upper {
    match (&settings.upper.value, &known.entered) {
        (Upper::Directory(_), Some(entered)) => Upper::Directory(format!("{STATE_DIR}/uppers/{}", entered.stack.upper)),
        (upper, _) => upper.clone(),
    }
}

fn state_done(settings: &LayerSettings, known: &LayerFacts) -> Option<StateDone> {
    let top = if is_on_base(settings.home()) { BASE } else { UPPERS };
    if known.overridden.is_none() && known.entered.is_none() {
        return None;
    }
    let path = known.overridden.clone().unwrap_or_else(|| format!("{top}/{STATE_DIR}/state"));
    Some(StateDone { path: Some(path).filter(|_| !known.released.contains(top)), entered: known.entered.clone() })
}

fn part(part: &PartDone) -> Json {
    Json::line(vec![("source", part.source.as_str().into()), ("place", part.place.into())])
}

fn upper(upper: &UpperDone) -> Json {
    let (kind, source) = match &upper.what {
        Upper::Directory(_) => ("directory", None),
        Upper::Ram { .. } => ("memory", None),
        Upper::Zvol(name) => ("zvol", Some(name)),
        Upper::Dataset(name) => ("dataset", Some(name)),
        Upper::Device(spec) => ("device", Some(spec)),
        Upper::Medium(name) => ("medium", Some(name)),
        Upper::None => ("none", None),
    };
    Json::Object(vec![
        ("kind", kind.into()),
        ("source", source.map(String::as_str).into()),
        ("place", upper.directory.as_deref().and_then(part_of).into()),
        ("directory", upper.directory.as_deref().into()),
        ("asked", Json::text(&upper.asked)),
        ("fell_back", (!upper.lacking.is_empty()).into()),
        ("lacking", Json::list(&upper.lacking, |why| why.as_str().into())),
    ])
}

fn state(done: &StateDone) -> Json {
    let number = |number: u64| Json::Int(i64::try_from(number).unwrap_or(i64::MAX));
    let (entered, state) = (done.entered.as_ref(), done.entered.as_ref().map(|entered| &entered.state));
    let layers = entered.map(|entered| entered.stack.layers.as_slice()).unwrap_or_default();
    let trial = entered.filter(|entered| entered.stack == entered.state.stack);
    let trial = trial.and_then(|entered| entered.state.trial.as_ref());
    let notes = entered.map(|entered| entered.notes.as_slice()).unwrap_or_default();
    let operations: Vec<&Operation> = state.into_iter().flat_map(|state| &state.operations).collect();
    Json::Object(vec![
        ("path", done.path.as_deref().into()),
        ("overridden", state.is_none().into()),
        ("generation", state.map(|state| number(state.generation)).into()),
        ("upper", entered.map(|entered| number(entered.stack.upper.into())).into()),
        ("layers", Json::list(layers, Json::text)),
        ("trial", trial.map(|trial| number(trial.tries.into())).into()),
        ("operations", Json::list(&operations, |operation| operation_of(operation))),
        ("notes", Json::list(notes, Json::text)),
    ])
}

fn operation_of(operation: &Operation) -> Json {
    let trouble = operation.trouble.as_ref().map(|trouble| trouble.text.as_str());
    Json::line(vec![
        ("name", operation.name().into()),
        ("phase", operation.phase.name().into()),
        ("trouble", trouble.into()),
    ])
}
