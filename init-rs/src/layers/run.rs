//! The steps of the running system, one after another, until the next boot or a person is awaited.

use super::request::Mounted;
use super::state::{Digest, Discard, Layer, State, Trouble};
use super::steps::{self, Keep, Step, Wait};
use super::store::{Places, Store, StoreError};
use std::io;
use std::path::{Path, PathBuf};

/// An image to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The layer's file.
    pub file: String,
    /// Images and directories that become one, the topmost first.
    pub sources: Vec<PathBuf>,
    /// Nothing lies below these: what marks deleted files is left out.
    pub bottom: bool,
    /// Where it is written.
    pub to: PathBuf,
}

/// What takes long, or needs more of a file system than names: done by the companion.
pub trait Work {
    /// Held while a state is read and written.
    type Lock;
    /// Waits until no other process changes the state.
    fn lock(&mut self) -> io::Result<Self::Lock>;
    /// Writes an image. There is no file of its name.
    fn build(&mut self, job: &Job) -> Result<(), Trouble>;
    /// Reads an image back and compares it with what it was made of, entry by entry.
    fn verify(&mut self, job: &Job) -> Result<Digest, Trouble>;
    /// What is in a file.
    fn digest(&mut self, path: &Path) -> io::Result<Digest>;
    /// Copies the upper that is in RAM to a directory, durably. What an earlier try left there is replaced.
    fn copy(&mut self, into: &Path) -> Result<(), Trouble>;
    /// Keeps files that belong to this machine, where they are neither there nor marked as deleted there, each whole or not at all. All
    /// are durable then, those that were there before too: the image will not show what they cover.
    fn keep(&mut self, keep: &Keep, places: &Places) -> Result<(), Trouble>;
    /// Puts files that belong to this machine into the upper of a rollback, durably. What an earlier try left there is replaced.
    fn prepare(&mut self, upper: &Path) -> Result<(), Trouble>;
    /// Removes a directory with all that is in it; one that is not there is fine.
    fn remove_tree(&mut self, path: &Path) -> io::Result<()>;
    /// Told of each step before it is done.
    fn tell(&mut self, step: &Step);
}

/// Goes on as far as it goes in a system that runs on `mounted`. `None` if there is no state. To be called again after each request,
/// and at the start of each boot with `fresh`, which tries again what lacked room.
pub fn run<W: Work>(
    store: &Store<'_>,
    work: &mut W,
    mounted: &Mounted,
    fresh: bool,
) -> Result<Option<Wait>, StoreError> {
    let mut runner = Runner { store, work };
    let mut written = fresh && runner.update(steps::fresh_start)?;
    loop {
        let Some(loaded) = store.load()? else { return Ok(None) };
        let step = steps::next(&loaded.state, mounted);
        if let Step::Wait(wait) = step {
            return Ok(Some(wait));
        }
        if !written {
            // A write that was cut off may have left a copy that calls a step done. It is not while it is done again.
            written = runner.update(|state| Some(state.clone()))?;
            continue;
        }
        runner.work.tell(&step);
        runner.carry_out(step)?;
    }
}

struct Runner<'a, 'b, W> {
    store: &'a Store<'b>,
    work: &'a mut W,
}

impl<W: Work> Runner<'_, '_, W> {
    /// One step and its write. Meanwhile the operation may have been withdrawn: then there is nothing to write.
    fn carry_out(&mut self, step: Step) -> Result<(), StoreError> {
        match step {
            Step::Remove(discards) => {
                // Nothing goes before no copy of the state names it any more, whatever became of the write before.
                self.update(|state| Some(state.clone()))?;
                self.remove(&discards)?;
                self.update(|state| Some(steps::removed(state, &discards)))?;
            }
            Step::Copy { file, into, upper } => {
                self.store.make_upper(into)?;
                self.store.make_upper(upper)?;
                let done = self.work.copy(&self.store.places().upper(into).join("upper"));
                if self.in_trouble(&file, done)?.is_none() {
                    return Ok(());
                }
                self.update(|state| steps::copied(state, &file))?;
            }
            Step::Prepare { upper } => {
                self.store.make_upper(upper)?;
                let done = self.work.prepare(&self.store.places().upper(upper).join("upper"));
                match done {
                    Ok(()) => self.update(|state| steps::prepared(state, upper))?,
                    Err(trouble) => self.update(|state| steps::failed(state, "rollback", trouble))?,
                };
            }
            Step::Begin { file } => {
                self.update(|state| steps::begun(state, &file))?;
            }
            Step::Build { file, number, sources, bottom } => self.build(&file, number, &sources, bottom)?,
            Step::Publish { file, number, digest, keep } => self.publish(&file, number, digest, &keep)?,
            Step::Wait(_) => {}
        }
        Ok(())
    }

