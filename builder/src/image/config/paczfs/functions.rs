//! Functions of paczfs as hooks. Each ran before what its name says, and instead of it where it set `handled`; the tree was mounted then,
//! as it is in a directory here.

use super::quoted;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Where a hook of paczfs belongs.
#[derive(Debug, Clone, Copy)]
struct Place {
    name: &'static str,
    /// Of ours.
    stage: &'static str,
    /// The state in which it ran; empty: before all.
    of: &'static str,
    handled: Handled,
}

/// What it means that a function says `handled=true`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handled {
    /// paczfs did nothing then, or what is not done here.
    Nothing,
    /// What is left out of the configuration.
    Drops(&'static str),
    /// What is done all the same.
    Stays(&'static str),
    /// It cannot be.
    Never(&'static str),
}

use Handled::{Drops, Never, Nothing, Stays};

const fn place(name: &'static str, stage: &'static str, of: &'static str, handled: Handled) -> Place {
    Place { name, stage, of, handled }
}

/// In the order in which paczfs called them.
#[rustfmt::skip]
const HOOKS: [Place; 29] = [
    place("prepare-cache", "source.before", "", Drops("cache")),
    place("init-system", "source.before", "", Nothing),
    place("prepare-env", "source.before", "", Nothing),
    place("prepare-loop-dev", "layout.before", "", Nothing),
    place("prepare-partitions", "layout.before", "", Never("partitions are made as [disk] has them")),
    place("prepare-zfs-pool", "pool.before", "", Never("the pool is made as [pool] has it")),
    place("prepare-directories", "pool.before", "", Never("data sets are made as [[dataset]] has them")),
    place("prepare-pacman", "source.before", "", Stays("pacman is told by source.pacstrap.config")),
    place("prepare-pacman-keys", "source.before", "", Drops("keys")),
    place("install-miniroot", "install.before", "miniroot", Drops("miniroot")),
    place("set-locale", "install.after", "miniroot", Drops("locales")),
    place("copy-ssh-keys", "install.after", "miniroot", Nothing),
    place("prepare-users", "install.after", "miniroot", Nothing),
    place("populate-mirrorlist", "install.after", "miniroot", Nothing),
    place("snapshot-miniroot", "install.after", "miniroot", Stays("@miniroot is made: [[state]] has it")),
    place("prepare-efi-volume", "install.before", "bootable", Stays("the EFI system partition is made")),
    place("prepare-swap", "install.before", "bootable", Drops("swap")),
    place("install-bootable", "install.before", "bootable", Drops("bootable")),
    place("prepare-initramfs", "install.after", "bootable", Stays("taproot packs the initramfs")),
    place("install-grub", "install.after", "bootable", Stays("what boots is what [boot] loader says")),
    place("snapshot-bootable", "install.after", "bootable", Stays("@bootable is made: [[state]] has it")),
    place("install-workstation", "install.before", "workstation", Drops("workstation")),
    place("snapshot-workstation", "install.after", "workstation", Stays("@workstation is made: [[state]] has it")),
    place("finalize-image", "install.after", "workstation", Nothing),
    place("clean-up", "done.before", "", Nothing),
    place("save-image-file", "convert.before", "", Nothing),
    place("save-vdi-file", "convert.before", "", Drops("vdi")),
    place("save-qcow-file", "convert.before", "", Nothing),
    place("save-qcow2-file", "convert.before", "", Drops("qcow2")),
];

/// Programs that work on a pool or on devices: here there are none.
const IMPOSSIBLE: [&str; 9] =
    ["zfs", "zpool", "losetup", "gdisk", "sgdisk", "partprobe", "mkfs.vfat", "mkswap", "grub-install"];
/// Functions of paczfs itself that are not there any more.
const GONE: [&str; 6] = ["_pacman", "_pacman-key", "_pacstrap", "add-tear-down", "set-debug", "fire-hook"];

/// The functions of a configuration.
#[derive(Debug, Default)]
pub(super) struct Functions {
    hooks: Vec<(Place, String)>,
    /// What they are in the place of.
    dropped: BTreeSet<&'static str>,
}

impl Functions {
    /// Takes a function as a hook.
    pub(super) fn take(&mut self, name: &str, body: &str, notes: &mut Vec<String>) -> Result<(), String> {
        let name = if name == "create-zfs-datasets" { "prepare-directories" } else { name };
        let Some(place) = HOOKS.into_iter().find(|place| place.name == name) else {
            return Err(format!(
                "function {name} is none of paczfs' hooks: what calls it must have it in its own file"
            ));
        };
        let words = || body.split(|c: char| c.is_whitespace() || ";|&(){}".contains(c));
        if words().any(|word| word == "handled=true") {
            match place.handled {
                Nothing => {}
                Drops(what) => {
                    self.dropped.insert(what);
                    notes.push(format!(
                        "{name}: it says handled=true, so that the configuration has no {what} of its own"
                    ));
                }
                Stays(why) => notes.push(format!("{name}: it says handled=true, which changes nothing here: {why}")),
                Never(why) => return Err(format!("{name} says handled=true: {why}, and no hook takes that place")),
            }
        }
        let used: Vec<&str> = IMPOSSIBLE.into_iter().filter(|program| words().any(|word| word == *program)).collect();
        if !used.is_empty() {
            notes.push(format!(
                "{name}: calls {}, but no device is made and no pool imported while an image is made: look over it",
                used.join(", ")
            ));
        }
        let gone: Vec<&str> = GONE.into_iter().filter(|function| words().any(|word| word == *function)).collect();
        if !gone.is_empty() {
            notes.push(format!("{name}: calls {}, which were paczfs' own and are not there", gone.join(", ")));
        }
        self.hooks.retain(|(other, _)| other.name != place.name);
        self.hooks.push((place, body.to_owned()));
        let order = |name: &str| HOOKS.iter().position(|place| place.name == name);
        self.hooks.sort_by_key(|(place, _)| order(place.name));
        Ok(())
    }

    /// Whether a function is in the place of something.
    pub(super) fn drops(&self, what: &str) -> bool {
        self.dropped.contains(what)
    }

    /// The files: their names, and what is in them.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        self.hooks.iter().map(|(place, body)| (format!("{}.sh", place.name), script(place, body))).collect()
    }

    /// The table of hooks, by their files or (`inline`) with what is in those.
    pub(super) fn table(&self, inline: bool) -> String {
        let mut out = String::new();
        let mut stages: Vec<&str> = self.hooks.iter().map(|(place, _)| place.stage).collect();
        stages.sort_unstable();
        stages.dedup();
        for stage in stages {
            if out.is_empty() {
                out.push_str("\n[hooks]\n");
            }
            let same = self.hooks.iter().filter(|(place, _)| place.stage == stage);
            let shown = |(place, body): &(Place, String)| {
                if inline {
                    format!("{{ inline = {}, interpreter = \"/bin/bash\" }}", quoted(&script(place, body)))
                } else {
                    quoted(&format!("{}.sh", place.name))
                }
            };
            let all: Vec<String> = same.map(shown).collect();
            let _ = writeln!(out, "\"{stage}\" = [{}]", all.join(", "));
        }
        out
    }
}

fn script(place: &Place, body: &str) -> String {
    let Place { name, stage, of, .. } = place;
    let only = if of.is_empty() { String::new() } else { format!("[ \"$TAPROOT_STATE\" = {of} ] || exit 0\n") };
    format!(
        "#!/bin/bash\n# {stage}: the function {name} of a configuration of paczfs.\nset -uo pipefail\n{only}handled=false\nhook={name}\n\
         . \"$TAPROOT_HELPERS\"\nhook_function() {{{body}}}\nhook_function || exit\n"
    )
}
