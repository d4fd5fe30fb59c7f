//! The directories of all file systems while a stream of files is read: which name is which object.

use std::collections::BTreeMap;

use super::PoolError;
use super::names::{Child, Names};
use super::sa::Znode;
use super::zap::Entry;
use super::zpl::{FileSystem, ROOT};

/// Longest name that a directory takes.
const MAX_NAME: usize = 255;
const TYPE_DIRECTORY: u64 = 4;

#[derive(Debug)]
struct Directory {
    system: usize,
    object: u64,
    /// The object of the directory above, in the same file system.
    parent: u64,
    znode: Znode,
    /// Names, directories among them, and where the last name is kept.
    count: u64,
    below: u64,
    last: u64,
    /// What is mounted here.
    mounted: Option<usize>,
    /// What it was in the state before.
    old: Option<usize>,
}

/// All directories. The first ones are the roots of the file systems, by their numbers.
#[derive(Debug)]
pub(super) struct Tree {
    directories: Vec<Directory>,
    names: Names,
    /// The file system that the stream's top belongs to.
    top: usize,
    /// Paths at which the others are mounted.
    mounts: BTreeMap<Vec<Vec<u8>>, usize>,
    /// Which file systems take no part in the stream.
    outside: Vec<bool>,
    fallback: Znode,
    /// The state before: what is still there keeps its object.
    old: Option<Box<Tree>>,
}

impl Tree {
    /// `mounts` says for each file system where its root is, if it takes part in the stream.
    pub(super) fn new(mounts: &[Option<Vec<u8>>], time: i64, old: Option<Tree>) -> Result<Self, PoolError> {
        let fallback = Znode { mode: 0o040_755, mtime: (time, 0), ..Znode::default() };
        let mut places = BTreeMap::new();
        for (system, place) in mounts.iter().enumerate() {
            let Some(place) = place else { continue };
            if places.insert(components(place)?, system).is_some() {
                let place = String::from_utf8_lossy(place);
                return Err(PoolError::Option(format!("two data sets want the directory /{place}: give each its own")));
            }
        }
        let top = places.remove(&Vec::new());
        let again = old.is_some();
        let roots = (0..mounts.len()).map(|system| Directory {
            system,
            object: ROOT,
            parent: ROOT,
            znode: fallback.clone(),
            count: 0,
            below: 0,
            last: 0,
            mounted: None,
            old: again.then_some(system),
        });
        let top = top.ok_or_else(|| {
            PoolError::Option("no data set is for the top of the tree: give one the directory /".into())
        })?;
        let old = old.map(|mut old| {
            // One state back is enough.
            old.old = None;
            Box::new(old)
        });
        let outside = mounts.iter().map(Option::is_none).collect();
        Ok(Tree { directories: roots.collect(), names: Names::new(), top, mounts: places, outside, fallback, old })
    }

    fn get(&self, index: usize) -> Result<&Directory, PoolError> {
        self.directories.get(index).ok_or(PoolError::Worker)
    }

    fn get_mut(&mut self, index: usize) -> Result<&mut Directory, PoolError> {
        self.directories.get_mut(index).ok_or(PoolError::Worker)
    }

    /// The directory of these names, made if it is not there.
    fn enter(&mut self, names: &[Vec<u8>], systems: &mut [FileSystem]) -> Result<usize, PoolError> {
        let mut at = self.top;
        for (depth, name) in names.iter().enumerate() {
            at = match self.names.find(at, name)? {
                Some(Child { directory: Some(index), .. }) => index,
                Some(_) => return Err(PoolError::Entry("what is above it is no directory".into())),
                None => self.make(at, names.get(..=depth).unwrap_or_default(), systems)?,
            };
            at = self.get(at)?.mounted.unwrap_or(at);
        }
        Ok(at)
    }

    fn make(&mut self, above: usize, names: &[Vec<u8>], systems: &mut [FileSystem]) -> Result<usize, PoolError> {
        let name = names.last().cloned().unwrap_or_default();
        let (object, old) = self.number(above, &name, TYPE_DIRECTORY, systems)?;
        let (system, parent) = (self.get(above)?.system, self.get(above)?.object);
        let new = self.directories.len();
        let mounted = self.mounts.remove(names);
        let znode = self.fallback.clone();
        let directory = Directory { system, object, parent, znode, count: 0, below: 0, last: 0, mounted, old };
        self.directories.push(directory);
        self.insert(above, &name, Child { object, kind: TYPE_DIRECTORY, directory: Some(new) })?;
        Ok(new)
    }

    fn insert(&mut self, directory: usize, name: &[u8], child: Child) -> Result<(), PoolError> {
        let last = self.names.insert(directory, name, child, self.get(directory)?.last)?;
        let directory = self.get_mut(directory)?;
        directory.last = last;
        directory.count += 1;
        directory.below += u64::from(child.directory.is_some());
        Ok(())
    }

