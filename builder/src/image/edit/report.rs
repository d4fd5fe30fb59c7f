//! What was done to a tree.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// One place, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    /// Without a slash at the beginning.
    pub path: String,
    /// In words.
    pub what: String,
}

/// All of it, for a person or as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Left out, with how many entries by each place.
    pub removed: BTreeMap<String, (String, u64)>,
    /// There in another form.
    pub changed: Vec<Change>,
    /// There now.
    pub added: Vec<Change>,
    /// Secrets and ways in that stay: each machine of the image has them.
    pub kept: Vec<Change>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// Entries that went through.
    pub entries: u64,
}

pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl Report {
    pub(super) fn removed(&mut self, path: &[u8], why: &str) {
        self.removed.entry(shown(path)).or_insert_with(|| (why.to_owned(), 0)).1 += 1;
    }

    pub(super) fn changed(&mut self, path: &[u8], what: impl Into<String>) {
        self.changed.push(Change { path: shown(path), what: what.into() });
    }

    pub(super) fn added(&mut self, path: &[u8], what: impl Into<String>) {
        self.added.push(Change { path: shown(path), what: what.into() });
    }

    pub(super) fn kept(&mut self, path: &[u8], what: impl Into<String>) {
        self.kept.push(Change { path: shown(path), what: what.into() });
    }

    /// Adds what was done to the same tree afterwards.
    pub fn then(&mut self, later: Report) {
        for (path, (why, count)) in later.removed {
            self.removed.entry(path).or_insert((why, 0)).1 += count;
        }
        self.changed.extend(later.changed);
        self.added.extend(later.added);
        for note in later.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        // What stays is known at the end.
        (self.kept, self.entries) = (later.kept, later.entries);
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, (why, count)) in &self.removed {
            let more = if *count > 1 { format!(", {count} entries") } else { String::new() };
            writeln!(f, "left out  /{path} ({why}{more})")?;
        }
        for (word, list) in [("changed ", &self.changed), ("added   ", &self.added), ("KEPT    ", &self.kept)] {
            for Change { path, what } in list {
                let what = if what.is_empty() { String::new() } else { format!(" ({what})") };
                writeln!(f, "{word}  /{path}{what}")?;
            }
        }
        for note in &self.notes {
            writeln!(f, "note      {note}")?;
        }
        Ok(())
    }
}
