//! Building an initramfs image: what goes in, in which order, checked before anything is written.

pub mod archive;
pub mod compress;
pub mod decompress;
pub mod elf;
pub mod extras;
pub mod host;
pub mod index;
pub mod modinfo;
pub mod modprobe_d;
pub mod modules;
pub mod password;
pub mod preflight;
pub mod sets;

use crate::output::write_private;
use crate::progress::{Progress, megabytes};
use crate::settings::{ModuleSet, Settings};
use anyhow::{Context, Result, bail};
use archive::{Content, Tree};
use index::Index;
use modprobe_d::ModprobeConfig;
use modules::Wanted;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use taproot_init::devices::table::TABLE_PATH;
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
fn wanted(settings: &Settings, root_disks: &[host::Chain]) -> Wanted {
    let mut wanted = Wanted { boot: vec!["zfs".to_owned()], ..Wanted::default() };
    let mut add = |group: &sets::Group| {
        wanted.names.extend(group.names.iter().map(|n| ((*n).to_owned(), group.why.to_owned())));
    };
    add(&sets::ZFS);
    sets::ALWAYS.iter().for_each(&mut add);
    let mut disks = root_disks.to_vec();
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
    let version = kernel_version(settings)?;
    progress.step(&format!("kernel {version}: choosing modules"));
    let dir = resolve(&settings.root, &Path::new("lib/modules").join(&version))?;
    let index = Index::read(&dir, &version)?;
    let modprobe = ModprobeConfig::read(&settings.root);
    let (pools, root_disks) = root_pool(settings, progress);
    for name in &settings.add_modules {
        if index.resolve(name).is_empty()
            && !index.builtin.contains(&taproot_init::devices::table::canonical_name(name))
        {
            bail!("module {name} was asked for, but kernel {version} has none of that name");
        }
    }
    let chosen = modules::close(&index, &modprobe, &wanted(settings, &root_disks));
    lap("choose");

    progress.step(&format!("reading {} modules", chosen.len()));
    let mut packed = modules::read(&index, &version, &chosen)?;
    let table = modules::table(&index, &modprobe, &chosen, &packed);
    lap("modules");

    let mut problems = preflight::Problems::default();
    preflight::modules(&version, &index, &chosen, &packed, &root_disks, &mut problems);
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
    lap("preflight");

    progress.step("collecting files");
    let zfs = packed.get("zfs").and_then(|m| m.info.version.clone());
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
    let mut firmware = BTreeMap::new();
    for (name, module) in &packed {
        for file in &module.info.firmware {
            firmware.entry(file.clone()).or_insert_with(|| name.clone());
        }
    }
    let module_count = packed.len();
    for module in packed.values_mut() {
        tree.file(&module.path, std::mem::take(&mut module.data), &module.why)?;
    }
    let absent_firmware = extras::firmware(&mut tree, &settings.root, &firmware)?;
    extras::rescue(&mut tree, &settings.root, settings.rescue)?;
    for (source, target) in &settings.add_files {
        add_file(&mut tree, &settings.root, source, target)?;
    }
    let image = ImageConfig {
        kernel: version.clone(),
        packer: format!("taproot {}", env!("CARGO_PKG_VERSION")),
        cmdline: settings.cmdline.clone(),
        rescue_password: settings.rescue_password.clone(),
        pools,
    };
    tree.file(TABLE_PATH, table.render().into_bytes(), "modules, their order and the devices they drive")?;
    tree.file(CONFIG_PATH, image.render().into_bytes(), "what was known when packing")?;
    let manifest = manifest(&tree);
    tree.file(MANIFEST_PATH, manifest.into_bytes(), "why each file is here")?;
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
        modules: module_count,
        zfs,
        absent_firmware,
        ignored_modprobe_lines: modprobe.ignored,
        seconds,
    })
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

/// The pool of this machine's root and what its disks hang on; nothing when another tree is packed.
fn root_pool(settings: &Settings, progress: &Progress) -> (Vec<taproot_init::image::ExpectedPool>, Vec<host::Chain>) {
    if settings.root != Path::new("/") {
        return (vec![], vec![]);
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let Some(name) = host::root_pool(&mounts) else { return (vec![], vec![]) };
    let members = host::members(Path::new("/sys"), Path::new("/dev"), &name);
    match host::expected(&name, &members, host::imported_guid(&name)) {
        Ok((pool, disks)) => (vec![pool], disks.iter().map(|disk| host::chain(Path::new("/sys"), disk)).collect()),
        Err(why) => {
            progress.note(&format!("/ is on pool {name}, but the image does not expect it: {why}"));
            (vec![], vec![])
        }
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
    fn a_hostid_that_cannot_be_read_is_not_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(hostid(dir.path()).unwrap(), None);
        fs::create_dir_all(dir.path().join("etc/hostid")).unwrap();
        assert!(format!("{:#}", hostid(dir.path()).unwrap_err()).contains("reading the hostid"));
    }
}
