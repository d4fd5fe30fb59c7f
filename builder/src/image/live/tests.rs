//! Images that mksquashfs has written, read again.

use std::fs;
use std::path::PathBuf;

use super::prove::prove;
use super::squash::{self, Expected, Order};
use crate::layer::format::Compression;
use crate::tar::{Entries, Entry, Kind, TarError};

/// What stands in a file, often enough to be found in an image that is not compressed.
const CONTENT: &[u8] = b"what stands in it";

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes an image of a tree.
    fn write(&self, tree: &[Entry], content: &[u8], compression: &str) -> anyhow::Result<(PathBuf, Expected)> {
        let compression: Compression = compression.parse().unwrap();
        let order = Order { compression: &compression, jobs: None, time: 7 };
        let image = self.0.path().join("image");
        let mut fed = Fed { tree: tree.iter(), content, at: 0 };
        let expected = squash::write(&mut fed, &order, &image, &self.0.path().join("log"))?;
        Ok((image, expected))
    }

    /// What is said of an image of one tree when another one was given.
    fn compared(&self, written: &[Entry], given: &[Entry]) -> String {
        let (_, expected) = self.write(given, CONTENT, "zstd").unwrap();
        let (image, _) = self.write(written, CONTENT, "zstd").unwrap();
        format!("{:#}", prove(&image, &expected).unwrap_err())
    }
}

/// A tree as it comes edited; all its files have this content.
struct Fed<'a> {
    tree: std::slice::Iter<'a, Entry>,
    content: &'a [u8],
    at: usize,
}

impl Entries for Fed<'_> {
    fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.at = 0;
        let size = self.content.len() as u64;
        let filled = |entry: &Entry| match entry.kind {
            Kind::File => Entry { size, parts: vec![(0, size)], ..entry.clone() },
            _ => entry.clone(),
        };
        Ok(self.tree.next().map(filled))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        let end = self.at + buffer.len();
        buffer.copy_from_slice(&self.content[self.at..end]);
        self.at = end;
        Ok(())
    }
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: 0o750,
        uid: 1000,
        gid: 70_000,
        mtime: (1_700_000_000, 0),
        size: 0,
        parts: Vec::new(),
        target: if kind == Kind::SymbolicLink { b"file".to_vec() } else { Vec::new() },
        device: if kind == Kind::Character { (1, 3) } else { (0, 0) },
        xattrs: Vec::new(),
    }
}

fn tree() -> Vec<Entry> {
    let kinds = [("dir", Kind::Directory), ("dir/file", Kind::File), ("link", Kind::SymbolicLink)];
    let more = [("null", Kind::Character), ("pipe", Kind::Pipe), ("two words", Kind::File)];
    kinds.into_iter().chain(more).map(|(path, kind)| entry(path, kind)).collect()
}

/// Flips a bit of a byte.
fn flip(image: &PathBuf, at: usize) {
    let mut bytes = fs::read(image).unwrap();
    bytes[at] ^= 1;
    fs::write(image, bytes).unwrap();
}

#[test]
fn what_was_written_is_what_went_in() {
    let bench = Bench::new();
    for compression in ["none", "zstd", "gzip"] {
        let (image, expected) = bench.write(&tree(), CONTENT, compression).unwrap();
        assert_eq!(expected.nodes.len(), tree().len());
        prove(&image, &expected).unwrap();
    }
}

#[test]
fn a_flipped_byte_is_found() {
    let bench = Bench::new();
    let (image, expected) = bench.write(&tree(), CONTENT, "none").unwrap();
    let bytes = fs::read(&image).unwrap();
    flip(&image, bytes.windows(CONTENT.len()).position(|window| window == CONTENT).unwrap());
    let said = format!("{:#}", prove(&image, &expected).unwrap_err());
    assert!(said.contains("/dir/file has other content") && said.contains("thrown away"), "{said}");

    // In what is compressed the program that unpacks it finds it, or the comparison.
    let (image, expected) = bench.write(&tree(), &CONTENT.repeat(1 << 14), "zstd").unwrap();
    prove(&image, &expected).unwrap();
    flip(&image, 120);
    prove(&image, &expected).unwrap_err();
}

#[test]
fn a_missing_entry_and_one_too_many_are_found() {
    let (bench, all) = (Bench::new(), tree());
    let without: Vec<Entry> = all.iter().filter(|entry| entry.path != b"null").cloned().collect();
    assert!(bench.compared(&without, &all).contains("/null is not in it"));
    assert!(bench.compared(&all, &without).contains("/null is in it, and was not given"));
}

#[test]
fn a_wrong_owner_mode_time_and_target_are_found() {
    let (bench, all) = (Bench::new(), tree());
    let changes: [fn(&mut Entry); 5] = [
        |entry| entry.uid = 0,
        |entry| entry.gid = 0,
        |entry| entry.mode = 0o4750,
        |entry| entry.mtime.0 += 1,
        |entry| entry.device.1 += 1,
    ];
    for change in changes {
        let mut other = all.clone();
        let null = other.iter_mut().find(|entry| entry.path == b"null").unwrap();
        change(null);
        let said = bench.compared(&other, &all);
        assert!(said.contains("/null has another type, owner, mode, time, size or target"), "{said}");
    }
    let mut other = all.clone();
    other.iter_mut().find(|entry| entry.path == b"link").unwrap().target = b"dir".to_vec();
    assert!(bench.compared(&other, &all).contains("/link has another type, owner, mode, time, size or target"));
}
