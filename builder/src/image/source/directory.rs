//! A directory as a tar stream: names in order, owners as numbers, extended attributes with access lists and capabilities, hard links,
//! and holes as what they are. One file system, unless others are named.

use super::feed::{Fed, Feed, feed};
use crate::layer::node::{Kind, Namespace, Node};
use crate::layer::tree::Source;
use crate::tar::{self, Entry, write};
use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::stat::{major, minor};
use nix::unistd::{Whence, lseek};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Bytes that are read at once; a file up to this is read whole before it is promised, and again if it changed meanwhile.
const PIECE: usize = 1 << 20;
/// How often such a file is read before it is given up.
const TRIES: usize = 3;
/// Says which version of `security.capability` has a user namespace in it (`linux/capability.h`).
const NAMESPACED: u8 = 3;

/// Whether a path, below the top, is left out with everything below it.
pub type LeftOut = Box<dyn Fn(&Path) -> bool + Send>;

/// What is walked over, and how.
pub struct Walk {
    /// The top directory.
    pub top: PathBuf,
    /// Other file systems that belong to the tree: where they are mounted, below the top, and where their content is read.
    pub others: BTreeMap<PathBuf, PathBuf>,
    /// What is left out.
    pub left_out: LeftOut,
    /// Whether the tree is in use: what changes while it is read is told of then, and an error otherwise.
    pub live: bool,
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("top", &self.top).field("others", &self.others).finish_non_exhaustive()
    }
}

impl Walk {
    /// A tree that nobody uses.
    pub fn of(top: &Path) -> Self {
        Self { top: top.to_owned(), others: BTreeMap::new(), left_out: Box::new(|_| false), live: false }
    }

    /// Begins to read.
    pub fn stream(self) -> Result<Fed> {
        let open = |path: &Path| Source::directory(path, Namespace::default());
        let sources = std::iter::once((PathBuf::new(), open(&self.top)?));
        let others = self.others.iter().map(|(at, path)| Ok((at.clone(), open(path)?)));
        let sources = sources.map(Ok).chain(others).collect::<Result<BTreeMap<_, _>>>()?;
        Ok(feed(move |out| walk(&sources, &self, out)))
    }
}

/// Writes all of it; gives what is to be told.
pub fn walk(sources: &BTreeMap<PathBuf, Source>, how: &Walk, out: &mut Feed) -> Result<Vec<String>> {
    let top = sources.get(Path::new("")).context("a tree without a top")?;
    let node = top.node(Path::new(""))?;
    let mut walker = Walker {
        sources,
        how,
        out,
        links: HashMap::new(),
        sockets: 0,
        foreign: Vec::new(),
        changed: Vec::new(),
        buffer: vec![0; PIECE],
    };
    walker.entry(&Place { source: top, inside: PathBuf::new() }, Path::new(""), &node)?;
    walker.directory(&Place { source: top, inside: PathBuf::new() }, Path::new(""), &node)?;
    walker.out.write_all(&write::END)?;
    Ok(walker.told())
}

/// An entry of a source.
struct Place<'a> {
    source: &'a Source,
    inside: PathBuf,
}

struct Walker<'a> {
    sources: &'a BTreeMap<PathBuf, Source>,
    how: &'a Walk,
    out: &'a mut Feed,
    /// First path of files that have several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    sockets: u64,
    foreign: Vec<PathBuf>,
    changed: Vec<PathBuf>,
    buffer: Vec<u8>,
}

