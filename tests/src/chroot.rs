//! A kit tree that is written to and changed as an installed system, without a machine: an overlay in memory over the tree, with
//! mounts that only its own commands see. It ends with the test, whatever becomes of that. Needs root.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::kit::System;

/// Mounts in a namespace of its own, says so, and holds that until its standard input ends.
const HOLD: &str = r#"
    set -e
    dir=$1 tree=$2
    mount -t tmpfs -o size=2g tmpfs "$dir"
    mkdir "$dir/upper" "$dir/work" "$dir/root"
    mount -t overlay -o "lowerdir=$tree,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/root"
    mount --rbind /dev "$dir/root/dev"
    mount -t proc proc "$dir/root/proc"
    mount -t tmpfs tmpfs "$dir/root/run"
    echo ready
    exec cat >/dev/null
"#;

/// The tree as it is now.
#[derive(Debug)]
pub struct Chroot {
    holder: Child,
    dir: TempDir,
}

impl Chroot {
    /// A fresh one.
    pub fn new(system: &System) -> Result<Self> {
        let dir = TempDir::new()?;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", HOLD, "hold"])
            .arg(dir.path())
            .arg(system.tree());
        let holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting unshare")?;
        let mut chroot = Self { holder, dir };
        let mut line = String::new();
        BufReader::new(chroot.holder.stdout.take().context("no output")?).read_line(&mut line)?;
        ensure!(line == "ready\n", "the tree could not be mounted: this needs root, overlayfs and namespaces");
        Ok(chroot)
    }

    fn inside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--mount").arg("--target").arg(self.holder.id().to_string());
        command
    }

    /// Runs a command of this machine that sees the tree; its path is put in for `{root}`.
    pub fn outside(&self, script: &str) -> Result<Output> {
        let script = script.replace("{root}", &self.root().display().to_string());
        Ok(self.inside().args(["sh", "-ec", &script]).output()?)
    }

    /// Where commands of [`Self::outside`] find the tree.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Runs a shell script in the tree, as its root.
    pub fn run(&self, script: &str) -> Result<Output> {
        let mut command = self.inside();
        command.arg("chroot").arg(self.root()).args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"]);
        Ok(command.args(["DEBIAN_FRONTEND=noninteractive", "sh", "-ec", script]).output()?)
    }

    /// Writes a file of the tree, with the directories above it.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let script = format!("mkdir -p \"$(dirname {path})\"; cat >{path}");
        let mut command = self.inside();
        command.arg("chroot").arg(self.root()).args(["sh", "-ec", &script]).stdin(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("no input")?.write_all(bytes)?;
        ensure!(child.wait()?.success(), "{path}: writing");
        Ok(())
    }

    /// Reads a file of the tree.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let output = self.run(&format!("cat {path}"))?;
        ensure!(output.status.success(), "{path}: {}", said(&output));
        Ok(output.stdout)
    }

    /// Whether something is there.
    pub fn has(&self, path: &Path) -> bool {
        self.run(&format!("[ -e {} ]", path.display())).is_ok_and(|output| output.status.success())
    }
}

impl Drop for Chroot {
    fn drop(&mut self) {
        // The mounts go with the last process that sees them.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// What a command printed.
pub fn said(output: &Output) -> String {
    format!("{}\n{}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
