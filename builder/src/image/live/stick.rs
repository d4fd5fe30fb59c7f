//! A disk that boots a live system by UEFI and by BIOS: GRUB's core, a FAT with all files, and what keeps what is written.
//!
//! A FAT has no room for a file of 4 GiB. The image of such a tree, and what the boot finds the medium by, lie on an ext4 of their own; boot
//! loaders read the FAT alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Plan;
use super::ext4::{Ext4, SEALED};
use super::medium::{DIRECTORY, Medium, is_loaders};
use crate::image::boot::grub::Grub;
use crate::image::disk::fat::{self, Copies, Files, Lent};
use crate::image::disk::layout::{Layout, Partition, Role};
use crate::image::disk::table;
use crate::image::work::Work;
use crate::progress::Progress;
use crate::uuid;

/// The raw disk, in the directory of the work.
pub(super) const DISK: &str = "disk";
/// GRUB's core for BIOS.
const CORE: (Role, u64) = (Role::Bios, 1 << 20);
/// What an ext4 needs besides its files.
const OVERHEAD: u64 = 16 << 20;

/// Files by the partition that they lie on.
#[derive(Debug)]
struct Shared<'f> {
    /// The FAT's.
    esp: (Lent<'f>, Copies),
    /// Those of an ext4, if there has to be one.
    tree: Option<(Lent<'f>, Copies)>,
}

impl<'f> Shared<'f> {
    /// Of a medium; one with a file of `limit` bytes or more has an ext4.
    fn of(files: &'f Files, copies: &Copies, limit: u64) -> Result<Self> {
        let sizes = fat::sizes(copies)?;
        let files: Lent<'f> = files.iter().map(|(path, content)| (path.clone(), &**content)).collect();
        let copies = copies.clone();
        if sizes.iter().all(|size| *size < limit) {
            return Ok(Self { esp: (files, copies), tree: None });
        }
        let (esp, tree) = files.into_iter().partition(|(path, _)| is_loaders(path));
        Ok(Self { esp: (esp, Copies::new()), tree: Some((tree, copies)) })
    }

    /// Partitions for them.
    fn partitions(&self) -> Result<Vec<(Role, u64)>> {
        let (files, copies) = &self.esp;
        let mut parts = vec![CORE, (Role::Esp, fat::room_for(files, fat::bytes_of(copies)?))];
        if let Some((_, copies)) = &self.tree {
            let bytes = fat::bytes_of(copies)?;
            parts.push((Role::Tree, bytes + bytes / 64 + OVERHEAD));
        }
        Ok(parts)
    }

    /// Makes the ext4 on its partition of a disk; its files are put together in `top` first.
    fn write_tree(&self, disk: &Path, layout: &Layout, id: &str, top: &Path) -> Result<()> {
        let (Some((files, copies)), Some(Partition { start, size, .. })) = (&self.tree, layout.find(Role::Tree)) else {
            return Ok(());
        };
        DirBuilder::new()
            .mode(0o755)
            .recursive(true)
            .create(top.join(DIRECTORY))
            .context("a directory for the tree's partition")?;
        for (path, content) in files {
            fs::write(top.join(path), content).with_context(|| format!("{path}: writing it"))?;
        }
        for (path, from) in copies {
            // A second name is there at once; elsewhere it has to be a copy.
            let to = top.join(path);
            fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop)).with_context(|| path.clone())?;
        }
        let paths = files.keys().chain(copies.keys()).map(String::as_str);
        let paths: Vec<&str> = paths.chain([DIRECTORY]).collect();
        let (uuid, label) = (uuid::text(layout.uuid("medium")), format!("medium-{}", id.get(..8).unwrap_or(id)));
        let ext4 = Ext4 { image: disk, start, size, tree: top, paths: &paths, uuid: &uuid, label: &label };
        ext4.make(&SEALED).context("the tree's partition")?;
        fs::remove_dir_all(top).context("removing what was packed")
    }
}

