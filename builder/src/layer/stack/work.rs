//! The steps of the running system, carried out with the tools of this room: what takes long, or needs more of a file system than
//! names.

use super::machine;
use super::running::Running;
use crate::layer::copy::{As, copy};
use crate::layer::exclude::{Exclusions, MACHINE};
use crate::layer::format::{Compression, Format};
use crate::layer::image;
use crate::layer::merge::{Rules, plan};
use crate::layer::node::Namespace;
use crate::layer::seal::{NoRoom, Order, prepare};
use crate::layer::tree::Source;
use crate::layer::workshop::Workshop;
use crate::output::Cleanup;
use crate::progress::Progress;
use anyhow::{Context as _, Result, bail};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::mount::MsFlags;
use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use taproot_init::hex::unhex;
use taproot_init::layers::request::{self, Mounted};
use taproot_init::layers::run::{Job, Work, run};
use taproot_init::layers::state::{Digest, Trouble};
use taproot_init::layers::steps::{Keep, Step, Wait, next};
use taproot_init::layers::{Places, State, Store};
use taproot_init::sys::System;
use taproot_init::sys::linux::Linux;

/// Whoever changes the state holds this.
const LOCK: &str = "lock";
/// Whoever carries out steps holds this.
const AT_WORK: &str = "work.lock";
/// Where images are made before they have a name, beside them.
const WORKSHOP: &str = "layers";
/// Where files that are kept are made.
const PART: &str = "part";
/// So often an upper in memory is copied anew because it changed meanwhile.
const COPIES: usize = 3;

/// How images are made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Of data; the format's default without.
    pub compression: Option<Compression>,
    /// Access control lists may be lost.
    pub drop_acls: bool,
    /// Processors to use.
    pub jobs: Option<usize>,
    /// No time is later.
    pub epoch: Option<u64>,
}

/// Holds the state, until it is dropped.
pub fn lock(places: &Places) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(places.state.join(LOCK))?;
    match file.lock() {
        // A file system without locks has none for others either.
        Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(file),
        other => other.map(|()| file),
    }
}

/// The file system of the state, writable for as long as this lives: under an upper in memory it is mounted read-only.
#[derive(Debug)]
pub struct Writable(Option<PathBuf>);

impl Writable {
    /// Makes it so.
    pub fn make(home: &Path) -> Result<Self> {
        let flags = statvfs(home).with_context(|| format!("{}: looking at it", home.display()))?.flags();
        if !flags.contains(FsFlags::ST_RDONLY) {
            return Ok(Self(None));
        }
        remount(home, MsFlags::empty()).with_context(|| {
            format!("{}: it is mounted read-only, and cannot be made writable to keep layers there", home.display())
        })?;
        Ok(Self(Some(home.to_owned())))
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        if let Some(home) = &self.0
            && let Err(e) = remount(home, MsFlags::MS_RDONLY)
        {
            eprintln!("note: {}: making it read-only again: {e}", home.display());
        }
    }
}

fn remount(home: &Path, flags: MsFlags) -> nix::Result<()> {
    let none = None::<&str>;
    nix::mount::mount(none, home, none, MsFlags::MS_REMOUNT | flags, none)
}

/// Goes on as far as it goes. `None` if there is no state, or somebody else is at it.
pub fn go_on(running: &Running, options: &Options, progress: &Progress, cleanup: &Cleanup) -> Result<Option<Wait>> {
    let places = &running.places;
    if !places.state.join("state").exists() && !places.state.join("state.prev").exists() {
        return Ok(None);
    }
    let _writable = Writable::make(running.home())?;
    let at_work = File::options().create(true).truncate(false).write(true).open(places.state.join(AT_WORK));
    let at_work = at_work.with_context(|| format!("{}: opening it", places.state.join(AT_WORK).display()))?;
    match at_work.try_lock() {
        Err(TryLockError::WouldBlock) => {
            progress.note("another taproot carries out what is under way");
            return Ok(None);
        }
        Err(TryLockError::Error(e)) if e.kind() != io::ErrorKind::Unsupported => {
            return Err(e).with_context(|| format!("{}: locking it", places.state.join(AT_WORK).display()));
        }
        _ => {}
    }
    let linux = Linux::new();
    let system: &dyn System = &linux;
    let store = Store::new(&system, places);
    // What an interrupted run left there goes, whatever became of its operation.
    drop(Workshop::open(&places.new_image(WORKSHOP), cleanup)?);
    let mut companion = Companion { running, options, progress, cleanup, proven: None };
    let mut fresh = true;
    loop {
        let Some(loaded) = store.load()? else { return Ok(None) };
        let mounted = running.mounted(&loaded.state);
        companion.settle_links(&mounted)?;
        let wait = run(&store, &mut companion, &mounted, fresh)?;
        fresh = false;
        // Something may have been asked for just now by somebody who saw that this runs.
        let now = store.load()?.map(|now| next(&now.state, &mounted));
        if now.is_none_or(|step| matches!(step, Step::Wait(_))) {
            return Ok(wait);
        }
    }
}

