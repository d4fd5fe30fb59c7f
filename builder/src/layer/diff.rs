//! What a layer changes, and how two layers differ.

use super::compare::attributes;
use super::exclude::Exclusions;
use super::merge::{Item, Plan, Rules, plan};
use super::node::Kind;
use super::tree::Source;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It was not there.
    Added,
    /// It is another one, or has other attributes or data.
    Changed,
    /// It is there no longer.
    Deleted,
    /// A directory hides the one below: what is not in it again is deleted.
    Replaced,
    /// It is stored again, and is the same.
    Same,
    /// A whiteout of something that is not there.
    HidesNothing,
}

impl What {
    /// In a letter, for a list.
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Changed => 'C',
            Self::Deleted => 'D',
            Self::Replaced => 'R',
            Self::Same => '=',
            Self::HidesNothing => '-',
        }
    }
}

/// One entry that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Below the top directory.
    pub path: PathBuf,
    /// What became of it.
    pub what: What,
    /// In which way.
    pub detail: Vec<String>,
}

/// What is in a stack or a layer, by path.
pub(super) struct Content<'a> {
    plan: Plan,
    sources: &'a [Source],
    places: BTreeMap<PathBuf, usize>,
}

impl<'a> Content<'a> {
    pub(super) fn of(sources: &'a [Source], complete: bool) -> Result<Self> {
        let plan = plan(sources, Rules { complete, exclude: &Exclusions::none() })?;
        let places = plan.items.iter().enumerate().map(|(at, item)| (item.path.clone(), at)).collect();
        Ok(Self { plan, sources, places })
    }

    /// The entries.
    pub(super) fn items(&self) -> &[Item] {
        &self.plan.items
    }

    pub(super) fn at(&self, path: &Path) -> Option<&Item> {
        self.places.get(path).and_then(|at| self.plan.items.get(*at))
    }

    /// The entries below a directory.
    pub(super) fn below(&self, path: &Path) -> impl Iterator<Item = &Path> {
        let from = path.to_owned();
        let inside = self.places.range(from.clone()..).map(|(path, _)| path.as_path());
        inside.take_while(move |path| path.starts_with(&from)).skip(1)
    }

    fn digest(&self, item: &Item) -> Result<Option<[u8; 32]>> {
        let Some(source) = self.sources.get(item.source) else { return Ok(None) };
        Ok(Some(source.pour(&item.path, item.node.size(), |_| Ok(()))?.0))
    }
}

/// How `new` differs from `old` at one path. Times alone are no difference: they change when a file is copied up.
fn detail(old: (&Content<'_>, &Item), new: (&Content<'_>, &Item)) -> Result<Vec<String>> {
    let ((old_content, old), (new_content, new)) = (old, new);
    let mut list = attributes(&old.node, &new.node);
    let of_time = |text: &String| text.starts_with("time ");
    if let (Kind::File(a), Kind::File(b)) = (&old.node.kind, &new.node.kind)
        && a == b
        && old_content.digest(old)? != new_content.digest(new)?
    {
        list.push("other data".to_owned());
    }
    if list.iter().all(of_time) {
        list.clear();
    }
    Ok(list)
}

/// What a layer changes of the stack below it, the topmost first.
pub fn of_upper(upper: &Source, lowers: &[Source]) -> Result<Vec<Difference>> {
    let below = Content::of(lowers, true)?;
    let above = Content::of(std::slice::from_ref(upper), false)?;
    let mut list = Vec::new();
    for item in &above.plan.items {
        let old = below.at(&item.path);
        let (what, detail) = match (&item.node.kind, old) {
            (Kind::Whiteout, None) => (What::HidesNothing, Vec::new()),
            (Kind::Whiteout, Some(_)) => (What::Deleted, more(below.below(&item.path).count(), "entries with it")),
            (_, None) => (What::Added, Vec::new()),
            (Kind::Directory, Some(old)) if item.node.marks.opaque && old.node.is_dir() => {
                let gone = below.below(&item.path).filter(|path| above.at(path).is_none()).count();
                (What::Replaced, more(gone, "entries are deleted"))
            }
            (_, Some(old)) => match detail((&below, old), (&above, item))? {
                // Each directory on the way to a change is stored.
                same if same.is_empty() && item.node.is_dir() => continue,
                same if same.is_empty() => (What::Same, same),
                changed => (What::Changed, changed),
            },
        };
        list.push(Difference { path: item.path.clone(), what, detail });
    }
    Ok(list)
}

fn more(count: usize, what: &str) -> Vec<String> {
    if count == 0 { Vec::new() } else { vec![format!("{count} {what}")] }
}

/// How a layer, as it is stored, differs from another.
pub fn between(old: &Source, new: &Source) -> Result<Vec<Difference>> {
    let (a, b) = (Content::of(std::slice::from_ref(old), false)?, Content::of(std::slice::from_ref(new), false)?);
    let mut list = Vec::new();
    for item in &a.plan.items {
        let Some(other) = b.at(&item.path) else {
            list.push(Difference { path: item.path.clone(), what: What::Deleted, detail: Vec::new() });
            continue;
        };
        let detail = detail((&a, item), (&b, other))?;
        if !detail.is_empty() {
            list.push(Difference { path: item.path.clone(), what: What::Changed, detail });
        }
    }
    let added = b.plan.items.iter().filter(|item| a.at(&item.path).is_none());
    list.extend(added.map(|item| Difference { path: item.path.clone(), what: What::Added, detail: Vec::new() }));
    list.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(list)
}
