//! What boots the image: an initramfs for the tree's kernel, and the boot loader's partition with it.

pub mod grub;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use taproot_init::sys::allocator;

use super::stages::Stages;
use super::{Boot, Loader};
use crate::cli::InitramfsArgs;
use crate::esp::config::{Config, Recipe};
use crate::esp::store::Memory;
use crate::esp::{self, Kernel};
use crate::hooks::files::BootFiles;
use crate::initramfs::compress::{Compression, ModuleCompression};
use crate::initramfs::extras::Rescue;
use crate::initramfs::tree::{BINARY, Tree};
use crate::initramfs::{Summary, build};
use crate::output::Cleanup;
use crate::progress::Progress;
use crate::settings::{ModuleSet, Settings};
use crate::uki::sign::{Keys, sign};

/// Where the partition is mounted in the booted system, of the first disk.
const MOUNTED: &str = "/efi";
/// Where systemd leaves its programs for UEFI.
const SYSTEMD: &str = "/usr/lib/systemd/boot/efi";
const SYSTEMD_BOOT: &str = "systemd-bootx64.efi";
/// Level at which an initramfs is compressed if the tree has no configuration of it: an image is made while somebody waits, and packs its
/// own with its next kernel. A tenth larger than by the default, in half the time and less memory.
const QUICK: i32 = 3;
/// Where the firmware looks for a boot loader of a disk that it does not know.
pub(super) const REMOVABLE: &str = "EFI/BOOT/BOOTX64.EFI";

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

/// Where the partition of a disk is mounted in the booted system.
pub fn mounted(nth: usize) -> PathBuf {
    if nth == 0 { MOUNTED.into() } else { format!("{MOUNTED}{}", nth + 1).into() }
}

/// What the boot loader's partition is made by, here and in the booted system, where so many disks have one.
pub fn config(boot: &Boot, disks: usize) -> Result<Config> {
    let esp_copies = (1..disks).map(mounted).collect();
    Ok(Config { esp_copies, ..Config::new(boot.loader.words().parse()?, Path::new(MOUNTED), &boot.cmdline) })
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// Files of the partition.
    pub files: Memory,
    /// Release of the kernel.
    pub kernel: String,
    /// Version of its zfs module in the initramfs; `None`: it is built in, or a hook made the initramfs.
    pub zfs: Option<String>,
    /// What people should know.
    pub notes: Vec<String>,
}

/// Packs the initramfs of the tree's kernel and lays out the partition, which has `limit` bytes. `root` is the archive of what was kept of
/// the tree, in a directory that is nobody else's; the initramfs is written there.
pub fn make(boot: &Boot, root: &Path, limit: u64, stages: &Stages<'_>) -> Result<Made> {
    let tree = Tree::open(root).context("opening what was kept of the tree")?;
    let kernel = kernel(&tree, boot.kernel.as_deref())?;
    let stages = stages.with("TAPROOT_KERNEL", &kernel.version);
    let (image, bytes) = packed(boot, root, &kernel.version, &stages)?;
    let (zfs, notes) = image.map(|image| (image.zfs, image.notes)).unwrap_or_default();
    // Each of the packer's threads keeps what it has freed, and kernel and initramfs need their room.
    allocator::return_all();
    let files = partition(boot, root, limit, (&kernel, bytes), &stages)?;
    Ok(Made { files, kernel: kernel.version, zfs, notes })
}

/// The initramfs, which a hook may make or change.
fn packed(boot: &Boot, root: &Path, kernel: &str, stages: &Stages<'_>) -> Result<(Option<Summary>, Vec<u8>)> {
    let output = root.with_file_name("initramfs");
    let place = std::path::absolute(&output).context("the current directory")?;
    let stages = stages.with("TAPROOT_INITRAMFS", place);
    let summary = if stages.run("initramfs", "replace")? {
        None
    } else {
        Some(initramfs(boot, root, kernel, &output, stages.progress)?)
    };
    stages.run("initramfs", "after")?;
    let bytes = fs::read(&output).context("expected an initramfs in TAPROOT_INITRAMFS")?;
    ensure!(!bytes.is_empty(), "expected an initramfs in TAPROOT_INITRAMFS, found an empty file");
    Ok((summary, bytes))
}

