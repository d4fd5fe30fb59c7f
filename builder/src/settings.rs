//! The settings of one image: command line over configuration file over defaults.

use crate::cli::InitramfsArgs;
use crate::initramfs::compress::{Compression, ModuleCompression};
use crate::initramfs::extras::Rescue;
use crate::initramfs::fsck::Fsck;
use crate::initramfs::keymap::Choice;
use crate::initramfs::sources::{Kind, Source};
use crate::initramfs::tree::{self, Tree};
use crate::initramfs::{kernel_version, password};
use crate::output::Target;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Read when `--config` is not given.
pub const DEFAULT_CONFIG: &str = "/etc/taproot/initramfs.toml";
/// Where an image goes if nothing says otherwise.
pub const DEFAULT_OUTPUT: &str = "/boot/initramfs-taproot-%v.img";
/// Where a package leaves what belongs to this program.
const INSTALLED: &str = "/usr/lib/taproot";

/// Which drivers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleSet {
    /// What this machine has.
    #[default]
    Host,
    /// What common machines boot from.
    Generic,
}

/// The configuration file; every key is optional. Names are those of the command line.
#[allow(clippy::struct_field_names)]
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    kernel: Option<String>,
    output: Option<PathBuf>,
    modules: Option<ModuleSet>,
    compress: Option<String>,
    compress_modules: Option<String>,
    rescue: Option<Rescue>,
    rescue_password_file: Option<PathBuf>,
    fsck: Option<String>,
    keymap: Option<String>,
    init: Option<PathBuf>,
    add_modules: Vec<String>,
    add_files: Vec<String>,
    layers: bool,
    layers_keys: Vec<PathBuf>,
    cmdline: Option<String>,
    microcode: Option<bool>,
}

/// Everything decided.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Tree to pack.
    pub tree: Tree,
    /// The configuration file, if there is one.
    pub source: Option<Source>,
    /// Kernel release; `None` to find it.
    pub kernel: Option<String>,
    /// Image to write, as it was named.
    pub output: PathBuf,
    /// Where that leads.
    pub target: Target,
    /// Which drivers.
    pub modules: ModuleSet,
    /// How it is compressed.
    pub compress: Compression,
    /// How each module is.
    pub compress_modules: ModuleCompression,
    /// What the rescue shell has.
    pub rescue: Rescue,
    /// Hash of the password that opens the rescue prompt, in PHC form.
    pub rescue_password: Option<String>,
    /// Programs that check file systems.
    pub fsck: Fsck,
    /// The keyboard layout of the prompt.
    pub keymap: Choice,
    /// The program that becomes `/init`.
    pub init: Named,
    /// Modules asked for by name.
    pub add_modules: Vec<String>,
    /// Files asked for: path in the tree, path in the image.
    pub add_files: Vec<(PathBuf, String)>,
    /// Whether the root is made of layers, wherever this is packed.
    pub layers: bool,
    /// Public keys, besides the tree's own, that signed lists of layers are believed by.
    pub layers_keys: Vec<Named>,
    /// Words put before the kernel command line.
    pub cmdline: String,
    /// Whether microcode is packed.
    pub microcode: bool,
    /// Whether an image that cannot boot is refused.
    pub preflight: bool,
    /// Time of every file in the archive, seconds since 1970.
    pub mtime: u32,
}

/// A file that was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// On the command line or in a file that was named there: a path of this machine.
    Here(PathBuf),
    /// In the tree's own configuration: a path of the tree.
    InTree(PathBuf),
}

impl Named {
    /// What is in it.
    pub fn read(&self, tree: &Tree, limit: u64) -> Result<Vec<u8>, tree::TreeError> {
        match self {
            Self::Here(path) => tree::named(path, limit),
            Self::InTree(path) => tree.read(path, limit),
        }
    }

    /// The path as a person on this machine has it.
    pub fn shown(&self, tree: &Tree) -> PathBuf {
        match self {
            Self::Here(path) => path.clone(),
            Self::InTree(path) => tree.shown(path),
        }
    }

    /// Puts the kernel's release in for `%v`.
    fn of_kernel(self, version: &str) -> Self {
        let with = |path: &Path| PathBuf::from(path.to_string_lossy().replace("%v", version));
        match self {
            Self::Here(path) => Self::Here(with(&path)),
            Self::InTree(path) => Self::InTree(with(&path)),
        }
    }

    /// Where a file is to be written.
    fn place(&self, tree: &Tree) -> Result<PathBuf, tree::TreeError> {
        match self {
            Self::Here(path) => Ok(path.clone()),
            Self::InTree(path) => tree.place(path),
        }
    }
}

