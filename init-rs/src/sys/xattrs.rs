//! Extended attributes (xattr(7)) of an open file, also of one that was opened by its path alone (`O_PATH`): of symbolic links,
//! device nodes and sockets too.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`: the kernel gives no more.
const MOST: usize = 65_536;

/// The only path that leads to what was opened, whatever it is.
fn path(file: &impl AsFd) -> io::Result<CString> {
    CString::new(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())).map_err(io::Error::other)
}

fn length(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Names of all attributes that the caller may see: those of `trusted.` are shown to root alone. None where the file system has none.
pub fn list(file: &impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let path = path(file)?;
    // Most files have none or one.
    let mut names = vec![0_u8; 1024];
    loop {
        // SAFETY: the path ends with a NUL, and the kernel writes at most as many bytes as the vector has.
        let found = length(unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) });
        match found {
            Ok(length) => names.truncate(length),
            Err(e) if e.raw_os_error() == Some(libc::ERANGE) && names.len() < MOST => {
                names.resize(MOST, 0);
                continue;
            }
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => names.clear(),
            Err(e) => return Err(e),
        }
        return Ok(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect());
    }
}

/// The value of one attribute.
pub fn get(file: &impl AsFd, name: &[u8]) -> io::Result<Vec<u8>> {
    let (path, name) = (path(file)?, CString::new(name)?);
    let mut value = vec![0_u8; 256];
    loop {
        // SAFETY: both texts end with a NUL, and the kernel writes at most as many bytes as the vector has.
        let found =
            length(unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) });
        match found {
            Ok(length) => value.truncate(length),
            Err(e) if e.raw_os_error() == Some(libc::ERANGE) && value.len() < MOST => {
                value.resize(MOST, 0);
                continue;
            }
            Err(e) => return Err(e),
        }
        return Ok(value);
    }
}

/// Sets one attribute.
pub fn set(file: &impl AsFd, name: &[u8], value: &[u8]) -> io::Result<()> {
    let (path, name) = (path(file)?, CString::new(name)?);
    // SAFETY: both texts end with a NUL, and the kernel reads as many bytes as the value has.
    let done = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::OpenOptionsExt as _;

    #[test]
    fn attributes_of_what_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        let file = File::options().read(true).custom_flags(libc::O_PATH).open(&path).unwrap();
        let before = list(&file).unwrap().len();
        for (name, value) in [("user.empty", Vec::new()), ("user.long", vec![7; 1000])] {
            match set(&file, name.as_bytes(), &value) {
                // Not every file system has them.
                Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return,
                done => done.unwrap(),
            }
            assert_eq!(get(&file, name.as_bytes()).unwrap(), value);
        }
        assert_eq!(list(&file).unwrap().len(), before + 2);
        assert_eq!(get(&file, b"user.none").unwrap_err().raw_os_error(), Some(libc::ENODATA));
    }
}
