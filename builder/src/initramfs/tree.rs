//! The tree to pack, and the only way to its files: every link is followed inside it, only regular files are read, and none
//! without end. No other part of the packer learns where the tree is (a test of the sources keeps it so), so none can forget it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::kept::{Kept, Node};
use crate::tar::TarError;
use taproot_init::sys::beneath::resolve_here;

#[cfg(test)]
mod tests;

/// No text that is read is longer: `modules.alias` takes 1.4 MB.
pub const TEXT: u64 = 32 << 20;
/// No program, module or firmware file is longer.
pub const BINARY: u64 = 512 << 20;
/// No directory that is listed has more entries.
const MAX_ENTRIES: usize = 100_000;
/// `PATH_MAX`; an index can name anything.
const MAX_PATH: usize = 4096;

/// Where distributions keep the modules of their kernels: those with and without merged `/usr`, and NixOS running or not.
const MODULES: [&str; 4] = [
    "/lib/modules",
    "/usr/lib/modules",
    "/run/booted-system/kernel-modules/lib/modules",
    "/nix/var/nix/profiles/system/kernel-modules/lib/modules",
];
/// Where they keep firmware.
const FIRMWARE: [&str; 4] =
    ["/lib/firmware", "/usr/lib/firmware", "/run/current-system/firmware", "/nix/var/nix/profiles/system/firmware"];
/// Where they keep programs.
const PROGRAMS: [&str; 9] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/run/current-system/sw/bin",
    "/nix/var/nix/profiles/system/sw/bin",
    "/usr/lib/initcpio",
];

/// The tree.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
    /// What is in the archive that the root is, if it is no directory.
    kept: Option<Arc<Kept>>,
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

impl Eq for Tree {}

/// What is known of something without reading it.
struct Facts {
    /// What it is, if it is no regular file.
    other: Option<&'static str>,
    size: u64,
    mode: u32,
    mtime: (i64, u32),
}

impl Facts {
    fn of(meta: &fs::Metadata) -> Self {
        let nanoseconds = u32::try_from(meta.mtime_nsec()).unwrap_or(0);
        Self { other: kind(meta), size: meta.len(), mode: meta.mode() & 0o7777, mtime: (meta.mtime(), nanoseconds) }
    }

    fn of_kept(node: &Node) -> Self {
        let (other, part) = match node {
            Node::File(part) => (None, Some(part)),
            Node::Directory(_) => (Some("a directory"), None),
            Node::Link(_) => (Some("a link"), None),
        };
        let (size, mode, mtime) = part.map_or((0, 0, (0, 0)), |part| (part.size, part.mode, part.mtime));
        Self { other, size, mode, mtime }
    }

    /// Whether it can be read: a regular file of a decent length.
    fn check(&self, path: &Path, limit: u64) -> Result<(), TreeError> {
        match self.other {
            None if self.size <= limit => Ok(()),
            None => Err(TreeError::Size { path: path.to_owned(), bytes: self.size, limit }),
            Some(found) => Err(TreeError::Kind { path: path.to_owned(), found }),
        }
    }
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// What of a tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Another kind of file.
    #[error("{path}: expected a regular file, found {found}")]
    Kind {
        /// As a person finds it.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// Too long.
    #[error("{path}: {bytes} bytes, expected at most {limit}")]
    Size {
        /// As a person finds it.
        path: PathBuf,
        /// How long it is, at least.
        bytes: u64,
        /// What is read.
        limit: u64,
    },
    /// A link out of the tree, or to nothing.
    #[error("{path}: a link to {target}, which the tree does not have (links are followed inside the tree)")]
    Dangling {
        /// As a person finds it.
        path: PathBuf,
        /// What the link says.
        target: PathBuf,
    },
    /// The system's word.
    #[error("{path}: {cause}")]
    Io {
        /// As a person finds it.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl TreeError {
    /// Whether nothing is there.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if absent(cause))
    }
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.display().fmt(f)
    }
}

