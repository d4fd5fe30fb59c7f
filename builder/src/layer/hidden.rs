//! What an upper hides of the layers below it: of interest once those were changed, because it goes on hiding what is new in them.

use super::diff::Content;
use super::merge::Item;
use super::node::{Kind, Node};
use super::tree::Source;
use anyhow::Result;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where package managers keep what is installed.
const DATABASES: [&str; 4] = ["var/lib/dpkg", "var/lib/pacman/local", "var/lib/rpm", "usr/lib/sysimage/rpm"];

/// How something below is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// By a whiteout: it was deleted.
    Deleted,
    /// A directory, with all below it, by one that was made anew.
    Replaced,
    /// By something of another kind: a file where the layers have a directory, or the other way round.
    OtherKind,
    /// A file by a copy of an older one: the layers' own was changed since.
    Newer,
}

/// One entry of the layers that is not seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hidden {
    /// Below the top directory.
    pub path: PathBuf,
    /// How.
    pub how: How,
    /// How many entries below it are hidden with it.
    pub with: usize,
}

/// What an upper hides.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// The entries, by path.
    pub hidden: Vec<Hidden>,
    /// Package databases of which the upper's files are older than the layers': programs are newer than what their package manager
    /// believes.
    pub databases: Vec<PathBuf>,
}

/// What the upper hides of the layers below it, the topmost first.
pub fn hidden(upper: &Source, lowers: &[Source]) -> Result<Report> {
    let below = Content::of(lowers, true)?;
    let above = Content::of(std::slice::from_ref(upper), false)?;
    let mut report = Report::default();
    for Item { path, node, .. } in above.items() {
        let Some(old) = below.at(path) else { continue };
        let Some(how) = judge(node, &old.node) else { continue };
        let with = match how {
            How::Newer => 0,
            How::Replaced => below.below(path).filter(|path| above.at(path).is_none()).count(),
            How::Deleted | How::OtherKind => below.below(path).count(),
        };
        if how == How::Newer
            && let Some(database) = DATABASES.iter().map(Path::new).find(|database| path.starts_with(database))
            && !report.databases.iter().any(|known| known == database)
        {
            report.databases.push(database.to_owned());
        }
        report.hidden.push(Hidden { path: path.clone(), how, with });
    }
    Ok(report)
}

/// In words.
pub fn text(report: &Report) -> String {
    let mut text = match report.hidden.len() {
        0 => "hides          nothing of the layers\n".to_owned(),
        count => format!("hides          {count} of what the layers have\n"),
    };
    for Hidden { path, how, with } in &report.hidden {
        let how = match how {
            How::Deleted => "deleted",
            How::Replaced => "replaced",
            How::OtherKind => "another kind",
            How::Newer => "older copy",
        };
        let with = if *with == 0 { String::new() } else { format!(", with {with} below it") };
        let _ = writeln!(text, "  {how:<12} /{}{with}", path.display());
    }
    for database in &report.databases {
        let _ = writeln!(
            text,
            "               /{} is older than the layers': its package manager does not know of programs that came with them",
            database.display()
        );
    }
    text
}

/// How what is above hides what is below at the same path. That each of them is stored with times of its own tells whether what was
/// copied up is older than what it was copied from.
fn judge(above: &Node, below: &Node) -> Option<How> {
    match (&above.kind, &below.kind) {
        (Kind::Whiteout, _) => Some(How::Deleted),
        (Kind::Directory, Kind::Directory) => above.marks.opaque.then_some(How::Replaced),
        (Kind::File(_), Kind::File(_)) | (Kind::Link(_), Kind::Link(_)) => {
            (below.mtime > above.mtime).then_some(How::Newer)
        }
        (above, below) => (std::mem::discriminant(above) != std::mem::discriminant(below)).then_some(How::OtherKind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::node::{Marks, Time};

    fn node(kind: Kind, seconds: i64) -> Node {
        Node { kind, ..Node::whiteout(Time { seconds, nanoseconds: 0 }) }
    }

    #[test]
    fn what_hides_what() {
        let opaque = Node { marks: Marks { opaque: true, ..Marks::default() }, ..node(Kind::Directory, 1) };
        let link = || Kind::Link("x".into());
        for (above, below, how) in [
            (node(Kind::Whiteout, 1), node(Kind::File(1), 9), Some(How::Deleted)),
            (node(Kind::Directory, 1), node(Kind::Directory, 9), None),
            (opaque.clone(), node(Kind::Directory, 1), Some(How::Replaced)),
            (opaque, node(Kind::File(1), 1), Some(How::OtherKind)),
            (node(Kind::File(1), 5), node(Kind::Directory, 1), Some(How::OtherKind)),
            (node(Kind::File(1), 5), node(Kind::File(2), 4), None),
            (node(Kind::File(1), 5), node(Kind::File(1), 6), Some(How::Newer)),
            (node(link(), 5), node(link(), 6), Some(How::Newer)),
            (node(link(), 5), node(Kind::File(1), 1), Some(How::OtherKind)),
            (node(Kind::Pipe, 5), node(Kind::Pipe, 6), None),
        ] {
            assert_eq!(judge(&above, &below), how, "{above:?} over {below:?}");
        }
    }
}
