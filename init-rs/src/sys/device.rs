//! Reading block devices: for the scout, which may hang in it; never for PID 1.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// `CDROM_DRIVE_STATUS` and what it says of a drive with nothing in it (`linux/cdrom.h`).
mod drive {
    pub(super) const STATUS: libc::Ioctl = 0x5326;
    pub(super) const CURRENT_SLOT: libc::c_int = libc::c_int::MAX;
    pub(super) const NO_DISC: libc::c_int = 1;
    pub(super) const TRAY_OPEN: libc::c_int = 2;
}

/// An open device. Opening it, reading it and closing it take as long as the device takes.
#[derive(Debug)]
pub struct BlockFile(File);

impl BlockFile {
    /// Opens a device for reading. A tray is not pulled in for it (`O_NONBLOCK`). A drive with nothing in it is `ENOMEDIUM`: reading it
    /// would fail too, and the kernel would fill the console with each attempt.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        if is_empty_drive(path, &file) { Err(Errno::ENOMEDIUM.into()) } else { Ok(Self(file)) }
    }

    /// Fills `buf` from `offset`.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
}

/// Drivers of anything else are not asked what they do not know.
fn is_empty_drive(path: &Path, file: &File) -> bool {
    let optical = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("sr"));
    // SAFETY: the argument is a number; the kernel writes to nothing of ours.
    let status = || unsafe { libc::ioctl(file.as_raw_fd(), drive::STATUS, drive::CURRENT_SLOT) };
    optical && matches!(status(), drive::NO_DISC | drive::TRAY_OPEN)
}

/// Writes to a device and waits until it has it.
pub fn write_through(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.write_all_at(bytes, offset)?;
    file.sync_all()
}
