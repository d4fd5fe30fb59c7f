//! Kernels and images on the partition that the boot loader reads, where the tree's configuration asks for that (`esp/`).

use super::files::BootFiles;
use super::running;
use crate::esp::config::{Config, PATH, Recipe};
use crate::esp::store::Mounted;
use crate::esp::{self, Kernel};
use crate::firstboot::esp::meant;
use crate::firstboot::pool::leaves;
use crate::firstboot::{grow, is_mounted};
use crate::initramfs::tree::{BINARY, Tree};
use crate::output::{Cleanup, print};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use taproot_init::sys::linux::Linux;
use taproot_init::zfs::ioctl::Zfs;

/// The partition, and what it is filled by; `None`: the boot loader's files are not ours.
fn open(tree: &Tree, cleanup: &Cleanup) -> Result<Option<(Mounted, Recipe)>> {
    let Some(config) = Config::of(tree)? else { return Ok(None) };
    let esp = tree.place(&config.esp)?;
    // Of another tree only what is in it is known.
    let there = if tree.is_running() { is_mounted(&config.esp) } else { esp.is_dir() };
    ensure!(
        there,
        "{}: expected the partition that the boot loader reads to be mounted there ({PATH} says so), and it is not: mount it, then try again",
        esp.display()
    );
    if tree.is_running() {
        ensure_own(&config.esp)?;
    }
    Ok(Some((Mounted::new(&esp, cleanup), Recipe::of(tree, &config)?)))
}

/// Fails if what is mounted there is the partition of another copy of the disk that this system runs from: that copy would boot these
/// kernels, and this one would not.
fn ensure_own(esp: &Path) -> Result<()> {
    // Without such a pool nothing is known of copies.
    let Ok(pool) = grow::pool(None) else { return Ok(()) };
    let Ok(config) = Zfs::new(&Linux::new()).pool_stats(&pool) else { return Ok(()) };
    match meant(esp, &leaves(&config)?)? {
        None => Ok(()),
        Some(own) => bail!(
            "{}: expected the partition of this system's own disk to be mounted there ({}), found that of another copy of it: mount the right \
             one, then try again",
            esp.display(),
            own.name
        ),
    }
}

/// Puts a kernel with its image there.
pub(super) fn add(tree: &Tree, files: &BootFiles, cleanup: &Cleanup) -> Result<()> {
    let release = &files.version;
    let put = || {
        let Some((mut store, recipe)) = open(tree, cleanup)? else { return Ok(false) };
        let (kernel, image) = (tree.read(&files.kernel, BINARY)?, tree.read(&files.image, BINARY)?);
        let new = Kernel { release, kernel: kernel.into(), image: image.into() };
        esp::install(&mut store, &recipe, new, running(tree).as_deref())
    };
    let changed = put().with_context(|| {
        format!("kernel {release}: {} is made, but DOES NOT REACH THE BOOT LOADER", tree.shown(&files.image).display())
    })?;
    if changed { print(&format!("taproot: kernel {release} is where the boot loader finds it\n")) } else { Ok(()) }
}

/// Removes what a kernel that goes has there. A package that goes is not kept for it.
pub(super) fn remove(tree: &Tree, release: &str, cleanup: &Cleanup) {
    let gone = || match open(tree, cleanup)? {
        Some((mut store, recipe)) => esp::remove(&mut store, &recipe, release),
        None => Ok(false),
    };
    match gone() {
        Ok(true) => eprintln!("taproot: the boot loader has kernel {release} no more"),
        Ok(false) => {}
        Err(error) => {
            eprintln!("taproot: THE BOOT LOADER STILL HAS KERNEL {release}, whose modules are gone: {error:#}");
        }
    }
}
