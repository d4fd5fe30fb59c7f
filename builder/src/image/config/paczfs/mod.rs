//! A configuration of paczfs, read once: it is a bash script, and is not executed. Assignments that paczfs knew become keys, functions
//! become hooks, and whatever else does something is refused with its line.

mod functions;
mod script;
#[cfg(test)]
mod tests;

use anyhow::{Context as _, Result, bail, ensure};
use functions::Functions;
use script::{Piece, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::output::{Cleanup, Target};

/// What paczfs held its snapshots by.
const HOLD: &str = "io.varasys.paczfs";

/// What a configuration becomes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Converted {
    /// The new configuration, with hooks in files of these names.
    pub toml: String,
    /// The same with the hooks in it.
    pub whole: String,
    /// Hooks: name of the file, and what is in it.
    pub files: Vec<(String, String)>,
    /// What is different now, or could not be carried over.
    pub notes: Vec<String>,
}

/// The configuration, in a directory.
const FILE: &str = "image.toml";

impl Converted {
    /// Writes it into a directory, which is made if it is not there; gives what was written. Nothing that is there is replaced.
    pub fn write(&self, to: &Path) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(to).with_context(|| format!("{}: making a directory", to.display()))?;
        let toml = (FILE, self.toml.as_str(), 0o644);
        let hooks = self.files.iter().map(|(name, text)| (name.as_str(), text.as_str(), 0o755));
        let all: Vec<_> =
            std::iter::once(toml).chain(hooks).map(|(name, text, mode)| (to.join(name), text, mode)).collect();
        for (path, ..) in &all {
            ensure!(fs::symlink_metadata(path).is_err(), "{}: it is there: choose another --to", path.display());
        }
        for (path, text, mode) in &all {
            Target::File(path.clone()).write(text.as_bytes(), &Cleanup::default())?;
            let mode = Permissions::from_mode(*mode);
            fs::set_permissions(path, mode).with_context(|| format!("{}: its permissions", path.display()))?;
        }
        Ok(all.into_iter().map(|(path, ..)| path).collect())
    }
}

const BOOTABLE: [&str; 6] = ["zfs-linux-hardened", "grub-efi-x86_64", "efibootmgr", "rng-tools", "openssh", "ntp"];
const WORKSTATION: [&str; 15] = [
    "rsync",
    "vim",
    "htop",
    "iftop",
    "tmux",
    "pv",
    "sshfs",
    "gdisk",
    "qemu-headless",
    "pkgfile",
    "arch-install-scripts",
    "dosfstools",
    "parted",
    "ovmf",
    "bash-completion",
];
/// Those that hold one text, and those that hold several.
const SCALARS: [&str; 11] = [
    "CONFIG_VERSION",
    "SUFFIX",
    "BLOCK_DEV",
    "IMAGE_FILE",
    "VDI_FILE",
    "QCOW_FILE",
    "QCOW2_FILE",
    "IMAGE_SIZE",
    "SWAP_SIZE",
    "CHROOT_PATH",
    "CACHE_PATH",
];
const POOL: &str = "POOL_NAME";
const ARRAYS: [&str; 5] = ["TRUSTED_KEYS", "LOCALES", "BASE_EXCLUDE_PKGS", "BOOTABLE_PKGS", "WORKSTATION_PKGS"];

/// Converts a text; the error names each line that says something unknown.
pub fn convert(text: &str) -> Result<Converted> {
    let (pieces, mut refused) = script::pieces(text);
    let mut said = Said::default();
    let mut out = Converted::default();
    let mut functions = Functions::default();
    for (line, piece) in pieces {
        let done = match piece {
            Piece::Function { name, body } => functions.take(&name, &body, &mut out.notes),
            Piece::Assignment { name, value } => said.take(&name, value),
        };
        if let Err(why) = done {
            refused.push((line, why));
        }
    }
    if !refused.is_empty() {
        refused.sort();
        let lines: Vec<String> = refused.iter().map(|(line, why)| format!("line {line}: {why}")).collect();
        bail!("nothing was converted, because of what cannot be:\n  {}", lines.join("\n  "));
    }
    let toml = said.write(&functions, &mut out.notes);
    out.whole = toml.clone() + &functions.table(true);
    out.toml = toml + &functions.table(false);
    out.files = functions.files();
    Ok(out)
}