/// Calls this boot good; `None` if nothing was on trial.
pub fn confirm(running: &Running) -> Result<Option<State>> {
    let linux = Linux::new();
    let system: &dyn System = &linux;
    let store = Store::new(&system, &running.places);
    let Some(loaded) = store.load()? else { return Ok(None) };
    let mounted = running.mounted(&loaded.state);
    if request::confirm(&loaded.state, &mounted).is_none() {
        return Ok(None);
    }
    let _writable = Writable::make(running.home())?;
    let _held = lock(&running.places).with_context(|| format!("{}: locking it", running.places.state.display()))?;
    Ok(store.update(|state| request::confirm(state, &mounted))?)
}

/// Carries out steps.
struct Companion<'a> {
    running: &'a Running,
    options: &'a Options,
    progress: &'a Progress,
    cleanup: &'a Cleanup,
    /// An image that was read anew and compared, and what is in it.
    proven: Option<(PathBuf, Digest)>,
}

impl Companion<'_> {
    /// An upper that was adopted by a link gets its own place as soon as it is live no longer: whoever boots with a list of layers must
    /// not write to what is sealed.
    fn settle_links(&self, mounted: &Mounted) -> Result<()> {
        let uppers = self.running.places.state.join("uppers");
        for entry in fs::read_dir(&uppers).with_context(|| format!("{}: listing it", uppers.display()))?.flatten() {
            let path = entry.path();
            let live = entry.file_name().to_str() == Some(mounted.stack.upper.to_string().as_str());
            let Some(to) = fs::read_link(&path).ok().filter(|_| !live) else { continue };
            let there = uppers.join(&to);
            let swapped = renameat2(AT_FDCWD, &path, AT_FDCWD, &there, RenameFlags::RENAME_EXCHANGE);
            match swapped {
                Ok(()) => fs::remove_file(&there).with_context(|| format!("{}: removing it", there.display()))?,
                // Some file systems cannot; then it stays where it is.
                Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS) => {}
                Err(e) => {
                    return Err(e).with_context(|| format!("{}: moving it to {}", there.display(), path.display()));
                }
            }
            machine::sync(&uppers)?;
        }
        Ok(())
    }

    fn try_build(&mut self, job: &Job) -> Result<()> {
        let ending = job.file.rsplit_once('.').map_or("", |(_, ending)| ending);
        let format = Format::of_ending(ending)
            .with_context(|| format!("{}: expected .sqsh, .squashfs or .erofs at its end", job.file))?;
        let sources: Vec<Source> =
            job.sources.iter().map(|path| Source::open(path, Namespace::Trusted)).collect::<Result<_>>()?;
        let exclude = Exclusions::new(&MACHINE, &[], &[]);
        let planned = plan(&sources, Rules { complete: job.bottom, exclude: &exclude })?;
        let order = Order {
            target: self.running.places.new_image(&job.file),
            format,
            compression: self.options.compression.clone().unwrap_or_else(|| Compression::default_of(format)),
            jobs: self.options.jobs,
            epoch: self.options.epoch,
            drop_acls: self.options.drop_acls,
            tight: false,
            live: false,
            empty: true,
        };
        let prepared = prepare(planned, &sources, order)?;
        let workshop = Workshop::open(&self.running.places.new_image(WORKSHOP), self.cleanup)?;
        let (size, sha256) = prepared.build(workshop, self.progress)?.prove(self.progress)?.place(&job.to)?;
        let sha256 = unhex(&sha256).context("a checksum of 64 hexadecimal digits")?;
        self.proven = Some((job.to.clone(), Digest { size, sha256 }));
        Ok(())
    }

    fn try_copy(&self, into: &Path) -> Result<()> {
        let upper = self.running.upper()?;
        for _ in 0..COPIES {
            emptied(into)?;
            let sources = [Source::open(&upper, Namespace::Trusted)?];
            let planned = plan(&sources, Rules { complete: false, exclude: &Exclusions::none() })?;
            let copied = copy(&planned, &sources, into, As::Layer, self.progress);
            if copied.is_ok_and(|written| written.changed.is_empty()) {
                return machine::sync(into);
            }
            self.progress.note("files changed while the upper in memory was copied; it is copied again");
        }
        bail!(
            "the upper in memory changed each of {COPIES} times that it was copied; stop what writes to it, and try it again (taproot layer \
             retry)"
        )
    }

    fn try_keep(&self, keep: &Keep, places: &Places) -> Result<()> {
        let sealed: Vec<PathBuf> = keep.frozen.iter().map(|number| places.upper(*number).join("upper")).collect();
        if keep.live {
            return machine::copy_up(&sealed);
        }
        let part = places.state.join(PART);
        let linux = Linux::new();
        let system: &dyn System = &linux;
        let layers: Vec<PathBuf> = keep.sources.iter().map(|layer| places.layer(layer, &system)).collect();
        machine::add(&sealed, &layers, &places.upper(keep.upper).join("upper"), &part, self.progress)
    }
}

