//! An image in a file, mounted read-only for this process alone: by a loop device that goes with it, at no place of the tree, so
//! that nobody else sees it and nothing is left of it however the process ends (`fsmount(2)`, Linux 5.2; `LOOP_CONFIGURE`, 5.8).
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

/// `include/uapi/linux/loop.h`.
const LOOP_CTL_GET_FREE: u64 = 0x4c82;
const LOOP_CONFIGURE: u64 = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// Another process takes the number that was free: the next one may be ours.
const TRIES: usize = 64;

/// `include/uapi/linux/mount.h`.
const CLOEXEC: u32 = 1;
const SET_FLAG: u32 = 0;
const SET_STRING: u32 = 1;
const CREATE: u32 = 6;
/// Read-only, no set-user-ID, no devices, no programs: it is looked at.
const ATTRIBUTES: u32 = 1 | 2 | 4 | 8;

/// `struct loop_config`.
#[repr(C)]
struct Configuration {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// The mount; it ends with this.
#[derive(Debug)]
pub struct Detached(OwnedFd);

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Detached {
    /// Mounts the file system of this type in the file. Needs root.
    pub fn mount(image: &File, fstype: &CStr) -> io::Result<Self> {
        let (device, path) = attach(image)?;
        let path = std::ffi::CString::new(path.into_os_string().into_encoded_bytes())?;
        let context = descriptor(call([libc::SYS_fsopen, address(fstype), CLOEXEC.into(), 0, 0, 0]))?;
        let fd = i64::from(context.as_raw_fd());
        call([libc::SYS_fsconfig, fd, SET_FLAG.into(), address(c"ro"), 0, 0])?;
        call([libc::SYS_fsconfig, fd, SET_STRING.into(), address(c"source"), address(&path), 0])?;
        call([libc::SYS_fsconfig, fd, CREATE.into(), 0, 0, 0])?;
        let mount = descriptor(call([libc::SYS_fsmount, fd, CLOEXEC.into(), ATTRIBUTES.into(), 0, 0]))?;
        // From here on the mount alone keeps the device.
        drop(device);
        Ok(Self(mount))
    }
}

/// What lies at a path without what is mounted below it, for this process alone (`open_tree(2)`, Linux 5.2). Needs root.
pub fn alone(path: &Path) -> io::Result<OwnedFd> {
    /// `include/uapi/linux/mount.h`.
    const CLONE: i64 = 1;
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    let flags = CLONE | i64::from(libc::O_CLOEXEC);
    descriptor(call([libc::SYS_open_tree, libc::AT_FDCWD.into(), address(&path), flags, 0, 0]))
}

fn address(text: &CStr) -> i64 {
    text.as_ptr() as i64
}

/// A system call with numbers, and addresses of texts that outlive it.
fn call([number, first, second, third, fourth, fifth]: [i64; 6]) -> io::Result<i64> {
    // SAFETY: the callers pass descriptors, flags, and addresses of C strings that live across the call; the kernel only reads them.
    let result = unsafe { libc::syscall(number, first, second, third, fourth, fifth) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn descriptor(result: io::Result<i64>) -> io::Result<OwnedFd> {
    let fd = i32::try_from(result?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A loop device for the file, read-only, which goes when the last who has it open lets it go.
fn attach(image: &File) -> io::Result<(File, PathBuf)> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    let configuration = Configuration {
        fd: u32::try_from(image.as_raw_fd()).map_err(io::Error::other)?,
        block_size: 0,
        info: Info {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    let mut busy = io::Error::from_raw_os_error(libc::EBUSY);
    for _ in 0..TRIES {
        // SAFETY: takes no argument and gives a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = Path::new("/dev").join(format!("loop{number}"));
        let device = File::open(&path)?;
        // SAFETY: the structure is the kernel's (304 bytes), lives across the call and is only read.
        if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const configuration) } == 0 {
            return Ok((device, path));
        }
        busy = io::Error::last_os_error();
        if busy.raw_os_error() != Some(libc::EBUSY) {
            break;
        }
    }
    Err(busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_the_kernels() {
        assert_eq!(size_of::<Info>(), 232);
        assert_eq!(size_of::<Configuration>(), 304);
    }

    #[test]
    fn what_is_no_image_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(65_536).unwrap();
        let error = Detached::mount(&file, c"squashfs").unwrap_err();
        assert!(matches!(
            error.raw_os_error(),
            Some(libc::EINVAL | libc::EPERM | libc::EACCES | libc::ENOENT | libc::ENODEV | libc::EBUSY)
        ));
    }
}
