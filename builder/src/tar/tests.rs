use proptest::prelude::*;

use super::*;
use crate::made::tar::{Made, archive, padded, pax};

fn file(path: &str, content: &[u8]) -> Vec<u8> {
    let whole = archive(&[Made { mtime: (0o14_000_000_000, 0), owner: (1000, 0), ..Made::file(path, content) }]);
    whole[..whole.len() - 2 * BLOCK].to_vec()
}

fn entries(archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut archive = Archive::new(archive);
    let mut all = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        let mut content = vec![0; entry.parts.iter().map(|(_, length)| usize::try_from(*length).unwrap()).sum()];
        archive.read(&mut content)?;
        all.push((entry, content));
    }
    Ok(all)
}

#[test]
fn files_with_what_extended_headers_say() {
    let long = "d/".repeat(100) + "file";
    let acl = b"user::rw-\nuser:1000:r--\ngroup::r--\nmask::r--\nother::---\n";
    let archive = [
        pax(&[
            ("path", long.as_bytes()),
            ("mtime", b"-1.25"),
            ("uid", b"3000000000"),
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02"),
            ("LIBARCHIVE.xattr.user.a%20b", b"YWI="),
            ("SCHILY.acl.access", acl),
        ]),
        file("short", b"content"),
        file("plain", b""),
        vec![0; 2 * BLOCK],
    ]
    .concat();
    let found = entries(&archive).unwrap();
    let (entry, content) = &found[0];
    assert_eq!((entry.path.as_slice(), content.as_slice()), (long.as_bytes(), &b"content"[..]));
    assert_eq!((entry.mtime, entry.uid), ((-2, 750_000_000), 3_000_000_000));
    let list = [
        &[2, 0, 0, 0][..],
        &[1, 0, 6, 0, 255, 255, 255, 255],
        &[2, 0, 4, 0, 0xe8, 3, 0, 0],
        &[4, 0, 4, 0, 255, 255, 255, 255],
        &[16, 0, 4, 0, 255, 255, 255, 255],
        &[32, 0, 0, 0, 255, 255, 255, 255],
    ]
    .concat();
    let expected: [(&[u8], &[u8]); 3] =
        [(b"security.capability", b"\x01\0\0\x02"), (b"system.posix_acl_access", &list), (b"user.a b", b"ab")];
    let xattrs: Vec<(&[u8], &[u8])> = entry.xattrs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    assert_eq!(xattrs, expected);
    // The next one has nothing of it.
    let (entry, _) = &found[1];
    assert_eq!((entry.path.as_slice(), entry.uid, entry.mtime), (&b"plain"[..], 1000, (0o14_000_000_000, 0)));
    assert!(entry.xattrs.is_empty() && entry.parts.is_empty());
}

#[test]
fn sparse_files_are_maps() {
    let map = b"2\n1048576\n5\n3145728\n0\n";
    let stored = [padded(map), b"hello".to_vec()].concat();
    let sparse: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"big"),
        ("GNU.sparse.realsize", b"3145728"),
    ];
    let archive = [pax(sparse), file("GNUSparseFile.1/big", &stored)].concat();
    let found = entries(&archive).unwrap();
    let (entry, content) = &found[0];
    assert_eq!(
        (entry.path.as_slice(), entry.size, entry.parts.as_slice()),
        (&b"big"[..], 3_145_728, &[(1_048_576, 5)][..])
    );
    assert_eq!(content, b"hello");
    let lies = [pax(sparse), file("GNUSparseFile.1/big", &padded(map))].concat();
    assert!(entries(&lies).unwrap_err().to_string().contains("0 found"));
    let endless = [pax(sparse), file("GNUSparseFile.1/big", &padded(b"1048577\n"))].concat();
    assert!(entries(&endless).unwrap_err().to_string().contains("at most 1048576 parts"));
}

#[test]
fn what_is_cut_or_damaged_is_said() {
    let whole = file("etc/passwd", &[7; 1000]);
    let said = |bytes: &[u8]| entries(bytes).unwrap_err().to_string();
    assert!(said(&whole[..1200]).contains("inside etc/passwd"));
    assert!(said(&whole[..300]).contains("inside a header"));
    let mut damaged = whole.clone();
    damaged[3] ^= 1;
    assert!(said(&damaged).contains("byte 0"));
    assert!(entries(&whole).is_ok());
    assert!(entries(&[]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(mut bytes in proptest::collection::vec(any::<u8>(), 0..3000), records in ".{0,200}") {
        let _ = entries(&bytes);
        // With a header that is right, so that something is read at all.
        let content = records.as_bytes();
        let mut archive = [pax(&[("path", content)]), file("f", b"abc")].concat();
        let _ = entries(&archive);
        archive.append(&mut bytes);
        let _ = entries(&archive);
    }
}

#[test]
fn content_that_is_passed_is_not_read() {
    let large = vec![1; 100_000];
    let bytes = [file("large", &large), file("small", b"abc"), file("last", b"d"), vec![0; 2 * BLOCK]].concat();
    let mut archive = Archive::new(BufReader::with_capacity(2 * BLOCK, std::io::Cursor::new(bytes)));
    let mut found = Vec::new();
    while let Some(entry) = archive.next_entry().unwrap() {
        found.push((entry.path, archive.position()));
        archive.pass().unwrap();
    }
    let behind = 100_000_u64.next_multiple_of(512) + 512;
    let expected = [("large", 512), ("small", 512 + behind), ("last", 512 + behind + 1024)];
    assert_eq!(found, expected.map(|(path, at)| (path.as_bytes().to_vec(), at)));
}
