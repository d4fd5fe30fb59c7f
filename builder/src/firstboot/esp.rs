//! Which partition is mounted for the boot loader's files: that of the disk that the root's pool has open, or that of another copy of
//! it. Two copies that were never booted have file systems with one serial number, and a mount by that takes either.

use super::block::{self, Block, Partition, numbered};
use super::grow::MOUNTS;
use super::ids::{self, What};
use super::pool::{self, Leaf};
use super::table::Table;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The partition that belongs at `dir` in the place of a copy of it that is mounted there; `None`: nothing is wrong.
pub fn meant(dir: &Path, leaves: &[Leaf]) -> Result<Option<Partition>> {
    let mounts = fs::read_to_string(MOUNTS).with_context(|| MOUNTS.to_owned())?;
    let Some(number) = mounted(&mounts, dir) else { return Ok(None) };
    let Some(there) = block::by_number(number)? else { return Ok(None) };
    let Some(serial) = serial(&there.name) else { return Ok(None) };
    let mut found = None;
    for leaf in leaves {
        // Of a pool on whole disks, or on what is no disk, no partition is a copy.
        let Ok(place) = pool::place(leaf) else { continue };
        if place.disk == there.disk {
            return Ok(None);
        }
        let table = Table::read(&Block::open(&place.disk, false)?).with_context(|| place.disk.clone())?;
        for number in table.numbers().filter(|number| table.kind(*number) == Some(ids::ESP)) {
            let own = numbered(&place.disk, number)?;
            if self::serial(&own.name).as_ref() == Some(&serial) {
                found.get_or_insert(own);
            }
        }
    }
    Ok(found)
}

fn serial(name: &str) -> Option<String> {
    ids::read(What::Fat, &Block::open(name, false).ok()?).ok()
}

/// Major and minor number of what is mounted at a directory last.
fn mounted<'a>(mounts: &'a str, dir: &Path) -> Option<&'a str> {
    let fields = mounts.lines().rev().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut here = fields.filter(|fields| fields.get(4).is_some_and(|at| Path::new(at) == dir));
    here.next()?.get(2).copied()
}

/// Mounts it there instead.
pub fn remount(dir: &Path, partition: &Partition) -> Result<()> {
    let device = format!("/dev/{}", partition.name);
    for (program, args) in [("umount", vec![dir.as_os_str()]), ("mount", vec![device.as_ref(), dir.as_os_str()])] {
        let status = Command::new(program).args(args).status().with_context(|| format!("starting {program}"))?;
        ensure!(status.success(), "{program} {}: {status}; {device} belongs there", dir.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_last_counts() {
        let mounts = "30 1 0:25 / / rw - zfs zroot/ROOT/debian rw\n31 30 0:40 / /efi rw - autofs systemd-1 rw\n\
                      32 31 254:1 / /efi rw,relatime - vfat /dev/vda1 rw\n33 30 254:2 / /efi/more rw - vfat /dev/vda2 rw\n";
        assert_eq!(mounted(mounts, Path::new("/efi")), Some("254:1"));
        assert_eq!(mounted(mounts, Path::new("/boot")), None);
        assert_eq!(mounted("x\n\n", Path::new("/efi")), None);
    }
}
