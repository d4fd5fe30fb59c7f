//! Requests: looked at as far as that can be done before the reboot that they need, and noted in the state.

use super::running::{Live, Running};
use super::work::{Writable, digest, lock};
use crate::layer::exclude::{Exclusions, MACHINE};
use crate::layer::format::{Compression, Format};
use crate::layer::merge::{Plan, Rules, Totals, plan};
use crate::layer::node::Namespace;
use crate::layer::room::{Estimate, estimate};
use crate::layer::seal::NoRoom;
use crate::layer::tree::Source;
use crate::output::free;
use crate::progress::Progress;
use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use std::path::{Path, PathBuf};
use taproot_init::layers::request::{self, Mounted, Refusal};
use taproot_init::layers::{Layer, State, Store};
use taproot_init::plan::layers::LAYERS;
use taproot_init::plan::names::check_layer;
use taproot_init::sys::System;
use taproot_init::sys::linux::Linux;

/// So often files may go while the live upper is looked at.
const LOOKS: usize = 3;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The upper becomes a layer.
    Commit {
        /// Its name.
        name: String,
        /// How many layers below go into it too.
        with: u16,
        /// Type of its image; the first that can hold it without.
        format: Option<Format>,
    },
    /// The topmost layers become one.
    Merge {
        /// How many.
        count: usize,
        /// Its name.
        name: String,
        /// Type of its image.
        format: Option<Format>,
    },
    /// Back to a stack of the past, or to a fresh upper.
    Rollback(Option<u32>),
    /// An operation is not wanted any more.
    Withdraw(String),
    /// An operation that waits for a person is tried again.
    Retry(String),
    /// A stack of the past is not wanted any more.
    Forget(u32),
}

/// How it is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// Nothing is written.
    pub dry_run: bool,
    /// Although there may not be room.
    pub force: bool,
}

/// What was noted.
#[derive(Debug, Clone, Serialize)]
pub struct Noted {
    /// The image that comes of it.
    pub image: Option<PathBuf>,
    /// What goes into it, as far as it is known before the upper is sealed.
    pub totals: Option<Totals>,
    /// How much room it may take.
    pub estimate: Option<Estimate>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// The state's generation; `null` if nothing was written.
    pub generation: Option<u64>,
}

/// What goes into an image.
struct Content {
    file: String,
    totals: Totals,
    estimate: Estimate,
    note: Option<String>,
}

/// Notes it.
pub fn ask(running: &Running, ask: &Ask, how: How, progress: &Progress) -> Result<Noted> {
    let linux = Linux::new();
    let system: &dyn System = &linux;
    let store = Store::new(&system, &running.places);
    let loaded = store.load()?;
    let state = match &loaded {
        Some(loaded) => loaded.state.clone(),
        None if matches!(ask, Ask::Commit { .. } | Ask::Merge { .. } | Ask::Rollback(_)) => {
            progress.step("reading the layers, which this is the first state of");
            running.first_state(|path| digest(path, progress))?
        }
        None => bail!(
            "expected a layer state in {}, found none: nothing was ever asked for here (taproot layer commit NAME)",
            running.places.state.display()
        ),
    };
    let content = content(running, &state, ask, how, progress)?;
    let mounted = running.mounted(&state);
    // A system that was never asked before runs on what it runs on.
    let mounted = if loaded.is_none() { Mounted { stack: state.stack.clone(), ..mounted } } else { mounted };
    let file = content.as_ref().map(|content| content.file.clone());
    let change = |state: &State| changed(state, &mounted, ask, file.as_deref());
    let mut notes: Vec<String> = content.iter().filter_map(|content| content.note.clone()).collect();
    notes.extend(about_command_line(running));
    if let Ask::Rollback(to) = ask {
        let kernel = crate::initramfs::host::kernel().unwrap_or_default();
        let place = |layer: &Layer| match layer {
            Layer::Image(file) => Path::new(LAYERS).join(Path::new(file).file_stem().unwrap_or_default()),
            Layer::Frozen(number) => running.places.upper(*number).join("upper"),
        };
        notes.extend(about_modules(&kernel, Path::new("/"), &state, *to, place));
    }
    let mut answer = Noted {
        image: file.as_deref().map(|file| running.places.new_image(file)),
        totals: content.as_ref().map(|content| content.totals),
        estimate: content.as_ref().map(|content| content.estimate),
        notes,
        generation: None,
    };
    // Refusals come before anything is made.
    let first = change(&state)?;
    if how.dry_run {
        return Ok(answer);
    }
    let _writable = Writable::make(running.home())?;
    if loaded.is_none() {
        running.adopt_upper()?;
        let _held = lock(&running.places).with_context(|| format!("{}: locking it", running.places.state.display()))?;
        ensure!(store.load()?.is_none(), "somebody else has just written the first layer state; try it again");
        super::machine::sync(running.home())?;
        answer.generation = Some(store.write(None, &first)?.generation);
        return Ok(answer);
    }
    let _held = lock(&running.places).with_context(|| format!("{}: locking it", running.places.state.display()))?;
    let mut refusal = None;
    let written = store.update(|state| change(state).map_err(|why| refusal = Some(why)).ok())?;
    if let Some(why) = refusal {
        return Err(why.into());
    }
    answer.generation = written.map(|state| state.generation);
    Ok(answer)
}

