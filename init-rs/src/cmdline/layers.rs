//! A root made of layers: what `taproot.layers=` and its kin, and the words of RuckusRD, ask for.

use super::integrity::Integrity;
use super::live::{self, LiveSettings};
use super::persistence::{Persistence, PersistenceWords};
use super::root::layer_device;
use super::state::State;
use super::upper::{UPPER_DIR, Upper, UpperFallback, ram, upper};
use super::values::{boolean, directory};
use super::{Decided, Fallback, Note, Request, Selector, Stage, Word, overlay};
use crate::plan::names;
use std::collections::BTreeSet;

/// More layers than these no overlay takes (`OVL_MAX_STACK`).
pub const LAYERS_MAX: usize = 500;
/// In a list of layers: the base itself.
pub const ITSELF: &str = ".";
/// Our own words, without `taproot.`.
pub(super) const OWN: [&str; 9] =
    ["layers", "layerdev", "layerdir", "upper", "upper_fallback", "upper_reset", "upper_readonly", "bind", "to_ram"];
/// Words of RuckusRD for what its initramfs does besides.
const ELSEWHERE: [&str; 8] = [
    "fwdev",
    "firstboot",
    "hoststamp",
    "modinject",
    "modules-early",
    "initramsys",
    "initramsys-net",
    "initramsys-installer",
];
/// What the words of layers are read as, where nothing else is said.
pub(super) const DEFAULT: &str = "default";

/// A root made of layers; its base is what `root=` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSettings {
    /// `taproot.layers=`, `sqsh_layers=`: names, the topmost first; none for `taproot.layers` alone: those of the state file, and
    /// none where a live medium says which there are.
    pub names: Decided<Vec<String>>,
    /// The base is a live medium.
    pub live: Option<Box<LiveSettings>>,
    /// `taproot.layerdev=`, `sqsh_layerdev=`: where layers are looked for that the base does not have.
    pub device: Option<Decided<Selector>>,
    /// `sqshfstype=`: types that it may have.
    pub device_types: Option<Decided<Vec<String>>>,
    /// `taproot.layerdir=`, `sqsh_layerdir=`: directory on both that holds the layers; empty for the topmost.
    pub dir: Decided<String>,
    /// `overlayflags=`: options of the overlay, over ours.
    pub flags: Option<Decided<Vec<String>>>,
    /// `taproot.upper=`, `ram_layer=`: what takes what is written.
    pub upper: Decided<Upper>,
    /// `ram_layer=`, `taproot.upper_readonly`: what earlier boots left in this upper is the topmost layer.
    pub retained: Option<Decided<Upper>>,
    /// `taproot.upper_reset`: the upper that is there is set aside.
    pub fresh: Option<String>,
    /// `taproot.upper_fallback=`: what follows when the upper cannot be had.
    pub fallback: Decided<UpperFallback>,
    /// `taproot.to_ram`, `to_ram`: whether the layers are copied to memory first.
    pub to_ram: Option<Decided<ToRam>>,
    /// `persistence` and its kin: what is kept on media of its own.
    pub persistence: Option<Persistence>,
    /// `taproot.bind=`: directories that lie beside the upper, and not in the overlay.
    pub bind: Option<Decided<Vec<String>>>,
    /// Whether the parts are shown where RuckusRD has them, too: its words were used.
    pub places: bool,
    /// What the layers must be.
    pub integrity: Box<Integrity>,
}

impl LayerSettings {
    /// Whether the layer device, the upper or what is kept is in a pool.
    pub(super) fn names_pools(&self) -> bool {
        let device = self.device.as_ref().is_some_and(|device| !matches!(device.value, Selector::Device(_)));
        let upper = matches!(self.upper.value, Upper::Zvol(_) | Upper::Dataset(_));
        device || upper || self.persistence.as_ref().is_some_and(|kept| kept.zvol.is_some())
    }
}

/// How much it is wanted that layers are in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToRam {
    /// Without that there is no boot.
    Must,
    /// Where there is too little memory they stay where they are.
    IfItFits,
}

