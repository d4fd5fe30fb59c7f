//! The directories of all file systems while a stream of files is read: which name is which object.

use std::collections::BTreeMap;

use super::PoolError;
use super::sa::Znode;
use super::zap::{Entry, Value};
use super::zpl::{FileSystem, ROOT};

/// Longest name that a directory takes.
const MAX_NAME: usize = 255;
const TYPE_DIRECTORY: u64 = 4;

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child {
    /// Its object in the file system of the directory.
    pub(super) object: u64,
    /// As in `d_type`.
    kind: u64,
    /// The directory it is.
    directory: Option<usize>,
}

#[derive(Debug)]
struct Directory {
    system: usize,
    object: u64,
    /// The object of the directory above, in the same file system.
    parent: u64,
    znode: Znode,
    children: BTreeMap<Box<[u8]>, Child>,
    /// What is mounted here.
    mounted: Option<usize>,
}

/// All directories. The first ones are the roots of the file systems, by their numbers.
#[derive(Debug)]
pub(super) struct Tree {
    directories: Vec<Directory>,
    /// The file system that the stream's top belongs to.
    top: usize,
    /// Paths at which the others are mounted.
    mounts: BTreeMap<Vec<Vec<u8>>, usize>,
    fallback: Znode,
}

impl Tree {
    /// `mounts` says for each file system where its root is, if it takes part in the stream.
    pub(super) fn new(mounts: &[Option<Vec<u8>>], time: i64) -> Result<Self, PoolError> {
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
        let roots = (0..mounts.len()).map(|system| Directory {
            system,
            object: ROOT,
            parent: ROOT,
            znode: fallback.clone(),
            children: BTreeMap::new(),
            mounted: None,
        });
        let top = top.ok_or_else(|| {
            PoolError::Option("no data set is for the top of the tree: give one the directory /".into())
        })?;
        Ok(Tree { directories: roots.collect(), top, mounts: places, fallback })
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
            let here = self.get(at)?;
            at = match here.children.get(&**name) {
                Some(Child { directory: Some(index), .. }) => *index,
                Some(_) => return Err(PoolError::Entry("what is above it is no directory".into())),
                None => self.make(at, names.get(..=depth).unwrap_or_default(), systems)?,
            };
            at = self.get(at)?.mounted.unwrap_or(at);
        }
        Ok(at)
    }

    fn make(&mut self, above: usize, names: &[Vec<u8>], systems: &mut [FileSystem]) -> Result<usize, PoolError> {
        let (system, parent) = (self.get(above)?.system, self.get(above)?.object);
        let object = systems.get_mut(system).ok_or(PoolError::Worker)?.reserve();
        let new = self.directories.len();
        let mounted = self.mounts.remove(names);
        let znode = self.fallback.clone();
        self.directories.push(Directory { system, object, parent, znode, children: BTreeMap::new(), mounted });
        let child = Child { object, kind: TYPE_DIRECTORY, directory: Some(new) };
        let name = names.last().cloned().unwrap_or_default();
        self.get_mut(above)?.children.insert(name.into_boxed_slice(), child);
        Ok(new)
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
        let (system, parent) = (self.get(at)?.system, self.get(at)?.object);
        let object = systems.get_mut(system).ok_or(PoolError::Worker)?.reserve();
        let child = Child { object, kind: u64::from(mode >> 12 & 15), directory: None };
        self.get_mut(at)?.children.insert(name, child);
        Ok((system, parent, object))
    }

    /// The directory for a new name, which must not be there yet.
    fn above(&mut self, path: &[u8], systems: &mut [FileSystem]) -> Result<(usize, Box<[u8]>), PoolError> {
        let mut names = components(path)?;
        let Some(name) = names.pop() else { return Err(PoolError::Entry("only a directory can be the top".into())) };
        let at = self.enter(&names, systems)?;
        if self.get(at)?.children.contains_key(&*name) {
            return Err(PoolError::Entry("it is there twice".into()));
        }
        Ok((at, name.into_boxed_slice()))
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
        self.get_mut(at)?.children.insert(name, child);
        systems.get_mut(system).ok_or(PoolError::Worker)?.link(child.object);
        Ok(())
    }

    fn find(&self, path: &[u8]) -> Result<(usize, Child), PoolError> {
        let mut at = self.top;
        let mut found = None;
        for name in components(path)? {
            let here = self.get(at)?;
            let child = here.children.get(&*name).ok_or_else(|| {
                let path = String::from_utf8_lossy(path);
                PoolError::Entry(format!("it is a hard link to {path}, which was not there before it"))
            })?;
            found = Some((here.system, *child));
            if let Some(index) = child.directory {
                at = self.get(index)?.mounted.unwrap_or(index);
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

    /// All directories as they are written: file system, object, attributes and entries.
    pub(super) fn finished(self) -> impl Iterator<Item = (usize, u64, Znode, Vec<Entry>)> {
        self.directories.into_iter().map(|directory| {
            let below = directory.children.values().filter(|child| child.directory.is_some()).count() as u64;
            let mut znode = directory.znode;
            znode.parent = directory.parent;
            znode.size = directory.children.len() as u64 + 2;
            znode.links = 2 + below;
            let entry =
                |(name, child): (Box<[u8]>, Child)| (name.into_vec(), Value::Number(child.object | child.kind << 60));
            (directory.system, directory.object, znode, directory.children.into_iter().map(entry).collect())
        })
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