/// The next state.
fn changed(state: &State, mounted: &Mounted, ask: &Ask, file: Option<&str>) -> Result<State, Refusal> {
    let file = file.unwrap_or_default();
    match ask {
        Ask::Commit { with, .. } => request::commit(state, mounted, file, *with),
        Ask::Merge { count, .. } => request::merge(state, mounted, file, *count),
        Ask::Rollback(to) => request::rollback(state, mounted, *to),
        Ask::Withdraw(name) => request::withdraw(state, name),
        Ask::Retry(name) => request::retry(state, name),
        Ask::Forget(number) => request::forget(state, *number),
    }
}

fn about_command_line(running: &Running) -> Option<String> {
    running.listed.then(|| {
        "the kernel command line lists layers, which goes over the state: write taproot.layers there, without a list, or the next boot does \
         nothing of this (GRUB: GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub)"
            .to_owned()
    })
}

/// A stack of the past need not have the modules of the kernel that runs, and that the boot loader may boot again. `place` says where a
/// layer is mounted; what is not mounted is not looked into.
fn about_modules(
    kernel: &str,
    root: &Path,
    state: &State,
    to: Option<u32>,
    place: impl Fn(&Layer) -> PathBuf,
) -> Option<String> {
    let has = |top: &Path| {
        ["usr/lib/modules", "lib/modules"].iter().any(|dir| top.join(dir).join(kernel).join("modules.dep").is_file())
    };
    let past = to.and_then(|number| state.pasts.iter().find(|past| past.number == number));
    let upper = past.and_then(|past| past.upper).map(Layer::Frozen);
    let layers = past.map_or(&state.stack.layers, |past| &past.layers);
    let may_have = |layer: &Layer| {
        let place = place(layer);
        !place.is_dir() || has(&place)
    };
    let lacks = has(root) && !upper.iter().chain(layers).any(may_have);
    lacks.then(|| {
        format!(
            "the stack that is gone back to has no modules of kernel {kernel}, which runs now: choose a kernel that it has in the boot \
             loader, or the next boot goes without modules"
        )
    })
}

/// Looks at what would go into the image.
fn content(running: &Running, state: &State, ask: &Ask, how: How, progress: &Progress) -> Result<Option<Content>> {
    let (name, format, sources) = match ask {
        Ask::Commit { name, with, format } => {
            ensure!(
                !running.volatile,
                "the upper is volatile (overlayflags=volatile): what it holds is lost with the power, and cannot be sealed"
            );
            let below = state.stack.layers.iter().take((*with).into());
            let below: Vec<PathBuf> = below.map(|layer| place(running, layer)).collect();
            (name, *format, [vec![running.upper()?], below].concat())
        }
        Ask::Merge { count, name, format } => {
            let layers = state.stack.layers.iter().take(*count);
            (name, *format, layers.map(|layer| place(running, layer)).collect())
        }
        _ => return Ok(None),
    };
    check_layer(name).map_err(|why| anyhow::anyhow!("{name:?} cannot be the name of a layer: {why}"))?;
    if let Some(taken) = running.taken(name) {
        bail!("there is {} already: take another name", taken.display());
    }
    if sources.is_empty() {
        // The request says how many there have to be.
        return Ok(Some(Content {
            file: format!("{name}.sqsh"),
            totals: Totals::default(),
            estimate: Estimate { image: 0, needed: 0 },
            note: None,
        }));
    }
    progress.step("looking at what goes into it");
    let commit = matches!(ask, Ask::Commit { .. });
    let bottom = !commit && sources.len() == state.stack.layers.len();
    let (sources, planned) = planned(&sources, bottom)?;
    let nothing = planned.items.len() <= 1;
    ensure!(
        !commit || !nothing,
        "there is nothing to commit: the upper holds no change but files that belong to this machine"
    );
    let (format, note) = fitting(format, &planned)?;
    let compression = Compression::default_of(format);
    let estimate = estimate(&planned, &sources, format, &compression);
    let file = format!("{name}.{}", format.ending());
    let free = free(running.home())?;
    if !how.force && estimate.needed > free {
        let (target, place) = (running.places.new_image(&file), running.home().to_owned());
        return Err(NoRoom { target, needed: estimate.needed, free, place }.into());
    }
    Ok(Some(Content { file, totals: planned.totals(), estimate, note }))
}

