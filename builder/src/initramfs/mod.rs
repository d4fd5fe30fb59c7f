//! Building an initramfs image: what goes in, in which order, checked before anything is written.

pub mod archive;
pub mod ciphers;
pub mod compress;
pub mod decompress;
pub mod elf;
pub mod extras;
pub mod fsck;
pub mod host;
pub mod index;
pub(crate) mod kept;
pub mod keymap;
mod layer_keys;
pub mod layered;
pub mod members;
pub mod modinfo;
pub mod modprobe_d;
pub mod modules;
pub mod password;
pub mod preflight;
pub mod reach;
pub mod root;
pub mod sets;
pub mod sources;
pub mod tree;
pub mod trial;

use crate::layer::stack::running::Running;
use crate::output::{Cleanup, Target};
use crate::progress::{Progress, megabytes};
use crate::settings::{ModuleSet, Settings};
use anyhow::{Context, Result, bail};
use archive::{Archive, Content};
use compress::Compression;
use index::Index;
use members::Member;
use modprobe_d::ModprobeConfig;
use modules::{Chosen, Packed, Wanted};
use preflight::Remarks;
use root::Known;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sources::{Kind, SOURCES_PATH, Source};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;
use taproot_init::cmdline::parse;
use taproot_init::devices::filesystems;
use taproot_init::devices::table::{TABLE_PATH, canonical_name};
use taproot_init::hex::hex;
use taproot_init::image::{CONFIG_PATH, ImageConfig, MANIFEST_PATH};
use taproot_init::keyboard::{KERNELS, KEYMAP_PATH, Layout};
use tree::Tree;

/// Directories that init mounts on, or that programs expect.
const DIRECTORIES: [&str; 6] = ["/dev", "/proc", "/sys", "/run", "/tmp", "/newroot"];

/// What was built, for people and for `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Of this object; grows when what is there changes its meaning.
    pub format: u32,
    /// The image.
    pub output: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Size of the archive before compression.
    pub uncompressed_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// What tells the image from others; the same files give the same.
    pub id: String,
    /// Number of modules.
    pub modules: usize,
    /// Version of the packed zfs module.
    pub zfs: Option<String>,
    /// The keyboard layout of the prompt.
    pub keyboard: String,
    /// Firmware that packed modules may ask for and the tree does not have.
    pub absent_firmware: Vec<String>,
    /// Lines of modprobe.d that have no effect at boot.
    pub ignored_modprobe_lines: Vec<String>,
    /// Why it may not boot: what `--no-preflight` let pass.
    pub problems: Vec<String>,
    /// What people should know.
    pub notes: Vec<String>,
    /// Seconds by phase.
    pub seconds: BTreeMap<&'static str, f64>,
}

/// The kernel to pack for: the one named, the running one, or the only one of the tree.
pub fn kernel_version(settings: &Settings) -> Result<String> {
    settings.kernel.clone().map_or_else(|| kernel_of(&settings.tree), Ok)
}

/// The kernel of a tree: the running one, or its only one.
pub fn kernel_of(tree: &Tree) -> Result<String> {
    if tree.is_running() {
        return host::kernel().context("reading the running kernel's release");
    }
    match tree.kernels()?.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("{tree} has no kernel with a modules.dep; install a kernel there or run depmod"),
        several => bail!("{tree} has several kernels: {}; choose one with --kernel", several.join(", ")),
    }
}

/// What the settings ask for, before closure.
fn wanted(settings: &Settings, index: &Index, root: &Known) -> Wanted {
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
    if root.layered.is_some() {
        sets::LAYERED.iter().for_each(&mut add);
    }
    let (mut disks, mut inputs) = (root.disks.clone(), Vec::new());
    match settings.modules {
        ModuleSet::Generic => {
            sets::GENERIC.iter().for_each(&mut add);
            wanted.names.extend(generic(&settings.tree, index));
        }
        ModuleSet::Host => {
            disks.extend(host::disks(Path::new("/sys")));
            inputs = host::inputs(Path::new("/sys"));
        }
    }
    let disks = disks.into_iter().map(|chain| (format!("driver of disk {}", chain.disk), chain));
    let inputs = inputs.into_iter().map(|chain| (format!("driver of {}, for keyboards", chain.disk), chain));
    for (why, chain) in disks.chain(inputs) {
        // By name, and by alias for a kernel that calls the driver otherwise or has made a module of it.
        wanted.names.extend(chain.modules.into_iter().map(|module| (module, why.clone())));
        wanted.modaliases.extend(chain.modaliases.into_iter().map(|modalias| (modalias, why.clone())));
    }
    if let Some(layered) = &root.layered {
        wanted.names.extend(file_systems(&settings.tree, index));
        let why = "the boot of the running layers loaded it";
        wanted.names.extend(layered.loaded.iter().map(|name| (name.clone(), why.to_owned())));
    }
    for name in &settings.add_modules {
        wanted.names.push((name.clone(), "asked for by the configuration".to_owned()));
        wanted.boot.push(name.clone());
    }
    wanted
}

