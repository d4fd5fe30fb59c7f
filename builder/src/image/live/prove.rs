//! A squashfs, read again and compared with what went in, entry by entry and byte by byte, without a mount: unsquashfs says it all as a
//! list with the files' content behind it (`-pf`, `pseudo-file` of its manual). Extended attributes are among what it says from 4.6 on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::squash::{Expected, Node};
use crate::layer::{image, squashfs};
use crate::tar::Kind;

/// What stands between the list and the content.
const DATA: &[u8] = b"# START OF DATA - DO NOT MODIFY\n#\n";
/// The first unsquashfs that says extended attributes.
const ATTRIBUTES: squashfs::Version = (4, 6);
/// So many differences are named.
const NAMED: usize = 3;
/// Bytes that are read at once.
const PIECE: usize = 1 << 18;

/// Fails if the image is not what is expected.
pub(super) fn prove(path: &Path, expected: &Expected) -> Result<()> {
    image::whole(path)?;
    let mut command = Command::new("unsquashfs");
    command.args(["-no-progress", "-quiet", "-pf", "/dev/stdout"]).arg(path).env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("unsquashfs is not there, and reads the image again: install squashfs-tools")
        }
        child => child.context("starting unsquashfs")?,
    };
    let mut out = BufReader::with_capacity(PIECE, child.stdout.take().context("no way from unsquashfs")?);
    let compared = compare(&mut out, expected, squashfs::version()? >= ATTRIBUTES);
    drop(out);
    let ended = child.wait_with_output().context("waiting for unsquashfs")?;
    let differences = compared.with_context(|| String::from_utf8_lossy(&ended.stderr).trim().to_owned())?;
    ensure!(
        differences.is_empty(),
        "mksquashfs wrote something else than it was given, and it was thrown away: {}",
        differences.join("; ")
    );
    ensure!(ended.status.success(), "unsquashfs: {}: {}", ended.status, String::from_utf8_lossy(&ended.stderr).trim());
    Ok(())
}

/// `attributes`: whether they are among what is said.
fn compare(out: &mut dyn BufRead, expected: &Expected, attributes: bool) -> Result<Vec<String>> {
    let mut list = Vec::new();
    while !list.ends_with(DATA) {
        let read = out.read_until(b'\n', &mut list).context("reading the image again")?;
        ensure!(read > 0, "reading the image again: expected a list of what is in it, found no end of one");
    }
    list.truncate(list.len() - DATA.len());
    let mut differences = Differences::default();
    let (mut seen, mut files) = (BTreeSet::new(), Vec::new());
    let mut found_attributes: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut rest = list.as_slice();
    while !rest.is_empty() && !rest.starts_with(b"#\n") {
        let line = Line::parse(&mut rest, expected).context("reading the image again: a line of another form")?;
        if line.path == b"/" {
            continue;
        }
        let first = expected.first(&line.path);
        if let What::Attribute(text) = line.what {
            found_attributes.entry(first.to_vec()).or_default().insert(text);
            continue;
        }
        match (&line.what, expected.nodes.get(first)) {
            (_, None) => differences.note(&line.path, "is in it, and was not given"),
            (What::Link(other), Some(_)) if expected.first(other) != first => {
                differences.note(&line.path, "is another name of something else");
            }
            (What::Link(_) | What::Attribute(_), Some(_)) => {}
            (What::Node(found, offset), Some(node)) => {
                if found.kind == Kind::File {
                    files.push((*offset, line.path.clone(), node));
                }
                if !same(node, found) {
                    differences.note(&line.path, "has another type, owner, mode, time, size or target");
                }
            }
        }
        seen.insert(line.path);
    }
    for path in expected.nodes.keys().chain(expected.links.keys()).filter(|path| !seen.contains(*path)) {
        differences.note(path, "is not in it");
    }
    for (path, node) in expected.nodes.iter().filter(|_| attributes) {
        if found_attributes.remove(path).unwrap_or_default() != node.attributes.iter().map(attribute).collect() {
            differences.note(path, "has other extended attributes");
        }
    }
    // What has no content may lie at the same place as what comes behind it.
    files.sort_by_key(|(offset, _, node)| (*offset, node.size));
    let mut at = 0;
    for (offset, path, node) in &files {
        ensure!(*offset == at, "reading the image again: expected content at {at}, found it at {offset}");
        at += node.size;
        if sum(out, node.size)? != node.sum {
            differences.note(path, "has other content");
        }
    }
    Ok(differences.0)
}

