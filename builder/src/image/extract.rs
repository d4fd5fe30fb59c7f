//! What the boot needs of the tree, kept from the stream on its way to the pool: kernels and their modules, configuration, and the
//! programs that an initramfs has.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::initramfs::kept::plain;
use crate::tar::{Entries, Entry, Kind, TarError, write};

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
/// Links at the top of a tree, and in `usr`, that lead to where those lie.
const TOP: &[&str] = &["bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr"];
/// Programs that an image can have, or whose presence says what it needs.
const WANTED: &[&str] =
    &["btrfs", "busybox", "e2fsck", "mkfs.f2fs", "mkfs.xfs", "taproot-init", "xfs_repair", "zdb", "zfs", "zpool"];
/// Single files.
const FILES: &[&str] = &["usr/lib/os-release", "var/lib/dpkg/status"];
/// Larger files below `etc` are no configuration.
const MAX_TEXT: u64 = 4 << 20;
/// Bytes that are written at once.
const GATHER: usize = 256 << 10;

/// Passes entries on, and keeps some of them.
pub(super) struct Keeping<'a> {
    inner: &'a mut dyn Entries,
    /// The archive; none any more once the stream has ended.
    out: Option<BufWriter<File>>,
    /// Bytes of the entry that is being kept, and how many of them are still to come.
    size: u64,
    left: u64,
}

impl<'a> Keeping<'a> {
    /// Keeps in an archive, which [`Tree`](crate::initramfs::tree::Tree) reads.
    pub(super) fn new(inner: &'a mut dyn Entries, archive: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(archive)?;
        Ok(Keeping { inner, out: Some(BufWriter::with_capacity(GATHER, file)), size: 0, left: 0 })
    }

    /// The entry as it is kept, if it is.
    fn kept(entry: &Entry) -> Option<Entry> {
        let path = plain(&entry.path).filter(|path| is_wanted(path, entry))?;
        // Who may execute it is all that an initramfs wants to know.
        let mode = if entry.mode & 0o111 == 0 { 0o600 } else { 0o700 };
        let path = path.into_os_string().into_encoded_bytes();
        Some(Entry { path, mode, uid: 0, gid: 0, xattrs: Vec::new(), ..entry.clone() })
    }
}

