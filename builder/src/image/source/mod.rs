//! Where the tree of an image comes from. Whatever that is, it becomes one uncompressed tar stream: owners, devices and capabilities are
//! data in it, so that nobody has to be root, and one pass is enough.
//!
//! [`packed`] are archives as they are found, compressed or not; [`directory`] walks over a tree. What is made while it is read comes
//! through [`feed`].

pub mod directory;
pub mod feed;
pub mod packed;

use anyhow::Result;
use std::io::Read;

/// A tree as a tar stream. Errors of whoever makes it are errors of reading, but some can be known only behind the end of the archive:
/// [`Tarball::finish`] asks for those.
pub trait Tarball: Read + Send {
    /// Reads what is left and waits for whoever makes the stream: what there is to tell a person, or why the archive is not to be
    /// believed, however complete it looks.
    fn finish(self: Box<Self>) -> Result<Vec<String>>;
}
