//! Trees of files in memory, and the mounts that put them together to what a process sees.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

/// Longest chain of symbolic links, as in the kernel.
const MAX_LINKS: u32 = 40;

/// An error of the kernel.
pub fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Dir,
    /// A regular file, with its permission bits.
    File(Vec<u8>, u32),
    /// A symbolic link.
    Link(String),
    /// A block device, by its number.
    Block(u32, u32),
    /// A character device.
    Char,
}

/// The files of one file system, by their paths in it without a leading `/`; its own directory is the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: BTreeMap::from([(String::new(), Node::Dir)]) }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

impl Tree {
    /// A tree with these files; directories come by themselves.
    pub fn of(files: &[(&str, &[u8])]) -> Self {
        let mut tree = Self::default();
        for (path, bytes) in files {
            tree.put(path, Node::File(bytes.to_vec(), 0o644));
        }
        tree
    }

    /// A system that can be booted: an init, the directories that pseudo file systems are moved to, and this fstab.
    pub fn system(fstab: &str) -> Self {
        let mut tree = Self::of(&[("etc/fstab", fstab.as_bytes())]);
        for dir in ["dev", "proc", "sys", "run", "usr", "var", "home", "boot"] {
            tree.put(dir, Node::Dir);
        }
        tree.put("sbin/init", Node::File(program(), 0o755));
        tree
    }

    /// Puts a file there, with the directories above it.
    pub fn put(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        let mut at = String::new();
        for part in parent(path).split('/').filter(|part| !part.is_empty()) {
            at = join(&at, part);
            self.nodes.entry(at.clone()).or_insert(Node::Dir);
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// Puts a regular file there.
    pub fn text(&mut self, path: &str, text: &str) {
        self.put(path, Node::File(text.as_bytes().to_vec(), 0o644));
    }

    /// Puts the files of another tree over these; what was something else before is gone.
    pub(super) fn cover_with(&mut self, other: &Self) {
        for (path, node) in &other.nodes {
            match node {
                Node::Dir if self.nodes.get(path) == Some(&Node::Dir) => {}
                _ => {
                    self.take(path);
                    self.nodes.insert(path.clone(), node.clone());
                }
            }
        }
    }

    /// Takes a file away, and what is below it.
    pub fn take(&mut self, path: &str) {
        let path = path.trim_matches('/');
        let below = format!("{path}/");
        self.nodes.retain(|name, _| name != path && !name.starts_with(&below));
    }

    /// Bytes, as `size` counts those of a file, and how many files there are.
    pub(super) fn extent(&self, size: &dyn Fn(&[u8]) -> u64) -> (u64, u64) {
        let bytes = self.nodes.values().map(|node| if let Node::File(bytes, _) = node { size(bytes) } else { 0 });
        (bytes.sum(), self.nodes.len() as u64 - 1)
    }

    /// The file at a path.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path.trim_matches('/'))
    }

    /// Names in a directory, sorted.
    pub fn names<'a>(&'a self, dir: &'a str) -> impl Iterator<Item = &'a str> {
        let here = self.nodes.keys().filter(move |path| !path.is_empty() && parent(path) == dir);
        here.map(|path| path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name))
    }
}

/// The smallest ELF program that looks like one of this machine's.
pub(super) fn program() -> Vec<u8> {
    let machine: u8 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let mut bytes = vec![0_u8; 120];
    let fields: [(usize, &[u8]); 5] = [(0, b"\x7fELF\x02\x01"), (18, &[machine]), (32, &[64]), (54, &[56]), (56, &[1])];
    for (at, value) in fields {
        for (slot, byte) in bytes.iter_mut().skip(at).zip(value) {
            *slot = *byte;
        }
    }
    if let Some(kind) = bytes.get_mut(64) {
        *kind = 1;
    }
    bytes
}

/// One entry of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What was mounted, as it was named.
    pub source: String,
    /// Where, without a leading `/`; empty for the root.
    pub target: String,
    /// Type.
    pub fstype: String,
    /// `MS_*`.
    pub flags: u64,
    /// Options.
    pub data: String,
    /// Its tree.
    pub(super) tree: usize,
}

