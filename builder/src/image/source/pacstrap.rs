//! Arch Linux, made anew by pacstrap of arch-install-scripts, which mounts what packages' scripts need and calls pacman.
//!
//! What is to be installed is always named package by package: groups are asked for their members first. `--ignore` would do nothing, as
//! pacman's answer to its own question is to install what is ignored. And a script of a package that fails does not make it fail: its
//! words are looked for.

use super::directory::Walk;
use super::feed::{Fed, Feed, feed};
use super::program;
use crate::image::config::sources::Pacstrap;
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What pacman says where a package's script, or a hook, did not do what it should.
const FAILED: [&str; 5] = [
    "call to execv failed",
    "command failed to execute correctly",
    "scriptlet failed",
    "could not get current working directory",
    "error: command",
];
/// Where pacman keeps packages.
const CACHE: &str = "/var/cache/pacman/pkg";

/// Begins to make it. Errors that can be known before are found before.
pub fn stream(asked: Pacstrap) -> Result<Fed> {
    possible(&asked)?;
    Ok(feed(move |out| make(&asked, out)))
}

fn possible(asked: &Pacstrap) -> Result<()> {
    program::expect("pacman", "pacman (Debian: pacman-package-manager)")?;
    program::expect("pacstrap", "arch-install-scripts")?;
    ensure!(
        nix::unistd::geteuid().is_root(),
        "pacstrap mounts file systems: expected to be root; run it with sudo, or in a user namespace: unshare --map-auto --map-root-user \
         --mount taproot image ..."
    );
    if let Some(config) = &asked.config {
        ensure!(config.is_file(), "{}: expected a pacman.conf", config.display());
    }
    Ok(())
}

fn make(asked: &Pacstrap, out: &mut Feed) -> Result<Vec<String>> {
    let work = work()?;
    let tree = work.path().join("tree");
    fs::create_dir(&tree).context("making a directory for the tree")?;
    let mut told = fill(asked, work.path(), &tree, &mut BTreeSet::new())?;
    let mut walked = Walk::of(&tree).stream()?;
    std::io::copy(&mut walked, out)?;
    told.extend(super::Tarball::finish(Box::new(walked))?);
    Ok(told)
}

fn work() -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("taproot-pacstrap-").tempdir().context("making a directory for the tree")
}

/// Installs into a tree, which may have something by now; `installed` are the packages that were named for it before. Gives what there is
/// to tell.
pub fn install(asked: &Pacstrap, tree: &Path, installed: &mut BTreeSet<String>) -> Result<Vec<String>> {
    possible(asked)?;
    if asked.packages.is_empty() {
        return Ok(Vec::new());
    }
    fill(asked, work()?.path(), tree, installed)
}

fn fill(asked: &Pacstrap, work: &Path, tree: &Path, installed: &mut BTreeSet<String>) -> Result<Vec<String>> {
    let limit = Duration::from_secs(asked.timeout);
    let cache = Cache::open(asked.cache.as_deref(), work, limit)?;
    let mut packages = packages(asked, work, limit)?;
    packages.retain(|package| installed.insert(package.clone()));
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    let mut failed = Vec::new();
    let mut show = |line: &str| {
        if FAILED.iter().any(|text| line.contains(text)) {
            failed.push(line.to_owned());
        }
        eprintln!("pacstrap: {line}");
    };
    let mut command = Command::new("sh");
    // Both of its outputs are one: what a script complains of goes to either.
    command.args(["-c", "exec pacstrap \"$@\" 1>&2", "pacstrap"]);
    command.args(words(asked, cache.path(), tree, &packages));
    program::run(command, limit, &mut std::io::sink(), &mut show)?;
    ensure!(
        failed.is_empty(),
        "pacman installed everything, but scripts of packages failed, and what they should have done is not done:\n  {}",
        failed.join("\n  ")
    );
    trust(asked, tree, limit)?;
    Ok(vec![format!("installed by pacstrap: {}", packages.join(" "))])
}

fn words(asked: &Pacstrap, cache: Option<&Path>, tree: &Path, packages: &[String]) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(config) = &asked.config {
        words.extend(["-C".to_owned(), config.display().to_string()]);
    }
    // Neither this machine's keys nor its list of mirrors; its cache only if nobody names another.
    words.extend(["-G", "-M"].map(str::to_owned));
    if cache.is_none() {
        words.push("-c".to_owned());
    }
    words.push(tree.display().to_string());
    words.extend(packages.iter().cloned());
    if let Some(cache) = cache {
        words.push(format!("--cachedir={}", cache.display()));
    }
    words
}

