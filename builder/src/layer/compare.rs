//! Whether an image holds what was planned, entry by entry.

use super::copy::Written;
use super::exclude::Exclusions;
use super::merge::{Item, Plan, Rules, plan};
use super::node::{Kind, Node};
use super::tree::Source;
use crate::progress::Progress;
use anyhow::{Context as _, Result};
use rayon::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many differences are named.
const NAMED: usize = 10;

/// What differs between two entries of one path, in words; data are not looked at.
pub fn attributes(expected: &Node, found: &Node) -> Vec<String> {
    let mut list = Vec::new();
    if expected.kind != found.kind {
        let name = |kind: &Kind| match kind {
            Kind::File(size) => format!("file of {size} bytes"),
            Kind::Link(to) => format!("link to {}", to.display()),
            Kind::Character(number) | Kind::Block(number) => {
                format!("device {}:{}", nix::sys::stat::major(*number), nix::sys::stat::minor(*number))
            }
            other => other.word().to_owned(),
        };
        list.push(format!("{} became {}", name(&expected.kind), name(&found.kind)));
    }
    // Those of a link have no meaning, and file systems differ in them.
    if expected.mode != found.mode && !matches!(expected.kind, Kind::Link(_)) {
        list.push(format!("mode {:04o} became {:04o}", expected.mode, found.mode));
    }
    if (expected.uid, expected.gid) != (found.uid, found.gid) {
        list.push(format!("owner {}:{} became {}:{}", expected.uid, expected.gid, found.uid, found.gid));
    }
    if expected.mtime != found.mtime {
        let (a, b) = (expected.mtime, found.mtime);
        list.push(format!("time {}.{:09} became {}.{:09}", a.seconds, a.nanoseconds, b.seconds, b.nanoseconds));
    }
    if expected.marks.opaque != found.marks.opaque {
        let state = |opaque| if opaque { "opaque" } else { "not opaque" };
        list.push(format!("{} became {}", state(expected.marks.opaque), state(found.marks.opaque)));
    }
    for name in expected.xattrs.keys().chain(found.xattrs.keys().filter(|name| !expected.xattrs.contains_key(*name))) {
        let shown = String::from_utf8_lossy(name);
        match (expected.xattrs.get(name), found.xattrs.get(name)) {
            (Some(_), None) => list.push(format!("lost attribute {shown}")),
            (None, Some(_)) => list.push(format!("got attribute {shown}")),
            (a, b) if a != b => list.push(format!("attribute {shown} changed")),
            _ => {}
        }
    }
    list
}

/// Compares an image with the plan that it was made of, and its data with what was written. It is mounted several times: a kernel can
/// have one decompressor for each mount of squashfs.
pub fn compare(expected: &Plan, written: &Written, images: &[Source], progress: &Progress) -> Result<Vec<String>> {
    let nothing = Exclusions::none();
    // As it is stored: of a complete layer too, in which there must be no whiteout.
    let rules = Rules { complete: false, exclude: &nothing };
    let first = images.get(..1).context("an image that is not mounted")?;
    let (found, data) = rayon::join(|| plan(first, rules), || data(expected, written, images, progress));
    let mut list = entries(&expected.items, &found?.items);
    if list.is_empty() {
        list = data?;
    }
    if list.len() > NAMED {
        let more = list.len() - NAMED;
        list.truncate(NAMED);
        list.push(format!("and {more} more"));
    }
    Ok(list)
}

fn entries(expected: &[Item], found: &[Item]) -> Vec<String> {
    let mut list = Vec::new();
    let shown = |path: &Path| format!("/{}", path.display());
    let (mut a, mut b) = (expected.iter().peekable(), found.iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (Some(one), Some(other)) => one.path.cmp(&other.path),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return list,
        };
        match order {
            std::cmp::Ordering::Less => list.extend(a.next().map(|item| format!("{}: missing", shown(&item.path)))),
            std::cmp::Ordering::Greater => {
                list.extend(b.next().map(|item| format!("{}: not expected", shown(&item.path))));
            }
            std::cmp::Ordering::Equal => {
                let (Some(one), Some(other)) = (a.next(), b.next()) else { continue };
                let other_names = attributes(&one.node, &other.node);
                list.extend(other_names.into_iter().map(|what| format!("{}: {what}", shown(&one.path))));
                if one.link_to != other.link_to && expected.len() == found.len() {
                    list.push(format!("{}: not the same file as other names of it", shown(&one.path)));
                }
            }
        }
    }
}

/// Reads all files of the image, as they are expected in it.
fn data(expected: &Plan, written: &Written, images: &[Source], progress: &Progress) -> Result<Vec<String>> {
    let (total, done) = (expected.totals().bytes, AtomicU64::new(0));
    let differs = |(item, digest): (&Item, &Option<[u8; 32]>)| -> Option<Result<String>> {
        let expected = digest.filter(|_| item.link_to.is_none())?;
        let size = item.node.size();
        let turn = rayon::current_thread_index().unwrap_or(0).checked_rem(images.len())?;
        let read = images.get(turn)?.pour(&item.path, size, |_| Ok(()));
        let so_far = done.fetch_add(size, Ordering::Relaxed) + size;
        progress.part("comparing", so_far, total);
        match read {
            Ok((found, false)) if found == expected => None,
            Ok(_) => Some(Ok(format!("/{}: other data than were written", item.path.display()))),
            Err(e) => Some(Err(e)),
        }
    };
    expected.items.par_iter().zip(&written.digests).filter_map(differs).collect()
}
