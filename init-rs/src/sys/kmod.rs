//! Kernel modules: `finit_module(2)`.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h` (since Linux 5.17): the kernel decompresses. nix has no name for it.
const COMPRESSED_FILE: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);

/// Inserts the module file at `path` with `params` (as `finit_module(2)` takes them); returns when its init has run.
///
/// A module that is there already is success, because that is what was wanted. Files named `.xz`, `.zst` or `.gz` are
/// left to the kernel to decompress. Firmware needs nothing here: the kernel reads `/lib/firmware` itself.
pub fn load(path: &Path, params: &str) -> io::Result<()> {
    let params = CString::new(params).map_err(|_| io::Error::from(Errno::EINVAL))?;
    let compressed =
        path.extension().is_some_and(|e| e.eq_ignore_ascii_case("xz") || e == "zst" || e.eq_ignore_ascii_case("gz"));
    let flags = if compressed { COMPRESSED_FILE } else { ModuleInitFlags::empty() };
    match finit_module(File::open(path)?, &params, flags) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_carry_the_errno() {
        let missing = load(Path::new("/nonexistent/x.ko"), "").unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(nix::libc::ENOENT));
        let nul = load(Path::new("/dev/null"), "a\0b").unwrap_err();
        assert_eq!(nul.raw_os_error(), Some(nix::libc::EINVAL));
        // Whatever the kernel thinks of an empty file (no privilege, no module support, no ELF), it is no success.
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(load(file.path(), "").is_err());
    }
}
