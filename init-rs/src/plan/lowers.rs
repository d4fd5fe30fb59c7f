//! What lay under an upper: a note beside it says, so that a boot can tell when something else does.

use crate::devices::verity::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What the note is called, beside `upper` and `work`.
pub const NOTE: &str = "lowers";
/// Bytes of a note that are read.
pub const NOTE_MAX: usize = 1 << 20;
/// How many layers are named.
const NAMED: usize = 6;

/// The note of these layers, a name and what tells each from another of its name, the topmost first.
pub fn note<'l>(layers: impl IntoIterator<Item = (&'l str, &'l str)>) -> String {
    layers.into_iter().fold(String::new(), |mut text, (name, identity)| {
        let _ = writeln!(text, "{name} {identity}");
        text
    })
}

/// What tells an image from others of its name: its superblock, which says how much there is of everything and mostly when it was
/// made, and its size.
pub fn identity(head: &[u8], size: u64) -> String {
    Digest::of(Sha256::new_with_prefix(head).chain_update(size.to_le_bytes())).to_string()
}

/// What is different from an earlier note, in words.
pub fn changes(before: &str, now: &str) -> Option<String> {
    if before == now {
        return None;
    }
    let (old, new) = (read(before), read(now));
    let of = |what: &str, names: Vec<&str>| {
        let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
        let names = names.get(..NAMED).unwrap_or(&names).join(", ");
        (!names.is_empty()).then(|| format!("{what} {names}{more}"))
    };
    let changed = |(name, identity): &(&&str, &&str)| new.get(**name).is_some_and(|new| new != *identity);
    let replaced: Vec<&str> = old.iter().filter(changed).map(|(name, _)| *name).collect();
    let parts = [of("new:", lacks(&new, &old)), of("gone:", lacks(&old, &new)), of("replaced:", replaced)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    Some(if parts.is_empty() { "in another order".to_owned() } else { parts.join("; ") })
}

/// Names in the first that the second lacks.
fn lacks<'n>(of: &BTreeMap<&'n str, &str>, other: &BTreeMap<&str, &str>) -> Vec<&'n str> {
    of.keys().filter(|name| !other.contains_key(**name)).copied().collect()
}

fn read(note: &str) -> BTreeMap<&str, &str> {
    note.lines().filter_map(|line| line.split_once(' ')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_different_is_named() {
        let first = note([("site", "1"), ("base", "2")]);
        assert_eq!(first, "site 1\nbase 2\n");
        assert_eq!(changes(&first, &first), None);
        let changed = |layers: &[(&str, &str)]| changes(&first, &note(layers.iter().copied())).unwrap();
        assert_eq!(changed(&[("more", "3"), ("site", "1"), ("base", "2")]), "new: more");
        assert_eq!(changed(&[("site", "1"), ("base", "9")]), "replaced: base");
        assert_eq!(changed(&[("other", "1")]), "new: other; gone: base, site");
        assert_eq!(changed(&[("base", "2"), ("site", "1")]), "in another order");
        let many: Vec<String> = (0..9).map(|n| format!("l{n}")).collect();
        let many = changed(&many.iter().map(|name| (name.as_str(), "x")).collect::<Vec<_>>());
        assert!(many.contains("l5 and 3 more"), "{many}");
        assert_eq!(changes("no note at all", &first).unwrap(), "new: base, site; gone: no");
    }
}