/// An attribute as unsquashfs writes it: a value with other bytes than printable ones has them, and backslashes, in octal digits.
fn attribute((name, value): (&Vec<u8>, &Vec<u8>)) -> Vec<u8> {
    let printable = |byte: &u8| matches!(byte, b' '..=b'~');
    let mut text = [name.as_slice(), b"="].concat();
    if value.iter().all(printable) {
        text.extend(value);
        return text;
    }
    text.extend(b"0t");
    for byte in value {
        match byte {
            b'\\' => text.extend(b"\\134"),
            byte if printable(byte) => text.push(*byte),
            byte => text.extend(format!("\\{byte:03o}").into_bytes()),
        }
    }
    text
}

/// Attributes are compared by themselves.
fn same(expected: &Node, found: &Node) -> bool {
    let (sum, attributes) = (expected.sum, expected.attributes.clone());
    // A link's mode is nobody's.
    let mode = if expected.kind == Kind::SymbolicLink { expected.mode } else { found.mode };
    *expected == Node { mode, sum, attributes, ..found.clone() }
}

fn sum(out: &mut dyn BufRead, size: u64) -> Result<[u8; 32]> {
    let (mut sum, mut left, mut buffer) = (Sha256::new(), size, vec![0; PIECE]);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let piece = buffer.get_mut(..most).unwrap_or_default();
        out.read_exact(piece).context("reading the image again: its content ends too early")?;
        sum.update(&*piece);
        left -= most as u64;
    }
    Ok(sum.finalize().into())
}

/// Differences that are named, up to a few.
#[derive(Debug, Default)]
struct Differences(Vec<String>);

impl Differences {
    fn note(&mut self, path: &[u8], what: &str) {
        if self.0.len() < NAMED {
            self.0.push(format!("/{} {what}", String::from_utf8_lossy(path)));
        }
    }
}

/// A line of the list.
struct Line {
    path: Vec<u8>,
    what: What,
}

enum What {
    /// An entry; of a file also where its content begins.
    Node(Node, u64),
    /// Another name of this one.
    Link(Vec<u8>),
    /// An attribute of an entry that was named before: `NAME=VALUE`.
    Attribute(Vec<u8>),
}

impl Line {
    /// Takes the first line off. Names have backslashes before blanks, quotes and backslashes; a line's end is not marked in them, nor
    /// in a link's target, whose length is known.
    fn parse(rest: &mut &[u8], expected: &Expected) -> Option<Self> {
        let path = name(rest)?;
        let kind = *rest.first()?;
        *rest = rest.get(2..)?;
        if let b'L' | b'x' = kind {
            let line = until(rest, b'\n')?.to_vec();
            return Some(Self { path, what: if kind == b'L' { What::Link(line) } else { What::Attribute(line) } });
        }
        let mut head = [0; 4];
        for (value, (base, end)) in
            head.iter_mut().zip([(10, b' '), (8, b' '), (10, b' '), (10, if kind == b'D' { b'\n' } else { b' ' })])
        {
            *value = number(until(rest, end)?, base)?;
        }
        let [time, mode, uid, gid] = head;
        let mut node = Node {
            kind: Kind::Directory,
            mode,
            owner: (uid, gid),
            time,
            size: 0,
            sum: [0; 32],
            target: Vec::new(),
            device: (0, 0),
            attributes: BTreeMap::new(),
        };
        let mut offset = 0;
        match kind {
            b'D' => {}
            b'R' => {
                // Size and place, and since 4.6 whether there are holes.
                let mut words = until(rest, b'\n')?.split(|byte| *byte == b' ');
                (node.kind, node.size, offset) = (Kind::File, number(words.next()?, 10)?, number(words.next()?, 10)?);
            }
            b'C' | b'B' => {
                node.kind = if kind == b'C' { Kind::Character } else { Kind::Block };
                node.device = (number(until(rest, b' ')?, 10)?, number(until(rest, b'\n')?, 10)?);
            }
            b'I' => {
                node.kind = Kind::Pipe;
                until(rest, b'\n').filter(|what| *what == b"f")?;
            }
            b'S' => {
                node.kind = Kind::SymbolicLink;
                let length = expected.nodes.get(expected.first(&path)).map_or(0, |node| node.target.len());
                let known = rest.get(length) == Some(&b'\n');
                node.target = if known { rest.get(..length)?.to_vec() } else { until(&mut &**rest, b'\n')?.to_vec() };
                *rest = rest.get(node.target.len() + 1..)?;
            }
            _ => return None,
        }
        Some(Self { path, what: What::Node(node, offset) })
    }
}

