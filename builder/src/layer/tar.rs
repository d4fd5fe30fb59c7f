//! A plan as a tar stream (POSIX pax format): what mksquashfs reads, and what other programs take a root from.
//!
//! Attributes are records `SCHILY.xattr.NAME`, as GNU tar and star write them. A whiteout is a character device 0:0.

use super::copy::{As, Written};
use super::merge::{Item, Plan};
use super::node::{Kind, shown};
use super::tree::Source;
use crate::progress::Progress;
use anyhow::{Context as _, Result};
use nix::sys::stat::{major, minor};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

const BLOCK: usize = 512;
/// Of the name and of a link's target in a header.
const NAME: usize = 100;

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
                pad(out, *size)?;
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
    out.write_all(&[0; 2 * BLOCK])?;
    out.flush()?;
    Ok(written)
}

fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    out.write_all([0; BLOCK].get(over..).filter(|_| over > 0).unwrap_or_default())
}

/// The header of an entry, behind one with what it has no room for.
fn header(plan: &Plan, sources: &[Source], item: &Item, out: &mut dyn Write, what: As) -> Result<()> {
    let node = &item.node;
    let first = item.link_to.and_then(|first| plan.items.get(first));
    let (letter, link, number) = match (&node.kind, first) {
        (_, Some(first)) => (b'1', first.path.as_os_str().as_bytes(), 0),
        (Kind::File(_), _) => (b'0', &[][..], 0),
        (Kind::Link(to), _) => (b'2', to.as_bytes(), 0),
        (Kind::Character(number), _) => (b'3', &[][..], *number),
        (Kind::Whiteout, _) => (b'3', &[][..], 0),
        (Kind::Block(number), _) => (b'4', &[][..], *number),
        (Kind::Directory, _) => (b'5', &[][..], 0),
        (Kind::Pipe, _) => (b'6', &[][..], 0),
        // Nothing in the format stands for one, and `fit` or the caller left them out.
        (Kind::Socket, _) => return Ok(()),
    };
    let size = if first.is_none() { node.size() } else { 0 };
    let name = name(&item.path, node.is_dir());
    let mut records = Vec::new();
    if name.len() > NAME {
        record(&mut records, b"path", &name);
    }
    if link.len() > NAME {
        record(&mut records, b"linkpath", link);
    }
    for (key, value) in [("size", size), ("uid", node.uid.into()), ("gid", node.gid.into())] {
        let digits = if key == "size" { 11 } else { 7 };
        if octal(value, digits).is_none() {
            record(&mut records, key.as_bytes(), value.to_string().as_bytes());
        }
    }
    let seconds = u64::try_from(node.mtime.seconds).ok().filter(|seconds| octal(*seconds, 11).is_some());
    if seconds.is_none() || node.mtime.nanoseconds != 0 {
        record(&mut records, b"mtime", mtime(node.mtime.seconds, node.mtime.nanoseconds).as_bytes());
    }
    if first.is_none() {
        attributes(sources, item, what, &mut records);
    }
    if !records.is_empty() {
        let length = records.len() as u64;
        out.write_all(&block(b"pax", b'x', &[], &Numbers { size: length, mode: 0o600, ..Numbers::default() }))?;
        out.write_all(&records)?;
        pad(out, length)?;
    }
    let numbers = Numbers {
        mode: node.mode.into(),
        uid: node.uid.into(),
        gid: node.gid.into(),
        size,
        seconds: seconds.unwrap_or(0),
        major: major(number),
        minor: minor(number),
    };
    out.write_all(&block(&name, letter, link, &numbers))?;
    Ok(())
}

fn name(path: &Path, directory: bool) -> Vec<u8> {
    let mut name = path.as_os_str().as_bytes().to_vec();
    if name.is_empty() {
        name.push(b'.');
    }
    if directory {
        name.push(b'/');
    }
    name
}

fn attributes(sources: &[Source], item: &Item, what: As, records: &mut Vec<u8>) {
    let node = &item.node;
    let namespace = sources.get(item.source).map(Source::namespace).unwrap_or_default();
    let mut all = if what == As::Root { shown(&node.xattrs, namespace) } else { node.xattrs.clone() };
    if node.marks.opaque && what == As::Layer {
        all.insert(namespace.opaque(), b"y".to_vec());
    }
    for (name, value) in all {
        record(records, &[b"SCHILY.xattr.", name.as_slice()].concat(), &value);
    }
}

/// `LENGTH KEY=VALUE\n`, in which the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest > length {
        length += 1;
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// A time as a decimal number: -1.5 s is half a second before -1.
fn mtime(seconds: i64, nanoseconds: u32) -> String {
    match (seconds < 0, nanoseconds) {
        (_, 0) => seconds.to_string(),
        (false, _) => format!("{seconds}.{nanoseconds:09}"),
        (true, _) => format!("-{}.{:09}", seconds.unsigned_abs() - 1, 1_000_000_000 - nanoseconds),
    }
}

/// So many octal digits; `None` if there is no room.
fn octal(value: u64, digits: usize) -> Option<String> {
    Some(format!("{value:0digits$o}")).filter(|text| text.len() == digits)
}

#[derive(Default)]
struct Numbers {
    mode: u64,
    uid: u64,
    gid: u64,
    size: u64,
    seconds: u64,
    major: u64,
    minor: u64,
}

/// A header; what has no room in it stands in the one before.
fn block(name: &[u8], letter: u8, link: &[u8], numbers: &Numbers) -> [u8; BLOCK] {
    let mut block = [0_u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8], most: usize| {
        let bytes = bytes.get(..bytes.len().min(most)).unwrap_or_default();
        if let Some(room) = block.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
    };
    put(0, name, NAME);
    let fields = [
        (100, 7, numbers.mode),
        (108, 7, numbers.uid),
        (116, 7, numbers.gid),
        (124, 11, numbers.size),
        (136, 11, numbers.seconds),
        (329, 7, numbers.major),
        (337, 7, numbers.minor),
    ];
    for (at, digits, value) in fields {
        put(at, octal(value, digits).unwrap_or_else(|| "0".repeat(digits)).as_bytes(), digits);
    }
    put(148, b"        ", 8);
    put(156, &[letter], 1);
    put(157, link, NAME);
    put(257, b"ustar\x0000", 8);
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    if let Some(room) = block.get_mut(148..156) {
        room.copy_from_slice(sum.as_bytes());
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_themselves() {
        for length in 0..1200 {
            let mut records = Vec::new();
            record(&mut records, b"path", &vec![b'x'; length]);
            let digits: String =
                records.iter().take_while(|byte| **byte != b' ').map(|byte| char::from(*byte)).collect();
            assert_eq!(digits.parse::<usize>().unwrap(), records.len(), "{length}");
        }
    }

    #[test]
    fn numbers_and_times() {
        assert_eq!(octal(0o7_777_777, 7).as_deref(), Some("7777777"));
        assert_eq!(octal(0o10_000_000, 7), None);
        assert_eq!(mtime(12, 5), "12.000000005");
        assert_eq!(mtime(-2, 500_000_000), "-1.500000000");
        assert_eq!(mtime(-2, 0), "-2");
        let block = block(b"a/b", b'0', b"", &Numbers { mode: 0o644, size: 5, ..Numbers::default() });
        assert_eq!(&block[..4], b"a/b\0");
        assert_eq!(&block[257..265], b"ustar\x0000");
        let sum: u64 =
            block.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { u64::from(*b) }).sum();
        assert_eq!(&block[148..156], format!("{sum:06o}\0 ").as_bytes());
    }
}