impl Tree {
    /// The tree at a directory of this machine, or in an archive that an image was made with.
    pub fn open(root: &Path) -> io::Result<Self> {
        let root = root.canonicalize()?;
        let meta = root.metadata()?;
        let kept = match () {
            () if meta.is_dir() => None,
            () if meta.is_file() => Some(Arc::new(Kept::open(&root).map_err(|error| match error {
                TarError::Io(cause) => cause,
                _ => io::Error::from(io::ErrorKind::NotADirectory),
            })?)),
            () => return Err(io::Error::from(io::ErrorKind::NotADirectory)),
        };
        Ok(Self { root, kept })
    }

    /// What is at a path whose links were followed.
    fn facts(&self, real: &Path) -> io::Result<Facts> {
        match &self.kept {
            None => real.symlink_metadata().map(|meta| Facts::of(&meta)),
            Some(kept) => self.node(kept, real).map(Facts::of_kept),
        }
    }

    fn node<'k>(&self, kept: &'k Kept, real: &Path) -> io::Result<&'k Node> {
        let inside = real.strip_prefix(&self.root).ok();
        inside.and_then(|inside| kept.get(inside)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether it is this machine's own.
    pub fn is_running(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Whether it is a dataset of its own, mounted there, and not just a directory of a machine that has ZFS.
    pub fn is_on_zfs(&self) -> bool {
        const ZFS: i64 = 0x2fc1_2fc1;
        let kind = nix::sys::statfs::statfs(&self.root).map(|stat| stat.filesystem_type().0);
        let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
        kind.is_ok_and(|kind| kind == ZFS) && self.root.parent().and_then(device) != device(&self.root)
    }

    /// How a person on this machine finds a path of the tree; links are not followed.
    pub fn shown(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The place of this machine where something of the tree is to be written.
    pub fn place(&self, path: impl AsRef<Path>) -> Result<PathBuf, TreeError> {
        let path = path.as_ref();
        if self.kept.is_some() {
            return Err(self.error(path, io::ErrorKind::ReadOnlyFilesystem.into()));
        }
        self.real(path).map_err(|cause| self.error(path, cause))
    }

    fn error(&self, path: &Path, cause: io::Error) -> TreeError {
        TreeError::Io { path: self.shown(path), cause }
    }

    fn real(&self, path: &Path) -> io::Result<PathBuf> {
        if path.as_os_str().len() > MAX_PATH {
            return Err(io::Error::from(io::ErrorKind::InvalidFilename));
        }
        match &self.kept {
            None => resolve_here(&self.root, path),
            Some(kept) => Ok(self.root.join(kept.resolve(path)?)),
        }
    }

    /// The regular file that a path leads to, as a path in the tree without links; `None` for anything else.
    pub fn file(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        let real = self.real(path.as_ref()).ok()?;
        let inside = Path::new("/").join(real.strip_prefix(&self.root).ok()?);
        self.facts(&real).is_ok_and(|facts| facts.other.is_none()).then_some(inside)
    }

    /// Size in bytes and time of the last change, in seconds since 1970, of the regular file that a path leads to.
    pub fn stamp(&self, path: impl AsRef<Path>) -> Option<(u64, u64)> {
        let facts = self.real(path.as_ref()).and_then(|real| self.facts(&real)).ok()?;
        facts.other.is_none().then(|| (facts.size, u64::try_from(facts.mtime.0).unwrap_or(0)))
    }

    /// Whether a path leads to something, of whatever kind.
    pub fn is_there(&self, path: impl AsRef<Path>) -> bool {
        self.real(path.as_ref()).is_ok_and(|real| self.facts(&real).is_ok())
    }

    /// A program by its name.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        PROGRAMS.iter().find_map(|dir| self.file(Path::new(dir).join(name)))
    }

    /// A firmware file by its name, that of a kernel and of updates first, with any of these endings; and the ending.
    pub fn firmware(&self, kernel: &str, name: &str, endings: &[&'static str]) -> Option<(PathBuf, &'static str)> {
        self.firmware_directories(kernel)
            .iter()
            .find_map(|dir| endings.iter().find_map(|end| Some((self.file(dir.join(format!("{name}{end}")))?, *end))))
    }

    /// Where the kernel looks for firmware, in its order (`fw_path` in `drivers/base/firmware_loader/main.c`).
    pub fn firmware_directories(&self, kernel: &str) -> Vec<PathBuf> {
        let updates = Path::new("updates");
        let below = [updates.join(kernel), updates.to_owned(), PathBuf::from(kernel), PathBuf::new()];
        below.iter().flat_map(|below| FIRMWARE.iter().map(move |dir| Path::new(dir).join(below))).collect()
    }

    /// Releases of the kernels that have a `modules.dep`, sorted.
    pub fn kernels(&self) -> Result<Vec<String>, TreeError> {
        let mut found = Vec::new();
        for dir in MODULES {
            let names = self.list(dir)?;
            found.extend(names.into_iter().filter(|name| self.file(format!("{dir}/{name}/modules.dep")).is_some()));
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The directory of a kernel's modules; where it would be expected if there is none.
    pub fn modules(&self, kernel: &str) -> PathBuf {
        let mut places = MODULES.iter().map(|dir| Path::new(dir).join(kernel));
        let with_index = places.find(|dir| self.file(dir.join("modules.dep")).is_some());
        with_index.unwrap_or_else(|| Path::new("/lib/modules").join(kernel))
    }

    /// The build configuration of a kernel, where its package left it.
    pub fn kernel_config(&self, kernel: &str) -> Result<Option<String>, TreeError> {
        let modules = self.modules(kernel);
        let places =
            [PathBuf::from(format!("/boot/config-{kernel}")), modules.join("config"), modules.join("build/.config")];
        let found = places.iter().find(|path| self.file(path).is_some());
        found.map(|path| Ok(String::from_utf8_lossy(&self.read(path, TEXT)?).into_owned())).transpose()
    }

    /// Reads a file.
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, TreeError> {
        self.load(path, limit).map(|file| file.bytes)
    }

    /// Reads a file that may be absent. A link to nothing is not absent: something was meant to be there.
    pub fn read_if_there(&self, path: impl AsRef<Path>, limit: u64) -> Result<Option<Vec<u8>>, TreeError> {
        match self.read(path, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_absence() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a file and its permissions.
    pub fn load(&self, path: impl AsRef<Path>, limit: u64) -> Result<Loaded, TreeError> {
        let path = path.as_ref();
        let real = self.real(path).map_err(|cause| self.error(path, cause))?;
        let loaded = match &self.kept {
            None => load(&real, limit),
            Some(kept) => self.unpack(kept, &real, limit),
        };
        match loaded {
            Err(error) if error.is_absence() => Err(self.dangling(path).unwrap_or_else(|| match error {
                TreeError::Io { cause, .. } => self.error(path, cause),
                other => other,
            })),
            other => other,
        }
    }

    /// Reads a file of the archive.
    fn unpack(&self, kept: &Kept, real: &Path, limit: u64) -> Result<Loaded, TreeError> {
        let error = |cause| TreeError::Io { path: real.to_owned(), cause };
        let node = self.node(kept, real).map_err(error)?;
        let facts = Facts::of_kept(node);
        facts.check(real, limit)?;
        let Node::File(part) = node else { return Err(error(io::ErrorKind::NotFound.into())) };
        Ok(Loaded { bytes: kept.read(part).map_err(error)?, mode: facts.mode })
    }

    /// The first link on the way to `path` that leads to nothing.
    fn dangling(&self, path: &Path) -> Option<TreeError> {
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        let first = ancestors.into_iter().find(|at| self.real(at).is_ok_and(|real| self.facts(&real).is_err()))?;
        let link = self.real(first.parent()?).ok()?.join(first.file_name()?);
        let target = match &self.kept {
            None => fs::read_link(link).ok()?,
            Some(kept) => match self.node(kept, &link).ok()? {
                Node::Link(target) => target.clone(),
                _ => return None,
            },
        };
        Some(TreeError::Dangling { path: self.shown(first), target })
    }

    /// Whether a path is a link to /dev/null, by which packaged files are switched off.
    pub fn is_masked(&self, path: impl AsRef<Path>) -> bool {
        self.real(path.as_ref()).is_ok_and(|real| real == self.root.join("dev/null"))
    }

    /// Whether a file was written before another one; no if that cannot be told.
    pub fn is_older(&self, path: impl AsRef<Path>, than: impl AsRef<Path>) -> bool {
        let written = |path: &Path| self.real(path).and_then(|real| Ok(self.facts(&real)?.mtime)).ok();
        written(path.as_ref()).zip(written(than.as_ref())).is_some_and(|(this, other)| this < other)
    }

    /// The names in a directory, sorted; none if it is absent. Names that are no text are left out.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<String>, TreeError> {
        let path = path.as_ref();
        let error = |cause| self.error(path, cause);
        let real = self.real(path).map_err(error)?;
        if let Some(kept) = &self.kept {
            let mut names = match self.node(kept, &real) {
                Ok(Node::Directory(names)) => names.clone(),
                Ok(_) => return Err(error(io::ErrorKind::NotADirectory.into())),
                Err(_) => return self.dangling(path).map_or(Ok(Vec::new()), Err),
            };
            names.sort();
            return Ok(names);
        }
        let entries = match fs::read_dir(&real) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return self.dangling(path).map_or(Ok(Vec::new()), Err);
            }
            Err(cause) => return Err(error(cause)),
        };
        let mut names = Vec::new();
        for entry in entries.take(MAX_ENTRIES) {
            names.extend(entry.map_err(error)?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }
}

/// Reads a file that a person named, which may lie anywhere on this machine; also what a shell gives as `/dev/fd/N`.
pub fn named(path: &Path, limit: u64) -> Result<Vec<u8>, TreeError> {
    let given = ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|dir| path.starts_with(dir));
    if !given {
        return load(path, limit).map(|file| file.bytes);
    }
    let error = |cause| TreeError::Io { path: path.to_owned(), cause };
    bounded(File::open(path).map_err(error)?, path, limit)
}

/// Looks before it opens: that alone does something to a FIFO and to some devices.
fn load(path: &Path, limit: u64) -> Result<Loaded, TreeError> {
    let error = |cause| TreeError::Io { path: path.to_owned(), cause };
    Facts::of(&fs::metadata(path).map_err(error)?).check(path, limit)?;
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(error)?;
    let facts = Facts::of(&file.metadata().map_err(error)?);
    facts.check(path, limit)?;
    Ok(Loaded { bytes: bounded(file, path, limit)?, mode: facts.mode })
}

/// Reads all of what a person gave, if it is no longer than this.
pub fn bounded(file: impl io::Read, path: &Path, limit: u64) -> Result<Vec<u8>, TreeError> {
    let mut bytes = Vec::new();
    let taken = file.take(limit + 1).read_to_end(&mut bytes);
    taken.map_err(|cause| TreeError::Io { path: path.to_owned(), cause })?;
    if bytes.len() as u64 > limit {
        return Err(TreeError::Size { path: path.to_owned(), bytes: bytes.len() as u64, limit });
    }
    Ok(bytes)
}

/// What it is, if it is no regular file.
fn kind(meta: &fs::Metadata) -> Option<&'static str> {
    let kind = meta.file_type();
    Some(match () {
        () if kind.is_file() => return None,
        () if kind.is_dir() => "a directory",
        () if kind.is_symlink() => "a link",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    })
}

/// A path as a person gave it for the tree, absolute in it.
pub fn absolute(path: &Path) -> PathBuf {
    Path::new("/").join(path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>())
}
