//! Output: files that are there whole or not at all, pipes, and standard output.

use crate::progress::megabytes;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::statvfs::statvfs;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};

/// Longest chain of links, as in the kernel.
const MAX_LINKS: usize = 40;

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Standard,
    /// A pipe with a name.
    Pipe(PathBuf),
    /// A regular file, or the place for one; without links.
    File(PathBuf),
}

impl Target {
    /// What a path leads to. Links are followed, and what is no file and no pipe is refused: a node must not be replaced.
    pub fn find(path: &Path) -> Result<Self> {
        let shown = path.display();
        if ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name)) {
            ensure!(
                !io::stdout().is_terminal(),
                "{shown}: an image is nothing for a terminal; send it to a file or a pipe"
            );
            return Ok(Self::Standard);
        }
        // Opened as it is named: the link of a descriptor (/dev/fd/63) leads to no path.
        if fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo()) {
            return Ok(Self::Pipe(path.to_owned()));
        }
        let file = follow(path)?;
        match fs::symlink_metadata(&file) {
            Ok(meta) if meta.is_file() => {}
            Ok(meta) => {
                let found = if meta.is_dir() { "a directory" } else { "a device or socket" };
                bail!("{shown}: expected a file to write, a pipe, or - for standard output, found {found}");
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("{shown}: looking at it")),
        }
        let dir = directory(&file);
        let there = fs::metadata(dir).with_context(|| format!("{shown}: its directory {}", dir.display()))?;
        ensure!(there.is_dir(), "{shown}: {} is no directory", dir.display());
        Ok(Self::File(file))
    }

    /// Fails if a file of so many bytes cannot have room. The old one stays until the new one is whole.
    pub fn has_room(&self, bytes: u64) -> Result<()> {
        let Self::File(path) = self else { return Ok(()) };
        let free = free(directory(path))?;
        ensure!(bytes <= free, "{}", no_room(path, bytes, free));
        Ok(())
    }

    /// Writes everything: to a file readable by its owner only, because images may hold keys. A reader, or a crash, sees the old
    /// file or the new one.
    pub fn write(&self, bytes: &[u8], cleanup: &Cleanup) -> Result<()> {
        match self {
            Self::Standard => {
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush()).context("writing to standard output")
            }
            Self::Pipe(path) => {
                let pipe = OpenOptions::new().write(true).open(path);
                pipe.and_then(|mut pipe| pipe.write_all(bytes)).with_context(|| format!("{}: writing", path.display()))
            }
            Self::File(path) => write_private(path, bytes, cleanup),
        }
    }
}

pub(crate) fn directory(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The place that a path and its links lead to, whether there is something or not.
fn follow(path: &Path) -> Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&at) {
            Ok(target) => at = directory(&at).join(target),
            Err(_) => return Ok(at),
        }
    }
    bail!("{}: too many links, or links in a circle", path.display())
}

/// Bytes that may still be written; root may use what is kept for it.
pub(crate) fn free(dir: &Path) -> Result<u64> {
    let stat = statvfs(dir).with_context(|| format!("{}: asking for free space", dir.display()))?;
    let root = nix::unistd::geteuid().is_root();
    let blocks = if root { stat.blocks_free() } else { stat.blocks_available() };
    Ok(blocks.saturating_mul(stat.fragment_size()))
}

fn no_room(path: &Path, needed: u64, free: u64) -> String {
    format!(
        "{}: no room: {} are needed and {} are free in {}; remove old kernels or images there, or pack less (--compress zstd:19, \
         --modules host). What stands there stays until the new image is whole",
        path.display(),
        megabytes(needed),
        megabytes(free),
        directory(path).display()
    )
}

/// Where a file is written before it gets its name: always the same, so that what a power cut leaves is used again.
fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".taproot-new");
    directory(path).join(name)
}

/// Opens the temporary file and locks it, for nobody but us to write. From then on a signal removes it.
fn locked(path: &Path, cleanup: &Cleanup) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    loop {
        let made = cleanup.guarded(|slot| {
            let made = options.clone().create_new(true).open(path);
            *slot = made.is_ok().then(|| path.to_owned());
            made
        });
        let file = match made {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => match options.open(path) {
                Ok(file) if left_by_us(&file, path)? => file,
                Ok(_) => {
                    return Err(io::Error::other(
                        "it is there, and no file that an interrupted run of ours left; remove it",
                    ));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            },
            Err(e) => return Err(e),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("note: waiting for another taproot that writes {}", path.display());
                file.lock()?;
            }
            // A file system without locks (some of FUSE's, of networks) has none for others either.
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(e),
        }
        // The other one may have given it its name, or removed it.
        let meta = file.metadata()?;
        let same = |now: fs::Metadata| (now.dev(), now.ino()) == (meta.dev(), meta.ino());
        if fs::symlink_metadata(path).is_ok_and(same) {
            cleanup.guarded(|slot| *slot = Some(path.to_owned()));
            return Ok(file);
        }
    }
}

