//! Simulated power cuts of everything that layers go through: a machine with a disk that loses what was not synced, somebody who
//! writes files, commits, merges and goes back, and boots that fail. After each cut the next boot must find a state, layers that are
//! whole, and every file that was durable; in the end all operations must be done, and nothing be left over.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a model's mistake ends the run that shows it")]

mod boots;
pub mod disk;
pub mod story;
#[cfg(test)]
mod tests;
mod watch;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use taproot_init::layers::request::{self, Mounted};
use taproot_init::layers::state::{Flags, Image, Kind};
use taproot_init::layers::store::Loaded;
use taproot_init::layers::{Files as _, Layer, Places, Stack, State, Store, run};

use crate::sim::prng::Prng;
use disk::{Disk, Loss};
use story::{Act, Cuts};
use watch::Watch;
use work::{Companion, Content};

/// Boots in a row that a machine may need to get everything done.
const ROUNDS: usize = 24;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What must not be.
    pub broken: Vec<String>,
    /// What was going on when the power failed, and how often it was that.
    pub cuts: BTreeMap<String, u64>,
    /// Everything that happened, in words.
    pub told: Vec<String>,
    /// Changes of the disk until the end of the story.
    pub changes: u64,
    /// How many losses one cut could bring, if they are numbered.
    pub losses: u64,
}

/// A machine.
#[derive(Debug)]
struct World {
    disk: Disk,
    places: Places,
    prng: Prng,
    cuts: Cuts,
    loss: Loss,
    mounted: Mounted,
    ram: Content,
    stage: &'static str,
    watch: Watch,
    number: u32,
    out: Outcome,
    calm: bool,
}

/// Runs the story of a seed.
pub fn run(seed: u64) -> Outcome {
    let mut prng = Prng::new(seed);
    let acts = story::random(&mut prng);
    let loss = Loss::Random(Prng::new(prng.number()));
    World::new(prng, Cuts::Random, loss).play(&acts)
}

/// Runs a story in which the power fails once, before the change of this number, and brings the loss of this number.
pub fn run_with_cut(acts: &[Act], change: u64, loss: u64) -> Outcome {
    let loss = Loss::Numbered { rest: loss, of: 1 };
    World::new(Prng::new(change), Cuts::At(change), loss).play(acts)
}

/// A story with a cut before each of its changes, and of each cut at most `most` of the losses that it can bring: how many runs that
/// were, and what was broken.
pub fn every_cut(acts: &[Act], most: u64) -> (u64, Vec<String>) {
    let (mut runs, mut broken) = (0, Vec::new());
    let whole = run_with_cut(acts, u64::MAX, 0);
    broken.extend(whole.broken);
    for change in 0..whole.changes {
        let mut loss = 0;
        loop {
            let outcome = run_with_cut(acts, change, loss);
            runs += 1;
            broken.extend(outcome.broken.iter().map(|line| format!("cut before change {change}, loss {loss}: {line}")));
            // Spread over all of them where there are many.
            loss += (outcome.losses / most).max(1);
            if loss >= outcome.losses {
                break;
            }
        }
    }
    (runs, broken)
}

impl World {
    fn new(prng: Prng, cuts: Cuts, loss: Loss) -> Self {
        let disk = Disk::default();
        let places = Places { state: PathBuf::from("/.layers"), images: vec![PathBuf::from("/images")] };
        let mounted = Mounted { stack: Stack { upper: 1, layers: Vec::new() }, ram: false };
        let calm = !matches!(cuts, Cuts::Random);
        let mut world = Self {
            disk,
            places,
            prng,
            cuts,
            loss,
            mounted,
            ram: Content::new(),
            stage: "",
            watch: Watch::default(),
            number: 0,
            out: Outcome::default(),
            calm,
        };
        world.install();
        world
    }

