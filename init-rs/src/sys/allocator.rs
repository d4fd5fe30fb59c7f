//! The C library's allocator, for programs of the running system that handle large buffers one after the other.
#![allow(unsafe_code)]

/// Buffers of this many bytes come from the kernel.
const LARGE: libc::c_int = 256 << 10;

/// Large buffers go back to the kernel when they are freed. By itself the allocator learns from the first of them to keep the
/// following ones, and a program that decompresses modules ends with twice the memory that it needs at any one time. While an
/// initramfs is packed this costs a tenth of a second: it is for programs that hold more than that.
pub fn return_large_buffers() {
    // SAFETY: changes a number of the allocator's; nothing is pointed to.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}

/// What is free goes back to the kernel, of all threads; small buffers, too.
pub fn return_all() {
    // SAFETY: the allocator's own; what is in use stays where it is.
    unsafe { libc::malloc_trim(0) };
}
