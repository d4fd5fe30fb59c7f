//! `taproot machine`: roots for systemd-nspawn below `/var/lib/machines`, each a clone of a snapshot or a copy of a directory. Only what
//! was made here is removed here.

mod adapt;
mod zfs;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

pub(crate) use adapt::adapt;
pub(crate) use zfs::said;
pub use zfs::{Entry, Zfs};

/// Where systemd-nspawn and machinectl look.
pub const MACHINES: &str = "/var/lib/machines";
/// Where they note what runs.
const RUNNING: &str = "/run/systemd/machines";

/// What a machine is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// A snapshot, which is cloned.
    Snapshot(String),
    /// A directory, of one file system, which is copied.
    Directory(PathBuf),
}

impl From {
    /// From what stands on the command line: a directory has a slash before it.
    pub fn new(text: &str) -> Result<Self> {
        if text.starts_with(['/', '.']) {
            return Ok(Self::Directory(text.into()));
        }
        let is_snapshot = text.split_once('@').is_some_and(|(dataset, name)| {
            !dataset.is_empty() && !name.is_empty() && !name.contains(['@', '/']) && !dataset.ends_with('/')
        });
        ensure!(is_snapshot, "expected DATASET@SNAPSHOT, or a directory (/DIR, ./DIR), found {text:?}");
        Ok(Self::Snapshot(text.to_owned()))
    }
}

/// A machine, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// What it lies on: a dataset, or a directory.
    pub kind: String,
    /// What it was made of.
    pub origin: String,
    /// Whether it runs.
    pub running: bool,
}

/// A name that systemd takes for a machine (`machine_name_is_valid`), and ZFS for a dataset.
pub fn check_name(name: &str) -> Result<()> {
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    ensure!(
        name.len() <= 64 && name.split('.').all(label),
        "expected a name like a host's, of letters, digits, - and ., found {name:?}"
    );
    Ok(())
}

/// The file that says of a directory that it was made here.
fn mark(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.taproot"))
}

/// Destroys the dataset of a machine, and removes the empty directory that zfs leaves where it was mounted: else the name is taken.
fn destroy(zfs: &Zfs, dataset: &str, place: &Path) -> Result<()> {
    zfs.destroy(dataset)?;
    match fs::remove_dir(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", place.display()))
        }
        _ => Ok(()),
    }
}

/// Machines below a directory (`/var/lib/machines`).
#[derive(Debug)]
pub struct Machines<'a> {
    /// The directory.
    pub dir: &'a Path,
    /// ZFS, if its programs are there.
    pub zfs: Option<&'a Zfs>,
}

