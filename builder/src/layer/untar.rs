//! A tar as the source of a layer: unpacked by tar(1), which knows every dialect and compression.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const PIECE: usize = 256 << 10;

/// Unpacks into a directory that is made for it, with owners, rights and attributes as they stand in the archive.
pub fn untar(archive: &Path, target: &Path) -> Result<()> {
    fs::create_dir(target).with_context(|| format!("{}: making it", target.display()))?;
    let mut command = command(target);
    command.arg("--file").arg(archive);
    let output = started(command.stdin(Stdio::null()).output())?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{}: expected a tar, or a directory; tar says: {}", archive.display(), first(&output.stderr))
}

/// Unpacks what is written over what a directory has.
pub fn untar_over(target: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut said = tempfile::tempfile().context("making a file for what tar says")?;
    let mut command = command(target);
    command.args(["--file", "-"]).stdin(Stdio::piped());
    let mut child = started(command.stderr(said.try_clone().context("a temporary file")?).spawn())?;
    let pipe = child.stdin.take().context("a pipe to tar")?;
    let mut pipe = BufWriter::with_capacity(PIECE, pipe);
    let written = write(&mut pipe).and_then(|()| pipe.flush().context("writing to tar"));
    drop(pipe);
    let status = child.wait().context("waiting for tar")?;
    let mut text = Vec::new();
    said.seek(SeekFrom::Start(0)).and_then(|_| said.read_to_end(&mut text)).context("reading what tar said")?;
    // If it went first, that is why nothing more could be written; else it only saw its input end.
    let gone = |error: &anyhow::Error| {
        let broken = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
        error.chain().any(|cause| cause.downcast_ref().is_some_and(broken))
    };
    match &written {
        Err(error) if !gone(error) => {}
        _ if status.success() => {}
        _ => bail!("{}: unpacking the tree; tar says: {} ({status})", target.display(), first(&text)),
    }
    written
}

fn command(target: &Path) -> Command {
    let mut command = Command::new("tar");
    command.args([
        "--extract",
        "--numeric-owner",
        "--preserve-permissions",
        "--same-owner",
        "--delay-directory-restore",
    ]);
    command.args(["--xattrs", "--xattrs-include=*", "--acls"]);
    command.arg("--directory").arg(target).env("LC_ALL", "C");
    command
}

fn started<T>(result: io::Result<T>) -> Result<T> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => bail!("tar is not there; install GNU tar"),
        other => other.context("starting tar"),
    }
}

fn first(said: &[u8]) -> String {
    String::from_utf8_lossy(said).lines().take(3).collect::<Vec<_>>().join("; ")
}
