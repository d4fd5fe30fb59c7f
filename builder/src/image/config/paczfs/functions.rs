//! Functions of paczfs as hooks: each ran before what its name says, and instead of it where it set `handled`.

use super::{Converted, quoted};
use std::fmt::Write as _;

/// Where the hooks of paczfs belong: in their order, with the stage and whether they come before or after it.
const HOOKS: [(&str, &str, bool); 29] = [
    ("prepare-cache", "source", true),
    ("init-system", "source", true),
    ("prepare-env", "source", true),
    ("prepare-loop-dev", "layout", true),
    ("prepare-partitions", "layout", true),
    ("prepare-zfs-pool", "pool", true),
    ("prepare-directories", "pool", true),
    ("prepare-pacman", "source", true),
    ("prepare-pacman-keys", "source", true),
    ("install-miniroot", "install", true),
    ("set-locale", "configure", true),
    ("copy-ssh-keys", "configure", true),
    ("prepare-users", "configure", true),
    ("populate-mirrorlist", "configure", true),
    ("snapshot-miniroot", "configure", true),
    ("prepare-efi-volume", "boot", true),
    ("prepare-swap", "boot", true),
    ("install-bootable", "boot", true),
    ("prepare-initramfs", "initramfs", true),
    ("install-grub", "boot", true),
    ("snapshot-bootable", "boot", false),
    ("install-workstation", "install", false),
    ("snapshot-workstation", "install", false),
    ("finalize-image", "done", true),
    ("clean-up", "done", true),
    ("save-image-file", "convert", true),
    ("save-vdi-file", "convert", true),
    ("save-qcow-file", "convert", true),
    ("save-qcow2-file", "convert", true),
];

/// Programs that work on a pool, devices or a tree that are mounted: here nothing is.
const IMPOSSIBLE: [&str; 12] = [
    "zfs",
    "zpool",
    "losetup",
    "gdisk",
    "sgdisk",
    "partprobe",
    "mkfs.vfat",
    "mkswap",
    "arch-chroot",
    "mount",
    "umount",
    "grub-install",
];
/// Functions of paczfs itself that are not there any more.
const GONE: [&str; 6] = ["_pacman", "_pacman-key", "_pacstrap", "add-tear-down", "set-debug", "fire-hook"];

/// Makes a hook of a function.
pub(super) fn hook(name: &str, body: &str, out: &mut Converted) -> Result<(), String> {
    let known = HOOKS
        .iter()
        .find(|(hook, ..)| *hook == name || (name == "create-zfs-datasets" && *hook == "prepare-directories"));
    let Some((hook, stage, before)) = known else {
        return Err(format!("function {name} is none of paczfs' hooks: what calls it must have it in its own file"));
    };
    let words = || body.split(|c: char| c.is_whitespace() || ";|&(){}".contains(c));
    let used: Vec<&str> = IMPOSSIBLE.into_iter().filter(|program| words().any(|word| word == *program)).collect();
    if !used.is_empty() {
        out.notes.push(format!(
            "{name}: calls {}, but nothing is mounted and no pool imported while an image is made: look over it",
            used.join(", ")
        ));
    }
    let gone: Vec<&str> = GONE.into_iter().filter(|function| words().any(|word| word == *function)).collect();
    if !gone.is_empty() {
        out.notes.push(format!("{name}: calls {}, which were paczfs' own and are not there", gone.join(", ")));
    }
    let handled = words().any(|word| word == "handled=true");
    let place = match (handled, before) {
        (true, _) => "replace",
        (false, true) => "before",
        (false, false) => "after",
    };
    if handled {
        out.notes.push(format!("{name}: it says handled=true, so it takes the place of the stage {stage}"));
    }
    let text = format!(
        "#!/bin/bash\n# {stage}.{place}: the function {hook} of a configuration of paczfs.\nset -uo pipefail\nhandled=false\nhook={hook}\n. \"$TAPROOT_HELPERS\"\n\
         hook_function() {{{body}}}\nhook_function || exit\n"
    );
    out.files.push((format!("{hook}.{stage}.{place}.sh"), text));
    Ok(())
}

/// The table of hooks, in the order in which paczfs called them.
pub(super) fn table(files: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut done: Vec<String> = Vec::new();
    let order = |file: &str| HOOKS.iter().position(|(hook, ..)| file.starts_with(&format!("{hook}.")));
    let mut names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_by_key(|name| order(name));
    for name in &names {
        let key = key_of(name);
        if done.contains(&key) {
            continue;
        }
        if done.is_empty() {
            out.push_str("\n[hooks]\n");
        }
        let same: Vec<String> = names.iter().filter(|other| key_of(other) == key).map(|name| quoted(name)).collect();
        let _ = writeln!(out, "\"{key}\" = [{}]", same.join(", "));
        done.push(key);
    }
    out
}

/// Stage and place, from the name of a file.
fn key_of(file: &str) -> String {
    let mut parts = file.trim_end_matches(".sh").rsplit('.');
    let (place, stage) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{stage}.{place}")
}
