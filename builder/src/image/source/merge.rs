//! Archives that lie one over the other - layers of a container image, states of a tree: what is left of which.

use super::Tarball;
use crate::image::edit::clean;
use crate::tar::{Archive, Entry, Kind, write};
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Write};

/// What begins the names of files that take others away, and the one that takes away all of its directory (OCI layer, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A file of a layer: which layer, and its how many-eth entry.
type Place = (usize, u64);

/// What a path is.
#[derive(Debug)]
enum What {
    Directory(Box<Entry>),
    /// Anything else, by where it is written.
    At(Place),
}

#[derive(Debug)]
struct Item {
    what: What,
    /// The layer that said so.
    layer: usize,
}

/// All paths, as the layers so far leave them.
#[derive(Debug, Default)]
pub(super) struct Merged {
    items: BTreeMap<Vec<u8>, Item>,
    layers: usize,
    /// Once all are known: the paths of each file.
    names: HashMap<Place, Vec<Vec<u8>>>,
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// Paths of layers may begin with a slash.
fn relative(path: &[u8]) -> Result<Vec<u8>> {
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    Ok(clean(path.get(start..).unwrap_or_default())?)
}

impl Merged {
    /// The next layer.
    pub(super) fn take(&mut self, layer: Box<dyn Tarball>) -> Result<()> {
        let number = self.layers;
        let mut archive = Archive::new(BufReader::new(layer));
        let mut count = 0;
        while let Some(mut entry) = archive.next_entry()? {
            entry.path = relative(&entry.path)?;
            self.entry(entry, (number, count))?;
            count += 1;
        }
        archive.into_inner().into_inner().finish()?;
        self.layers += 1;
        Ok(())
    }

    fn entry(&mut self, entry: Entry, place: Place) -> Result<()> {
        let (directory, name) = split(&entry.path);
        if name == OPAQUE {
            let directory = directory.to_vec();
            self.remove_below(&directory, place.0);
        } else if let Some(name) = name.strip_prefix(WHITEOUT) {
            let path = joined(directory, name);
            self.remove_below(&path, place.0);
            if self.items.get(&path).is_some_and(|item| item.layer < place.0) {
                self.items.remove(&path);
            }
        } else if entry.kind == Kind::Directory {
            // What was in it stays, if it was one.
            let path = entry.path.clone();
            self.items.insert(path, Item { what: What::Directory(Box::new(entry)), layer: place.0 });
        } else {
            let mut at = place;
            if entry.kind == Kind::HardLink {
                let target = relative(&entry.target)?;
                let found = self.items.get(&target).map(|item| &item.what);
                let shown = String::from_utf8_lossy(&target).into_owned();
                let Some(What::At(first)) = found else {
                    anyhow::bail!(
                        "{}: it is a hard link to {shown}, which is no file",
                        String::from_utf8_lossy(&entry.path)
                    );
                };
                at = *first;
            }
            self.remove_below(&entry.path, usize::MAX);
            self.items.insert(entry.path, Item { what: What::At(at), layer: place.0 });
        }
        Ok(())
    }

    /// Takes away what layers below a number have below a path.
    fn remove_below(&mut self, path: &[u8], layer: usize) {
        let start = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        let inside = self.items.range(start.clone()..).take_while(|(path, _)| path.starts_with(&start));
        let gone: Vec<Vec<u8>> = inside
            .filter(|(path, item)| item.layer < layer && !path.is_empty())
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            self.items.remove(&path);
        }
    }

    /// Writes all directories, each before what is in it.
    pub(super) fn directories(&mut self, out: &mut dyn Write) -> Result<()> {
        for (path, item) in &self.items {
            match &item.what {
                What::Directory(entry) => out.write_all(&write::header(entry))?,
                What::At(place) => self.names.entry(*place).or_default().push(path.clone()),
            }
        }
        Ok(())
    }

    /// Writes what is left of a layer: each file by its first name, further ones as links to that.
    pub(super) fn write(&self, number: usize, layer: Box<dyn Tarball>, out: &mut dyn Write) -> Result<()> {
        let mut archive = Archive::new(BufReader::new(layer));
        let mut buffer = vec![0; 1 << 18];
        let mut count = 0;
        while let Some(mut entry) = archive.next_entry()? {
            let names = self.names.get(&(number, count));
            count += 1;
            let Some((first, others)) = names.and_then(|names| names.split_first()) else { continue };
            entry.path.clone_from(first);
            out.write_all(&write::header(&entry))?;
            let mut left = write::stored(&entry);
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                let room = buffer.get_mut(..most).unwrap_or_default();
                archive.read(room)?;
                out.write_all(room)?;
                left -= most as u64;
            }
            out.write_all(write::pad(write::stored(&entry)))?;
            for other in others {
                let link = Entry {
                    path: other.clone(),
                    kind: Kind::HardLink,
                    target: first.clone(),
                    size: 0,
                    parts: Vec::new(),
                    xattrs: Vec::new(),
                    ..entry.clone()
                };
                out.write_all(&write::header(&link))?;
            }
        }
        archive.into_inner().into_inner().finish().context("reading a layer to its end")?;
        Ok(())
    }
}
