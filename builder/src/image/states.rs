//! The tree on its way into the pool, state by state: where it comes from, what is changed of it, and the hooks in between.
//!
//! It stays a stream where nobody wants to see more of it. Hooks of the stages that are about the tree have it in a directory, and so
//! have states that build on each other by packages. What a state's installation and hooks before its configuration left there is what
//! the next state begins with; what comes after that is done to a copy.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

use super::config::sources::{Source, State};
use super::edit::{Edited, Edits, Report};
use super::ground::{Ground, Stream, filled};
use super::source::{self, packed, pacstrap};
use super::stages::Stages;
use crate::tar::{Entries, Entry, TarError};

/// The archive that a hook makes in the place of the source.
const ARCHIVE: &str = "root.tar";
const NO_SOURCE: &str = "expected a source, or a hook source.replace or install.replace, found none";

/// What states are made by.
#[derive(Debug)]
pub struct Recipe<'a> {
    /// Where the tree comes from; `None`: from a hook.
    pub source: Option<Source>,
    /// The states, the last one is what is booted. There is one at least.
    pub states: Vec<State>,
    /// All that is changed.
    pub edits: Edits,
    /// What is changed if a hook does the rest: what the image needs to boot.
    pub essential: Edits,
    /// The hooks, and what they are told.
    pub stages: Stages<'a>,
}

/// Makes one after the other.
#[derive(Debug)]
pub struct Maker<'a> {
    recipe: Recipe<'a>,
    /// The tree that states build on, or the copy that hooks look at.
    ground: Option<Ground>,
    /// A copy that the pool is written from.
    stale: Option<Ground>,
    /// Copies that were made of it, by number.
    copies: u32,
    installed: BTreeSet<String>,
    /// What was done to the last tree.
    pub report: Report,
    /// What there is to tell a person.
    pub notes: Vec<String>,
}

/// A tree as it goes into the pool.
#[derive(Debug)]
pub enum Ready {
    /// It is changed on its way.
    Edited(Box<Edited<Stream>>),
    /// It was changed before.
    Whole(Box<Stream>),
}

impl Entries for Ready {
    fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        match self {
            Ready::Edited(edited) => edited.next_entry(),
            Ready::Whole(stream) => stream.next_entry(),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        match self {
            Ready::Edited(edited) => edited.read(buffer),
            Ready::Whole(stream) => stream.read(buffer),
        }
    }
}

impl<'a> Maker<'a> {
    /// Refuses what cannot be; makes nothing.
    pub fn new(recipe: Recipe<'a>) -> Result<Self> {
        let mut names = BTreeSet::new();
        for state in &recipe.states {
            ensure!(names.insert(&state.name), "state {}: it is there twice, expected names that differ", state.name);
        }
        let by_packages = matches!(recipe.source, Some(Source::Pacstrap(_)));
        let replaced = recipe.stages.has("install.replace");
        ensure!(
            by_packages || replaced || recipe.states.iter().all(|state| state.packages.is_empty()),
            "packages of states are installed by pacstrap: expected source.pacstrap"
        );
        let maker = Self {
            recipe,
            ground: None,
            stale: None,
            copies: 0,
            installed: BTreeSet::new(),
            report: Report::default(),
            notes: Vec::new(),
        };
        let later = maker.recipe.states.get(1..).unwrap_or_default();
        ensure!(
            maker.on_disk() || later.iter().all(|state| state.tar.is_some()),
            "each state but the first is to say what it adds: tar = \"...\", packages for pacstrap, or a hook"
        );
        Ok(maker)
    }

    /// Whether states are made in a directory.
    fn on_disk(&self) -> bool {
        let hooks = ["install.", "configure.before"].iter().any(|start| self.recipe.stages.has(start));
        hooks || self.count() > 1 && !matches!(self.recipe.source, Some(Source::Tar(_)))
    }

    /// How many states there are.
    pub fn count(&self) -> usize {
        self.recipe.states.len()
    }

    fn run(&self, nth: usize, stage: &str, place: &str) -> Result<bool> {
        let name = self.recipe.states.get(nth).map(|state| state.name.clone()).unwrap_or_default();
        let mut stages = self.recipe.stages.with("TAPROOT_STATE", name);
        if let Some(ground) = &self.ground {
            stages = stages.at(ground.path());
        }
        stages.run(stage, place)
    }

