//! Every key of the configuration, once: what the template prints, what files and the environment may say, and what is shown.

use std::fmt::Write as _;

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Flag,
    /// Texts; a later one takes the place of all.
    List,
    /// Bytes: a number, or a text such as `20G`.
    Size,
}

impl Kind {
    /// As a person is told.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Text => "a text in quotes",
            Self::Number => "a whole number",
            Self::Flag => "true or false",
            Self::List => "a list of texts, such as [\"a\", \"b\"]",
            Self::Size => "bytes, or a text such as \"20G\"",
        }
    }
}

/// A key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Section and name, with dots.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its value if nobody says anything, as TOML; empty: none.
    pub default: &'static str,
    /// What it may look like, where there is no default.
    pub example: &'static str,
    /// What it is for.
    pub help: &'static str,
}

const fn key(path: &'static str, kind: Kind, default: &'static str, example: &'static str, help: &'static str) -> Key {
    Key { path, kind, default, example, help }
}

use Kind::{Flag, List, Number, Size, Text};

/// All keys of tables, by sections.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("source.tar", Text, "", "\"root.tar.zst\"", "an archive, compressed or not; \"-\" is standard input"),
    key("source.directory", Text, "", "\"/srv/tree\"", "a directory; whoever packs must be able to read all of it"),
    key("source.oci", Text, "", "\"image.tar\"", "a container image: an OCI layout, as a directory or an archive; DIR:TAG names one of several"),
    key("source.oci-platform", Text, "", "\"linux/amd64\"", "which of a container image's platforms; of one alone nothing need be said"),
    key("source.running", Flag, "false", "", "this machine as it runs, from a snapshot where its file system has such; takes root"),
    key("source.running-also", List, "[]", "[\"/home\"]", "further mount points of this machine that belong to its tree"),
    key("source.running-exclude", List, "[]", "[\"/var/lib/docker\"]", "paths of this machine that are left out"),
    key("source.layers", List, "[]", "[\"top.sqsh\", \"base.sqsh\"]", "the layers of a root, the topmost first: directories or images, merged; takes root"),
    key("source.arch", Text, "", "\"amd64\"", "Debian's word for the processor [default: this machine's]"),
    key("source.mmdebstrap.suite", Text, "", "\"bookworm\"", "Debian, made anew by mmdebstrap"),
    key("source.mmdebstrap.mirror", Text, "", "\"http://deb.example.org/debian\"", "where its packages come from"),
    key("source.mmdebstrap.include", List, "[\"linux-image-amd64\", \"zfs-initramfs\", \"systemd-sysv\"]", "", "packages besides the variant's"),
    key("source.mmdebstrap.components", List, "[\"main\", \"contrib\"]", "", "parts of the archive; ZFS is in contrib"),
    key("source.mmdebstrap.variant", Text, "\"important\"", "", "which packages it begins with"),
    key("source.mmdebstrap.mode", Text, "\"unshare\"", "", "unshare (a user namespace) or root"),
    key("source.mmdebstrap.timeout", Number, "3600", "", "seconds after which it is given up"),
    key("source.pacstrap.packages", List, "[]", "[\"base\", \"linux-lts\", \"zfs-linux-lts\"]", "Arch Linux, made anew by pacstrap: packages and groups"),
    key("source.pacstrap.exclude", List, "[]", "[\"linux\"]", "members of groups that are not installed"),
    key("source.pacstrap.config", Text, "", "\"pacman.conf\"", "a pacman.conf with the repositories [default: this machine's]"),
    key("source.pacstrap.timeout", Number, "3600", "", "seconds after which it is given up"),
    key("system.hostname", Text, "", "\"box\"", "name of the machine [default: localhost, or the tree's own with identity = \"keep\"]"),
    key("system.hostid", Text, "", "\"00bab10c\"", "host id of ZFS as 8 digits [default: none]"),
    key("system.timezone", Text, "", "\"Europe/Berlin\"", "a file below /usr/share/zoneinfo of the tree"),
    key("system.locales", List, "[]", "[\"en_US.UTF-8 UTF-8\"]", "lines of locale.gen; the first one is the system's"),
    key("system.keymap", Text, "", "\"us\"", "keyboard of the console"),
    key("system.root-password", Text, "", "\"locked\"", "locked, empty, or file:PATH with a hash of crypt(5) or the password in its first line [default: as in the tree]"),
    key("system.allow-empty-root", Flag, "false", "", "whether root may stand open"),
    key("system.ssh-keys", List, "[]", "[\"~/.ssh/id_ed25519.pub\"]", "files with public keys, or keys, for root"),
    key("system.identity", Text, "\"strip\"", "", "strip: machine id, host keys, seeds, leases, logs and caches are left out; keep: the image is this machine"),
    key("system.keep", List, "[]", "[\"/var/log\"]", "paths that stay though they would be left out"),
    key("system.remove", List, "[]", "[\"/usr/share/doc\"]", "paths that are left out; * stands for any part of a name"),
    key("system.add", List, "[]", "[\"motd:/etc/motd\"]", "files that are put in: SOURCE:TARGET"),
    key("packages.cache", Text, "", "\"/var/cache/pacman/pkg\"", "where packages are kept between builds; HOST:PATH by sshfs"),
    key("packages.trusted-keys", List, "[]", "[\"DDF7DB817396A49B2A2723F7403BD972F75D9D76\"]", "keys that pacman is to trust packages by"),
    key("pool.name", Text, "\"zroot\"", "", "pools of this machine are not touched, whatever their names"),
    key("pool.compatibility", Text, "\"openzfs-2.0\"", "", "openzfs-2.0, or grub2 where GRUB is to read the pool"),
    key("pool.ashift", Number, "12", "", "smallest allocation as a power of two: 9, 12 or 13"),
    key("pool.compression", Text, "\"zstd\"", "", "off, lz4, zstd, or zstd-1 to zstd-19"),
    key("pool.autoexpand", Flag, "true", "", "whether it grows when its partition does"),
    key("pool.grow-to", Size, "\"64G\"", "", "what it is expected to grow to"),
    key("pool.seed", Text, "\"\"", "", "what guids are made from, with the name: images of different seeds can be in one machine before they booted once"),
    key("disk.size", Text, "\"auto\"", "", "auto, or bytes such as 20G; of a device: all"),
    key("disk.sector", Number, "512", "", "bytes of a sector, 512 or 4096; a device has its own"),
    key("disk.esp", Size, "\"512M\"", "", "EFI system partition"),
    key("disk.swap", Size, "\"0\"", "", "swap partition; 0: none"),
    key("boot.loader", Text, "\"systemd-boot\"", "", "systemd-boot, bls, grub or grub-pool"),
    key("boot.kernel", Text, "", "\"6.12.9-amd64\"", "release of the kernel [default: the newest of the tree]"),
    key("boot.cmdline", Text, "", "\"zfs=zroot quiet\"", "words of the kernel command line [default: zfs=POOL]"),
    key("boot.init", Text, "", "\"taproot-init\"", "the static taproot-init [default: beside this program]"),
    key("boot.sign-key", Text, "", "\"db.key\"", "private key (PEM) that programs for UEFI are signed with"),
    key("boot.sign-certificate", Text, "", "\"db.crt\"", "its certificate (PEM)"),
    key("output.raw", Text, "", "\"${name}-${suffix}.raw\"", "the disk's bytes, in a file with holes"),
    key("output.qcow2", Text, "", "\"${name}.qcow2\"", "QEMU"),
    key("output.vdi", Text, "", "\"${name}.vdi\"", "VirtualBox"),
    key("output.vmdk", Text, "", "\"${name}.vmdk\"", "VMware"),
    key("output.vhdx", Text, "", "\"${name}.vhdx\"", "Hyper-V"),
    key("output.device", Text, "", "\"/dev/disk/by-id/...\"", "a block device of this machine: all that is on it goes"),
    key("output.mirror", List, "[]", "[\"/dev/disk/by-id/...\"]", "further devices, or raw files, that become a mirror with the one that is named above; each can be booted from"),
    key("output.verify", Flag, "false", "", "read the pool back and compare"),
];

