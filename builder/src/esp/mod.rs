//! The partition that a boot loader reads, as far as taproot looks after it: kernels and images where the firmware, systemd-boot or GRUB
//! find them without reading a pool. One piece of code makes it for an image (in memory) and keeps it in step with the installed kernels
//! in a running system (mounted).
//!
//! | loader | files |
//! |---|---|
//! | `uki` | `EFI/Linux/taproot-RELEASE.efi`, the image before as `taproot-RELEASE~old.efi` |
//! | `bls` | `loader/entries/taproot-RELEASE.conf` and `taproot-RELEASE~old.conf`, which name `taproot/RELEASE.ID/linux` and `initrd` |
//! | `grub` | `grub/grub.cfg`, made of the same entries (in `taproot/entries` without `bls`), and `custom.cfg`, the owner's |
//!
//! Files that are named by an entry never change: their directory has a name of their content, and the entry is what is replaced. So each
//! step leaves a menu that boots, whenever the power goes.

pub mod config;
pub mod entry;
pub mod grub;
pub mod store;
#[cfg(test)]
mod tests;

use crate::hooks::becomes_fallback;
use crate::inspect;
use crate::loader::version;
use crate::progress::megabytes;
use crate::uki::{self, sign, write};
use anyhow::{Context, Result, ensure};
use config::Recipe;
use entry::{Entry, OLD};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use store::Store;
use taproot_init::hex::hex;
use taproot_init::image::ImageConfig;

/// Unified kernel images.
const UKIS: &str = "EFI/Linux";
/// What begins the names of ours.
const OURS: &str = "taproot-";
/// What ends the names of those that are not yet what boots.
const STAGED: &str = ".new";
/// Kernels and images that entries name.
const FILES: &str = "taproot";
/// Directory of GRUB's entries among those, where systemd-boot has none.
const ENTRIES: &str = "entries";
/// Directory of systemd-boot's entries.
const BLS: &str = "loader/entries";
/// systemd-boot's settings, which are the owner's once they are there.
const LOADER_CONF: &str = "loader/loader.conf";
/// The largest unit in which FAT gives room.
const CLUSTER: u64 = 32 << 10;

/// A kernel with its image.
#[derive(Debug, Clone)]
pub struct Kernel<'a> {
    /// Its release.
    pub release: &'a str,
    /// The kernel.
    pub kernel: Cow<'a, [u8]>,
    /// The initramfs.
    pub image: Cow<'a, [u8]>,
}

impl Kernel<'_> {
    fn borrowed(&self) -> Kernel<'_> {
        Kernel { release: self.release, kernel: Cow::Borrowed(&self.kernel), image: Cow::Borrowed(&self.image) }
    }
}

/// Puts a kernel with its image where the boot loader finds it. What was there of it becomes the image before if it is the one that runs
/// (`running`: its id) or the first. Fails before anything is changed if there is no room; whether anything was changed.
pub fn install(store: &mut dyn Store, recipe: &Recipe, new: Kernel<'_>, running: Option<&str>) -> Result<bool> {
    settle(store, recipe, running)?;
    let release = new.release;
    let id = image_id(&new.image);
    let directory = format!("{FILES}/{release}.{}", content_id(&new));
    let entry = Entry::new(recipe, release, &directory);
    let current = format!("{UKIS}/{OURS}{release}.efi");
    let staged = format!("{UKIS}/{OURS}{release}{STAGED}");
    let there = if recipe.loaders.uki { store.read(&current)? } else { None };
    let unified = recipe.loaders.uki && !there.as_deref().is_some_and(|there| is_same(there, recipe, &new));
    let mut files = Vec::new();
    if recipe.loaders.has_files() {
        if unified {
            files.push((staged.clone(), make_uki(recipe, new.borrowed())?.into()));
        }
        for (name, bytes) in [("linux", new.kernel), ("initrd", new.image)] {
            let path = format!("{directory}/{name}");
            // One of that name and size is whole, and the name says what is in it.
            if store.size(&path) != Some(bytes.len() as u64) {
                files.push((path, bytes));
            }
        }
    } else if unified {
        files.push((staged.clone(), make_uki(recipe, new)?.into()));
    }
    // What a run left that the power ended takes room, and nothing boots it.
    for name in store.list(UKIS)?.iter().filter(|name| name.starts_with(OURS) && name.ends_with(STAGED)) {
        store.remove(&format!("{UKIS}/{name}"))?;
    }
    has_room(store, release, files.iter().map(|(_, bytes)| bytes.len() as u64))?;
    let mut changed = !files.is_empty();
    for (path, bytes) in files {
        match bytes {
            Cow::Borrowed(bytes) => store.write(&path, bytes)?,
            Cow::Owned(bytes) => store.put(&path, bytes)?,
        }
    }
    if unified {
        let old = format!("{UKIS}/{OURS}{release}{OLD}.efi");
        let before = there.as_deref().and_then(|there| uki::section(there, ".initrd")).map(image_id);
        if before.is_some_and(|before| becomes_fallback(&before, &id, running, store.size(&old).is_some())) {
            store.rename(&current, &old)?;
        }
        store.rename(&staged, &current)?;
    }
    if recipe.loaders.has_files() {
        changed |= replace_entry(store, recipe, &entry, &id, running)?;
    }
    finish(store, recipe)?;
    Ok(changed)
}

