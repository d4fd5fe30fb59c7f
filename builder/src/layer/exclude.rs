//! What is left out of a layer because it belongs to one machine, or to one boot.

use serde::Serialize;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// What one machine has for itself: whoever boots a sealed layer must not have the same. `*` stands for any part of a name.
pub const MACHINE: [&str; 13] = [
    "etc/machine-id",
    "var/lib/dbus/machine-id",
    "etc/hostid",
    "etc/ssh/ssh_host_*_key",
    "etc/ssh/ssh_host_*_key.pub",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/urandom/random-seed",
    "var/lib/misc/random-seed",
    "var/lib/NetworkManager/secret_key",
    "var/lib/NetworkManager/seen-bssids",
    "var/lib/dhcp/*.leases",
    "var/lib/NetworkManager/*.lease",
];
/// Content that ends with a boot; the directories themselves stay.
pub const BOOT: [&str; 6] = ["dev/*", "proc/*", "sys/*", "run/*", "tmp/*", "var/tmp/*"];

/// Patterns of paths that are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Exclusions(Vec<String>);

impl Exclusions {
    /// Nothing is left out.
    pub fn none() -> Self {
        Self::default()
    }

    /// The defaults without what is to be `kept`, and `more`. A kept path is one of the patterns, or what one of them covers.
    pub fn new(defaults: &[&str], kept: &[String], more: &[String]) -> Self {
        let clean = |text: &str| text.trim_matches('/').to_owned();
        let kept: Vec<String> = kept.iter().map(|text| clean(text)).collect();
        let stays = |pattern: &str| !kept.iter().any(|kept| kept == pattern || covers(pattern, Path::new(kept)));
        let defaults = defaults.iter().filter(|pattern| stays(pattern)).map(|pattern| (*pattern).to_owned());
        Self(defaults.chain(more.iter().map(|text| clean(text))).filter(|text| !text.is_empty()).collect())
    }

    /// The patterns.
    pub fn patterns(&self) -> &[String] {
        &self.0
    }

    /// Whether this path is left out, with everything below it.
    pub fn excludes(&self, path: &Path) -> bool {
        self.0.iter().any(|pattern| covers(pattern, path))
    }
}

/// What below a directory the patterns cover and is no directory itself; no link is followed.
pub fn matching(directory: &Path, patterns: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for pattern in patterns {
        let mut heads = vec![PathBuf::new()];
        for part in pattern.split('/') {
            heads = heads.iter().flat_map(|head| named(directory, head, part)).collect();
        }
        let is_dir = |path: &PathBuf| fs::symlink_metadata(directory.join(path)).is_ok_and(|meta| meta.is_dir());
        found.extend(heads.into_iter().filter(|path| !is_dir(path)));
    }
    found
}

/// The entries of a directory that fit one part of a pattern.
fn named(root: &Path, head: &Path, part: &str) -> Vec<PathBuf> {
    let above = root.join(head);
    if !fs::symlink_metadata(&above).is_ok_and(|meta| meta.is_dir()) {
        return Vec::new();
    }
    let names = fs::read_dir(&above).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut fitting: Vec<PathBuf> =
        names.filter(|name| fits(part.as_bytes(), name.as_encoded_bytes())).map(|name| head.join(name)).collect();
    fitting.sort();
    fitting
}

/// Whether a pattern has as many parts as the path, and each fits.
fn covers(pattern: &str, path: &Path) -> bool {
    let mut parts = path.components();
    for wanted in pattern.split('/') {
        let Some(Component::Normal(name)) = parts.next() else { return false };
        if !fits(wanted.as_bytes(), name.as_encoded_bytes()) {
            return false;
        }
    }
    parts.next().is_none()
}

/// One name against one part of a pattern, in which `*` stands for any bytes.
pub(crate) fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|skip| fits(rest, name.get(skip..).unwrap_or_default())),
        ([a, pattern @ ..], [b, name @ ..]) if a == b => fits(pattern, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out() {
        let defaults = [MACHINE.as_slice(), BOOT.as_slice()].concat();
        let list = Exclusions::new(&defaults, &[], &["/srv/scratch/".to_owned()]);
        for path in
            ["etc/machine-id", "etc/ssh/ssh_host_rsa_key.pub", "etc/ssh/ssh_host_ed25519_key", "tmp/x", "srv/scratch"]
        {
            assert!(list.excludes(Path::new(path)), "{path}");
        }
        for path in ["etc", "etc/machine-info", "etc/ssh/ssh_config", "tmp", "", "tmp/x/y", "usr/etc/machine-id", "srv"]
        {
            assert!(!list.excludes(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn what_is_there_of_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/ssh")).unwrap();
        fs::create_dir_all(dir.path().join("etc/hostid")).unwrap();
        for file in ["etc/machine-id", "etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_config"] {
            fs::write(dir.path().join(file), "x").unwrap();
        }
        std::os::unix::fs::symlink("etc", dir.path().join("var")).unwrap();
        let found = matching(dir.path(), &MACHINE);
        assert_eq!(found, ["etc/machine-id", "etc/ssh/ssh_host_rsa_key"].map(PathBuf::from));
    }

    #[test]
    fn what_is_asked_for_is_kept() {
        let list = Exclusions::new(&MACHINE, &["etc/hostid".to_owned(), "/etc/ssh/ssh_host_rsa_key".to_owned()], &[]);
        assert!(!list.excludes(Path::new("etc/hostid")));
        assert!(!list.excludes(Path::new("etc/ssh/ssh_host_rsa_key")));
        assert!(list.excludes(Path::new("etc/machine-id")));
        assert_eq!(list.patterns().len(), MACHINE.len() - 2);
    }
}
