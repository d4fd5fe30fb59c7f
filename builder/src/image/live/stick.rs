//! A disk that boots a live system by UEFI and by BIOS: GRUB's core, a FAT with all files, and what keeps what is written.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, Result, ensure};

use super::Plan;
use super::medium::Medium;
use crate::image::boot::grub::Grub;
use crate::image::disk::fat;
use crate::image::disk::layout::{Layout, Role};
use crate::image::disk::table;
use crate::image::work::Work;
use crate::progress::{Progress, megabytes};

/// The raw disk, in the directory of the work.
pub(super) const DISK: &str = "disk";
/// GRUB's core for BIOS.
const CORE: (Role, u64) = (Role::Bios, 1 << 20);

/// Fails if a file of so many bytes cannot lie on a FAT: it has to stay below `limit`.
pub(super) fn fits(bytes: u64, limit: u64) -> Result<()> {
    ensure!(
        bytes < limit,
        "--raw: the tree's image lies on a FAT there: expected fewer than {}, found {} and perhaps more to come; compress it more \
         (--compress xz), leave parts of the tree out (--set 'system.remove=[\"usr/share/doc\"]'), or write --iso or --squash, which have \
         no such limit",
        megabytes(limit),
        megabytes(bytes)
    );
    Ok(())
}

/// Writes it; gives its bytes.
pub(super) fn write(plan: &Plan, medium: &Medium, work: &Work, progress: &Progress) -> Result<u64> {
    let mut parts = vec![CORE, (Role::Esp, fat::room_for(&medium.files, fat::bytes_of(&medium.copies)?))];
    parts.extend(plan.keep.map(super::Keep::partition).transpose()?);
    let layout = Layout::of(&parts, None, &medium.id)?;
    let path = work.file(DISK);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let file: File = file.with_context(|| format!("{}: making", path.display()))?;
    file.set_len(layout.size).with_context(|| format!("{}: a file of {} bytes", path.display(), layout.size))?;

    progress.step("writing the disk");
    let esp = layout.find(Role::Esp).context("a plan with an EFI system partition expected")?;
    fat::write_with(&file, &layout, &esp, &medium.files, &medium.copies)?;
    Grub::make(&layout, false, &work.file("core.img"))?.write(&file, &layout)?;
    if let Some(keep) = plan.keep {
        let place =
            layout.find(Role::Keep).or(layout.find(Role::Pool)).context("a plan with its partition expected")?;
        keep.write(&file, &layout, place, &medium.id, work)?;
    }
    file.sync_all().context("syncing the disk")?;
    table::write(&file, &layout)?;
    Ok(layout.size)
}