/// What was assigned.
#[derive(Debug, Default)]
struct Said {
    texts: BTreeMap<String, String>,
    lists: BTreeMap<String, Vec<String>>,
}

impl Said {
    fn take(&mut self, name: &str, value: Value) -> Result<(), String> {
        match value {
            Value::Text(text) if SCALARS.contains(&name) || name == POOL => {
                if name == "QCOW_FILE" && !text.is_empty() {
                    return Err("QCOW_FILE: the old format qcow is not written; say QCOW2_FILE".to_owned());
                }
                let text = if name == "SUFFIX" && text.replace(' ', "") == "$(date+%s)" {
                    String::new()
                } else {
                    self.late(name, &text)?
                };
                self.texts.insert(name.to_owned(), text);
            }
            Value::List(list) if ARRAYS.contains(&name) => {
                let list = list.iter().map(|text| self.late(name, text)).collect::<Result<_, _>>()?;
                self.lists.insert(name.to_owned(), list);
            }
            Value::Text(_) if ARRAYS.contains(&name) => return Err(format!("{name}: expected a list in parentheses")),
            Value::List(_) if SCALARS.contains(&name) || name == POOL => {
                return Err(format!("{name}: expected one text"));
            }
            _ => return Err(format!("{name} is none of paczfs' own variables: write what it is for into a hook")),
        }
        Ok(())
    }

