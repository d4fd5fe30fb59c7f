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

/// Takes away what was on the disk: tables at both ends, and labels of pools, arrays and file systems that began or ended there, or
/// where the new partitions do: swap space behind whose header an old label is left goes by no UUID.
pub fn wipe(file: &File, layout: &Layout) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(ENDS).unwrap_or(0)];
    let ends = layout.partitions.iter().flat_map(|place| [place.start, place.start + place.size - ENDS]);
    for at in [0, layout.size.saturating_sub(ENDS)].into_iter().chain(ends) {
        file.write_all_at(&zeros, at)?;
    }
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
            partition_name: layout.name(partition.role).as_str().into(),
        };
    }
    GPT::write_protective_mbr_into(&mut disk, sector).context("writing the protective MBR")?;
    table.write_into(&mut disk).context("writing the partition table")?;
    file.sync_all().context("syncing the partition table")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Disk, Loader};

    #[test]
    fn nothing_is_left_where_somebody_would_look() {
        let (file, size) = (tempfile::tempfile().unwrap(), 1 << 30);
        file.set_len(size).unwrap();
        let disk = Disk { esp: 64 << 20, swap: 64 << 20, ..Disk::default() };
        let layout = Layout::new(&disk, size, Loader::Grub, "x").unwrap();
        let ends = layout.partitions.iter().flat_map(|place| [place.start, place.start + place.size - 4096]);
        let places: Vec<u64> = ends.chain([0, size - 4096]).collect();
        for at in &places {
            file.write_all_at(&[7; 4096], *at).unwrap();
        }
        wipe(&file, &layout).unwrap();
        for at in places {
            let mut found = [1; 4096];
            file.read_exact_at(&mut found, at).unwrap();
            assert_eq!(found, [0; 4096], "{at}");
        }
    }
}