/// Writes an entry, and that of the image before in front of it.
fn replace_entry(
    store: &mut dyn Store,
    recipe: &Recipe,
    entry: &Entry,
    id: &str,
    running: Option<&str>,
) -> Result<bool> {
    let all = entries(store, recipe)?;
    let of = |old: bool| all.iter().find(|other| other.release == entry.release && other.old == old);
    let current = of(false).filter(|current| current.directory != entry.directory);
    if let Some(current) = current {
        let before = store.read(&format!("{}/initrd", current.directory))?.map(|image| image_id(&image));
        if before.is_some_and(|before| becomes_fallback(&before, id, running, of(true).is_some())) {
            write_entry(store, recipe, &current.before())?;
        }
    }
    let same = of(false) == Some(entry);
    if !same {
        write_entry(store, recipe, entry)?;
    }
    Ok(!same)
}

/// Whether a kernel has anything there, for whichever boot loader.
pub fn has(store: &dyn Store, release: &str) -> bool {
    let uki = format!("{UKIS}/{OURS}{release}.efi");
    let entries = [BLS.to_owned(), format!("{FILES}/{ENTRIES}")];
    let entries = entries.map(|directory| format!("{directory}/{OURS}{release}.conf"));
    std::iter::once(uki).chain(entries).any(|path| store.size(&path).is_some())
}

/// Removes what a kernel has there; whether there was anything.
pub fn remove(store: &mut dyn Store, recipe: &Recipe, release: &str) -> Result<bool> {
    let mut found = false;
    for end in ["", OLD] {
        for path in [
            format!("{UKIS}/{OURS}{release}{end}.efi"),
            format!("{}/{OURS}{release}{end}.conf", entry_directory(recipe)),
        ] {
            if store.size(&path).is_some() {
                store.remove(&path)?;
                found = true;
            }
        }
    }
    finish(store, recipe)?;
    Ok(found)
}

/// Makes everything anew that holds the command line, for kernels and images that are there.
pub fn refresh(store: &mut dyn Store, recipe: &Recipe) -> Result<()> {
    for name in store.list(UKIS)?.iter().filter(|_| recipe.loaders.uki) {
        let Some(release) = name.strip_prefix(OURS).and_then(|name| name.strip_suffix(".efi")) else { continue };
        let path = format!("{UKIS}/{name}");
        let Some(bytes) = store.read(&path)? else { continue };
        let parts = uki::section(&bytes, ".linux").zip(uki::section(&bytes, ".initrd"));
        let Some((kernel, image)) = parts else { continue };
        let kernel = Kernel {
            release: release.strip_suffix(OLD).unwrap_or(release),
            kernel: kernel.into(),
            image: image.into(),
        };
        if !is_same(&bytes, recipe, &kernel) {
            let release = kernel.release;
            let new = make_uki(recipe, kernel)?;
            has_room(store, release, std::iter::once(new.len() as u64))?;
            store.write(&path, &new)?;
        }
    }
    for mut entry in entries(store, recipe)? {
        if entry.options != recipe.cmdline {
            entry.options.clone_from(&recipe.cmdline);
            write_entry(store, recipe, &entry)?;
        }
    }
    finish(store, recipe)
}

/// Removes images before whose successor runs: they are not needed any more, and their room may be.
fn settle(store: &mut dyn Store, recipe: &Recipe, running: Option<&str>) -> Result<()> {
    let Some(running) = running else { return Ok(()) };
    for name in store.list(UKIS)? {
        let Some(release) = name.strip_prefix(OURS).and_then(|name| name.strip_suffix(".efi")?.strip_suffix(OLD))
        else {
            continue;
        };
        let current = store.read(&format!("{UKIS}/{OURS}{release}.efi"))?.unwrap_or_default();
        if uki::section(&current, ".initrd").is_some_and(|image| image_id(image) == running) {
            store.remove(&format!("{UKIS}/{name}"))?;
        }
    }
    let all = entries(store, recipe)?;
    for old in all.iter().filter(|entry| entry.old) {
        let Some(current) = all.iter().find(|entry| entry.release == old.release && !entry.old) else { continue };
        let image = store.read(&format!("{}/initrd", current.directory))?;
        if image.is_some_and(|image| image_id(&image) == running) {
            store.remove(&format!("{}/{}", entry_directory(recipe), old.file()))?;
        }
    }
    finish(store, recipe)
}

