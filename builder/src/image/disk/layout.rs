//! Where partitions lie, and what they are called. The pool is the last one, so that it can grow.

use anyhow::{Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use taproot_init::zfs::label::MIN_DEVICE_SIZE;

use crate::image::{Disk, Loader};
use crate::pool::partition_name;
use crate::progress::megabytes;
use crate::uuid;

/// Partitions begin and end on whole MiB: any sector, page and erase block divides it.
const MIB: u64 = 1 << 20;
/// Bytes of an EFI system partition with sectors of 512: fewer clusters are no FAT32, whatever is written into it.
pub const LEAST_ESP: u64 = 34 * MIB;

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// GRUB's core for BIOS.
    Bios,
    /// The EFI system partition.
    Esp,
    /// Swap.
    Swap,
    /// The pool.
    Pool,
    /// A live system's files that are too large for a FAT.
    Tree,
    /// What a live system keeps.
    Keep,
}

impl Role {
    /// The type of the partition, in the order of its text.
    pub fn kind(self) -> &'static str {
        match self {
            Role::Bios => "21686148-6449-6E6F-744E-656564454649",
            Role::Esp => "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
            Role::Swap => "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
            // That of Solaris' /usr, which ZFS has everywhere. With Linux's own systemd would mount it as what it is not.
            Role::Pool => "6A898CC3-1DD2-11B2-99A6-080020736631",
            // Any file system of Linux.
            Role::Tree | Role::Keep => "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
        }
    }

    /// What a partition of this type is for on a disk that boots from a pool.
    pub fn of_type(guid: [u8; 16]) -> Option<Self> {
        [Role::Bios, Role::Esp, Role::Swap, Role::Pool].into_iter().find(|role| role.type_guid() == guid)
    }

    /// The type as the table has it.
    pub fn type_guid(self) -> [u8; 16] {
        uuid::mixed(uuid::parse(self.kind()).unwrap_or_default())
    }

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Role::Bios => "bios",
            Role::Esp => "esp",
            Role::Swap => "swap",
            Role::Pool => "zfs",
            Role::Tree => "tree",
            Role::Keep => "keep",
        }
    }
}

/// A partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub role: Role,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

/// The whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Bytes.
    pub size: u64,
    /// Bytes of a sector.
    pub sector: u64,
    /// In the order in which they lie and are numbered.
    pub partitions: Vec<Partition>,
    /// Which disk of a mirror it is, from 0.
    pub member: usize,
    seed: String,
}

impl Layout {
    /// For a disk of `size` bytes; guids come from `seed`.
    pub fn new(disk: &Disk, size: u64, loader: Loader, seed: &str) -> Result<Self> {
        let sector = disk.sector;
        ensure!(matches!(sector, 512 | 4096), "sectors of 512 or 4096 bytes expected, {sector} found");
        let bios = matches!(loader, Loader::Grub | Loader::GrubPool);
        ensure!(
            !bios || sector == 512,
            "GRUB for BIOS reads sectors of 512 bytes only, and these have {sector}: choose --loader systemd-boot"
        );
        ensure!(
            disk.esp <= size && disk.swap <= size && size <= i64::MAX.unsigned_abs(),
            "a disk of {} with an EFI system partition of {} and {} of swap cannot be: choose other sizes",
            megabytes(size),
            megabytes(disk.esp),
            megabytes(disk.swap)
        );
        let mut partitions = Vec::new();
        if bios {
            add(&mut partitions, Role::Bios, MIB);
        }
        let least = if sector == 512 { LEAST_ESP } else { 260 * MIB };
        if disk.esp < least {
            bail!("an EFI system partition of at least {} expected, {} found", megabytes(least), megabytes(disk.esp));
        }
        add(&mut partitions, Role::Esp, disk.esp.next_multiple_of(MIB));
        if disk.swap > 0 {
            add(&mut partitions, Role::Swap, disk.swap.next_multiple_of(MIB));
        }
        // Behind the pool is the second table.
        let end = (size.saturating_sub(MIB)) / MIB * MIB;
        let pool = end.saturating_sub(next(&partitions));
        if pool < MIN_DEVICE_SIZE {
            bail!(
                "a disk of {} leaves {} for the pool, which needs {}: choose a larger --size",
                megabytes(size),
                megabytes(pool),
                megabytes(MIN_DEVICE_SIZE)
            );
        }
        add(&mut partitions, Role::Pool, pool);
        Ok(Layout { size, sector, partitions, member: 0, seed: seed.to_owned() })
    }

    /// The same as that of another disk of a mirror. Nothing on it has the name or number of something on the first.
    #[must_use]
    pub fn of_member(mut self, nth: usize) -> Self {
        self.member = nth;
        if nth > 0 {
            self.seed = format!("{}\0{nth}", self.seed);
        }
        self
    }

    /// For a disk of `size` bytes that is to be like another one, whose partitions these are; the pool, the last of them, has the rest.
    pub fn like(mut partitions: Vec<Partition>, size: u64, sector: u64, seed: &str) -> Result<Self> {
        let end = size.saturating_sub(MIB) / MIB * MIB;
        let Some(pool) = partitions.last_mut().filter(|last| last.role == Role::Pool) else {
            bail!("expected the pool's partition to be the last one, found another one behind it");
        };
        pool.size = end.saturating_sub(pool.start);
        ensure!(
            pool.size >= MIN_DEVICE_SIZE,
            "a disk of {} leaves {} for the pool, which needs {}: choose a larger one",
            megabytes(size),
            megabytes(pool.size),
            megabytes(MIN_DEVICE_SIZE)
        );
        Ok(Layout { size, sector, partitions, member: 0, seed: seed.to_owned() })
    }

