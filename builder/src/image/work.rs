//! The directory in which an image is made: beside its first output, private, and gone when the work ends or is broken off.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::output::{Cleanup, directory};

/// The directory.
#[derive(Debug)]
pub(super) struct Work {
    path: PathBuf,
    cleanup: Cleanup,
    _lock: File,
}

impl Work {
    /// Makes it for an output. What a run that was killed left there goes.
    pub(super) fn beside(output: &Path, cleanup: &Cleanup) -> Result<Self> {
        let mut name = OsString::from(".");
        name.push(output.file_name().with_context(|| format!("{}: expected the name of a file", output.display()))?);
        name.push(".taproot-new");
        Self::at(directory(output).join(name), cleanup)
    }

    /// Makes it at a path.
    pub(super) fn at(path: PathBuf, cleanup: &Cleanup) -> Result<Self> {
        let shown = path.display();
        let made = cleanup.guarded(|slot| {
            let made = DirBuilder::new().mode(0o700).create(&path);
            *slot = made.is_ok().then(|| path.clone());
            made
        });
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let left = lock(&path)?;
                ensure!(
                    left.metadata()?.uid() == nix::unistd::geteuid().as_raw(),
                    "{shown}: it is there, and another user's: remove it, or choose another output"
                );
                fs::remove_dir_all(&path).with_context(|| format!("{shown}: removing what another run left"))?;
                drop(left);
                return Self::at(path, cleanup);
            }
            made => made.with_context(|| format!("{shown}: making a directory to work in"))?,
        }
        let lock = lock(&path)?;
        Ok(Self { path, cleanup: cleanup.clone(), _lock: lock })
    }

    /// Something in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Gives a finished file its name, for good.
    pub(super) fn place(&self, name: &str, output: &Path) -> Result<()> {
        let failed = || format!("{}: writing", output.display());
        let made = self.file(name);
        // The tree's secrets are in it.
        fs::set_permissions(&made, Permissions::from_mode(0o600)).with_context(failed)?;
        match fs::rename(&made, output) {
            // Elsewhere: a file system of its own.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let beside = Work::beside(output, &Cleanup::default())?;
                let copy = beside.file(name);
                fs::copy(&made, &copy).with_context(failed)?;
                File::open(&copy).and_then(|file| file.sync_all()).with_context(failed)?;
                fs::rename(&copy, output).with_context(failed)?;
            }
            renamed => renamed.with_context(failed)?,
        }
        File::open(directory(output)).and_then(|dir| dir.sync_all()).with_context(failed)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.cleanup.guarded(|slot| *slot = None);
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn lock(path: &Path) -> Result<File> {
    let shown = path.display();
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_DIRECTORY;
    let dir = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let dir =
        dir.with_context(|| format!("{shown}: expected a directory that an interrupted run of ours left; remove it"))?;
    match dir.try_lock() {
        Err(TryLockError::WouldBlock) => {
            bail!("{shown}: another taproot works there, on the same output: wait for it, or choose another output")
        }
        // A file system without locks has none for others either.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(dir),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("disk.raw");
        fs::create_dir(dir.path().join(".disk.raw.taproot-new")).unwrap();
        fs::write(dir.path().join(".disk.raw.taproot-new/left"), "x").unwrap();
        let work = Work::beside(&output, &Cleanup::default()).unwrap();
        assert!(!work.file("left").exists());
        assert!(format!("{:#}", Work::beside(&output, &Cleanup::default()).unwrap_err()).contains("another taproot"));
        fs::write(work.file("disk"), "whole").unwrap();
        work.place("disk", &output).unwrap();
        drop(work);
        assert_eq!(fs::read(&output).unwrap(), b"whole");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
