//! Where a layer is made before it gets its name: a directory beside that, so that giving the name is one rename.

use crate::output::{Cleanup, directory};
use anyhow::{Context as _, Result, bail, ensure};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The directory; it goes with this, and when the program is told to end.
#[derive(Debug)]
pub struct Workshop {
    path: PathBuf,
    _lock: File,
    cleanup: Cleanup,
}

impl Workshop {
    /// The one for a target, always of the same name: what a power cut left there is removed. An error while another run has it.
    pub fn open(target: &Path, cleanup: &Cleanup) -> Result<Self> {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(".taproot-new");
        let path = directory(target).join(name);
        let failed = || format!("{}: making it", path.display());
        loop {
            let made = cleanup.guarded(|slot| {
                let made = DirBuilder::new().mode(0o700).create(&path);
                *slot = made.is_ok().then(|| path.clone());
                made
            });
            match made {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    let meta = fs::symlink_metadata(&path).with_context(failed)?;
                    let ours = meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw();
                    ensure!(ours, "{}: expected nothing, or what an interrupted run left; remove it", path.display());
                }
                other => other.with_context(failed)?,
            }
            let lock = match File::open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.with_context(failed)?,
            };
            match lock.try_lock() {
                Err(TryLockError::WouldBlock) => bail!("{}: another taproot is making this layer", target.display()),
                // A file system without locks has none for others either.
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(e)) => return Err(e).with_context(failed),
                Ok(()) => {}
            }
            // The other one may have removed it.
            let meta = lock.metadata().with_context(failed)?;
            if fs::symlink_metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (meta.dev(), meta.ino())) {
                cleanup.guarded(|slot| *slot = Some(path.clone()));
                empty(&path).with_context(failed)?;
                return Ok(Self { path, _lock: lock, cleanup: cleanup.clone() });
            }
        }
    }

    /// A place in it.
    pub fn place(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        self.cleanup.guarded(|slot| {
            *slot = None;
            let _ = fs::remove_dir_all(&self.path);
        });
    }
}

fn empty(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("base.sqsh");
        let left = dir.path().join(".base.sqsh.taproot-new");
        fs::create_dir_all(left.join("tree/deep")).unwrap();
        let workshop = Workshop::open(&target, &Cleanup::default()).unwrap();
        assert!(!workshop.place("tree").exists() && left.exists());
        let error = Workshop::open(&target, &Cleanup::default()).unwrap_err().to_string();
        assert!(error.contains("another taproot"), "{error}");
        fs::write(workshop.place("image"), "x").unwrap();
        drop(workshop);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::write(&left, "theirs").unwrap();
        assert!(Workshop::open(&target, &Cleanup::default()).is_err());
        assert!(left.exists());
    }
}