    /// Makes state `nth`, after those before it.
    pub fn state(&mut self, nth: usize) -> Result<Ready> {
        if nth == 0 {
            self.source()?;
        }
        if let Some(before) = self.stale.take() {
            before.remove()?;
        }
        let stream = self.install(nth)?;
        self.report = Report::default();
        let hooks = self.recipe.stages.hooks.clone();
        let last = nth + 1 == self.count();
        let boots = last && ["initramfs.before", "boot.before"].iter().any(|name| hooks.has(name));
        let apart = ["configure.replace", "configure.after", "identity."].iter().any(|start| hooks.has(start));
        let edits = self.recipe.edits.clone();
        if !apart && !boots {
            return Ok(Ready::Edited(Box::new(Edited::new(stream, edits))));
        }
        let base = self.ground.take();
        let made = self.changed(nth, stream, edits, apart, boots);
        self.stale = std::mem::replace(&mut self.ground, base);
        made
    }

    /// The source: before anything is read of it.
    fn source(&mut self) -> Result<()> {
        let stages = &self.recipe.stages;
        stages.run("source", "before")?;
        if stages.run("source", "replace")? {
            let archive = stages.around.work.join(ARCHIVE);
            ensure!(archive.is_file(), "source.replace: expected an archive {ARCHIVE} in TAPROOT_WORK, found none");
            self.recipe.source = Some(Source::Tar(archive));
        }
        self.recipe.stages.run("source", "after").map(drop)
    }

    /// The tree of a state, as it is made or found.
    fn install(&mut self, nth: usize) -> Result<Stream> {
        if !self.on_disk() {
            return self.streamed(nth);
        }
        if self.ground.is_none() {
            self.ground = Some(Ground::at(self.recipe.stages.around.work.join("root"))?);
        }
        self.run(nth, "install", "before")?;
        if self.run(nth, "install", "replace")? {
            filled(self.ground.as_ref().context("a tree")?.path())?;
        } else {
            self.recipe.stages.progress.step(&format!("making the tree{}", self.named(nth)));
            self.installed(nth)?;
        }
        self.run(nth, "install", "after")?;
        self.run(nth, "configure", "before")?;
        self.ground.as_ref().context("a tree")?.stream()
    }

    fn named(&self, nth: usize) -> String {
        let state = self.recipe.states.get(nth).filter(|_| self.count() > 1);
        state.map(|state| format!(" of state {}", state.name)).unwrap_or_default()
    }

    /// The tree of a state without a directory: archives one over the other.
    fn streamed(&mut self, nth: usize) -> Result<Stream> {
        let time = self.recipe.edits.time;
        let own = self.recipe.states.iter().take(nth + 1).filter_map(|state| state.tar.clone());
        let mut archives: Vec<PathBuf> = own.collect();
        if let Some(Source::Tar(first)) = self.recipe.source.as_ref().filter(|_| !archives.is_empty()) {
            archives.insert(0, first.clone());
            return Ok(Stream::of(Box::new(packed::over(archives)?)));
        }
        let mut source = self.recipe.source.clone().context(NO_SOURCE)?;
        if let (Source::Pacstrap(asked), Some(state)) = (&mut source, self.recipe.states.get(nth)) {
            asked.packages.extend(state.packages.iter().cloned());
        }
        Ok(Stream::of(source::open(source, time)?))
    }

    /// Puts what a state brings into the directory.
    fn installed(&mut self, nth: usize) -> Result<()> {
        let state = self.recipe.states.get(nth).cloned().unwrap_or_default();
        let time = self.recipe.edits.time;
        let source = self.recipe.source.clone();
        let ground = self.ground.as_mut().context("a tree")?;
        let stream = match source {
            Some(Source::Pacstrap(mut asked)) => {
                if nth > 0 {
                    asked.packages.clear();
                    asked.trusted_keys.clear();
                }
                asked.packages.extend(state.packages);
                let told = pacstrap::install(&asked, ground.path(), &mut self.installed)?;
                self.notes.extend(told);
                None
            }
            _ if nth > 0 => None,
            Some(source) => Some(Stream::of(source::open(source, time)?)),
            None => bail!(NO_SOURCE),
        };
        let over = state.tar.as_deref().map(packed::open).transpose()?.map(Stream::of);
        for mut stream in stream.into_iter().chain(over) {
            ground.unpack(&mut stream)?;
            self.notes.append(&mut stream.notes);
        }
        Ok(())
    }

