//! A disk's GPT: read, changed, and written so that the power may go at any moment. What is read are foreign bytes.

use gptman::{GPTHeader, GPTPartitionEntry};
use std::io::{self, Cursor};

/// The only form that is written here, which is the one that everybody writes.
const ENTRIES: u32 = 128;
const ENTRY: u32 = 128;
/// Partitions end on whole MiB.
const MIB: u64 = 1 << 20;

/// A place that can be read and written: a disk.
pub trait Disk {
    /// Fills the buffer.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes all.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Waits until everything written is there for good.
    fn sync(&self) -> io::Result<()>;
    /// Bytes.
    fn size(&self) -> u64;
    /// Bytes of a sector.
    fn sector(&self) -> u64;
}

/// Why a table is left alone.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// There is none.
    #[error("it has no GPT (expected one at its second sector)")]
    None,
    /// It is damaged or of another form.
    #[error("its GPT is {0}; expected a sound one with 128 entries, and nothing is changed: sgdisk -v tells more")]
    Unfit(&'static str),
    /// The partition is another one than expected.
    #[error(
        "partition {0} is not as the kernel has it: another program has changed the table; restart the machine first"
    )]
    Differs(u32),
    /// There is no room for a second copy of the table while it is changed.
    #[error("its first partition begins right behind the table; a second copy that a change needs has no room there")]
    NoGap,
    /// Its device fails.
    #[error("reading or writing it: {0}")]
    Io(#[from] io::Error),
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    header: GPTHeader,
    partitions: Vec<GPTPartitionEntry>,
    sector: u64,
}

/// A partition, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

impl Table {
    /// Reads the table at the beginning of a disk.
    pub fn read(disk: &dyn Disk) -> Result<Self, TableError> {
        let sector = disk.sector();
        if !(sector.is_power_of_two() && (512..=4096).contains(&sector)) {
            return Err(TableError::Unfit("of an odd sector size"));
        }
        let mut bytes = vec![0; usize::try_from(sector).unwrap_or(0)];
        disk.read_at(sector, &mut bytes)?;
        if !bytes.starts_with(b"EFI PART") {
            return Err(TableError::None);
        }
        let number = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        // The reader believes these numbers.
        if (number(12), number(80), number(84)) != (92, ENTRIES, ENTRY) {
            return Err(TableError::Unfit("of another form"));
        }
        let header = GPTHeader::read_from(&mut Cursor::new(&bytes)).map_err(|_| TableError::Unfit("damaged"))?;
        let last = disk.size() / sector;
        if header.primary_lba != 1 || header.partition_entry_lba < 2 || header.partition_entry_lba >= last {
            return Err(TableError::Unfit("in another place than expected"));
        }
        let mut entries = vec![0; (ENTRIES * ENTRY) as usize];
        disk.read_at(header.partition_entry_lba * sector, &mut entries)?;
        // The reader takes an entry for as large as it is in memory.
        entries.resize(entries.len() + 256, 0);
        let mut at_zero = header.clone();
        at_zero.partition_entry_lba = 0;
        let partitions = at_zero
            .read_partitions(&mut Cursor::new(&entries), sector)
            .map_err(|_| TableError::Unfit("damaged (its entries)"))?;
        let table = Self { header, partitions, sector };
        table.check(last)?;
        Ok(table)
    }

    /// Partitions lie on the disk, one behind the other.
    fn check(&self, sectors: u64) -> Result<(), TableError> {
        let mut used: Vec<&GPTPartitionEntry> = self.partitions.iter().filter(|entry| entry.is_used()).collect();
        used.sort_by_key(|entry| entry.starting_lba);
        let mut at = 2 + self.array();
        for entry in used {
            if entry.starting_lba < at || entry.ending_lba < entry.starting_lba || entry.ending_lba >= sectors {
                return Err(TableError::Unfit("inconsistent: partitions overlap or lie outside"));
            }
            at = entry.ending_lba + 1;
        }
        if at > sectors.saturating_sub(self.array() + 1) {
            return Err(TableError::Unfit("without room for its copy at the disk's end"));
        }
        Ok(())
    }

    /// Sectors of the entries.
    fn array(&self) -> u64 {
        u64::from(ENTRIES * ENTRY) / self.sector
    }

