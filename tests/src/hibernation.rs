//! Swap space with a hibernation image in it, or what passes for one at first sight, and systemd's note of it. The disks are
//! those of `kit/pools/resume.sh`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::kit::{self, System};
use crate::vm::{Disk, Scratch, Vm};

/// Of the swap space.
pub const UUID: &str = "11111111-2222-3333-4444-555555555555";
/// Page of the second header, as of a swap file on the device.
pub const OFFSET: u64 = 256;
/// Where the swap partition begins.
pub const START: u64 = 1 << 20;
/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// As systemd 257 writes it, for the second header.
const NOTE: &str = r#"{"uuid":"11111111-2222-3333-4444-555555555555","offset":256,"autoSwap":true,"kernelVersion":"6.12-test","osReleaseId":"debian","osReleaseVersionId":"12"}"#;

/// Pool disk and swap disk; at this page of the swap space stands an image's signature.
pub fn disks(scratch: &Scratch, system: &System, page: u64) -> Result<[Disk; 2]> {
    let [pool, swap] = [scratch.overlay(system, "resume0")?, scratch.overlay(system, "hib0")?];
    let file = scratch.path().join("signature");
    fs::write(&file, b"SWAPSPACE2S1SUSPEND\0").with_context(|| format!("writing {}", file.display()))?;
    let at = START + (page + 1) * PAGE - 20;
    let write = format!("write -s {} {at} 20", file.display());
    kit::run(Command::new("qemu-io").args(["-f", "qcow2", "-c", &write]).arg(&swap.path))?;
    let found = signature(scratch, &swap, page)?;
    ensure!(found == "S1SUSPEND\0", "the signature in the swap space is {found:?}");
    Ok([pool, swap])
}

/// The signature at this page of the swap space now.
pub fn signature(scratch: &Scratch, swap: &Disk, page: u64) -> Result<String> {
    let raw = scratch.path().join("swap.raw");
    kit::run(Command::new("qemu-img").args(["convert", "-O", "raw"]).args([&swap.path, &raw]))?;
    let bytes = fs::read(&raw).with_context(|| format!("reading {}", raw.display()))?;
    let end = usize::try_from(START + (page + 1) * PAGE)?;
    Ok(String::from_utf8_lossy(bytes.get(end - 10..end).context("the swap space is too small")?).into_owned())
}

/// Makes a store of UEFI variables in which systemd noted that it hibernated to page [`OFFSET`] of the swap space.
pub fn note(system: &System, variables: &Path) -> Result<()> {
    let script = format!(
        "dir=/sys/firmware/efi/efivars; modprobe efivarfs; mount -t efivarfs efivarfs $dir || exit 1\n\
         {{ printf '\\007\\000\\000\\000'; printf %s '{NOTE}' | iconv -t UTF-16LE; printf '\\000\\000'; }} >/run/note\n\
         cat /run/note >$dir/HibernateLocation-8cf2644b-4b0b-428f-9387-6d876050dc67"
    );
    let name = format!("note-{}", variables.parent().and_then(Path::file_name).unwrap_or_default().display());
    let mut vm = Vm::helper(&name, system, &script).uefi_with(variables).start()?;
    vm.script(60)?;
    vm.wait_exit(20)
}
