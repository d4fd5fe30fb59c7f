//! Files kept in memory, a device asked whether it answers, and the wait for the signal to stop.
#![allow(unsafe_code)]

use nix::sys::signal::{SigSet, Signal};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

/// Longer files are not kept.
const LONGEST: u64 = 64 << 20;

/// A file that stays in memory, and open, as long as this is there.
#[derive(Debug)]
pub struct Kept {
    /// Its name is found without its medium, too, while it is open.
    _file: File,
    at: *mut libc::c_void,
    len: usize,
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: it is the mapping that was made in `keep`, and nobody else knows of it.
        unsafe { libc::munmap(self.at, self.len) };
    }
}

/// Reads all of a file and keeps it in memory: whoever executes it from then on shares these pages.
pub(super) fn keep(path: &Path) -> io::Result<Kept> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    let len = usize::try_from(meta.len()).map_err(io::Error::other)?;
    if !meta.is_file() || len == 0 || meta.len() > LONGEST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: a new mapping of a file that is only read, at a place that the kernel chooses.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let kept = Kept { _file: file, at, len };
    // SAFETY: the range is the mapping's; nothing of it is written or read here.
    if unsafe { libc::mlock(at, len) } < 0 { Err(io::Error::last_os_error()) } else { Ok(kept) }
}

#[repr(align(4096))]
struct Block([u8; 4096]);

/// Reads a device past what is in memory of it.
pub(super) fn answers(node: &Path) -> io::Result<()> {
    let flags = libc::O_DIRECT | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let device = File::options().read(true).custom_flags(flags).open(node)?;
    let mut block = Box::new(Block([0; 4096]));
    match device.read_at(&mut block.0, 0)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Waits for SIGTERM, which does nothing else from now on, and at most so long; whether it came.
pub(super) fn await_stop(patience: Option<Duration>) -> io::Result<bool> {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.thread_block()?;
    let Some(patience) = patience else {
        stop.wait()?;
        return Ok(true);
    };
    let seconds = libc::time_t::try_from(patience.as_secs()).map_err(io::Error::other)?;
    let patience = libc::timespec { tv_sec: seconds, tv_nsec: patience.subsec_nanos().into() };
    // SAFETY: both are read, and nobody wants to know more of the signal.
    let came = unsafe { libc::sigtimedwait(stop.as_ref(), std::ptr::null_mut(), &raw const patience) };
    match (came, io::Error::last_os_error()) {
        (0.., _) => Ok(true),
        (_, e) if e.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        (_, e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_kept_and_what_is_none_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![7; 10_000]).unwrap();
        let kept = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("VmLck")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let before = kept();
        match keep(&path) {
            // Not everybody may keep that much.
            Err(e) => assert!(matches!(e.raw_os_error(), Some(libc::ENOMEM | libc::EAGAIN | libc::EPERM)), "{e}"),
            Ok(file) => {
                assert_eq!(kept(), before + 12);
                drop(file);
                assert_eq!(kept(), before);
            }
        }
        assert!(keep(dir.path()).is_err() && keep(&dir.path().join("none")).is_err());
        std::fs::write(&path, "").unwrap();
        assert!(keep(&path).is_err());
    }

    /// In a thread of its own, which alone blocks the signal then.
    #[test]
    fn nobody_says_stop() {
        let waits = std::thread::spawn(|| await_stop(Some(Duration::from_millis(1))));
        assert!(!waits.join().unwrap().unwrap());
    }

    #[test]
    fn what_is_not_there_does_not_answer() {
        assert_eq!(answers(Path::new("/nonexistent")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