impl Machines<'_> {
    /// Makes one; gives what is to be told. `parent`: the dataset below which it lies, if not POOL/machines.
    pub fn create(&self, name: &str, from: &From, parent: Option<&str>) -> Result<Vec<String>> {
        check_name(name)?;
        let place = self.dir.join(name);
        ensure!(
            !place.exists(),
            "{} is there already; taproot machine remove {name} removes one that was made here",
            place.display()
        );
        match from {
            From::Snapshot(snapshot) => self.clone_of(name, &place, snapshot, parent),
            From::Directory(directory) => {
                ensure!(
                    parent.is_none(),
                    "--parent is for clones of snapshots; a directory is copied into {}",
                    self.dir.display()
                );
                self.copy_of(name, &place, directory)
            }
        }
    }

    fn clone_of(&self, name: &str, place: &Path, snapshot: &str, parent: Option<&str>) -> Result<Vec<String>> {
        let zfs =
            self.zfs.context("expected the program zfs to clone a snapshot, found none; install the ZFS tools")?;
        let pool = snapshot.split(['/', '@']).next().unwrap_or_default();
        let parent = parent.map_or_else(|| format!("{pool}/machines"), str::to_owned);
        ensure!(
            parent.split('/').next() == Some(pool),
            "a clone lies in the pool of its snapshot: expected a parent in {pool}, found {parent}"
        );
        ensure!(
            zfs.exists(snapshot),
            "expected the snapshot {snapshot}, found none; zfs list -t snapshot shows which there are"
        );
        let dataset = format!("{parent}/{name}");
        ensure!(!zfs.exists(&dataset), "{dataset} is there already");
        if !zfs.exists(&parent) {
            zfs.create_parent(&parent, self.dir)?;
        }
        zfs.clone(snapshot, &dataset, place)?;
        adapt(place, name).inspect_err(|_| {
            // It was made a moment ago, and nothing else is in it.
            let _ = destroy(zfs, &dataset, place);
        })
    }

    fn copy_of(&self, name: &str, place: &Path, from: &Path) -> Result<Vec<String>> {
        ensure!(from.is_dir(), "{}: expected a directory", from.display());
        let new = self.dir.join(format!(".{name}.taproot-new"));
        fs::create_dir_all(self.dir).with_context(|| format!("creating {}", self.dir.display()))?;
        if new.exists() {
            // What an interrupted run left.
            fs::remove_dir_all(&new).with_context(|| format!("removing {}", new.display()))?;
        }
        let copied = (|| {
            let mut command = Command::new("cp");
            command.args(["-a", "--one-file-system", "--reflink=auto", "-T"]).arg(from).arg(&new);
            said(&mut command)?;
            let told = adapt(&new, name)?;
            let mark = mark(self.dir, name);
            fs::write(&mark, format!("{}\n", from.display())).with_context(|| format!("writing {}", mark.display()))?;
            fs::rename(&new, place).with_context(|| format!("naming {}", place.display()))?;
            Ok(told)
        })();
        copied.inspect_err(|_| {
            let _ = fs::remove_dir_all(&new);
            let _ = fs::remove_file(mark(self.dir, name));
        })
    }

    /// Those that were made here, by name.
    pub fn list(&self) -> Result<Vec<Shown>> {
        let mut all = Vec::new();
        for Entry { dataset, mountpoint, origin } in self.zfs.map_or(Ok(Vec::new()), Zfs::made_here)? {
            let Some(name) = Path::new(&mountpoint).strip_prefix(self.dir).ok().and_then(Path::to_str) else {
                continue;
            };
            all.push(Self::shown(name, &dataset, &origin));
        }
        for entry in fs::read_dir(self.dir).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let name = file.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(".taproot"));
            let Some(name) = name.filter(|name| self.dir.join(name).is_dir()) else { continue };
            let origin = fs::read_to_string(entry.path()).unwrap_or_default();
            all.push(Self::shown(name, "directory", origin.trim()));
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    fn shown(name: &str, kind: &str, origin: &str) -> Shown {
        let running = Path::new(RUNNING).join(name).exists();
        Shown { name: name.to_owned(), kind: kind.to_owned(), origin: origin.to_owned(), running }
    }

    /// One of those.
    pub fn find(&self, name: &str) -> Result<Shown> {
        let all = self.list()?;
        let names: Vec<&str> = all.iter().map(|machine| machine.name.as_str()).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let found = all.iter().find(|machine| machine.name == name).cloned();
        found.with_context(|| format!("expected a machine that was made here, found {name}; there are: {there}"))
    }

    /// Removes one that does not run.
    pub fn remove(&self, machine: &Shown) -> Result<()> {
        ensure!(!machine.running, "{0} runs; machinectl poweroff {0} ends it", machine.name);
        let place = self.dir.join(&machine.name);
        if machine.kind != "directory" {
            let zfs = self.zfs.context("the program zfs is gone")?;
            return destroy(zfs, &machine.kind, &place);
        }
        fs::remove_dir_all(&place).with_context(|| format!("removing {}", place.display()))?;
        let mark = mark(self.dir, &machine.name);
        fs::remove_file(&mark).with_context(|| format!("removing {}", mark.display()))
    }

    /// Writes one as an archive, compressed as its name says, whole or not at all.
    pub fn export(&self, machine: &Shown, file: &Path) -> Result<()> {
        ensure!(
            !machine.running,
            "{0} runs, and changes while it is read; machinectl poweroff {0} ends it",
            machine.name
        );
        let name = file.file_name().context("expected the name of a file")?.to_string_lossy();
        // tar takes the compression from the end of the name.
        let new = file.with_file_name(format!(".taproot-new.{name}"));
        let mut tar = Command::new("tar");
        tar.args([
            "--create",
            "--auto-compress",
            "--one-file-system",
            "--numeric-owner",
            "--sort=name",
            "--format=posix",
        ]);
        tar.args(["--xattrs", "--xattrs-include=*", "--acls", "--file"]).arg(&new);
        tar.arg("-C").arg(self.dir.join(&machine.name)).arg(".");
        let done = said(&mut tar).and_then(|_| {
            fs::File::open(&new)?.sync_all()?;
            Ok(fs::rename(&new, file)?)
        });
        done.inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })
        .with_context(|| format!("writing {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sources() {
        for name in ["a", "web-1", "a.example"] {
            check_name(name).unwrap();
        }
        for name in ["", ".", "a/b", "..", "-a", "a b", "a_b", "a@b", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert_eq!(From::new("tank/ROOT/a@s").unwrap(), From::Snapshot("tank/ROOT/a@s".into()));
        assert_eq!(From::new("/mnt").unwrap(), From::Directory("/mnt".into()));
        for text in ["tank/ROOT/a", "@s", "a@", "a@b/c", "a@b@c", "a/@s", ""] {
            assert!(From::new(text).is_err(), "{text:?}");
        }
    }

    /// A small root.
    fn tree(dir: &Path) -> PathBuf {
        let tree = dir.join("tree");
        for (path, text) in [
            ("etc/os-release", "ID=debian\n"),
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            ("etc/hostname", "host\n"),
            ("etc/fstab", "UUID=x / ext4 defaults 0 1\n"),
            ("var/lib/systemd/random-seed", "seed"),
            ("usr/bin/tool", "tool"),
        ] {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        tree
    }

    #[test]
    fn a_copy_is_made_listed_exported_and_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let (dir, tree) = (scratch.path().join("machines"), tree(scratch.path()));
        let machines = Machines { dir: &dir, zfs: None };
        machines.create("web", &From::Directory(tree.clone()), None).unwrap();
        let read = |path: &str| fs::read_to_string(dir.join("web").join(path)).unwrap();
        assert_eq!(
            (read("usr/bin/tool"), read("etc/machine-id"), read("etc/hostname")),
            ("tool".into(), String::new(), "web\n".into())
        );
        assert!(!dir.join("web/var/lib/systemd/random-seed").exists());
        assert_eq!(fs::read_to_string(tree.join("etc/hostname")).unwrap(), "host\n", "the source stays");
        let shown = machines.find("web").unwrap();
        assert_eq!(
            (shown.kind.as_str(), shown.origin.as_str(), shown.running),
            ("directory", tree.to_str().unwrap(), false)
        );
        assert!(
            machines
                .create("web", &From::Directory(tree.clone()), None)
                .unwrap_err()
                .to_string()
                .contains("is there already")
        );

        let file = scratch.path().join("web.tar");
        machines.export(&shown, &file).unwrap();
        let list = said(Command::new("tar").arg("-tf").arg(&file)).unwrap();
        assert!(list.contains("./usr/bin/tool"), "{list}");
        assert!(machines.export(&shown, &scratch.path().join("none/web.tar")).is_err());

        fs::create_dir(dir.join("theirs")).unwrap();
        let error = machines.find("theirs").unwrap_err().to_string();
        assert!(error.contains("made here, found theirs; there are: web"), "{error}");
        let running = Shown { running: true, ..shown.clone() };
        assert!(machines.remove(&running).unwrap_err().to_string().contains("machinectl poweroff web"));
        machines.remove(&shown).unwrap();
        assert_eq!(machines.list().unwrap(), []);
        let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["theirs"]);
    }

    #[test]
    fn what_is_no_system_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let (dir, tree) = (scratch.path().join("machines"), tree(scratch.path()));
        fs::remove_file(tree.join("etc/os-release")).unwrap();
        let machines = Machines { dir: &dir, zfs: None };
        let error = format!("{:#}", machines.create("web", &From::Directory(tree), None).unwrap_err());
        assert!(error.contains("os-release"), "{error}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        let clone = machines.create("web", &From::Snapshot("tank/a@s".into()), None).unwrap_err().to_string();
        assert!(clone.contains("expected the program zfs"), "{clone}");
    }
}
