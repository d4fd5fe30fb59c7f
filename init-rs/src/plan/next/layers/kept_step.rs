//! Steps with what is kept on media of its own, and their words.

use crate::plan::kept::Keep;
use crate::plan::next::step::Mount;
use std::fmt;

/// One thing to do.
#[derive(Debug, Clone)]
pub enum KeptStep {
    /// Mount a medium, and read what it keeps.
    Mount {
        /// What it was looked for as.
        key: String,
        /// The mount.
        mount: Box<Mount>,
    },
    /// What could be a medium is none.
    Refuse {
        /// What it was looked for as.
        key: String,
        /// Why.
        why: String,
    },
    /// Search a file system for files that may be media.
    Search {
        /// Its node.
        node: String,
        /// How it is mounted for that; `None`: it is, at `place`.
        mount: Option<Box<Mount>>,
        /// Where.
        place: String,
        /// Paths of the files on it.
        files: Vec<String>,
    },
    /// Mount a file system writable for a file on it.
    Host {
        /// Its node.
        node: String,
        /// The mount.
        mount: Box<Mount>,
    },
    /// Mount a file, and read what it keeps.
    MountFile {
        /// What it was looked for as.
        key: String,
        /// Its path.
        file: String,
        /// How it is mounted.
        mount: Box<Mount>,
    },
    /// All media are known: see what they keep. `root`: whether all of the root may be.
    Settle {
        /// Whether `/ union` is of use.
        root: bool,
    },
    /// Nothing can be kept.
    DoWithout {
        /// Why.
        why: String,
        /// Whether the root's upper is concerned.
        upper: bool,
    },
    /// Keep a directory of the mounted root.
    Keep(Box<Keep>),
}

impl KeptStep {
    /// What kind of step it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mount { .. } => "mount-medium",
            Self::Refuse { .. } => "refuse-medium",
            Self::Search { .. } => "search-media",
            Self::Host { .. } => "mount-host",
            Self::MountFile { .. } => "mount-medium-file",
            Self::Settle { .. } => "settle-kept",
            Self::DoWithout { .. } => "do-without-medium",
            Self::Keep(_) => "keep",
        }
    }
}

impl fmt::Display for KeptStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { key, mount } => write!(f, "mount {key} ({}), and see what it keeps", mount.step.why),
            Self::Refuse { key, why } => write!(f, "keep nothing on {key}: {why}"),
            Self::Search { node, files, .. } => write!(f, "look for {} on {node}", files.join(", ")),
            Self::Host { node, .. } => write!(f, "mount {node} for a file on it"),
            Self::MountFile { key, .. } => write!(f, "mount file {key}, and see what it keeps"),
            Self::Settle { .. } => f.write_str("see what the media keep"),
            Self::DoWithout { why, .. } => write!(f, "keep nothing: {why}"),
            Self::Keep(keep) => write!(f, "keep {} on {} ({})", keep.placed.kept.dir, keep.placed.medium, keep.why),
        }
    }
}
