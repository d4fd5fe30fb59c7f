//! Reading block devices: for the scout, which may hang in it; never for PID 1.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// An open device. Opening it, reading it and closing it take as long as the device takes.
#[derive(Debug)]
pub struct BlockFile(File);

impl BlockFile {
    /// Opens a device for reading. A tray is not pulled in for it (`O_NONBLOCK`): an empty drive answers at once.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        File::options().read(true).custom_flags(flags).open(path).map(Self)
    }

    /// Fills `buf` from `offset`.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
}

/// Writes to a device and waits until it has it.
pub fn write_through(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.write_all_at(bytes, offset)?;
    file.sync_all()
}