/// Menus, and files that no entry names any more.
fn finish(store: &mut dyn Store, recipe: &Recipe) -> Result<()> {
    let mut all = entries(store, recipe)?;
    if (recipe.loaders.uki || recipe.loaders.bls) && store.size(LOADER_CONF).is_none() {
        let text = format!("timeout {}\nconsole-mode keep\n", recipe.timeout);
        store.write(LOADER_CONF, text.as_bytes())?;
    }
    if recipe.loaders.grub {
        // The newest kernel first, an image before behind its successor.
        all.sort_by(|a, b| version(&b.version(), &a.version()));
        let (path, menu) = (format!("{}/grub.cfg", grub::DIRECTORY), grub::menu(&all, recipe.timeout));
        if store.read(&path)?.as_deref() != Some(menu.as_bytes()) {
            store.write(&path, menu.as_bytes())?;
        }
    }
    // Entries of loaders that were there before are boot menus yet.
    let mut named = Vec::new();
    for directory in [BLS.to_owned(), format!("{FILES}/{ENTRIES}")] {
        named.extend(entries_in(store, &directory)?.into_iter().map(|entry| entry.directory));
    }
    for name in store.list(FILES)? {
        let directory = format!("{FILES}/{name}");
        if name != ENTRIES && !named.contains(&directory) {
            store.remove(&directory)?;
        }
    }
    Ok(())
}

/// Fails if these files have no room beside what is there.
fn has_room(store: &dyn Store, release: &str, sizes: impl Iterator<Item = u64>) -> Result<()> {
    let sizes: Vec<u64> = sizes.collect();
    if sizes.is_empty() {
        return Ok(());
    }
    // Menus and directories are small, and there are few.
    let needed = sizes.iter().map(|size| size.next_multiple_of(CLUSTER)).sum::<u64>() + 4 * CLUSTER;
    let free = store.free()?;
    ensure!(
        needed <= free,
        "{}: NO ROOM FOR KERNEL {release}: {} are needed and {} are free. What the boot loader has stays, and is what boots next. Remove \
         kernels that are not needed (apt autoremove), or files there that are not ours, then: taproot hooks add {release}",
        store.shown(),
        megabytes(needed),
        megabytes(free)
    );
    Ok(())
}

/// Directory of the entries.
fn entry_directory(recipe: &Recipe) -> String {
    if recipe.loaders.bls { BLS.to_owned() } else { format!("{FILES}/{ENTRIES}") }
}

/// The entries of ours that are there.
pub fn entries(store: &dyn Store, recipe: &Recipe) -> Result<Vec<Entry>> {
    entries_in(store, &entry_directory(recipe))
}

fn entries_in(store: &dyn Store, directory: &str) -> Result<Vec<Entry>> {
    let mut all = Vec::new();
    for name in store.list(directory)? {
        let text = store.read(&format!("{directory}/{name}"))?.unwrap_or_default();
        all.extend(Entry::parse(&name, &String::from_utf8_lossy(&text)));
    }
    Ok(all)
}

fn write_entry(store: &mut dyn Store, recipe: &Recipe, entry: &Entry) -> Result<()> {
    store.write(&format!("{}/{}", entry_directory(recipe), entry.file()), entry.render().as_bytes())
}

fn make_uki(recipe: &Recipe, kernel: Kernel<'_>) -> Result<Vec<u8>> {
    let parts = write::Parts {
        os_release: &recipe.os.release_text(kernel.release),
        cmdline: &recipe.cmdline,
        release: kernel.release,
        kernel: kernel.kernel,
        initrd: kernel.image,
    };
    let bytes = write::write(&recipe.stub, parts)
        .with_context(|| format!("making the unified kernel image of {}", kernel.release))?;
    match &recipe.keys {
        Some(keys) => sign::sign(&bytes, keys),
        None => Ok(bytes),
    }
}

/// Whether a unified kernel image has these parts already; a signature does not count.
fn is_same(bytes: &[u8], recipe: &Recipe, kernel: &Kernel<'_>) -> bool {
    uki::section(bytes, ".linux") == Some(&*kernel.kernel)
        && uki::section(bytes, ".initrd") == Some(&*kernel.image)
        && uki::text(bytes, ".cmdline").as_deref() == Some(recipe.cmdline.trim_end())
}

/// The id of an image; empty if another program made it.
fn image_id(image: &[u8]) -> String {
    let config = inspect::config(image).ok().flatten();
    config.map(|text| ImageConfig::parse(&text).id).unwrap_or_default()
}

/// A name for what a kernel boots with.
fn content_id(kernel: &Kernel<'_>) -> String {
    let parts = [&kernel.kernel, &kernel.image].map(|part| hex(&Sha256::digest(part)));
    let mut id = hex(&Sha256::digest(parts.concat().as_bytes()));
    id.truncate(12);
    id
}
