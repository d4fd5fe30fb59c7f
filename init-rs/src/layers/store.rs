//! Where layers lie, and how their state is read and written: there is always one that can be read, whenever the power fails.

use super::boot::{self, Disk, Entry, Note};
use super::state::{Discard, Layer, Stack, State, temporary};
use super::text::{self, MAX_BYTES, StateError};
use crate::sys::{FileKind, System};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What a store needs of a file system.
pub trait Files {
    /// The first `limit` bytes of a file.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;
    /// Makes the file, or empties it, and writes all of this.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// What was written to a file, or the names in a directory, are durable afterwards (`fsync(2)`).
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Renames within a directory; what is called `to` already is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// A directory with its parents; one that is there is fine.
    fn make_dirs(&self, path: &Path) -> io::Result<()>;
    /// Removes a file; one that is not there is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory; none if it is not there.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Bytes of a file; `None` if there is no file of that name.
    fn size(&self, path: &Path) -> io::Result<Option<u64>>;
}

/// `Ok` with this if there is nothing of that name.
fn or_none<T>(result: io::Result<T>, none: T) -> io::Result<T> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(none),
        result => result,
    }
}

impl Files for &dyn System {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        System::read(*self, path, limit)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        System::write(*self, path, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        System::sync(*self, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        System::rename(*self, from, to)
    }

    fn make_dirs(&self, path: &Path) -> io::Result<()> {
        System::make_dirs(*self, path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        or_none(System::remove(*self, path), ())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        or_none(System::list(*self, path), Vec::new())
    }

    fn size(&self, path: &Path) -> io::Result<Option<u64>> {
        or_none(System::stat(*self, path).map(|info| (info.kind == FileKind::File).then_some(info.size)), None)
    }
}

/// Where the layers of a root lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The state's directory, `.layers` at the top of the file system that holds the uppers: `state`, and `uppers/N/{upper,work}`.
    pub state: PathBuf,
    /// Directories that are searched for images, in this order. New ones go to the first.
    pub images: Vec<PathBuf>,
}

impl Places {
    /// `uppers/N`, in which `upper` and `work` lie.
    pub fn upper(&self, number: u32) -> PathBuf {
        self.state.join("uppers").join(number.to_string())
    }

    /// Where an image of this name is put.
    pub fn new_image(&self, file: &str) -> PathBuf {
        self.images.first().unwrap_or(&self.state).join(file)
    }

    /// Where an image is written before it has its name.
    pub fn temporary(&self, file: &str, number: u64) -> PathBuf {
        self.new_image(&temporary(file, number))
    }

    /// Where a layer lies; an image that is not there is expected where new ones are put.
    pub fn layer(&self, layer: &Layer, files: &dyn Files) -> PathBuf {
        match layer {
            Layer::Frozen(number) => self.upper(*number).join("upper"),
            Layer::Image(file) => {
                let mut places = self.images.iter().map(|place| place.join(file));
                places.find(|path| matches!(files.size(path), Ok(Some(_)))).unwrap_or_else(|| self.new_image(file))
            }
        }
    }
}

/// Why a state cannot be had, or is not written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading or writing failed.
    #[error("{what} {path}: {error}", path = .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// How it ended.
        error: io::Error,
    },
    /// A state file is there, and none that can be read.
    #[error("{path}: {error}; its copy cannot be read either", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: StateError,
    },
    /// The next state would be none that can be read.
    #[error("the layer state is left as it is, because the next one does not fit together: {0}")]
    Inconsistent(String),
}

/// A state that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The state.
    pub state: State,
    /// Where it stands.
    pub from: Slot,
}

/// One of the files that hold a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// `state`, the newest.
    State,
    /// `state.new`, while it is written. Read only if `state` cannot be.
    New,
    /// `state.prev`, the copy. Read only if `state` cannot be.
    Previous,
}

/// What a boot decides from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The newest state.
    pub loaded: Loaded,
    /// What is there of what it names.
    pub disk: Disk,
}

/// What a boot mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// The state that holds now.
    pub state: State,
    /// Upper and layers.
    pub stack: Stack,
    /// For the log and the console.
    pub notes: Vec<Note>,
}