/// The words so far.
#[derive(Debug, Clone, Default)]
pub(super) struct LayerWords {
    names: Option<Decided<Option<String>>>,
    device: Option<Decided<String>>,
    types: Option<Decided<Vec<String>>>,
    dir: Option<Decided<String>>,
    flags: Option<Decided<Vec<String>>>,
    upper: Option<Decided<Upper>>,
    /// `ram_layer=`, which an own word for the upper is stronger than.
    ram: Option<Decided<Upper>>,
    /// `rd.overlay=`.
    pub(super) dracut: Option<Decided<Upper>>,
    /// The word that makes the base a layer where none are named.
    pub(super) itself: Option<String>,
    pub(super) fresh: Option<String>,
    pub(super) kept: Option<String>,
    fallback: Option<Decided<UpperFallback>>,
    to_ram: Option<Decided<ToRam>>,
    pub(super) integrity: Integrity,
    pub(super) persistence: PersistenceWords,
    pub(super) bind: Option<Decided<Vec<String>>>,
    places: bool,
    /// Where RuckusRD would give a shell.
    stops: Vec<Decided<Stage>>,
    /// Words for what is done nowhere here.
    elsewhere: Vec<String>,
    /// The first word that is about layers.
    pub(super) first: Option<String>,
}

impl State {
    /// `taproot.layers=` and its kin, without `taproot.`; whether the word is one of these and its value is understood.
    pub(super) fn own_layers(&mut self, word: &Word, name: &str, value: Option<&str>) -> bool {
        let why = word.text.as_str();
        let words = &mut self.layers;
        words.first.get_or_insert_with(|| why.to_owned());
        match (name, value) {
            ("layers", v) => words.names = Some(Decided::new(v.map(str::to_owned), why)),
            ("layerdev", Some(v)) => words.device = Some(Decided::new(v.to_owned(), why)),
            ("layerdir", Some(v)) => words.dir = Some(Decided::new(v.to_owned(), why)),
            ("upper", Some(v)) => match upper(v) {
                Some(upper) => words.upper = Some(Decided::new(upper, why)),
                None => return self.problem(word, "taproot.upper=dir:DIRECTORY, ram[:SIZE[,inodes=N]], zvol:POOL/NAME, zfs:POOL/DATASET, label:LABEL, UUID=... or none"),
            },
            ("upper_fallback", Some(v)) => match v {
                "fail" => words.fallback = Some(Decided::new(UpperFallback::Fail, why)),
                "ram" => words.fallback = Some(Decided::new(UpperFallback::Ram, why)),
                "ro" => words.fallback = Some(Decided::new(UpperFallback::ReadOnly, why)),
                _ => return self.problem(word, "taproot.upper_fallback=fail, ram or ro"),
            },
            ("upper_reset", v) => self.fresh_upper(word, v),
            ("upper_readonly", v) => self.kept_upper(word, v),
            ("to_ram", Some("try")) => words.to_ram = Some(Decided::new(ToRam::IfItFits, why)),
            ("bind", Some(v)) => self.beside(word, v),
            ("to_ram", v) => match boolean(v) {
                Some(on) => words.to_ram = on.then(|| Decided::new(ToRam::Must, why)),
                None => return false,
            },
            _ => return false,
        }
        true
    }

    /// A word of RuckusRD; whether it is one.
    pub(super) fn ruckus(&mut self, word: &Word, value: Option<&str>) -> bool {
        let why = word.text.as_str();
        let words = &mut self.layers;
        match (word.key.as_str(), value) {
            ("sqsh_layers", Some(v)) => words.names = Some(Decided::new(Some(v.to_owned()), why)),
            ("sqsh_layerdev", Some(v)) => words.device = Some(Decided::new(v.to_owned(), why)),
            ("sqsh_layerdir", Some(v)) => words.dir = Some(Decided::new(v.to_owned(), why)),
            ("sqshfstype", Some(v)) => {
                let types: Vec<String> = v.split(',').filter(|kind| !kind.is_empty()).map(str::to_owned).collect();
                words.types = (!types.is_empty()).then(|| Decided::new(types, why));
            }
            ("overlayflags", Some(v)) => {
                let (good, bad): (Vec<&str>, Vec<&str>) =
                    v.split(',').filter(|flag| !flag.is_empty()).partition(|flag| is_flag(flag));
                words.flags = Some(Decided::new(good.into_iter().map(str::to_owned).collect(), why));
                words.first.get_or_insert_with(|| why.to_owned());
                for flag in bad {
                    self.note(word, &format!("`{flag}` is no option that changes how an overlay works; left out"));
                }
                return true;
            }
            ("ram_layer", Some(v)) => match ram(v) {
                Some(upper) => words.ram = Some(Decided::new(upper, why)),
                None => return self.problem(word, "ram_layer=SIZE, e.g. 2G or 50%"),
            },
            ("to_ram", None) => words.to_ram = Some(Decided::new(ToRam::Must, why)),
            // It is left as it was mounted: writable if the upper is on it.
            ("root_true_rw", None) => {}
            ("shell", None) => return words.stop(Stage::Start, why),
            ("shell_mountdevs" | "shell_sqshprep" | "shell_mountoverlay", None) => {
                return words.stop(Stage::Mount, why);
            }
            ("maint", None) => return words.stop(Stage::HandOver, why),
            (key, _) if ELSEWHERE.contains(&key) => {
                words.elsewhere.push(why.to_owned());
                return false;
            }
            _ => return false,
        }
        words.places = true;
        words.first.get_or_insert_with(|| why.to_owned());
        true
    }

