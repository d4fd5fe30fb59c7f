//! Layouts as X and Debian name them, and the console's keymaps for them.

use super::{Keyboard, by_name, compile, text, value};
use crate::initramfs::decompress::strip_suffix;
use crate::initramfs::tree::Tree;
use crate::settings::Named;
use std::path::{Path, PathBuf};

/// Where such a layout is named.
const CONFIGURED: [&str; 2] = ["/etc/default/keyboard", "/etc/vconsole.conf"];
/// Where Debian's console-setup leaves the keymap that it made of it.
const CACHE: &str = "/etc/console-setup";

/// kbd's names of layouts that have another one there, with the variant behind a colon.
const KBD: [(&str, &str); 40] = [
    ("at", "de-latin1"),
    ("at:nodeadkeys", "de-latin1-nodeadkeys"),
    ("be", "be-latin1"),
    ("bg", "bg_bds-utf8"),
    ("br", "br-abnt2"),
    ("ca", "cf"),
    ("ch", "sg-latin1"),
    ("ch:de_nodeadkeys", "sg-latin1"),
    ("ch:fr", "fr_CH-latin1"),
    ("cz", "cz-lat2"),
    ("de", "de-latin1"),
    ("de:nodeadkeys", "de-latin1-nodeadkeys"),
    ("dk", "dk-latin1"),
    ("ee", "et"),
    ("fi", "fi"),
    ("fr", "fr-latin9"),
    ("fr:bepo", "fr-bepo"),
    ("gb", "uk"),
    ("hr", "croat"),
    ("hu", "hu"),
    ("il", "il"),
    ("is", "is-latin1"),
    ("jp", "jp106"),
    ("latam", "la-latin1"),
    ("lt", "lt"),
    ("lv", "lv"),
    ("mk", "mk-utf"),
    ("no", "no-latin1"),
    ("pl", "pl2"),
    ("pt", "pt-latin1"),
    ("ro", "ro"),
    ("ru", "ru"),
    ("se", "se-latin1"),
    ("si", "slovene"),
    ("sk", "sk-qwertz"),
    ("tr", "trq"),
    ("ua", "ua-utf"),
    ("us:altgr-intl", "us-acentos"),
    ("us:dvorak", "dvorak"),
    ("us:intl", "us-acentos"),
];

/// The keymap for the layout that the tree names; `None` if it names none, or the kernel's own.
pub(super) fn find(tree: &Tree) -> Option<Keyboard> {
    let (file, text) = CONFIGURED
        .iter()
        .map(|file| (*file, text(tree, file)))
        .find(|(_, text)| value(text, "XKBLAYOUT").is_some_and(|layout| !layout.is_empty()))?;
    let (layouts, variants) = (value(&text, "XKBLAYOUT")?, value(&text, "XKBVARIANT").unwrap_or_default());
    // Of several the first one is active at first.
    let layout = layouts.split(',').next().unwrap_or_default().trim();
    let variant = variants.split(',').next().unwrap_or_default().trim();
    if layouts == "us" && variant.is_empty() {
        return None;
    }
    let name = if variant.is_empty() { layout.to_owned() } else { format!("{layout}({variant})") };
    let said = format!("keyboard layout {name} (XKBLAYOUT in {file})");
    let cache = cached(tree);
    let fresh = cache.as_ref().filter(|path| !tree.is_older(path, file));
    let mut notes = Vec::new();
    for path in fresh.cloned().into_iter().chain(by_kbd(tree, layout, variant)) {
        match compile(tree, &name, &Named::InTree(path)) {
            Ok(keyboard) => return Some(keyboard),
            Err(error) => notes.push(format!("{said}: {error:#}")),
        }
    }
    if layout == "us" && variant.is_empty() {
        return None;
    }
    if notes.is_empty() {
        let why = match &cache {
            Some(path) => format!("{} is older; run setupcon --save-only", path.display()),
            None => {
                "no keymap in the tree; install console-setup and run setupcon --save-only, or install kbd".to_owned()
            }
        };
        notes.push(format!("{said}: {why}"));
    }
    Some(Keyboard { layout: None, notes })
}

/// What console-setup made, that for UTF-8 first.
fn cached(tree: &Tree) -> Option<PathBuf> {
    let mut names = tree.list(CACHE).unwrap_or_default();
    names.retain(|name| name.starts_with("cached_") && strip_suffix(name).strip_suffix(".kmap").is_some());
    names.sort_by_key(|name| !name.contains("UTF-8"));
    names.first().map(|name| Path::new(CACHE).join(name))
}

/// kbd's keymap: that made of the layout of X where a distribution has those, else the one of the console.
fn by_kbd(tree: &Tree, layout: &str, variant: &str) -> Option<PathBuf> {
    let (key, made) = match variant {
        "" => (layout.to_owned(), layout.to_owned()),
        variant => (format!("{layout}:{variant}"), format!("{layout}-{variant}")),
    };
    let kbd = KBD.iter().find(|(name, _)| *name == key).map(|(_, kbd)| *kbd);
    kbd.and_then(|name| by_name(tree, name)).or_else(|| by_name(tree, &made))
}
