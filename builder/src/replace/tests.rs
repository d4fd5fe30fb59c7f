use super::*;
use gptman::GPT;
use std::io;

/// A file as a disk.
struct Made(File, u64);

impl Disk for Made {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn size(&self) -> u64 {
        self.1
    }
    fn sector(&self) -> u64 {
        512
    }
}

const MIB: u64 = 1 << 20;
const SIZE: u64 = 512 * MIB;

fn file(size: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(size).unwrap();
    file
}

/// The disk that is left, as an image has it.
fn left() -> Made {
    let parts = [(Role::Bios, MIB), (Role::Esp, 64 * MIB), (Role::Swap, 16 * MIB), (Role::Pool, 400 * MIB)];
    let file = file(SIZE);
    gpt::write(&file, &Layout::of(&parts, Some(SIZE), "left").unwrap()).unwrap();
    file.write_all_at(b"core", MIB).unwrap();
    file.write_all_at(b"boot", 0).unwrap();
    Made(file, SIZE)
}

#[test]
fn the_new_disk_is_like_the_one_that_is_left_and_has_names_of_its_own() {
    let (left, dir, size) = (left(), tempfile::tempdir().unwrap(), SIZE + 100 * MIB);
    fs::create_dir_all(dir.path().join("EFI/BOOT")).unwrap();
    fs::write(dir.path().join("EFI/BOOT/BOOTX64.EFI"), "program").unwrap();
    let copies = files(dir.path()).unwrap();
    assert_eq!(copies.keys().collect::<Vec<_>>(), ["EFI/BOOT/BOOTX64.EFI"]);
    let table = Table::read(&left).unwrap();
    let layout = layout(&table, 4, (size, 512), "new").unwrap().of_member(1);
    let new = file(size);
    write(&new, &layout, &left, &copies).unwrap();

    let [old, made] = [&left.0, &new].map(|file| GPT::read_from(&mut &*file, 512).unwrap());
    assert_ne!(old.header.disk_guid, made.header.disk_guid);
    for number in 1..=4 {
        let [old, made] = [&old[number], &made[number]];
        assert_eq!((old.partition_type_guid, old.starting_lba), (made.partition_type_guid, made.starting_lba));
        assert_ne!(old.unique_partition_guid, made.unique_partition_guid);
        assert_eq!(old.ending_lba == made.ending_lba, number < 4, "the pool has the rest");
    }
    assert_eq!(made[4].partition_name.as_str(), "zfs-2");
    let mut found = [[0; 4]; 2];
    for (found, at) in found.iter_mut().zip([0, MIB]) {
        new.read_exact_at(found, at).unwrap();
    }
    assert_eq!(found, [*b"boot", *b"core"]);
    let mut esp = vec![0; usize::try_from(64 * MIB).unwrap()];
    new.read_exact_at(&mut esp, 2 * MIB).unwrap();
    assert!(esp.windows(7).any(|bytes| bytes == b"program"));
    let serial = u32::from_le_bytes(esp[67..71].try_into().unwrap());
    assert_eq!(layout.serial_text().replace('-', ""), format!("{serial:08X}"));
}

#[test]
fn a_disk_that_does_not_fit_is_refused() {
    let table = Table::read(&left()).unwrap();
    let said = |size, sector| layout(&table, 4, (size, sector), "x").unwrap_err().to_string();
    assert!(said(SIZE, 4096).contains("sectors of 512 bytes expected"));
    assert!(said(100 * MIB, 512).contains("larger"));
    let fits = layout(&table, 4, (SIZE, 512), "x").unwrap();
    let room = fits.find(Role::Pool).unwrap().size - LABELS;
    has_room(&fits, room).unwrap();
    assert!(has_room(&fits, room + 1).unwrap_err().to_string().contains("choose a larger one"));
    // A table that somebody else made.
    assert!(layout(&table, 1, (SIZE, 512), "x").unwrap_err().to_string().contains("by hand"));
}

#[test]
fn its_boot_loader_is_mounted_in_the_place_of_the_one_that_is_gone() {
    let mut config = Config::new("bls".parse().unwrap(), Path::new("/efi"), "x");
    config.esp_copies = vec!["/efi2".into(), "/efi3".into()];
    let fstab = "UUID=AAAA-0001 /efi vfat x 0 2\nUUID=AAAA-0002 /efi2 vfat x 0 2\n";
    let found = |left: &[&str], mounted: bool| {
        let left: Vec<String> = left.iter().map(|serial| (*serial).to_owned()).collect();
        placed(&config, fstab, &left, &|_| mounted)
    };
    let place = |nth, at: &str, from: &str| Place { nth, at: at.into(), from: from.into() };
    assert_eq!(found(&["aaaa-0001"], true).unwrap(), place(1, "/efi2", "/efi"));
    assert_eq!(found(&["AAAA-0002"], true).unwrap(), place(0, "/efi", "/efi2"));
    assert_eq!(found(&["AAAA-0001", "AAAA-0002"], true).unwrap(), place(2, "/efi3", "/efi"));
    assert!(found(&["AAAA-0001"], false).unwrap_err().to_string().contains("mount it, then try again"));
    assert!(found(&["AAAA-0003"], true).is_err());
}
