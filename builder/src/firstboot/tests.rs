use super::ids::{self, Change, What};
use super::table::{Disk, Span, Table, TableError};
use super::*;
use gptman::{GPT, GPTPartitionEntry};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::io::{self, Cursor};

const MIB: u64 = 1 << 20;

/// A disk in memory whose power can go.
struct Made {
    bytes: RefCell<Vec<u8>>,
    sector: u64,
    /// Writes that are still done; a larger one is torn in the middle, at a sector.
    left: Cell<usize>,
}

impl Made {
    fn new(bytes: Vec<u8>, sector: u64) -> Self {
        Self { bytes: RefCell::new(bytes), sector, left: Cell::new(usize::MAX) }
    }
}

impl Disk for Made {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        let bytes = self.bytes.borrow();
        buf.copy_from_slice(bytes.get(from..from + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, new: &[u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        let sector = usize::try_from(self.sector).unwrap();
        let cut = match self.left.get() {
            0 => return Err(io::ErrorKind::BrokenPipe.into()),
            1 => new.len() / 2 / sector * sector,
            _ => new.len(),
        };
        self.left.set(self.left.get() - 1);
        self.bytes.borrow_mut()[from..from + cut].copy_from_slice(&new[..cut]);
        if cut < new.len() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> u64 {
        self.bytes.borrow().len() as u64
    }

    fn sector(&self) -> u64 {
        self.sector
    }
}

/// A disk as an image has it: an ESP, and a pool behind it that ends before the table's copy.
fn image(sector: u64) -> Vec<u8> {
    let mut disk = Cursor::new(vec![0; 12 << 20]);
    let mut gpt = GPT::new_from(&mut disk, sector, [7; 16]).unwrap();
    for (number, from, to, guid) in [(1, 1, 4, 1), (4, 4, 11, 4)] {
        gpt[number] = GPTPartitionEntry {
            partition_type_guid: if number == 1 { ids::ESP } else { [9; 16] },
            unique_partition_guid: [guid; 16],
            starting_lba: from * MIB / sector,
            ending_lba: to * MIB / sector - 1,
            attribute_bits: 0,
            partition_name: "x".into(),
        };
    }
    GPT::write_protective_mbr_into(&mut disk, sector).unwrap();
    gpt.write_into(&mut disk).unwrap();
    disk.into_inner()
}

fn pool_span(size: u64) -> Span {
    Span { start: 4 * MIB, size: size * MIB }
}

/// As another reader has the disk's beginning and its end.
fn both_ends(disk: &Made) -> [GPT; 2] {
    let bytes = disk.bytes.borrow();
    let first = GPT::read_from(&mut Cursor::new(&*bytes), disk.sector).unwrap();
    let mut last = bytes.clone();
    let sector = usize::try_from(disk.sector).unwrap();
    last[sector..sector + 92].fill(0);
    [first, GPT::read_from(&mut Cursor::new(last), disk.sector).unwrap()]
}

#[test]
fn a_disk_that_is_larger_is_used_and_then_again() {
    for sector in [512, 4096] {
        let disk = Made::new(image(sector), sector);
        let mut size = 7;
        for now in [12_u64, 40, 41, 200] {
            disk.bytes.borrow_mut().resize(usize::try_from(now * MIB).unwrap(), 0);
            let table = Table::read(&disk).unwrap();
            let grown = table.grown(&disk, 4, pool_span(size)).unwrap();
            if now == 12 {
                assert_eq!(grown, None, "the image's own size");
                continue;
            }
            grown.unwrap().write(&disk).unwrap();
            size = now - 5;
            for gpt in both_ends(&disk) {
                assert_eq!(gpt.get_partition_byte_range(4).unwrap(), 4 * MIB..=(now - 1) * MIB - 1, "{sector}, {now}");
                assert_eq!(gpt.header.last_usable_lba + 1 + 16384 / sector + 1, now * MIB / sector);
            }
            let again = Table::read(&disk).unwrap();
            assert_eq!(again.grown(&disk, 4, pool_span(size)).unwrap(), None);
            // The table is written, and the kernel could not be told.
            assert_eq!(again.grown(&disk, 4, pool_span(7)).unwrap(), None);
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::write(&path, &*disk.bytes.borrow()).unwrap();
        if sector == 512
            && let Ok(verified) = std::process::Command::new("sgdisk").arg("-v").arg(&path).output()
        {
            let text = String::from_utf8_lossy(&verified.stdout).into_owned();
            assert!(text.contains("No problems found"), "{text}");
        }
    }
}

#[test]
fn a_partition_that_is_not_the_last_stays_and_the_copy_moves() {
    let disk = Made::new(image(512), 512);
    disk.bytes.borrow_mut().resize(20 << 20, 0);
    let table = Table::read(&disk).unwrap();
    let grown = table.grown(&disk, 1, Span { start: MIB, size: 3 * MIB }).unwrap().unwrap();
    assert_eq!((grown.span(1), grown.span(4)), (table.span(1), table.span(4)));
    grown.write(&disk).unwrap();
    assert_eq!(both_ends(&disk)[1].header.primary_lba, (20 << 20) / 512 - 1);
}

#[test]
fn every_power_cut_leaves_a_whole_table_and_the_next_run_ends_the_same() {
    for sector in [512, 4096] {
        let mut start = image(sector);
        start.resize(20 << 20, 0);
        let before = Table::read(&Made::new(start.clone(), sector)).unwrap();
        let mut cuts = 0;
        for left in 0.. {
            let disk = Made::new(start.clone(), sector);
            let mut wanted = before.grown(&disk, 4, pool_span(7)).unwrap().unwrap();
            wanted.set_guid(Some(4), [0x44; 16]);
            disk.left.set(left);
            let done = wanted.write(&disk).is_ok();
            let now = Table::read(&disk).unwrap();
            assert!([before.span(4), wanted.span(4)].contains(&now.span(4)), "{left}");
            disk.left.set(usize::MAX);
            if let Some(again) = now.grown(&disk, 4, pool_span(7)).unwrap() {
                again.write(&disk).unwrap();
            }
            let entries = disk.bytes.borrow()[usize::try_from(sector).unwrap() + 72];
            assert_eq!(entries, 2, "entries are in their own place again, {left}");
            let mut again = Table::read(&disk).unwrap();
            again.set_guid(Some(4), [0x44; 16]);
            again.write(&disk).unwrap();
            for gpt in both_ends(&disk) {
                assert_eq!((gpt[4].unique_partition_guid, gpt[4].ending_lba), ([0x44; 16], 19 * MIB / sector - 1));
            }
            if done {
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 5, "{cuts}");
    }
}

#[test]
fn what_is_not_understood_is_left_alone() {
    let table = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = image(512);
        change(&mut bytes);
        let disk = Made::new(bytes, 512);
        Table::read(&disk)?.grown(&disk, 4, pool_span(7))
    };
    assert!(matches!(table(&|bytes| bytes[512] = 0), Err(TableError::None)));
    assert!(matches!(table(&|bytes| bytes[600] ^= 1), Err(TableError::Unfit(_))));
    assert!(matches!(table(&|bytes| bytes[512 + 84] = 0), Err(TableError::Unfit("of another form"))));
    assert!(matches!(table(&|bytes| bytes[1024 + 32] ^= 1), Err(TableError::Unfit(why)) if why.contains("entries")));
    // The kernel has another partition than the table.
    let disk = Made::new(image(512), 512);
    let sound = Table::read(&disk).unwrap();
    assert!(matches!(sound.grown(&disk, 4, pool_span(8)), Err(TableError::Differs(4))));
    assert!(matches!(sound.grown(&disk, 2, pool_span(7)), Err(TableError::Differs(2))));
    // A disk that has become smaller.
    let small = Made::new(image(512)[..6 << 20].to_vec(), 512);
    assert!(matches!(Table::read(&small), Err(TableError::Unfit(why)) if why.contains("outside")));
}

fn change(what: What, partition: u32, old: &str, new: &str) -> Change {
    Change { what, vdev: 1, partition, old: old.into(), new: new.into() }
}

#[test]
fn guids_are_renewed_once() {
    let disk = Made::new(image(512), 512);
    let mut table = Table::read(&disk).unwrap();
    let old = ids::guids(&table);
    assert_eq!(old[0], (0, "07070707-0707-0707-0707-070707070707".to_owned()));
    let changes: Vec<Change> = old
        .iter()
        .map(|(number, old)| {
            let what = if *number == 0 { What::Disk } else { What::Partition };
            change(what, *number, old, &uuid::text([u8::try_from(*number).unwrap() + 0x20; 16]))
        })
        .collect();
    let all: Vec<&Change> = changes.iter().collect();
    assert!(ids::renew_guids(&mut table, &all).unwrap());
    table.write(&disk).unwrap();
    let mut again = Table::read(&disk).unwrap();
    assert!(!ids::renew_guids(&mut again, &all).unwrap());
    assert!(ids::guids(&again).iter().zip(&changes).all(|((_, now), change)| *now == change.new));
    let strange = change(What::Disk, 0, "x", "y");
    assert!(ids::renew_guids(&mut again, &[&strange]).unwrap_err().to_string().contains("expected x or y"));
}

/// File systems as their own programs make them, where those are there.
#[test]
fn serial_numbers_and_uuids_as_others_read_them() {
    let dir = tempfile::tempdir().unwrap();
    let run = |program: &str, args: &[&str], size: u64| {
        let path = dir.path().join(program);
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        std::process::Command::new(program).args(args).arg(&path).output().ok()?;
        Some((std::fs::read(&path).unwrap(), path))
    };
    if let Some((bytes, path)) = run("mkfs.fat", &["-F", "32", "-i", "1234ABCD"], 64 << 20) {
        let disk = Made::new(bytes, 512);
        assert_eq!(ids::read(What::Fat, &disk).unwrap(), "1234-ABCD");
        ids::write(What::Fat, &disk, "0F00-00FF").unwrap();
        assert_eq!(ids::read(What::Fat, &disk).unwrap(), "0F00-00FF");
        std::fs::write(&path, &*disk.bytes.borrow()).unwrap();
        let checked = std::process::Command::new("fsck.fat").arg("-n").arg(&path).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        assert!(ids::read(What::Swap, &disk).is_err());
    }
    let uuid = "01234567-89ab-4def-8123-456789abcdef";
    if let Some((bytes, _)) = run("mkswap", &["-U", uuid], 1 << 20) {
        let disk = Made::new(bytes, 512);
        assert_eq!(ids::read(What::Swap, &disk).unwrap(), uuid);
        let new = uuid::text([0xff; 16]);
        ids::write(What::Swap, &disk, &new).unwrap();
        assert_eq!(ids::read(What::Swap, &disk).unwrap(), new);
        assert!(ids::read(What::Fat, &disk).is_err());
    }
}

#[test]
fn boot_entries_of_the_firmware_have_any_number() {
    let id = "-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    for (name, is) in
        [("Boot0001", true), ("Boot2001", true), ("BootFFFF", true), ("BootOrder", false), ("BootNext", false)]
    {
        assert_eq!(is_boot_entry(&format!("{name}{id}")), is, "{name}");
    }
}

#[test]
fn references_are_replaced_and_only_those() {
    let (old, new) = ("01234567-89ab-4def-8123-456789abcdef", "aaaaaaaa-89ab-4def-8123-456789abcdef");
    let changes = [change(What::Fat, 1, "1234-ABCD", "0F00-00FF"), change(What::Swap, 2, old, new)];
    let text = format!(
        "UUID=1234-ABCD /efi vfat\nUUID=1234-abcd /x vfat\nUUID={old} none swap\nresume=UUID={}\nUUID=1234-ABCDE y\n# 91234-ABCD\n",
        old.to_uppercase()
    );
    let expected = format!(
        "UUID=0F00-00FF /efi vfat\nUUID=0F00-00FF /x vfat\nUUID={new} none swap\nresume=UUID={new}\nUUID=1234-ABCDE y\n# 91234-ABCD\n"
    );
    assert_eq!(ids::replaced(&text, &changes), expected);
    assert_eq!(ids::replaced(&expected, &changes), expected);
    let rule = rule(&changes);
    assert!(rule.contains("ENV{ID_FS_UUID}==\"0F00-00FF\", SYMLINK+=\"disk/by-uuid/1234-ABCD\"\n"), "{rule}");
}

proptest! {
    #[test]
    fn total(at in 512_usize..20_000, value in any::<u8>(), text in ".{0,60}", odd in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut bytes = image(512);
        bytes[at] = value;
        let disk = Made::new(bytes, 512);
        if let Ok(table) = Table::read(&disk) {
            let _ = (table.grown(&disk, 4, pool_span(7)).is_ok(), ids::guids(&table));
        }
        let _ = Table::read(&Made::new(odd.clone(), 512)).is_ok();
        let _ = (ids::read(What::Fat, &Made::new(odd.clone(), 512)).is_ok(), ids::read(What::Swap, &Made::new(odd, 512)).is_ok());
        let _ = ids::replaced(&text, &[change(What::Fat, 1, "1234-ABCD", "0F00-00FF")]);
    }
}