/// What a generic image has by directories of the kernel, and of the file systems those that the tree's programs are for; all of
/// them if it has no ZFS.
fn generic(tree: &Tree, index: &Index) -> Vec<(String, String)> {
    let mut names = Vec::new();
    for (directory, why) in sets::GENERIC_DIRECTORIES {
        let inside = index.modules.iter().filter(|(name, entry)| {
            let below = entry.path.split_once("kernel/").map_or("", |(_, below)| below);
            below.starts_with(directory) && !sets::NOT_WANTED.contains(&name.as_str())
        });
        names.extend(inside.map(|(name, _)| (name.clone(), (*why).to_owned())));
    }
    names.extend(file_systems(tree, index));
    names
}

/// The large file systems that the tree's programs are for; all of them if it has no ZFS.
fn file_systems(tree: &Tree, index: &Index) -> Vec<(String, String)> {
    let all = !index.modules.contains_key("zfs") && !index.builtin.contains("zfs");
    let there = |programs: &[&str]| all || programs.iter().any(|program| tree.program(program).is_some());
    let names = sets::FILE_SYSTEMS.iter().filter(|(_, programs)| there(programs));
    names.map(|(name, _)| ((*name).to_owned(), "plain roots: its programs are in the tree".to_owned())).collect()
}

/// Builds the image and writes it; `ready` is called with its id when all is done but the writing.
pub fn build(
    settings: &Settings,
    progress: &Progress,
    cleanup: &Cleanup,
    ready: impl FnOnce(&str) -> Result<()>,
) -> Result<Summary> {
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

    // Modules that are compressed already are most of an image, and grow no smaller.
    settings.target.has_room(selection.compressed_bytes())?;
    let (init, hostid, mut remarks) = check(settings, &selection)?;
    let layout = keymap::find(&settings.tree, &settings.keymap)?.noted(&mut remarks.notes);
    for note in &remarks.notes {
        progress.note(note);
    }
    for problem in &remarks.problems {
        progress.note(&format!("this image may not boot: {problem}"));
    }
    lap("preflight");

    progress.step("collecting files");
    let Selection { version, modprobe, .. } = &selection;
    let (version, ignored_modprobe_lines) = (version.clone(), modprobe.ignored.clone());
    let zfs = selection.packed.get("zfs").and_then(|m| m.info.version.clone());
    let modules = selection.packed.len();
    let mut archive = skeleton(init, hostid)?;
    let keyboard = add_layout(&mut archive, layout)?;
    let (id, absent_firmware) = collect(&mut archive, settings, selection, progress)?;
    let processor = if settings.modules == ModuleSet::Host { host::Processor::of_this_machine() } else { None };
    let early = if settings.microcode { extras::microcode(&settings.tree, processor.as_ref())? } else { None };
    lap("files");

    let (bytes, uncompressed_bytes) = join(early, archive, settings, progress)?;
    lap("compress");

    progress.step(&format!("writing {}", settings.output.display()));
    ready(&id)?;
    settings.target.has_room(bytes.len() as u64)?;
    settings.target.write(&bytes, cleanup)?;
    lap("write");
    Ok(Summary {
        format: 1,
        output: settings.output.clone(),
        bytes: bytes.len() as u64,
        uncompressed_bytes,
        kernel: version,
        id,
        modules,
        zfs,
        keyboard,
        absent_firmware,
        ignored_modprobe_lines,
        problems: remarks.problems,
        notes: remarks.notes,
        seconds,
    })
}