    /// Whether there was something to write.
    fn update(&mut self, change: impl FnOnce(&State) -> Option<State>) -> Result<bool, StoreError> {
        let lock = self.work.lock();
        let _held = Store::io("cannot lock", &self.store.places().state, lock)?;
        self.store.update(change).map(|new| new.is_some())
    }

    /// What a step gave; `None` if it was trouble, which is noted.
    fn in_trouble<T>(&mut self, file: &str, result: Result<T, Trouble>) -> Result<Option<T>, StoreError> {
        match result {
            Ok(done) => Ok(Some(done)),
            Err(trouble) => {
                let name = file.rsplit_once('.').map_or(file, |(name, _)| name);
                self.update(|state| steps::failed(state, name, trouble))?;
                Ok(None)
            }
        }
    }

    fn remove(&mut self, discards: &[Discard]) -> Result<(), StoreError> {
        let (places, files) = (self.store.places(), self.store.files());
        for discard in discards {
            let path = match discard {
                Discard::Upper(number) => places.upper(*number),
                Discard::File(file, _) => places.new_image(file),
            };
            let removed = match discard {
                Discard::Upper(_) => self.work.remove_tree(&path),
                Discard::File(_, Some(digest)) if !self.is(&path, digest)? => Ok(()),
                Discard::File(..) => files.remove(&path),
            };
            Store::io("cannot remove", &path, removed)?;
        }
        let uppers = places.state.join("uppers");
        Store::io("cannot sync", &uppers, files.sync(&uppers))?;
        self.sync_images()
    }

    /// Whether this is in the file of that name.
    fn is(&mut self, path: &Path, digest: &Digest) -> Result<bool, StoreError> {
        let size = Store::io("cannot look at", path, self.store.files().size(path))?;
        if size != Some(digest.size) {
            return Ok(false);
        }
        let found = self.work.digest(path);
        Ok(Store::io("cannot read", path, found)? == *digest)
    }

    fn sync_images(&self) -> Result<(), StoreError> {
        let images = self.store.places().new_image("");
        Store::io("cannot sync", &images, self.store.files().sync(&images))
    }

    fn build(&mut self, file: &str, number: u64, sources: &[Layer], bottom: bool) -> Result<(), StoreError> {
        let (places, files) = (self.store.places(), self.store.files());
        let to = places.temporary(file, number);
        Store::io("cannot remove", &to, files.remove(&to))?;
        let sources = sources.iter().map(|layer| places.layer(layer, files)).collect();
        let job = Job { file: file.to_owned(), sources, bottom, to };
        let built = self.work.build(&job);
        if self.in_trouble(file, built)?.is_none() {
            return Ok(());
        }
        Store::io("cannot sync", &job.to, files.sync(&job.to))?;
        self.sync_images()?;
        let seal = self.work.verify(&job);
        if let Some(digest) = self.in_trouble(file, seal)? {
            self.update(|state| steps::verified(state, file, number, digest))?;
        }
        Ok(())
    }

    fn publish(&mut self, file: &str, number: u64, digest: Digest, keep: &Keep) -> Result<(), StoreError> {
        let (places, files) = (self.store.places(), self.store.files());
        if !keep.frozen.is_empty() {
            let kept = self.work.keep(keep, places);
            if self.in_trouble(file, kept)?.is_none() {
                return Ok(());
            }
        }
        let (from, to) = (places.temporary(file, number), places.new_image(file));
        if Store::io("cannot look at", &to, files.size(&to))?.is_some() {
            if !self.is(&to, &digest)? {
                let text = format!("expected no file {}, found one that is not this layer: take it away", to.display());
                return self.in_trouble::<()>(file, Err(Trouble::new(text))).map(drop);
            }
            // The power failed between its name and the note of it, or a file system knows two names after one rename.
            Store::io("cannot remove", &from, files.remove(&from))?;
        } else if Store::io("cannot look at", &from, files.size(&from))? == Some(digest.size) {
            Store::io("cannot rename", &to, files.rename(&from, &to))?;
        } else {
            return self.update(|state| steps::lost(state, file)).map(drop);
        }
        self.sync_images()?;
        self.update(|state| steps::published(state, file)).map(drop)
    }
}
