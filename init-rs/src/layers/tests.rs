//! The protocol as it goes, and states as they are written. Power cuts are simulated in `tests/src/layers/`.

use super::boot::{self, Disk};
use super::request::{self, Mounted};
use super::state::{Digest, Discard, Flags, Image, Kind, Past, TRIES, Trouble};
use super::steps::{self, Step, Wait};
use super::store::{Slot, StoreError};
use super::text::{self, StateError};
use super::{Files, Layer, Note, Phase, Places, Refusal, Stack, State, Store};
use crate::sys::System;
use crate::sys::linux::Linux;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;

fn digest(size: u64) -> Digest {
    Digest { size, sha256: [7; 32] }
}

fn start() -> State {
    let image = |size| Image { digest: digest(size), made: false };
    let images = BTreeMap::from([("site.sqsh".to_owned(), image(10)), ("base.sqsh".to_owned(), image(20))]);
    State::new(images, vec!["site.sqsh".to_owned(), "base.sqsh".to_owned()], Flags::portable()).unwrap()
}

/// A machine on which everything is there that a state names.
struct Machine {
    state: State,
    mounted: Mounted,
    notes: Vec<Note>,
}

impl Machine {
    fn new() -> Self {
        let state = start();
        let mounted = Mounted { stack: state.stack.clone(), ram: false };
        Self { state, mounted, notes: Vec::new() }
    }

    fn set(&mut self, new: State) {
        let generation = self.state.generation + 1;
        self.state = State { generation, ..new };
        self.state.check().unwrap();
        let text = text::render(&self.state);
        assert_eq!(text::parse(&text).unwrap(), self.state, "{}", String::from_utf8_lossy(&text));
        let (files, uppers) = (self.state.files(), self.state.uppers());
        for discard in &self.state.discards {
            match discard {
                Discard::Upper(number) => assert!(!uppers.contains(number), "upper {number} is referred to"),
                Discard::File(file, _) => assert!(!files.contains(file), "{file} is referred to"),
            }
        }
    }

    fn disk(&self) -> Disk {
        let files = self.state.images.iter().map(|(file, image)| (file.clone(), image.digest.size)).collect();
        Disk { files, uppers: self.state.uppers() }
    }

    fn boot(&mut self) {
        let entry = boot::enter(&self.state, &self.disk()).unwrap();
        self.mounted = Mounted { stack: entry.stack, ram: false };
        self.notes = entry.notes;
        if let Some(state) = entry.state {
            self.set(state);
        }
        assert_eq!(self.mounted.stack, self.state.stack);
    }

    /// The next step done; what is waited for, if it is none.
    fn step(&mut self) -> Option<Wait> {
        let state = &self.state;
        let new = match steps::next(state, &self.mounted) {
            Step::Wait(wait) => return Some(wait),
            Step::Remove(gone) => Some(steps::removed(state, &gone)),
            Step::Copy { file, .. } => steps::copied(state, &file),
            Step::Prepare { upper } => steps::prepared(state, upper),
            Step::Begin { file } => steps::begun(state, &file),
            Step::Build { file, number, .. } => steps::verified(state, &file, number, digest(number)),
            Step::Publish { file, .. } => steps::published(state, &file),
        };
        self.set(new.expect("a step that is offered can be done"));
        None
    }

    fn run(&mut self) -> Wait {
        (0..50).find_map(|_| self.step()).expect("the steps end")
    }

    fn ask(&mut self, new: Result<State, Refusal>) {
        self.set(new.unwrap());
    }

    fn commit(&mut self, file: &str) {
        self.ask(request::commit(&self.state, &self.mounted, file, 0));
    }