/// Whether a file at the temporary name is one that a run of ours left. On file systems without owners (FAT) all files have the
/// mount's.
fn left_by_us(file: &File, path: &Path) -> io::Result<bool> {
    const WITHOUT_OWNERS: [i64; 2] = [0x4d44, 0x2011_bab0]; // vfat, exfat
    let meta = file.metadata()?;
    let owned = meta.uid() == nix::unistd::geteuid().as_raw();
    let without = || {
        let kind = nix::sys::statfs::statfs(directory(path)).map(|stat| stat.filesystem_type().0);
        kind.is_ok_and(|kind| WITHOUT_OWNERS.contains(&kind))
    };
    Ok(meta.is_file() && meta.nlink() <= 1 && (owned || without()))
}

fn write_private(path: &Path, bytes: &[u8], cleanup: &Cleanup) -> Result<()> {
    let (shown, new) = (path.display(), temporary(path));
    let file = locked(&new, cleanup).with_context(|| format!("{shown}: cannot create {}", new.display()))?;
    let written = (|| {
        file.set_len(0)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        (&file).write_all(bytes)?;
        file.sync_all()
    })();
    // Together, or a signal between the two would remove what another run writes by now.
    let written = cleanup.guarded(|slot| {
        *slot = None;
        let named = written.and_then(|()| fs::rename(&new, path));
        if named.is_err() {
            let _ = fs::remove_file(&new);
        }
        named
    });
    match written {
        Err(e) if e.kind() == io::ErrorKind::StorageFull => {
            bail!(no_room(path, bytes.len() as u64, free(directory(path)).unwrap_or(0)))
        }
        other => other.with_context(|| format!("{shown}: writing"))?,
    }
    match File::open(directory(path)).and_then(|dir| dir.sync_all()) {
        // Some of FUSE's cannot; the file itself is synced.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other.with_context(|| format!("{shown}: syncing the directory")),
    }
}

/// Removes what is half written when the program is told to end.
#[derive(Debug, Clone, Default)]
pub struct Cleanup(Arc<Mutex<Option<PathBuf>>>);

impl Cleanup {
    /// Begins to wait for signals, in a thread of its own: no other thread gets them, so this comes before any is started.
    pub fn on_signals() -> Self {
        let cleanup = Self::default();
        let ignored = ignored_signals();
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            if ignored & 1 << (signal as u32 - 1) == 0 {
                signals.add(signal);
            }
        }
        if signals.thread_block().is_ok() {
            let own = cleanup.clone();
            std::thread::spawn(move || {
                let Ok(signal) = signals.wait() else { return };
                own.remove();
                // As if it had not been waited for.
                let _ = signals.thread_unblock();
                let _ = raise(signal);
            });
        }
        cleanup
    }

    fn remove(&self) {
        if let Some(path) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            let is_dir = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
            let _ = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }

    /// Does something that the answer to a signal must not come between. What stands in the slot, a file or a whole directory, is what it
    /// removes.
    pub(crate) fn guarded<T>(&self, act: impl FnOnce(&mut Option<PathBuf>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Starts a program that a signal ends: what is blocked here, because somebody waits for it, would be blocked there, too.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let own = SigSet::thread_get_mask()?;
    SigSet::empty().thread_set_mask()?;
    let child = command.spawn();
    own.thread_set_mask()?;
    child
}

/// A program that nohup or a shell's background started is meant to go on.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Text with names that others gave: what would steer a terminal is written as JSON would have it (`\u001b`), so that what is JSON
/// stays the same. Newlines and tabs stay.
pub fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    if text.contains(|c: char| c.is_control()) { text.chars().map(shown).collect() } else { text.to_owned() }
}

/// Writes to standard output; a reader that has seen enough (`| head`) is no error.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(printable(text).as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

