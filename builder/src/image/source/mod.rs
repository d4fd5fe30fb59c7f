//! Where the tree of an image comes from. Whatever that is, it becomes one uncompressed tar stream: owners, devices and capabilities are
//! data in it, so that nobody has to be root, and one pass is enough.
//!
//! [`packed`] are archives as they are found, compressed or not; [`directory`] walks over a tree, [`running`] over this machine's; [`oci`]
//! and [`layers`] merge what lies one over the other; [`mmdebstrap`] and [`pacstrap`] make a new system. What is made while it is read
//! comes through [`feed`].

pub mod directory;
pub mod feed;
pub mod layers;
pub mod mmdebstrap;
pub mod oci;
pub mod packed;
pub mod pacstrap;
mod program;
pub mod running;

use super::config::Source;
use crate::tar::{Archive, Entries, Entry, TarError};
use anyhow::Result;
use std::io::{BufReader, Read};

/// Bytes that are read at once; whole blocks are read without the detour.
const READ_AHEAD: usize = 64 << 10;

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

/// A source as entries. Where they end, whoever makes them is asked whether all went well: an archive that looks complete is not believed
/// before that.
#[derive(Debug)]
pub struct Tree {
    archive: Option<Archive<BufReader<Box<dyn Tarball>>>>,
    told: Vec<String>,
}

impl Tree {
    /// Begins to read a source, as [`open`] does.
    pub fn open(source: Source, time: i64) -> Result<Self> {
        Ok(Self::of(open(source, time)?))
    }

    /// Of a stream that was opened.
    pub fn of(stream: Box<dyn Tarball>) -> Self {
        let archive = Archive::new(BufReader::with_capacity(READ_AHEAD, stream));
        Self { archive: Some(archive), told: Vec::new() }
    }

    /// What its makers had to tell, once the end was reached.
    pub fn told(&self) -> &[String] {
        &self.told
    }
}

impl Entries for Tree {
    fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let Some(archive) = &mut self.archive else { return Ok(None) };
        if let Some(entry) = archive.next_entry()? {
            return Ok(Some(entry));
        }
        if let Some(archive) = self.archive.take() {
            let told = archive.into_inner().into_inner().finish();
            self.told = told.map_err(|error| TarError::Io(std::io::Error::other(format!("{error:#}"))))?;
        }
        Ok(None)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        match &mut self.archive {
            Some(archive) => archive.read(buffer),
            None => Err(TarError::Cut { inside: "what is behind the end".into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::tar::{Made, archive};
    use anyhow::bail;
    use std::io::Write as _;

    #[test]
    fn an_archive_whose_maker_failed_has_no_end() {
        let bytes = archive(&[Made::file("f", "content")]);
        let whole = bytes.clone();
        let made = feed::feed(move |out| {
            out.write_all(&whole)?;
            out.flush()?;
            bail!("exit status 1")
        });
        let mut tree = Tree::of(Box::new(made));
        assert!(tree.next_entry().unwrap().is_some());
        let error = anyhow::Error::from(tree.next_entry().unwrap_err());
        assert!(format!("{error:#}").contains("exit status 1"), "{error:#}");
        let made = feed::feed(move |out| {
            out.write_all(&bytes)?;
            Ok(vec!["well".to_owned()])
        });
        let mut tree = Tree::of(Box::new(made));
        assert!(tree.next_entry().unwrap().is_some() && tree.next_entry().unwrap().is_none());
        assert_eq!(tree.told(), ["well"]);
        assert!(tree.next_entry().unwrap().is_none());
    }
}
