//! Files on loop devices (`include/uapi/linux/loop.h`).
#![allow(unsafe_code)]

use super::Attached;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// How often a free loop device is looked for: somebody else may take it first.
const TRIES: u32 = 64;
/// Between two looks for the node of a new device.
const PAUSE: Duration = Duration::from_millis(10);

/// `LO_FLAGS_READ_ONLY`.
pub(super) const READ_ONLY: u32 = 1;
/// `LO_FLAGS_AUTOCLEAR`: it goes with its last user.
pub(super) const AUTOCLEAR: u32 = 4;

mod request {
    pub(super) const LOOP_CTL_GET_FREE: u64 = 0x4c82;
    pub(super) const LOOP_CONFIGURE: u64 = 0x4c0a;
    pub(super) const LOOP_CLR_FD: u64 = 0x4c01;
}

/// `struct loop_config`, as bytes.
#[repr(C, align(8))]
struct Config([u8; 304]);

impl Config {
    const FLAGS: usize = 60;
    const FILE_NAME: usize = 64;

    fn new(file: &File, name: &Path, flags: u32) -> Self {
        let mut config = Self([0; 304]);
        config.put(0, &file.as_raw_fd().to_ne_bytes());
        config.put(Self::FLAGS, &flags.to_ne_bytes());
        // For people: losetup(8) shows it. The last byte stays NUL.
        let name = name.as_os_str().as_bytes();
        config.put(Self::FILE_NAME, name.get(..63).unwrap_or(name));
        config
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(room) = self.0.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
    }
}

/// Attaches a file to a loop device (`LOOP_CONFIGURE`, Linux 5.8); gives the device, and that open: with [`AUTOCLEAR`] it goes when
/// nobody has it open or mounted any more. `name`: what the file is called, for people.
pub(super) fn attach(file: &File, name: &Path, flags: u32) -> io::Result<(Attached, File)> {
    let config = Config::new(file, name, flags);
    let mut last = io::Error::from_raw_os_error(libc::EBUSY);
    for _ in 0..TRIES {
        // One that is only read itself makes the kernel attach the file so, too.
        let (node, device) = free_device(flags & READ_ONLY == 0)?;
        // SAFETY: the request reads 304 bytes through the pointer, which is valid for the call.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), request::LOOP_CONFIGURE, std::ptr::from_ref(&config)) };
        if result == 0 {
            let number = device.metadata()?.rdev();
            return Ok((Attached { node: node.into(), number: (libc::major(number), libc::minor(number)) }, device));
        }
        last = io::Error::last_os_error();
        if last.raw_os_error() != Some(libc::EBUSY) {
            break;
        }
    }
    Err(last)
}

/// A loop device that was free a moment ago. Its node can take a moment longer than the device.
fn free_device(write: bool) -> io::Result<(String, File)> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    // SAFETY: no memory is passed.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), request::LOOP_CTL_GET_FREE) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    let node = format!("/dev/loop{number}");
    for _ in 0..TRIES {
        match File::options().read(true).write(write).open(&node) {
            Ok(device) => return Ok((node, device)),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENXIO | libc::ENODEV)) => {
                std::thread::sleep(PAUSE);
            }
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("{node} did not appear")))
}

/// Takes the file from a loop device.
pub(super) fn detach(device: &Path) -> io::Result<()> {
    let device = File::open(device)?;
    // SAFETY: the request takes no memory.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), request::LOOP_CLR_FD, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_as_the_kernel_reads_it() {
        let file = File::open("/dev/null").unwrap();
        let config = Config::new(&file, Path::new(&"x".repeat(100)), READ_ONLY | AUTOCLEAR);
        assert_eq!(config.0[..4], file.as_raw_fd().to_ne_bytes());
        assert_eq!(config.0[60..64], 5_u32.to_ne_bytes());
        assert_eq!((config.0[64], config.0[126], config.0[127]), (b'x', b'x', 0));
    }
}