/// What the state that was lost after `before` may have begun does not get in the way of `new`: it may have numbered two uppers, and
/// put something there, and begun an image.
fn after_loss(before: &State, new: &mut State) {
    if new.last_upper == before.last_upper {
        new.last_upper = new.last_upper.saturating_add(2);
    }
    let files = new.files();
    let begun = before.pending().filter_map(|operation| operation.file()).map(|file| temporary(file, new.generation));
    let left: Vec<Discard> = begun.filter(|file| !files.contains(file)).map(|file| Discard::File(file, None)).collect();
    new.discards.extend(left);
}

/// The state of the layers in their places.
#[derive(Clone, Copy)]
pub struct Store<'a> {
    files: &'a dyn Files,
    places: &'a Places,
}

impl std::fmt::Debug for Store<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("places", self.places).finish_non_exhaustive()
    }
}

impl<'a> Store<'a> {
    /// The store in these places.
    pub fn new(files: &'a dyn Files, places: &'a Places) -> Self {
        Self { files, places }
    }

    /// Its places.
    pub fn places(&self) -> &'a Places {
        self.places
    }

    /// What it goes through.
    pub fn files(&self) -> &'a dyn Files {
        self.files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.places.state.join(name)
    }

    pub(super) fn io<T>(what: &'static str, path: &Path, result: io::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| StoreError::Io { what, path: path.to_path_buf(), error })
    }

    fn read(&self, name: &str) -> Result<Option<Result<State, StateError>>, StoreError> {
        let path = self.path(name);
        match self.files.read(&path, MAX_BYTES + 1) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            read => Self::io("cannot read", &path, read).map(|bytes| Some(text::parse(&bytes))),
        }
    }

    /// The state that holds; `None` if there is none at all. The file `state` is replaced by one rename, so it counts if it is whole;
    /// only otherwise the two others do. The newer of these says the same, or what comes next; only if `state` went bad twice, with
    /// the power failing between, it is a write behind, and each write is one that can be done again.
    pub fn load(&self) -> Result<Option<Loaded>, StoreError> {
        let first = self.read("state");
        if let Ok(Some(Ok(state))) = first {
            return Ok(Some(Loaded { state, from: Slot::State }));
        }
        let spares = [("state.new", Slot::New), ("state.prev", Slot::Previous)];
        let spares = spares.map(|(name, from)| Some(Loaded { state: self.read(name).ok().flatten()?.ok()?, from }));
        if let Some(loaded) = spares.into_iter().flatten().max_by_key(|loaded| loaded.state.generation) {
            return Ok(Some(loaded));
        }
        match first? {
            Some(Err(error)) => Err(StoreError::Unreadable { path: self.path("state"), error }),
            _ => Ok(None),
        }
    }

    /// Writes a state, as the next generation behind `before`, durably and twice; what is given back holds then. Everything that it
    /// says must be durable already: the copy can be whole before the state is, and counts if that of now goes bad.
    pub fn write(&self, before: Option<&Loaded>, new: &State) -> Result<State, StoreError> {
        new.check().map_err(StoreError::Inconsistent)?;
        let mut new = new.clone();
        if let Some(before) = before {
            new.generation = before.state.generation.saturating_add(1);
            if before.from != Slot::State {
                after_loss(&before.state, &mut new);
            }
        }
        let from = before.map(|before| before.from);
        // What was read from there may be whole in memory alone.
        if from == Some(Slot::New) {
            let path = self.path("state.new");
            Self::io("cannot sync", &path, self.files.sync(&path))?;
        }
        // The copy may be the only good one: then it is written last. Nor is it written to before the other's name is durable.
        if matches!(from, Some(Slot::State | Slot::New)) {
            self.sync_names()?;
            self.write_copy(&new)?;
        }
        self.write_durably("state.new", &new)?;
        let (part, path) = (self.path("state.new"), self.path("state"));
        Self::io("cannot rename", &path, self.files.rename(&part, &path))?;
        self.sync_names()?;
        if from == Some(Slot::Previous) {
            self.write_copy(&new)?;
        }
        Ok(new)
    }

    fn write_durably(&self, name: &str, state: &State) -> Result<(), StoreError> {
        let path = self.path(name);
        Self::io("cannot write", &path, self.files.write(&path, &text::render(state)))?;
        Self::io("cannot sync", &path, self.files.sync(&path))
    }

    fn write_copy(&self, state: &State) -> Result<(), StoreError> {
        self.write_durably("state.prev", state)?;
        self.sync_names()
    }

    fn sync_names(&self) -> Result<(), StoreError> {
        Self::io("cannot sync", &self.places.state, self.files.sync(&self.places.state))
    }

    /// Reads the state, and writes what `change` makes of it; `None` from that leaves it. Whoever calls this in a system where others
    /// could holds a lock while it lasts.
    pub fn update(&self, change: impl FnOnce(&State) -> Option<State>) -> Result<Option<State>, StoreError> {
        let Some(before) = self.load()? else { return Ok(None) };
        match change(&before.state) {
            Some(new) => self.write(Some(&before), &new).map(Some),
            None => Ok(None),
        }
    }

    /// Makes `uppers/N`, durably.
    pub fn make_upper(&self, number: u32) -> Result<(), StoreError> {
        let upper = self.places.upper(number);
        for part in ["upper", "work"] {
            let path = upper.join(part);
            Self::io("cannot make", &path, self.files.make_dirs(&path))?;
        }
        for path in [upper.as_path(), &self.places.state.join("uppers"), &self.places.state] {
            Self::io("cannot sync", path, self.files.sync(path))?;
        }
        Ok(())
    }

    /// What of a state's images and uppers is there.
    pub fn survey(&self, state: &State) -> Result<Disk, StoreError> {
        let mut files = BTreeMap::new();
        for file in state.images.keys() {
            let path = self.places.layer(&Layer::Image(file.clone()), self.files);
            if let Some(size) = Self::io("cannot look at", &path, self.files.size(&path))? {
                files.insert(file.clone(), size);
            }
        }
        let uppers = self.places.state.join("uppers");
        let names = Self::io("cannot list", &uppers, self.files.list(&uppers))?;
        Ok(Disk { files, uppers: names.iter().filter_map(|name| name.parse().ok()).collect() })
    }

    /// What a boot decides from. `None` if there is no state.
    pub fn look(&self) -> Result<Option<Looked>, StoreError> {
        let Some(loaded) = self.load()? else { return Ok(None) };
        let disk = self.survey(&loaded.state)?;
        Ok(Some(Looked { loaded, disk }))
    }

    /// What a boot does when the stack on trial cannot be mounted. `None` if nothing is on trial.
    pub fn give_up(&self, why: &str) -> Result<Option<Entered>, StoreError> {
        let Some(loaded) = self.load()? else { return Ok(None) };
        Ok(boot::give_up(&loaded.state, why).map(|entry| self.enter(&loaded, entry)))
    }

    /// Does what a boot has decided: makes the upper and writes the state, durably; what is to be mounted then.
    pub fn enter(&self, loaded: &Loaded, entry: Entry) -> Entered {
        let mut notes = entry.notes;
        if loaded.from != Slot::State {
            notes.insert(0, Note::Older(loaded.state.generation));
        }
        let Some(state) = entry.state else {
            return Entered { state: loaded.state.clone(), stack: entry.stack, notes };
        };
        let made = entry.make.map_or(Ok(()), |number| self.make_upper(number));
        match made.and_then(|()| self.write(Some(loaded), &state)) {
            Ok(state) => Entered { state, stack: entry.stack, notes },
            Err(e) => {
                // It may have got its name before something failed. Then a boot that went by the one before would write to what is
                // sealed; and if the name is gone after the next power cut, that boot does the same again.
                if let Ok(Some(now)) = self.load()
                    && now.state.generation > loaded.state.generation
                {
                    notes.push(Note::NotWritten(e.to_string()));
                    return Entered { state: now.state, stack: entry.stack, notes };
                }
                let notes = vec![Note::NotWritten(e.to_string())];
                Entered { state: loaded.state.clone(), stack: entry.otherwise, notes }
            }
        }
    }
}
