//! The stream on its way into a squashfs: what the format cannot hold is taken off, and what goes in is noted, so that the image can be
//! compared with it.

use std::collections::BTreeMap;
use std::io::{self, BufWriter};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use nix::fcntl::{FcntlArg, fcntl};
use sha2::{Digest as _, Sha256};

use crate::layer::acl::mode_without;
use crate::layer::format::{Compression, Format};
use crate::layer::node::ACL;
use crate::layer::seal::{finished, is_pipe, start, tool};
use crate::layer::squashfs;
use crate::tar::write::{END, header, pad, stored};
use crate::tar::{Entries, Entry, Kind};

/// Bytes that are copied at once.
const PIECE: usize = 1 << 18;
/// Attributes that squashfs has; others, access lists among them, it has not.
const HELD: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// What an image has to hold.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// Entries by their paths; a file that has several names is the first of them.
    pub nodes: BTreeMap<Vec<u8>, Node>,
    /// Further names of files.
    pub links: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes of files.
    pub bytes: u64,
    /// What was left out.
    pub notes: Vec<String>,
}

/// An entry as it has to be in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub owner: (u32, u32),
    /// Seconds since 1970.
    pub time: u32,
    /// Of a file.
    pub size: u64,
    pub sum: [u8; 32],
    /// Of a symbolic link.
    pub target: Vec<u8>,
    /// Of a device.
    pub device: (u32, u32),
    /// Extended attributes by their names.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// How an image is written.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub compression: &'a Compression,
    pub jobs: Option<NonZeroUsize>,
    /// Time of the image and of its top directory.
    pub time: u32,
}

/// Writes the stream as an image; gives what it has to hold.
pub(super) fn write(input: &mut dyn Entries, order: &Order<'_>, image: &Path, log: &Path) -> Result<Expected> {
    let version = squashfs::version()?;
    let mut command = tool(Format::Squashfs);
    command.arg("-").arg(image);
    command.args(["-tar", "-noappend", "-no-progress", "-quiet", "-exports", "-xattrs", "-exit-on-error"]);
    command.args(order.compression.words(Format::Squashfs).map_err(anyhow::Error::msg)?);
    let time = order.time.to_string();
    command.args(["-mkfs-time", &time, "-root-time", &time, "-root-mode", "755", "-root-uid", "0", "-root-gid", "0"]);
    let top_time = squashfs::needs_top_time(version);
    command.args(top_time.then_some("-noI"));
    command.args(order.jobs.map(|jobs| ["-processors".to_owned(), jobs.to_string()]).into_iter().flatten());
    let mut child = start(command.stdin(Stdio::piped()), log, Format::Squashfs)?;
    let input_of_it = child.stdin.take().context("no way to mksquashfs")?;
    // Only a wish: with the usual 64 KiB both programs wait for each other more often.
    let _ = fcntl(&input_of_it, FcntlArg::F_SETPIPE_SZ(1 << 20));
    let mut out = BufWriter::with_capacity(PIECE, input_of_it);
    let poured = pour(input, &mut out);
    // It ends when its input does.
    let flushed = poured.and_then(|all| out.into_inner().map(drop).map(|()| all).map_err(Into::into));
    let ended = finished(child, log, Format::Squashfs);
    let expected = match flushed {
        // The program ended first: what it said is the reason.
        Err(error) if is_pipe(&error) => ended.and(Err(error)),
        Err(error) => Err(error),
        Ok(expected) => ended.map(|()| expected),
    }?;
    if top_time {
        squashfs::set_top_time(image, order.time)?;
    }
    Ok(expected)
}

fn pour(input: &mut dyn Entries, out: &mut dyn io::Write) -> Result<Expected> {
    let mut expected = Expected::default();
    let (mut lists, mut attributes) = (0_u64, 0_u64);
    while let Some(mut entry) = input.next_entry()? {
        // The top directory: mksquashfs takes it from its words.
        if entry.path.is_empty() {
            continue;
        }
        let (list, other) = fit(&mut entry);
        (lists, attributes) = (lists + u64::from(list), attributes + u64::from(other));
        out.write_all(&header(&entry))?;
        let sum = content(input, &entry, out)?;
        out.write_all(pad(stored(&entry)))?;
        expected.note(entry, sum);
    }
    out.write_all(&END)?;
    out.flush()?;
    if lists > 0 {
        expected.notes.push(format!("squashfs has no access control lists: they were left out of {lists} entries"));
    }
    if attributes > 0 {
        expected.notes.push(format!("squashfs has no attributes of other kinds: left out of {attributes} entries"));
    }
    Ok(expected)
}

/// Takes off what squashfs does not have: whether there was an access list, and whether there was another attribute.
fn fit(entry: &mut Entry) -> (bool, bool) {
    let of = |name: &[u8]| entry.xattrs.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
    if let Some(list) = of(&[ACL, b"access"].concat()) {
        entry.mode = mode_without(entry.mode, &list);
    }
    let list = entry.xattrs.iter().any(|(name, _)| name.starts_with(ACL));
    let held = |name: &[u8]| HELD.iter().any(|space| name.starts_with(space));
    let other = entry.xattrs.iter().any(|(name, _)| !held(name) && !name.starts_with(ACL));
    entry.xattrs.retain(|(name, _)| held(name));
    entry.mtime = (entry.mtime.0.clamp(0, u32::MAX.into()), 0);
    (list, other)
}

/// Copies what a file has; the sum of all of it, holes included.
fn content(input: &mut dyn Entries, entry: &Entry, out: &mut dyn io::Write) -> Result<[u8; 32]> {
    if entry.kind != Kind::File {
        return Ok([0; 32]);
    }
    let (mut sum, mut at, mut buffer) = (Sha256::new(), 0, vec![0; PIECE]);
    for (offset, length) in &entry.parts {
        zeros(&mut sum, offset.saturating_sub(at));
        let mut left = *length;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let piece = buffer.get_mut(..most).unwrap_or_default();
            input.read(piece)?;
            out.write_all(piece)?;
            sum.update(&*piece);
            left -= most as u64;
        }
        at = offset + length;
    }
    zeros(&mut sum, entry.size.saturating_sub(at));
    Ok(sum.finalize().into())
}

fn zeros(sum: &mut Sha256, mut count: u64) {
    let zeros = [0; 4096];
    while count > 0 {
        let here = count.min(zeros.len() as u64);
        sum.update(zeros.get(..usize::try_from(here).unwrap_or(0)).unwrap_or_default());
        count -= here;
    }
}

impl Expected {
    fn note(&mut self, entry: Entry, sum: [u8; 32]) {
        if entry.kind == Kind::HardLink {
            let first = self.links.get(&entry.target).cloned().unwrap_or(entry.target);
            self.links.insert(entry.path, first);
            return;
        }
        let node = Node {
            kind: entry.kind,
            mode: entry.mode & 0o7777,
            owner: (entry.uid, entry.gid),
            time: u32::try_from(entry.mtime.0).unwrap_or(0),
            size: if entry.kind == Kind::File { entry.size } else { 0 },
            sum,
            target: entry.target,
            device: entry.device,
            attributes: entry.xattrs.into_iter().collect(),
        };
        self.bytes += node.size;
        self.nodes.insert(entry.path, node);
    }

    /// The first name of what has this one.
    pub(super) fn first<'a>(&'a self, path: &'a [u8]) -> &'a [u8] {
        self.links.get(path).map_or(path, Vec::as_slice)
    }
}
