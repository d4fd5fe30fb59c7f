//! Building an initramfs image: what goes in, in which order, checked before anything is written.

pub mod archive;
pub mod compress;
pub mod decompress;
pub mod elf;
pub mod extras;
pub mod fsck;
pub mod host;
pub mod index;
pub mod modinfo;
pub mod modprobe_d;
pub mod modules;
pub mod password;
pub mod preflight;
pub mod root;
pub mod sets;

use crate::output::write_private;
use crate::progress::{Progress, megabytes};
use crate::settings::{ModuleSet, Settings};
use anyhow::{Context, Result, bail};
use archive::{Content, Tree};
use index::Index;
use modprobe_d::ModprobeConfig;
use modules::{Chosen, Packed, Wanted};
use root::Known;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use taproot_init::devices::filesystems;
use taproot_init::devices::table::{TABLE_PATH, canonical_name};
use taproot_init::image::{CONFIG_PATH, ImageConfig, MANIFEST_PATH};
use taproot_init::sys::beneath::resolve_here as resolve;

/// Directories that init mounts on, or that programs expect.
const DIRECTORIES: [&str; 6] = ["/dev", "/proc", "/sys", "/run", "/tmp", "/newroot"];

/// What was built, for people and for `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The image.
    pub output: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Size of the archive before compression.
    pub uncompressed_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Number of modules.
    pub modules: usize,
    /// Version of the packed zfs module.
    pub zfs: Option<String>,
    /// Firmware that packed modules may ask for and the tree does not have.
    pub absent_firmware: Vec<String>,
    /// Lines of modprobe.d that have no effect at boot.
    pub ignored_modprobe_lines: Vec<String>,
    /// Seconds by phase.
    pub seconds: BTreeMap<&'static str, f64>,
}

/// The kernel to pack for: the one named, the running one, or the only one of the tree.
pub fn kernel_version(settings: &Settings) -> Result<String> {
    if let Some(version) = &settings.kernel {
        return Ok(version.clone());
    }
    if settings.root == Path::new("/") {
        let running =
            fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the running kernel's release")?;
        return Ok(running.trim().to_owned());
    }
    let dir = resolve(&settings.root, Path::new("lib/modules"))?;
    let mut found: Vec<String> = fs::read_dir(&dir)
        .with_context(|| format!("{}: expected the kernel modules of the system to pack", dir.display()))?
        .flatten()
        .filter(|e| e.path().join("modules.dep").exists())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("{} has no kernel with a modules.dep; install a kernel there or run depmod", dir.display()),
        several => bail!("{} has several kernels: {}; choose one with --kernel", dir.display(), several.join(", ")),
    }
}

/// What the settings ask for, before closure.
fn wanted(settings: &Settings, root: &Known) -> Wanted {
    let mut wanted = Wanted::default();
    // It takes seconds to initialise, so it begins at once, unless the root is known to be elsewhere.
    if root.needs_zfs() {
        wanted.boot.push("zfs".to_owned());
    }
    for mounted in &root.types {
        let names = filesystems::modules(&mounted.fstype).into_iter();
        wanted.names.extend(names.map(|name| (name.to_owned(), format!("file system of {}", mounted.what))));
    }
    let mut add = |group: &sets::Group| {
        wanted.names.extend(group.names.iter().map(|n| ((*n).to_owned(), group.why.to_owned())));
    };
    add(&sets::ZFS);
    sets::ALWAYS.iter().for_each(&mut add);
    let mut disks = root.disks.clone();
    match settings.modules {
        ModuleSet::Generic => sets::GENERIC.iter().for_each(&mut add),
        ModuleSet::Host => disks.extend(host::disks(Path::new("/sys"))),
    }
    for chain in disks {
        let why = format!("driver of disk {}", chain.disk);
        // By name, and by alias for a kernel that calls the driver otherwise or has made a module of it.
        wanted.names.extend(chain.modules.into_iter().map(|module| (module, why.clone())));
        wanted.modaliases.extend(chain.modaliases.into_iter().map(|modalias| (modalias, why.clone())));
    }
    for name in &settings.add_modules {
        wanted.names.push((name.clone(), "asked for by the configuration".to_owned()));
        wanted.boot.push(name.clone());
    }
    wanted
}

