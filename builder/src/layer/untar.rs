//! A tar as the source of a layer: unpacked by tar(1), which knows every dialect and compression.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Unpacks into a directory that is made for it, with owners, rights and attributes as they stand in the archive.
pub fn untar(archive: &Path, target: &Path) -> Result<()> {
    fs::create_dir(target).with_context(|| format!("{}: making it", target.display()))?;
    let mut command = Command::new("tar");
    command.args([
        "--extract",
        "--numeric-owner",
        "--preserve-permissions",
        "--same-owner",
        "--delay-directory-restore",
    ]);
    command.args(["--xattrs", "--xattrs-include=*", "--acls"]);
    command.arg("--file").arg(archive).arg("--directory").arg(target);
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output();
    let output = match output {
        Err(e) if e.kind() == io::ErrorKind::NotFound => bail!("tar is not there; install GNU tar"),
        other => other.context("starting tar")?,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first: Vec<&str> = said.lines().take(3).collect();
    bail!("{}: expected a tar, or a directory; tar says: {}", archive.display(), first.join("; "))
}
