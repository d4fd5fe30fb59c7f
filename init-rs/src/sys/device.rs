//! Reading block devices: for the scout, which may hang in it; never for PID 1.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Fills `buf` from `offset` of a device. Opening it, reading and closing it take as long as the device takes.
pub fn read_at(path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<()> {
    File::open(path)?.read_exact_at(buf, offset)
}
