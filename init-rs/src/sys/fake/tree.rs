//! A system whose files live in a directory of their own, whose kernel log is kept, and whose `/dev/zfs` a test answers.

use crate::sys::beneath::resolve;
use crate::sys::consoles::Secret;
use crate::sys::linux::Linux;
use crate::sys::{FileInfo, System, ZfsCall, ZfsReply};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

type Answer = Box<dyn Fn(&Tree, &ZfsCall<'_>) -> ZfsReply + Send + Sync>;

/// Paths are those of a process whose root is the directory: links do not lead out of it.
pub(crate) struct Tree {
    dir: tempfile::TempDir,
    linux: Linux,
    records: Mutex<Vec<String>>,
    answer: Answer,
}

impl Tree {
    /// No file at all; every call on `/dev/zfs` fails with ENOENT.
    pub(crate) fn new() -> Self {
        Self::answering(|_, _| ZfsReply { errno: libc::ENOENT, ..ZfsReply::default() })
    }

    /// Calls on `/dev/zfs` are answered by `answer`.
    pub(crate) fn answering(answer: impl Fn(&Self, &ZfsCall<'_>) -> ZfsReply + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, linux: Linux::new(), records: Mutex::default(), answer: Box::new(answer) }
    }

    /// A file with this text, its directories made.
    pub(crate) fn with(self, path: &str, text: &str) -> Self {
        self.with_bytes(path, text.as_bytes())
    }

    /// A file with these bytes, its directories made.
    pub(crate) fn with_bytes(self, path: &str, bytes: &[u8]) -> Self {
        let path = Path::new(path);
        self.make_dirs(path.parent().unwrap()).unwrap();
        self.write(path, bytes).unwrap();
        self
    }

    /// A link, its directories made.
    pub(crate) fn with_link(self, target: &str, path: &str) -> Self {
        let path = Path::new(path);
        self.make_dirs(path.parent().unwrap()).unwrap();
        self.symlink(Path::new(target), path).unwrap();
        self
    }

    /// What a file says; empty if it cannot be read.
    pub(crate) fn text(&self, path: &str) -> String {
        let system: &dyn System = self;
        system.text(path)
    }

    /// Whether a path leads to anything.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.stat(Path::new(path)).is_ok()
    }

    /// What was written to the kernel's log.
    pub(crate) fn records(&self) -> Vec<String> {
        self.records.lock().unwrap().clone()
    }

    /// Where a path leads.
    fn followed(&self, path: &Path) -> io::Result<PathBuf> {
        resolve(&self.linux, self.dir.path(), path)
    }

    /// Where a path is, a link as its last part not followed.
    fn place(&self, path: &Path) -> io::Result<PathBuf> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(self.followed(parent)?.join(name)),
            _ => self.followed(path),
        }
    }
}

impl System for Tree {
    fn zfs(&self, call: &ZfsCall<'_>) -> io::Result<ZfsReply> {
        Ok((self.answer)(self, call))
    }
    fn mount(&self, _: &str, _: &Path, _: &str, _: u64, _: &str) -> io::Result<()> {
        unreachable!("nothing here mounts")
    }
    fn unmount(&self, _: &Path, _: bool) -> io::Result<()> {
        unreachable!("nothing here unmounts")
    }
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        self.linux.read(&self.followed(path)?, limit)
    }
    fn read_secret(&self, path: &Path, limit: usize) -> io::Result<Secret> {
        self.linux.read_secret(&self.followed(path)?, limit)
    }
    fn read_at(&self, path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.linux.read_at(&self.followed(path)?, offset, buf)
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.linux.write(&self.followed(path)?, bytes)
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.linux.append(&self.followed(path)?, bytes)
    }
    fn save(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.linux.save(&self.followed(path)?, bytes)
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        self.linux.sync(&self.followed(path)?)
    }
    fn stat(&self, path: &Path) -> io::Result<FileInfo> {
        self.linux.stat(&self.followed(path)?)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.linux.list(&self.followed(path)?)
    }
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.linux.read_link(&self.place(path)?)
    }
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        let real = self.followed(path)?;
        self.linux.stat(&real)?;
        Ok(Path::new("/").join(real.strip_prefix(self.dir.path()).unwrap()))
    }
    fn make_dirs(&self, path: &Path) -> io::Result<()> {
        self.linux.make_dirs(&self.followed(path)?)
    }
    fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        self.linux.symlink(target, &self.place(path)?)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.linux.rename(&self.place(from)?, &self.place(to)?)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.linux.remove(&self.place(path)?)
    }
    fn keep_program(&self, place: &Path) -> io::Result<()> {
        self.linux.keep_program(&self.followed(place)?)
    }
    fn noexec(&self, path: &Path) -> bool {
        self.followed(path).is_ok_and(|path| self.linux.noexec(&path))
    }
    fn make_mutable(&self, path: &Path) -> io::Result<()> {
        self.linux.make_mutable(&self.followed(path)?)
    }
    fn wipe(&self, path: &Path) -> io::Result<()> {
        self.linux.wipe(&self.followed(path)?)
    }
    fn kmsg(&self, record: &str) -> io::Result<()> {
        if !record.is_empty() {
            self.records.lock().unwrap().push(record.to_owned());
        }
        Ok(())
    }
    crate::delegate_layers!(linux);
    crate::delegate_kept!(linux);
    crate::delegate_others!(linux);
    crate::delegate_watched!(linux);
    crate::delegate_clock_and_scout!(linux);
}
