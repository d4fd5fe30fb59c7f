//! Where the tree of an image comes from. Whatever that is, it becomes one uncompressed tar stream: owners, devices and capabilities are
//! data in it, so that nobody has to be root, and one pass is enough.
//!
//! [`packed`] are archives as they are found, compressed or not; [`directory`] walks over a tree, [`running`] over this machine's; [`oci`]
//! and [`layers`] merge what lies one over the other; [`mmdebstrap`] and [`pacstrap`] make a new system. What is made while it is read
//! comes through [`feed`].

pub mod directory;
pub mod feed;
pub mod layers;
mod merge;
pub mod mmdebstrap;
pub mod oci;
pub mod packed;
pub mod pacstrap;
mod program;
pub mod running;

use super::config::Source;
use anyhow::Result;
use std::io::Read;

/// A tree as a tar stream. Errors of whoever makes it are errors of reading, but some can be known only behind the end of the archive:
/// [`Tarball::finish`] asks for those.
pub trait Tarball: Read + Send + std::fmt::Debug {
    /// Reads what is left and waits for whoever makes the stream: what there is to tell a person, or why the archive is not to be
    /// believed, however complete it looks.
    fn finish(self: Box<Self>) -> Result<Vec<String>>;
}

/// Begins to read a source. What can be found out before - a program that lacks, rights, a file that is none - is an error here. `time` is
/// for what has no time of its own, in seconds since 1970.
pub fn open(source: Source, time: i64) -> Result<Box<dyn Tarball>> {
    Ok(match source {
        Source::Tar(path) => packed::open(&path)?,
        Source::Directory(path) => Box::new(directory::Walk::of(&path).stream()?),
        Source::Oci(path, tag, platform) => Box::new(oci::stream(&path, tag.as_deref(), platform.as_deref())?),
        Source::Mmdebstrap(asked) => Box::new(mmdebstrap::stream(asked, time)?),
        Source::Pacstrap(asked) => Box::new(pacstrap::stream(asked)?),
        Source::Running(also, exclude) => Box::new(running::stream(also, exclude)?),
        Source::Layers(layers) => Box::new(layers::stream(&layers)?),
    })
}
