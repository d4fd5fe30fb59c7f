//! Superblocks made by hand at the offsets that blkid(8) uses; swap and ext4 are read from real ones in the scenarios.

use super::*;
use std::io;

/// A device in memory: pieces at offsets, zeros elsewhere.
fn device(pieces: &[(u64, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 0x20000];
    for (at, piece) in pieces {
        let at = usize::try_from(*at).unwrap();
        bytes[at..at + piece.len()].copy_from_slice(piece);
    }
    bytes
}

/// Kind, label, UUID.
type Seen = Option<(&'static str, Option<String>, Option<String>)>;

/// Reads such a device.
fn reader(bytes: &[u8]) -> impl FnMut(u64, &mut [u8]) -> io::Result<()> {
    |offset, buf| {
        let at = usize::try_from(offset).unwrap();
        let part = bytes.get(at..at.saturating_add(buf.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(part);
        Ok(())
    }
}

fn look(pieces: &[(u64, &[u8])]) -> Seen {
    let bytes = device(pieces);
    superblock(&mut reader(&bytes), bytes.len() as u64).unwrap().map(|s| (s.kind, s.label, s.uuid))
}

const ID: &[u8] = &[0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8];
const UUID: &str = "12345678-9abc-def0-0102-030405060708";

#[allow(clippy::unnecessary_wraps)] // the type of what it is compared with
fn some(kind: &'static str, label: &str, uuid: &str) -> Seen {
    Some((kind, Some(label.to_owned()), Some(uuid.to_owned())))
}

#[test]
fn linux_file_systems() {
    assert_eq!(look(&[(1080, &[0x53, 0xef]), (1128, ID), (1144, b"KEYS")]), some("ext4", "KEYS", UUID));
    assert_eq!(look(&[(1080, &[0x53, 0xef])]), Some(("ext4", None, None)));
    assert_eq!(look(&[(0, b"XFSB"), (32, ID), (108, b"twelve chars")]), some("xfs", "twelve chars", UUID));
    let btrfs: &[(u64, &[u8])] = &[(0x10040, b"_BHRfS_M"), (0x10020, ID), (0x10000 + 299, b"b label")];
    assert_eq!(look(btrfs), some("btrfs", "b label", UUID));
    for name in [b"SWAPSPACE2".as_slice(), b"S1SUSPEND\0"] {
        assert_eq!(look(&[(4086, name), (1036, ID), (1052, b"swap")]), some("swap", "swap", UUID));
    }
    let f2fs: &[(u64, &[u8])] = &[(1024, &[0x10, 0x20, 0xf5, 0xf2]), (1132, ID), (1148, b"f\x002\0")];
    assert_eq!(look(f2fs), some("f2fs", "f2", UUID));
    assert_eq!(look(&[]), None);
}

/// A root directory that begins behind what 64 bits can count.
#[test]
fn an_exfat_that_lies_is_no_reason_to_stop() {
    let cluster_heap: u32 = 0xffff_ffff;
    let root_cluster: u32 = (1 << 27) + 1;
    let lies: &[(u64, &[u8])] =
        &[(3, b"EXFAT   "), (88, &cluster_heap.to_le_bytes()), (96, &root_cluster.to_le_bytes()), (108, &[12, 25])];
    assert_eq!(look(lies), None);
}

#[test]
fn discs() {
    let mut pieces: Vec<(u64, &[u8])> = vec![(0x8000, b"\x01CD001"), (0x8028, b"KEY DISC        ")];
    pieces.push((0x8000 + 813, b"2026010203040506"));
    pieces.push((0x8000 + 830, b"0000000000000000"));
    assert_eq!(look(&pieces), some("iso9660", "KEY DISC", "2026-01-02-03-04-05-06"));
}

#[test]
fn sticks() {
    let entry = |name: &[u8; 11], kind: u8| {
        let mut entry = [0_u8; 32];
        entry[..11].copy_from_slice(name);
        entry[11] = kind;
        entry
    };
    // 512-byte sectors, 1 sector a cluster, 1 reserved, 2 tables of 4 sectors, 512 root entries: root at sector 9.
    let geometry: &[u8] = &[0, 2, 1, 1, 0, 2, 0, 2, 0, 0, 0, 4, 0];
    let mut pieces: Vec<(u64, &[u8])> = vec![(510, &[0x55, 0xaa]), (54, b"FAT16   "), (11, geometry)];
    pieces.push((39, &[0xcd, 0xab, 0x34, 0x12]));
    pieces.push((43, b"OLD NAME   "));
    assert_eq!(look(&pieces), some("vfat", "OLD NAME", "1234-ABCD"));
    let (gone, long, label) = (entry(b"\xe5ONE       ", 8), entry(b"A\0b\0c\0     ", 15), entry(b"KEYS       ", 8));
    let (dir, file) = (entry(b"DIR        ", 16), entry(b"FILE    TXT", 32));
    for (at, entry) in (9 * 512..).step_by(32).zip([&gone, &long, &dir, &file, &label]) {
        pieces.push((at, entry));
    }
    assert_eq!(look(&pieces), some("vfat", "KEYS", "1234-ABCD"));

    // The same on FAT32: root directory in cluster 3, one sector behind the first.
    let mut pieces: Vec<(u64, &[u8])> = vec![(510, &[0x55, 0xaa]), (82, b"FAT32   "), (11, &[0, 2, 1, 1, 0, 2])];
    pieces.push((36, &[4, 0, 0, 0]));
    pieces.push((44, &[3, 0, 0, 0]));
    pieces.push((67, &[0xcd, 0xab, 0x34, 0x12]));
    pieces.push((71, b"NO NAME    "));
    assert_eq!(look(&pieces), Some(("vfat", None, Some("1234-ABCD".into()))));
    pieces.push((10 * 512, &label));
    assert_eq!(look(&pieces), some("vfat", "KEYS", "1234-ABCD"));

    let mut pieces: Vec<(u64, &[u8])> = vec![(3, b"EXFAT   "), (88, &[32, 0, 0, 0]), (96, &[4, 0, 0, 0])];
    pieces.push((100, &[0xcd, 0xab, 0x34, 0x12]));
    pieces.push((108, &[9, 3]));
    pieces.push((32 * 512 + 2 * 4096, b"\x83\x04K\0E\0Y\0S\0"));
    assert_eq!(look(&pieces), some("exfat", "KEYS", "1234-ABCD"));
    let ntfs: &[(u64, &[u8])] = &[(3, b"NTFS    "), (72, &[8, 7, 6, 5, 4, 3, 2, 1])];
    assert_eq!(look(ntfs), Some(("ntfs3", None, Some("0102030405060708".into()))));
}

#[test]
fn spellings() {
    let wanted = |text: &str| Wanted::parse(text).map(|w| w.to_string());
    for text in ["LABEL=a b", "UUID=1234-ABCD", "PARTLABEL=x", "PARTUUID=x", "/dev/sda1", "8:17"] {
        assert_eq!(wanted(text).as_deref(), Some(text));
    }
    assert_eq!(wanted("LABEL=\"a b\"").as_deref(), Some("LABEL=a b"));
    assert_eq!(wanted("/dev/disk/by-label/a\\x20b\\x2fc").as_deref(), Some("LABEL=a b/c"));
    assert_eq!(wanted("/dev/disk/by-partuuid/x").as_deref(), Some("PARTUUID=x"));
    assert_eq!(wanted("/dev/disk/by-id/x").as_deref(), Some("/dev/disk/by-id/x"));
    for text in ["", "LABEL=", "/dev/", "sda1", "8:x", "/etc/key"] {
        assert_eq!(wanted(text), None, "{text}");
    }
}

#[test]
fn images() {
    assert_eq!(look(&[(0, b"hsqs")]), Some(("squashfs", None, None)));
    let erofs: &[(u64, &[u8])] = &[(1024, &[0xe2, 0xe1, 0xf5, 0xe0]), (1072, ID), (1088, b"layer")];
    assert_eq!(look(erofs), some("erofs", "layer", UUID));
}

#[test]
fn what_other_devices_are_made_of() {
    let uuid = b"5f2a0c1e-93aa-4d5b-8b0e-3a5d0f6f3c11";
    let luks: &[(u64, &[u8])] = &[(0, b"LUKS\xba\xbe\0\x02"), (24, b"crypt"), (168, uuid)];
    assert_eq!(look(luks), some("LUKS", "crypt", "5f2a0c1e-93aa-4d5b-8b0e-3a5d0f6f3c11"));
    let luks1: &[(u64, &[u8])] = &[(0, b"LUKS\xba\xbe\0\x01"), (24, b"aes"), (168, uuid)];
    assert_eq!(look(luks1), Some(("LUKS", None, Some("5f2a0c1e-93aa-4d5b-8b0e-3a5d0f6f3c11".into()))));
    let id = b"abcdefGHIJKLMNOPQRSTUVWXYZ012345";
    let lvm: &[(u64, &[u8])] = &[(512, b"LABELONE"), (532, &[32, 0, 0, 0]), (544, id)];
    assert_eq!(look(lvm), Some(("LVM2_member", None, Some("abcdef-GHIJ-KLMN-OPQR-STUV-WXYZ-012345".into()))));
    let magic: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0];
    let end = 0x20000 / 512 - 16_u64;
    for at in [0, 4096, (end & !7) * 512] {
        let md: &[(u64, &[u8])] = &[(at, magic), (at + 16, ID), (at + 32, b"host:0")];
        assert_eq!(look(md), some("linux_raid_member", "host:0", UUID), "{at}");
    }
    let old: &[(u64, &[u8])] =
        &[(0x10000, &[0xfc, 0x4e, 0x2b, 0xa9, 0, 0, 0, 0]), (0x10014, &ID[..4]), (0x10034, &ID[4..])];
    assert_eq!(look(old), Some(("linux_raid_member", None, Some(UUID.into()))));
    // A leg of an old mirror begins with the file system that is in it.
    let leg = [old, &[(1080, &[0x53, 0xef]), (1128, ID)]].concat();
    assert_eq!(look(&leg).unwrap().0, "linux_raid_member");
}

/// Made by the tools that are here.
#[test]
fn real_ones() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let tools: [(&str, &str, &[&str]); 7] = [
        ("ext4", "mkfs.ext4", &["-q", "-F", "-L", "name"]),
        ("ext4", "mkfs.ext2", &["-q", "-F", "-L", "name"]),
        ("xfs", "mkfs.xfs", &["-q", "-f", "-L", "name"]),
        ("btrfs", "mkfs.btrfs", &["-q", "-f", "-L", "name"]),
        ("f2fs", "mkfs.f2fs", &["-q", "-f", "-l", "name"]),
        ("vfat", "mkfs.vfat", &["-n", "name"]),
        ("swap", "mkswap", &["-q", "-f", "-L", "name"]),
    ];
    for (kind, tool, words) in tools {
        let size = 320 << 20;
        std::fs::File::create(path).unwrap().set_len(size).unwrap();
        let Ok(made) = std::process::Command::new(tool).args(words).arg(path).output() else { continue };
        assert!(made.status.success(), "{made:?}");
        let device = std::fs::File::open(path).unwrap();
        let mut read = |at: u64, buf: &mut [u8]| std::os::unix::fs::FileExt::read_exact_at(&device, buf, at);
        let found = superblock(&mut read, size).unwrap().unwrap();
        assert_eq!((found.kind, found.label.as_deref()), (kind, Some("name")), "{tool}");
        let Ok(told) = std::process::Command::new("blkid").args(["-p", "-o", "value", "-s", "UUID", path]).output()
        else {
            continue;
        };
        assert_eq!(found.uuid.unwrap(), String::from_utf8_lossy(&told.stdout).trim(), "{tool}");
    }
}

#[test]
fn partitions_are_told_by_their_place() {
    let mut entry = [0_u8; 128];
    entry[..16].fill(0x11);
    entry[16..32].copy_from_slice(&[0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 1, 2, 3, 4, 5, 6, 7, 8]);
    entry[32..40].copy_from_slice(&8_u64.to_le_bytes());
    entry[56..64].copy_from_slice(&[b'k', 0, 0xe9, 0, b'y', 0, 0, 0]);
    let lba = 2_u64.to_le_bytes();
    let sizes: &[u8] = &[4, 0, 0, 0, 128, 0, 0, 0];
    let header: [(u64, &[u8]); 5] =
        [(510, &[0x55, 0xaa]), (512, b"EFI PART"), (584, &lba), (592, sizes), (1024 + 128, &entry)];
    let table = |pieces: &[(u64, &[u8])]| PartitionTable::read(&mut reader(&device(pieces)), 512).unwrap();
    let gpt = table(&header).unwrap();
    assert_eq!(gpt.partition(1, 4096), Some((UUID.to_owned(), "k\u{e9}y".to_owned())));
    assert_eq!(gpt.partition(1, 8192), None);
    let mbr = table(&[(440, &[0xcd, 0xab, 0x34, 0x12]), (510, &[0x55, 0xaa])]).unwrap();
    assert_eq!(mbr.partition(1, 4096), Some(("1234abcd-01".to_owned(), String::new())));
    assert_eq!(table(&[]), None);
    // A table that is said to lie behind the end.
    let far = u64::MAX.to_le_bytes();
    assert_eq!(table(&[header[0], header[1], (584, &far), header[3]]), Some(PartitionTable::Mbr(0)));
}
