//! What boots the image: an initramfs for the tree's kernel, and the boot loader's partition with it.

pub mod grub;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{Boot, Loader};
use crate::cli::InitramfsArgs;
use crate::esp::config::{Config, Recipe};
use crate::esp::store::Memory;
use crate::esp::{self, Kernel};
use crate::hooks::files::BootFiles;
use crate::initramfs::extras::Rescue;
use crate::initramfs::tree::{BINARY, Tree};
use crate::initramfs::{Summary, build};
use crate::output::Cleanup;
use crate::progress::Progress;
use crate::settings::{ModuleSet, Settings};
use crate::uki::sign::{Keys, sign};

/// Where the partition is mounted in the booted system.
pub const MOUNTED: &str = "/efi";
/// Where systemd leaves its programs for UEFI.
const SYSTEMD: &str = "/usr/lib/systemd/boot/efi";
const SYSTEMD_BOOT: &str = "systemd-bootx64.efi";
/// Where the firmware looks for a boot loader of a disk that it does not know.
const REMOVABLE: &str = "EFI/BOOT/BOOTX64.EFI";

impl Loader {
    /// What reads the boot loader's partition.
    pub fn words(self) -> &'static str {
        match self {
            Loader::SystemdBoot => "uki",
            Loader::Bls => "bls",
            // Both firmwares boot it, and what is there is there once.
            Loader::Grub => "bls+grub",
            Loader::GrubPool => "grub",
        }
    }

    /// Whether UEFI is to start it.
    fn has_uefi(self) -> bool {
        self != Loader::GrubPool
    }
}

/// What the boot loader's partition is made by, here and in the booted system.
pub fn config(boot: &Boot) -> Result<Config> {
    Ok(Config::new(boot.loader.words().parse()?, Path::new(MOUNTED), &boot.cmdline))
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// Files of the partition.
    pub files: Memory,
    /// The initramfs.
    pub image: Summary,
}

/// Packs the initramfs of the tree's kernel and lays out the partition, which has `limit` bytes. The directory of the tree's root is
/// nobody else's, and the initramfs is written there.
pub fn make(boot: &Boot, root: &Path, limit: u64, progress: &Progress, cleanup: &Cleanup) -> Result<Made> {
    let tree = Tree::open(root).context("opening what was kept of the tree")?;
    let kernel = kernel(&tree, boot.kernel.as_deref())?;
    let (image, bytes) = initramfs(boot, root, &kernel.version, progress, cleanup)?;
    let binary = tree.read(&kernel.kernel, BINARY).context("reading the kernel")?;
    // The stub that the tree lacks is this machine's.
    let mut config = config(boot)?;
    let here = Tree::open(Path::new("/")).context("/")?;
    let from = if config.loader.uki && tree.file(Path::new(SYSTEMD).join("linuxx64.efi.stub")).is_none() {
        &here
    } else {
        &tree
    };
    config.stub = None;
    let mut recipe = Recipe::of(from, &config)?;
    recipe.os = Recipe::of(&tree, &Config { loader: "bls".parse()?, ..config })?.os;
    recipe.keys = keys(boot);
    let mut files = Memory { limit: Some(limit), ..Memory::default() };
    let new = Kernel { release: &kernel.version, kernel: &binary, image: &bytes };
    esp::install(&mut files, &recipe, &new, None)?;
    if boot.loader.has_uefi() {
        let program = systemd_boot(&tree, &here)?;
        let program = match keys(boot) {
            Some(keys) => sign(&program, &keys)?,
            None => program,
        };
        files.files.insert(REMOVABLE.to_owned(), program);
    }
    Ok(Made { files, image })
}

fn keys(boot: &Boot) -> Option<Keys> {
    boot.sign.clone()
}

/// The kernel to boot: the one that was named, or the newest.
fn kernel(tree: &Tree, named: Option<&str>) -> Result<BootFiles> {
    let mut all = BootFiles::installed(tree)?;
    let there = all.iter().map(|files| files.version.clone()).collect::<Vec<_>>().join(", ");
    match named {
        Some(name) => all.into_iter().find(|files| files.version == name).with_context(|| {
            format!(
                "--kernel {name}: the tree has no such kernel with modules; it has: {}",
                if there.is_empty() { "none" } else { &there }
            )
        }),
        None => match all.pop() {
            Some(newest) => Ok(newest),
            None => bail!(
                "the tree has no kernel that could boot it (expected boot/vmlinuz-RELEASE and lib/modules/RELEASE with a \
                 modules.dep): install one there, for Debian linux-image-amd64 and zfs-dkms"
            ),
        },
    }
}

fn initramfs(
    boot: &Boot,
    root: &Path,
    kernel: &str,
    progress: &Progress,
    cleanup: &Cleanup,
) -> Result<(Summary, Vec<u8>)> {
    // Beside the tree, whose links come from elsewhere.
    let output = root.with_file_name("initramfs");
    let args = InitramfsArgs {
        root: Some(root.to_owned()),
        kernel: Some(kernel.to_owned()),
        output: Some(output.clone()),
        modules: Some(ModuleSet::Generic),
        rescue: if Tree::open(root)?.program("busybox").is_some() { None } else { Some(Rescue::None) },
        init: boot.init.clone(),
        ..InitramfsArgs::default()
    };
    let settings = Settings::new(&args)?;
    let summary = build(&settings, progress, cleanup, |_| Ok(())).context("packing the initramfs")?;
    let bytes = fs::read(&output).with_context(|| format!("{}: reading", output.display()))?;
    Ok((summary, bytes))
}

/// The boot loader: the tree's, or this machine's.
fn systemd_boot(tree: &Tree, here: &Tree) -> Result<Vec<u8>> {
    let path = PathBuf::from(SYSTEMD).join(SYSTEMD_BOOT);
    for from in [tree, here] {
        if let Some(bytes) = from.read_if_there(&path, BINARY)? {
            return Ok(bytes);
        }
    }
    bail!(
        "{}: neither the tree nor this machine has it: install systemd-boot-efi (Debian) or systemd (Arch) in one of them, or choose \
         --loader grub-pool for BIOS alone",
        path.display()
    )
}