impl Settings {
    /// Joins the command line with the configuration file.
    pub fn new(args: &InitramfsArgs) -> Result<Self> {
        let root = args.root.clone().unwrap_or_else(|| PathBuf::from("/"));
        let tree = Tree::open(&root).with_context(|| format!("--root {}: expected a directory", root.display()))?;
        let (file, source) = read(args.config.as_deref(), &tree)?;
        // What a tree's own file names lies in the tree.
        let named = |path: PathBuf| if args.config.is_some() { Named::Here(path) } else { Named::InTree(path) };
        let given = |arg: &Option<PathBuf>, own: Option<PathBuf>| arg.clone().map(Named::Here).or(own.map(named));
        let compress = match (args.compress, &file.compress) {
            (Some(compress), _) => compress,
            (None, Some(text)) => text.parse().map_err(|e| anyhow::anyhow!("compress = {text:?}: {e}"))?,
            (None, None) => Compression::default(),
        };
        let compress_modules = match (args.compress_modules, &file.compress_modules) {
            (Some(compress), _) => compress,
            (None, Some(text)) => text.parse().map_err(|e| anyhow::anyhow!("compress-modules = {text:?}: {e}"))?,
            (None, None) => ModuleCompression::default(),
        };
        let fsck = match (&args.fsck, &file.fsck) {
            (Some(fsck), _) => fsck.clone(),
            (None, Some(text)) => text.parse().map_err(|e| anyhow::anyhow!("fsck = {text:?}: {e}"))?,
            (None, None) => Fsck::default(),
        };
        let keymap = match (&args.keymap, &file.keymap) {
            (Some(keymap), _) => Choice::new(keymap, Named::Here),
            (None, Some(keymap)) => Choice::new(keymap, named),
            (None, None) => Choice::Configured,
        };
        let cmdline = args.cmdline.clone().or(file.cmdline).unwrap_or_default();
        if cmdline.contains('\n') {
            bail!("the words for the command line must stand on one line");
        }
        let files = file.add_files.iter().chain(&args.add_files).map(|f| split_file(f)).collect::<Result<_>>()?;
        let keys = file.layers_keys.into_iter().map(named);
        let mut settings = Self {
            kernel: args.kernel.clone().or(file.kernel),
            output: PathBuf::new(),
            target: Target::Standard,
            modules: args.modules.or(file.modules).unwrap_or_default(),
            compress,
            compress_modules,
            rescue: args.rescue.or(file.rescue).unwrap_or_default(),
            rescue_password: given(&args.rescue_password_file, file.rescue_password_file)
                .map(|path| password::read(&path, &tree))
                .transpose()?,
            fsck,
            keymap,
            init: given(&args.init, file.init).unwrap_or_else(|| Named::Here(beside("taproot-init"))),
            add_modules: file.add_modules.into_iter().chain(args.add_modules.iter().cloned()).collect(),
            add_files: files,
            layers: args.layers || file.layers,
            layers_keys: keys.chain(args.layers_keys.iter().cloned().map(Named::Here)).collect(),
            cmdline,
            microcode: !args.no_microcode && file.microcode.unwrap_or(true),
            preflight: !args.no_preflight,
            mtime: source_date_epoch()?,
            source,
            tree,
        };
        let version = kernel_version(&settings)?;
        check_release(&version)?;
        let output = given(&args.output, file.output);
        let output = output.unwrap_or_else(|| Named::InTree(PathBuf::from(DEFAULT_OUTPUT)));
        settings.output = output.of_kernel(&version).place(&settings.tree)?;
        settings.target = Target::find(&settings.output)?;
        settings.kernel = Some(version);
        Ok(settings)
    }
}

/// What a tree's own configuration says of images, without what one image takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The program that becomes `/init`.
    pub init: Named,
    /// Where images go, in the tree, if it says; `%v` stands for the kernel's release.
    pub output: Option<PathBuf>,
    /// The file, if there is one.
    pub source: Option<Source>,
}

impl Default for Standing {
    fn default() -> Self {
        Self { init: Named::Here(beside("taproot-init")), output: None, source: None }
    }
}

impl Standing {
    /// Reads it.
    pub fn of(tree: &Tree) -> Result<Self> {
        let (file, source) = read(None, tree)?;
        Ok(Self { init: file.init.map_or(Self::default().init, Named::InTree), output: file.output, source })
    }

    /// Where the image of a kernel goes.
    pub fn image(&self, kernel: &str) -> PathBuf {
        let output = self.output.as_deref().unwrap_or(Path::new(DEFAULT_OUTPUT));
        PathBuf::from(output.to_string_lossy().replace("%v", kernel))
    }
}

/// Refuses what is no release of a kernel: it becomes a part of paths.
pub fn check_release(version: &str) -> Result<()> {
    if version.is_empty() || version.starts_with('.') || version.contains('/') {
        bail!("{version:?} is no release of a kernel: expected what uname -r prints, such as 6.12.9-amd64");
    }
    Ok(())
}

/// The configuration that was named, else the tree's own: this machine's says nothing about another tree.
fn read(path: Option<&Path>, tree: &Tree) -> Result<(File, Option<Source>)> {
    let (shown, bytes) = match path {
        Some(path) => (path.to_owned(), Some(tree::named(path, tree::TEXT)?)),
        None => (tree.shown(DEFAULT_CONFIG), tree.read_if_there(DEFAULT_CONFIG, tree::TEXT)?),
    };
    let Some(bytes) = bytes else { return Ok((File::default(), None)) };
    let name = path.map_or(Cow::Borrowed(DEFAULT_CONFIG), Path::to_string_lossy);
    let source = Source::of(Kind::Configuration, name, &bytes);
    let text = String::from_utf8(bytes).with_context(|| format!("{}: expected text", shown.display()))?;
    // toml's errors show the line and what was expected.
    let file = toml::from_str(&text).map_err(|e| anyhow::anyhow!("{}: {e}", shown.display()))?;
    Ok((file, Some(source)))
}