/// Builds the image and writes it.
pub fn build(settings: &Settings, progress: &Progress) -> Result<Summary> {
    let mut seconds = BTreeMap::new();
    let mut clock = Instant::now();
    let mut lap = |name: &'static str| {
        seconds.insert(name, (clock.elapsed().as_secs_f64() * 1e3).round() / 1e3);
        clock = Instant::now();
    };
    let mut selection = Selection::new(settings, progress)?;
    lap("choose");

    progress.step(&format!("reading {} modules", selection.chosen.len()));
    selection.read(settings)?;
    lap("modules");

    let (init, hostid) = check(settings, &selection)?;
    lap("preflight");

    progress.step("collecting files");
    let Selection { version, modprobe, .. } = &selection;
    let (version, ignored_modprobe_lines) = (version.clone(), modprobe.ignored.clone());
    let zfs = selection.packed.get("zfs").and_then(|m| m.info.version.clone());
    let modules = selection.packed.len();
    let mut tree = skeleton(init, hostid)?;
    let absent_firmware = collect(&mut tree, settings, selection, progress)?;
    let vendor = if settings.modules == ModuleSet::Host { host::cpu_vendor() } else { None };
    let early = if settings.microcode { extras::microcode(&settings.root, vendor.as_deref())? } else { None };
    lap("files");

    let archive = tree.to_cpio(settings.mtime)?;
    let uncompressed_bytes = archive.len() as u64;
    progress.step(&format!("compressing {}", megabytes(uncompressed_bytes)));
    let mut bytes = early.map_or(Ok(Vec::new()), |early| early.to_cpio(settings.mtime))?;
    bytes.extend(settings.compress.apply(archive).context("compressing the archive")?);
    lap("compress");

    progress.step(&format!("writing {}", settings.output.display()));
    write_private(&settings.output, &bytes)?;
    lap("write");
    Ok(Summary {
        output: settings.output.clone(),
        bytes: bytes.len() as u64,
        uncompressed_bytes,
        kernel: version,
        modules,
        zfs,
        absent_firmware,
        ignored_modprobe_lines,
        seconds,
    })
}

/// What is packed for one kernel.
struct Selection {
    version: String,
    index: Index,
    modprobe: ModprobeConfig,
    root: Known,
    chosen: BTreeMap<String, Chosen>,
    packed: BTreeMap<String, Packed>,
}

impl Selection {
    /// Chooses the modules.
    fn new(settings: &Settings, progress: &Progress) -> Result<Self> {
        let version = kernel_version(settings)?;
        progress.step(&format!("kernel {version}: choosing modules"));
        let dir = resolve(&settings.root, &Path::new("lib/modules").join(&version))?;
        let index = Index::read(&dir, &version)?;
        let modprobe = ModprobeConfig::read(&settings.root);
        let root = Known::find(&settings.root, progress);
        for name in &settings.add_modules {
            if index.resolve(name).is_empty() && !index.builtin.contains(&canonical_name(name)) {
                bail!("module {name} was asked for, but kernel {version} has none of that name");
            }
        }
        let chosen = modules::close(&index, &modprobe, &wanted(settings, &root));
        Ok(Self { version, index, modprobe, root, chosen, packed: BTreeMap::new() })
    }

    /// Reads them.
    fn read(&mut self, settings: &Settings) -> Result<()> {
        self.packed = modules::read(&self.index, &self.version, &self.chosen, settings.compress_modules.level())?;
        Ok(())
    }
}

/// Refuses an image that could not boot; gives its `/init` and hostid.
fn check(settings: &Settings, selection: &Selection) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let Selection { version, index, root, chosen, packed, .. } = selection;
    let mut problems = preflight::Problems::default();
    preflight::modules(version, index, chosen, packed, root, &mut problems);
    let init = fs::read(&settings.init).with_context(|| {
        format!("{}: expected the static taproot-init; name it with --init", settings.init.display())
    })?;
    preflight::init(&settings.init.display().to_string(), &init, &mut problems);
    let hostid = hostid(&settings.root)?;
    preflight::hostid(hostid.as_deref(), &mut problems);
    let config = fs::read_to_string(settings.root.join(format!("boot/config-{version}"))).ok();
    preflight::compression(config.as_deref(), settings.compress, &mut problems);
    if !problems.0.is_empty() && settings.preflight {
        return Err(problems.into());
    }
    Ok((init, hostid))
}

/// What every image has.
fn skeleton(init: Vec<u8>, hostid: Option<Vec<u8>>) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.program("/init", init, "taproot-init")?;
    for path in DIRECTORIES {
        tree.add(path, Content::Directory, 0o755, "mount point")?;
    }
    tree.add("/dev/console", Content::Device(5, 1), 0o600, "console before devtmpfs")?;
    tree.add("/dev/null", Content::Device(1, 3), 0o666, "standard streams without a console")?;
    if let Some(hostid) = hostid {
        tree.file("/etc/hostid", hostid, "this system's hostid, which the import writes into the pool")?;
    }
    Ok(tree)
}

