//! Partitions of disks in use, for programs of the running system; a boot changes none.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// `BLKPG` and `BLKPG_RESIZE_PARTITION` (include/uapi/linux/blkpg.h).
const BLKPG: u32 = 0x1269;
const RESIZE: libc::c_int = 3;

#[repr(C)]
struct Partition {
    start: i64,
    length: i64,
    number: libc::c_int,
    names: [u8; 128],
}

#[repr(C)]
struct Argument {
    operation: libc::c_int,
    flags: libc::c_int,
    length: libc::c_int,
    data: *mut Partition,
}

/// Tells the kernel that a partition is larger by now; it may be in use. `start` and `length` in bytes.
pub fn resize(disk: &File, number: i32, start: u64, length: u64) -> io::Result<()> {
    let bytes = |value: u64| i64::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let mut partition = Partition { start: bytes(start)?, length: bytes(length)?, number, names: [0; 128] };
    let length = libc::c_int::try_from(size_of::<Partition>()).unwrap_or(0);
    let mut argument = Argument { operation: RESIZE, flags: 0, length, data: &raw mut partition };
    // SAFETY: the kernel reads both structs, whose layout is that of the header, and keeps no pointer; they live across the call.
    let result = unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG.into(), &raw mut argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
