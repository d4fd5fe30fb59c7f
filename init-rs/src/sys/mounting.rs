//! mount(2), with the options on a page of their own, and what holds a mount: namespaces and loop devices.

use nix::mount::{MsFlags, mount};
use std::ffi::CStr;
use std::io;
use std::path::Path;

/// What the kernel copies of mount(2)'s last argument, however short the text in it is (`copy_mount_options` in
/// `fs/namespace.c`). It frees its copy as it is, so behind the text must not be whatever lies next in our memory: that
/// was once the passphrase of the root.
pub(super) const OPTIONS_LEN: usize = 4096;

struct Options(Box<[u8; OPTIONS_LEN]>);

impl Options {
    /// The text with zeros behind it; `None` if it is too long or holds a NUL.
    fn new(text: &str) -> Option<Self> {
        let mut page = Box::new([0; OPTIONS_LEN]);
        page.get_mut(..text.len()).filter(|_| text.len() < OPTIONS_LEN)?.copy_from_slice(text.as_bytes());
        (!text.contains('\0')).then_some(Self(page))
    }
}

impl nix::NixPath for Options {
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.0.iter().take_while(|b| **b != 0).count()
    }

    fn with_nix_path<T, F: FnOnce(&CStr) -> T>(&self, f: F) -> nix::Result<T> {
        // The very page: a copy would have something else behind it.
        CStr::from_bytes_until_nul(self.0.as_slice()).map(f).map_err(|_| nix::Error::EINVAL)
    }
}

/// A mount namespace of our own, from which nothing gets out (`mount_namespaces(7)`).
#[allow(unsafe_code)]
pub(super) fn own_mounts() -> io::Result<()> {
    // SAFETY: no memory is passed.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } < 0 {
        return Err(io::Error::last_os_error());
    }
    mount_with("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE, "")
}

/// Mounts. Without options the kernel is given none: even of an empty text it would copy a page.
pub(super) fn mount_with(source: &str, target: &Path, fstype: &str, flags: u64, options: &str) -> io::Result<()> {
    if options.is_empty() {
        let flags = sys_mount::MountFlags::from_bits_retain(flags);
        return sys_mount::Mount::builder().fstype(fstype).flags(flags).mount(source, target).map(drop);
    }
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "mount options of 4096 bytes or more, or with a NUL");
    let options = Options::new(options).ok_or_else(invalid)?;
    mount(Some(source), target, Some(fstype), MsFlags::from_bits_retain(flags), Some(&options)).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::NixPath as _;

    #[test]
    fn the_kernel_gets_the_page_itself() {
        let options = Options::new("ro,mode=0755").unwrap();
        let page = options.0.as_ptr();
        let same = options.with_nix_path(|text| text.as_ptr().cast() == page && text.to_bytes() == b"ro,mode=0755");
        assert_eq!(same, Ok(true));
        assert_eq!(options.len(), 12);
        assert!(Options::new(&"x".repeat(OPTIONS_LEN)).is_none() && Options::new("a\0b").is_none());
        assert!(Options::new(&"x".repeat(OPTIONS_LEN - 1)).is_some());
    }

    #[test]
    fn failures_carry_the_errno() {
        let missing = Path::new("/nonexistent/mount/point");
        for options in ["", "mode=0755"] {
            let error = mount_with("none", missing, "tmpfs", 0, options).unwrap_err();
            assert!(matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EPERM)), "{error}");
        }
    }
}
