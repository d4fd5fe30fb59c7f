//! Why a key could not be had, in words that help.

use crate::report::log::Log;
use crate::zfs::ioctl::ZfsError;
use crate::zfs::keys::{Encryption, KeyFormat};

/// No key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// The dataset needs none.
    #[error("{dataset} is not encrypted")]
    NotEncrypted {
        /// Its name.
        dataset: String,
    },
    /// A call failed for another reason than a wrong key.
    #[error(transparent)]
    Zfs(#[from] ZfsError),
    /// Everything that could be tried was tried.
    #[error("no key for {}: {why}", encryption.root)]
    NoKey {
        /// What the encryption root says of its key.
        encryption: Box<Encryption>,
        /// What ended it.
        why: Why,
        /// What was tried before, a line each.
        tried: Vec<String>,
    },
}

/// What ended the search for a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// `keyformat` is none that is known.
    #[error("its keyformat is none of raw, hex and passphrase; OpenZFS is newer than this program")]
    UnknownFormat,
    /// Asking was not wanted for this one.
    #[error("no key at hand fits, and nobody was asked")]
    NotAsked,
    /// A file or a server is said to have it, and people are not asked for what they may not know.
    #[error("no key at hand fits, and nobody is asked, because its keylocation is no prompt")]
    InFile,
    /// Nobody may be asked.
    #[error("no key at hand fits, and nobody is asked ({0})")]
    NoPrompt(String),
    /// A raw key is bytes.
    #[error("no key file fits, and a raw key cannot be typed")]
    RawNotTyped,
    /// There is no console to ask on.
    #[error("there is no console on which to ask for it")]
    NoConsole,
    /// The person chose to go without.
    #[error("it was skipped at the prompt")]
    Skipped,
    /// Nobody typed.
    #[error("nobody typed it within {0} s")]
    TimedOut(u64),
    /// Wrong too often.
    #[error("{0} wrong answers")]
    Wrong(u32),
}

impl UnlockError {
    /// What was needed.
    pub fn expected(&self) -> String {
        let Self::NoKey { encryption, .. } = self else { return "the key of an encryption root".to_owned() };
        let what = match encryption.format {
            Some(KeyFormat::Passphrase) => "the passphrase",
            Some(KeyFormat::Hex) => "the hex key (64 digits)",
            Some(KeyFormat::Raw) => "the file with the raw key (32 bytes)",
            None => "the key",
        };
        format!("{what} of encryption root {} (keylocation={})", encryption.root, encryption.location)
    }

    /// What was tried, a line each.
    pub fn found(&self) -> Vec<String> {
        match self {
            Self::NoKey { tried, .. } => tried.clone(),
            _ => Vec::new(),
        }
    }
}

/// Attempts that came to nothing, for the log at once and for the explanation later.
#[derive(Debug, Default)]
pub(super) struct Tried {
    pub(super) lines: Vec<String>,
    /// Whether it is only for the log.
    pub(super) quiet: bool,
}

impl Tried {
    pub(super) fn add(&mut self, log: &Log, root: &str, source: &str, why: &str) {
        let line = format!("key of {root}: {source}: {why}");
        if self.quiet {
            log.info(line);
        } else {
            log.warn(line);
        }
        self.lines.push(format!("{source}: {why}"));
    }
}
