//! What directories that lie elsewhere ask of Linux: copies with everything that belongs to a file, whole or not at all.
#![allow(unsafe_code)]

use super::xattrs;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use std::collections::HashMap;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown, symlink,
};
use std::path::{Path, PathBuf};

/// What an overlay keeps for itself in its layers.
const OVERLAYS_OWN: &[u8] = b"trusted.overlay.";

/// Makes a directory like another, with what is in that if `content`. It gets its name when all of it is on the disk.
pub(super) fn copy_dir(from: &Path, to: &Path, content: bool) -> io::Result<()> {
    let (Some(parent), Some(name)) = (to.parent(), to.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let temporary = parent.join(format!(".{}.taproot-new", name.to_string_lossy()));
    let clean = || match fs::remove_dir_all(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    };
    // Of a boot that was cut off.
    clean()?;
    let copied = copy(from, &temporary, content)
        .and_then(|()| sync_all(&temporary))
        .and_then(|()| fs::rename(&temporary, to))
        .and_then(|()| File::open(parent)?.sync_all());
    if copied.is_err() {
        let _ = clean();
    }
    copied
}

fn copy(from: &Path, to: &Path, content: bool) -> io::Result<()> {
    let within = |path: &Path, e: &io::Error| io::Error::new(e.kind(), format!("{}: {e}", from.join(path).display()));
    let device = fs::symlink_metadata(from)?.dev();
    fs::create_dir(to)?;
    // An empty name would put a slash behind the directory's own.
    let at = |dir: &Path, path: &Path| if path.as_os_str().is_empty() { dir.to_owned() } else { dir.join(path) };
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let (mut todo, mut made) = (vec![PathBuf::new()], vec![PathBuf::new()]);
    while let Some(dir) = todo.pop().filter(|_| content) {
        for entry in fs::read_dir(at(from, &dir)).map_err(|e| within(&dir, &e))? {
            let entry = entry?;
            let path = dir.join(entry.file_name());
            let meta = entry.metadata().map_err(|e| within(&path, &e))?;
            let target = to.join(&path);
            if meta.is_dir() {
                fs::create_dir(&target).map_err(|e| within(&path, &e))?;
                made.push(path.clone());
                // What is mounted there is not part of it.
                if meta.dev() == device {
                    todo.push(path);
                }
                continue;
            }
            let one = (meta.dev(), meta.ino());
            let done = match links.get(&one).filter(|_| meta.nlink() > 1) {
                Some(first) => fs::hard_link(to.join(first), &target),
                None => node(&entry.path(), &target, &meta),
            };
            done.map_err(|e| within(&path, &e))?;
            links.entry(one).or_insert(path);
        }
    }
    // What comes into a directory changes its time.
    for path in made.iter().rev() {
        let (source, target) = (at(from, path), at(to, path));
        let meta = fs::symlink_metadata(&source)?;
        attributes(&source, &target, &meta, &kept).map_err(|e| within(path, &e))?;
    }
    Ok(())
}

fn node(from: &Path, to: &Path, meta: &Metadata) -> io::Result<()> {
    if meta.file_type().is_socket() {
        // Nobody listens at one that was copied.
        return Ok(());
    }
    if meta.is_file() {
        fs::copy(from, to)?;
    } else {
        special(from, to, meta)?;
    }
    attributes(from, to, meta, &kept)
}

/// Whether an attribute belongs to the file, and not to the overlay that it was a layer of.
fn kept(name: &[u8]) -> bool {
    !name.starts_with(OVERLAYS_OWN)
}

/// Makes a symbolic link, a device, a fifo or a socket like another.
pub(crate) fn special(from: &Path, to: &Path, meta: &Metadata) -> io::Result<()> {
    if meta.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    let kind = SFlag::from_bits_truncate(meta.mode() & libc::S_IFMT);
    Ok(mknod(to, kind, Mode::S_IRUSR | Mode::S_IWUSR, meta.rdev())?)
}

/// Gives a file the owner, permissions, extended attributes of these names, and times of another: in this order, because each takes
/// away some of what comes later.
pub(crate) fn attributes(from: &Path, to: &Path, meta: &Metadata, kept: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
    lchown(to, Some(meta.uid()), Some(meta.gid()))?;
    if !meta.is_symlink() {
        fs::set_permissions(to, Permissions::from_mode(meta.mode() & 0o7777))?;
    }
    let open = |path: &Path| File::options().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path);
    let (source, target) = (open(from)?, open(to)?);
    for name in xattrs::list(&source)?.into_iter().filter(|name| kept(name)) {
        let value = xattrs::get(&source, &name)?;
        xattrs::set(&target, &name, &value).map_err(|e| {
            io::Error::new(e.kind(), format!("its attribute {} cannot be kept: {e}", String::from_utf8_lossy(&name)))
        })?;
    }
    let (read, written) =
        (TimeSpec::new(meta.atime(), meta.atime_nsec()), TimeSpec::new(meta.mtime(), meta.mtime_nsec()));
    Ok(utimensat(AT_FDCWD, to, &read, &written, UtimensatFlags::NoFollowSymlink)?)
}

