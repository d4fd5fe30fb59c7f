//! What was learnt while unlocking, until it is not needed any more.

use crate::sys::System;
use crate::sys::consoles::Secret;
use std::path::{Path, PathBuf};

/// More passphrases than anybody has; each costs a derivation for every further encryption root.
const MAX_PASSPHRASES: usize = 8;

/// Passphrases that were typed or read, key files that were read. Erased when dropped.
#[derive(Default)]
pub struct Keyring {
    /// Where each came from, and the passphrase.
    passphrases: Vec<(String, Secret)>,
    /// Each file of the command line, by its word: its content, or why there is none.
    files: Vec<(String, Result<Secret, String>)>,
    /// Key files of the image that were used.
    image_files: Vec<PathBuf>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({} passphrases, {} files)", self.passphrases.len(), self.files.len())
    }
}

impl Keyring {
    /// Keeps a passphrase for other encryption roots; one that is known already is dropped.
    pub(super) fn remember(&mut self, of: &str, passphrase: Secret) {
        let line = super::derive::first_line(&passphrase);
        let known = self.passphrases.iter().any(|(_, known)| super::derive::first_line(known) == line);
        if !known && self.passphrases.len() < MAX_PASSPHRASES {
            self.passphrases.push((of.to_owned(), passphrase));
        }
    }

    pub(super) fn take_passphrases(&mut self) -> Vec<(String, Secret)> {
        std::mem::take(&mut self.passphrases)
    }

    pub(super) fn put_passphrases(&mut self, passphrases: Vec<(String, Secret)>) {
        self.passphrases = passphrases;
    }

    /// What is known of a file of the command line. The copy is erased like the original.
    pub(super) fn file(&self, word: &str) -> Option<Result<Secret, String>> {
        self.files.iter().find(|(known, _)| known == word).map(|(_, result)| result.clone())
    }

    pub(super) fn keep_file(&mut self, word: &str, result: &Result<Secret, String>) {
        self.files.push((word.to_owned(), result.clone()));
    }

    pub(super) fn used_image_file(&mut self, path: &Path) {
        self.image_files.push(path.to_owned());
    }

    /// Forgets and erases everything but which files of the image were used.
    pub fn forget(&mut self) {
        self.passphrases = Vec::new();
        self.files = Vec::new();
    }

    /// Overwrites the key files of the image that were used: deleting them, as the hand-over does, leaves their bytes in
    /// free memory. Only files in RAM are touched.
    pub fn wipe_image_files(&mut self, system: &dyn System) {
        for path in std::mem::take(&mut self.image_files) {
            // One that is gone needs nothing.
            let _ = system.wipe(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::linux::Linux;
    use zeroize::Zeroizing;

    #[test]
    fn passphrases_are_kept_once() {
        let mut keyring = Keyring::default();
        for text in ["one", "two\n", "one\nmore", "two"] {
            keyring.remember("x", Zeroizing::new(text.as_bytes().to_vec()));
        }
        assert_eq!(keyring.passphrases.len(), 2);
        assert_eq!(format!("{keyring:?}"), "Keyring(2 passphrases, 0 files)");
        keyring.forget();
        assert!(keyring.passphrases.is_empty());
    }

    #[test]
    fn files_are_overwritten_in_place_and_only_in_ram() {
        let shm = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = shm.path().join("key");
        std::fs::write(&path, "secret".repeat(1000)).unwrap();
        let mut keyring = Keyring::default();
        keyring.used_image_file(&path);
        keyring.used_image_file(Path::new("/nonexistent"));
        keyring.wipe_image_files(&Linux::new());
        let left = std::fs::read(&path).unwrap();
        assert!(left.len() == 6000 && left.iter().all(|b| *b == 0));
        assert!(keyring.image_files.is_empty());
    }
}
