//! A file system with a cache that is written back when it likes: what was not synced may be lost when the power fails, each write and
//! each name by itself and in any order. Weaker than any file system with a journal.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

use taproot_init::layers::Files;

use crate::sim::prng::Prng;

/// Which of the possible losses a power cut brings.
#[derive(Debug)]
pub enum Loss {
    /// Any.
    Random(Prng),
    /// One by its number: each decision takes a digit of it.
    Numbered {
        /// What is left of the number.
        rest: u64,
        /// How many there are, as far as was decided.
        of: u64,
    },
}

impl Loss {
    /// One of `options`.
    fn decide(&mut self, options: u64) -> u64 {
        match self {
            Self::Random(prng) => prng.below(options),
            Self::Numbered { rest, of } => {
                let digit = *rest % options;
                *rest /= options;
                *of = of.saturating_mul(options);
                digit
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Node {
    Dir { now: BTreeMap<String, usize>, kept: BTreeMap<String, usize> },
    File { now: Vec<u8>, kept: Vec<u8> },
}

/// A change of names that is not durable.
#[derive(Debug, Clone)]
struct Change {
    dir: usize,
    name: String,
    /// What has the name then; nothing if it was removed.
    inode: Option<usize>,
    /// Where it was before, if it was renamed.
    from: Option<(usize, String)>,
}

#[derive(Debug, Clone)]
struct Inner {
    nodes: Vec<Node>,
    pending: Vec<Change>,
    /// Changes until the power fails.
    fuse: Option<u64>,
    /// Changes until one fails for want of room.
    full: Option<u64>,
    dead: bool,
    changes: u64,
}

/// The disk.
#[derive(Debug)]
pub struct Disk(RefCell<Inner>);

fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

fn parts(path: &Path) -> impl Iterator<Item = String> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    })
}

impl Default for Disk {
    fn default() -> Self {
        let root = Node::Dir { now: BTreeMap::new(), kept: BTreeMap::new() };
        let (pending, fuse, full) = (Vec::new(), None, None);
        Self(RefCell::new(Inner { nodes: vec![root], pending, fuse, full, dead: false, changes: 0 }))
    }
}

impl Inner {
    fn entries(&self, inode: usize) -> io::Result<&BTreeMap<String, usize>> {
        match &self.nodes[inode] {
            Node::Dir { now, .. } => Ok(now),
            Node::File { .. } => Err(error(libc::ENOTDIR)),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut inode = 0;
        for name in parts(path) {
            inode = *self.entries(inode)?.get(&name).ok_or_else(|| error(libc::ENOENT))?;
        }
        Ok(inode)
    }

    fn parent(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = parts(path).last().ok_or_else(|| error(libc::EINVAL))?;
        Ok((self.find(path.parent().unwrap_or(path))?, name))
    }

    fn set(&mut self, change: Change) {
        self.apply(&change, false);
        self.pending.push(change);
    }

    fn names(&mut self, dir: usize, durable: bool) -> Option<&mut BTreeMap<String, usize>> {
        match &mut self.nodes[dir] {
            Node::Dir { now, kept } => Some(if durable { kept } else { now }),
            Node::File { .. } => None,
        }
    }

    fn apply(&mut self, change: &Change, durable: bool) {
        if let Some((dir, name)) = &change.from
            && let Some(names) = self.names(*dir, durable)
            && names.get(name) == change.inode.as_ref()
        {
            names.remove(name);
        }
        if let Some(names) = self.names(change.dir, durable) {
            match change.inode {
                Some(inode) => {
                    names.insert(change.name.clone(), inode);
                }
                None => {
                    names.remove(&change.name);
                }
            }
        }
    }
}

impl Disk {
    fn look(&self) -> io::Result<Ref<'_, Inner>> {
        let inner = self.0.borrow();
        if inner.dead { Err(error(libc::EIO)) } else { Ok(inner) }
    }

    /// For a change: the power may fail before it.
    fn change(&self) -> io::Result<RefMut<'_, Inner>> {
        let mut inner = self.0.borrow_mut();
        if inner.dead {
            return Err(error(libc::EIO));
        }
        if inner.fuse == Some(0) {
            inner.dead = true;
            return Err(error(libc::EIO));
        }
        inner.fuse = inner.fuse.map(|left| left - 1);
        inner.changes += 1;
        if inner.full == Some(0) {
            inner.full = None;
            return Err(error(libc::ENOSPC));
        }
        inner.full = inner.full.map(|left| left - 1);
        Ok(inner)
    }

    /// The power fails after that many changes; or not.
    pub fn set_fuse(&self, changes: Option<u64>) {
        self.0.borrow_mut().fuse = changes;
    }

    /// The change behind that many fails; or none.
    pub fn set_full(&self, changes: Option<u64>) {
        self.0.borrow_mut().full = changes;
    }

    /// Whether the power failed.
    pub fn is_dead(&self) -> bool {
        self.0.borrow().dead
    }

    /// Changes so far.
    pub fn changes(&self) -> u64 {
        self.0.borrow().changes
    }