    /// Two layers, and an upper with a few files.
    fn install(&mut self) {
        let content = |files: &[(&str, &str)]| -> Content {
            files.iter().map(|(name, text)| ((*name).to_owned(), Some((*text).to_owned()))).collect()
        };
        let base = content(&[("machine-id", "none"), ("a", "base"), ("b", "base"), ("c", "base")]);
        let site = content(&[("b", "site"), ("d", "site")]);
        let mut images = BTreeMap::new();
        for path in ["/images", "/.layers/uppers/1/upper", "/.layers/uppers/1/work"] {
            self.disk.make_dirs(Path::new(path)).unwrap();
        }
        for (file, content) in [("base.sqsh", &base), ("site.sqsh", &site)] {
            let bytes = work::packed(content);
            self.disk.write(&self.places.new_image(file), &bytes).unwrap();
            images.insert(file.to_owned(), Image { digest: work::digest(&bytes), made: false });
        }
        let upper = content(&[("machine-id", "4711"), ("host-key", "secret"), ("e", "upper")]);
        work::fill(&self.disk, Path::new("/.layers/uppers/1/upper"), &upper).unwrap();
        let layers = vec!["site.sqsh".to_owned(), "base.sqsh".to_owned()];
        let state = State::new(images, layers, Flags::portable()).unwrap();
        self.mounted.stack = state.stack.clone();
        Store::new(&self.disk, &self.places).write(None, &state).unwrap();
        self.disk.sync_all();
        let view = work::view(&self.disk, &self.places, &self.mounted, &Content::new()).unwrap();
        self.watch.expect(view);
    }

    fn play(mut self, acts: &[Act]) -> Outcome {
        self.cuts.begin(&self.disk);
        self.boot(false);
        for act in acts {
            if !self.out.broken.is_empty() {
                return self.out;
            }
            self.cuts.arm(&self.disk, &mut self.prng);
            self.act(act);
            if self.disk.is_dead() {
                self.crash();
                self.boot(false);
            }
        }
        self.out.changes = self.disk.changes();
        self.cuts = Cuts::None;
        self.disk.set_fuse(None);
        self.disk.set_full(None);
        self.calm = true;
        self.finish();
        if let Loss::Numbered { of, .. } = self.loss {
            self.out.losses = of;
        }
        self.out
    }

    fn tell(&mut self, line: String) {
        self.out.told.push(line);
    }

    fn breach(&mut self, line: String) {
        self.out.told.push(format!("BROKEN: {line}"));
        self.out.broken.push(line);
    }

    fn load(&self) -> Option<Loaded> {
        Store::new(&self.disk, &self.places).load().ok().flatten()
    }

    fn state(&self) -> Option<State> {
        self.load().map(|loaded| loaded.state)
    }

    fn crash(&mut self) {
        self.disk.set_fuse(None);
        let was_dead = self.disk.is_dead();
        self.disk.crash(&mut self.loss);
        if was_dead {
            let stage = self.stage;
            *self.out.cuts.entry(format!("in {stage}")).or_default() += 1;
            let phases: BTreeSet<String> = self.state().iter().flat_map(State::pending).map(phase_name).collect();
            for phase in phases {
                *self.out.cuts.entry(phase).or_default() += 1;
            }
        }
        self.tell(format!("-- power cut, {}", self.stage));
        self.rot();
    }

    /// Now and then the state goes bad besides, where there is a copy of it, or another one.
    fn rot(&mut self) {
        if !matches!(self.cuts, Cuts::Random) || !self.prng.chance(4) {
            return;
        }
        let state = self.places.state.join("state");
        let spare = self.disk.read(&self.places.state.join("state.prev"), usize::MAX);
        let good = |bytes: &[u8]| taproot_init::layers::text::parse(bytes).map(|state| state.generation).ok();
        let before = spare.ok().and_then(|bytes| good(&bytes));
        let now = self.disk.read(&state, usize::MAX).ok().and_then(|bytes| good(&bytes));
        if before.is_some() && now.is_some() {
            let at = usize::try_from(self.prng.below(1 << 20)).unwrap();
            self.disk.rot(&state, at);
            self.watch.went_bad(before != now);
            *self.out.cuts.entry("and the state bad".to_owned()).or_default() += 1;
            self.tell("-- and the state is bad".to_owned());
        }
    }