    /// Configures a copy of the tree, takes its identity away, and shows it to the hooks.
    fn changed(&mut self, nth: usize, stream: Stream, edits: Edits, apart: bool, boots: bool) -> Result<Ready> {
        let hooks = self.recipe.stages.hooks.clone();
        let (first, mut last) = edits.apart();
        let mut edited = if apart {
            let first = if hooks.has("configure.replace") { self.recipe.essential.clone() } else { first };
            let mut first = Edited::new(stream, first);
            self.copy(&mut first)?;
            self.told(first);
            let before = self.hostname();
            self.run(nth, "configure", "replace")?;
            self.run(nth, "configure", "after")?;
            self.run(nth, "identity", "before")?;
            let replaced = hooks.has("configure.replace");
            if let Some(name) = self.hostname().filter(|name| Some(name) != before.as_ref())
                && (replaced || last.hostname.is_none())
            {
                // A hook gave it one.
                last.hostname = Some(name);
            }
            if self.run(nth, "identity", "replace")? {
                last.identity = super::edit::Identity::Keep;
            }
            Edited::new(self.ground.as_ref().context("a tree")?.stream()?, last)
        } else {
            Edited::new(stream, self.recipe.edits.clone())
        };
        if !boots && !hooks.has("identity.after") {
            return Ok(Ready::Edited(Box::new(edited)));
        }
        self.copy(&mut edited)?;
        self.told(edited);
        self.run(nth, "identity", "after")?;
        if boots {
            self.run(nth, "initramfs", "before")?;
            self.run(nth, "boot", "before")?;
        }
        Ok(Ready::Whole(Box::new(self.ground.as_ref().context("a tree")?.stream()?)))
    }

    /// What the tree says is its name.
    fn hostname(&self) -> Option<String> {
        let text = fs::read_to_string(self.ground.as_ref()?.path().join("etc/hostname")).ok()?;
        Some(text.trim().to_owned()).filter(|name| !name.is_empty())
    }

    /// Unpacks a copy; the copy before it goes.
    fn copy(&mut self, edited: &mut Edited<Stream>) -> Result<()> {
        self.recipe.stages.progress.step("unpacking the tree for hooks");
        self.copies += 1;
        let mut ground = Ground::at(self.recipe.stages.around.work.join(format!("root.{}", self.copies)))?;
        ground.unpack(edited)?;
        if let Some(before) = self.ground.replace(ground) {
            before.remove()?;
        }
        Ok(())
    }

    fn told(&mut self, edited: Edited<Stream>) {
        let (report, stream) = edited.finish();
        self.report.then(report);
        self.notes.extend(stream.notes);
    }

    /// Takes back what was read to its end.
    pub fn done(&mut self, ready: Ready) {
        match ready {
            Ready::Edited(edited) => self.told(*edited),
            Ready::Whole(stream) => self.notes.extend(stream.notes),
        }
    }
}

/// A state that is made when its first entry is asked for: states build on each other.
#[derive(Debug)]
pub struct Later<'r, 'a> {
    maker: &'r RefCell<Maker<'a>>,
    nth: usize,
    ready: Option<Ready>,
    over: bool,
}

impl<'r, 'a> Later<'r, 'a> {
    /// State `nth`, made by and by.
    pub fn new(maker: &'r RefCell<Maker<'a>>, nth: usize) -> Self {
        Self { maker, nth, ready: None, over: false }
    }

    /// Makes it now: what is wrong is said in its own words.
    pub fn now(&mut self) -> Result<()> {
        self.ready = Some(self.maker.borrow_mut().state(self.nth)?);
        Ok(())
    }
}

impl Entries for Later<'_, '_> {
    fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut ready = match self.ready.take() {
            Some(ready) => ready,
            None if self.over => return Ok(None),
            None => {
                let made = self.maker.borrow_mut().state(self.nth);
                made.map_err(|error| io::Error::other(format!("{error:#}")))?
            }
        };
        let entry = ready.next_entry()?;
        if entry.is_some() {
            self.ready = Some(ready);
        } else {
            self.over = true;
            self.maker.borrow_mut().done(ready);
        }
        Ok(entry)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        match &mut self.ready {
            Some(ready) => ready.read(buffer),
            None => Err(TarError::Cut { inside: "a state".into() }),
        }
    }
}