/// Waits until all of a file system is on its disk.
fn sync_all(path: &Path) -> io::Result<()> {
    let open = File::open(path)?;
    // SAFETY: no memory is passed.
    let result = unsafe { libc::syncfs(open.as_raw_fd()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives a directory or file to somebody.
pub(super) fn give(path: &Path, owner: u32, group: u32) -> io::Result<()> {
    lchown(path, Some(owner), Some(group))
}

/// Whether a directory of a layer hides what layers below it have of it.
pub(super) fn is_opaque(dir: &Path) -> bool {
    let open = File::options().read(true).custom_flags(libc::O_PATH).open(dir);
    open.and_then(|open| xattrs::get(&open, b"trusted.overlay.opaque")).is_ok_and(|value| value == b"y")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_everything_that_belongs_to_files_and_no_half_of_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/one"), "1").unwrap();
        fs::set_permissions(from.join("a/one"), Permissions::from_mode(0o640)).unwrap();
        fs::hard_link(from.join("a/one"), from.join("two")).unwrap();
        symlink("/nowhere", from.join("a/b/link")).unwrap();
        fs::set_permissions(from.join("a"), Permissions::from_mode(0o1750)).unwrap();
        fs::create_dir_all(dir.path().join(".to.taproot-new/left")).unwrap();
        // Not every file system has them.
        let attribute = xattrs::set(&File::open(from.join("two")).unwrap(), b"user.kept", b"1").is_ok();
        copy_dir(&from, &to, true).unwrap();
        let kept = xattrs::get(&File::open(to.join("two")).unwrap(), b"user.kept");
        assert!(!attribute || kept.is_ok_and(|value| value == b"1"));
        let meta = |path: &str| fs::symlink_metadata(to.join(path)).unwrap();
        assert_eq!(meta("a").mode() & 0o7777, 0o1750);
        assert_eq!((meta("a/one").mode() & 0o7777, meta("a/one").nlink()), (0o640, 2));
        assert_eq!(meta("a/one").ino(), meta("two").ino());
        assert_eq!(fs::read_link(to.join("a/b/link")).unwrap(), Path::new("/nowhere"));
        assert_eq!(meta("a").mtime_nsec(), fs::symlink_metadata(from.join("a")).unwrap().mtime_nsec());
        assert!(!dir.path().join(".to.taproot-new").exists());

        let empty = dir.path().join("empty");
        copy_dir(&from.join("a"), &empty, false).unwrap();
        assert_eq!((fs::read_dir(&empty).unwrap().count(), fs::metadata(&empty).unwrap().mode() & 0o7777), (0, 0o1750));
        assert!(copy_dir(&dir.path().join("none"), &dir.path().join("x"), true).is_err());
        assert!(!dir.path().join("x").exists() && !dir.path().join(".x.taproot-new").exists());
    }

    /// Needs root, as a boot has it; elsewhere the attribute cannot be set.
    #[test]
    fn a_directory_that_hides_what_is_below() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_opaque(dir.path()));
        let open = File::open(dir.path()).unwrap();
        if xattrs::set(&open, b"trusted.overlay.opaque", b"y").is_ok() {
            assert!(is_opaque(dir.path()));
        }
    }
}
