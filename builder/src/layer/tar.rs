//! A plan as a tar stream (POSIX pax format): what mksquashfs reads, and what other programs take a root from.
//! A whiteout is a character device 0:0.

use super::copy::{As, Written};
use super::merge::{Item, Plan};
use super::node::{Kind, shown};
use super::tree::Source;
use crate::progress::Progress;
use crate::tar::{self, write};
use anyhow::{Context as _, Result};
use nix::sys::stat::{major, minor};
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;

/// Writes the whole stream. The top directory comes first as `./`, unless `top` says that it is left out.
pub fn write(
    plan: &Plan,
    sources: &[Source],
    out: &mut dyn Write,
    what: As,
    top: bool,
    progress: &Progress,
) -> Result<Written> {
    let (total, mut done) = (plan.totals().bytes, 0);
    let mut written = Written::default();
    for item in &plan.items {
        let is_top = item.path.as_os_str().is_empty();
        if is_top && !top {
            written.digests.push(None);
            continue;
        }
        header(plan, sources, item, out, what)?;
        let digest = match (&item.node.kind, item.link_to) {
            (Kind::File(size), None) => {
                let source = sources.get(item.source).context("a layer that is not there")?;
                let (digest, changed) = source.pour(&item.path, *size, |bytes| out.write_all(bytes))?;
                out.write_all(write::pad(*size))?;
                if changed {
                    written.changed.push(item.path.clone());
                }
                done += size;
                progress.part("writing", done, total);
                Some(digest)
            }
            _ => None,
        };
        written.digests.push(digest);
    }
    out.write_all(&write::END)?;
    out.flush()?;
    Ok(written)
}

/// The header of an entry, behind one with what it has no room for.
fn header(plan: &Plan, sources: &[Source], item: &Item, out: &mut dyn Write, what: As) -> Result<()> {
    let node = &item.node;
    let first = item.link_to.and_then(|first| plan.items.get(first));
    let (kind, target, number) = match (&node.kind, first) {
        (_, Some(first)) => (tar::Kind::HardLink, first.path.as_os_str().as_bytes(), 0),
        (Kind::File(_), _) => (tar::Kind::File, &[][..], 0),
        (Kind::Link(to), _) => (tar::Kind::SymbolicLink, to.as_bytes(), 0),
        (Kind::Character(number), _) => (tar::Kind::Character, &[][..], *number),
        (Kind::Whiteout, _) => (tar::Kind::Character, &[][..], 0),
        (Kind::Block(number), _) => (tar::Kind::Block, &[][..], *number),
        (Kind::Directory, _) => (tar::Kind::Directory, &[][..], 0),
        (Kind::Pipe, _) => (tar::Kind::Pipe, &[][..], 0),
        // Nothing in the format stands for one, and `fit` or the caller left them out.
        (Kind::Socket, _) => return Ok(()),
    };
    let size = if first.is_none() { node.size() } else { 0 };
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let entry = tar::Entry {
        path: item.path.as_os_str().as_bytes().to_vec(),
        kind,
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        mtime: (node.mtime.seconds, node.mtime.nanoseconds),
        size,
        parts: if size > 0 { vec![(0, size)] } else { Vec::new() },
        target: target.to_vec(),
        device: (small(major(number)), small(minor(number))),
        xattrs: if first.is_none() { attributes(sources, item, what) } else { Vec::new() },
    };
    out.write_all(&write::header(&entry))?;
    Ok(())
}

fn attributes(sources: &[Source], item: &Item, what: As) -> Vec<(Vec<u8>, Vec<u8>)> {
    let node = &item.node;
    let namespace = sources.get(item.source).map(Source::namespace).unwrap_or_default();
    let mut all = if what == As::Root { shown(&node.xattrs, namespace) } else { node.xattrs.clone() };
    if node.marks.opaque && what == As::Layer {
        all.insert(namespace.opaque(), b"y".to_vec());
    }
    all.into_iter().collect()
}
