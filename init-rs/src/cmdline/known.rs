//! Every word that is understood: one table for the messages of the parser, for `taproot explain` and for the check that
//! `docs/boot-parameters.md` leaves none out.

mod live;

pub use live::LIVE;

/// A word that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The word up to its `=`.
    pub word: &'static str,
    /// What follows, e.g. `=SECONDS`; parts in brackets may be left out.
    pub form: &'static str,
    /// What it does, in a few words.
    pub meaning: &'static str,
}

const fn known(word: &'static str, form: &'static str, meaning: &'static str) -> Known {
    Known { word, form, meaning }
}

/// Form of a switch.
const SWITCH: &str = "[=yes|no]";
/// Meaning of words that name a thing that is done anyway.
const ALWAYS: &str = "no effect: it is always done";

/// The table, by part of the boot.
pub const KNOWN: &[Known] = &[
    // which root
    known(
        "root",
        "=ZFS=POOL/DATASET|zfs:POOL/DATASET|zfs:AUTO|zfs[@SNAPSHOT]|UUID=|LABEL=|PARTUUID=|PARTLABEL=|/dev/...",
        "the root: a dataset, or the file system of a block device",
    ),
    known("zfs", "=POOL/DATASET[@SNAPSHOT]|POOL|bootfs|auto", "the root; wins over root="),
    known("real_root", "=as root=", "the root, as genkernel calls it; wins over root="),
    known("REAL_ROOT", "=as root=", "the root, where root= names none on ZFS"),
    known("bootfs", "=POOL/DATASET[@SNAPSHOT]", "the root, where no other word names a dataset"),
    known("zfs-bootfs", "=POOL/DATASET[@SNAPSHOT]", "the root, where no other word names a dataset"),
    known("rpool", "=POOL", "the pool whose bootfs is meant, where no dataset is named"),
    known(
        "rootfstype",
        "=TYPE[,TYPE...]",
        "type of a root on a block device; `zfs`: root=POOL/DATASET is a dataset, and no root= is the bootfs of a pool",
    ),
    known(
        "boot",
        "=zfs|live|casper",
        "`zfs`: root=POOL/DATASET is a dataset, and no root= is the bootfs of a pool; `live`, `casper`: the root is on a live medium",
    ),
    known(
        "taproot.fallback",
        "=POOL/DATASET|bootfs|UUID=|LABEL=|/dev/...|layers:TOP:...:BOTTOM[@BASE],...",
        "roots to try when the chosen one cannot be booted",
    ),
    // layers
    known(
        "taproot.layers",
        "[=TOP:...:BOTTOM]",
        "the root is made of these layers, or of those that the layer state names; root= is their base",
    ),
    known("sqsh_layers", "=TOP:...:BOTTOM", "the same, as RuckusRD calls it"),
    known("taproot.layerdev", "=as root=", "where layers are looked for that the base does not have"),
    known("sqsh_layerdev", "=as root=", "the same, as RuckusRD calls it"),
    known("taproot.layerdir", "=DIRECTORY", "the directory that holds the layers, on the base and on the layer device"),
    known("sqsh_layerdir", "=DIRECTORY", "the same, as RuckusRD calls it"),
    known("sqshfstype", "=TYPE[,TYPE...]", "type of the layer device"),
    known("overlayflags", "=OPTION,...", "options of the overlay, over the explicit ones that it gets"),
    known(
        "taproot.upper",
        "=dir[:DIRECTORY]|ram[:SIZE[,inodes=N]]|zvol:POOL/NAME|zfs:POOL/DATASET|label:LABEL|UUID=...|none",
        "what takes what is written",
    ),
    known("ram_layer", "=SIZE", "what is written goes to memory, over what earlier boots left on the base"),
    known("taproot.upper_fallback", "=fail|ram|ro", "what follows when the upper cannot be had"),
    known("taproot.upper_reset", SWITCH, "the upper that is there is set aside, and a fresh one begun"),
    known("rd.overlay.reset", SWITCH, "the same, as dracut calls it"),
    known("rd.live.overlay.reset", SWITCH, "the same, as dracut called it"),
    known(
        "taproot.upper_readonly",
        SWITCH,
        "what earlier boots left in the upper is a layer, and memory takes what is written",
    ),
    known("rd.overlay.readonly", SWITCH, "the same, as dracut calls it"),
    known("rd.live.overlay.readonly", SWITCH, "the same, as dracut called it"),
    known(
        "rd.overlay",
        "[=tmpfs[:size=SIZE,nr_inodes=N]|LABEL=|UUID=|/dev/...]",
        "the root itself is a layer under an upper, as dracut calls it",
    ),
    known("taproot.roothash", "=LAYER:DIGITS[,...]", "what the hash tree of a layer must come to"),
    known("roothash", "=DIGITS", "the same for the only layer, as systemd calls it"),
    known("taproot.layerlist", "=FILE", "the signed list that the layers must be in"),
    known("taproot.layer_sums", SWITCH, "whether sums beside layers are checked"),
    known("taproot.verity", "=lazy|restart|panic,...", "how layers with a hash tree are read"),
    known(
        "taproot.bind",
        "=/DIRECTORY[:/DIRECTORY...]",
        "directories that lie beside the upper, and not in the overlay",
    ),
    known("persistence", SWITCH, "directories, or all of the root, are kept on a medium with a persistence.conf"),
    known("nopersistence", "", "takes persistence back, wherever it stands"),
    known("persistence-zfs", "=POOL/NAME", "the zvol that is the medium"),
    known("persistence-label", "=LABEL,...", "labels of media, or names of files that are media"),
    known("persistence-storage", "=filesystem|file,...", "what can be a medium"),
    known("persistence-path", "=DIRECTORY", "the directory that files are looked for in"),
    known("persistence-media", "=removable|removable-usb", "on which disks media are looked for"),
    known("persistence-read-only", SWITCH, "nothing is written to media"),
    known("persistence-encryption", "=none", "media that are encrypted are not opened"),
    known("persistence-method", "=overlay", "no effect: overlays are what is used"),
    known("persistence-remove", "", "no effect: nothing here corresponds to it"),
    known("taproot.to_ram", "[=yes|no|try]", "the layers are copied to memory before the root is mounted"),
    known("to_ram", "", "the same, as RuckusRD calls it"),
    known("root_true_rw", "", "no effect: the base is writable if the upper is on it"),
    known("shell", "", "stop before anything is looked for, as RuckusRD calls it"),
    known("shell_mountdevs", "", "stop before anything is mounted, as RuckusRD calls it"),
    known("shell_sqshprep", "", "stop before anything is mounted, as RuckusRD calls it"),
    known("shell_mountoverlay", "", "stop before the layers are put together, as RuckusRD calls it"),
    known("maint", "", "stop before the hand-over, as RuckusRD calls it"),
    // how it is mounted and started
    known("ro", "", "the root is mounted read-only"),
    known("rw", "", "takes an earlier ro back"),
    known("rootflags", "=OPTIONS", "mount options for the root"),
    known("real_rootflags", "=OPTIONS", "mount options for the root, as genkernel calls them"),
    known("fsck.mode", "=auto|force|skip", "whether a block device's file system is checked before it is mounted"),
    known("fsck.repair", "=preen|yes|no", "what a check may repair"),
    known("forcefsck", "", "the same as fsck.mode=force"),
    known("fastboot", "", "the same as fsck.mode=skip"),
    known("rd.skipfsck", "", "the same as fsck.mode=skip"),
    known("fsckfix", "", "the same as fsck.repair=yes"),
    known("init", "=/PATH", "the program to start in the new root"),
    known("real_init", "=/PATH", "the program to start in the new root, as genkernel calls it"),
    // log
    known("quiet", "", "the console shows errors only"),
    known("debug", "", "the console shows everything"),
    known("loglevel", "=0-10", "the console shows messages below this level"),
    known("rd.debug", SWITCH, "the console shows everything"),
    known("zfs_debug", SWITCH, "the console shows everything"),
    known("zfs.debug", SWITCH, "the console shows everything"),
    known("zfsdebug", SWITCH, "the console shows everything"),
    known("taproot.log", "=error|warn|info|debug", "the least important message that the console shows"),
    // waiting
    known("taproot.wait", "=SECONDS|forever", "how long to wait for the wanted pool or root device"),
    known("zfs_wait", "=SECONDS", "how long to wait for the wanted pool"),
    known(
        "rootdelay",
        "=SECONDS",
        "how long to wait for the wanted pool or device, if that is longer than the default",
    ),
    known("rootwait", "[=SECONDS]", "how long to wait for the wanted pool or device; without a number: for ever"),
    known("taproot.degraded", "=SECONDS|now|no", "how long to wait for missing disks of a pool that could do without"),
    known("taproot.degraded_wait", "=SECONDS", "how long to wait for missing disks of a pool that could do without"),
    // import
    known(
        "taproot.hostid",
        "=strict|known|force|0xHEX",
        "whether another system's pool is taken; or this system's hostid",
    ),
    known("zfs_force", SWITCH, "a pool last used by another system is imported all the same"),
    known("zfs.force", SWITCH, "a pool last used by another system is imported all the same"),
    known("zfsforce", SWITCH, "a pool last used by another system is imported all the same"),
    known("spl_hostid", "=8 hexadecimal digits, or 0xHEX", "this system's hostid"),
    known("spl.spl_hostid", "=NUMBER, 0xHEX or 0OCTAL", "this system's hostid; also an option of module spl"),
    known("taproot.import", "=ro|rw", "import the pool read-only"),
    known("taproot.import_dir", "=/DIR[:/DIR...]", "directories or devices to look at instead of every disk"),
    known("zfs_import_dir", "=/DIR[:/DIR...]", "directories or devices to look at instead of every disk"),
    known("taproot.missing_log", SWITCH, "import a pool whose log device is missing, losing what only the log holds"),
    known(
        "taproot.auto",
        "=any|expected",
        "which pools an unnamed root may come from: any, or those the image expects",
    ),
    known("taproot.also_pools", "=POOL,...", "pools that are imported beside the root's"),
    known("taproot.skip_pools", "=POOL,...", "pools that an unnamed root must not come from"),
    known(
        "dozfs",
        "[=force|cache,...]",
        "ZFS is looked for in any case; dozfs=force also imports a pool that another system used last",
    ),
    known("zfs_boot_only", SWITCH, ALWAYS),
    known("zfs_ignorecache", SWITCH, ALWAYS),
    // keys
    known(
        "taproot.key",
        "=[DEVICE:]/PATH",
        "a file with a key; DEVICE is LABEL=, UUID=, PARTLABEL=, PARTUUID= or /dev/...",
    ),
    known("taproot.key_wait", "=SECONDS|forever", "how long to wait for the device of a key file"),
    known("taproot.key_prompt", "=yes|no", "whether to ask for passphrases"),
    known("taproot.key_tries", "=NUMBER", "how often a passphrase may be wrong; 0: no limit"),
    known("taproot.key_timeout", "=SECONDS|no", "how long a prompt waits; the time begins anew while somebody types"),
    // mounts
    known("taproot.mounts", "=all|children|system|none|DATASET,...", "which datasets are mounted with the root"),
    known("taproot.also", "=DATASET[=/PATH],...", "further datasets to mount, whatever their canmount is"),
    known("taproot.fstab", "=yes|no", "whether the root's fstab is read"),
    // snapshots
    known("rollback", SWITCH, "roll the root back to the snapshot that is named behind it, instead of cloning that"),
    known("bootfs.rollback", "[=SNAPSHOT]", "roll the root back to this snapshot (no name: the kernel's release)"),
    known(
        "bootfs.snapshot",
        "[=SNAPSHOT]",
        "take this snapshot of the root before it is mounted (no name: the kernel's release)",
    ),
    known("taproot.destroy_newer", SWITCH, "a rollback may destroy newer snapshots"),
    known("taproot.clone", "=POOL/DATASET", "name of the clone that is made of the snapshot"),
    // hibernation
    known("resume", "=DEVICE|none", "swap device with an image of the hibernated system"),
    known("resume_offset", "=NUMBER", "page of the swap file on that device"),
    known("noresume", "", "an image of a hibernated system is not resumed"),
    known("hibernate", "=noresume|no", "an image of a hibernated system is not resumed"),
    known("taproot.resume_wait", "=SECONDS|forever", "how long to wait for the device of resume="),
    known("resumewait", "", "wait for the device of resume= for ever"),
    known("resumedelay", "=SECONDS", "how long to wait for the device of resume=, if that is longer than the default"),
    // rescue
    known(
        "taproot.rescue",
        "[=menu|shell|locked|reboot[:SECONDS]|poweroff[:SECONDS]|now|no]",
        "what a failure ends in; alone or with `now`: stop before anything is done",
    ),
    known(
        "taproot.attempts",
        "=NUMBER",
        "failed attempts that restart the machine before it is switched off; 0: no limit",
    ),
    known("taproot.break", "=start|import|mount|handover,...", "stages to stop before"),
    known("break", "[=STAGE,...]", "stages to stop before, as initramfs-tools and mkinitcpio call them"),
    known("rd.break", "[=STAGE,...]", "stages to stop before, as dracut calls them"),
    known("rd.shell", SWITCH, "with no: a failure gives nobody a shell"),
    known("rd.emergency", "=reboot|poweroff|halt", "what a failure ends in"),
    known("panic", "=SECONDS", "a failure restarts the machine after this time"),
    known("taproot.menu", "[=SECONDS|yes|no]", "choose the root from a menu"),
    // modules
    known("modprobe.blacklist", "=MODULE,...", "modules not to load for a device"),
    known("module_blacklist", "=MODULE,...", "modules not to load for a device"),
];