impl Walker<'_> {
    fn told(self) -> Vec<String> {
        let mut told = Vec::new();
        if self.sockets > 0 {
            told.push(format!("{} sockets left out: their programs make them anew", self.sockets));
        }
        for path in self.foreign {
            told.push(format!("/{}: another file system, what is in it was left out", path.display()));
        }
        for path in self.changed {
            told.push(format!("/{}: changed while it was read, and may be of no use in the image", path.display()));
        }
        told
    }

    /// What is in a directory.
    fn directory(&mut self, place: &Place<'_>, path: &Path, node: &Node) -> Result<()> {
        for (name, node) in place.source.children(&place.inside, node)? {
            let path = path.join(&name);
            if (self.how.left_out)(&path) {
                continue;
            }
            let inside = place.inside.join(&name);
            if let Some(source) = self.sources.get(&path).filter(|_| node.is_dir()) {
                let place = Place { source, inside: PathBuf::new() };
                let top = source.node(Path::new(""))?;
                self.entry(&place, &path, &top)?;
                self.directory(&place, &path, &top)?;
                continue;
            }
            let place = Place { source: place.source, inside };
            self.entry(&place, &path, &node)?;
            if node.foreign {
                self.foreign.push(path);
            } else if node.is_dir() {
                self.directory(&place, &path, &node)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, place: &Place<'_>, path: &Path, node: &Node) -> Result<()> {
        let Some(mut entry) = Self::described(place, path, node)? else {
            self.sockets += 1;
            return Ok(());
        };
        if let Some(identity) = node.identity {
            if let Some(first) = self.links.get(&identity) {
                entry.kind = tar::Kind::HardLink;
                entry.target.clone_from(first);
                (entry.size, entry.xattrs) = (0, Vec::new());
                return Ok(self.out.write_all(&write::header(&entry))?);
            }
            self.links.insert(identity, entry.path.clone());
        }
        if entry.kind == tar::Kind::File {
            self.file(place, path, entry)
        } else {
            Ok(self.out.write_all(&write::header(&entry))?)
        }
    }

    /// What the header says; `None` of a socket.
    fn described(place: &Place<'_>, path: &Path, node: &Node) -> Result<Option<Entry>> {
        let named = || place.source.name(&place.inside);
        ensure!(!node.marks.metacopy, "{}: its data are in another layer; say --layers with all of them", named());
        let (kind, target, number) = match &node.kind {
            Kind::Directory => (tar::Kind::Directory, Vec::new(), 0),
            Kind::File(_) => (tar::Kind::File, Vec::new(), 0),
            Kind::Link(to) => (tar::Kind::SymbolicLink, to.as_bytes().to_vec(), 0),
            Kind::Character(number) => (tar::Kind::Character, Vec::new(), *number),
            Kind::Block(number) => (tar::Kind::Block, Vec::new(), *number),
            Kind::Pipe => (tar::Kind::Pipe, Vec::new(), 0),
            Kind::Whiteout => bail!(
                "{}: a character device 0:0, by which a layer deletes: it is a part of a root made of layers; say --layers with all of them",
                named()
            ),
            Kind::Socket => return Ok(None),
        };
        if let Some(value) = node.xattrs.get(b"security.capability".as_slice()) {
            // The version stands in the highest byte of a number in little-endian order.
            ensure!(
                value.get(3) != Some(&NAMESPACED),
                "{}: its capabilities count in a user namespace only: the tree was made in one; read it there (unshare --map-auto --map-root-user \
                 taproot image ...), or have a tar made there",
                named()
            );
        }
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Some(Entry {
            path: path.as_os_str().as_bytes().to_vec(),
            kind,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            mtime: (node.mtime.seconds, node.mtime.nanoseconds),
            size: 0,
            parts: Vec::new(),
            target,
            device: (small(major(number)), small(minor(number))),
            xattrs: node.xattrs.clone().into_iter().collect(),
        }))
    }

    fn file(&mut self, place: &Place<'_>, path: &Path, mut entry: Entry) -> Result<()> {
        let named = || place.source.name(&place.inside);
        let mut file = place.source.file(&place.inside)?;
        let failed = || format!("{}: reading it", named());
        let mut before = file.metadata().with_context(failed)?;
        let mut same = false;
        for _ in 0..TRIES {
            entry.size = before.len();
            entry.mtime = (before.mtime(), u32::try_from(before.mtime_nsec()).unwrap_or(0));
            entry.parts = parts(&file, &before).with_context(failed)?;
            if write::stored(&entry) > PIECE as u64 {
                return self.large(path, &entry, &mut file, &before).with_context(failed);
            }
            let whole = self.fill(&mut file, &entry).with_context(failed)?;
            let after = file.metadata().with_context(failed)?;
            same = whole && unchanged(&before, &after);
            if same || !self.how.live {
                break;
            }
            before = after;
        }
        self.note(same, path, named)?;
        self.out.write_all(&write::header(&entry))?;
        let length = write::stored(&entry);
        let filled = usize::try_from(length).unwrap_or(0);
        self.out.write_all(self.buffer.get(..filled).unwrap_or_default())?;
        Ok(self.out.write_all(write::pad(length))?)
    }

    /// Reads all parts into the buffer; `false` if there was less than promised, and zeros in its place.
    fn fill(&mut self, file: &mut File, entry: &Entry) -> std::io::Result<bool> {
        let (mut at, mut whole) = (0, true);
        for (offset, length) in &entry.parts {
            file.seek(SeekFrom::Start(*offset))?;
            let length = usize::try_from(*length).unwrap_or(0);
            let room = self.buffer.get_mut(at..at + length).unwrap_or_default();
            let n = read_full(file, room)?;
            whole &= n == room.len();
            room.get_mut(n..).unwrap_or_default().fill(0);
            at += length;
        }
        Ok(whole)
    }

    fn large(&mut self, path: &Path, entry: &Entry, file: &mut File, before: &Metadata) -> Result<()> {
        self.out.write_all(&write::header(entry))?;
        let mut same = true;
        for (offset, length) in &entry.parts {
            file.seek(SeekFrom::Start(*offset))?;
            let mut left = *length;
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                let room = self.buffer.get_mut(..most).unwrap_or_default();
                let n = read_full(file, room)?;
                same &= n == most;
                room.get_mut(n..).unwrap_or_default().fill(0);
                self.out.write_all(room)?;
                left -= most as u64;
            }
        }
        self.out.write_all(write::pad(write::stored(entry)))?;
        same &= unchanged(before, &file.metadata()?);
        self.note(same, path, || format!("/{}", path.display()))
    }

    fn note(&mut self, same: bool, path: &Path, named: impl Fn() -> String) -> Result<()> {
        if !same {
            ensure!(
                self.how.live,
                "{}: it changed while it was read; stop whatever writes there, and try again",
                named()
            );
            self.changed.push(path.to_owned());
        }
        Ok(())
    }
}

