//! Several raw layers, the topmost first, as one: what an overlay of them shows, with what it still has to hide of layers below.
//!
//! At each path the topmost entry wins. A whiteout ends the way down, as do an opaque directory and whatever is no directory; a directory
//! above one of these hides what further layers have there, so it becomes opaque itself. Whiteouts and opaque marks are left out only
//! where nothing can lie below: when the bottom of the stack is one of the layers, and inside opaque directories.

use super::exclude::Exclusions;
use super::node::{Node, Time};
use super::tree::Source;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// One entry of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Below the top directory, which is the empty path.
    pub path: PathBuf,
    /// What it is.
    pub node: Node,
    /// Which source has it.
    pub source: usize,
    /// The earlier item whose file this is another name of.
    pub link_to: Option<usize>,
}

/// What a layer is to hold: each directory before what is in it, names in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The top directory first.
    pub items: Vec<Item>,
    /// Whether the bottom of the stack is in it: nothing lies below.
    pub complete: bool,
    /// What was left out because it belongs to one machine.
    pub excluded: Vec<PathBuf>,
    /// Directories whose content lies in other file systems, and was left out.
    pub foreign: Vec<PathBuf>,
}

/// Why layers cannot be merged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// A file without its data.
    #[error(
        "{path}: the overlay was mounted with metacopy=on, and this file's data are in a layer below; a layer of its own must have them. \
         Mount with metacopy=off, touch the file's content (cp -a FILE FILE.new && mv FILE.new FILE), and try again"
    )]
    Metacopy {
        /// With its layer.
        path: String,
    },
    /// A directory that was moved.
    #[error(
        "{path}: the overlay was mounted with redirect_dir=on, and this directory's content is {to} in the layers below; a layer of its own \
         must not depend on that. In the running system replace it by a copy (cp -a DIR DIR.new && rm -r DIR && mv -T DIR.new DIR, with \
         redirect_dir=off), and try again"
    )]
    Redirect {
        /// With its layer.
        path: String,
        /// Where it was.
        to: String,
    },
    /// Nothing to merge.
    #[error("expected at least one layer")]
    Nothing,
}

/// What becomes of one name.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing.
    Gone,
    /// This layer's entry.
    Single(usize),
    /// A directory of these layers, the topmost first.
    Directory { of: Vec<usize>, opaque: bool },
}

/// Decides about one name: what each layer has there, the topmost first. `complete`: nothing can lie below them.
fn decide<'a>(found: impl Iterator<Item = (usize, &'a Node)>, complete: bool) -> Outcome {
    let mut of = Vec::new();
    let mut opaque = false;
    for (source, node) in found {
        if node.is_dir() {
            of.push(source);
            opaque = node.marks.opaque;
        } else if of.is_empty() {
            let whiteout = node.kind == super::node::Kind::Whiteout;
            return if whiteout && complete { Outcome::Gone } else { Outcome::Single(source) };
        } else {
            opaque = true;
        }
        if opaque {
            break;
        }
    }
    if of.is_empty() { Outcome::Gone } else { Outcome::Directory { of, opaque: opaque && !complete } }
}

/// How layers are merged.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The bottom of the stack is the last of them.
    pub complete: bool,
    /// What is left out of directories. Images went through that when they were made: what is in them was meant to be.
    pub exclude: &'a Exclusions,
}

/// Merges; of one source it is what that source holds, without what has no meaning elsewhere.
pub fn plan(sources: &[Source], rules: Rules<'_>) -> Result<Plan> {
    let mut merge = Merge {
        sources,
        exclude: rules.exclude,
        links: BTreeMap::new(),
        plan: Plan { items: Vec::new(), complete: rules.complete, excluded: Vec::new(), foreign: Vec::new() },
    };
    let mut tops = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        tops.push((index, source.node(Path::new(""))?));
    }
    let Some((_, top)) = tops.first() else { return Err(Refusal::Nothing.into()) };
    // All layers have a top directory, and nothing can be below it but theirs: a mark there says nothing.
    let mut top = top.clone();
    top.marks = super::node::Marks::default();
    merge.push(PathBuf::new(), top, 0);
    merge.directory(Path::new(""), &tops, rules.complete)?;
    Ok(merge.plan)
}

