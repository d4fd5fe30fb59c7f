//! A hybrid ISO: a CD, or a disk with a table of partitions, by BIOS and by UEFI. xorriso writes it.
//!
//! All files lie on its ISO 9660, so that they can be copied onto a FAT. A BIOS starts GRUB's core from there. UEFI starts what is on an EFI
//! system partition behind it, which has kernel and initramfs once more: systemd-boot reads nothing else. A partition begins with the ISO
//! 9660, too, since a disk with partitions is not mounted as a whole.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::Plan;
use super::medium::{Medium, TIMEOUT, is_loaders};
use crate::date::day;
use crate::esp::grub::{self, DIRECTORY};
use crate::image::boot::grub::Cd;
use crate::image::disk::fat::{self, Lent};
use crate::image::disk::layout::{Layout, Role};
use crate::image::work::Work;
use crate::progress::Progress;
use crate::uuid;

/// The ISO, in the directory of the work.
pub(super) const NAME: &str = "iso";
/// What GRUB's users start an ISO file by: a menu of its own, which finds the file's path in `iso_path`.
const LOOPBACK: &str = "boot/grub/loopback.cfg";
/// The word that passes it on. A blank in it makes GRUB put the word into quotes.
const PASSED_ON: &str = " findiso=\"${iso_path}\"";
const INSTALL: &str = "install xorriso (Debian) or libisoburn (Arch), or write a stick alone (--raw)";

/// Fails if the program that writes it is not there.
pub(super) fn ready() -> Result<()> {
    xorriso(Command::new("xorriso").arg("-version"))
}

/// Writes it; gives its bytes.
pub(super) fn write(plan: &Plan, medium: &Medium, work: &Work, progress: &Progress) -> Result<u64> {
    progress.step("writing the ISO");
    let tree = work.file("iso.tree");
    let core = format!("{DIRECTORY}/eltorito.img");
    let cd = Cd::make(&work.file("cd.img"))?;
    // Without a time to wait GRUB shows the menu for ever: nothing is taken over from the menu that it was called from.
    let loopback =
        format!("set default=0\nset timeout={TIMEOUT}\n\n{}", grub::one(&medium.entry, PASSED_ON)).into_bytes();
    let more = [(LOOPBACK.to_owned(), loopback), (core.clone(), cd.core)];
    for (path, content) in medium.files.iter().chain(more.iter().map(|(path, content)| (path, content))) {
        let place = tree.join(path);
        fs::create_dir_all(place.parent().unwrap_or(&tree)).context("a directory for the ISO's files")?;
        fs::write(&place, content).with_context(|| format!("{path}: writing it for the ISO"))?;
    }
    let layout = layout(medium);
    let esp = work.file("esp");
    efi(&esp, &layout, medium)?;
    let output = work.file(NAME);
    let mut command = Command::new("xorriso");
    command.args(["-no_rc", "-as", "mkisofs", "-quiet", "-iso-level", "3", "-r", "-J", "-joliet-long", "-no-pad"]);
    command.args(["-V", &label(&medium.id)]);
    let time = stamp(plan.time);
    command.arg(format!("--modification-date={time}"));
    command.args(["-partition_offset", "16", "--gpt_disk_guid", &uuid::text(layout.uuid("disk"))]);
    command.arg("--grub2-mbr").arg(&cd.sector).args(["-b", &core, "-c", &format!("{DIRECTORY}/boot.cat")]);
    command.args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info"]);
    command.args(["-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot"]);
    command.args(["-append_partition", "2", Role::Esp.kind()]).arg(&esp).arg("-appended_part_as_gpt");
    command.arg("-o").arg(&output).arg("-graft-points");
    command.arg(graft("", &tree)?);
    for (path, from) in &medium.copies {
        command.arg(graft(path, from)?);
    }
    // All three times of all of them: mkisofs' own word leaves those of directories, and when a file was changed.
    command.args(["--", "-alter_date_r", "b", &time, "/", "--", "-alter_date_r", "c", &time, "/", "--"]);
    xorriso(&mut command)?;
    let file = File::open(&output).context("xorriso has written nothing")?;
    file.sync_all().context("syncing the ISO")?;
    for done in [fs::remove_file(&esp), fs::remove_dir_all(&tree)] {
        done.context("removing what was packed")?;
    }
    Ok(file.metadata().context("the ISO's size")?.len())
}

/// The EFI system partition, as a file without a table.
fn layout(medium: &Medium) -> Layout {
    Layout::bare(Role::Esp, fat::least_for(&started(medium)).next_multiple_of(1 << 20), &medium.id)
}

/// What UEFI starts. The file by which the boot finds the medium is not among it, since the tree's image is elsewhere.
fn started(medium: &Medium) -> Lent<'_> {
    let grub = |path: &str| path.strip_prefix(DIRECTORY).is_some_and(|path| path.starts_with('/'));
    let needed = |path: &str| is_loaders(path) && !grub(path);
    let files = medium.files.iter().filter(|(path, _)| needed(path));
    files.map(|(path, content)| (path.clone(), &**content)).collect()
}

fn efi(path: &Path, layout: &Layout, medium: &Medium) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let file: File = file.with_context(|| format!("{}: making", path.display()))?;
    file.set_len(layout.size).context("a file for the EFI system partition")?;
    let esp = layout.find(Role::Esp).context("a plan with an EFI system partition expected")?;
    fat::write(&file, layout, &esp, &started(medium))
}

/// A file or directory and its place on the ISO; what means something to xorriso is hidden from it.
fn graft(place: &str, from: &Path) -> Result<String> {
    let hidden = |text: &str| text.replace('\\', "\\\\").replace('=', "\\=");
    let from = from.to_str().with_context(|| format!("{}: expected a name in UTF-8", from.display()))?;
    Ok(format!("/{}={}", hidden(place), hidden(from)))
}

/// The volume's label: letters that every system takes.
fn label(id: &str) -> String {
    format!("LIVE_{}", id.get(..8).unwrap_or(id)).to_uppercase()
}

/// A time as ISO 9660 has it, in hundredths of seconds.
fn stamp(time: u32) -> String {
    let of_day = time % 86_400;
    let [hour, minute, second] = [of_day / 3600, of_day / 60 % 60, of_day % 60];
    format!("{}{hour:02}{minute:02}{second:02}00", day(time.into()).replace('-', ""))
}

fn xorriso(command: &mut Command) -> Result<()> {
    command.env("LC_ALL", "C").stdin(Stdio::null());
    let output = match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("xorriso is not there, and writes the ISO: {INSTALL}")
        }
        output => output.context("starting xorriso")?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "xorriso: {}: {}", output.status, said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_names_and_labels() {
        assert_eq!(stamp(0), "1970010100000000");
        assert_eq!(stamp(1_700_000_000), "2023111422132000");
        assert_eq!(label("0123abcd4567"), "LIVE_0123ABCD");
        assert_eq!(graft("live/a", Path::new("/a=b\\c")).unwrap(), "/live/a=/a\\=b\\\\c");
    }
}