/// The packages, with groups by their members, without those that are not wanted.
fn packages(asked: &Pacstrap, work: &Path, limit: Duration) -> Result<Vec<String>> {
    let database = work.join("db");
    fs::create_dir_all(&database).context("making a directory for pacman")?;
    let pacman = |arguments: &[&str]| {
        let mut command = Command::new("pacman");
        if let Some(config) = &asked.config {
            command.arg("--config").arg(config);
        }
        command.arg("--dbpath").arg(&database).args(arguments);
        command
    };
    program::run(pacman(&["-Sy", "--noconfirm"]), limit, &mut std::io::sink(), &mut |line| {
        eprintln!("pacman: {line}");
    })?;
    let mut groups = Vec::new();
    program::run(pacman(&["-Sgg"]), limit, &mut groups, &mut |_| {})?;
    let groups = String::from_utf8_lossy(&groups).into_owned();
    Ok(expanded(&asked.packages, &asked.exclude, &groups))
}

/// Groups by their members, from lines `GROUP PACKAGE`.
fn expanded(asked: &[String], exclude: &[String], groups: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in asked {
        let mut members = groups
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(group, _)| group == name)
            .map(|(_, package)| package.trim().to_owned())
            .peekable();
        if members.peek().is_some() {
            all.extend(members.filter(|package| !exclude.contains(package)));
        } else {
            // Whoever names it wants it.
            all.push(name.clone());
        }
    }
    let mut seen = BTreeSet::new();
    all.retain(|package| seen.insert(package.clone()));
    all
}

/// Has the tree's own pacman trust its distribution's keys and those that were named.
fn trust(asked: &Pacstrap, tree: &Path, limit: Duration) -> Result<()> {
    if asked.trusted_keys.is_empty() {
        return Ok(());
    }
    program::expect("pacman-key", "pacman (Debian: pacman-package-manager)")?;
    let home = tree.join("etc/pacman.d/gnupg");
    for arguments in [vec!["--init".to_owned()], vec!["--populate".to_owned()]].into_iter().chain(
        asked
            .trusted_keys
            .iter()
            .flat_map(|key| [vec!["--recv-keys".to_owned(), key.clone()], vec!["--lsign-key".to_owned(), key.clone()]]),
    ) {
        let mut command = Command::new("pacman-key");
        command.arg("--gpgdir").arg(&home).args(&arguments);
        program::run(command, limit, &mut std::io::sink(), &mut |line| eprintln!("pacman-key: {line}"))
            .with_context(|| format!("pacman-key {}", arguments.join(" ")))?;
    }
    Ok(())
}

/// Where packages are kept: a directory, or one of another machine by sshfs, for as long as it is needed.
struct Cache {
    path: Option<PathBuf>,
    mounted: bool,
}

impl Cache {
    fn open(asked: Option<&str>, work: &Path, limit: Duration) -> Result<Self> {
        let Some(text) = asked else { return Ok(Self { path: None, mounted: false }) };
        if !text.contains(':') {
            let path = PathBuf::from(text);
            ensure!(
                path.is_dir(),
                "packages.cache: {text}: expected a directory, or HOST:PATH; pacman's own is {CACHE}"
            );
            return Ok(Self { path: Some(path), mounted: false });
        }
        program::expect("sshfs", "sshfs")?;
        let at = work.join("cache");
        fs::create_dir(&at).context("making a directory for the cache")?;
        let mut command = Command::new("sshfs");
        command.arg(text).arg(&at).args(["-o", "BatchMode=yes"]);
        program::run(command, limit, &mut std::io::sink(), &mut |_| {})
            .with_context(|| format!("packages.cache: {text}"))?;
        Ok(Self { path: Some(at), mounted: true })
    }

    fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        if let Some(path) = self.path.as_ref().filter(|_| self.mounted) {
            // Whatever it says: the directory of work is not removed with another machine's files in it.
            let done = Command::new("fusermount").arg("-u").arg(path).status().is_ok_and(|status| status.success());
            if !done {
                let _ = Command::new("umount").arg("--lazy").arg(path).status();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn groups_are_taken_apart() {
        let groups = "base bash\nbase linux\nbase glibc\nother x\n";
        let found = expanded(&list("base vim bash"), &list("linux vi"), groups);
        assert_eq!(found.join(" "), "bash glibc vim");
        assert_eq!(expanded(&list("base linux"), &list("linux"), groups).join(" "), "bash glibc linux");
    }

    #[test]
    fn it_is_never_told_to_ignore() {
        let asked = Pacstrap {
            packages: list("base"),
            exclude: list("linux"),
            config: Some("/x.conf".into()),
            ..Pacstrap::default()
        };
        let said = words(&asked, None, Path::new("/t"), &list("bash"));
        assert_eq!(said.join(" "), "-C /x.conf -G -M -c /t bash");
        let said = words(&asked, Some(Path::new("/c")), Path::new("/t"), &list("bash"));
        assert_eq!(said.join(" "), "-C /x.conf -G -M /t bash --cachedir=/c");
    }
}
