//! Superblocks made by hand at the offsets that blkid(8) uses; swap and ext4 are read from real ones in the scenarios.

use super::*;
use std::os::unix::fs::{FileExt as _, symlink};

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

fn look(pieces: &[(u64, &[u8])]) -> Seen {
    let bytes = device(pieces);
    let mut read = |offset: u64, buf: &mut [u8]| {
        let at = usize::try_from(offset).unwrap();
        let part = bytes.get(at..at + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(part);
        Ok(())
    };
    superblock(&mut read).unwrap().map(|s| (s.kind, s.label, s.uuid))
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

/// A sysfs with one disk and its partition, and their nodes as files.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new(disk: &[(u64, &[u8])], partition: &[(u64, &[u8])], uevent: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (sys, dev) = (dir.path().join("sys"), dir.path().join("dev"));
        fs::create_dir_all(sys.join("class/block")).unwrap();
        fs::create_dir_all(sys.join("devices/vdb/vdb1")).unwrap();
        fs::create_dir_all(sys.join("devices/vdb/queue")).unwrap();
        fs::create_dir_all(&dev).unwrap();
        for (path, text) in [
            ("vdb/size", "4096"),
            ("vdb/queue/logical_block_size", "512"),
            ("vdb/uevent", "MAJOR=254\nMINOR=16\nDISKSEQ=1\n"),
            ("vdb/vdb1/size", "2048"),
            ("vdb/vdb1/start", "2048"),
            ("vdb/vdb1/partition", "1"),
            ("vdb/vdb1/uevent", uevent),
        ] {
            fs::write(sys.join("devices").join(path), format!("{text}\n")).unwrap();
        }
        symlink(sys.join("devices/vdb"), sys.join("class/block/vdb")).unwrap();
        symlink(sys.join("devices/vdb/vdb1"), sys.join("class/block/vdb1")).unwrap();
        fs::write(dev.join("vdb"), device(disk)).unwrap();
        fs::write(dev.join("vdb1"), device(partition)).unwrap();
        Self(dir)
    }

    fn find(&self, wanted: &str) -> Option<(String, Option<&'static str>)> {
        let mut prober = Prober::new(&self.0.path().join("sys"), &self.0.path().join("dev"));
        let mut read_at = |node: &Path, at: u64, buf: &mut [u8]| fs::File::open(node)?.read_exact_at(buf, at);
        let found = prober.find(&Wanted::parse(wanted).unwrap(), &mut read_at)?;
        Some((found.node.file_name().unwrap().to_string_lossy().into_owned(), found.kind))
    }
}

const EXT: &[(u64, &[u8])] = &[(1080, &[0x53, 0xef]), (1128, ID), (1144, b"KEYS")];

#[test]
fn devices_are_found_by_what_is_on_them() {
    let machine = Machine::new(&[], EXT, "MAJOR=254\nMINOR=17\nPARTN=1\nPARTNAME=keys");
    let vdb1 = Some(("vdb1".to_owned(), Some("ext4")));
    for wanted in ["LABEL=KEYS", &format!("UUID={}", UUID.to_uppercase()), "PARTLABEL=keys", "254:17"] {
        assert_eq!(machine.find(wanted), vdb1, "{wanted}");
    }
    let node = format!("/dev/../{}", machine.0.path().join("dev/vdb1").display());
    assert_eq!(machine.find(&node), vdb1);
    for wanted in ["LABEL=keys", "UUID=1234", "PARTLABEL=KEYS", "254:18", "/dev/nonexistent"] {
        assert_eq!(machine.find(wanted), None, "{wanted}");
    }
}

#[test]
fn partition_uuids_come_from_the_table() {
    let mut entry = [0_u8; 128];
    entry[..16].fill(0x11);
    entry[16..32].copy_from_slice(&[0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 1, 2, 3, 4, 5, 6, 7, 8]);
    entry[32..40].copy_from_slice(&2048_u64.to_le_bytes());
    entry[56..64].copy_from_slice(&[b'k', 0, 0xe9, 0, b'y', 0, 0, 0]);
    let lba = 2_u64.to_le_bytes();
    let sizes: &[u8] = &[4, 0, 0, 0, 128, 0, 0, 0];
    let header: [(u64, &[u8]); 4] = [(512, b"EFI PART"), (512 + 72, &lba), (512 + 80, sizes), (1024 + 128, &entry)];
    let machine = Machine::new(&header, EXT, "PARTN=1\nPARTNAME=k|y");
    assert_eq!(machine.find(&format!("PARTUUID={UUID}")).unwrap().0, "vdb1");
    assert_eq!(machine.find("PARTLABEL=k\u{e9}y").unwrap().0, "vdb1");
    assert_eq!(machine.find("PARTUUID=1234"), None);
    // A kernel that tells.
    let machine = Machine::new(&[], EXT, "PARTN=1\nPARTUUID=abcd");
    assert_eq!(machine.find("PARTUUID=ABCD").unwrap().0, "vdb1");
    let mbr: &[(u64, &[u8])] = &[(440, &[0xcd, 0xab, 0x34, 0x12])];
    assert_eq!(Machine::new(mbr, EXT, "PARTN=1").find("PARTUUID=1234abcd-01").unwrap().0, "vdb1");
}
