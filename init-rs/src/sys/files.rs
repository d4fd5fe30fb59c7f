//! The files of [`System`](super::System) on Linux.
#![allow(unsafe_code)]

use super::consoles::Secret;
use super::{FileInfo, FileKind};
use nix::sys::statfs::{FsType, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use zeroize::Zeroizing;

const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
const TMPFS_MAGIC: FsType = FsType(0x0102_1994);

/// Opens a regular file for reading. Not blocking, so that opening a pipe or a terminal by mistake returns.
fn open(path: &Path) -> io::Result<File> {
    // Before it is opened: opening a block device can wait for its disk.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a file"));
    }
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)
}

pub(super) fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Full size from the start: a buffer that grows leaves copies behind.
pub(super) fn read_secret(path: &Path, limit: usize) -> io::Result<Secret> {
    let mut file = open(path)?;
    let mut content = Zeroizing::new(vec![0; limit]);
    let mut filled = 0;
    while let Some(room) = content.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    content.truncate(filled);
    Ok(content)
}

pub(super) fn read_at(path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    open(path)?.read_at(buf, offset)
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a file"));
    }
    fs::write(path, bytes)
}

pub(super) fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(bytes)
}

pub(super) fn save(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let result = written.and_then(|()| fs::rename(&part, path));
    if result.is_err() {
        let _ = fs::remove_file(&part);
    }
    result?;
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// A device or pipe is no file that something was written to here.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_dir() { File::open(path)?.sync_all() } else { open(path)?.sync_all() }
}

pub(super) fn stat(path: &Path) -> io::Result<FileInfo> {
    let meta = fs::metadata(path)?;
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let kind = match meta.file_type() {
        kind if kind.is_file() => FileKind::File,
        kind if kind.is_dir() => FileKind::Directory,
        kind if kind.is_block_device() => FileKind::Block {
            major: number(nix::sys::stat::major(meta.rdev())),
            minor: number(nix::sys::stat::minor(meta.rdev())),
        },
        _ => FileKind::Other,
    };
    Ok(FileInfo { kind, mode: meta.mode() & 0o7777, size: meta.len() })
}

pub(super) fn list(path: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(path)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
}

/// With the permissions of the original.
pub(super) fn keep_program(place: &Path) -> io::Result<()> {
    fs::copy("/proc/self/exe", place).map(drop)
}

pub(super) fn noexec(path: &Path) -> bool {
    statvfs(path).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC))
}

/// `ioctl_iflags(2)`: the kernel sets the flag against `rm -rf`.
pub(super) fn make_mutable(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let flags: libc::c_int = 0;
    // SAFETY: the request reads one int through the pointer, which is valid for the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, std::ptr::from_ref(&flags)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(super) fn wipe(path: &Path) -> io::Result<()> {
    if ![RAMFS_MAGIC, TMPFS_MAGIC].contains(&statfs(path)?.filesystem_type()) {
        return Ok(());
    }
    let mut left = fs::metadata(path)?.len();
    let mut file = File::options().write(true).open(path)?;
    let zeros = [0_u8; 4096];
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(zeros.len()).min(zeros.len());
        file.write_all(zeros.get(..n).unwrap_or_default())?;
        left -= n as u64;
    }
    Ok(())
}

pub(super) fn kernel_log() -> Vec<String> {
    let mut records = Vec::new();
    let Ok(mut file) = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg") else {
        return records;
    };
    let mut record = vec![0; 8192];
    loop {
        match file.read(&mut record) {
            Ok(0) => return records,
            Ok(n) => records.push(String::from_utf8_lossy(record.get(..n).unwrap_or_default()).into_owned()),
            // Records were overwritten before they were read: the next read goes on with what is there.
            Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => return records,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_read_to_an_end_that_does_not_come() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "0123456789").unwrap();
        assert_eq!(read(&file, 10).unwrap(), b"0123456789");
        assert_eq!(read(&file, 9).unwrap(), b"012345678");
        assert_eq!(*read_secret(&file, 9).unwrap(), b"012345678");
        // Its size says 0.
        assert!(read(Path::new("/proc/self/status"), 64).unwrap().starts_with(b"Name:"));
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for endless in [&pipe, Path::new("/dev/zero"), dir.path()] {
            assert!(read(endless, 10).unwrap_err().to_string().contains("expected a file"), "{}", endless.display());
        }
    }

    #[test]
    fn files_are_saved_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        save(&dir.path().join("x.log"), b"text").unwrap();
        assert_eq!(fs::read(dir.path().join("x.log")).unwrap(), b"text");
        fs::create_dir_all(dir.path().join("y.log/taken")).unwrap();
        assert!(save(&dir.path().join("y.log"), b"text").is_err());
        assert_eq!(list(dir.path()).unwrap(), ["x.log", "y.log"], "nothing is left beside them");
    }

    #[test]
    fn only_files_in_ram_are_overwritten() {
        let shm = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = shm.path().join("key");
        fs::write(&path, "secret".repeat(1000)).unwrap();
        wipe(&path).unwrap();
        let left = fs::read(&path).unwrap();
        assert!(left.len() == 6000 && left.iter().all(|b| *b == 0));
        assert!(wipe(Path::new("/proc/version")).is_ok());
        assert!(wipe(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn noexec_is_what_the_mount_says() {
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        // Where several are mounted on one point, the last one counts.
        let mounts: std::collections::BTreeMap<&str, bool> = table
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                Some((*fields.get(1)?, fields.get(3)?.split(',').any(|option| option == "noexec")))
            })
            .collect();
        for (point, expected) in mounts.into_iter().filter(|(point, _)| statvfs(*point).is_ok()) {
            assert_eq!(noexec(Path::new(point)), expected, "{point}");
        }
    }
}
