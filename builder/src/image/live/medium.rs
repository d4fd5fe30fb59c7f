//! The files of a medium: the image of the tree, kernel and initramfs, menus of boot loaders, and the file by which the boot finds the
//! medium, whatever it is called and whatever it was copied to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use taproot_init::hex::hex;

use super::Plan;
use crate::cli::InitramfsArgs;
use crate::esp::entry::{Entry, Os};
use crate::esp::grub;
use crate::image::boot::{REMOVABLE, kernel, pack, systemd_boot};
use crate::image::disk::fat::Files;
use crate::initramfs::Summary;
use crate::initramfs::tree::{BINARY, TEXT, Tree};
use crate::layer::image;
use crate::progress::Progress;

/// The directory that the boot looks into.
pub const DIRECTORY: &str = "live";
/// The layer that the tree is.
pub const LAYER: &str = "filesystem";
/// What the name of the file that shows the medium ends with.
const ID: &str = "id";
/// Seconds that menus wait.
const TIMEOUT: u16 = 3;

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
    /// The image of the tree.
    pub squashfs: PathBuf,
    /// Its bytes and its sum.
    pub bytes: u64,
    /// SHA-256 of it.
    pub sum: String,
}

/// Where the image lies on the medium.
pub fn squashfs_path() -> String {
    format!("{DIRECTORY}/{LAYER}.squashfs")
}

/// Packs the initramfs of what was kept of the tree, and lays out the files.
pub fn make(plan: &Plan, root: &Path, squashfs: &Path, progress: &Progress) -> Result<Medium> {
    let tree = Tree::open(root).context("opening what was kept of the tree")?;
    let boot = kernel(&tree, plan.kernel.as_deref())?;
    progress.step("packing the initramfs");
    let args = InitramfsArgs { layers: true, init: plan.init.clone(), ..InitramfsArgs::default() };
    // Beside the tree, whose links come from elsewhere.
    let place = root.with_file_name("initramfs");
    let summary = pack(args, root, &boot.version, &place, progress)?;
    let initrd = fs::read(&place).context("reading the initramfs")?;
    let linux = tree.read(&boot.kernel, BINARY).context("reading the kernel")?;
    let (bytes, sum) = image::sum(squashfs, |_| ())?;
    let sum = sum.to_string();
    let id = id(&sum, &[&linux, &initrd]);
    let os = os(&tree)?;
    let entry = Entry {
        release: boot.version.clone(),
        old: false,
        title: format!("{} (live)", os.title),
        sort_key: os.id,
        directory: DIRECTORY.to_owned(),
        options: words(plan, &id),
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
    Ok(Medium { files, id, entry, image: summary, squashfs: squashfs.to_owned(), bytes, sum })
}

/// The file that shows the medium.
fn marker(id: &str) -> String {
    format!("{DIRECTORY}/{id}.{ID}")
}

/// The kernel command line.
fn words(plan: &Plan, id: &str) -> String {
    let mut words = vec![
        "boot=live".to_owned(),
        format!("archisosearchfilename=/{}", marker(id)),
        format!("taproot.layers={LAYER}"),
    ];
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

fn os(tree: &Tree) -> Result<Os> {
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        if let Some(text) = tree.read_if_there(path, TEXT)? {
            return Ok(Os::parse(&String::from_utf8_lossy(&text)));
        }
    }
    Ok(Os::parse(""))
}
