//! What the boot needs of the tree, kept from the stream on its way to the pool: kernels and their modules, configuration, and the
//! programs that an initramfs has.
//!
//! The stream may come from anywhere, so nothing is written through a link: a file is only kept in directories that were made here.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::tar::{Entries, Entry, Kind, TarError};

/// Directories whose files are kept, with all below them.
const WHOLE: &[&str] = &[
    "etc",
    "lib/firmware",
    "lib/modprobe.d",
    "lib/modules",
    "usr/lib/firmware",
    "usr/lib/grub/i386-pc",
    "usr/lib/modprobe.d",
    "usr/lib/modules",
    "usr/lib/systemd/boot/efi",
    "usr/lib/kbd/keymaps",
    "usr/lib/taproot",
    "usr/share/bkeymaps",
    "usr/share/kbd/keymaps",
    "usr/share/keymaps",
];
/// Below `modules/RELEASE/kernel/`: what no boot needs, and most of what there is.
const NOT_FOR_BOOT: &[&str] = &[
    "drivers/accel/",
    "drivers/gpu/drm/amd/",
    "drivers/gpu/drm/i915/",
    "drivers/gpu/drm/nouveau/",
    "drivers/gpu/drm/radeon/",
    "drivers/gpu/drm/xe/",
    "drivers/iio/",
    "drivers/infiniband/",
    "drivers/media/",
    "drivers/net/wireless/",
    "drivers/staging/",
    "sound/",
];
/// Where programs and libraries lie.
const PROGRAMS: &[&str] = &["bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin"];
const LIBRARIES: &[&str] =
    &["lib", "lib64", "usr/lib", "usr/lib64", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
/// Links at the top of a tree, and in `usr`, that lead to where those lie. No others are kept: what is written here later must not follow
/// a link of the archive.
const TOP: &[&str] = &["bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr"];
/// Programs that an image can have, or whose presence says what it needs.
const WANTED: &[&str] =
    &["btrfs", "busybox", "e2fsck", "mkfs.f2fs", "mkfs.xfs", "taproot-init", "xfs_repair", "zdb", "zfs", "zpool"];
/// Single files.
const FILES: &[&str] = &["usr/lib/os-release", "var/lib/dpkg/status"];
/// Larger files below `etc` are no configuration.
const MAX_TEXT: u64 = 4 << 20;

/// Passes entries on, and keeps some of them.
pub(super) struct Keeping<'a> {
    inner: &'a mut dyn Entries,
    root: PathBuf,
    /// Directories made here, relative to the root.
    made: HashSet<PathBuf>,
    current: Option<Current>,
}

/// The file that is being kept.
struct Current {
    file: File,
    /// Parts of it that are still to come, as offset and length.
    parts: VecDeque<(u64, u64)>,
}

impl<'a> Keeping<'a> {
    /// Keeps in a directory, which is empty and nobody else's.
    pub(super) fn new(inner: &'a mut dyn Entries, root: &Path) -> Self {
        Keeping { inner, root: root.to_owned(), made: HashSet::from([PathBuf::new()]), current: None }
    }

    fn keep(&mut self, entry: &Entry) -> io::Result<()> {
        let Some(path) = plain(&entry.path) else { return Ok(()) };
        if !is_wanted(&path, entry) {
            return Ok(());
        }
        // Below what is no directory: the pool writer will say so.
        let Some(above) = path.parent() else { return Ok(()) };
        if !self.directory(above)? {
            return Ok(());
        }
        let place = self.root.join(&path);
        match entry.kind {
            Kind::SymbolicLink => again(symlink(Path::new(std::ffi::OsStr::from_bytes(&entry.target)), place)),
            Kind::HardLink => match plain(&entry.target) {
                // One whose first name was not kept cannot be had any more, and what lies behind a link is none of the tree's.
                Some(first) if self.is_kept(&first) => again(fs::hard_link(self.root.join(first), place)),
                _ => Ok(()),
            },
            Kind::File => {
                let mode = if entry.mode & 0o111 == 0 { 0o600 } else { 0o700 };
                let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(place);
                // Twice in the stream: the pool writer will say so.
                let file = match file {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                    file => file?,
                };
                file.set_len(entry.size)?;
                self.current = Some(Current { file, parts: entry.parts.iter().copied().collect() });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether a file was kept, in a directory that was made here.
    fn is_kept(&self, path: &Path) -> bool {
        let is_file = |place: PathBuf| fs::symlink_metadata(place).is_ok_and(|meta| meta.is_file());
        path.parent().is_some_and(|above| self.made.contains(above)) && is_file(self.root.join(path))
    }

    /// Makes a directory and those above it; whether all of them are directories that were made here.
    fn directory(&mut self, path: &Path) -> io::Result<bool> {
        if self.made.contains(path) {
            return Ok(true);
        }
        if let Some(above) = path.parent()
            && !self.directory(above)?
        {
            return Ok(false);
        }
        match DirBuilder::new().mode(0o700).create(self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            made => made?,
        }
        self.made.insert(path.to_owned());
        Ok(true)
    }
}

impl Entries for Keeping<'_> {
    fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.current = None;
        let entry = self.inner.next_entry()?;
        if let Some(entry) = &entry {
            self.keep(entry)?;
        }
        Ok(entry)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        self.inner.read(buffer)?;
        let Some(current) = &mut self.current else { return Ok(()) };
        let mut bytes: &[u8] = buffer;
        while let Some((offset, length)) = current.parts.front_mut().filter(|_| !bytes.is_empty()) {
            let here = usize::try_from(*length).unwrap_or(usize::MAX).min(bytes.len());
            let (now, rest) = bytes.split_at(here);
            current.file.write_all_at(now, *offset)?;
            bytes = rest;
            *offset += here as u64;
            *length -= here as u64;
            if *length == 0 {
                current.parts.pop_front();
            }
        }
        Ok(())
    }
}

/// A path of the archive without what says nothing; `None` for the root, and for what leads elsewhere.
fn plain(path: &[u8]) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            name => out.push(std::ffi::OsStr::from_bytes(name)),
        }
    }
    (!out.as_os_str().is_empty() && !path.starts_with(b"/")).then_some(out)
}