/// Keys of each `[[dataset]]`.
#[rustfmt::skip]
pub const DATASET: &[Key] = &[
    key("name", Text, "", "\"ROOT/default\"", "below the pool; what is above and not named is made, not mounted. Files that say the same name add to it"),
    key("mountpoint", Text, "", "\"/\"", "the directory of the tree that it holds, and where it is mounted; legacy and none are no directories"),
    key("tree", Text, "", "\"/\"", "the directory of the tree that it holds, if that is not the mountpoint"),
    key("canmount", Text, "", "\"noauto\"", "on, off or noauto"),
    key("bootfs", Flag, "false", "", "whether it is what the pool boots"),
    key("compression", Text, "", "\"lz4\"", "if not as that of the data set above"),
    key("snapshot", Text, "", "\"installed\"", "a snapshot of what it holds"),
    key("hold", List, "[]", "[\"keep\"]", "tags that keep the snapshot from being destroyed"),
    key("clone-of", Text, "", "\"ROOT/default\"", "the data set whose snapshot it is a clone of"),
    key("properties", List, "[]", "[\"recordsize=8K\"]", "properties as for zfs set"),
];

/// Keys of each `[[user]]`.
#[rustfmt::skip]
pub const USER: &[Key] = &[
    key("name", Text, "", "\"ann\"", "name of the account; files that say the same one add to it"),
    key("uid", Number, "", "1000", "its number [default: the next free one from 1000 on]"),
    key("groups", List, "[]", "[\"video\"]", "groups besides its own, which the tree must have"),
    key("shell", Text, "", "\"/bin/bash\"", "its shell [default: /bin/bash, or as in the tree]"),
    key("sudo", Flag, "false", "", "whether it may become root; without a password of its own it is asked for none"),
    key("password", Text, "", "\"locked\"", "locked, empty, or file:PATH as for root [default: locked, or as in the tree]"),
    key("ssh-keys", List, "[]", "[\"~/.ssh/id_ed25519.pub\"]", "files with public keys, or keys"),
];