    /// Boots until one gets as far as mounting.
    fn boot(&mut self, ram: bool) {
        if !self.calm && matches!(self.cuts, Cuts::Random) && self.prng.chance(5) {
            self.look();
        }
        loop {
            self.cuts.arm(&self.disk, &mut self.prng);
            if !self.calm && matches!(self.cuts, Cuts::Random) && self.prng.chance(3) {
                self.disk.set_full(Some(self.prng.below(10)));
            }
            self.stage = self.what_a_boot_does();
            let entered = self.enter(if ram { "taproot.layers taproot.upper=ram" } else { "taproot.layers" });
            self.disk.set_full(None);
            if self.disk.is_dead() {
                self.crash();
                continue;
            }
            let Some(mut entered) = self.entered(entered) else { return };
            if entered.state.trial.is_some() && !self.calm && self.prng.chance(5) {
                self.stage = "boot that gives up";
                let given_up = Store::new(&self.disk, &self.places).give_up("bad superblock");
                if self.disk.is_dead() {
                    self.crash();
                    continue;
                }
                match self.entered(given_up.map_err(|e| e.to_string())) {
                    Some(other) => entered = other,
                    None => return,
                }
            }
            self.mounted = Mounted { stack: entered.stack.clone(), ram };
            self.ram = Content::new();
            self.check(&entered);
            return;
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Reboot { ram } => {
                self.disk.sync_all();
                self.watch.all_durable();
                self.tell("reboot".to_owned());
                self.boot(*ram);
            }
            Act::PowerOff => {
                self.stage = "nothing";
                self.crash();
                self.boot(false);
            }
            Act::Write { name, synced } => self.write(name, *synced),
            Act::Delete { name } => self.delete(name),
            Act::Run => self.run_companion(),
            Act::Confirm => {
                let mounted = self.mounted.clone();
                self.ask("confirm", |state| request::confirm(state, &mounted));
            }
            _ => self.request(act),
        }
    }

    fn ask(&mut self, what: &'static str, change: impl FnOnce(&State) -> Option<State>) {
        self.stage = what;
        let done = Store::new(&self.disk, &self.places).update(change);
        self.tell(match done {
            Ok(Some(state)) => format!("{what}: generation {}", state.generation),
            Ok(None) => format!("{what}: no"),
            Err(e) => format!("{what}: {e}"),
        });
    }

    fn request(&mut self, act: &Act) {
        let mounted = self.mounted.clone();
        self.number += 1;
        let file = format!("l{}.sqsh", self.number);
        let pick = |state: &State, at: u64| {
            let names: Vec<String> = state.pending().map(|operation| operation.name().to_owned()).collect();
            names.get(usize::try_from(at).unwrap() % names.len().max(1)).cloned()
        };
        let past = |state: &State, at: u64| {
            let at = usize::try_from(at).unwrap() % (state.pasts.len() + 1);
            state.pasts.get(at).map(|past| past.number)
        };
        match *act {
            Act::Commit { below } => self.ask("commit", |state| request::commit(state, &mounted, &file, below).ok()),
            Act::Merge { count } => self.ask("merge", |state| request::merge(state, &mounted, &file, count).ok()),
            Act::Rollback { at } => {
                self.ask("rollback", |state| request::rollback(state, &mounted, past(state, at)).ok());
            }
            Act::Withdraw { at } => self.ask("withdraw", |state| request::withdraw(state, &pick(state, at)?).ok()),
            Act::Retry { at } => self.ask("retry", |state| request::retry(state, &pick(state, at)?).ok()),
            Act::Forget { at } => self.ask("forget", |state| request::forget(state, past(state, at)?).ok()),
            _ => {}
        }
    }

