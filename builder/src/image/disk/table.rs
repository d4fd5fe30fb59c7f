//! The partition table. It comes last: without it nothing on the disk counts.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};
use gptman::{GPT, GPTPartitionEntry};

use super::layout::Layout;
use super::window::Window;

/// Bytes at both ends in which tables, and other things that a disk is known by, lie.
const ENDS: u64 = 1 << 20;

/// Takes away what was on the disk: tables at both ends, and labels of pools, arrays and file systems that began or ended there.
pub fn wipe(file: &File, layout: &Layout) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(ENDS).unwrap_or(0)];
    file.write_all_at(&zeros, 0)?;
    file.write_all_at(&zeros, layout.size.saturating_sub(ENDS))?;
    file.sync_data()
}

/// Writes both tables, and the MBR that protects them.
pub fn write(file: &File, layout: &Layout) -> Result<()> {
    let mut disk = Window::new(file, 0, layout.size);
    let sector = layout.sector;
    let mut table = GPT::new_from(&mut disk, sector, layout.guid("disk")).context("making a partition table")?;
    for (number, partition) in (1..).zip(&layout.partitions) {
        table[number] = GPTPartitionEntry {
            partition_type_guid: partition.role.type_guid(),
            unique_partition_guid: layout.guid(partition.role.name()),
            starting_lba: partition.start / sector,
            ending_lba: (partition.start + partition.size) / sector - 1,
            attribute_bits: 0,
            partition_name: partition.role.name().into(),
        };
    }
    GPT::write_protective_mbr_into(&mut disk, sector).context("writing the protective MBR")?;
    table.write_into(&mut disk).context("writing the partition table")?;
    file.sync_all().context("syncing the partition table")
}