struct Merge<'a> {
    sources: &'a [Source],
    exclude: &'a Exclusions,
    /// First item with a file that has several names, by source, device and inode.
    links: BTreeMap<(usize, (u64, u64)), usize>,
    plan: Plan,
}

impl Merge<'_> {
    fn push(&mut self, path: PathBuf, node: Node, source: usize) {
        let at = self.plan.items.len();
        let first = node.identity.map(|identity| *self.links.entry((source, identity)).or_insert(at));
        self.plan.items.push(Item { path, node, source, link_to: first.filter(|first| *first != at) });
    }

    /// The entries of a directory that these sources have, the topmost first.
    fn directory(&mut self, path: &Path, of: &[(usize, Node)], complete: bool) -> Result<()> {
        let mut lists = Vec::new();
        for (source, node) in of {
            if node.foreign {
                self.plan.foreign.push(path.to_owned());
            } else if let Some(raw) = self.sources.get(*source) {
                let mut list = raw.children(path, node)?;
                if raw.image().is_none() {
                    self.leave_out(path, &mut list);
                }
                lists.push((*source, list));
            }
        }
        let names: BTreeSet<OsString> = lists.iter().flat_map(|(_, list)| list.keys().cloned()).collect();
        for name in names {
            let found = lists.iter().filter_map(|(source, list)| Some((*source, list.get(&name)?)));
            let outcome = decide(found, complete);
            let take = |wanted: usize| lists.iter().find(|(source, _)| *source == wanted)?.1.get(&name).cloned();
            self.entry(path.join(&name), outcome, take, complete)?;
        }
        Ok(())
    }

    /// Takes away what is left out of a directory's entries. Marks of deletion stay: what a layer below has there must not show again.
    fn leave_out(&mut self, path: &Path, list: &mut BTreeMap<OsString, Node>) {
        let goes = |name: &OsString, node: &Node| {
            node.kind != super::node::Kind::Whiteout && self.exclude.excludes(&path.join(name))
        };
        let gone: Vec<OsString> =
            list.iter().filter(|(name, node)| goes(name, node)).map(|(name, _)| name.clone()).collect();
        for name in gone {
            list.remove(&name);
            let path = path.join(name);
            if !self.plan.excluded.contains(&path) {
                self.plan.excluded.push(path);
            }
        }
    }

    fn entry(
        &mut self,
        path: PathBuf,
        outcome: Outcome,
        take: impl Fn(usize) -> Option<Node>,
        complete: bool,
    ) -> Result<()> {
        match outcome {
            Outcome::Gone => {}
            Outcome::Single(source) => {
                let Some(node) = take(source) else { return Ok(()) };
                self.check(source, &path, &node)?;
                self.push(path, node, source);
            }
            Outcome::Directory { of, opaque } => {
                let of: Vec<(usize, Node)> =
                    of.into_iter().filter_map(|source| Some((source, take(source)?))).collect();
                for (source, node) in &of {
                    self.check(*source, &path, node)?;
                }
                let Some((source, top)) = of.first() else { return Ok(()) };
                let marks = super::node::Marks { opaque, ..super::node::Marks::default() };
                self.push(path.clone(), Node { marks, ..top.clone() }, *source);
                self.directory(&path, &of, complete || opaque)?;
            }
        }
        Ok(())
    }

    /// What a layer of its own cannot hold.
    fn check(&self, source: usize, path: &Path, node: &Node) -> Result<(), Refusal> {
        let named = || self.sources.get(source).map_or_else(String::new, |source| source.name(path));
        if node.marks.metacopy {
            return Err(Refusal::Metacopy { path: named() });
        }
        if let Some(to) = &node.marks.redirect {
            return Err(Refusal::Redirect { path: named(), to: format!("{:?}", String::from_utf8_lossy(to)) });
        }
        Ok(())
    }
}

