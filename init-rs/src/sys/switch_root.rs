//! The hand-over: move the pseudo file systems, make the new root `/`, free the initramfs, execute the real init.

use super::beneath::resolve_here;
use super::entry;
use crate::sorted;
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Mounts that the real init expects to find, in the order they move.
pub const MOVED: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
const TMPFS_MAGIC: FsType = FsType(0x0102_1994);

/// Why the hand-over did not happen.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// One of the pseudo file systems could not be moved.
    #[error(
        "moving {what} into the new root failed: {source}; expected an empty directory {what} there (create it from the rescue shell)"
    )]
    Move {
        /// Mount point.
        what: &'static str,
        /// System error.
        source: io::Error,
    },
    /// The new root could not become `/`.
    #[error("making the new root / failed: {0}")]
    Root(io::Error),
    /// The init could not be executed; by now the new root is `/`.
    #[error(
        "executing {init} failed: {source}; it exists, so its interpreter or architecture does not fit this kernel"
    )]
    Exec {
        /// Path inside the new root.
        init: String,
        /// System error.
        source: io::Error,
    },
}

/// Moves everything, executes `init` and returns only if that failed.
pub fn hand_over(new_root: &Path, init: &Path, args: &[OsString]) -> SwitchError {
    let moved = match move_mounts(new_root) {
        Ok(moved) => moved,
        Err(e) => return e,
    };
    let old_root = match enter(new_root) {
        Ok(fd) => fd,
        Err(e) => {
            // Put things back so that the rescue shell has a /dev and /proc.
            for (target, what) in moved {
                let _ = mount(Some(&target), what, None::<&str>, MsFlags::MS_MOVE, None::<&str>);
            }
            return SwitchError::Root(e);
        }
    };
    free_initramfs(old_root);
    let _ = entry::attach_console();
    entry::default_signals();
    let _ = nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    SwitchError::Exec { init: init.display().to_string(), source: exec(init, args) }
}

fn move_mounts(new_root: &Path) -> Result<Vec<(PathBuf, &'static str)>, SwitchError> {
    let mut moved: Vec<(PathBuf, &'static str)> = Vec::new();
    for (target, what) in places(new_root)? {
        if !target.is_dir() {
            let _ = std::fs::create_dir_all(&target);
        }
        if let Err(e) = mount(Some(what), &target, None::<&str>, MsFlags::MS_MOVE, None::<&str>) {
            for (target, what) in moved {
                let _ = mount(Some(&target), what, None::<&str>, MsFlags::MS_MOVE, None::<&str>);
            }
            return Err(SwitchError::Move { what, source: e.into() });
        }
        moved.push((target, what));
    }
    Ok(moved)
}

/// Where each goes: what is a link in the root leads to where the booted system will look for it, not into the initramfs. One
/// that lies in another is moved after it.
fn places(new_root: &Path) -> Result<Vec<(PathBuf, &'static str)>, SwitchError> {
    let place = |what: &'static str| {
        let target = resolve_here(new_root, Path::new(what)).map_err(|source| SwitchError::Move { what, source })?;
        Ok((target, what))
    };
    let mut places = MOVED.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
    sorted::by(&mut places, Ord::cmp);
    Ok(places)
}

fn enter(new_root: &Path) -> io::Result<OwnedFd> {
    let old_root = nix::fcntl::open("/", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    nix::unistd::chdir(new_root)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    nix::unistd::chroot(".")?;
    nix::unistd::chdir("/")?;
    Ok(old_root)
}

/// Deletes the initramfs to free its memory: only if it is one, and never across a mount point.
fn free_initramfs(old_root: OwnedFd) {
    let in_memory = fstatfs(&old_root).is_ok_and(|s| matches!(s.filesystem_type(), RAMFS_MAGIC | TMPFS_MAGIC));
    let (Ok(old), Ok(new)) = (fstat(&old_root), nix::sys::stat::stat("/")) else { return };
    // Equal devices would mean that the root was never switched: deleting would destroy the running system.
    if in_memory && old.st_dev != new.st_dev {
        empty_directory(old_root, &old, 0);
    }
}

fn is_directory(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFDIR
}

fn empty_directory(fd: OwnedFd, own: &FileStat, depth: u32) {
    // An image is a dozen levels deep at most; the bound keeps a loop from exhausting the stack.
    if depth > 64 {
        return;
    }
    let Ok(mut dir) = Dir::from_fd(fd) else { return };
    let names: Vec<CString> = dir.iter().flatten().map(|e| e.file_name().to_owned()).collect();
    for name in names {
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = fstatat(dir.as_fd(), name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        if stat.st_dev != own.st_dev {
            continue;
        }
        let flag = if is_directory(&stat) {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            if let Ok(child) = nix::fcntl::openat(dir.as_fd(), name.as_c_str(), flags, Mode::empty()) {
                empty_directory(child, own, depth + 1);
            }
            UnlinkatFlags::RemoveDir
        } else {
            UnlinkatFlags::NoRemoveDir
        };
        let _ = unlinkat(dir.as_fd(), name.as_c_str(), flag);
    }
}

fn exec(init: &Path, args: &[OsString]) -> io::Error {
    let c_string = |s: &OsStr| CString::new(s.as_bytes()).ok();
    let Some(path) = c_string(init.as_os_str()) else { return io::ErrorKind::InvalidInput.into() };
    let words: Vec<CString> =
        std::iter::once(Some(path.clone())).chain(args.iter().map(|a| c_string(a))).flatten().collect();
    match nix::unistd::execv(&path, &words) {
        Err(e) => e.into(),
        Ok(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_in_the_root_are_followed_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("var/run")).unwrap();
        symlink("/var/run", root.join("run")).unwrap();
        symlink("run/dev", root.join("dev")).unwrap();
        let places = places(root).unwrap();
        let expected = [("proc", "/proc"), ("sys", "/sys"), ("var/run", "/run"), ("var/run/dev", "/dev")]
            .map(|(at, what)| (root.join(at), what));
        assert_eq!(places, expected, "/dev is moved into /run, not below it");
    }

    #[test]
    fn a_link_in_a_circle_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        symlink("run", dir.path().join("run")).unwrap();
        let error = places(dir.path()).unwrap_err();
        assert!(error.to_string().contains("moving /run into the new root failed"), "{error}");
    }
}