/// Keys of each `[[state]]`.
#[rustfmt::skip]
pub const STATE: &[Key] = &[
    key("name", Text, "", "\"miniroot\"", "name of the snapshots that keep the state; files that say the same one add to it"),
    key("packages", List, "[]", "[\"openssh\"]", "packages that pacstrap adds in it, besides those of the states before"),
    key("tar", Text, "", "\"more.tar\"", "an archive that lies over what the states before have; .wh.NAME in it takes NAME away"),
    key("hold", List, "[]", "[\"keep\"]", "tags that keep its snapshots from being destroyed"),
    key("everywhere", Flag, "false", "", "whether data sets have its snapshot, too, that hold nothing of the tree, as after zfs snapshot -r"),
];

/// What stands above each section of the template.
const SECTIONS: [(&str, &str); 7] = [
    ("source", "Where the tree comes from: exactly one of them."),
    ("system", "What of the tree is changed on its way."),
    ("packages", "For package managers."),
    ("pool", "The pool."),
    ("disk", "The disk and its partitions."),
    ("boot", "What boots it."),
    (
        "output",
        "What is written: any number of them. ${name} is the pool's, ${suffix} seconds since 1970 (SOURCE_DATE_EPOCH), ${date} that as a\n# day, ${arch}, ${version} the kernel's; $$ is a dollar.",
    ),
];

/// A configuration with every key, each commented out.
pub fn template() -> String {
    let mut out = String::from(
        "# taproot image: what goes in, how it is laid out, what comes out. Every key is here with its default, or an example.\n\
         # Words of the command line come before TAPROOT_IMAGE_SECTION_KEY of the environment, those before files, of which the last counts.\n\
         # Paths of a file are meant from its own directory, those of outputs from where the program is started.\n",
    );
    for (section, about) in SECTIONS {
        let _ = write!(out, "\n# {about}\n[{section}]\n");
        for key in KEYS {
            if let Some(name) = key.path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')) {
                line(&mut out, name, key);
            }
        }
    }
    for (table, keys, about) in [
        (
            "dataset",
            DATASET,
            "Data sets, each in a table of its own. Without any: ROOT/default for / and home for /home.",
        ),
        ("user", USER, "Accounts of people."),
        (
            "state",
            STATE,
            "States of the tree that one pool keeps as snapshots, oldest first; the last one is what is booted.",
        ),
    ] {
        let _ = write!(out, "\n# {about}\n#[[{table}]]\n");
        for key in keys {
            line(&mut out, key.path, key);
        }
    }
    let _ = write!(
        out,
        "\n# Programs of yours, by stage: {}; each before, replace or after it. A program, a directory of programs, several in a list, or\n\
         # {{ inline = \"...\", interpreter = \"/bin/sh\" }}.\n[hooks]\n#\"install.after\" = \"./customise.sh\"\n",
        super::hooks::STAGES.join(", ")
    );
    out
}

fn line(out: &mut String, name: &str, key: &Key) {
    let value = if key.default.is_empty() || key.default == "[]" && !key.example.is_empty() {
        key.example
    } else {
        key.default
    };
    let _ = write!(out, "# {}\n#{name} = {value}\n", key.help);
}

/// The key of a path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// What somebody may have meant who wrote an unknown name.
pub fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let plain = |text: &str| text.to_ascii_lowercase().replace('_', "-");
    let best = known.map(|other| (distance(&plain(name), &plain(other)), other)).min();
    match best {
        Some((far, other)) if far <= 1 + name.len() / 4 => format!("; did you mean {other}?"),
        _ => "; taproot image --template prints all".to_owned(),
    }
}

/// How many letters have to be put in, taken out or replaced (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (at, x) in a.chars().enumerate() {
        let mut next = vec![at + 1];
        for ((y, diagonal), above) in b.chars().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(x != y)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        let known = || KEYS.iter().map(|key| key.path);
        assert_eq!(suggestion("pool.compresion", known()), "; did you mean pool.compression?");
        assert_eq!(suggestion("system.root_password", known()), "; did you mean system.root-password?");
        assert!(suggestion("zzz.qqqqqqqq", known()).contains("--template"));
        assert_eq!((distance("", "abc"), distance("kitten", "sitting"), distance("a", "a")), (3, 3, 0));
    }
}
