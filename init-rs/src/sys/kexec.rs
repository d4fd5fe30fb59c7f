//! Kernels that are started by a kernel: `kexec_file_load(2)`, and `kexec_load(2)` where that one is not there.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// `KEXEC_ARCH_X86_64` of `include/uapi/linux/kexec.h`.
const ARCH_X86_64: u64 = 62 << 16;

/// Bytes and where they lie when the new kernel starts.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// What is copied.
    pub bytes: &'a [u8],
    /// Physical address, of a page.
    pub at: u64,
    /// Bytes of memory, whole pages, at least as many as are copied.
    pub room: u64,
}

/// `struct kexec_segment`.
#[repr(C)]
struct Raw {
    buf: *const u8,
    bufsz: usize,
    mem: usize,
    memsz: usize,
}

/// Has the kernel load a kernel and its initramfs; it reads both, and checks the signature where it wants one.
pub fn load_files(kernel: &File, initramfs: &File, words: &str) -> io::Result<()> {
    let words = CString::new(words)?;
    let length = words.as_bytes_with_nul().len();
    // SAFETY: the descriptors are open, and the string of `length` bytes with its NUL lives until the call has come back.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initramfs.as_raw_fd(),
            length,
            words.as_ptr(),
            0_u64,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the kernel what is to lie where when it jumps to `entry`, all of it laid out by the caller.
pub fn load_segments(entry: u64, segments: &[Segment<'_>]) -> io::Result<()> {
    let size = |bytes: u64| usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let mut list = Vec::with_capacity(segments.len());
    for segment in segments {
        let Segment { bytes, at, room } = *segment;
        list.push(Raw { buf: bytes.as_ptr(), bufsz: bytes.len(), mem: size(at)?, memsz: size(room)? });
    }
    // SAFETY: the list and the bytes it points to live until the call has come back, which copies them.
    let result = unsafe { libc::syscall(libc::SYS_kexec_load, entry, list.len(), list.as_ptr(), ARCH_X86_64) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Forgets what is loaded.
pub fn unload() -> io::Result<()> {
    // SAFETY: no segments, no pointer.
    let result = unsafe { libc::syscall(libc::SYS_kexec_load, 0_u64, 0_usize, std::ptr::null::<Raw>(), ARCH_X86_64) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the kernel has against it (no privilege, no support, no kernel image), an empty file is none, and the errno comes through.
    #[test]
    fn failures_carry_the_errno() {
        let file = tempfile::tempfile().unwrap();
        assert!(load_files(&file, &file, "quiet").unwrap_err().raw_os_error().is_some_and(|errno| errno > 0));
        assert_eq!(load_files(&file, &file, "a\0b").unwrap_err().kind(), io::ErrorKind::InvalidInput);
        // One byte that is to lie at no page's beginning.
        let odd = [Segment { bytes: b"x", at: 1, room: 1 }];
        assert!(load_segments(1, &odd).unwrap_err().raw_os_error().is_some_and(|errno| errno > 0));
    }
}
