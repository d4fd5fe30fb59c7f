//! A pool of ours with other bytes in some places, whose checksums are not looked at: reading it back ends in what it holds or in a
//! reason.
#![no_main]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use taproot::pool::{Compression, Dataset, Device, Disk, Options, Snapshot, Volume, verify_any, write};
use taproot::tar::{Entries, Entry, Kind, TarError};

const SIZE: u64 = 64 << 20;
/// Where the pool's blocks begin.
const START: u64 = 4 << 20;

/// Files of several sizes in one directory.
struct Files(u64);

impl Entries for Files {
    fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.0 += 1;
        if self.0 > 300 {
            return Ok(None);
        }
        let size = self.0 * self.0 * 3;
        Ok(Some(Entry {
            path: format!("files/a name that fits in no micro ZAP, whatever its number may be: {}", self.0).into_bytes(),
            kind: Kind::File,
            mode: 0o644,
            uid: 1,
            gid: 2,
            mtime: (3, 4),
            size,
            parts: vec![(0, size)],
            target: Vec::new(),
            device: (0, 0),
            xattrs: vec![(b"user.x".to_vec(), vec![7; usize::try_from(self.0 * 10).unwrap_or(0)])],
        }))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        buffer.iter_mut().zip(0_u64..).for_each(|(byte, at)| *byte = (at * self.0 % 251).to_le_bytes()[0]);
        Ok(())
    }
}

/// A small pool with one of everything, and how many bytes it takes.
fn pool() -> (Vec<u8>, u64) {
    let file: File = tempfile();
    file.set_len(SIZE).expect("room for a pool");
    let snapshot = Some(Snapshot { name: "s".into(), holds: vec!["h".into()] });
    let volume = Some(Volume { size: 1 << 20, block_size: 8192, content: None });
    let options = Options {
        name: "fuzz".into(),
        size: SIZE,
        jobs: 1,
        datasets: vec![
            Dataset { name: "root".into(), tree: Some("/".into()), snapshot, ..Dataset::default() },
            Dataset {
                name: "zstd".into(),
                tree: Some("/files/x".into()),
                compression: Some(Compression::Zstd(3)),
                ..Dataset::default()
            },
            Dataset { name: "volume".into(), volume, ..Dataset::default() },
            Dataset { name: "clone".into(), clone_of: Some("root".into()), ..Dataset::default() },
        ],
        ..Options::default()
    };
    let made = write(&file, &options, &mut Files(0)).expect("a pool");
    verify_any(&Device { file: &file, offset: 0 }, SIZE).expect("a good pool");
    let mut bytes = vec![0; usize::try_from(SIZE).expect("64 MiB")];
    file.read_exact_at(&mut bytes, 0).expect("what was written");
    (bytes, made.allocated)
}

fn tempfile() -> File {
    let path = std::env::temp_dir().join(format!("taproot-fuzz-{}", std::process::id()));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
    std::fs::remove_file(path).expect("it is there");
    file
}

/// The pool with the input's bytes: each piece has three bytes of place, one of length, and its bytes.
struct Patched<'p> {
    pool: &'p [u8],
    pieces: Vec<(u64, &'p [u8])>,
}

impl Disk for Patched<'_> {
    fn is_unchecked(&self) -> bool {
        true
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        let end = offset + buffer.len() as u64;
        let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
        let bytes = range.and_then(|(from, to)| self.pool.get(from..to)).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        for (at, bytes) in &self.pieces {
            for (place, byte) in (*at..).zip(*bytes).filter(|(place, _)| (offset..end).contains(place)) {
                buffer[usize::try_from(place - offset).expect("inside")] = *byte;
            }
        }
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    static POOL: OnceLock<(Vec<u8>, u64)> = OnceLock::new();
    let (pool, allocated) = POOL.get_or_init(pool);
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while let [a, b, c, length, more @ ..] = rest {
        let (piece, more) = more.split_at(usize::from(*length).min(more.len()));
        pieces.push((START + u64::from_le_bytes([*a, *b, *c, 0, 0, 0, 0, 0]) % allocated, piece));
        rest = more;
    }
    match verify_any(&Patched { pool, pieces }, SIZE) {
        Ok(found) => assert!(found.contents.len() < 1000),
        Err(problem) => assert!(!problem.to_string().is_empty()),
    }
});