    /// The object for a new name: that of the state before, if it was of this kind then, and which directory it was.
    fn number(
        &self,
        above: usize,
        name: &[u8],
        kind: u64,
        systems: &mut [FileSystem],
    ) -> Result<(u64, Option<usize>), PoolError> {
        let system = systems.get_mut(self.get(above)?.system).ok_or(PoolError::Worker)?;
        if let (Some(old), Some(above)) = (&self.old, self.get(above)?.old)
            && let Some(child) = old.names.find(above, name)?.filter(|child| child.kind == kind)
            && system.claim(child.object)
        {
            return Ok((child.object, child.directory));
        }
        Ok((system.reserve(), None))
    }

    /// A directory of the stream. The last one of a path decides about its attributes.
    pub(super) fn directory(
        &mut self,
        path: &[u8],
        znode: &Znode,
        systems: &mut [FileSystem],
    ) -> Result<(), PoolError> {
        let names = components(path)?;
        let at = self.enter(&names, systems)?;
        self.get_mut(at)?.znode = znode.clone();
        Ok(())
    }

    /// The place of a new file: its file system, its parent's object and its own.
    pub(super) fn file(
        &mut self,
        path: &[u8],
        mode: u32,
        systems: &mut [FileSystem],
    ) -> Result<(usize, u64, u64), PoolError> {
        let (at, name) = self.above(path, systems)?;
        let kind = u64::from(mode >> 12 & 15);
        let (object, _) = self.number(at, &name, kind, systems)?;
        self.insert(at, &name, Child { object, kind, directory: None })?;
        Ok((self.get(at)?.system, self.get(at)?.object, object))
    }

    /// The directory for a new name, which must not be there yet.
    fn above(&mut self, path: &[u8], systems: &mut [FileSystem]) -> Result<(usize, Vec<u8>), PoolError> {
        let mut names = components(path)?;
        let Some(name) = names.pop() else { return Err(PoolError::Entry("only a directory can be the top".into())) };
        let at = self.enter(&names, systems)?;
        if self.names.find(at, &name)?.is_some() {
            return Err(PoolError::Entry("it is there twice".into()));
        }
        Ok((at, name))
    }

    /// One more name for a file that was there before.
    pub(super) fn link(&mut self, path: &[u8], target: &[u8], systems: &mut [FileSystem]) -> Result<(), PoolError> {
        let (system, child) = self.find(target)?;
        if child.directory.is_some() {
            return Err(PoolError::Entry("it is a hard link to a directory".into()));
        }
        let (at, name) = self.above(path, systems)?;
        if self.get(at)?.system != system {
            let target = String::from_utf8_lossy(target);
            return Err(PoolError::Entry(format!(
                "it is a hard link to {target} in another data set: make it a file of its own, or both parts of one data set"
            )));
        }
        self.insert(at, &name, child)?;
        systems.get_mut(system).ok_or(PoolError::Worker)?.link(child.object);
        Ok(())
    }

    fn find(&self, path: &[u8]) -> Result<(usize, Child), PoolError> {
        let mut at = self.top;
        let mut found = None;
        for name in components(path)? {
            let child = self.names.find(at, &name)?.ok_or_else(|| {
                let path = String::from_utf8_lossy(path);
                PoolError::Entry(format!("it is a hard link to {path}, which was not there before it"))
            })?;
            found = Some((self.get(at)?.system, child));
            if let Some(index) = child.directory {
                at = self.get(index)?.mounted.unwrap_or(index);
            } else {
                // Nothing is below a file: what comes next is not found.
                at = usize::MAX;
            }
        }
        found.ok_or_else(|| PoolError::Entry("it is a hard link to the top".into()))
    }

    /// Makes the directories on which data sets are mounted and that were not in the stream.
    pub(super) fn complete(&mut self, systems: &mut [FileSystem]) -> Result<(), PoolError> {
        while let Some(names) = self.mounts.keys().next().cloned() {
            self.enter(&names, systems)?;
        }
        Ok(())
    }

    pub(super) fn count(&self) -> usize {
        self.directories.len()
    }

    /// Whether it is the root of a file system that takes no part in the stream.
    pub(super) fn is_outside(&self, at: usize) -> bool {
        self.outside.get(at) == Some(&true)
    }

    /// A directory as it is written: file system, object, attributes and entries.
    pub(super) fn finished(&mut self, at: usize) -> Result<(usize, u64, Znode, Vec<Entry>), PoolError> {
        let directory = self.get_mut(at)?;
        let mut znode = std::mem::take(&mut directory.znode);
        znode.parent = directory.parent;
        znode.size = directory.count + 2;
        znode.links = 2 + directory.below;
        let (system, object, last) = (directory.system, directory.object, directory.last);
        Ok((system, object, znode, self.names.entries(last)?))
    }
}

/// The names of a path below the top.
fn components(path: &[u8]) -> Result<Vec<Vec<u8>>, PoolError> {
    let refuse = |why: &str| Err(PoolError::Entry(why.into()));
    if path.starts_with(b"/") {
        return refuse("its path is absolute, relative to the top was expected");
    }
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return refuse("its path leads upwards (\"..\")"),
            _ if name.len() > MAX_NAME => return refuse("its name has more than 255 bytes"),
            _ if name.contains(&0) => return refuse("its name has a NUL"),
            _ => names.push(name.to_vec()),
        }
    }
    Ok(names)
}
