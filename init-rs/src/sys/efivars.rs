//! Files of efivarfs: the kernel makes variables immutable that it does not know, against `rm -rf`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Takes the immutable flag from an open file of efivarfs (`ioctl_iflags(2)`).
pub fn make_mutable(file: &File) -> io::Result<()> {
    let flags: libc::c_int = 0;
    // SAFETY: the request reads one int through the pointer, which is valid for the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, std::ptr::from_ref(&flags)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