/// Writes it; gives its bytes.
pub(super) fn write(plan: &Plan, medium: &Medium, work: &Work, progress: &Progress) -> Result<u64> {
    let shared = Shared::of(&medium.files, &medium.copies, fat::TOO_LARGE)?;
    let mut parts = shared.partitions()?;
    parts.extend(plan.keep.map(super::Keep::partition).transpose()?);
    let layout = Layout::of(&parts, None, &medium.id)?;
    let path = work.file(DISK);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let file: File = file.with_context(|| format!("{}: making", path.display()))?;
    file.set_len(layout.size).with_context(|| format!("{}: a file of {} bytes", path.display(), layout.size))?;

    progress.step("writing the disk");
    shared.write_tree(&path, &layout, &medium.id, &work.file("tree.files"))?;
    let esp = layout.find(Role::Esp).context("a plan with an EFI system partition expected")?;
    let (files, copies) = &shared.esp;
    fat::write_with(&file, &layout, &esp, files, copies)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const LOADERS: [&str; 5] =
        ["EFI/BOOT/BOOTX64.EFI", "grub/grub.cfg", "live/initrd", "live/linux", "loader/entries/taproot.conf"];

    fn run(command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn what_is_too_large_for_a_fat_lies_on_an_ext4_with_what_the_boot_looks_for() {
        let dir = tempfile::tempdir().unwrap();
        let (image, disk) = (dir.path().join("filesystem.squashfs"), dir.path().join("disk"));
        let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_be_bytes).collect();
        fs::write(&image, &content).unwrap();
        let names = LOADERS.iter().chain(&["live/0123456789ab.id", "live/layers.list"]);
        let files: Files = names.map(|name| ((*name).to_owned(), name.as_bytes().to_vec())).collect();
        let copies = Copies::from([("live/filesystem.squashfs".to_owned(), image.clone())]);
        let size = content.len() as u64;

        let small = Shared::of(&files, &copies, size + 1).unwrap();
        let lent: Lent<'_> = files.iter().map(|(path, content)| (path.clone(), &**content)).collect();
        assert!(small.tree.is_none() && small.esp == (lent, copies.clone()));
        assert_eq!(small.partitions().unwrap().len(), 2);

        let large = Shared::of(&files, &copies, size).unwrap();
        assert!(large.esp.0.keys().eq(LOADERS.iter()) && large.esp.1.is_empty());
        let layout = Layout::of(&large.partitions().unwrap(), None, "x").unwrap();
        File::create_new(&disk).unwrap().set_len(layout.size).unwrap();
        large.write_tree(&disk, &layout, "0123456789ab", &dir.path().join("top")).unwrap();
        let mut place = disk.clone().into_os_string();
        place.push(format!("?offset={}", layout.find(Role::Tree).unwrap().start));
        run(Command::new("e2fsck").arg("-fn").arg(&place));
        let listed = run(Command::new("debugfs").args(["-R", "ls -p live"]).arg(&place));
        for name in ["filesystem.squashfs", "0123456789ab.id", "layers.list"] {
            assert!(listed.lines().any(|line| line.contains("/0/0/") && line.contains(name)), "{name}: {listed}");
        }
        let (request, out) = ("dump live/filesystem.squashfs", dir.path().join("out"));
        run(Command::new("debugfs").arg("-R").arg(format!("{request} {}", out.display())).arg(&place));
        assert!(fs::read(out).unwrap() == content, "another image");
        assert!(!dir.path().join("top").exists());
        // Nothing but its partition was written to.
        let bytes = fs::read(&disk).unwrap();
        let tree = layout.find(Role::Tree).unwrap();
        assert!(bytes[..usize::try_from(tree.start).unwrap()].iter().all(|byte| *byte == 0));
        assert_eq!(layout.size, tree.start + tree.size + (1 << 20));
    }
}
