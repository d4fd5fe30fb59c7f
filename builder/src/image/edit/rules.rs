//! What is left out of a tree, by its path, and what is told of because it stays.

use super::{Edits, Identity};
use crate::layer::exclude::fits;

/// How far a rule goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// With everything below.
    Whole,
    /// What is no directory, at any depth: programs look for the directories.
    Files,
    /// Unless it is a symbolic link.
    NoLink,
}

use How::{Files, NoLink, Whole};

/// What one machine has for itself, with its traces of use. `*` stands for any part of a name.
const IDENTITY: &[(&str, How, &str)] = &[
    ("var/lib/dbus/machine-id", NoLink, "machine id"),
    ("etc/hostid", Whole, "host id"),
    ("etc/ssh/ssh_host_*", Whole, "ssh host key"),
    ("var/lib/systemd/random-seed", Whole, "random seed"),
    ("var/lib/systemd/credential.secret", Whole, "key of credentials"),
    ("var/lib/urandom/random-seed", Whole, "random seed"),
    ("var/lib/misc/random-seed", Whole, "random seed"),
    ("boot/loader/random-seed", Whole, "random seed"),
    ("boot/efi/loader/random-seed", Whole, "random seed"),
    ("efi/loader/random-seed", Whole, "random seed"),
    ("var/lib/dhcp", Files, "address lease"),
    ("var/lib/dhclient", Files, "address lease"),
    ("var/lib/dhcpcd", Files, "address lease"),
    ("etc/dhcpcd.duid", Whole, "machine's number towards DHCP"),
    ("var/lib/dhcpcd/duid", Whole, "machine's number towards DHCP"),
    ("var/lib/NetworkManager", Files, "state of the network"),
    ("var/lib/systemd/network", Files, "state of the network"),
    ("var/lib/bluetooth", Files, "paired devices"),
    ("etc/udev/rules.d/70-persistent-*", Whole, "names of the machine's devices"),
    ("etc/zfs/zpool.cache", Whole, "pools of the machine"),
    ("etc/zfs/zfs-list.cache", Files, "pools of the machine"),
    ("etc/lvm/backup", Files, "volumes of the machine"),
    ("etc/lvm/archive", Files, "volumes of the machine"),
    ("etc/lvm/devices", Files, "volumes of the machine"),
    ("var/lib/cloud", Files, "state of cloud-init"),
    ("etc/passwd-", Whole, "former accounts"),
    ("etc/shadow-", Whole, "former accounts"),
    ("etc/group-", Whole, "former accounts"),
    ("etc/gshadow-", Whole, "former accounts"),
    ("etc/subuid-", Whole, "former accounts"),
    ("etc/subgid-", Whole, "former accounts"),
    ("var/log", Files, "log"),
    ("var/lib/systemd/timers", Files, "trace of use"),
    ("var/lib/systemd/coredump", Files, "trace of use"),
    ("var/lib/systemd/rfkill", Files, "trace of use"),
    ("var/lib/systemd/backlight", Files, "trace of use"),
    ("var/crash", Files, "trace of use"),
    ("var/mail", Files, "mail"),
    ("var/spool/mail", Files, "mail"),
    ("root/.cache", Whole, "cache"),
    ("home/*/.cache", Whole, "cache"),
    ("root/.*_history", Whole, "history of a shell"),
    ("home/*/.*_history", Whole, "history of a shell"),
    ("root/.viminfo", Whole, "trace of use"),
    ("root/.lesshst", Whole, "trace of use"),
    ("var/lib/apt/lists", Files, "package lists"),
    ("var/cache/apt", Files, "package cache"),
    ("var/cache/pacman/pkg", Files, "package cache"),
    ("proc/*", Whole, "state of a boot"),
    ("sys/*", Whole, "state of a boot"),
    ("run/*", Whole, "state of a boot"),
    ("tmp/*", Whole, "temporary"),
    ("var/tmp/*", Whole, "temporary"),
];

/// What was there to make the tree, and what names the disks of the machine that made it.
const SCAFFOLDING: &[(&str, How, &str)] = &[
    ("usr/sbin/policy-rc.d", Whole, "keeps services from starting"),
    ("etc/resolv.conf", NoLink, "name servers of the machine that made the tree"),
    ("etc/initramfs-tools/conf.d/resume", Whole, "a disk of the machine that made the tree"),
    ("boot/grub/grub.cfg", Whole, "names disks of the machine that made the tree"),
    ("boot/grub2/grub.cfg", Whole, "names disks of the machine that made the tree"),
    ("boot/grub/grubenv", Whole, "state of a boot loader"),
    ("boot/grub2/grubenv", Whole, "state of a boot loader"),
    ("boot/loader/entries/*", Whole, "names disks of the machine that made the tree"),
    ("boot/efi/*", Whole, "EFI system partition of the machine that made the tree"),
    ("efi/*", Whole, "EFI system partition of the machine that made the tree"),
    ("lost+found", Whole, "belongs to a file system"),
    // Identities of other disks: the image's own would be taken for somebody else's.
    ("var/lib/taproot/first-boot.json", Whole, "state of another copy's first boot"),
    ("etc/udev/rules.d/99-taproot-first-boot.rules", Whole, "state of another copy's first boot"),
];