/// A file that belongs to this program, by its name.
pub fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let dir = own.parent().unwrap_or(Path::new("/"));
    // out/taproot beside out/taproot-init; PREFIX/bin/taproot and PREFIX/lib/taproot/taproot-init.
    let places = [dir.join(name), dir.join("../lib/taproot").join(name)];
    places.into_iter().find(|p| p.exists()).unwrap_or_else(|| Path::new(INSTALLED).join(name))
}

fn split_file(text: &str) -> Result<(PathBuf, String)> {
    let (source, target) = text.split_once(':').unwrap_or((text, text));
    if !source.starts_with('/') || !target.starts_with('/') {
        bail!("{text:?}: expected an absolute path of the tree, or SOURCE:TARGET with two");
    }
    Ok((PathBuf::from(source), target.to_owned()))
}

/// See reproducible-builds.org: files get this time instead of 1970.
pub fn source_date_epoch() -> Result<u32> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => Ok(0),
        Ok(text) => text.trim().parse().map_err(|_| {
            anyhow::anyhow!("SOURCE_DATE_EPOCH={text:?}: expected seconds since 1970, below 2^32 (a limit of cpio)")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_wrong_key_is_shown_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        fs::write(&path, "modules = \"generic\"\nmodul = 1\n").unwrap();
        let error = format!("{:#}", read(Some(&path), &Tree::open(dir.path()).unwrap()).unwrap_err());
        assert!(error.contains("line 2") && error.contains("modul"), "{error}");
    }

    /// toml's error lists every key that is known.
    #[test]
    fn the_help_and_the_page_name_every_key_of_the_file() {
        use clap::CommandFactory;
        let error = toml::from_str::<File>("x = 1").unwrap_err().to_string();
        let keys: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        assert!(keys.len() > 10 && keys.contains(&"add-files"), "{error}");
        let help = crate::cli::Cli::command().find_subcommand_mut("initramfs").unwrap().render_help().to_string();
        let about_the_file = help.split("The configuration file takes").nth(1).unwrap();
        let page = include_str!("../../docs/configuration.md");
        for key in keys {
            assert!(about_the_file.contains(key), "{key}: {help}");
            assert!(page.contains(&format!("| `{key}` |")), "{key}");
        }
    }

    #[test]
    fn command_line_wins_over_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        fs::write(&path, "modules = \"generic\"\ncompress = \"xz:3\"\nadd-modules = [\"a\"]\nkernel = \"1\"\n")
            .unwrap();
        let args = InitramfsArgs {
            config: Some(path),
            root: Some(dir.path().to_owned()),
            output: Some(dir.path().join("i-%v.img")),
            compress: Some(Compression::None),
            add_modules: vec!["b".into()],
            ..InitramfsArgs::default()
        };
        let settings = Settings::new(&args).unwrap();
        assert_eq!((settings.modules, settings.compress), (ModuleSet::Generic, Compression::None));
        assert_eq!(settings.add_modules, ["a", "b"]);
        assert_eq!(settings.output, dir.path().join("i-1.img"));
    }

    #[test]
    fn a_trees_own_file_counts_for_it_and_names_what_lies_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for made in ["etc/taproot", "real/boot", "usr/lib"] {
            fs::create_dir_all(root.join(made)).unwrap();
        }
        symlink("/real/boot", root.join("boot")).unwrap();
        let args = InitramfsArgs { root: Some(root.clone()), kernel: Some("6.1".into()), ..InitramfsArgs::default() };
        let settings = Settings::new(&args).unwrap();
        assert_eq!(settings.output, root.join("real/boot/initramfs-taproot-6.1.img"), "an absolute link stays inside");
        let text = "init = \"/usr/lib/init\"\noutput = \"/boot/%v/../x-%v\"\nrescue = \"none\"\n";
        fs::write(root.join("etc/taproot/initramfs.toml"), text).unwrap();
        let settings = Settings::new(&args).unwrap();
        assert_eq!((settings.rescue, settings.init), (Rescue::None, Named::InTree("/usr/lib/init".into())));
        assert_eq!(settings.output, root.join("real/boot/x-6.1"));
        fs::write(root.join("etc/taproot/initramfs.toml"), "rescue-password-file = \"/etc/none\"\n").unwrap();
        assert!(format!("{:#}", Settings::new(&args).unwrap_err()).contains(root.to_str().unwrap()));
    }

    #[test]
    fn files_are_absolute() {
        assert_eq!(split_file("/a").unwrap(), (PathBuf::from("/a"), "/a".to_owned()));
        assert_eq!(split_file("/a:/b").unwrap().1, "/b");
        assert!(split_file("a:/b").is_err() && split_file("/a:b").is_err());
    }
}
