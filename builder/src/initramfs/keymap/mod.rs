//! The keyboard layout of an image: which one the tree says, where its keymap lies, and that keymap compiled for the kernel.

pub mod kmap;
pub mod symbols;
mod xkb;

use super::decompress;
use super::tree::{self, Tree, TreeError};
use crate::settings::Named;
use anyhow::{Context as _, Result, bail};
use kmap::{Compiled, LONGEST, Source};
use std::path::{Path, PathBuf};
use taproot_init::keyboard::Layout;

/// Where distributions keep keymaps: kbd on Arch and elsewhere, on Fedora, on Debian, what a system adds, Alpine, NixOS.
const DIRECTORIES: [&str; 8] = [
    "/usr/share/kbd/keymaps",
    "/usr/lib/kbd/keymaps",
    "/usr/share/keymaps",
    "/lib/kbd/keymaps",
    "/etc/kbd/keymaps",
    "/usr/share/bkeymaps",
    "/run/current-system/sw/share/keymaps",
    "/nix/var/nix/profiles/system/sw/share/keymaps",
];
/// Where the console's keymap is named: systemd, `OpenRC`, Alpine, Void.
const CONFIGURED: [(&str, &str); 4] = [
    ("/etc/vconsole.conf", "KEYMAP"),
    ("/etc/conf.d/keymaps", "keymap"),
    ("/etc/conf.d/loadkmap", "KEYMAP"),
    ("/etc/rc.conf", "KEYMAP"),
];
/// What the kernel has built in.
const KERNELS: [&str; 5] = ["", "us", "@kernel", "defkeymap", "none"];
/// Endings of keymaps, and of those that are only included.
const ENDINGS: [&str; 4] = ["", ".map", ".kmap", ".inc"];
const BINARY_ENDING: &str = ".bmap";
const COMPRESSED: [&str; 4] = ["", ".gz", ".zst", ".xz"];
/// Directories are searched this deep.
const DEEPEST: usize = 5;
/// How many unknown words a note has.
const SHOWN: usize = 8;

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Choice {
    /// What the tree's own system uses.
    #[default]
    Configured,
    /// The kernel's own layout.
    None,
    /// By its name in the tree.
    Name(String),
    /// A file.
    File(Named),
}

impl Choice {
    /// `none`, a name, or a file if there is a slash in it.
    pub fn new(text: &str, named: impl FnOnce(PathBuf) -> Named) -> Self {
        match text {
            "none" => Self::None,
            path if path.contains('/') => Self::File(named(PathBuf::from(path))),
            name => Self::Name(name.to_owned()),
        }
    }
}

/// What an image gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyboard {
    /// The layout and where it comes from; `None`: the kernel's own.
    pub layout: Option<(Layout, String)>,
    /// What people should know.
    pub notes: Vec<String>,
}

impl Keyboard {
    /// Adds the notes to others.
    pub fn noted(self, notes: &mut Vec<String>) -> Option<(Layout, String)> {
        notes.extend(self.notes);
        self.layout
    }
}

/// Finds and compiles the keymap. What was asked for by name must be there; what the tree names may be missing, which is told.
pub fn find(tree: &Tree, choice: &Choice) -> Result<Keyboard> {
    match choice {
        Choice::None => Ok(Keyboard::default()),
        Choice::Configured => Ok(configured(tree)),
        Choice::Name(name) if KERNELS.contains(&name.as_str()) => Ok(Keyboard::default()),
        Choice::Name(name) => {
            let Some(path) = by_name(tree, name) else {
                bail!(
                    "--keymap {name}: no such keymap in {tree}; install kbd (Debian: console-data) there, or name a file: --keymap /path/{name}.map"
                );
            };
            compile(tree, name, &Named::InTree(path)).with_context(|| format!("--keymap {name}"))
        }
        Choice::File(file) => {
            let shown = file.shown(tree);
            let stem = shown.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = stem.split('.').next().unwrap_or_default();
            compile(tree, name, file).with_context(|| format!("--keymap {}", shown.display()))
        }
    }
}

/// The layout of the tree's own system.
fn configured(tree: &Tree) -> Keyboard {
    let mut missed = Vec::new();
    for (file, key) in CONFIGURED {
        let text = text(tree, file);
        let Some(name) = value(&text, key).filter(|name| !name.is_empty()) else { continue };
        if KERNELS.contains(&name.as_str()) {
            return Keyboard::default();
        }
        let said = format!("keyboard layout {name} ({key} in {file})");
        let path = if name.contains('/') { Some(PathBuf::from(&name)) } else { by_name(tree, &name) };
        let short = name.rsplit('/').next().unwrap_or_default().split('.').next().unwrap_or_default();
        match path.map(|path| compile(tree, short, &Named::InTree(path))) {
            Some(Ok(keyboard)) => return keyboard,
            Some(Err(error)) => missed.push(format!("{said}: {error:#}")),
            None => missed.push(format!("{said}: no such keymap in the tree; install kbd there")),
        }
    }
    let mut keyboard = xkb::find(tree).unwrap_or_default();
    if keyboard.layout.is_none() {
        let lost = |why| format!("{why}, or give --keymap FILE; until then people type on the US layout at the prompt");
        keyboard.notes = missed.into_iter().chain(keyboard.notes).map(lost).collect();
    }
    keyboard
}