fn place(running: &Running, layer: &Layer) -> PathBuf {
    let linux = Linux::new();
    let system: &dyn System = &linux;
    running.places.layer(layer, &system)
}

/// What of the upper cannot be sealed is refused here, with its path: moved directories, files without their data.
fn planned(paths: &[PathBuf], complete: bool) -> Result<(Vec<Source>, Plan)> {
    let exclude = Exclusions::new(&MACHINE, &[], &[]);
    let mut tries = 0;
    loop {
        let look = || -> Result<(Vec<Source>, Plan)> {
            let sources: Vec<Source> =
                paths.iter().map(|path| Source::open(path, Namespace::Trusted)).collect::<Result<_>>()?;
            let planned = plan(&sources, Rules { complete, exclude: &exclude })?;
            Ok((sources, planned))
        };
        tries += 1;
        match look() {
            // It is live: a file that was listed may be gone.
            Err(error) if tries < LOOKS && is_gone(&error) => {}
            other => return other,
        }
    }
}

fn is_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound)
            || cause.downcast_ref::<nix::errno::Errno>() == Some(&nix::errno::Errno::ENOENT)
    })
}

/// The format that can hold it: squashfs unless something else is asked for, or there are access control lists.
fn fitting(format: Option<Format>, planned: &Plan) -> Result<(Format, Option<String>)> {
    let with = planned.items.iter().find(|item| item.node.has_acl()).map(|item| item.path.as_path());
    let shown = |path: &Path| format!("/{}", path.display());
    match (format, with) {
        (Some(Format::Squashfs), Some(path)) => bail!(
            "squashfs cannot hold access control lists, and {} has one; take erofs (--type erofs), or remove the list (setfacl -b)",
            shown(path)
        ),
        (Some(format), _) => Ok((format, None)),
        (None, None) => Ok((Format::Squashfs, None)),
        (None, Some(path)) => {
            let note = format!(
                "it will be erofs, because squashfs cannot hold access control lists, and {} has one",
                shown(path)
            );
            Ok((Format::Erofs, Some(note)))
        }
    }
}

impl Running {
    /// Whether the upper is in memory: what is committed of it is copied while it is written.
    pub fn in_memory(&self) -> bool {
        self.live == Live::Ram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;
    use taproot_init::layers::state::{Digest, Flags, Image, Past};

    #[test]
    fn a_stack_without_the_running_kernels_modules() {
        let dir = tempfile::tempdir().unwrap();
        let with = |top: &str| {
            fs::create_dir_all(dir.path().join(top).join("usr/lib/modules/6.1")).unwrap();
            fs::write(dir.path().join(top).join("usr/lib/modules/6.1/modules.dep"), "").unwrap();
        };
        with("root");
        with("upper");
        fs::create_dir(dir.path().join("base")).unwrap();
        let image = Image { digest: Digest { size: 1, sha256: [0; 32] }, made: false };
        let images = BTreeMap::from([("base.sqsh".to_owned(), image)]);
        let mut state = State::new(images, vec!["base.sqsh".to_owned()], Flags::portable()).unwrap();
        state.pasts.push(Past { number: 3, upper: Some(2), layers: state.stack.layers.clone() });
        let place = |layer: &Layer| match layer {
            Layer::Image(_) => dir.path().join("base"),
            Layer::Frozen(_) => dir.path().join("upper"),
        };
        let root = dir.path().join("root");
        let said = about_modules("6.1", &root, &state, None, place).unwrap();
        assert!(said.contains("has no modules of kernel 6.1, which runs now"), "{said}");
        assert_eq!(about_modules("6.1", &root, &state, Some(3), place), None, "its upper has them");
        assert_eq!(about_modules("6.2", &root, &state, None, place), None, "a kernel without modules");
        with("base");
        assert_eq!(about_modules("6.1", &root, &state, None, place), None);
        let nowhere = |_: &Layer| dir.path().join("not-mounted");
        assert_eq!(about_modules("6.1", &root, &state, None, nowhere), None);
    }
}