/// What is there already is what came first.
fn again(made: io::Result<()>) -> io::Result<()> {
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn is_wanted(path: &Path, entry: &Entry) -> bool {
    let text = path.to_string_lossy();
    let below = |dir: &&str| text.strip_prefix(*dir).is_some_and(|rest| rest.starts_with('/') || rest.is_empty());
    let (above, name) = text.rsplit_once('/').unwrap_or(("", &text));
    // Those that are needed are made for what is in them.
    if entry.kind == Kind::Directory {
        return false;
    }
    let modules = |dir: &str| dir.strip_prefix("usr/").unwrap_or(dir).starts_with("lib/modules/");
    if let Some((_, module)) = text.split_once("/kernel/").filter(|(dir, _)| modules(dir)) {
        return !NOT_FOR_BOOT.iter().any(|dir| module.starts_with(dir));
    }
    let link = entry.kind == Kind::SymbolicLink;
    if FILES.contains(&text.as_ref()) || WHOLE.iter().any(below) {
        return !text.starts_with("etc/") || entry.size <= MAX_TEXT;
    }
    match above {
        "" | "usr" => link && TOP.contains(&name),
        "boot" => name.starts_with("vmlinu") || name.starts_with("config-") || name.starts_with("kernel-"),
        _ if PROGRAMS.contains(&above) => link || WANTED.contains(&name) || name.starts_with("fsck."),
        _ if LIBRARIES.contains(&above) => link || name.contains(".so"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::tar::{Made, archive};
    use crate::tar::Archive;

    /// Reads all through it, as the pool writer does.
    fn keep(tree: &[Made]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let bytes = archive(tree);
        let mut inner = Archive::new(&*bytes);
        let mut keeping = Keeping::new(&mut inner, dir.path());
        while let Some(entry) = keeping.next_entry().unwrap() {
            for (_, length) in entry.parts {
                keeping.read(&mut vec![0; usize::try_from(length).unwrap()]).unwrap();
            }
        }
        dir
    }

    fn link(path: &str, target: &str, kind: u8) -> Made {
        Made { target: target.into(), ..Made::new(path, kind) }
    }

    #[test]
    fn what_the_boot_needs_is_kept() {
        let dir = keep(&[
            link("./bin", "usr/bin", b'2'),
            Made::file("./boot/vmlinuz-6", "kernel"),
            Made::file("./boot/initrd.img-6", "image"),
            Made::file("./etc/hostid", "abcd"),
            Made::file("usr/bin/busybox", "b"),
            Made::file("usr/bin/perl", "p"),
            link("usr/sbin/zpool", "usr/bin/busybox", b'1'),
            link("usr/sbin/zfs", "usr/bin/perl", b'1'),
            Made::file("usr/lib/modules/6/kernel/fs/a.ko", "a"),
            Made::file("usr/lib/modules/6/kernel/sound/b.ko", "b"),
            Made { sparse: Some((5, 10)), ..Made::file("usr/lib/libx.so.1", "xyz") },
            Made::file("usr/share/doc/x", "x"),
        ]);
        let read = |path: &str| fs::read(dir.path().join(path)).unwrap_or_default();
        assert_eq!(read("boot/vmlinuz-6"), b"kernel");
        assert_eq!((read("etc/hostid"), read("bin/busybox")), (b"abcd".to_vec(), b"b".to_vec()));
        assert_eq!(read("usr/sbin/zpool"), b"b");
        assert_eq!(read("usr/lib/modules/6/kernel/fs/a.ko"), b"a");
        assert_eq!(read("usr/lib/libx.so.1"), b"\0\0\0\0\0xyz\0\0");
        for absent in
            ["boot/initrd.img-6", "usr/bin/perl", "usr/sbin/zfs", "usr/lib/modules/6/kernel/sound", "usr/share"]
        {
            assert!(fs::symlink_metadata(dir.path().join(absent)).is_err(), "{absent}");
        }
    }

    #[test]
    fn nothing_is_written_outside() {
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().to_str().unwrap();
        let dir = keep(&[
            link("etc", target, b'2'),
            Made::file("etc/passwd", "x"),
            link("usr/lib", target, b'2'),
            Made::file("usr/lib/modules/6/modules.dep", "x"),
            Made::file("boot/../../up", "x"),
            Made::file("/etc/absolute", "x"),
            link("boot/vmlinuz-1", "/etc/shadow", b'2'),
            Made::file("boot/vmlinuz-1", "x"),
            // What is written beside the tree later would follow them.
            link(".initramfs", target, b'2'),
            link("core.img", target, b'2'),
            // A file of this machine, by a link.
            link("lib", env!("CARGO_MANIFEST_DIR"), b'2'),
            link("usr/bin/zpool", "lib/Cargo.toml", b'1'),
        ]);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(dir.path().join("etc").is_symlink() && dir.path().join("lib").is_symlink());
        for absent in [".initramfs", "core.img", "usr/bin/zpool"] {
            assert!(fs::symlink_metadata(dir.path().join(absent)).is_err(), "{absent}");
        }
    }
}