fn read_full(file: &mut File, room: &mut [u8]) -> std::io::Result<usize> {
    let mut at = 0;
    while at < room.len() {
        match file.read(room.get_mut(at..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(n) => at += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(at)
}

fn unchanged(before: &Metadata, after: &Metadata) -> bool {
    let of = |meta: &Metadata| (meta.len(), meta.mtime(), meta.mtime_nsec());
    of(before) == of(after)
}

/// Where a file has data. Files without holes are not asked: they have as many blocks as bytes.
fn parts(file: &File, meta: &Metadata) -> std::io::Result<Vec<(u64, u64)>> {
    let size = meta.len();
    if size == 0 || meta.blocks().saturating_mul(512) >= size {
        return Ok(if size == 0 { Vec::new() } else { vec![(0, size)] });
    }
    let mut parts = Vec::new();
    let mut at = 0_i64;
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    while at < size {
        let from = match lseek(file, at, Whence::SeekData) {
            Ok(from) => from,
            // Only a hole is left.
            Err(nix::errno::Errno::ENXIO) => break,
            // The file system knows no holes.
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::EOPNOTSUPP) => return Ok(vec![(0, meta.len())]),
            Err(e) => return Err(e.into()),
        };
        let to = lseek(file, from, Whence::SeekHole)?.min(size);
        if from >= to {
            break;
        }
        parts.push((from.unsigned_abs(), (to - from).unsigned_abs()));
        at = to;
    }
    Ok(parts)
}