    /// Everything becomes durable, as an orderly shutdown does it.
    pub fn sync_all(&self) {
        let inner = &mut *self.0.borrow_mut();
        inner.pending.clear();
        for node in &mut inner.nodes {
            match node {
                Node::Dir { now, kept } => kept.clone_from(now),
                Node::File { now, kept } => kept.clone_from(now),
            }
        }
    }

    /// The power was off: what was not durable is there, or not, or in part.
    pub fn crash(&self, loss: &mut Loss) {
        let inner = &mut *self.0.borrow_mut();
        for mut change in std::mem::take(&mut inner.pending) {
            // Without a journal a rename can leave both names.
            match loss.decide(if change.from.is_some() { 3 } else { 2 }) {
                0 => {}
                1 => inner.apply(&change, true),
                _ => {
                    change.from = None;
                    inner.apply(&change, true);
                }
            }
        }
        for node in &mut inner.nodes {
            if let Node::File { now, kept } = node
                && now != kept
            {
                match loss.decide(5) {
                    0 => {}
                    1 => kept.clone_from(now),
                    2 => kept.clear(),
                    3 => *kept = now[..now.len() / 2].to_vec(),
                    _ => *kept = vec![0; now.len()],
                }
            }
        }
        for node in &mut inner.nodes {
            match node {
                Node::Dir { now, kept } => now.clone_from(kept),
                Node::File { now, kept } => now.clone_from(kept),
            }
        }
        (inner.dead, inner.fuse, inner.full) = (false, None, None);
    }

    /// A byte of a file goes bad on the medium.
    pub fn rot(&self, path: &Path, at: usize) {
        let inner = &mut *self.0.borrow_mut();
        let Ok(inode) = inner.find(path) else { return };
        if let Node::File { now, kept } = &mut inner.nodes[inode] {
            for bytes in [now, kept] {
                let len = bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at % len) {
                    *byte ^= 1;
                }
            }
        }
    }

    /// Removes a directory with all in it.
    pub fn remove_tree(&self, path: &Path) -> io::Result<()> {
        let names = self.list(path)?;
        for name in names {
            let inside = path.join(name);
            if self.size(&inside)?.is_some() { self.remove(&inside)? } else { self.remove_tree(&inside)? }
        }
        self.remove(path)
    }
}

impl Files for Disk {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let inner = self.look()?;
        match &inner.nodes[inner.find(path)?] {
            Node::File { now, .. } => Ok(now.iter().take(limit).copied().collect()),
            Node::Dir { .. } => Err(error(libc::EISDIR)),
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.change()?;
        let (dir, name) = inner.parent(path)?;
        let inode = if let Some(inode) = inner.entries(dir)?.get(&name).copied() {
            inode
        } else {
            inner.nodes.push(Node::File { now: Vec::new(), kept: Vec::new() });
            let inode = inner.nodes.len() - 1;
            inner.set(Change { dir, name, inode: Some(inode), from: None });
            inode
        };
        match &mut inner.nodes[inode] {
            Node::File { now, .. } => *now = bytes.to_vec(),
            Node::Dir { .. } => return Err(error(libc::EISDIR)),
        }
        Ok(())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.change()?;
        let inode = inner.find(path)?;
        if let Node::File { now, kept } = &mut inner.nodes[inode] {
            kept.clone_from(now);
            return Ok(());
        }
        let here = |change: &Change| change.dir == inode || change.from.as_ref().is_some_and(|(dir, _)| *dir == inode);
        let (durable, rest): (Vec<Change>, Vec<Change>) =
            std::mem::take(&mut inner.pending).into_iter().partition(here);
        for change in &durable {
            inner.apply(change, true);
        }
        inner.pending = rest;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.change()?;
        let inode = inner.find(from)?;
        let (old, (dir, name)) = (inner.parent(from)?, inner.parent(to)?);
        inner.set(Change { dir, name, inode: Some(inode), from: Some(old) });
        Ok(())
    }

    fn make_dirs(&self, path: &Path) -> io::Result<()> {
        let mut dir = 0;
        for name in parts(path) {
            let there = self.look()?.entries(dir)?.get(&name).copied();
            dir = if let Some(inode) = there {
                inode
            } else {
                let mut inner = self.change()?;
                inner.nodes.push(Node::Dir { now: BTreeMap::new(), kept: BTreeMap::new() });
                let inode = inner.nodes.len() - 1;
                inner.set(Change { dir, name, inode: Some(inode), from: None });
                inode
            };
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if matches!(self.look()?.find(path), Err(e) if e.raw_os_error() == Some(libc::ENOENT)) {
            return Ok(());
        }
        let mut inner = self.change()?;
        let (dir, name) = inner.parent(path)?;
        inner.set(Change { dir, name, inode: None, from: None });
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let inner = self.look()?;
        match inner.find(path) {
            Ok(inode) => Ok(inner.entries(inode)?.keys().cloned().collect()),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    fn size(&self, path: &Path) -> io::Result<Option<u64>> {
        let inner = self.look()?;
        match inner.find(path).map(|inode| &inner.nodes[inode]) {
            Ok(Node::File { now, .. }) => Ok(Some(now.len() as u64)),
            Ok(Node::Dir { .. }) => Ok(None),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }
}
