//! GRUB's menu on the partition that it is started from. It is written whole, without grub-mkconfig, and names files of that partition
//! alone: whatever becomes of the pool, GRUB reads none of it.

use super::entry::Entry;
use std::fmt::Write as _;

/// Directory of GRUB's files, which its core image has as its prefix.
pub const DIRECTORY: &str = "grub";
/// Modules that the menu needs, beside those that find the partition.
pub const MODULES: [&str; 6] = ["normal", "linux", "test", "configfile", "echo", "all_video"];
/// Entries of the owner's, which are never written here.
const CUSTOM: &str = "custom.cfg";

/// The menu; the first entry is booted.
pub fn menu(entries: &[Entry], timeout: u16) -> String {
    let mut out = format!(
        "# Written by taproot at every change of kernels. Entries and settings of your own belong into {CUSTOM} beside this file.\n\
         set default=0\nset timeout={timeout}\n"
    );
    for entry in entries {
        let _ = write!(out, "\n{}", one(entry, ""));
    }
    let _ = write!(out, "\nif [ -f $prefix/{CUSTOM} ]; then\n    source $prefix/{CUSTOM}\nfi\n");
    out
}

/// An entry of a menu. `more` is for GRUB's shell to read behind the words, which it takes for what they are.
pub fn one(entry: &Entry, more: &str) -> String {
    let title = quoted(&format!("{}, {}", entry.title, entry.release));
    let id = quoted(&format!("taproot-{}", entry.version()));
    let [linux, initrd] = ["linux", "initrd"].map(|name| quoted(&format!("/{}/{name}", entry.directory)));
    let words: String = entry.options.split_whitespace().flat_map(|word| [" ".to_owned(), quoted(word)]).collect();
    format!("menuentry {title} --id {id} {{\n    linux {linux}{words}{more}\n    initrd {initrd}\n}}\n")
}

/// A word as GRUB's shell takes it for what it is.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.:_=,+@%^-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_what_they_are() {
        let entry = Entry {
            release: "6.1".into(),
            old: false,
            title: "It's".into(),
            sort_key: "x".into(),
            directory: "taproot/6.1.ab".into(),
            options: "root=zfs:AUTO a=\"b;c\" $x".into(),
        };
        let text = menu(&[entry], 5);
        for line in [
            "set timeout=5",
            r"menuentry 'It'\''s, 6.1' --id taproot-6.1 {",
            "    linux /taproot/6.1.ab/linux root=zfs:AUTO 'a=\"b;c\"' '$x'",
            "    initrd /taproot/6.1.ab/initrd",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
