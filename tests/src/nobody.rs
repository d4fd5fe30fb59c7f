//! A user who may nothing, and what it makes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::image::{boot_binary, builder};

/// Nobody's number.
pub const NOBODY: u32 = 65_534;

/// A directory that belongs to nobody, with the programs in it.
#[derive(Debug)]
pub struct Room(tempfile::TempDir);

impl Room {
    /// Makes one, which goes when it is dropped.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("taproot-room.").tempdir_in("/var/tmp").context("a directory")?;
        for program in [builder(), boot_binary()] {
            let copy = dir.path().join(program.file_name().context("a program with a name")?);
            fs::copy(&program, &copy).with_context(|| format!("copying {}", program.display()))?;
            fs::set_permissions(&copy, Permissions::from_mode(0o755)).context("making it executable")?;
        }
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).context("giving the directory away")?;
        Ok(Self(dir))
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `taproot`, run in it by nobody, without capabilities and without the right to get any.
    pub fn taproot(&self) -> Command {
        let mut command = Command::new("setpriv");
        let nobody = NOBODY.to_string();
        command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--no-new-privs"]);
        command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(self.path("taproot"));
        command.current_dir(self.0.path()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Has a command make something of a tree, piped in; what it says as JSON. Nothing of its work may be left in the room.
    pub fn make(&self, mut command: Command, tree: &Path) -> Result<Value> {
        let output = feed(tree, command.stderr(Stdio::piped()).stdout(Stdio::piped()))?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        for entry in fs::read_dir(self.0.path()).context("the room")? {
            let name = entry.context("the room")?.file_name();
            ensure!(!name.to_string_lossy().starts_with('.'), "{} is left", name.display());
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("what {command:?} says"))
    }
}

/// Runs a command with a tree as a tar archive on its standard input.
pub fn feed(tree: &Path, command: &mut Command) -> Result<Output> {
    let mut tar = Command::new("tar");
    tar.args(["--one-file-system", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--sort=name"]);
    tar.args(["--format=posix", "--pax-option=delete=atime,delete=ctime", "-cf", "-", "-C"]).arg(tree).arg(".");
    let mut tar = tar.stdout(Stdio::piped()).spawn().context("starting tar")?;
    let archive = tar.stdout.take().context("the archive of tar")?;
    let output = command.stdin(archive).output().with_context(|| format!("starting {command:?}"))?;
    let status = tar.wait().context("waiting for tar")?;
    // It is cut off where the command fails.
    ensure!(status.success() || !output.status.success(), "tar of {}: {status}", tree.display());
    Ok(output)
}
