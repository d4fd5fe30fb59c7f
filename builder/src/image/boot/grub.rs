//! GRUB for BIOS, without grub-install: its first sector and its core are put into place by us, as `util/setup.c` does.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::esp::grub::{DIRECTORY, MODULES};
use crate::image::disk::layout::{Layout, Role};

/// Where GRUB's package leaves its modules.
const HOME: &str = "/usr/lib/grub/i386-pc";
/// Bytes of a sector, for GRUB.
const SECTOR: usize = 512;
/// What finds the files: BIOS disks, the table, FAT; and for a serial line and a person at it.
const FINDS: [&str; 9] = ["biosdisk", "part_gpt", "fat", "search_fs_uuid", "serial", "terminal", "ls", "cat", "reboot"];
/// The first sector of an ISO on a disk: xorriso tells it where the core of the CD lies.
const HYBRID: &str = "boot_hybrid.img";
/// The first sector: how much of it is code, where it keeps the core's place, the drive, and a jump for odd BIOSes.
pub const CODE: usize = 440;
const CORE_AT: usize = 0x5c;
const DRIVE: usize = 0x64;
const DRIVE_CHECK: usize = 0x66;
/// The core's first sector: the last entry of its list of blocks.
const LIST_START: usize = 0x1f4;
const LIST_LENGTH: usize = 0x1fc;

/// Who has them.
const INSTALL: &str = "install grub-pc-bin (Debian) or grub (Arch), or choose --loader systemd-boot";

/// GRUB as it is put on a disk.
#[derive(Debug)]
pub struct Grub {
    boot: Vec<u8>,
    core: Vec<u8>,
}

impl Grub {
    /// Makes a core that reads its menu on the EFI system partition of the disk that the BIOS booted. It is written to `image` first.
    pub fn make(layout: &Layout, pool: bool, image: &Path) -> Result<Self> {
        let esp =
            layout.number(Role::Esp).context("GRUB's files lie on the EFI system partition, and there is none")?;
        mkimage("i386-pc", &format!("(,gpt{esp})/{DIRECTORY}"), pool.then_some("zfs"), image)?;
        Ok(Self { boot: read(&Path::new(HOME).join("boot.img"))?, core: read(image)? })
    }

    /// Writes it to a disk; the table keeps its part of the first sector.
    pub fn write(&self, file: &File, layout: &Layout) -> Result<()> {
        let place = layout.find(Role::Bios).context("a partition for GRUB's core expected")?;
        ensure!(
            self.core.len() as u64 <= place.size,
            "GRUB's core has {} bytes and its partition {}",
            self.core.len(),
            place.size
        );
        let (boot, core) = patched(&self.boot, &self.core, place.start / SECTOR as u64)
            .context("boot.img and core.img of i386-pc expected, found files that are shorter than a sector")?;
        file.write_all_at(&core, place.start)
            .and_then(|()| file.write_all_at(boot.get(..CODE).unwrap_or(&boot), 0))
            .context("writing GRUB")
    }
}

/// What starts an ISO, from a CD and from a disk.
#[derive(Debug)]
pub struct Cd {
    /// The core, which a BIOS loads from a CD. It reads its menu from the file system that it lies on.
    pub core: Vec<u8>,
    /// The first sector, which loads the same core from a disk.
    pub sector: PathBuf,
}

impl Cd {
    /// Makes them; the core is written to `image` first.
    pub fn make(image: &Path) -> Result<Self> {
        mkimage("i386-pc-eltorito", &format!("/{DIRECTORY}"), Some("iso9660"), image)?;
        let sector = Path::new(HOME).join(HYBRID);
        read(&sector)?;
        Ok(Self { core: read(image)?, sector })
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{}: reading; {INSTALL}", path.display()))
}

/// Has a core written to `image`, in a format of GRUB's, with its directory and a module besides.
fn mkimage(format: &str, prefix: &str, more: Option<&str>, image: &Path) -> Result<()> {
    let mut command = Command::new("grub-mkimage");
    command.args(["-O", format, "-d", HOME, "-p", prefix, "-o"]).arg(image).args(FINDS).args(MODULES).args(more);
    let output = match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("grub-mkimage is not there, and makes GRUB for BIOS: {INSTALL}")
        }
        output => output.context("starting grub-mkimage")?,
    };
    ensure!(
        output.status.success(),
        "grub-mkimage: {}: {}; {INSTALL}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Both with each other's places in them; `None` if they are too short.
fn patched(boot: &[u8], core: &[u8], first: u64) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut boot, mut core) = (boot.to_vec(), core.to_vec());
    core.resize(core.len().next_multiple_of(SECTOR), 0);
    let sectors = u16::try_from(core.len() / SECTOR - 1).ok()?;
    put(&mut boot, CORE_AT, &first.to_le_bytes())?;
    // The drive that the BIOS names.
    put(&mut boot, DRIVE, &[0xff])?;
    put(&mut boot, DRIVE_CHECK, &[0x90, 0x90])?;
    put(&mut core, LIST_START, &(first + 1).to_le_bytes())?;
    put(&mut core, LIST_LENGTH, &sectors.to_le_bytes())?;
    Some((boot, core))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    bytes.get_mut(at..at + value.len())?.copy_from_slice(value);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_knows_where_the_other_lies() {
        let (boot, core) = patched(&[1; 512], &[2; 1300], 2048).unwrap();
        assert_eq!(boot[0x5c..0x68], [0, 8, 0, 0, 0, 0, 0, 0, 0xff, 1, 0x90, 0x90]);
        assert_eq!(core.len(), 1536);
        assert_eq!((&core[0x1f4..0x1fc], &core[0x1fc..0x200]), (&[1, 8, 0, 0, 0, 0, 0, 0][..], &[2, 0, 2, 2][..]));
        assert_eq!(patched(&[1; 50], &[2; 1300], 1), None);
    }
}