/// Adds modules, firmware, programs and what was known; returns the firmware that the tree does not have.
fn collect(tree: &mut Tree, settings: &Settings, selection: Selection, progress: &Progress) -> Result<Vec<String>> {
    let Selection { version, index, modprobe, root, chosen, packed } = selection;
    let table = modules::table(&index, &modprobe, &chosen, &packed);
    let mut firmware = BTreeMap::new();
    for (name, module) in packed {
        for file in module.info.firmware {
            firmware.entry(file).or_insert_with(|| name.clone());
        }
        tree.file(&module.path, module.data, &module.why)?;
    }
    let absent_firmware = extras::firmware(tree, &settings.root, &firmware)?;
    extras::rescue(tree, &settings.root, settings.rescue)?;
    let generic = settings.modules == ModuleSet::Generic;
    for note in fsck::pack(tree, &settings.root, &settings.fsck, generic, &root.types)? {
        progress.note(&note);
    }
    for (source, target) in &settings.add_files {
        add_file(tree, &settings.root, source, target)?;
    }
    let image = ImageConfig {
        kernel: version,
        packer: format!("taproot {}", env!("CARGO_PKG_VERSION")),
        cmdline: words(settings.modules, !root.pools.is_empty(), &settings.cmdline),
        rescue_password: settings.rescue_password.clone(),
        pools: root.pools,
        root: root.plain,
    };
    tree.file(TABLE_PATH, table.render().into_bytes(), "modules, their order and the devices they drive")?;
    tree.file(CONFIG_PATH, image.render().into_bytes(), "what was known when packing")?;
    let manifest = manifest(tree);
    tree.file(MANIFEST_PATH, manifest.into_bytes(), "why each file is here")?;
    Ok(absent_firmware)
}

/// Words for the image. One that is for this machine only does not boot another pool by itself; the configured words, and the
/// kernel's, come behind and win.
fn words(modules: ModuleSet, expects: bool, configured: &str) -> String {
    let own = (modules == ModuleSet::Host && expects).then_some("taproot.auto=expected");
    let words = own.into_iter().chain(Some(configured).filter(|words| !words.is_empty()));
    words.collect::<Vec<_>>().join(" ")
}

/// This system's hostid; a file that is there and cannot be read is not taken for none, or the pool would count as another
/// system's.
fn hostid(root: &Path) -> Result<Option<Vec<u8>>> {
    let path = root.join("etc/hostid");
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("{}: reading the hostid", path.display())),
    }
}

fn add_file(tree: &mut Tree, root: &Path, source: &Path, target: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let real = resolve(root, source.strip_prefix("/").unwrap_or(source))?;
    let meta =
        fs::metadata(&real).with_context(|| format!("--add-file {}: not in {}", source.display(), root.display()))?;
    if !meta.is_file() {
        bail!("--add-file {}: expected a regular file", source.display());
    }
    let why = "asked for by the configuration";
    let data = fs::read(&real).with_context(|| real.display().to_string())?;
    // Dynamic programs bring their libraries.
    if data.starts_with(b"\x7fELF") && meta.permissions().mode() & 0o111 != 0 {
        return Ok(extras::program(tree, root, &real, target, why)?);
    }
    Ok(tree.add(target, Content::File(data), meta.permissions().mode() & 0o777, why)?)
}

fn manifest(tree: &Tree) -> String {
    let mut out = String::new();
    for (path, node) in tree.iter() {
        if node.content != Content::Directory {
            let _ = writeln!(out, "{path}\t{}", node.why);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_for_one_machine_boots_no_other_pool_by_itself() {
        assert_eq!(words(ModuleSet::Host, true, "quiet"), "taproot.auto=expected quiet");
        assert_eq!(words(ModuleSet::Host, true, ""), "taproot.auto=expected");
        assert_eq!(words(ModuleSet::Host, false, "quiet"), "quiet");
        assert_eq!(words(ModuleSet::Generic, true, ""), "");
    }

    #[test]
    fn a_hostid_that_cannot_be_read_is_not_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(hostid(dir.path()).unwrap(), None);
        fs::create_dir_all(dir.path().join("etc/hostid")).unwrap();
        assert!(format!("{:#}", hostid(dir.path()).unwrap_err()).contains("reading the hostid"));
    }
}