/// The files of the partition, which a hook may bring or change.
fn partition(
    boot: &Boot,
    root: &Path,
    limit: u64,
    (kernel, image): (&BootFiles, Vec<u8>),
    stages: &Stages<'_>,
) -> Result<Memory> {
    let replaced = stages.has("boot.replace");
    let files = if replaced { Memory::default() } else { own(boot, root, limit, kernel, image)? };
    if !replaced && !stages.has("boot.after") {
        return Ok(files);
    }
    let dir = root.with_file_name("esp");
    for (path, bytes) in &files.files {
        let place = dir.join(path);
        fs::create_dir_all(place.parent().unwrap_or(&dir)).with_context(|| format!("{}: making", dir.display()))?;
        fs::write(&place, bytes).with_context(|| format!("{}: writing", place.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("{}: making", dir.display()))?;
    let here = |path: &Path| std::path::absolute(path).context("the current directory");
    let stages = stages.with("TAPROOT_ESP", here(&dir)?);
    let stages = stages.with("TAPROOT_INITRAMFS", here(&root.with_file_name("initramfs"))?);
    let binary = root.with_file_name("vmlinuz");
    fs::write(&binary, Tree::open(root)?.read(&kernel.kernel, BINARY).context("reading the kernel")?)
        .with_context(|| format!("{}: writing", binary.display()))?;
    let stages = stages.with("TAPROOT_VMLINUZ", here(&binary)?);
    stages.run("boot", "replace")?;
    stages.run("boot", "after")?;
    let mut all = Memory { limit: Some(limit), ..Memory::default() };
    collect(&dir, "", &mut all)?;
    ensure!(
        !all.files.is_empty(),
        "boot.{}: expected files in TAPROOT_ESP, found none",
        if replaced { "replace" } else { "after" }
    );
    Ok(all)
}

/// Files of a directory, as the partition is to have them.
fn collect(dir: &Path, above: &str, all: &mut Memory) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("{}: listing", dir.display()))? {
        let entry = entry.with_context(|| format!("{}: listing", dir.display()))?;
        let (place, shown) = (entry.path(), entry.path().display().to_string());
        let name = entry.file_name().into_string().map_err(|_| anyhow!("{shown}: expected a name of letters"))?;
        let name = if above.is_empty() { name } else { format!("{above}/{name}") };
        let kind = entry.file_type().with_context(|| shown.clone())?;
        if kind.is_dir() {
            collect(&place, &name, all)?;
        } else {
            ensure!(kind.is_file(), "{shown}: a FAT has files and directories, found something else");
            all.files.insert(name, fs::read(&place).with_context(|| format!("{shown}: reading"))?);
        }
    }
    Ok(())
}

/// What we put there ourselves.
fn own(boot: &Boot, root: &Path, limit: u64, kernel: &BootFiles, image: Vec<u8>) -> Result<Memory> {
    let tree = Tree::open(root).context("opening what was kept of the tree")?;
    let binary = tree.read(&kernel.kernel, BINARY).context("reading the kernel")?;
    // The stub that the tree lacks is this machine's.
    let mut config = config(boot, 1)?;
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
    let new = Kernel { release: &kernel.version, kernel: binary.into(), image: image.into() };
    esp::install(&mut files, &recipe, new, None)?;
    if boot.loader.has_uefi() {
        let program = systemd_boot(&tree, &here)?;
        let program = match keys(boot) {
            Some(keys) => sign(&program, &keys)?,
            None => program,
        };
        files.files.insert(REMOVABLE.to_owned(), program);
    }
    Ok(files)
}

fn keys(boot: &Boot) -> Option<Keys> {
    boot.sign.clone()
}

/// The kernel to boot: the one that was named, or the newest.
pub(super) fn kernel(tree: &Tree, named: Option<&str>) -> Result<BootFiles> {
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

fn initramfs(boot: &Boot, root: &Path, kernel: &str, output: &Path, progress: &Progress) -> Result<Summary> {
    let args = InitramfsArgs { init: boot.init.clone(), ..InitramfsArgs::default() };
    pack(args, root, kernel, output, progress)
}

/// Packs what boots on many machines, with what else is asked for.
pub(super) fn pack(
    asked: InitramfsArgs,
    root: &Path,
    kernel: &str,
    output: &Path,
    progress: &Progress,
) -> Result<Summary> {
    let args = InitramfsArgs {
        root: Some(root.to_owned()),
        kernel: Some(kernel.to_owned()),
        output: Some(output.to_owned()),
        modules: Some(ModuleSet::Generic),
        rescue: if Tree::open(root)?.program("busybox").is_some() { None } else { Some(Rescue::None) },
        ..asked
    };
    let mut settings = Settings::new(&args)?;
    if settings.source.is_none() {
        if args.compress_modules.is_none() {
            settings.compress_modules = ModuleCompression::Zstd(QUICK);
        }
        if args.compress.is_none() {
            settings.compress = Compression::Zstd(QUICK);
        }
    }
    build(&settings, progress, &Cleanup::default(), |_| Ok(())).context("packing the initramfs")
}

/// The boot loader: the tree's, or this machine's.
pub(super) fn systemd_boot(tree: &Tree, here: &Tree) -> Result<Vec<u8>> {
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