    /// A text with what is put in later, as `taproot image` writes it.
    fn late(&self, name: &str, text: &str) -> Result<String, String> {
        let text = text.replace("$( uname -m )", "x86_64").replace("$(uname -m)", "x86_64");
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let braced = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            let bare =
                || after.split_at(after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len()));
            let (word, after) = braced.unwrap_or_else(bare);
            match (word, self.texts.get("SUFFIX").map(String::as_str)) {
                ("SUFFIX", None | Some("")) => out.push_str("${suffix}"),
                ("SUFFIX", Some(suffix)) => out.push_str(suffix),
                (POOL, _) => out.push_str("${name}"),
                _ => {
                    return Err(format!(
                        "{name}: ${{{word}}} cannot be known here: write what it stands for, or a hook"
                    ));
                }
            }
            rest = after;
        }
        Ok(out + rest)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn list(&self, name: &str, default: &[&str], notes: &mut Vec<String>) -> Vec<String> {
        match self.lists.get(name) {
            Some(list) => {
                if list.is_empty() {
                    notes.push(format!(
                        "{name}=() means none now; paczfs took its own list then: {}",
                        default.join(" ")
                    ));
                }
                list.clone()
            }
            None => default.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    /// The configuration.
    fn write(&self, functions: &Functions, notes: &mut Vec<String>) -> String {
        let exclude = self.list("BASE_EXCLUDE_PKGS", &["linux"], notes);
        let mut states = vec![("miniroot", vec!["base".to_owned()])];
        states.push(("bootable", self.list("BOOTABLE_PKGS", &BOOTABLE, notes)));
        states.push(("workstation", self.list("WORKSTATION_PKGS", &WORKSTATION, notes)));
        for (name, packages) in &mut states {
            let before = packages.len();
            packages.retain(|package| !package.starts_with("grub-efi-"));
            if packages.len() < before {
                notes.push(
                    "grub-efi-*: left out, there is no such package any more; [boot] loader says what boots".to_owned(),
                );
            }
            if functions.drops(name) {
                packages.clear();
            }
        }
        for (name, why) in [
            ("CONFIG_VERSION", "the version of the configuration says nothing here"),
            ("CHROOT_PATH", "no directory to mount on is needed; hooks find the tree in CHROOT_PATH"),
        ] {
            if self.text(name).is_some() {
                notes.push(format!("{name}: {why}"));
            }
        }
        notes.push(
            "clones have no snapshots of the states after them, which zfs snapshot -r of paczfs gave them".to_owned(),
        );
        notes.push("the repository archzfs.com is gone: name one that has zfs in source.pacstrap.config".to_owned());
        let mut toml = String::from("# Converted from a configuration of paczfs.\n");
        let _ = write!(toml, "[source.pacstrap]\nexclude = {}\n", list(&exclude));
        toml + &self.settings(functions, notes) + &self.disk(functions) + &layout(&states)
    }

    /// Packages and the system.
    fn settings(&self, functions: &Functions, notes: &mut Vec<String>) -> String {
        let mut toml = String::new();
        let keys = self.list("TRUSTED_KEYS", &["5E1ABF240EE7A126"], notes);
        let keys = if functions.drops("keys") { Vec::new() } else { keys };
        let _ = write!(toml, "\n[packages]\ntrusted-keys = {}\n", list(&keys));
        if let Some(cache) = self.text("CACHE_PATH").filter(|_| !functions.drops("cache")) {
            let _ = writeln!(toml, "cache = {}", quoted(cache));
        }
        let locales = self.list("LOCALES", &["en_US.UTF-8 UTF-8"], notes);
        let locales = if functions.drops("locales") { Vec::new() } else { locales };
        // Its root had no password.
        let _ = write!(toml, "\n[system]\ntimezone = \"UTC\"\nlocales = {}\nallow-empty-root = true\n", list(&locales));
        toml
    }

    /// Pool, disk and outputs.
    fn disk(&self, functions: &Functions) -> String {
        let mut toml = String::new();
        let pool = self.text(POOL).unwrap_or("zroot");
        let _ = write!(toml, "\n[pool]\nname = {}\ncompression = \"lz4\"\nashift = 12\n", quoted(pool));
        let whole = if self.text("BLOCK_DEV").is_some() { "auto" } else { "20G" };
        let size = self.text("IMAGE_SIZE").unwrap_or(whole);
        let swap = if functions.drops("swap") { "0" } else { self.text("SWAP_SIZE").unwrap_or("4G") };
        let _ = write!(toml, "\n[disk]\nsize = {}\nesp = \"550M\"\nswap = {}\n", quoted(size), quoted(swap));
        toml.push_str("\n[output]\n");
        let image = self.text("IMAGE_FILE").or(self.text("BLOCK_DEV").is_none().then_some("./paczfs-${suffix}.img"));
        for (key, path) in [
            ("raw", image),
            ("device", self.text("BLOCK_DEV")),
            ("vdi", self.text("VDI_FILE").filter(|_| !functions.drops("vdi"))),
            ("qcow2", self.text("QCOW2_FILE").filter(|_| !functions.drops("qcow2"))),
        ] {
            if let Some(path) = path {
                let _ = writeln!(toml, "{key} = {}", quoted(path));
            }
        }
        toml
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

/// The states of paczfs with their packages, and its data sets. What was legacy is mounted by whoever mounts the root.
fn layout(states: &[(&str, Vec<String>)]) -> String {
    let mut out = String::new();
    for (name, packages) in states {
        let _ = write!(
            out,
            "\n[[state]]\nname = \"{name}\"\npackages = {}\nhold = [\"{HOLD}\"]\neverywhere = true\n",
            list(packages)
        );
    }
    let postgres = "[\"recordsize=8K\", \"primarycache=metadata\", \"logbias=throughput\"]";
    out.push_str("\n[[dataset]]\nname = \"system\"\nmountpoint = \"legacy\"\n");
    out.push_str("\n[[dataset]]\nname = \"system/default\"\ntree = \"/\"\nmountpoint = \"legacy\"\nbootfs = true\n");
    out.push_str("\n[[dataset]]\nname = \"data\"\nmountpoint = \"none\"\n");
    for (name, path, properties) in [
        ("root", "/root", ""),
        ("home", "/home", ""),
        ("srv", "/srv", ""),
        ("machines", "/var/lib/machines", ""),
        ("postgres", "/var/lib/postgres", postgres),
    ] {
        let _ = write!(out, "\n[[dataset]]\nname = \"data/{name}\"\nmountpoint = \"{path}\"\n");
        if !properties.is_empty() {
            let _ = writeln!(out, "properties = {properties}");
        }
    }
    let clone = |out: &mut String, name: &str, state: &str, more: &str| {
        let _ = write!(out, "\n[[dataset]]\nname = \"{name}\"\nclone-of = \"system/default@{state}\"\n{more}\n");
    };
    clone(&mut out, "data/machines/miniroot", "miniroot", "properties = [\"readonly=on\"]");
    for name in ["bootable", "workstation"] {
        clone(&mut out, &format!("system/{name}"), name, "mountpoint = \"legacy\"");
    }
    out
}
