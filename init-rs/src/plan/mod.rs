//! Decisions, as pure functions over plain data: which pool, which dataset, which mounts in which order and why.

pub mod candidates;
pub mod declared;
mod environments;
pub mod facts;
pub mod failure;
pub mod from_zfs;
pub mod fstab;
pub mod kept;
pub mod layerlist;
pub mod layers;
pub mod listcache;
pub mod live;
pub mod location;
pub mod lowers;
pub mod mounts;
pub mod names;
pub mod next;
pub mod options;
pub mod persistence;
pub mod rehearsal;
pub mod resume;
pub mod root;
pub mod root_words;
pub mod roots;
#[cfg(test)]
mod sample;
pub mod select;
pub mod snapshots;
pub mod standing;

/// Why something that was asked for is not done: expected, found, what to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Refusal {
    /// One sentence.
    pub problem: String,
    /// What should have been there.
    pub expected: String,
    /// What was there instead, one line each.
    pub found: Vec<String>,
    /// What helps, one line each.
    pub advice: Vec<String>,
}

/// A refusal from an error and what else there is to say.
pub fn refusal_of(problem: &dyn std::fmt::Display, expected: &str, found: Vec<String>, advice: Vec<String>) -> Refusal {
    Refusal { problem: problem.to_string(), expected: expected.to_owned(), found, advice }
}
