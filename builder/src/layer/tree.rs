//! A raw layer, and the only way to its entries: a directory at a time, no link of it followed, nothing outside it reached.

use super::image::{self, CHUNK};
use super::node::{Attributes, Kind, Marks, Namespace, Node, Time, sort_out};
use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use taproot_init::devices::probe::Sealed;
use taproot_init::sys::detached::Detached;
use taproot_init::sys::xattrs;

/// A raw layer.
#[derive(Debug)]
pub struct Source {
    root: OwnedFd,
    shown: PathBuf,
    device: u64,
    namespace: Namespace,
    image: Option<Sealed>,
    /// The mount ends with it.
    _mount: Option<Detached>,
}

impl Source {
    /// A directory, or an image in a file. Needs root: an overlay's attributes are shown to nobody else.
    pub fn open(path: &Path, namespace: Namespace) -> Result<Self> {
        let shown = path.display();
        ensure!(
            nix::unistd::geteuid().is_root(),
            "{shown}: reading a layer takes root: what is deleted and replaced in it stands in attributes (trusted.overlay.*) that are \
             shown to root alone; run it with sudo"
        );
        let meta = fs::metadata(path).with_context(|| format!("{shown}: expected a layer, an image or a directory"))?;
        if meta.is_dir() {
            return Self::directory(path, namespace);
        }
        let sealed = image::whole(path)?;
        let file = File::open(path).with_context(|| format!("{shown}: opening it"))?;
        let fstype = if sealed.kind == "erofs" { c"erofs" } else { c"squashfs" };
        let mount = Detached::mount(&file, fstype).with_context(|| {
            format!(
                "{shown}: mounting it; expected a kernel with loop devices and {} (see its log: dmesg)",
                sealed.kind
            )
        })?;
        let root = mount.as_fd().try_clone_to_owned()?;
        let device = File::from(root.try_clone()?).metadata()?.dev();
        Ok(Self { root, shown: path.to_owned(), device, namespace, image: Some(sealed), _mount: Some(mount) })
    }

    /// A directory as whoever asks sees it; what overlays note is shown to root alone.
    pub fn directory(path: &Path, namespace: Namespace) -> Result<Self> {
        let shown = path.display();
        let root = File::options().read(true).custom_flags(nix::libc::O_DIRECTORY).open(path);
        let root = root.with_context(|| format!("{shown}: expected a directory"))?;
        let device = root.metadata().with_context(|| format!("{shown}: reading it"))?.dev();
        Ok(Self { device, root: root.into(), shown: path.to_owned(), namespace, image: None, _mount: None })
    }

    /// As a person knows it.
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// What its superblock says, if it is an image.
    pub fn image(&self) -> Option<&Sealed> {
        self.image.as_ref()
    }

    /// Where its overlay's attributes are.
    pub fn namespace(&self) -> Namespace {
        self.namespace
    }

    /// How an entry is named to a person.
    pub fn name(&self, path: &Path) -> String {
        self.shown.join(path).display().to_string()
    }

    fn open_at(&self, path: &Path, flags: OFlag) -> Result<File> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve =
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).resolve(resolve);
        // A file system in this very moment changed by a rename asks for it to be tried again.
        let opened = (0..8).find_map(|_| match openat2(&self.root, path, how) {
            Err(nix::errno::Errno::EAGAIN) => None,
            other => Some(other),
        });
        let opened = opened.unwrap_or(Err(nix::errno::Errno::EAGAIN));
        Ok(File::from(opened.with_context(|| format!("{}: opening it", self.name(path)))?))
    }

    /// The data of a regular file.
    pub fn file(&self, path: &Path) -> Result<File> {
        self.open_at(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)
    }

    /// Hands on so many bytes of a file, whatever became of it meanwhile: zeros where it is shorter now. Gives their checksum, and
    /// whether it is not what was planned.
    pub fn pour(
        &self,
        path: &Path,
        size: u64,
        mut sink: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<([u8; 32], bool)> {
        let mut file = self.file(path)?;
        let (mut digest, mut left, mut changed) = (Sha256::new(), size, false);
        let up_to = |left: u64| usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        // No larger than the file: to clear so much for each small one would take longer than to read it.
        let mut buffer = vec![0_u8; up_to(size)];
        while left > 0 {
            let most = up_to(left);
            let room = buffer.get_mut(..most).unwrap_or_default();
            let n = match file.read(room) {
                Ok(0) => {
                    changed = true;
                    room.fill(0);
                    most
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.with_context(|| format!("{}: reading it", self.name(path)))?,
            };
            let bytes = room.get(..n).unwrap_or_default();
            digest.update(bytes);
            sink(bytes)?;
            left -= n as u64;
        }
        changed |= file.metadata().map_or(true, |meta| meta.len() != size);
        Ok((digest.finalize().into(), changed))
    }

    /// The entry at a path; the empty path is the top directory.
    pub fn node(&self, path: &Path) -> Result<Node> {
        let file = self.open_at(path, OFlag::O_PATH)?;
        let failed = || format!("{}: reading it", self.name(path));
        let meta = file.metadata().with_context(failed)?;
        let (kept, marks) = self.attributes(&file).with_context(failed)?;
        let kind = meta.file_type();
        let kind = if kind.is_dir() {
            Kind::Directory
        } else if kind.is_file() {
            Kind::File(meta.len())
        } else if kind.is_symlink() {
            Kind::Link(nix::fcntl::readlinkat(&file, "").with_context(failed)?)
        } else if kind.is_char_device() {
            if meta.rdev() == 0 { Kind::Whiteout } else { Kind::Character(meta.rdev()) }
        } else if kind.is_block_device() {
            Kind::Block(meta.rdev())
        } else if kind.is_fifo() {
            Kind::Pipe
        } else if kind.is_socket() {
            Kind::Socket
        } else {
            bail!("{}: expected a file, found something that is none", self.name(path));
        };
        let mtime = Time { seconds: meta.mtime(), nanoseconds: u32::try_from(meta.mtime_nsec()).unwrap_or(0) };
        if kind == Kind::Whiteout {
            return Ok(Node::whiteout(mtime));
        }
        let several = meta.is_file() && meta.nlink() > 1;
        Ok(Node {
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            mtime,
            xattrs: kept,
            marks,
            identity: several.then(|| (meta.dev(), meta.ino())),
            foreign: kind == Kind::Directory && meta.dev() != self.device,
            kind,
        })
    }

    fn attributes(&self, file: &File) -> std::io::Result<(Attributes, Marks)> {
        let mut all = Attributes::new();
        for name in xattrs::list(file)? {
            let value = xattrs::get(file, &name)?;
            all.insert(name, value);
        }
        Ok(sort_out(all, self.namespace))
    }

    /// The entries of a directory, by name. `of` is the directory itself: a file in it can be a whiteout by an attribute.
    pub fn children(&self, path: &Path, of: &Node) -> Result<BTreeMap<OsString, Node>> {
        let failed = || format!("{}: listing it", self.name(path));
        let directory = self.open_at(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let list = fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd())).with_context(failed)?;
        let mut entries = BTreeMap::new();
        for entry in list {
            let name = entry.with_context(failed)?.file_name();
            let mut node = self.node(&path.join(&name))?;
            if of.marks.attribute_whiteouts && node.marks.whiteout && node.kind == Kind::File(0) {
                node = Node::whiteout(node.mtime);
            }
            node.marks.whiteout = false;
            entries.insert(name, node);
        }
        Ok(entries)
    }
}