    fn entry(&self, number: u32) -> Option<&GPTPartitionEntry> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.partitions.get(index).filter(|entry| entry.is_used())
    }

    /// Where a partition lies; numbers begin at 1.
    pub fn span(&self, number: u32) -> Option<Span> {
        let entry = self.entry(number)?;
        let size = (entry.ending_lba - entry.starting_lba + 1) * self.sector;
        Some(Span { start: entry.starting_lba * self.sector, size })
    }

    /// Numbers of the partitions.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        (1..=ENTRIES).filter(|number| self.entry(*number).is_some())
    }

    /// Bytes of a sector.
    pub fn sector(&self) -> u64 {
        self.sector
    }

    /// The type of a partition, as its bytes stand in the table.
    pub fn kind(&self, number: u32) -> Option<[u8; 16]> {
        self.entry(number).map(|entry| entry.partition_type_guid)
    }

    /// The guid of the disk (`None`) or of a partition.
    pub fn guid(&self, number: Option<u32>) -> Option<[u8; 16]> {
        match number {
            None => Some(self.header.disk_guid),
            Some(number) => self.entry(number).map(|entry| entry.unique_partition_guid),
        }
    }

    /// Sets it.
    pub fn set_guid(&mut self, number: Option<u32>, guid: [u8; 16]) {
        match number {
            None => self.header.disk_guid = guid,
            Some(number) => {
                let index = usize::try_from(number).unwrap_or(0).checked_sub(1);
                if let Some(entry) = index.and_then(|index| self.partitions.get_mut(index)) {
                    entry.unique_partition_guid = guid;
                }
            }
        }
    }

    /// The table that makes use of the whole disk: its copy at the end, and this partition up to there if it is the last one.
    /// `None`: it does already. `seen`: the partition as the kernel has it.
    pub fn grown(&self, disk: &dyn Disk, number: u32, seen: Span) -> Result<Option<Self>, TableError> {
        let Some(span) = self.span(number) else { return Err(TableError::Differs(number)) };
        // One that the table has larger was enlarged by a run that the power ended, or that could not tell the kernel.
        if span.start != seen.start || span.size < seen.size {
            return Err(TableError::Differs(number));
        }
        let sectors = disk.size() / self.sector;
        let mut new = self.clone();
        new.header.backup_lba = sectors - 1;
        new.header.last_usable_lba = sectors - 1 - self.array() - 1;
        let end = (new.header.last_usable_lba + 1) * self.sector / MIB * MIB / self.sector;
        let last = self.numbers().filter_map(|other| self.span(other)).all(|other| other.start <= span.start);
        if let Some(entry) = usize::try_from(number).ok().and_then(|n| new.partitions.get_mut(n.checked_sub(1)?))
            && last
            && entry.ending_lba + 1 < end
        {
            entry.ending_lba = end - 1;
        }
        // Entries in the other place are what the power left of a change: they belong behind the header.
        Ok((new != *self || self.header.partition_entry_lba != 2).then_some(new))
    }

    /// Writes the table in place of the one that is there. Whenever the power goes, the beginning of the disk has a whole table, the one
    /// before or this one: of a primary header, which is one sector, both sets of entries are there before it names the other.
    pub fn write(&self, disk: &dyn Disk) -> Result<(), TableError> {
        let (array, sector) = (self.array(), self.sector);
        let first = self.partitions.iter().filter(|entry| entry.is_used()).map(|entry| entry.starting_lba).min();
        let spare = 2 + array;
        if first.is_some_and(|first| first < spare + array) {
            return Err(TableError::NoGap);
        }
        let mut backup = self.header.clone();
        (backup.primary_lba, backup.backup_lba) = (self.header.backup_lba, 1);
        backup.partition_entry_lba = self.header.backup_lba - array;
        self.put(disk, &mut backup)?;
        let mut primary = self.header.clone();
        // First where the present header does not look.
        let places = if self.header.partition_entry_lba == 2 { [Some(spare), Some(2)] } else { [None, Some(2)] };
        for place in places.into_iter().flatten() {
            primary.partition_entry_lba = place;
            self.put(disk, &mut primary)?;
        }
        let zeros = vec![0; usize::try_from(array * sector).unwrap_or(0)];
        disk.write_at(spare * sector, &zeros)?;
        disk.sync()?;
        Ok(())
    }

    /// Writes entries, and then the header that names them.
    fn put(&self, disk: &dyn Disk, header: &mut GPTHeader) -> Result<(), TableError> {
        const BYTES: u32 = ENTRIES * ENTRY;
        let mut bytes = vec![0; BYTES as usize + 92];
        // The library's writer puts both where they belong, at once; here entries are to be there first. So it writes into memory, the
        // header behind the entries, and that is made anew with its true places.
        let place = (header.primary_lba, header.partition_entry_lba);
        (header.primary_lba, header.partition_entry_lba) = (u64::from(BYTES), 0);
        let written = header.write_into(&mut Cursor::new(&mut bytes), 1, &self.partitions);
        (header.primary_lba, header.partition_entry_lba) = place;
        written.map_err(|_| TableError::Unfit("not to be written"))?;
        header.update_crc32_checksum();
        disk.write_at(header.partition_entry_lba * self.sector, bytes.get(..BYTES as usize).unwrap_or_default())?;
        disk.sync()?;
        let mut sector = vec![0; usize::try_from(self.sector).unwrap_or(0)];
        encode(header, &mut sector)?;
        disk.write_at(header.primary_lba * self.sector, &sector)?;
        disk.sync()?;
        Ok(())
    }
}

/// The header as its sector has it (UEFI specification, "GPT Header").
fn encode(header: &GPTHeader, sector: &mut [u8]) -> Result<(), TableError> {
    let parts: [&[u8]; 14] = [
        &header.signature,
        &header.revision,
        &header.header_size.to_le_bytes(),
        &header.crc32_checksum.to_le_bytes(),
        &header.reserved,
        &header.primary_lba.to_le_bytes(),
        &header.backup_lba.to_le_bytes(),
        &header.first_usable_lba.to_le_bytes(),
        &header.last_usable_lba.to_le_bytes(),
        &header.disk_guid,
        &header.partition_entry_lba.to_le_bytes(),
        &header.number_of_partition_entries.to_le_bytes(),
        &header.size_of_partition_entry.to_le_bytes(),
        &header.partition_entry_array_crc32.to_le_bytes(),
    ];
    let bytes = parts.concat();
    sector.get_mut(..bytes.len()).ok_or(TableError::Unfit("not to be written"))?.copy_from_slice(&bytes);
    Ok(())
}