/// Every word.
pub fn all() -> impl Iterator<Item = &'static Known> {
    KNOWN.iter().chain(LIVE)
}

/// The entry of a word (its part before the `=`).
pub fn find(key: &str) -> Option<&'static Known> {
    all().find(|known| known.word == key)
}

/// The known `taproot.` word that looks most like `key`, if any does.
pub fn nearest(key: &str) -> Option<&'static str> {
    let own = KNOWN.iter().map(|known| known.word).filter(|word| word.starts_with("taproot."));
    let (distance, word) = own.map(|word| (distance(key, word), word)).min()?;
    let name = word.len().saturating_sub("taproot.".len());
    (distance <= 1.max(name / 3)).then_some(word)
}

/// Edits (insert, remove, change a letter, swap two neighbours) that make one text of another.
pub(super) fn distance(a: &str, b: &str) -> usize {
    // Nothing longer is near to any word.
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().collect();
    let at = |row: &[usize], i: usize| row.get(i).copied().unwrap_or(usize::MAX / 2);
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let previous = |text: &[char], at: usize| at.checked_sub(1).and_then(|at| text.get(at).copied());
            if previous(&a, i) == Some(*y) && previous(&b, j) == Some(*x) {
                best = best.min(at(&before, j.saturating_sub(1)) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    at(&last, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_word_once() {
        let words: BTreeSet<_> = all().map(|known| known.word).collect();
        assert_eq!(words.len(), all().count());
    }

    #[test]
    fn distances() {
        for (a, b, edits) in
            [("", "", 0), ("", "ab", 2), ("wiat", "wait", 1), ("wat", "wait", 1), ("ab", "ba", 1), ("xyz", "abc", 3)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
        assert_eq!(nearest("taproot.wiat"), Some("taproot.wait"));
        assert_eq!(nearest("taproot.degarded"), Some("taproot.degraded"));
        assert_eq!(nearest("taproot.keyprompt"), Some("taproot.key_prompt"));
        assert_eq!(nearest("taproot.colour"), None);
        assert_eq!(nearest(&"x".repeat(10_000)), None);
    }

    #[test]
    fn the_documentation_names_every_word() {
        let doc = include_str!("../../../docs/boot-parameters.md");
        for known in all() {
            // `word`, `word=...` or `word[=...]`
            let there = ["`", "=", "["].iter().any(|end| doc.contains(&format!("`{}{end}", known.word)));
            assert!(there, "docs/boot-parameters.md lacks `{}`", known.word);
        }
    }
}
