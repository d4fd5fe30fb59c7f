//! A child that copies layers to memory, or sees how much there is to copy. It may hang in a medium that does not answer; whoever
//! waits for it sees in a file how far it is, and kills it when nothing goes on.

use crate::plan::layers::{BESIDE, Extent};
use crate::sys::keeping;
use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The word that starts it, and what it is to do.
pub const COPIER: &str = "to-ram";
/// Sees how much there is; prints bytes and files.
pub const MEASURE: &str = "measure";
/// Copies.
pub const COPY: &str = "copy";
/// In memory: bytes read so far, or files looked at.
pub const PROGRESS: &str = "/run/taproot/copied";

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;
/// A file takes whole ones.
const PAGE: u64 = 4096;
/// Between two words about how far it is.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Runs as the copier: what is to be done, then pairs of from where and to where. What it finds, or what went wrong, is printed.
pub fn run(words: &[String]) -> i32 {
    let mut work = Copier { done: 0, told: None, progress: PathBuf::from(PROGRESS), links: HashMap::new() };
    let pairs = || {
        words.get(1..).unwrap_or_default().chunks_exact(2).filter_map(|pair| {
            let [from, to] = pair else { return None };
            Some((Path::new(from), Path::new(to)))
        })
    };
    let result = match words.first().map(String::as_str) {
        Some(MEASURE) => work.measure_all(pairs()).map(|extent| format!("{} {}", extent.bytes, extent.files)),
        Some(COPY) => work.copy_all(pairs()).map(|()| String::new()),
        _ => Err(format!("expected {COPIER} {MEASURE} or {COPY}; taproot-init starts it itself")),
    };
    let (text, status) = match result {
        Ok(text) => (text, 0),
        Err(text) => (text, 1),
    };
    // Nobody hears it if this fails; nobody but us empties the buffer, because `main` is the C one.
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    status
}

struct Copier {
    done: u64,
    told: Option<Instant>,
    progress: PathBuf,
    /// Files with several names that were copied under one: their device, number, and that name.
    links: HashMap<(u64, u64), PathBuf>,
}

/// An image's file with those beside it; of anything else itself alone.
fn with_beside(from: &Path, to: &Path) -> Vec<(PathBuf, PathBuf)> {
    let pair = |ending: &str| (from.with_extension(ending), to.with_extension(ending));
    let beside = BESIDE.iter().map(|ending| pair(ending)).filter(|(from, _)| from.is_file());
    let beside: Vec<_> = if from.is_file() { beside.collect() } else { Vec::new() };
    std::iter::once((from.to_owned(), to.to_owned())).chain(beside).collect()
}

fn of(path: &Path) -> impl Fn(io::Error) -> String + '_ {
    |error| format!("{}: {error}", path.display())
}