/// What a plan comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Totals {
    /// Entries of all kinds.
    pub entries: u64,
    /// Bytes of files, each once.
    pub bytes: u64,
    /// Whiteouts.
    pub whiteouts: u64,
    /// Opaque directories.
    pub opaque: u64,
    /// Further names of files.
    pub hardlinks: u64,
}

impl Plan {
    /// Counts.
    pub fn totals(&self) -> Totals {
        self.items.iter().fold(Totals::default(), |sum, item| Totals {
            entries: sum.entries + 1,
            bytes: sum.bytes + if item.link_to.is_none() { item.node.size() } else { 0 },
            whiteouts: sum.whiteouts + u64::from(item.node.kind == super::node::Kind::Whiteout),
            opaque: sum.opaque + u64::from(item.node.marks.opaque),
            hardlinks: sum.hardlinks + u64::from(item.link_to.is_some()),
        })
    }

    /// The newest time in it.
    pub fn newest(&self) -> Time {
        self.items.iter().map(|item| item.node.mtime).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::node::{Attributes, Kind, Marks};

    fn node(letter: char) -> Option<Node> {
        let kind = match letter {
            '-' => return None,
            'w' => Kind::Whiteout,
            'f' => Kind::File(1),
            _ => Kind::Directory,
        };
        let marks = Marks { opaque: letter == 'o', ..Marks::default() };
        let mut node = Node::whiteout(Time::default());
        node.kind = kind;
        node.marks = marks;
        node.xattrs = Attributes::new();
        Some(node)
    }

    /// Letters are layers, the topmost first: `w` whiteout, `f` file, `d` directory, `o` opaque directory, `-` nothing.
    fn of(layers: &str, complete: bool) -> Outcome {
        let nodes: Vec<Option<Node>> = layers.chars().map(node).collect();
        decide(nodes.iter().enumerate().filter_map(|(at, node)| Some((at, node.as_ref()?))), complete)
    }

    #[test]
    fn each_name_is_decided_from_the_top() {
        let dir = |of: &[usize], opaque| Outcome::Directory { of: of.to_vec(), opaque };
        for (layers, partial, complete) in [
            ("f", Outcome::Single(0), Outcome::Single(0)),
            ("fd", Outcome::Single(0), Outcome::Single(0)),
            ("-f", Outcome::Single(1), Outcome::Single(1)),
            ("w", Outcome::Single(0), Outcome::Gone),
            ("wf", Outcome::Single(0), Outcome::Gone),
            ("-wd", Outcome::Single(1), Outcome::Gone),
            ("fw", Outcome::Single(0), Outcome::Single(0)),
            ("d", dir(&[0], false), dir(&[0], false)),
            ("dd", dir(&[0, 1], false), dir(&[0, 1], false)),
            ("d-d", dir(&[0, 2], false), dir(&[0, 2], false)),
            ("dw", dir(&[0], true), dir(&[0], false)),
            ("dwd", dir(&[0], true), dir(&[0], false)),
            ("dfd", dir(&[0], true), dir(&[0], false)),
            ("o", dir(&[0], true), dir(&[0], false)),
            ("od", dir(&[0], true), dir(&[0], false)),
            ("dod", dir(&[0, 1], true), dir(&[0, 1], false)),
            ("ddf", dir(&[0, 1], true), dir(&[0, 1], false)),
            ("---", Outcome::Gone, Outcome::Gone),
        ] {
            assert_eq!(of(layers, false), partial, "{layers} above others");
            assert_eq!(of(layers, true), complete, "{layers} at the bottom");
        }
    }
}