    fn layers(&self) -> String {
        self.state.stack.layers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    /// Something, by two numbers.
    fn anything(&mut self, what: u8, which: u8) {
        let (state, mounted) = (&self.state, &self.mounted);
        let name =
            |state: &State| state.operations.get(usize::from(which) % 4).map_or("none", |op| op.name()).to_owned();
        let past = state.pasts.get(usize::from(which) % 4).map(|past| past.number);
        let file = format!("l{}-{which}.sqsh", state.generation);
        let new = match what % 12 {
            0 => request::commit(state, mounted, &file, u16::from(which % 3)).ok(),
            1 => request::merge(state, mounted, &file, usize::from(which % 4)).ok(),
            2 => request::rollback(state, mounted, past).ok(),
            3 => request::withdraw(state, &name(state)).ok(),
            4 => request::retry(state, &name(state)).ok(),
            5 => past.and_then(|number| request::forget(state, number).ok()),
            6 => request::confirm(state, mounted),
            7 => steps::failed(state, &name(state), Trouble::space("no\nroom ")),
            8 => {
                self.mounted.ram = true;
                request::commit(&self.state, &self.mounted, &file, 0).ok()
            }
            9 => {
                self.boot();
                None
            }
            10 => boot::give_up(state, "why").and_then(|entry| {
                self.mounted.stack = entry.stack;
                entry.state
            }),
            _ => {
                self.step();
                None
            }
        };
        if let Some(new) = new {
            self.set(new);
        }
    }
}

#[test]
fn a_commit_needs_one_reboot_and_is_taken_by_the_next() {
    let mut machine = Machine::new();
    machine.commit("new.sqsh");
    assert_eq!(machine.run(), Wait::Boot, "nothing is touched before the reboot");
    assert_eq!(machine.layers(), "site.sqsh base.sqsh");
    machine.boot();
    assert_eq!((machine.layers().as_str(), machine.state.stack.upper), ("#1 site.sqsh base.sqsh", 2));
    assert_eq!(machine.notes, [Note::Sealed("new".into())]);
    assert_eq!(machine.run(), Wait::Boot);
    assert_eq!(machine.layers(), "#1 site.sqsh base.sqsh", "the running system's layers stay");
    machine.boot();
    assert_eq!((machine.layers().as_str(), machine.state.stack.upper), ("new.sqsh site.sqsh base.sqsh", 2));
    assert_eq!(machine.run(), Wait::Confirmation);
    assert!(machine.state.discards.is_empty(), "nothing goes before a good boot");
    let confirmed = request::confirm(&machine.state, &machine.mounted).unwrap();
    assert_eq!(confirmed.discards, [Discard::Upper(1)]);
    machine.set(confirmed);
    assert_eq!(machine.state.pasts, [Past { number: 1, upper: None, layers: start().stack.layers }]);
    assert_eq!(machine.run(), Wait::Idle);
    assert!(machine.state.operations.is_empty() && machine.state.discards.is_empty());
    let generation = machine.state.generation;
    machine.boot();
    assert_eq!(machine.state.generation, generation, "an ordinary boot writes nothing");
}

#[test]
fn a_trial_that_nobody_confirms_is_left_by_itself() {
    let mut machine = Machine::new();
    machine.commit("new.sqsh");
    machine.boot();
    machine.run();
    for _ in 0..TRIES {
        machine.boot();
        assert_eq!(machine.layers(), "new.sqsh site.sqsh base.sqsh");
    }
    machine.boot();
    assert_eq!(machine.layers(), "#1 site.sqsh base.sqsh");
    assert!(
        matches!(machine.notes.as_slice(), [Note::WentBack { names, .. }] if names == &["new"]),
        "{:?}",
        machine.notes
    );
    assert_eq!(machine.run(), Wait::Person("new".into()));
    assert!(request::confirm(&machine.state, &machine.mounted).is_none());
    machine.ask(request::retry(&machine.state, "new"));
    machine.run();
    machine.boot();
    assert_eq!(machine.layers(), "new.sqsh site.sqsh base.sqsh");
    // A file that is gone is not tried again.
    let mut disk = machine.disk();
    disk.files.insert("new.sqsh".into(), 1);
    let entry = boot::enter(&machine.state, &disk).unwrap();
    assert_eq!(entry.stack.layers.first(), Some(&Layer::Frozen(1)));
    // Nor is anything booted whose layers are not there.
    disk.files.remove("base.sqsh");
    assert_eq!(boot::enter(&machine.state, &disk).unwrap_err().lacking, ["base.sqsh"]);
}

#[test]
fn commits_stack_up_to_a_limit() {
    let mut machine = Machine::new();
    for number in 0..8 {
        machine.commit(&format!("l{number}.sqsh"));
        let second = request::commit(&machine.state, &machine.mounted, "other.sqsh", 0);
        assert!(matches!(second, Err(Refusal::Waiting(_))), "one for each boot");
        machine.boot();
    }
    assert_eq!(machine.state.frozen(), 8);
    let refused = request::commit(&machine.state, &machine.mounted, "l8.sqsh", 0);
    assert!(matches!(refused, Err(Refusal::TooMany { .. })), "{refused:?}");
    let refused = request::merge(&machine.state, &machine.mounted, "m.sqsh", 2);
    assert!(matches!(refused, Err(Refusal::Unfinished(_))), "{refused:?}");
    machine.run();
    machine.boot();
    let names: Vec<String> = (0..8).rev().map(|number| format!("l{number}.sqsh")).collect();
    assert_eq!(machine.layers(), format!("{} site.sqsh base.sqsh", names.join(" ")));
    // What is withdrawn while it is tried stays sealed, and the others are tried again.
    machine.ask(request::withdraw(&machine.state, "l7"));
    machine.boot();
    assert!(machine.layers().starts_with("#8 l6.sqsh l5.sqsh"), "{}", machine.layers());
}

#[test]
fn merging_keeps_the_upper_and_given_images() {
    let mut machine = Machine::new();
    machine.ask(request::merge(&machine.state, &machine.mounted, "all.sqsh", 2));
    let building = machine.step().is_none().then(|| steps::next(&machine.state, &machine.mounted));
    assert!(matches!(building, Some(Step::Build { bottom: true, .. })), "{building:?}");
    machine.run();
    machine.boot();
    assert_eq!((machine.layers().as_str(), machine.state.stack.upper), ("all.sqsh", 1));
    machine.set(request::confirm(&machine.state, &machine.mounted).unwrap());
    assert_eq!(machine.run(), Wait::Idle);
    machine.ask(request::forget(&machine.state, 1));
    assert!(machine.state.discards.is_empty(), "what was given is never removed");
    assert_eq!(machine.state.images.len(), 1);
}

#[test]
fn going_back_sets_the_upper_aside() {
    let mut machine = Machine::new();
    machine.ask(request::rollback(&machine.state, &machine.mounted, None));
    machine.boot();
    assert_eq!(machine.state.stack.upper, 1, "the fresh upper is not prepared yet");
    assert_eq!(machine.run(), Wait::Boot);
    machine.boot();
    assert_eq!(machine.state.stack.upper, 2);
    machine.set(request::confirm(&machine.state, &machine.mounted).unwrap());
    machine.run();
    let past = Past { number: 1, upper: Some(1), layers: start().stack.layers };
    assert_eq!(machine.state.pasts, [past]);
    machine.ask(request::rollback(&machine.state, &machine.mounted, Some(1)));
    assert!(matches!(request::forget(&machine.state, 1), Err(Refusal::InUse(1))));
    machine.boot();
    assert_eq!(machine.state.stack.upper, 1, "what was set aside comes back");
    machine.set(request::confirm(&machine.state, &machine.mounted).unwrap());
    machine.run();
    assert_eq!(machine.state.pasts.len(), 1);
    assert!(machine.state.discards.is_empty());
    machine.ask(request::forget(&machine.state, 2));
    assert_eq!(machine.state.discards, [Discard::Upper(2)]);
}

#[test]
fn an_upper_in_ram_is_copied_and_only_in_its_own_boot() {
    let mut machine = Machine::new();
    machine.mounted.ram = true;
    machine.commit("new.sqsh");
    assert_eq!(machine.run(), Wait::Boot);
    assert_eq!((machine.layers().as_str(), machine.state.stack.upper), ("#2 #1 site.sqsh base.sqsh", 3));
    // A second one would not know what was deleted since the first.
    let second = request::commit(&machine.state, &machine.mounted, "other.sqsh", 0);
    assert_eq!(second, Err(Refusal::OtherLayers));
    machine.boot();
    assert_eq!(machine.layers(), "new.sqsh site.sqsh base.sqsh");
    machine.set(request::confirm(&machine.state, &machine.mounted).unwrap());
    machine.run();
    machine.mounted.ram = true;
    machine.commit("lost.sqsh");
    machine.boot();
    assert_eq!(machine.notes, [Note::LostWithRam("lost".into())]);
    assert!(machine.state.operations.is_empty());
}

#[test]
fn what_cannot_be_done_is_refused() {
    let machine = Machine::new();
    let commit = |state: &State, file: &str, below| request::commit(state, &machine.mounted, file, below);
    for file in ["a b.sqsh", "upper.sqsh", "../x.sqsh", "noending", "x.SQSH", "x.7"] {
        assert!(matches!(commit(&machine.state, file, 0), Err(Refusal::Name { .. })), "{file}");
    }
    assert!(matches!(commit(&machine.state, "site.erofs", 0), Err(Refusal::Taken(_))));
    assert!(matches!(commit(&machine.state, "new.sqsh", 3), Err(Refusal::Count { .. })));
    let mut redirected = machine.state.clone();
    redirected.flags.0.insert("redirect_dir".into(), "on".into());
    assert_eq!(commit(&redirected, "new.sqsh", 0), Err(Refusal::Flags("redirect_dir=on".into())));
    redirected.flags.0.remove("redirect_dir");
    assert_eq!(commit(&redirected, "new.sqsh", 0), Err(Refusal::Flags("redirect_dir=the kernel's default".into())));
    let elsewhere = Mounted { stack: Stack { upper: 9, ..machine.state.stack.clone() }, ram: false };
    assert_eq!(request::commit(&machine.state, &elsewhere, "new.sqsh", 0), Err(Refusal::OtherLayers));
    let one = request::merge(&machine.state, &machine.mounted, "m.sqsh", 1);
    assert!(matches!(one, Err(Refusal::Count { least: 2, .. })), "{one:?}");
    assert!(matches!(request::withdraw(&machine.state, "x"), Err(Refusal::Unknown(_))));
}

#[test]
fn what_is_live_is_not_built_from() {
    let mut machine = Machine::new();
    machine.commit("new.sqsh");
    let before = machine.mounted.clone();
    machine.boot();
    // As if that boot's state had not been written, and its upper were still the one of before.
    assert_eq!(steps::next(&machine.state, &before), Step::Wait(Wait::Boot));
    assert!(matches!(steps::next(&machine.state, &machine.mounted), Step::Begin { .. }));
}

fn walked(choices: &[(u8, u8)]) -> State {
    let mut machine = Machine::new();
    for (what, which) in choices {
        machine.anything(*what, *which);
    }
    machine.state
}

proptest! {
    /// Whatever is asked and done in whatever order, the state fits together, reads back the same, and removes nothing it names.
    #[test]
    fn states_fit_together(choices in prop::collection::vec(any::<(u8, u8)>(), 0..80)) {
        walked(&choices);
    }

    #[test]
    fn what_was_not_written_whole_is_noticed(choices in prop::collection::vec(any::<(u8, u8)>(), 0..30), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let bytes = text::render(&walked(&choices));
        let at = at.index(bytes.len());
        prop_assert!(text::parse(&bytes[..at]).is_err());
        let mut changed = bytes.clone();
        changed[at] ^= 1 << bit;
        prop_assert!(text::parse(&changed).is_err());
        let longer = [bytes.as_slice(), b"\n"].concat();
        prop_assert_eq!(text::parse(&longer), Err(StateError::Sum));
    }

    #[test]
    fn any_bytes_are_a_state_or_not(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(text::parse(&bytes).is_err());
    }
}

#[test]
fn a_state_that_cannot_be_is_none() {
    let good = start();
    let broken = |change: &dyn Fn(&mut State)| {
        let mut state = good.clone();
        change(&mut state);
        matches!(text::parse(&text::render(&state)), Err(StateError::Inconsistent(_)))
    };
    assert!(broken(&|state| state.stack.layers.clear()));
    assert!(broken(&|state| state.stack.upper = 2));
    assert!(broken(&|state| state.stack.layers.push(Layer::Image("x.sqsh".into()))));
    assert!(broken(&|state| state.stack.layers.push(Layer::Image("base.sqsh".into()))));
    assert!(broken(&|state| state.stack.layers.push(Layer::Frozen(1))));
    let operation = |kind, phase| super::Operation { kind, phase, sources: Vec::new(), trouble: None };
    let merge = |file: &str| Kind::Merge { file: file.into() };
    assert!(broken(&|state| state.operations.push(operation(merge("m.sqsh"), Phase::Ready))));
    assert!(broken(&|state| state.operations.push(operation(merge("../m.sqsh"), Phase::Sealed))));
    assert!(broken(&|state| state.operations = vec![operation(merge("m.sqsh"), Phase::Sealed); 2]));
    assert!(broken(&|state| state.operations = vec![operation(merge("m.sqsh"), Phase::Done); 17]));
    let later = b"taproot-layers-state 2\n";
    assert!(matches!(text::parse(later), Err(StateError::Header(_))));
}

#[test]
fn on_a_real_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let (linux, places) =
        (Linux::new(), Places { state: dir.path().join(".layers"), images: vec![dir.path().to_owned()] });
    let files: &dyn System = &linux;
    fs::create_dir(&places.state).unwrap();
    let store = Store::new(&files, &places);
    assert!(store.load().unwrap().is_none() && store.look().unwrap().is_none());
    let enter = || {
        let seen = store.look().unwrap().unwrap();
        Ok(store.enter(&seen.loaded, boot::enter(&seen.loaded.state, &seen.disk)?))
    };
    fs::write(dir.path().join("site.sqsh"), [0; 10]).unwrap();
    fs::write(dir.path().join("base.sqsh"), [0; 20]).unwrap();
    store.write(None, &start()).unwrap();
    let missing: Result<_, boot::Broken> = enter();
    let missing = missing.unwrap_err();
    assert!(missing.to_string().contains("upper 1"), "{missing}");
    store.make_upper(1).unwrap();
    let mounted = Mounted { stack: start().stack, ram: false };
    let asked = store.update(|state| request::commit(state, &mounted, "new.sqsh", 0).ok()).unwrap();
    assert_eq!(asked.unwrap().generation, 1);
    let entered = enter().unwrap();
    assert_eq!((entered.stack.upper, entered.state.generation), (2, 2));
    assert!(places.upper(2).join("work").is_dir());
    // It goes bad: its copy says the same. That is not written to before there is another.
    fs::write(places.state.join("state"), "x").unwrap();
    let loaded = store.load().unwrap().unwrap();
    assert_eq!((loaded.state, loaded.from), (entered.state, Slot::Previous));
    assert_eq!(enter().unwrap().stack.upper, 2);
    fs::create_dir(places.state.join("state.new")).unwrap();
    assert!(store.update(|state| Some(state.clone())).is_err());
    assert_eq!(store.load().unwrap().unwrap().state.generation, 2);
    fs::remove_dir(places.state.join("state.new")).unwrap();
    store.update(|state| Some(state.clone())).unwrap();
    fs::write(places.state.join("state"), "x").unwrap();
    assert_eq!(store.load().unwrap().unwrap().state.generation, 3);
    fs::write(places.state.join("state"), "x").unwrap();
    fs::write(places.state.join("state.prev"), "y").unwrap();
    assert!(matches!(store.load(), Err(StoreError::Unreadable { .. })));
    assert_eq!(files.size(dir.path()).unwrap(), None);
}