    /// Gives the pool no more than so many bytes: all disks of a mirror have the same.
    pub fn limit_pool(&mut self, size: u64) {
        for place in self.partitions.iter_mut().filter(|place| place.role == Role::Pool) {
            place.size = place.size.min(size);
        }
    }

    /// What a partition is called in the table.
    pub fn name(&self, role: Role) -> String {
        partition_name(role.name(), self.member)
    }

    /// For a disk that is as large as its partitions, or as `size` says, with sectors of 512 bytes. They are given in the order in which they lie.
    pub fn of(parts: &[(Role, u64)], size: Option<u64>, seed: &str) -> Result<Self> {
        let mut partitions = Vec::new();
        for (role, bytes) in parts {
            add(&mut partitions, *role, bytes.next_multiple_of(MIB));
        }
        // Behind the last one is the second table.
        let least = next(&partitions) + MIB;
        let size = size.unwrap_or(least);
        ensure!(
            size >= least,
            "{} are needed and the device has {}: choose a larger one",
            megabytes(least),
            megabytes(size)
        );
        Ok(Layout { size, sector: 512, partitions, member: 0, seed: seed.to_owned() })
    }

    /// A file that is one partition and has no table, with sectors of 512 bytes.
    pub fn bare(role: Role, size: u64, seed: &str) -> Self {
        let partitions = vec![Partition { role, start: 0, size }];
        Layout { size, sector: 512, partitions, member: 0, seed: seed.to_owned() }
    }

    /// The partition for this.
    pub fn find(&self, role: Role) -> Option<Partition> {
        self.partitions.iter().copied().find(|partition| partition.role == role)
    }

    /// Its number, from 1.
    pub fn number(&self, role: Role) -> Option<u32> {
        let at = self.partitions.iter().position(|partition| partition.role == role)?;
        u32::try_from(at + 1).ok()
    }

    /// What tells something of this image from that of others, as a random UUID would, in the order of its text.
    pub fn uuid(&self, of: &str) -> [u8; 16] {
        uuid::of_hash(&Sha256::digest(format!("taproot image\0{}\0{of}", self.seed)))
    }

    /// The UUID of swap space.
    pub fn swap_uuid(&self) -> [u8; 16] {
        self.uuid("swap space")
    }

    /// The same as a table has it.
    pub fn guid(&self, of: &str) -> [u8; 16] {
        uuid::mixed(self.uuid(of))
    }

    /// The serial number of the FAT.
    pub fn serial(&self) -> u32 {
        let [a, b, c, d, ..] = self.uuid("serial of the ESP");
        u32::from_le_bytes([a, b, c, d])
    }

    /// The same as people write it, and fstab.
    pub fn serial_text(&self) -> String {
        let serial = self.serial();
        format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)
    }
}

/// Where the next partition begins.
fn next(partitions: &[Partition]) -> u64 {
    partitions.last().map_or(MIB, |last| last.start + last.size)
}

fn add(partitions: &mut Vec<Partition>, role: Role, size: u64) {
    let start = next(partitions);
    partitions.push(Partition { role, start, size });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_last_and_has_the_rest() {
        let disk = Disk { swap: 64 << 20, ..Disk::default() };
        let layout = Layout::new(&disk, (4 << 30) + 4096, Loader::Grub, "x").unwrap();
        let roles: Vec<Role> = layout.partitions.iter().map(|partition| partition.role).collect();
        assert_eq!(roles, [Role::Bios, Role::Esp, Role::Swap, Role::Pool]);
        let pool = layout.find(Role::Pool).unwrap();
        assert_eq!((pool.start, pool.start + pool.size), (578 << 20, 4095 << 20));
        assert_eq!(layout.number(Role::Esp), Some(2));
        assert_ne!(layout.guid("esp"), layout.guid("zfs"));
        assert_eq!(layout.guid("esp"), Layout::new(&disk, 5 << 30, Loader::SystemdBoot, "x").unwrap().guid("esp"));
        let mut second = layout.clone().of_member(1);
        assert_eq!((layout.name(Role::Pool), second.name(Role::Pool)), ("zfs".into(), "zfs-2".into()));
        assert!(layout.guid("zfs") != second.guid("zfs") && layout.serial() != second.serial());
        second.limit_pool(1 << 30);
        assert_eq!((second.find(Role::Pool).unwrap().size, second.find(Role::Esp)), (1 << 30, layout.find(Role::Esp)));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_reason() {
        let said = |disk: Disk, size: u64, loader| Layout::new(&disk, size, loader, "x").unwrap_err().to_string();
        assert!(said(Disk::default(), 560 << 20, Loader::SystemdBoot).contains("larger --size"));
        assert!(said(Disk { sector: 4096, ..Disk::default() }, 4 << 30, Loader::Grub).contains("systemd-boot"));
        assert!(
            said(Disk { sector: 4096, esp: 100 << 20, ..Disk::default() }, 4 << 30, Loader::SystemdBoot)
                .contains("at least")
        );
        assert!(said(Disk { swap: u64::MAX, ..Disk::default() }, 4 << 30, Loader::Bls).contains("cannot be"));
        assert!(said(Disk { sector: 1024, ..Disk::default() }, 4 << 30, Loader::SystemdBoot).contains("1024"));
    }

    #[test]
    fn guids_are_written_as_tables_have_them() {
        assert_eq!(Role::Esp.type_guid()[..8], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
        assert_eq!(uuid::text(uuid::mixed(Role::Pool.type_guid())), "6a898cc3-1dd2-11b2-99a6-080020736631");
    }
}
