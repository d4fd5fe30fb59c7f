//! A file system that is configured piece by piece and mounted then (`fsopen(2)`, `fsconfig(2)`, `fsmount(2)`, `move_mount(2)`, `open_tree(2)`;
//! `include/uapi/linux/mount.h`, Linux 5.2).
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// `MOUNT_ATTR_*`.
pub(super) mod attribute {
    pub(in super::super) const READ_ONLY: u32 = 1;
    pub(in super::super) const NO_SUID: u32 = 2;
    pub(in super::super) const NO_DEVICES: u32 = 4;
    pub(in super::super) const NO_PROGRAMS: u32 = 8;
}

const CLOEXEC: u32 = 1;
const SET_FLAG: u32 = 0;
const SET_STRING: u32 = 1;
const CREATE: u32 = 6;
const EMPTY_PATH: u32 = 4;

/// A file system that is being configured.
#[derive(Debug)]
pub(super) struct Context(File);

impl Context {
    pub(super) fn open(fstype: &CStr) -> io::Result<Self> {
        // SAFETY: the name is a valid string for the call.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), CLOEXEC) };
        descriptor(fd).map(|fd| Self(fd.into()))
    }

    /// An option and its value; one without a value is a flag.
    pub(super) fn option(&self, key: &str, value: &str) -> io::Result<()> {
        let key = CString::new(key)?;
        if value.is_empty() {
            return self.call(SET_FLAG, Some(&key), None);
        }
        self.set(&key, value.as_bytes())
    }

    pub(super) fn set(&self, key: &CStr, value: &[u8]) -> io::Result<()> {
        self.call(SET_STRING, Some(key), Some(value))
    }

    /// Makes the file system, or finds it made.
    pub(super) fn create(&self) -> io::Result<()> {
        self.call(CREATE, None, None)
    }

    fn call(&self, command: u32, key: Option<&CStr>, value: Option<&[u8]>) -> io::Result<()> {
        let value = value.map(CString::new).transpose()?;
        let key = key.map_or(std::ptr::null(), CStr::as_ptr);
        let value = value.as_ref().map_or(std::ptr::null(), |value| value.as_ptr());
        // SAFETY: both pointers are null or strings that live until after the call.
        let result = unsafe { libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key, value, 0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Mounts it, at no place yet.
    pub(super) fn mount(&self, attributes: u32) -> io::Result<OwnedFd> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), CLOEXEC, attributes) };
        descriptor(fd)
    }

    /// The error with what the kernel says about it.
    pub(super) fn explain(&self, error: &io::Error) -> io::Error {
        let mut said = Vec::new();
        let mut line = [0; 512];
        while let Ok(len @ 1..) = (&self.0).read(&mut line) {
            said.push(String::from_utf8_lossy(line.get(..len).unwrap_or_default()).trim().to_owned());
        }
        match said.as_slice() {
            [] => io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)),
            said => io::Error::new(error.kind(), format!("{error}: {}", said.join("; "))),
        }
    }
}

/// Puts a mount at a place.
pub(super) fn put(mount: &OwnedFd, target: &Path) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    let (from, to) = (mount.as_raw_fd(), libc::AT_FDCWD);
    // SAFETY: both paths are valid strings for the call.
    let result = unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, target.as_ptr(), EMPTY_PATH) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What lies at a path without what is mounted below it, at no place yet.
pub(super) fn copy(path: &Path) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_int = 1;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC;
    // SAFETY: the path is a valid string for the call.
    descriptor(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

fn descriptor(fd: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(fd) {
        // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