/// The archives of an image in one file, and the size of what is unpacked.
fn join(
    early: Option<Archive>,
    mut archive: Archive,
    settings: &Settings,
    progress: &Progress,
) -> Result<(Vec<u8>, u64)> {
    let mut bytes = early.map_or(Ok(Vec::new()), |early| early.into_cpio(settings.mtime, Vec::new()))?;
    let before = bytes.len();
    if settings.compress != Compression::None {
        // The kernel's pass over them would change nothing and take its time.
        bytes = archive.take_compressed().into_cpio(settings.mtime, bytes)?;
    }
    let archive = archive.into_cpio(settings.mtime, Vec::new())?;
    let uncompressed_bytes = (bytes.len() - before + archive.len()) as u64;
    progress.step(&format!("compressing {}", megabytes(archive.len() as u64)));
    bytes.extend(settings.compress.apply(archive).context("compressing the archive")?);
    Ok((bytes, uncompressed_bytes))
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
        let index = Index::read(&settings.tree, &version)?;
        let modprobe = ModprobeConfig::read(&settings.tree)?;
        let mut root = Known::find(&settings.tree)?;
        let checked = layer_keys::checks(settings);
        if settings.layers || checked || parse(settings.cmdline.as_bytes()).layers.is_some() {
            root.layered.get_or_insert_default().checked |= checked;
        }
        for name in &settings.add_modules {
            if index.resolve(name).is_empty() && !index.builtin.contains(&canonical_name(name)) {
                bail!("module {name} was asked for, but kernel {version} has none of that name");
            }
        }
        let chosen = modules::close(&index, &modprobe, &wanted(settings, &index, &root));
        Ok(Self { version, index, modprobe, root, chosen, packed: BTreeMap::new() })
    }

    /// Reads them.
    fn read(&mut self, settings: &Settings) -> Result<()> {
        self.packed =
            modules::read(&settings.tree, &self.index, &self.version, &self.chosen, settings.compress_modules.level())?;
        Ok(())
    }

    fn compressed_bytes(&self) -> u64 {
        let compressed =
            self.packed.values().filter(|module| Path::new(&module.path).extension().is_some_and(|end| end == "zst"));
        compressed.map(|module| module.data.len() as u64).sum()
    }
}

/// Refuses an image that could not boot; gives its `/init`, its hostid, and what is to be said of it.
fn check(settings: &Settings, selection: &Selection) -> Result<(Vec<u8>, Option<Vec<u8>>, Remarks)> {
    let Selection { version, index, root, chosen, packed, modprobe } = selection;
    let tree = &settings.tree;
    let mut remarks = Remarks { problems: root.problems.clone(), notes: root.notes.clone() };
    for name in modprobe.blocked.iter().filter(|name| index.modules.contains_key(*name)) {
        remarks.notes.push(format!("module {name} is kept out, as modprobe.d says (install {name} /bin/false)"));
    }
    let needed = preflight::needed(index, root);
    remarks.problems.extend(index.lacking.iter().cloned());
    remarks.problems.extend(index.torn(chosen.keys()));
    preflight::modules(tree, version, (index, modprobe), chosen, root, &mut remarks.problems);
    if let Some(layered) = &root.layered {
        let there = |name: &str| chosen.contains_key(name) || index.builtin.contains(name);
        remarks.problems.extend(layered.problems(version, there, tree.kernel_config(version)?.as_deref()));
        if layered.images.is_some() {
            remarks.problems.extend(layered::lost(&Running::find()?, &root::mounts(), version));
        }
    }
    ciphers::check((index, modprobe), chosen, &needed, &mut remarks);
    preflight::judge(preflight::kernels(version, packed), &needed, &mut remarks);
    preflight::judge(preflight::options(modprobe, packed), &needed, &mut remarks);
    if let Target::File(path) = &settings.target {
        match reach::unread(tree, path)?.filter(|_| path.starts_with("/boot")) {
            Some(unread) => remarks.notes.push(unread.say("pack again")),
            None => remarks.notes.extend(root::not_mounted(tree, path)?),
        }
    }
    let problems = &mut remarks.problems;
    let shown = settings.init.shown(tree);
    let init = settings.init.read(tree, tree::BINARY);
    let init = init.context("expected the static taproot-init; name it with --init")?;
    preflight::init(&shown.display().to_string(), &init, problems);
    let hostid = tree.read_if_there("/etc/hostid", tree::TEXT).context("reading the hostid")?;
    preflight::hostid(hostid.as_deref(), problems);
    preflight::compression(tree.kernel_config(version)?.as_deref(), settings.compress, problems);
    if let Some(key) = &root.key {
        let packed = |path: &str| settings.add_files.iter().any(|(_, target)| target == path);
        preflight::key(key, packed, &settings.cmdline, &mut remarks);
    }
    if !remarks.problems.is_empty() && settings.preflight {
        return Err(remarks.into());
    }
    Ok((init, hostid, remarks))
}

/// What every image has.
fn skeleton(init: Vec<u8>, hostid: Option<Vec<u8>>) -> Result<Archive> {
    let mut archive = Archive::default();
    archive.program("/init", init, "taproot-init")?;
    for path in DIRECTORIES {
        archive.add(path, Content::Directory, 0o755, "mount point")?;
    }
    archive.add("/dev/console", Content::Device(5, 1), 0o600, "console before devtmpfs")?;
    archive.add("/dev/null", Content::Device(1, 3), 0o666, "standard streams without a console")?;
    if let Some(hostid) = hostid {
        archive.file("/etc/hostid", hostid, "this system's hostid, which the import writes into the pool")?;
    }
    Ok(archive)
}

