//! `taproot live`: a tree, as a stream of entries, becomes a medium that boots it from a squashfs, as an ordinary user.
//!
//! One pass: mksquashfs takes the stream, and what the boot needs of it is kept on its way. The image is read again and compared with
//! what went in ([`prove`]). Then an initramfs is packed, [`medium`] lays out the files that boot loaders and the boot look for, and
//! [`stick`] puts them on a disk, [`iso`] on a CD, [`parts`] into a directory.

mod ext4;
mod iso;
pub mod keep;
pub mod medium;
mod parts;
pub mod pipeline;
mod prove;
mod sealed;
mod squash;
mod stick;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::layer::format::Compression;
pub use keep::Keep;
pub use sealed::Sealing;

/// All that a medium is made by; where the entries come from is told apart from it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The bytes of a disk, in a file with holes.
    pub raw: Option<PathBuf>,
    /// A hybrid ISO.
    pub iso: Option<PathBuf>,
    /// A directory for the parts of a medium.
    pub parts: Option<PathBuf>,
    /// Where what is written in the live system stays; without it in memory.
    pub keep: Option<Keep>,
    /// How the boot knows the image for the one that was made; without, it takes what it finds.
    pub sealing: Option<Sealing>,
    /// How data are compressed.
    pub compression: Compression,
    /// Processors to use; all without.
    pub jobs: Option<NonZeroUsize>,
    /// Further words of the kernel command line.
    pub cmdline: String,
    /// Release of the kernel; `None`: the newest one of the tree.
    pub kernel: Option<String>,
    /// The static taproot-init; `None`: beside this program.
    pub init: Option<PathBuf>,
    /// Seconds since 1970, for what has no time of its own.
    pub time: u32,
}
