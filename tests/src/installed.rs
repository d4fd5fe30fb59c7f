//! Packing where it is done by its users: in a booted system, for the machine that it runs on.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::kit;
use crate::vm::{Disk, Scratch, Vm};
use crate::{checkout, image};

/// Where the script leaves images.
pub const IMAGES: &str = "/run/images";

/// Boots the machine, puts our programs into its system as `make install` does, runs the script there, and gives the directory
/// with what the script left in [`IMAGES`].
pub fn pack(machine: Vm, scratch: &Scratch, script: &str) -> Result<PathBuf> {
    let script = format!(
        "set -e\ntar -xf /dev/disk/by-id/virtio-payload -C /\nmkdir -p {IMAGES}\n{script}\n\
         tar -cf /dev/disk/by-id/virtio-images -C {IMAGES} .\nsystemctl --no-block poweroff\n"
    );
    let images = scratch.blank("images", 64 << 20)?;
    let machine = machine.disk(payload(scratch)?).disk(images.clone()).file("opt/taproot/script", script.as_bytes());
    let mut vm = machine.start()?;
    vm.report(60)?;
    vm.script(120)?;
    vm.wait_exit(60)?;
    let dir = scratch.path().join("images");
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    kit::run(Command::new("tar").arg("-xf").arg(&images.path).arg("-C").arg(&dir))?;
    Ok(dir)
}

/// A disk with what is to be put into the system, as an archive: our programs as `make install` does.
pub fn payload(scratch: &Scratch) -> Result<Disk> {
    payload_with(scratch, &[])
}

/// The same with files of this machine, and the paths that they get.
pub fn payload_with(scratch: &Scratch, more: &[(PathBuf, &str)]) -> Result<Disk> {
    let dir = scratch.path().join("payload");
    let busybox = kit::cache()?.join("busybox/busybox");
    ensure!(busybox.exists(), "{} is missing; run: make kit", busybox.display());
    let own = [
        (image::builder(), "usr/bin/taproot"),
        (image::boot_binary(), "usr/lib/taproot/taproot-init"),
        (checkout().join("out/guest-init"), "usr/sbin/guest-init"),
        (busybox, "usr/bin/busybox"),
    ];
    for (from, to) in own.iter().chain(more) {
        let to = dir.join(to);
        fs::create_dir_all(to.parent().context("no directory")?)
            .and_then(|()| fs::copy(from, &to))
            .with_context(|| format!("copying {}", from.display()))?;
    }
    let path = scratch.path().join("payload.tar");
    kit::run(Command::new("tar").arg("-cf").arg(&path).arg("-C").arg(&dir).arg("usr"))?;
    Ok(Disk::read_only(&path, "payload"))
}