/// Trouble that waits for room if that is what lacked.
fn trouble(error: &anyhow::Error) -> Trouble {
    let full = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<NoRoom>().is_some()
            || cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::StorageFull)
            || cause.downcast_ref::<nix::errno::Errno>() == Some(&nix::errno::Errno::ENOSPC)
    };
    let text = format!("{error:#}");
    // The programs that write images say it in words alone.
    if error.chain().any(full) || text.contains("No space left on device") {
        Trouble::space(text)
    } else {
        Trouble::new(text)
    }
}

fn emptied(directory: &Path) -> Result<()> {
    let failed = || format!("{}: emptying it", directory.display());
    fs::remove_dir_all(directory).with_context(failed)?;
    fs::create_dir(directory).with_context(failed)
}

/// What is in a file.
pub fn digest(path: &Path, progress: &Progress) -> Result<Digest> {
    let size = fs::metadata(path).with_context(|| format!("{}: looking at it", path.display()))?.len();
    let (size, sum) = image::sum(path, |done| progress.part(&format!("reading {}", path.display()), done, size))?;
    Ok(Digest { size, sha256: *sum.bytes() })
}

impl Work for Companion<'_> {
    type Lock = File;

    fn lock(&mut self) -> io::Result<File> {
        lock(&self.running.places)
    }

    fn build(&mut self, job: &Job) -> Result<(), Trouble> {
        self.try_build(job).map_err(|error| trouble(&error))
    }

    /// It was read back and compared while what it was made of was at hand, before it got this name.
    fn verify(&mut self, job: &Job) -> Result<Digest, Trouble> {
        let proven = self
            .proven
            .take()
            .filter(|(path, digest)| *path == job.to && fs::metadata(path).is_ok_and(|meta| meta.len() == digest.size));
        proven.map(|(_, digest)| digest).ok_or_else(|| Trouble::new("expected an image that was compared, found none"))
    }

    fn digest(&mut self, path: &Path) -> io::Result<Digest> {
        digest(path, self.progress).map_err(io::Error::other)
    }

    fn copy(&mut self, into: &Path) -> Result<(), Trouble> {
        self.try_copy(into).map_err(|error| trouble(&error))
    }

    fn keep(&mut self, keep: &Keep, places: &Places) -> Result<(), Trouble> {
        self.try_keep(keep, places).map_err(|error| trouble(&error))
    }

    fn prepare(&mut self, upper: &Path) -> Result<(), Trouble> {
        let filled = emptied(upper).and_then(|()| machine::fill(upper, self.progress));
        filled.map_err(|error| trouble(&error))
    }

    fn remove_tree(&mut self, path: &Path) -> io::Result<()> {
        let or_none = |result: io::Result<()>| match result {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        match fs::read_link(path) {
            // It was adopted, and its file system could not move it.
            Ok(to) => {
                let there = path.parent().unwrap_or(path).join(to);
                for part in ["upper", "work"] {
                    or_none(fs::remove_dir_all(there.join(part)))?;
                }
                fs::remove_file(path)
            }
            Err(_) => or_none(fs::remove_dir_all(path)),
        }
    }

    fn tell(&mut self, step: &Step) {
        let text = match step {
            Step::Remove(list) => format!("removing {} that nothing needs any more", several(list.len())),
            Step::Copy { file, .. } => format!("copying the upper in memory, for {file}"),
            Step::Prepare { upper } => format!("making upper {upper}"),
            Step::Begin { file } | Step::Build { file, .. } => format!("building {file}"),
            Step::Publish { file, .. } => format!("giving {file} its name"),
            Step::Wait(_) => return,
        };
        self.progress.step(&text);
    }
}

fn several(count: usize) -> String {
    if count == 1 { "a thing".to_owned() } else { format!("{count} things") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_room_is_waited_for() {
        let room = NoRoom { target: "a".into(), needed: 2, free: 1, place: "/".into() };
        assert!(trouble(&anyhow::Error::from(room).context("building")).space);
        assert!(trouble(&io::Error::from(io::ErrorKind::StorageFull).into()).space);
        assert!(
            trouble(&anyhow::anyhow!("mksquashfs ended with 1: Write failed because No space left on device")).space
        );
        let other = trouble(&anyhow::anyhow!("squashfs cannot hold\naccess control lists"));
        assert!(!other.space && other.text == "squashfs cannot hold access control lists");
    }
}