/// A configuration file; one that cannot be read says nothing.
fn text(tree: &Tree, path: &str) -> String {
    String::from_utf8_lossy(&tree.read(path, tree::TEXT).unwrap_or_default()).into_owned()
}

/// The last value of a variable in a file that a shell could read.
fn value(text: &str, key: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim).filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = lines.next_back()?;
    let end = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => return value.get(1..)?.split(quote).next().map(str::to_owned),
        _ => value.find([' ', '\t', '#', ';']).unwrap_or(value.len()),
    };
    value.get(..end).map(str::to_owned)
}

/// The keymap of this name, a PC's before those of other machines. As for loadkeys it may be the name of the file.
fn by_name(tree: &Tree, name: &str) -> Option<PathBuf> {
    let name = decompress::strip_suffix(name);
    let name = [".map", ".kmap"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let mut found = Vec::new();
    for dir in DIRECTORIES {
        search(tree, Path::new(dir), name, DEEPEST, &mut found);
    }
    let foreign =
        |path: &PathBuf| ["mac", "amiga", "atari", "sun"].iter().any(|dir| path.iter().any(|part| part == *dir));
    found.sort_by_key(|path| (foreign(path), path.clone()));
    found.into_iter().next()
}

fn search(tree: &Tree, dir: &Path, name: &str, deep: usize, found: &mut Vec<PathBuf>) {
    for entry in tree.list(dir).unwrap_or_default() {
        let stem = decompress::strip_suffix(&entry);
        let kind = stem.strip_prefix(name);
        if kind.is_some_and(|end| matches!(end, ".map" | ".kmap" | BINARY_ENDING)) {
            found.extend(tree.file(dir.join(&entry)));
        } else if deep > 0 && !entry.contains('.') && entry != "include" {
            search(tree, &dir.join(&entry), name, deep - 1, found);
        }
    }
}

/// Reads a keymap and what it includes, and compiles it.
fn compile(tree: &Tree, name: &str, file: &Named) -> Result<Keyboard> {
    let source = read(tree, file)?;
    let from = source.path.clone();
    let in_tree = matches!(file, Named::InTree(_));
    let mut include = |from: &str, name: &str| included(tree, from, name, in_tree);
    let Compiled { keymap, unknown } = kmap::compile(&source, &mut include)?;
    let mut notes = Vec::new();
    if !unknown.is_empty() {
        let more = if unknown.len() > SHOWN { ", ..." } else { "" };
        let words = unknown.into_iter().take(SHOWN).collect::<Vec<_>>().join(", ");
        notes.push(format!("{from}: what is not known does nothing at the prompt: {words}{more}"));
    }
    Ok(Keyboard { layout: Some((Layout::new(name, keymap), from)), notes })
}

fn read(tree: &Tree, file: &Named) -> Result<Source, TreeError> {
    let (Named::Here(path) | Named::InTree(path)) = file;
    let raw = file.read(tree, LONGEST)?;
    let bytes = decompress::by_name_up_to(LONGEST, path, raw)
        .map_err(|cause| TreeError::Io { path: file.shown(tree), cause })?;
    Ok(Source { path: path.display().to_string(), bytes })
}

/// The file that another one includes: beside it and above it as kbd looks, then where the tree has such files.
fn included(tree: &Tree, from: &str, name: &str, in_tree: bool) -> Option<Source> {
    let dir = Path::new(from).parent().unwrap_or(Path::new("/"));
    let near = ["", "../include", "../../include"].iter().map(|below| dir.join(below));
    let near = near.map(|dir| (dir, in_tree || DIRECTORIES.iter().any(|known| from.starts_with(known))));
    let far = DIRECTORIES.iter().flat_map(|dir| ["include", "i386/include"].map(|below| Path::new(dir).join(below)));
    for (dir, in_tree) in near.chain(far.map(|dir| (dir, true))) {
        for (ending, compressed) in ENDINGS.iter().flat_map(|ending| COMPRESSED.iter().map(move |end| (ending, end))) {
            let path = dir.join(format!("{name}{ending}{compressed}"));
            let file = if in_tree { Named::InTree(path) } else { Named::Here(path) };
            if let Ok(source) = read(tree, &file) {
                return Some(source);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