impl Copier {
    /// Something went on.
    fn tell(&mut self, done: u64) {
        self.done = self.done.saturating_add(done);
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            let _ = fs::write(&self.progress, self.done.to_string());
            self.told = Some(Instant::now());
        }
    }

    fn measure_all<'p>(&mut self, pairs: impl Iterator<Item = (&'p Path, &'p Path)>) -> Result<Extent, String> {
        let mut extent = Extent::default();
        for (from, to) in pairs {
            for (from, _) in with_beside(from, to) {
                self.measure(&from, &mut extent)?;
            }
        }
        Ok(extent)
    }

    fn measure(&mut self, top: &Path, extent: &mut Extent) -> Result<(), String> {
        let mut pending = vec![top.to_owned()];
        while let Some(path) = pending.pop() {
            let meta = fs::symlink_metadata(&path).map_err(of(&path))?;
            extent.files += 1;
            self.tell(1);
            if meta.is_dir() {
                pending.extend(names(&path)?.into_iter().map(|name| path.join(name)));
            } else if meta.is_file() && self.links.insert((meta.dev(), meta.ino()), PathBuf::new()).is_none() {
                extent.bytes = extent.bytes.saturating_add(meta.len().next_multiple_of(PAGE));
            } else if meta.is_symlink() {
                extent.bytes = extent.bytes.saturating_add(PAGE);
            }
        }
        Ok(())
    }

    fn copy_all<'p>(&mut self, pairs: impl Iterator<Item = (&'p Path, &'p Path)>) -> Result<(), String> {
        for (from, to) in pairs {
            for (from, to) in with_beside(from, to) {
                self.copy(&from, &to)?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, from: &Path, to: &Path) -> Result<(), String> {
        let mut pending = vec![(from.to_owned(), to.to_owned())];
        // Times of directories change while they are filled.
        let mut directories = Vec::new();
        while let Some((from, to)) = pending.pop() {
            let meta = fs::symlink_metadata(&from).map_err(of(&from))?;
            if meta.is_dir() {
                fs::create_dir(&to).map_err(of(&to))?;
                pending.extend(names(&from)?.into_iter().map(|name| (from.join(&name), to.join(&name))));
                directories.push((from, to, meta));
                self.tell(0);
            } else if self.copy_one(&from, &to, &meta)? {
                properties(&from, &to, &meta)?;
            }
        }
        directories.iter().rev().try_for_each(|(from, to, meta)| properties(from, to, meta))
    }

    /// What is no directory; false if it is another name of something that is there already.
    fn copy_one(&mut self, from: &Path, to: &Path, meta: &Metadata) -> Result<bool, String> {
        if meta.nlink() > 1 {
            let first = self.links.entry((meta.dev(), meta.ino())).or_insert_with(|| to.to_owned());
            if first != to {
                fs::hard_link(&*first, to).map_err(of(to))?;
                return Ok(false);
            }
        }
        if meta.is_file() {
            self.copy_file(from, to)?;
        } else {
            keeping::special(from, to, meta).map_err(of(from))?;
        }
        self.tell(0);
        Ok(true)
    }

    /// Copies a file, and reads what is in memory then again.
    fn copy_file(&mut self, from: &Path, to: &Path) -> Result<(), String> {
        let mut source = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(from).map_err(of(from))?;
        let mut target = File::options().read(true).write(true).create_new(true).open(to).map_err(of(to))?;
        let mut piece = vec![0; PIECE];
        // Against accidents: who can change memory changes this program, too.
        let mut read = DefaultHasher::new();
        loop {
            let got = fill(&mut source, &mut piece).map_err(of(from))?;
            let Some(bytes) = piece.get(..got).filter(|bytes| !bytes.is_empty()) else { break };
            read.write(bytes);
            target.write_all(bytes).map_err(of(to))?;
            self.tell(got as u64);
        }
        let mut kept = DefaultHasher::new();
        io::Seek::rewind(&mut target).map_err(of(to))?;
        loop {
            let got = fill(&mut target, &mut piece).map_err(of(to))?;
            let Some(bytes) = piece.get(..got).filter(|bytes| !bytes.is_empty()) else { break };
            kept.write(bytes);
            self.tell(0);
        }
        if read.finish() == kept.finish() {
            return Ok(());
        }
        Err(format!(
            "what memory has of {} is not what was read: is the memory of this machine damaged?",
            from.display()
        ))
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, piece: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(room) = piece.get_mut(got..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>, String> {
    let list = fs::read_dir(dir).map_err(of(dir))?;
    list.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<_>>().map_err(of(dir))
}

/// Memory keeps every attribute: what lies in it is a layer still.
fn properties(from: &Path, to: &Path, meta: &Metadata) -> Result<(), String> {
    keeping::attributes(from, to, meta, &|_| true).map_err(of(from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    fn copier(dir: &Path) -> Copier {
        Copier { done: 0, told: None, progress: dir.join("progress"), links: HashMap::new() }
    }

    #[test]
    fn an_image_comes_with_what_lies_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("base-2.0.sqsh"), dir.path().join("ram.sqsh"));
        let bytes: Vec<u8> = (0..PIECE * 2 + 7).map(|n| u8::try_from(n % 251).unwrap()).collect();
        fs::write(&from, &bytes).unwrap();
        fs::write(dir.path().join("base-2.0.sha256"), "sum").unwrap();
        fs::write(dir.path().join("base-2.0.txt"), "no").unwrap();
        let pair = || std::iter::once((from.as_path(), to.as_path()));
        let extent = copier(dir.path()).measure_all(pair()).unwrap();
        assert_eq!((extent.files, extent.bytes), (2, (bytes.len() as u64).next_multiple_of(4096) + 4096));
        copier(dir.path()).copy_all(pair()).unwrap();
        assert_eq!(fs::read(&to).unwrap(), bytes);
        assert_eq!(fs::read(dir.path().join("ram.sha256")).unwrap(), b"sum");
        assert!(!dir.path().join("ram.txt").exists());
        assert!(fs::read_to_string(dir.path().join("progress")).unwrap().parse::<u64>().unwrap() > 0);
        let again = copier(dir.path()).copy_all(pair()).unwrap_err();
        assert!(again.contains("exists"), "what is there is not written over: {again}");
    }

    #[test]
    fn a_tree_is_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("tree"), dir.path().join("ram"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/first"), "twice").unwrap();
        fs::hard_link(from.join("a/first"), from.join("a/b/second")).unwrap();
        std::os::unix::fs::symlink("nowhere", from.join("link")).unwrap();
        fs::set_permissions(from.join("a/first"), Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(from.join("a"), Permissions::from_mode(0o1777)).unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::open(from.join("a")).unwrap().set_modified(old).unwrap();
        copier(dir.path()).copy_all(std::iter::once((from.as_path(), to.as_path()))).unwrap();
        let meta = |path: &str| fs::symlink_metadata(to.join(path)).unwrap();
        assert_eq!((meta("a/first").ino(), meta("a/first").mode() & 0o7777), (meta("a/b/second").ino(), 0o4751));
        assert_eq!((meta("a").mode() & 0o7777, meta("a").modified().unwrap()), (0o1777, old));
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("nowhere"));
        let extent = copier(dir.path()).measure_all(std::iter::once((from.as_path(), to.as_path()))).unwrap();
        assert_eq!((extent.files, extent.bytes), (6, 2 * 4096), "a file with two names is there once");
    }
}
