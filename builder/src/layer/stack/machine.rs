//! Files that belong to this machine: left out of the images of its uppers, and kept in its live upper.

use crate::layer::copy::{As, copy};
use crate::layer::exclude::{MACHINE, matching};
use crate::layer::merge::{Item, Plan};
use crate::layer::node::{Kind, Marks, Namespace, Node};
use crate::layer::tree::Source;
use crate::progress::Progress;
use anyhow::{Context as _, Result};
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use taproot_init::sys::detached;

/// Copies those of these sealed uppers up into the live one, through the overlay: those deleted since are not there to be copied.
/// What is mounted over the root is not in the way.
pub fn copy_up(sealed: &[PathBuf]) -> Result<()> {
    let root = detached::alone(Path::new("/")).context("/: looking below what is mounted on it")?;
    let paths: BTreeSet<PathBuf> = sealed.iter().flat_map(|upper| matching(upper, &MACHINE)).collect();
    for path in &paths {
        touch(&root, path).with_context(|| format!("/{}: keeping it in the live upper", path.display()))?;
    }
    // What stands for a place alone cannot be synced.
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
    let top = openat2(&root, ".", how).context("/: opening it")?;
    nix::unistd::syncfs(&top).context("/: syncing it")
}

/// A file of the root gets into the upper as soon as it is opened for writing, and what cannot be opened when a time of it is set to
/// what it is.
fn touch(root: &OwnedFd, path: &Path) -> Result<()> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let open = |flags: OFlag| {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).resolve(resolve);
        openat2(root, path, how).map(File::from)
    };
    let found = match open(OFlag::O_PATH) {
        // Deleted, or what leads there is another thing by now.
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR | nix::errno::Errno::ELOOP) => return Ok(()),
        found => found?,
    };
    let meta = found.metadata()?;
    if meta.is_file() {
        open(OFlag::O_WRONLY | OFlag::O_NONBLOCK)?.sync_all()?;
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    let directory = openat2(root, parent, how)?;
    let same = TimeSpec::new(meta.mtime(), meta.mtime_nsec());
    let name = path.file_name().unwrap_or_default();
    utimensat(&directory, name, &TimeSpec::UTIME_OMIT, &same, UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}

/// Copies those of sealed uppers into an upper that lies over them and is nowhere written to, where neither it nor one of the layers,
/// these uppers with the images between them, the topmost first, hides them. Each is there whole or not at all.
pub fn add(sealed: &[PathBuf], layers: &[PathBuf], upper: &Path, part: &Path, progress: &Progress) -> Result<()> {
    let layers: Vec<PathBuf> = [upper.to_owned()].into_iter().chain(layers.iter().cloned()).collect();
    let sources = layers.iter().map(|path| Source::open(path, Namespace::Trusted)).collect::<Result<Vec<_>>>()?;
    let paths: BTreeSet<PathBuf> = sealed.iter().flat_map(|upper| matching(upper, &MACHINE)).collect();
    for path in paths {
        let Some(at) = shown_by(&sources, &path)?.filter(|at| *at > 0) else { continue };
        let Some(source) = sources.get(at) else { continue };
        let plan = plan_of(source, std::slice::from_ref(&path))?;
        // Below what is there already, one whole piece is renamed into its place.
        let missing = |item: &&Item| fs::symlink_metadata(upper.join(&item.path)).is_err();
        let Some(first) = plan.items.iter().find(missing).map(|item| item.path.clone()) else { continue };
        let _ = fs::remove_dir_all(part);
        fs::create_dir_all(part).with_context(|| format!("{}: making it", part.display()))?;
        copy(&plan, std::slice::from_ref(source), part, As::Layer, progress)?;
        sync(part)?;
        put(&part.join(&first), &upper.join(&first))?;
    }
    let _ = fs::remove_dir_all(part);
    sync(upper)
}

/// Renames into a directory, which keeps its time.
fn put(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("{}: writing it", to.display());
    let parent = to.parent().unwrap_or(to);
    let meta = fs::metadata(parent).with_context(failed)?;
    fs::rename(from, to).with_context(failed)?;
    let before = TimeSpec::new(meta.mtime(), meta.mtime_nsec());
    utimensat(AT_FDCWD, parent, &TimeSpec::UTIME_OMIT, &before, UtimensatFlags::FollowSymlink).with_context(failed)
}

/// Copies those that the root shows into an empty upper.
pub fn fill(upper: &Path, progress: &Progress) -> Result<()> {
    let root = Source::open(Path::new("/"), Namespace::Trusted)?;
    let paths = matching(Path::new("/"), &MACHINE);
    let plan = plan_of(&root, &paths)?;
    copy(&plan, std::slice::from_ref(&root), upper, As::Layer, progress)?;
    sync(upper)
}

/// Everything on the file system of a directory.
pub(super) fn sync(directory: &Path) -> Result<()> {
    let failed = || format!("{}: syncing it", directory.display());
    let open = File::open(directory).with_context(failed)?;
    nix::unistd::syncfs(&open).with_context(failed)
}

/// Which of the layers, the topmost first, shows something at a path that is no directory; `None` if it is hidden or nowhere.
fn shown_by(sources: &[Source], path: &Path) -> Result<Option<usize>> {
    for (at, source) in sources.iter().enumerate() {
        match look(source, path)? {
            Look::There => return Ok(Some(at)),
            Look::Hidden => return Ok(None),
            Look::Below => {}
        }
    }
    Ok(None)
}

/// What a layer says of a path.
enum Look {
    There,
    /// It is deleted, or what leads there hides what is below.
    Hidden,
    /// Nothing.
    Below,
}

fn look(source: &Source, path: &Path) -> Result<Look> {
    let mut above = PathBuf::new();
    let mut of = source.node(&above)?;
    let mut hides = false;
    for part in path {
        let Some(node) = source.children(&above, &of)?.remove(part) else {
            return Ok(if hides { Look::Hidden } else { Look::Below });
        };
        above.push(part);
        if above == path {
            return Ok(if node.kind == Kind::Whiteout || node.is_dir() { Look::Hidden } else { Look::There });
        }
        if !node.is_dir() {
            return Ok(Look::Hidden);
        }
        hides |= node.marks.opaque;
        of = node;
    }
    Ok(Look::Hidden)
}

/// These files of a layer, with the directories that lead to them.
fn plan_of(source: &Source, paths: &[PathBuf]) -> Result<Plan> {
    let mut wanted = BTreeSet::new();
    for path in paths {
        wanted.extend(path.ancestors().map(Path::to_owned));
    }
    wanted.insert(PathBuf::new());
    let mut items = Vec::new();
    for path in wanted {
        let node: Node = source.node(&path)?;
        // A directory of the sealed upper may hide those below it; the copy is above the sealed upper.
        items.push(Item { path, node: Node { marks: Marks::default(), ..node }, source: 0, link_to: None });
    }
    Ok(Plan { items, complete: false, excluded: Vec::new(), foreign: Vec::new() })
}