    fn run_companion(&mut self) {
        let Self { disk, places, prng, mounted, ram, stage, calm, .. } = self;
        let (disk, places, mounted, ram, calm) = (&*disk, &*places, &*mounted, &*ram, *calm);
        let (copied, prepared, removed) = (false, None, Vec::new());
        let mut companion = Companion { disk, places, mounted, ram, prng, calm, stage, copied, prepared, removed };
        let store = Store::new(disk, places);
        let result = run::run(&store, &mut companion, mounted, true);
        self.watch.removed(&companion.removed);
        if let Some((upper, content)) = companion.prepared.take() {
            self.watch.prepared(upper, content);
        }
        if companion.copied {
            let view = companion.view();
            let state = store.load().ok().flatten().map(|loaded| loaded.state);
            if let Ok(view) = view {
                // Certain once the companion has gone on; possible if it has not.
                self.watch.ram_copied(
                    view,
                    state.filter(|_| result.is_ok()).map(|state| state.stack.upper),
                    &self.mounted,
                );
            } else {
                self.watch.ram_maybe();
            }
        }
        self.tell(match result {
            Ok(wait) => format!("companion: {wait:?}"),
            Err(e) => format!("companion: {e}"),
        });
    }

    /// Reboots until nothing is to be done any more, and looks whether all is done.
    fn finish(&mut self) {
        for _ in 0..ROUNDS {
            if !self.out.broken.is_empty() {
                return;
            }
            self.act(&Act::Reboot { ram: false });
            self.act(&Act::Confirm);
            self.ask("retry", retry_all);
            self.act(&Act::Run);
            if self.state().is_some_and(|state| state.operations.is_empty() && state.discards.is_empty()) {
                self.look_for_leftovers();
                return;
            }
        }
        let state =
            self.state().map(|state| String::from_utf8_lossy(&taproot_init::layers::text::render(&state)).into_owned());
        self.breach(format!("not done after {ROUNDS} boots: {}", state.unwrap_or_default()));
    }

    fn look_for_leftovers(&mut self) {
        let Some(state) = self.state() else { return };
        let images = self.disk.list(Path::new("/images")).unwrap_or_default();
        let given = ["base.sqsh", "site.sqsh"];
        for file in images.iter().filter(|file| !state.images.contains_key(*file) && !given.contains(&file.as_str())) {
            self.breach(format!("{file} is left over"));
        }
        let uppers = self.disk.list(&self.places.state.join("uppers")).unwrap_or_default();
        let named = uppers_of(&state);
        for number in uppers.iter().filter_map(|name| name.parse::<u32>().ok()) {
            // The next seal takes an upper that was made before the power failed.
            if !named.contains(&number) && number <= state.last_upper && !self.watch.ever_went_bad() {
                self.breach(format!("upper {number} is left over"));
            }
        }
    }
}

fn uppers_of(state: &State) -> BTreeSet<u32> {
    let lists = state.pasts.iter().flat_map(|past| &past.layers).chain(&state.stack.layers);
    let frozen = lists.filter_map(|layer| match layer {
        Layer::Frozen(number) => Some(*number),
        Layer::Image(_) => None,
    });
    frozen.chain(state.pasts.iter().filter_map(|past| past.upper)).chain([state.stack.upper]).collect()
}

/// Everything in trouble is tried again, but for rollbacks, which nobody wants any more.
fn retry_all(state: &State) -> Option<State> {
    let mut new = state.clone();
    for operation in state.pending().filter(|operation| operation.trouble.is_some()) {
        let name = operation.name();
        new =
            if operation.file().is_some() { request::retry(&new, name) } else { request::withdraw(&new, name) }.ok()?;
    }
    (new != *state).then_some(new)
}

fn phase_name(operation: &taproot_init::layers::Operation) -> String {
    let kind = match operation.kind {
        Kind::Commit { copy: Some(_), .. } => "commit from RAM",
        Kind::Commit { .. } => "commit",
        Kind::Merge { .. } => "merge",
        Kind::Rollback { .. } => "rollback",
    };
    format!("{kind} {}", operation.phase.name())
}
