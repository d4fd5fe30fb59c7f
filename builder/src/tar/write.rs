//! Writes entries as POSIX pax archives have them: what has no room in a header stands in records before it.
//!
//! Attributes are records `SCHILY.xattr.NAME`, as GNU tar and star write them, and sparse files have GNU's map, version 1.0: what
//! [`super::Archive`] reads.

use super::header::BLOCK;
use super::{Entries, Entry, Kind, TarError, padding};
use std::io;

/// Of the name and of a link's target in a header.
const NAME: usize = 100;
/// Bytes that are copied at once.
const PIECE: usize = 1 << 18;
/// What an archive ends with.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Zeros behind so many bytes of content.
pub fn pad(size: u64) -> &'static [u8] {
    END.get(..usize::try_from(padding(size)).unwrap_or(0)).unwrap_or_default()
}

/// All that stands before the content of an entry. Behind it come the entry's parts, then [`pad`] of [`stored`] bytes.
pub fn header(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(BLOCK);
    let directory = entry.kind == Kind::Directory;
    let mut name = entry.path.clone();
    if name.is_empty() {
        name.push(b'.');
    }
    if directory && !name.ends_with(b"/") {
        name.push(b'/');
    }
    let map = is_sparse(entry).then(|| map(entry));
    let size = map.as_ref().map_or(0, |map| map.len() as u64) + stored(entry);
    let records = records(entry, &name, size, map.is_some());
    if !records.is_empty() {
        let length = records.len() as u64;
        let numbers = Numbers { size: length, mode: 0o600, ..Numbers::default() };
        out.extend(block(b"pax", b'x', &[], &numbers));
        out.extend_from_slice(&records);
        out.extend_from_slice(pad(length));
    }
    let letter = match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::SymbolicLink => b'2',
        Kind::Character => b'3',
        Kind::Block => b'4',
        Kind::Directory => b'5',
        Kind::Pipe => b'6',
    };
    let numbers = Numbers {
        mode: entry.mode.into(),
        uid: entry.uid.into(),
        gid: entry.gid.into(),
        size,
        seconds: u64::try_from(entry.mtime.0).ok().filter(|seconds| octal(*seconds, 11).is_some()).unwrap_or(0),
        major: entry.device.0.into(),
        minor: entry.device.1.into(),
    };
    out.extend(block(&name, letter, &entry.target, &numbers));
    out.extend(map.unwrap_or_default());
    out
}

/// Bytes of an entry's content in the archive, without the map of a sparse file.
pub fn stored(entry: &Entry) -> u64 {
    if entry.kind == Kind::File { entry.parts.iter().map(|(_, length)| length).sum() } else { 0 }
}

/// Writes entries as an uncompressed archive; gives how many.
pub fn archive(input: &mut dyn Entries, out: &mut dyn io::Write) -> Result<u64, TarError> {
    let mut buffer = vec![0; PIECE];
    let mut count = 0;
    while let Some(entry) = input.next_entry()? {
        out.write_all(&header(&entry))?;
        let mut left = stored(&entry);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let room = buffer.get_mut(..most).unwrap_or_default();
            input.read(room)?;
            out.write_all(room)?;
            left -= most as u64;
        }
        out.write_all(pad(stored(&entry)))?;
        count += 1;
    }
    out.write_all(&END)?;
    Ok(count)
}

fn is_sparse(entry: &Entry) -> bool {
    entry.kind == Kind::File && entry.size > 0 && entry.parts != [(0, entry.size)]
}

/// The map of a sparse file. The last part ends where the file does, if need be with no bytes.
fn map(entry: &Entry) -> Vec<u8> {
    let mut parts = entry.parts.clone();
    if parts.last().is_none_or(|(offset, length)| offset + length != entry.size) {
        parts.push((entry.size, 0));
    }
    let numbers = parts.iter().flat_map(|(offset, length)| [*offset, *length]);
    let mut map = Vec::new();
    for number in std::iter::once(parts.len() as u64).chain(numbers) {
        map.extend_from_slice(number.to_string().as_bytes());
        map.push(b'\n');
    }
    let more = pad(map.len() as u64);
    map.extend_from_slice(more);
    map
}

fn records(entry: &Entry, name: &[u8], size: u64, sparse: bool) -> Vec<u8> {
    let mut records = Vec::new();
    if sparse {
        record(&mut records, b"GNU.sparse.major", b"1");
        record(&mut records, b"GNU.sparse.minor", b"0");
        record(&mut records, b"GNU.sparse.name", name);
        record(&mut records, b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
    }
    if name.len() > NAME {
        record(&mut records, b"path", name);
    }
    if entry.target.len() > NAME {
        record(&mut records, b"linkpath", &entry.target);
    }
    for (key, value) in [("size", size), ("uid", entry.uid.into()), ("gid", entry.gid.into())] {
        let digits = if key == "size" { 11 } else { 7 };
        if octal(value, digits).is_none() {
            record(&mut records, key.as_bytes(), value.to_string().as_bytes());
        }
    }
    let (seconds, nanoseconds) = entry.mtime;
    let fits = u64::try_from(seconds).is_ok_and(|seconds| octal(seconds, 11).is_some());
    if !fits || nanoseconds != 0 {
        record(&mut records, b"mtime", mtime(seconds, nanoseconds).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records
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
    use super::super::Archive;
    use super::*;
    use proptest::prelude::*;

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

    fn kinds() -> impl Strategy<Value = Kind> {
        use Kind::*;
        prop_oneof![
            Just(File),
            Just(File),
            Just(HardLink),
            Just(SymbolicLink),
            Just(Character),
            Just(Block),
            Just(Directory),
            Just(Pipe)
        ]
    }

    prop_compose! {
        fn entries()(
            kind in kinds(), path in "[^\0/]{1,300}", mode in 0_u32..0o10000, uid: u32, gid: u32, seconds in -9_000_000_000_i64..99_000_000_000,
            nanoseconds in 0_u32..1_000_000_000, target in "[^\0]{1,300}", device in (0_u32..4096, 0_u32..1 << 20),
            holes in proptest::collection::vec((0_u64..5000, 1_u64..5000), 0..5), tail in 0_u64..2000,
            xattr in proptest::collection::vec(any::<u8>(), 1..200),
        ) -> Entry {
            let mut entry = Entry {
                path: path.into_bytes(), kind, mode, uid, gid, mtime: (seconds, nanoseconds), size: 0, parts: Vec::new(), target: Vec::new(),
                device: (0, 0), xattrs: vec![(b"user.a".to_vec(), xattr)],
            };
            match kind {
                Kind::File => {
                    for (hole, length) in holes {
                        // Parts that touch are one part to whoever wrote the file, and two to the map: both are read alike.
                        entry.parts.push((entry.size + hole, length));
                        entry.size += hole + length;
                    }
                    entry.size += tail;
                }
                Kind::HardLink | Kind::SymbolicLink => entry.target = target.into_bytes(),
                Kind::Character | Kind::Block => entry.device = device,
                Kind::Directory => entry.path.push(b'/'),
                Kind::Pipe => {}
            }
            entry
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(entries in proptest::collection::vec(entries(), 1..5)) {
            let mut archive = Vec::new();
            for entry in &entries {
                archive.extend(header(entry));
                archive.extend(vec![7; usize::try_from(stored(entry)).unwrap()]);
                archive.extend(pad(stored(entry)));
            }
            archive.extend(END);
            let mut read = Archive::new(archive.as_slice());
            for entry in &entries {
                prop_assert_eq!(&read.next_entry().unwrap().unwrap(), entry);
            }
            prop_assert!(read.next_entry().unwrap().is_none());
        }
    }
}
