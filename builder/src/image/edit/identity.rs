//! What tells one machine from another, and what was diverted while the tree was made.

use super::desk::{Desk, LARGEST};
use super::seen::{Fate, wrong};
use super::{Edits, Identity};
use crate::tar::{Entry, Kind, TarError};

/// Programs that builders replace by ones that do nothing, and what they call the real ones meanwhile.
const PROGRAMS: [&str; 3] = ["start-stop-daemon", "initctl", "invoke-rc.d"];
const ASIDE: [&str; 2] = [".REAL", ".distrib"];
const DIRECTORIES: [&str; 2] = ["sbin/", "usr/sbin/"];

/// The place of a program that may be diverted.
fn program(path: &[u8]) -> bool {
    let Ok(path) = std::str::from_utf8(path) else { return false };
    DIRECTORIES.iter().any(|directory| path.strip_prefix(directory).is_some_and(|name| PROGRAMS.contains(&name)))
}

/// Whether an entry may be what stands in for a diverted program: it is kept until the real one went by, or did not.
pub(super) fn diverted(entry: &Entry) -> bool {
    program(&entry.path) && entry.size <= LARGEST
}

/// What an entry is to a diversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing.
    None,
    /// The real program, which has its name again.
    Real,
    /// What stands in for a real one that went by.
    StandIn,
}

/// Gives a program that was put aside its name back.
pub(super) fn rename(desk: &mut Desk, entry: &mut Entry) -> Result<Part, TarError> {
    if program(&entry.path) && desk.restored.contains(&entry.path) {
        return Ok(Part::StandIn);
    }
    let aside = ASIDE.iter().find_map(|end| entry.path.strip_suffix(end.as_bytes())).filter(|path| program(path));
    let Some(path) = aside.map(<[u8]>::to_vec).filter(|_| entry.kind == Kind::File) else { return Ok(Part::None) };
    if desk.seen.fate(&path).is_some_and(|fate| fate != Fate::Held) {
        let what = "it is a diverted program whose place is taken: undo the diversion (dpkg-divert --remove)";
        return Err(wrong(&entry.path, what));
    }
    desk.held.remove(&path);
    desk.seen.forget(&path);
    desk.restored.insert(path.clone());
    let told = String::from_utf8_lossy(&entry.path).into_owned();
    desk.report.changed(&path, format!("the real program again, which was {told}"));
    entry.path = path;
    Ok(Part::Real)
}

pub(super) fn write(desk: &mut Desk, edits: &Edits) -> Result<(), TarError> {
    undivert(desk)?;
    if edits.identity == Identity::Strip && !edits.keep.iter().any(|path| path.trim_matches('/') == "etc/machine-id") {
        // Empty, and not missing or `uninitialized`: those ask for a first boot with questions.
        let before = desk.text("etc/machine-id")?;
        if before.is_some_and(|text| !text.is_empty()) {
            desk.report.changed(b"etc/machine-id", "emptied: each machine gets its own");
        }
        desk.held.remove(b"etc/machine-id".as_slice());
        if desk.has("etc") {
            desk.put("etc/machine-id", "", 0o444)?;
        }
    }
    if let Some(id) = edits.hostid {
        desk.held.remove(b"etc/hostid".as_slice());
        desk.put("etc/hostid", id.to_le_bytes(), 0o644)?;
        desk.report.changed(b"etc/hostid", format!("{id:08x}"));
    }
    Ok(())
}

/// Local diversions of programs that have their name again are over.
fn undivert(desk: &mut Desk) -> Result<(), TarError> {
    const LIST: &str = "var/lib/dpkg/diversions";
    let Some(text) = desk.text(LIST)? else { return Ok(()) };
    let lines: Vec<&str> = text.lines().collect();
    let (triples, rest) = lines.as_chunks::<3>();
    let mut out = Vec::new();
    for [from, to, owner] in triples {
        let name = from.rsplit('/').next().unwrap_or_default();
        let restored = *owner == ":"
            && PROGRAMS.contains(&name)
            && desk
                .restored
                .iter()
                .any(|path| path.ends_with(format!("/{name}").as_bytes()) || path == name.as_bytes());
        if restored {
            continue;
        }
        if *owner == ":" {
            desk.report.kept(from.trim_start_matches('/').as_bytes(), format!("diverted by hand to {to}"));
        }
        out.extend([*from, *to, *owner]);
    }
    out.extend(rest);
    if out.len() != lines.len() {
        desk.report.changed(LIST.as_bytes(), "without the diversions that were undone");
        desk.put(LIST, lines_of(&out), 0o644)?;
    }
    Ok(())
}

/// Lines, each with its end.
pub(super) fn lines_of<T: AsRef<str>>(lines: &[T]) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(line.as_ref());
        text.push('\n');
    }
    text
}
