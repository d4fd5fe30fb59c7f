//! The files of a medium: the image of the tree, kernel and initramfs, menus of boot loaders, and the file by which the boot finds the
//! medium, whatever it is called and whatever it was copied to.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use taproot_init::hex::hex;

use super::Plan;
use crate::cli::InitramfsArgs;
use crate::esp::entry::{Entry, Os};
use crate::esp::grub;
use crate::image::boot::{REMOVABLE, kernel, pack, systemd_boot};
use crate::image::disk::fat::{Copies, Files};
use crate::initramfs::Summary;
use crate::initramfs::tree::{BINARY, Tree};
use crate::layer::image;
use crate::progress::Progress;

/// The directory that the boot looks into.
pub const DIRECTORY: &str = "live";
/// The layer that the tree is.
pub const LAYER: &str = "filesystem";
/// What an entry starts, in its directory.
const KERNEL: [&str; 2] = ["linux", "initrd"];
/// What the name of the file that shows the medium ends with.
const ID: &str = "id";
/// Seconds that menus wait.
pub(super) const TIMEOUT: u16 = 3;

/// All that boots, beside the image.
#[derive(Debug)]
pub struct Medium {
    /// Files of the medium by their paths.
    pub files: Files,
    /// What tells it from others.
    pub id: String,
    /// Its menu's only entry.
    pub entry: Entry,
    /// The initramfs.
    pub image: Summary,
    /// Files that are copied onto it: the image of the tree, and what lies beside it.
    pub copies: Copies,
    /// Bytes of the image.
    pub bytes: u64,
    /// SHA-256 of it.
    pub sum: String,
}

/// Packs the initramfs of what was kept of the tree, and lays out the files.
pub fn make(plan: &Plan, root: &Path, squashfs: &Path, progress: &Progress) -> Result<Medium> {
    let tree = Tree::open(root).context("opening what was kept of the tree")?;
    let boot = kernel(&tree, plan.kernel.as_deref())?;
    progress.step("packing the initramfs");
    let (bytes, sum) = image::sum(squashfs, |_| ())?;
    let sealed = plan.sealing.as_ref().map(|sealing| sealing.seal(squashfs)).transpose()?;
    let (word, layers_keys) =
        sealed.as_ref().map(|sealed| (sealed.word.clone(), sealed.keys.clone())).unwrap_or_default();
    // With the word in it, too: what it needs is packed then, and looked for.
    let args = InitramfsArgs {
        layers: true,
        init: plan.init.clone(),
        cmdline: word.clone(),
        layers_keys,
        ..InitramfsArgs::default()
    };
    // Beside the tree, whose links come from elsewhere.
    let place = root.with_file_name("initramfs");
    let summary = pack(args, root, &boot.version, &place, progress)?;
    let initrd = fs::read(&place).context("reading the initramfs")?;
    let linux = tree.read(&boot.kernel, BINARY).context("reading the kernel")?;
    let sum = sum.to_string();
    let id = id(&sum, &[&linux, &initrd]);
    let os = Os::of(&tree)?;
    let entry = Entry {
        release: boot.version.clone(),
        old: false,
        title: format!("{} (live)", os.title),
        sort_key: os.id,
        directory: DIRECTORY.to_owned(),
        options: words(plan, &id, word),
    };
    let here = Tree::open(Path::new("/")).context("/")?;
    let mut files = Files::new();
    files.insert(REMOVABLE.to_owned(), systemd_boot(&tree, &here)?);
    files.insert("loader/loader.conf".to_owned(), format!("timeout {TIMEOUT}\nconsole-mode keep\n").into_bytes());
    files.insert(format!("loader/entries/{}", entry.file()), entry.render().into_bytes());
    files.insert(
        format!("{}/grub.cfg", grub::DIRECTORY),
        grub::menu(std::slice::from_ref(&entry), TIMEOUT).into_bytes(),
    );
    files.insert(format!("{DIRECTORY}/linux"), linux);
    files.insert(format!("{DIRECTORY}/initrd"), initrd);
    files.insert(marker(&id), format!("{id}\n").into_bytes());
    let mut copies = Copies::from([(format!("{DIRECTORY}/{LAYER}.squashfs"), squashfs.to_owned())]);
    if let Some(sealed) = sealed {
        files.extend(sealed.files);
        copies.extend(sealed.copies);
    }
    Ok(Medium { files, id, entry, image: summary, copies, bytes, sum })
}

/// Whether a boot loader reads this file; the boot looks for the others itself.
pub(super) fn is_loaders(path: &str) -> bool {
    let below = path.strip_prefix(DIRECTORY).and_then(|path| path.strip_prefix('/'));
    below.is_none_or(|name| KERNEL.contains(&name))
}

/// The file that shows the medium.
fn marker(id: &str) -> String {
    format!("{DIRECTORY}/{id}.{ID}")
}

/// The kernel command line.
fn words(plan: &Plan, id: &str, sealed: Option<String>) -> String {
    let mut words = vec![
        "boot=live".to_owned(),
        format!("archisosearchfilename=/{}", marker(id)),
        format!("taproot.layers={LAYER}"),
    ];
    words.extend(sealed);
    words.extend(plan.keep.map(|keep| keep.words(id)));
    words.extend((!plan.cmdline.trim().is_empty()).then(|| plan.cmdline.trim().to_owned()));
    words.join(" ")
}

/// What no other medium has, and the same tree has again.
fn id(squashfs: &str, parts: &[&[u8]]) -> String {
    let mut all = Sha256::new();
    all.update(squashfs);
    for part in parts {
        all.update(Sha256::digest(part));
    }
    let mut id = hex(&all.finalize());
    id.truncate(16);
    id
}