impl Mount {
    /// Whether nothing can be written through it.
    pub fn read_only(&self) -> bool {
        self.flags & libc::MS_RDONLY != 0
    }
}

/// Where a path leads.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The path without links, dots and a leading `/`.
    pub(super) path: String,
    tree: usize,
    inner: String,
    read_only: bool,
}

/// What a process sees: trees, and where they are mounted.
#[derive(Debug, Clone)]
pub(super) struct Names {
    trees: Vec<Tree>,
    pub(super) mounts: Vec<Mount>,
}

impl Names {
    /// With this tree as the root.
    pub(super) fn new(root: Tree) -> Self {
        let mount = Mount {
            source: "rootfs".to_owned(),
            target: String::new(),
            fstype: "rootfs".to_owned(),
            flags: 0,
            data: String::new(),
            tree: 0,
        };
        Self { trees: vec![root], mounts: vec![mount] }
    }

    /// Another tree, not yet mounted; returns its number.
    pub(super) fn add(&mut self, tree: Tree) -> usize {
        self.trees.push(tree);
        self.trees.len() - 1
    }

    pub(super) fn tree(&mut self, number: usize) -> Option<&mut Tree> {
        self.trees.get_mut(number)
    }

    /// The mount that a canonical path lies in: the last one of those with the longest target.
    pub(super) fn mount_of(&self, path: &str) -> Option<&Mount> {
        let covers = |target: &str| {
            target.is_empty() || path.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.mounts.iter().filter(|mount| covers(&mount.target)).max_by_key(|mount| mount.target.len())
    }

    /// A copy of the files below a canonical path, without what is mounted there.
    pub(super) fn part(&self, path: &str) -> Tree {
        let Ok(place) = self.place(path.to_owned()) else { return Tree::default() };
        let mut part = Tree::default();
        let below = if place.inner.is_empty() { String::new() } else { format!("{}/", place.inner) };
        for (name, node) in self.trees.get(place.tree).iter().flat_map(|tree| &tree.nodes) {
            if let Some(name) = name.strip_prefix(&below).filter(|name| !name.is_empty()) {
                part.nodes.insert(name.to_owned(), node.clone());
            }
        }
        part
    }

    fn place(&self, path: String) -> io::Result<Place> {
        let mount = self.mount_of(&path).ok_or_else(|| errno(libc::ENOENT))?;
        let inner = path.get(mount.target.len()..).unwrap_or_default().trim_start_matches('/').to_owned();
        Ok(Place { inner, tree: mount.tree, read_only: mount.read_only(), path })
    }

    fn node_at(&self, place: &Place) -> Option<&Node> {
        self.trees.get(place.tree)?.get(&place.inner)
    }

    /// Where a path leads, its last link followed if `follow`. What it names need not exist, what is above it must.
    pub(super) fn walk(&self, path: &Path, follow: bool) -> io::Result<Place> {
        let mut todo: Vec<String> = parts(path);
        todo.reverse();
        let (mut at, mut links) = (String::new(), 0);
        while let Some(part) = todo.pop() {
            if part == ".." {
                parent(&at).to_owned().clone_into(&mut at);
                continue;
            }
            match self.node_at(&self.place(at.clone())?) {
                Some(Node::Dir) => {}
                Some(_) => return Err(errno(libc::ENOTDIR)),
                None => return Err(errno(libc::ENOENT)),
            }
            let next = join(&at, &part);
            match self.node_at(&self.place(next.clone())?) {
                Some(Node::Link(target)) if follow || !todo.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(errno(libc::ELOOP));
                    }
                    if target.starts_with('/') {
                        at.clear();
                    }
                    todo.extend(parts(Path::new(target)).into_iter().rev());
                }
                _ => at = next,
            }
        }
        self.place(at)
    }

    /// The file at a path, links followed.
    pub(super) fn node(&self, path: &Path) -> io::Result<&Node> {
        let place = self.walk(path, true)?;
        self.node_at(&place).ok_or_else(|| errno(libc::ENOENT))
    }

    /// The file itself, be it a link.
    pub(super) fn link(&self, path: &Path) -> io::Result<&Node> {
        let place = self.walk(path, false)?;
        self.node_at(&place).ok_or_else(|| errno(libc::ENOENT))
    }

    /// Bytes of a regular file.
    pub(super) fn bytes(&self, path: &Path) -> io::Result<&[u8]> {
        match self.node(path)? {
            Node::File(bytes, _) => Ok(bytes),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a file")),
        }
    }

    fn writable(&mut self, place: &Place) -> io::Result<&mut Tree> {
        if place.read_only {
            return Err(errno(libc::EROFS));
        }
        self.trees.get_mut(place.tree).ok_or_else(|| errno(libc::EIO))
    }

    /// Makes or changes a regular file.
    pub(super) fn write(&mut self, path: &Path, change: &mut dyn FnMut(&mut Vec<u8>)) -> io::Result<()> {
        let place = self.walk(path, true)?;
        let (mut bytes, mode) = match self.node_at(&place) {
            Some(Node::File(bytes, mode)) => (bytes.clone(), *mode),
            None => (Vec::new(), 0o644),
            Some(Node::Dir) => return Err(errno(libc::EISDIR)),
            Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a file")),
        };
        change(&mut bytes);
        let inner = place.inner.clone();
        self.writable(&place)?.put(&inner, Node::File(bytes, mode));
        Ok(())
    }

    /// Copies a file, or all of a directory.
    pub(super) fn copy(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, target) = (self.walk(from, true)?.path, self.walk(to, true)?);
        let node = self.node(from)?.clone();
        let tree = if node == Node::Dir { self.part(&source) } else { Tree::default() };
        let inner = target.inner.clone();
        let room = self.writable(&target)?;
        room.put(&inner, node);
        for (name, node) in tree.nodes.iter().filter(|(name, _)| !name.is_empty()) {
            room.put(&join(&inner, name), node.clone());
        }
        Ok(())
    }

    /// A directory and those above it.
    pub(super) fn make_dirs(&mut self, path: &Path) -> io::Result<()> {
        let mut made = std::path::PathBuf::from("/");
        for part in path.components() {
            made.push(part);
            let place = self.walk(&made, true)?;
            match self.node_at(&place) {
                Some(Node::Dir) => {}
                Some(_) => return Err(errno(libc::ENOTDIR)),
                None => {
                    let inner = place.inner.clone();
                    self.writable(&place)?.put(&inner, Node::Dir);
                }
            }
        }
        Ok(())
    }

    /// Makes a directory like another, with what is in that if `content`.
    pub(super) fn copy_dir(&mut self, from: &Path, to: &Path, content: bool) -> io::Result<()> {
        let from = self.walk(from, true)?;
        if self.node_at(&from) != Some(&Node::Dir) {
            return Err(errno(libc::ENOTDIR));
        }
        let part = if content { self.part(&from.path) } else { Tree::default() };
        let to = self.walk(to, false)?;
        if self.node_at(&to).is_some() {
            return Err(errno(libc::EEXIST));
        }
        let inner = to.inner.clone();
        let tree = self.writable(&to)?;
        tree.put(&inner, Node::Dir);
        for (name, node) in part.nodes.into_iter().filter(|(name, _)| !name.is_empty()) {
            tree.put(&join(&inner, &name), node);
        }
        Ok(())
    }

    pub(super) fn symlink(&mut self, target: &Path, path: &Path) -> io::Result<()> {
        let place = self.walk(path, false)?;
        if self.node_at(&place).is_some() {
            return Err(errno(libc::EEXIST));
        }
        let inner = place.inner.clone();
        self.writable(&place)?.put(&inner, Node::Link(target.display().to_string()));
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.walk(from, false)?, self.walk(to, false)?);
        if from.tree != to.tree {
            return Err(errno(libc::EXDEV));
        }
        let tree = self.writable(&from)?;
        if tree.get(&from.inner).is_none() {
            return Err(errno(libc::ENOENT));
        }
        let below = format!("{}/", from.inner);
        let moved: Vec<(String, Node)> = tree
            .nodes
            .iter()
            .filter(|(name, _)| **name == from.inner || name.starts_with(&below))
            .map(|(name, node)| (format!("{}{}", to.inner, name.get(from.inner.len()..).unwrap_or("")), node.clone()))
            .collect();
        tree.take(&from.inner);
        for (name, node) in moved {
            tree.put(&name, node);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let place = self.walk(path, false)?;
        match self.node_at(&place) {
            None => return Err(errno(libc::ENOENT)),
            Some(Node::Dir) if !self.list_at(&place).is_empty() => return Err(errno(libc::ENOTEMPTY)),
            Some(_) if self.mounts.iter().any(|mount| mount.target == place.path) => return Err(errno(libc::EBUSY)),
            Some(_) => {}
        }
        let inner = place.inner.clone();
        self.writable(&place)?.take(&inner);
        Ok(())
    }

    fn list_at(&self, place: &Place) -> Vec<String> {
        self.trees.get(place.tree).map(|tree| tree.names(&place.inner).map(str::to_owned).collect()).unwrap_or_default()
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let place = self.walk(path, true)?;
        match self.node_at(&place) {
            Some(Node::Dir) => Ok(self.list_at(&place)),
            Some(_) => Err(errno(libc::ENOTDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }
}

fn parts(path: &Path) -> Vec<String> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        Component::ParentDir => Some("..".to_owned()),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut root = Tree::of(&[("etc/a", b"1"), ("dir/b", b"2")]);
        root.put("link", Node::Link("/etc".to_owned()));
        root.put("up", Node::Link("dir/../etc/a".to_owned()));
        root.put("loop", Node::Link("loop".to_owned()));
        root.put("mnt", Node::Dir);
        Names::new(root)
    }

    fn mount(names: &mut Names, target: &str, tree: Tree, flags: u64) {
        let tree = names.add(tree);
        let target = target.to_owned();
        names.mounts.push(Mount { source: "x".into(), target, fstype: "x".into(), flags, data: String::new(), tree });
    }

    #[test]
    fn links_are_followed_and_mounts_cover() {
        let mut names = names();
        assert_eq!(names.bytes(Path::new("/link/a")).unwrap(), b"1");
        assert_eq!(names.bytes(Path::new("/up")).unwrap(), b"1");
        assert_eq!(names.walk(Path::new("/loop"), true).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(names.bytes(Path::new("/etc/a/x")).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
        let mut inside = Tree::of(&[("c", b"3")]);
        inside.put("out", Node::Link("/etc/a".to_owned()));
        mount(&mut names, "mnt", inside, 0);
        assert_eq!(names.list(Path::new("/mnt")).unwrap(), ["c", "out"]);
        assert_eq!(names.bytes(Path::new("/mnt/out")).unwrap(), b"1");
        mount(&mut names, "mnt", Tree::of(&[("d", b"4")]), libc::MS_RDONLY);
        assert_eq!(names.list(Path::new("/mnt")).unwrap(), ["d"], "the last mount is on top");
        let refused = names.write(Path::new("/mnt/new"), &mut |_| ()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    }

    #[test]
    fn files_are_made_renamed_and_removed() {
        let mut names = names();
        names.make_dirs(Path::new("/x/y/z")).unwrap();
        names.write(Path::new("/x/y/f"), &mut |bytes| bytes.extend(b"new")).unwrap();
        names.rename(Path::new("/x/y"), Path::new("/x/w")).unwrap();
        assert_eq!(names.bytes(Path::new("/x/w/f")).unwrap(), b"new");
        assert_eq!(names.remove(Path::new("/x/w")).unwrap_err().raw_os_error(), Some(libc::ENOTEMPTY));
        names.remove(Path::new("/x/w/f")).unwrap();
        names.remove(Path::new("/x/w/z")).unwrap();
        names.remove(Path::new("/x/w")).unwrap();
        assert_eq!(names.list(Path::new("/x")).unwrap(), Vec::<String>::new());
        assert!(names.write(Path::new("/none/f"), &mut |_| ()).is_err());
    }
}
