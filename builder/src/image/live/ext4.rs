//! File systems that e2fsprogs make of a directory, in a file or in a partition of a disk.

use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// One that is to be made.
#[derive(Debug)]
pub(super) struct Ext4<'a> {
    /// The file that it lies in, from `start` on; nothing is there yet but zeros.
    pub image: &'a Path,
    pub start: u64,
    pub size: u64,
    /// What goes into it, and the paths of that: all of it belongs to root in there.
    pub tree: &'a Path,
    pub paths: &'a [&'a str],
    pub uuid: &'a str,
    pub label: &'a str,
}

/// Of one that nothing is ever written to: no journal, and inodes for a few large files.
pub(super) const SEALED: [&str; 4] = ["-O", "^has_journal", "-i", "1048576"];

/// Fails if the programs are not there.
pub(super) fn ready() -> Result<()> {
    run(Command::new("mkfs.ext4").arg("-V")).and_then(|()| run(Command::new("debugfs").arg("-V")))
}

impl Ext4<'_> {
    /// Makes it.
    pub(super) fn make(&self, more: &[&str]) -> Result<()> {
        let Self { image, start, size, tree, paths, uuid, label } = self;
        let mut command = Command::new("mkfs.ext4");
        command.args(["-q", "-F", "-m", "0", "-U", uuid, "-L", label]).args(more).arg("-E");
        command.arg(format!("hash_seed={uuid},root_owner=0:0,lazy_itable_init=1,nodiscard,offset={start}"));
        run(command.arg("-d").arg(tree).arg(image).arg(format!("{}k", size / 1024)))?;
        // The files are whoever made them's until then.
        let mut place = image.as_os_str().to_owned();
        place.push(format!("?offset={start}"));
        for (path, field) in paths.iter().flat_map(|path| [(path, "uid"), (path, "gid")]) {
            let request = format!("set_inode_field {path} {field} 0");
            run(Command::new("debugfs").args(["-w", "-R", &request]).arg(&place))?;
        }
        Ok(())
    }
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    // They are not on the path of users everywhere.
    let path = std::env::var("PATH").unwrap_or_default();
    let output = match command.env("PATH", format!("{path}:/usr/sbin:/sbin")).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("{program} is not there, and makes file systems: install e2fsprogs")
        }
        output => output.with_context(|| format!("starting {program}"))?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}: {}", output.status, said.trim());
    Ok(())
}
