//! The program zfs, which the running system has.

use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// Of datasets that were made here.
const MADE: &str = "taproot:machine";

/// ZFS's own program.
#[derive(Debug, Clone)]
pub struct Zfs {
    program: String,
}

/// A dataset with a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub dataset: String,
    /// Where it is mounted.
    pub mountpoint: String,
    /// The snapshot that it is a clone of.
    pub origin: String,
}

/// Runs a program; what it printed.
pub(crate) fn said(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("expected the program {name}, found none"),
        other => other.with_context(|| format!("starting {name}"))?,
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}: {}", output.status, errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Zfs {
    /// The one of this system, if there is any.
    pub fn find() -> Option<Self> {
        let there = ["/usr/sbin/zfs", "/sbin/zfs", "/usr/bin/zfs", "/usr/local/sbin/zfs"]
            .into_iter()
            .find(|path| Path::new(path).is_file());
        there.map(|program| Self { program: program.to_owned() })
    }

    /// Its path.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    /// Runs it; what it printed.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        said(Command::new(&self.program).args(words))
    }

    /// Whether a dataset or snapshot is there.
    pub(crate) fn exists(&self, name: &str) -> bool {
        self.run(&["list", "-H", "-o", "name", "-t", "all", name]).is_ok()
    }

    /// A dataset that holds others, and nothing itself.
    pub(super) fn create_parent(&self, name: &str, place: &Path) -> Result<()> {
        let mountpoint = format!("mountpoint={}", place.display());
        self.run(&["create", "-p", "-o", "canmount=off", "-o", &mountpoint, name]).map(drop)
    }

    /// A clone, mounted there.
    pub(super) fn clone(&self, snapshot: &str, name: &str, place: &Path) -> Result<()> {
        let mountpoint = format!("mountpoint={}", place.display());
        let made = format!("{MADE}=yes");
        self.run(&["clone", "-o", &mountpoint, "-o", "canmount=on", "-o", &made, snapshot, name]).map(drop)
    }

    /// Removes a dataset that was made here; not one that has snapshots of its own.
    pub(super) fn destroy(&self, name: &str) -> Result<()> {
        let made = self.run(&["get", "-H", "-o", "value", "-s", "local", MADE, name])?;
        ensure!(
            made.trim() == "yes",
            "expected {name} to be a machine that was made here, found {MADE}={}",
            made.trim()
        );
        self.run(&["destroy", name]).map(drop)
    }

    /// The datasets that were made here.
    pub(super) fn made_here(&self) -> Result<Vec<Entry>> {
        let fields = format!("{MADE},name,mountpoint,origin");
        Ok(entries(&self.run(&["list", "-H", "-t", "filesystem", "-o", &fields])?))
    }
}

/// Those lines of a list that are of machines.
fn entries(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let ["yes", dataset, mountpoint, origin] = fields.as_slice() else { return None };
        let own = |text: &str| text.to_owned();
        Some(Entry { dataset: own(dataset), mountpoint: own(mountpoint), origin: own(origin) })
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_told_from_other_datasets() {
        let text = "-\ttank\t/tank\t-\nyes\ttank/machines/web\t/var/lib/machines/web\ttank/ROOT/a@s\nno\ttank/x\t/x\t-\nyes\tshort\n";
        let expected = Entry {
            dataset: "tank/machines/web".into(),
            mountpoint: "/var/lib/machines/web".into(),
            origin: "tank/ROOT/a@s".into(),
        };
        assert_eq!(entries(text), [expected]);
        assert!(said(&mut Command::new("/nowhere/zfs")).unwrap_err().to_string().contains("found none"));
        assert!(said(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err().to_string().contains("why"));
    }
}
