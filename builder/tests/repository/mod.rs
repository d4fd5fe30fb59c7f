//! A repository of pacman's, of packages that are made here.
#![allow(dead_code, clippy::unwrap_used)] // no test needs all; a test stops at the first surprise

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::account;

const NOBODY: u32 = 65_534;

/// Whether programs are there and may do what they do; noted as skipped if not.
pub(crate) fn possible(programs: &[&str]) -> bool {
    let there =
        |program: &&&str| ["/usr/bin", "/usr/sbin", "/bin"].iter().any(|dir| Path::new(dir).join(program).exists());
    let missing: Vec<&str> = programs.iter().filter(|program| !there(program)).copied().collect();
    if !nix::unistd::geteuid().is_root() {
        account::skipped("trees are made by package managers: that takes root");
        return false;
    }
    if !missing.is_empty() {
        account::skipped(&format!("{} not there: trees made by them are not read", missing.join(", ")));
        return false;
    }
    true
}

pub(crate) fn temporary() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A package of Arch Linux, by makepkg, which does not run as root.
pub(crate) fn package(dir: &Path, name: &str, pkgbuild: &str, install: Option<&str>) {
    let place = dir.join(name);
    fs::create_dir(&place).unwrap();
    fs::create_dir_all(dir.join("repo")).unwrap();
    let script = install.map_or_else(String::new, |_| format!("install={name}.install\n"));
    fs::write(place.join("PKGBUILD"), format!("pkgname={name}\npkgver=1\npkgrel=1\narch=(any)\n{script}{pkgbuild}"))
        .unwrap();
    if let Some(install) = install {
        fs::write(place.join(format!("{name}.install")), install).unwrap();
    }
    for path in fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).chain([place.clone()]) {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "makepkg", "--nodeps"]);
    command.env("HOME", &place).env("PKGDEST", &place).env("PKGEXT", ".pkg.tar.zst").env("SOURCE_DATE_EPOCH", "1");
    let output = command.current_dir(&place).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made = place.join(format!("{name}-1-1-any.pkg.tar.zst"));
    fs::rename(&made, dir.join("repo").join(made.file_name().unwrap())).unwrap();
}

/// The repository of all packages, and a configuration that names it, with a cache of its own: packages of other tests have the same names.
pub(crate) fn finished(dir: &Path) -> PathBuf {
    let mut add = Command::new("sh");
    add.args(["-c", "repo-add core.db.tar.gz *.pkg.tar.zst"])
        .current_dir(dir.join("repo"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    assert!(add.status().unwrap().success());
    fs::create_dir(dir.join("cache")).unwrap();
    let config = dir.join("pacman.conf");
    let text = format!(
        "[options]\nArchitecture = x86_64\nSigLevel = Optional TrustAll\nCacheDir = {}/\n[core]\nServer = file://{}\n",
        dir.join("cache").display(),
        dir.join("repo").display()
    );
    fs::write(&config, text).unwrap();
    config
}