/// Whether a person says yes; nobody is there without a terminal.
pub fn agrees(question: &str) -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("expected --yes, or a terminal to ask on: {question}");
    }
    eprint!("{question} [yes/no] ");
    let mut line = String::new();
    io::stdin().read_line(&mut line).context("reading the answer")?;
    Ok(line.trim() == "yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn write(path: &Path, bytes: &[u8]) -> Result<()> {
        Target::find(path)?.write(bytes, &Cleanup::default())
    }

    #[test]
    fn what_steers_a_terminal_reaches_none() {
        assert_eq!(printable("a\x1b[31m\tü\r\n\u{9b}"), "a\\u001b[31m\tü\\u000d\n\\u009b");
        let json = serde_json::to_string("\x1b \u{9b} \u{7f}").unwrap();
        assert_eq!(serde_json::from_str::<String>(&printable(&json)).unwrap(), "\x1b \u{9b} \u{7f}");
    }

    #[test]
    fn whole_private_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        fs::write(&path, "old").unwrap();
        // What a power cut left, longer than what comes.
        fs::write(dir.path().join(".image.taproot-new"), "half of another").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = write(&dir.path().join("none/image"), b"x").unwrap_err();
        assert!(format!("{error:#}").contains("its directory"), "{error:#}");
    }

    #[test]
    fn links_are_followed_and_stay() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        let link = dir.path().join("link");
        symlink("real/next", &link).unwrap();
        symlink("image", dir.path().join("real/next")).unwrap();
        for text in [b"one", b"two"] {
            write(&link, text).unwrap();
            assert_eq!(fs::read(dir.path().join("real/image")).unwrap(), text);
        }
        assert!(link.is_symlink() && dir.path().join("real/next").is_symlink());
        symlink("circle", dir.path().join("circle")).unwrap();
        assert!(write(&dir.path().join("circle"), b"x").is_err());
    }

    #[test]
    fn nodes_are_refused_and_pipes_written_to() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/dev/full", dir.path().join("full")).unwrap();
        for path in [Path::new("/dev/full"), Path::new("/dev/null"), &dir.path().join("full"), dir.path()] {
            let error = write(path, b"x").unwrap_err().to_string();
            assert!(error.contains("expected a file to write, a pipe"), "{error}");
        }
        // What a shell makes of `>(program)`.
        let (reader, writer) = io::pipe().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&writer);
        write(Path::new(&format!("/dev/fd/{fd}")), b"piped").unwrap();
        drop(writer);
        assert_eq!(io::read_to_string(reader).unwrap(), "piped");
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write(&pipe, &vec![7; 100_000]).unwrap();
        assert_eq!(reader.join().unwrap().len(), 100_000);
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    }

    #[test]
    fn what_somebody_else_put_at_the_temporary_name_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let (path, theirs) = (dir.path().join("image"), dir.path().join("theirs"));
        fs::write(&theirs, "theirs").unwrap();
        symlink(&theirs, dir.path().join(".image.taproot-new")).unwrap();
        assert!(write(&path, b"x").is_err());
        fs::remove_file(dir.path().join(".image.taproot-new")).unwrap();
        fs::hard_link(&theirs, dir.path().join(".image.taproot-new")).unwrap();
        assert!(format!("{:#}", write(&path, b"x").unwrap_err()).contains("remove it"));
        assert_eq!(fs::read(&theirs).unwrap(), b"theirs");
    }

    #[test]
    fn room_is_told_before_the_work() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::find(&dir.path().join("image")).unwrap();
        target.has_room(1).unwrap();
        let error = target.has_room(1 << 60).unwrap_err().to_string();
        assert!(error.contains("are needed and") && error.contains("are free in"), "{error}");
        Target::Standard.has_room(1 << 60).unwrap();
    }

    #[test]
    fn what_is_half_written_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (cleanup, half) = (Cleanup::default(), dir.path().join("half"));
        fs::write(&half, "x").unwrap();
        cleanup.clone().remove();
        assert!(half.exists());
        cleanup.guarded(|slot| *slot = Some(half.clone()));
        cleanup.clone().remove();
        assert!(!half.exists());
    }

    #[test]
    fn two_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let writers: Vec<_> = (0..4_u8)
            .map(|n| {
                let path = path.clone();
                std::thread::spawn(move || write(&path, &vec![n; 300_000]).unwrap())
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 300_000 && bytes.iter().all(|b| *b == bytes[0]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