    /// What is asked for cannot be done, and nothing else is done instead: the root cannot be used.
    pub(super) fn problem(&mut self, word: &Word, expected: &str) -> bool {
        self.layers_problem.get_or_insert_with(|| Note {
            word: word.text.clone(),
            message: format!("{} is not understood; expected {expected}", word.text),
        });
        true
    }
}

impl LayerWords {
    /// A word that is about layers.
    pub(super) fn mentioned(&mut self, word: &str) {
        self.first.get_or_insert_with(|| word.to_owned());
    }

    fn stop(&mut self, stage: Stage, why: &str) -> bool {
        self.stops.push(Decided::new(stage, why));
        true
    }

    /// Stages to stop at. On a line without RuckusRD's other words these are somebody else's.
    pub(super) fn stops(&mut self) -> Vec<Decided<Stage>> {
        if self.places { std::mem::take(&mut self.stops) } else { Vec::new() }
    }

    /// What they ask for. Words that cannot be obeyed make the root one that cannot be used: another stack of layers, or
    /// another upper, would be another system.
    pub(super) fn settle(self, problem: Option<Note>, live: Option<Result<live::Asked, Note>>, request: &mut Request) {
        if problem.is_none() {
            request.stacking = self.clone().settings(None, &mut Vec::new()).ok();
        }
        let live = match live.transpose() {
            Ok(live) => live,
            Err(note) => return unusable(request, note),
        };
        // Where no word names them, the medium does.
        let of_medium = live.as_ref().map(|asked| Decided::new(None, asked.live.system.why.as_str()));
        let Some(first) = self.first.clone().or(of_medium.as_ref().map(|of| of.why.clone())) else { return };
        let itself = self.itself.as_ref().map(|why| Decided::new(Some(ITSELF.to_owned()), why));
        if let (Some(Decided { value: None, why }), Some(of)) = (&self.names, &of_medium) {
            return unusable(request, state_and_medium(why, &of.why));
        }
        let Some(listed) = self.names.clone().or(of_medium).or(itself) else {
            if request.fallback.iter().any(|fallback| matches!(fallback.value, Fallback::Layers(_))) {
                // They are for those.
                return request.notes.extend(problem);
            }
            if !self.integrity.words().is_empty() {
                // What was to be checked is not there to be checked.
                let message = format!("{first} is of no use without taproot.layers=NAME:...");
                return unusable(request, problem.unwrap_or(Note { word: first, message }));
            }
            request.notes.push(Note {
                word: first,
                message: "nothing without taproot.layers=NAME:... (sqsh_layers=), which names the layers; ignored"
                    .to_owned(),
            });
            return;
        };
        for word in self.elsewhere.iter().filter(|_| self.places) {
            let message = "is for RuckusRD's own initramfs; nothing here corresponds to it; ignored".to_owned();
            request.notes.push(Note { word: word.clone(), message });
        }
        request.notes.extend(overlay::directory_of_state(&listed, self.upper.as_ref()).filter(|_| live.is_none()));
        let names = listed.value.as_deref().map_or(Ok(Vec::new()), names_of);
        let names = names.map_err(|message| Note { word: listed.why.clone(), message });
        match names.and_then(|names| self.settings(live, &mut request.notes)?.named(Decided::new(names, listed.why))) {
            Ok(settings) if problem.is_none() => request.layers = Some(settings),
            Ok(_) => unusable(request, problem.unwrap_or(Note { word: first, message: String::new() })),
            Err(note) => unusable(request, problem.unwrap_or(note)),
        }
    }