/// Secrets that may be meant to be in every machine of an image, or not.
const SECRETS: &[(&str, &str)] = &[
    ("etc/ssl/private/*", "private key"),
    ("etc/letsencrypt", "private keys"),
    ("etc/wireguard/*", "private key"),
    ("etc/wpa_supplicant/*.conf", "network password"),
    ("etc/NetworkManager/system-connections/*", "network, maybe with its password"),
    ("var/lib/iwd/*", "network password"),
    ("etc/pacman.d/gnupg/private-keys-v1.d/*", "key that pacman trusts packages by"),
    ("root/.ssh/id_*", "private ssh key"),
    ("home/*/.ssh/id_*", "private ssh key"),
    ("root/.gnupg/private-keys-v1.d/*", "private key"),
    ("home/*/.gnupg/private-keys-v1.d/*", "private key"),
    ("etc/krb5.keytab", "Kerberos key"),
];

/// A pattern's parts.
type Pattern = Vec<Vec<u8>>;

fn parts(text: &str) -> Pattern {
    text.split('/').filter(|part| !part.is_empty()).map(|part| part.as_bytes().to_vec()).collect()
}

/// How many bytes of the path the pattern covers, if it fits the path or a directory above it.
fn covers(pattern: &Pattern, path: &[u8]) -> Option<usize> {
    let mut names = path.split(|byte| *byte == b'/');
    let mut length = 0;
    for wanted in pattern {
        let name = names.next()?;
        if !fits(wanted, name) {
            return None;
        }
        length += name.len() + 1;
    }
    length.checked_sub(1)
}

/// The rules of one image.
#[derive(Debug)]
pub(super) struct Rules {
    out: Vec<(Pattern, How, String)>,
    keep: Vec<Pattern>,
    secrets: Vec<(Pattern, &'static str)>,
}

impl Rules {
    pub(super) fn of(edits: &Edits) -> Self {
        let own = edits.remove.iter().map(|path| (parts(path), Whole, "as asked for".to_owned()));
        let identity = if edits.identity == Identity::Strip { IDENTITY } else { &[] };
        let tables = identity.iter().chain(SCAFFOLDING);
        let tables = tables.map(|(path, how, why)| (parts(path), *how, (*why).to_owned()));
        Self {
            // An empty pattern would take all.
            out: own.chain(tables).filter(|(pattern, ..)| !pattern.is_empty()).collect(),
            keep: edits.keep.iter().map(|path| parts(path)).collect(),
            secrets: SECRETS.iter().map(|(path, why)| (parts(path), *why)).collect(),
        }
    }

    /// Whether an entry is left out: by which place, and why.
    pub(super) fn leaves_out<'p>(&self, path: &'p [u8], directory: bool, link: bool) -> Option<(&'p [u8], &str)> {
        let (pattern, how, why) = self.out.iter().find(|(pattern, ..)| covers(pattern, path).is_some())?;
        let stays = match how {
            Whole => false,
            Files => directory,
            NoLink => link,
        };
        if stays || self.keep.iter().any(|pattern| covers(pattern, path).is_some()) {
            return None;
        }
        Some((path.get(..covers(pattern, path)?)?, why))
    }

    /// What a secret is, if it is one.
    pub(super) fn secret(&self, path: &[u8]) -> Option<&'static str> {
        self.secrets.iter().find(|(pattern, _)| covers(pattern, path).is_some()).map(|(_, why)| *why)
    }
}

/// Patterns for whole paths.
#[derive(Debug)]
pub(super) struct Places(Vec<Pattern>);

impl Places {
    pub(super) fn of(patterns: &[&str]) -> Self {
        Self(patterns.iter().map(|pattern| parts(pattern)).collect())
    }

    /// Whether a path fits one of them as a whole.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        self.0.iter().any(|pattern| covers(pattern, path) == Some(path.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_and_what_is_not() {
        let rules = Rules::of(&Edits {
            remove: vec!["/srv/*.iso".into()],
            keep: vec!["etc/ssh/ssh_host_rsa_key".into()],
            ..Edits::default()
        });
        let out = |path: &str| {
            rules
                .leaves_out(path.as_bytes(), false, false)
                .map(|(place, _)| String::from_utf8_lossy(place).into_owned())
        };
        for (path, place) in [
            ("etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key"),
            ("var/log/apt/term.log", "var/log"),
            ("home/a/.bash_history", "home/a/.bash_history"),
            ("home/a/.cache/x/y", "home/a/.cache"),
            ("srv/a.iso", "srv/a.iso"),
            ("tmp/a/b", "tmp/a"),
            ("usr/sbin/policy-rc.d", "usr/sbin/policy-rc.d"),
            ("var/lib/taproot/first-boot.json", "var/lib/taproot/first-boot.json"),
        ] {
            assert_eq!(out(path).as_deref(), Some(place), "{path}");
        }
        for path in [
            "",
            "etc",
            "tmp",
            "etc/ssh/ssh_config",
            "etc/ssh/ssh_host_rsa_key",
            "srv/a.iso.txt",
            "usr/var/log/x",
            "etc/passwd",
        ] {
            assert_eq!(out(path), None, "{path}");
        }
        assert!(rules.leaves_out(b"var/log/apt", true, false).is_none(), "directories of logs stay");
        assert!(rules.leaves_out(b"etc/resolv.conf", false, true).is_none(), "a link to a service's file stays");
        let all = Rules::of(&Edits { identity: Identity::Keep, ..Edits::default() });
        assert!(all.leaves_out(b"etc/hostid", false, false).is_none());
        assert!(all.leaves_out(b"boot/grub/grub.cfg", false, false).is_some());
        assert_eq!(all.secret(b"home/u/.ssh/id_rsa"), Some("private ssh key"));
        assert_eq!(all.secret(b"etc/ssl/private"), None);
    }
}