/// A number of these digits.
fn number<T: TryFrom<u64>>(digits: &[u8], base: u32) -> Option<T> {
    T::try_from(u64::from_str_radix(std::str::from_utf8(digits).ok()?, base).ok()?).ok()
}

/// Takes a name off, and the blank behind it.
fn name(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut path = Vec::new();
    loop {
        let (byte, more) = rest.split_first()?;
        *rest = more;
        match byte {
            b' ' => return Some(path),
            b'\\' => {
                let (byte, more) = rest.split_first()?;
                *rest = more;
                path.push(*byte);
            }
            byte => path.push(*byte),
        }
    }
}

/// Takes off what stands before a byte, and that.
fn until<'a>(rest: &mut &'a [u8], end: u8) -> Option<&'a [u8]> {
    let at = rest.iter().position(|byte| *byte == end)?;
    let (found, more) = rest.split_at(at);
    *rest = more.get(1..)?;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8], attributes: &[(&str, &[u8])]) -> Node {
        let attributes = attributes.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect();
        Node {
            kind: Kind::File,
            mode: 0o4755,
            owner: (0, 5),
            time: 7,
            size: content.len() as u64,
            sum: Sha256::digest(content).into(),
            target: Vec::new(),
            device: (0, 0),
            attributes,
        }
    }

    fn expected() -> Expected {
        let mut all = Expected::default();
        let link = Node { kind: Kind::SymbolicLink, mode: 0o777, size: 0, target: b"a\nb".to_vec(), ..file(b"", &[]) };
        let capability: &[u8] = b"\x01\0\\x";
        all.nodes.insert(b"a b".to_vec(), file(b"one", &[("security.capability", capability), ("user.x", b"y \\")]));
        all.nodes.insert(b"empty".to_vec(), file(b"", &[]));
        all.nodes.insert(b"link".to_vec(), Node { owner: (0, 0), time: 0, sum: [0; 32], ..link });
        all.links.insert(b"again".to_vec(), b"a b".to_vec());
        all
    }

    const LIST: &str = "/ D 0 755 0 0\na\\ b R 7 4755 0 5 3 0 0\na\\ b x security.capability=0t\\001\\000\\134x\n\
        a\\ b x user.x=y \\\nagain L a b\nempty R 7 4755 0 5 0 3 0\nlink S 0 777 0 0 a\nb\n#\n";

    fn said(list: &str, content: &str, attributes: bool) -> Result<Vec<String>> {
        let data = [list.as_bytes(), DATA, content.as_bytes()].concat();
        compare(&mut data.as_slice(), &expected(), attributes)
    }

    #[test]
    fn what_went_in_is_what_is_in_it() {
        assert_eq!(said(LIST, "one", true).unwrap(), [""; 0]);
        let older: String = LIST.split_inclusive('\n').filter(|line| !line.contains(" x ")).collect();
        assert_eq!(said(&older, "one", false).unwrap(), [""; 0]);
        assert_eq!(said(&older, "one", true).unwrap(), ["/a b has other extended attributes"]);
    }

    #[test]
    fn each_difference_is_named() {
        for (from, to, what) in [
            ("4755 0 5 3", "755 0 5 3", "/a b has another type, owner, mode, time, size or target"),
            ("4755 0 5 3", "4755 5 5 3", "/a b has another type, owner, mode, time, size or target"),
            ("a\nb\n#", "a\nc\n#", "/link has another type, owner, mode, time, size or target"),
            ("user.x=y", "user.x=z", "/a b has other extended attributes"),
            ("empty R 7 4755 0 5 0 3 0\n", "", "/empty is not in it"),
            ("again L a b", "other L a b", "/other is in it, and was not given"),
        ] {
            assert!(LIST.contains(from), "{from:?}");
            let found = said(&LIST.replacen(from, to, 1), "one", true).unwrap();
            assert!(found.iter().any(|found| found == what), "{from:?}: {found:?}");
        }
        assert_eq!(said(LIST, "two", true).unwrap(), ["/a b has other content"]);
        assert!(format!("{:#}", said(LIST, "on", true).unwrap_err()).contains("ends too early"));
        assert!(format!("{:#}", said("a Q 1\n", "", true).unwrap_err()).contains("another form"));
    }
}