    /// What they say, whichever the layers are. `live`: what the words of a live system say.
    fn settings(self, live: Option<live::Asked>, notes: &mut Vec<Note>) -> Result<LayerSettings, Note> {
        let note = |word: &str, message: String| Note { word: word.to_owned(), message };
        let device = match self.device {
            None => None,
            Some(word) => match layer_device(&word.value) {
                Ok(selector) => Some(Decided::new(selector, word.why)),
                Err(message) => return Err(note(&word.why, message)),
            },
        };
        let dir = self.dir.or(live.as_ref().map(|live| live.dir.clone()));
        let dir = dir.unwrap_or_else(|| Decided::new(String::new(), format!("{DEFAULT} (the topmost directory)")));
        let dir = match directory(&dir.value) {
            Some(clean) => Decided::new(clean, dir.why),
            None => return Err(note(&dir.why, format!("`{}` is no directory below a file system", dir.value))),
        };
        let (usual, fallback) = defaults(live.is_some(), self.persistence.wanted());
        let default = || usual.clone();
        let persistence = self.persistence.settle(self.fallback.as_ref(), notes);
        let of_live = live.as_ref().filter(|_| self.ram.is_none()).and_then(|live| live.upper.clone());
        let asked = self.upper.or(self.dracut).or(of_live);
        let memory = |why: &str| Decided::new(Upper::Ram { size: None, inodes: None }, why);
        let (upper, retained) = match (asked, self.ram, self.kept) {
            (asked, ram, Some(why)) => {
                let on_disk = |kept: &Decided<Upper>| !matches!(kept.value, Upper::Ram { .. } | Upper::None);
                (ram.unwrap_or_else(|| memory(&why)), Some(asked.unwrap_or_else(default)).filter(on_disk))
            }
            (Some(asked), _, None) => (asked, None),
            (None, Some(ram), None) => {
                let kept = Decided::new(Upper::Directory(UPPER_DIR.to_owned()), ram.why.clone());
                (ram, Some(kept))
            }
            (None, None, None) => (default(), None),
        };
        // And so is what could not be kept.
        let lost = persistence.as_ref().filter(|_| upper.is_default()).map(|kept| kept.fallback.clone());
        Ok(LayerSettings {
            names: Decided::new(Vec::new(), DEFAULT),
            to_ram: self.to_ram.or(live.as_ref().and_then(|live| live.to_ram.clone())),
            live: live.map(|live| Box::new(live.live)),
            device,
            device_types: self.types,
            dir,
            flags: self.flags,
            upper,
            retained,
            fresh: self.fresh,
            fallback: self.fallback.or(lost).unwrap_or(fallback),
            persistence,
            bind: self.bind,
            places: self.places,
            integrity: Box::new(self.integrity),
        })
    }
}

/// The upper and what follows without it, where no word says so. A live medium is sealed, and menus of live systems ask for a
/// persistence that many a stick does not have. `kept`: what is kept is kept elsewhere, and the rest is lost.
fn defaults(live: bool, kept: bool) -> (Decided<Upper>, Decided<UpperFallback>) {
    let memory = || Decided::new(Upper::Ram { size: None, inodes: None }, format!("{DEFAULT} (ram)"));
    if live {
        return (memory(), Decided::new(UpperFallback::Ram, format!("{DEFAULT} (ram)")));
    }
    let fail = Decided::new(UpperFallback::Fail, format!("{DEFAULT} (fail)"));
    if kept {
        return (memory(), fail);
    }
    (Decided::new(Upper::Directory(UPPER_DIR.to_owned()), format!("{DEFAULT} (dir:{UPPER_DIR})")), fail)
}

/// Two that say which layers there are.
fn state_and_medium(word: &str, medium: &str) -> Note {
    let message = format!(
        "{word} without a value takes the layers of a layer state, and {medium} the images of a live medium; expected one of \
         them, or {word}=NAME:..., which names images of the medium"
    );
    Note { word: word.to_owned(), message }
}

fn unusable(request: &mut Request, note: Note) {
    request.root = Decided::new(Selector::Unusable(note.message.clone()), note.word.clone());
    request.problems.push(note);
}

/// The names of a list, the topmost first; else what is wrong with it.
pub(super) fn names_of(list: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = list.split(':').map(str::to_owned).collect();
    if names.len() > LAYERS_MAX {
        return Err(format!("{} layers are named; an overlay takes at most {LAYERS_MAX}", names.len()));
    }
    let mut seen = BTreeSet::new();
    for name in &names {
        let checked = if name == ITSELF { Ok(()) } else { names::check_layer(name) };
        checked.map_err(|why| format!("`{name}` is not a layer's name: {why}"))?;
        if !seen.insert(name) {
            return Err(format!("layer {name} is named twice"));
        }
    }
    Ok(names)
}

/// Options that `overlayflags=` may set: those that change how an overlay works, and not what it is made of.
fn is_flag(text: &str) -> bool {
    const FLAGS: [&str; 8] = ["index", "metacopy", "redirect_dir", "xino", "nfs_export", "uuid", "verity", "volatile"];
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    FLAGS.contains(&name) && value.bytes().all(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests;
