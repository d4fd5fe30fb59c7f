//! Words that look like a slip for one that is understood. The kernel and the booted system would pass them over without
//! a sound, and another root might be booted than was meant.

use super::known;
use super::root::behind_mark;
use crate::plan::names;

/// How our own words begin.
const OWN: &str = "taproot";
/// Words that choose the root; the kernel tells upper from lower case.
const ROOTS: [&str; 6] = ["root", "real_root", "zfs", "bootfs", "zfs-bootfs", "rpool"];

/// What was meant, for a note.
pub(super) fn slip(key: &str) -> Option<String> {
    let plain = key.trim_start_matches('\'');
    let lower = plain.to_ascii_lowercase();
    let meant = if ROOTS.contains(&lower.as_str()) && key != lower {
        format!("{lower}=")
    } else if plain != key && known::find(&lower).is_some() {
        lower
    } else if let Some(name) = plain.get(4..).filter(|_| lower.starts_with("zfs:")) {
        format!("root=zfs:{name}")
    } else {
        let (prefix, name) = lower.split_once(['.', ':', '_', '-'])?;
        if known::distance(prefix, OWN) > 2 {
            return None;
        }
        known::nearest(&format!("{OWN}.{name}"))?.to_owned()
    };
    let quote = if plain == key { "" } else { "single quotes mean nothing on a kernel command line; " };
    Some(format!("{quote}unknown, ignored; did you mean {meant}?"))
}

/// What was meant with a word that nothing reads, but whose value is a root on ZFS.
pub(super) fn stray_root(key: &str, value: &str) -> Option<String> {
    let name = behind_mark(value)?;
    let dataset = name.split('@').next().unwrap_or_default();
    names::check(dataset).is_ok().then(|| format!("nothing reads {key}=, ignored; did you mean root=ZFS={name}?"))
}