/// Adds the keyboard's layout, if it is not the kernel's own; gives its name.
fn add_layout(archive: &mut Archive, layout: Option<(Layout, String)>) -> Result<String> {
    let Some((layout, from)) = layout else { return Ok(KERNELS.to_owned()) };
    let why = format!("keyboard layout {}, from {from}", layout.name);
    archive.file(KEYMAP_PATH, layout.render().into_bytes(), &why)?;
    Ok(layout.name)
}

/// Adds modules, firmware, programs and what was known; returns the image's id, and the firmware that the tree does not have.
fn collect(
    archive: &mut Archive,
    settings: &Settings,
    selection: Selection,
    progress: &Progress,
) -> Result<(String, Vec<String>)> {
    let Selection { version, index, modprobe, root, chosen, packed } = selection;
    let table = modules::table(&index, &modprobe, &chosen, &packed);
    let module = |(name, module): (&String, &Packed)| Source {
        kind: Kind::Module,
        name: name.clone(),
        mark: module.hash.clone(),
    };
    let modules: Vec<Source> = packed.iter().map(module).collect();
    let mut firmware = BTreeMap::new();
    for (name, module) in packed {
        for file in module.info.firmware {
            firmware.entry(file).or_insert_with(|| name.clone());
        }
        archive.file(&module.path, module.data, &module.why)?;
    }
    let absent_firmware = extras::firmware(archive, &settings.tree, &version, &firmware)?;
    extras::rescue(archive, &settings.tree, settings.rescue)?;
    for note in fsck::pack(archive, &settings.tree, &settings.fsck, &root.types)? {
        progress.note(&note);
    }
    let mut sources = modprobe.sources;
    sources.extend(settings.source.clone());
    sources.extend(modules);
    let member = |member: Member| Source { kind: Kind::Member, name: member.path, mark: member.vdev.to_string() };
    sources.extend(root.members.into_iter().map(member));
    sources.extend(layer_keys::pack(archive, &settings.tree, &settings.layers_keys)?);
    for (source, target) in &settings.add_files {
        sources.push(add_file(archive, &settings.tree, source, target)?);
    }
    archive.file(SOURCES_PATH, sources::render(&sources).into_bytes(), "what went in, by its content")?;
    archive.file(TABLE_PATH, table.render().into_bytes(), "modules, their order and the devices they drive")?;
    let mut image = ImageConfig {
        id: String::new(),
        kernel: version,
        packer: format!("taproot {}", env!("CARGO_PKG_VERSION")),
        cmdline: words(settings.modules, !root.pools.is_empty(), &settings.cmdline),
        rescue_password: settings.rescue_password.clone(),
        pools: root.pools,
        root: root.plain,
    };
    image.id = id(archive, &image);
    archive.file(CONFIG_PATH, image.render().into_bytes(), "what was known when packing")?;
    let manifest = manifest(archive);
    archive.file(MANIFEST_PATH, manifest.into_bytes(), "why each file is here")?;
    Ok((image.id, absent_firmware))
}

/// Half of a hash of everything that the boot sees.
fn id(archive: &Archive, image: &ImageConfig) -> String {
    let mut hash = Sha256::new();
    archive.digest(&mut hash);
    hash.update(image.render());
    hex(hash.finalize().get(..16).unwrap_or_default())
}

/// Words for the image. One that is for this machine only does not boot another pool by itself; the configured words, and the
/// kernel's, come behind and win.
fn words(modules: ModuleSet, expects: bool, configured: &str) -> String {
    let own = (modules == ModuleSet::Host && expects).then_some("taproot.auto=expected");
    let words = own.into_iter().chain(Some(configured).filter(|words| !words.is_empty()));
    words.collect::<Vec<_>>().join(" ")
}

fn add_file(archive: &mut Archive, tree: &Tree, source: &Path, target: &str) -> Result<Source> {
    let file = tree.load(source, tree::BINARY).map_err(|error| match error {
        error if error.is_absence() => anyhow::anyhow!("--add-file {}: not in {tree}", source.display()),
        error => anyhow::Error::from(error).context(format!("--add-file {}", source.display())),
    })?;
    let why = "asked for by the configuration";
    let noted = Source::of(Kind::File, source.to_string_lossy(), &file.bytes);
    // Dynamic programs bring their libraries.
    if file.bytes.starts_with(b"\x7fELF") && file.mode & 0o111 != 0 {
        extras::program(archive, tree, source, target, why)?;
    } else {
        archive.add(target, Content::File(file.bytes), file.mode & 0o777, why)?;
    }
    Ok(noted)
}

fn manifest(archive: &Archive) -> String {
    let mut out = String::new();
    for (path, node) in archive.iter() {
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
}
