//! An image in a file, mounted read-only for this process alone: by a loop device that goes with it, at no place of the tree, so
//! that nobody else sees it and nothing is left of it however the process ends.

use super::loops;
use super::mount_api::{self, Context, attribute};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// It is looked at.
const ATTRIBUTES: u32 = attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEVICES | attribute::NO_PROGRAMS;

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
        // The mount alone keeps the device in the end.
        let (attached, _device) = loops::attach(image, Path::new(""), loops::READ_ONLY | loops::AUTOCLEAR)?;
        let context = Context::open(fstype)?;
        context.option("ro", "")?;
        context.set(c"source", attached.node.as_os_str().as_bytes())?;
        context.create().map_err(|e| context.explain(&e))?;
        Ok(Self(context.mount(ATTRIBUTES)?))
    }
}

/// What lies at a path without what is mounted below it, for this process alone. Needs root.
pub fn alone(path: &Path) -> io::Result<OwnedFd> {
    mount_api::copy(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(65_536).unwrap();
        let error = Detached::mount(&file, c"squashfs").unwrap_err();
        let said = error.raw_os_error().is_none() && error.kind() == io::ErrorKind::InvalidInput;
        assert!(
            said || matches!(
                error.raw_os_error(),
                Some(libc::EINVAL | libc::EPERM | libc::EACCES | libc::ENOENT | libc::ENODEV | libc::EBUSY)
            ),
            "{error}"
        );
    }
}