impl Entries for Keeping<'_> {
    fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        // What nobody read is kept all the same.
        while self.left > 0 {
            let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(GATHER);
            self.read(&mut vec![0; most])?;
        }
        let (entry, Some(out)) = (self.inner.next_entry()?, &mut self.out) else { return Ok(None) };
        out.write_all(write::pad(std::mem::take(&mut self.size)))?;
        let Some(entry) = entry else {
            out.write_all(&write::END)?;
            out.flush()?;
            self.out = None;
            return Ok(None);
        };
        if let Some(kept) = Self::kept(&entry) {
            out.write_all(&write::header(&kept))?;
            self.size = write::stored(&kept);
            self.left = self.size;
        }
        Ok(Some(entry))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        self.inner.read(buffer)?;
        if let Some(out) = self.out.as_mut().filter(|_| self.left > 0) {
            out.write_all(buffer)?;
            self.left = self.left.saturating_sub(buffer.len() as u64);
        }
        Ok(())
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
    use crate::initramfs::tree::Tree;
    use crate::made::tar::{Made, archive};
    use crate::tar::Archive;
    use std::fs;

    /// Reads all through it, as the pool writer does, but has to read no content.
    fn keep(tree: &[Made], whole: bool) -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, place) = (archive(tree), dir.path().join("kept"));
        let mut inner = Archive::new(&*bytes);
        let mut keeping = Keeping::new(&mut inner, &place).unwrap();
        while let Some(entry) = keeping.next_entry().unwrap() {
            for (_, length) in entry.parts.iter().filter(|_| whole) {
                keeping.read(&mut vec![0; usize::try_from(*length).unwrap()]).unwrap();
            }
        }
        drop(keeping);
        let tree = Tree::open(&place).unwrap();
        (dir, tree)
    }

    fn link(path: &str, target: &str, kind: u8) -> Made {
        Made { target: target.into(), ..Made::new(path, kind) }
    }

    #[test]
    fn what_the_boot_needs_is_kept() {
        let made = [
            link("./bin", "usr/bin", b'2'),
            Made::file("./boot/vmlinuz-6", "kernel"),
            Made::file("./boot/initrd.img-6", "image"),
            Made::file("./etc/hostid", "abcd"),
            Made::file("usr/bin/busybox", "b"),
            Made::file("usr/bin/perl", "p"),
            link("usr/sbin/zpool", "usr/bin/busybox", b'1'),
            link("usr/sbin/zfs", "usr/bin/perl", b'1'),
            Made::file("usr/lib/modules/6/modules.dep", "kernel/fs/a.ko:"),
            Made::file("usr/lib/modules/6/kernel/fs/a.ko", "a"),
            Made::file("usr/lib/modules/6/kernel/sound/b.ko", "b"),
            Made { sparse: Some((5, 10)), ..Made::file("usr/lib/libx.so.1", "xyz") },
            Made::file("usr/share/doc/x", "x"),
        ];
        for whole in [true, false] {
            let (_dir, tree) = keep(&made, whole);
            let read = |path: &str| tree.read(path, 100).unwrap_or_default();
            assert_eq!(read("boot/vmlinuz-6"), b"kernel");
            assert_eq!((read("etc/hostid"), read("bin/busybox")), (b"abcd".to_vec(), b"b".to_vec()));
            assert_eq!(tree.file("/bin/busybox"), Some("/usr/bin/busybox".into()));
            assert_eq!(read("usr/sbin/zpool"), b"b");
            assert_eq!(read("usr/lib/modules/6/kernel/fs/a.ko"), b"a");
            assert_eq!(read("usr/lib/libx.so.1"), b"\0\0\0\0\0xyz\0\0");
            assert_eq!(tree.list("usr").unwrap(), ["bin", "lib", "sbin"]);
            assert_eq!(tree.kernels().unwrap(), ["6"]);
            assert!(tree.read("boot/vmlinuz-6", 5).unwrap_err().to_string().contains("at most 5"));
            assert!(tree.read("boot", 5).unwrap_err().to_string().contains("a directory"));
            assert!(tree.place("etc/new").is_err(), "nothing is written to what was kept");
            for absent in
                ["boot/initrd.img-6", "usr/bin/perl", "usr/sbin/zfs", "usr/lib/modules/6/kernel/sound", "usr/share"]
            {
                assert!(!tree.is_there(absent), "{absent}");
            }
        }
    }

    #[test]
    fn links_lead_nowhere_but_inside() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        let target = outside.path().to_str().unwrap();
        let (_dir, tree) = keep(
            &[
                link("etc/a", target, b'2'),
                link("etc/secret", &format!("{target}/secret"), b'2'),
                link("etc/up", "../../../../../../etc/passwd", b'2'),
                link("etc/round", "round", b'2'),
                link("usr/lib/modules", "/etc", b'2'),
                Made::file("usr/lib/modules/6/modules.dep", "below a link"),
                Made::file("etc/twice", "first"),
                Made::file("etc/twice", "second"),
                Made::file("boot/../../up", "x"),
                Made::file("/etc/absolute", "x"),
                link("usr/bin/zpool", "etc/secret", b'1'),
                link(".initramfs", target, b'2'),
            ],
            true,
        );
        assert_eq!(tree.read("etc/twice", 10).unwrap(), b"first");
        assert!(tree.read("etc/secret", 10).unwrap_err().to_string().contains("a link to"));
        for absent in ["etc/a/secret", "etc/secret", "etc/up", "etc/round", "etc/6", "etc/absolute", "up"] {
            assert!(tree.read(absent, 10).is_err(), "{absent}");
        }
        assert!(!tree.is_there("usr/bin/zpool") && !tree.is_there(".initramfs"));
        assert!(tree.list("usr/lib/modules/6").unwrap().is_empty());
    }
}
