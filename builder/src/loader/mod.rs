//! What the boot loader would boot next, as far as its files and the firmware's variables tell. All of them are foreign bytes, and
//! what they do not tell is said to be unknown: a boot loader can do more than is read here.

mod entries;
mod firmware;
mod grub;

use crate::initramfs::tree::{BINARY, Tree};
use crate::uki;
pub(crate) use entries::version;
use firmware::{Firmware, Start};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where an EFI system partition, or the partition with kernels beside it, is mounted.
const PARTITIONS: [&str; 3] = ["/efi", "/boot/efi", "/boot"];
/// No text of a boot loader is longer.
const TEXT: u64 = 4 << 20;
/// What the running system was booted with.
const CMDLINE: &str = "/proc/cmdline";

/// What comes next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextBoot {
    /// The boot loader, where it is known.
    pub loader: Option<String>,
    /// What it would boot; `None`: see `unknown`.
    pub entry: Option<Entry>,
    /// Why this, in order.
    pub because: Vec<String>,
    /// Why it is not known.
    pub unknown: Option<String>,
    /// The command line of the present boot.
    pub present: String,
}

/// An entry of a boot loader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// For people.
    pub title: String,
    /// Its name for the boot loader.
    pub id: String,
    /// The file that it stands in.
    pub source: PathBuf,
    /// The kernel.
    pub kernel: Named,
    /// The kernel's release, as far as it is known.
    pub release: Option<String>,
    /// The initramfs images, in order; the kernel unpacks one after the other.
    pub images: Vec<Named>,
    /// The kernel command line.
    pub words: String,
    /// Variables of the boot loader in it whose values are not known.
    pub left_out: Vec<String>,
}

/// A file that a boot loader names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// As it is named.
    pub name: String,
    /// Where it is in the tree; `None`: nowhere.
    pub found: Option<PathBuf>,
}

/// The boot loaders that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grub,
    SystemdBoot,
}

/// Reads what a tree and this machine's firmware, as the tree shows it, say.
pub fn next(tree: &Tree) -> NextBoot {
    let firmware = Firmware::read(tree);
    let present = tree.read(CMDLINE, TEXT).unwrap_or_default();
    let mut next = NextBoot { present: String::from_utf8_lossy(&present).trim().to_owned(), ..NextBoot::default() };
    next.because.extend(firmware.start.as_ref().map(|start| start.why.clone()));
    if let Some(file) = firmware.start.as_ref().and_then(unified) {
        next.loader = Some("the firmware itself".to_owned());
        match PARTITIONS.iter().find_map(|at| tree.file(Path::new(at).join(&file))) {
            Some(path) => next.entry = entries::unified(tree, &path),
            None => {
                next.unknown = Some(format!("the firmware starts {file}, which is on no partition that is mounted"));
            }
        }
        if next.entry.is_none() && next.unknown.is_none() {
            next.unknown = Some(format!("{file} cannot be read as a unified kernel image"));
        }
        return next;
    }
    let answer = match kind(tree, &firmware) {
        Ok(Kind::Grub) => {
            next.loader = Some("GRUB".to_owned());
            grub::next(tree)
        }
        Ok(Kind::SystemdBoot) => {
            next.loader = Some("systemd-boot".to_owned());
            entries::next(tree, &firmware)
        }
        Err(why) => Err(why),
    };
    match answer {
        Ok((entry, because)) => {
            next.because.extend(because);
            next.entry = Some(entry);
        }
        Err(why) => next.unknown = Some(why),
    }
    next
}

/// The program that the firmware starts, if that is no boot loader: a path on its partition.
fn unified(start: &Start) -> Option<String> {
    let file = start.file.as_ref()?;
    let lower = file.to_ascii_lowercase();
    (lower.starts_with("efi/linux/") && lower.strip_suffix(".efi").is_some()).then(|| file.clone())
}

/// Which boot loader: the one that the firmware starts, else the one that started the present boot, else the one whose files are
/// there.
fn kind(tree: &Tree, firmware: &Firmware) -> Result<Kind, String> {
    let file = firmware.start.as_ref().and_then(|start| start.file.as_deref());
    let named = |text: &str| {
        let lower = text.to_ascii_lowercase();
        let has = |part: &str| lower.contains(part);
        match () {
            () if has("systemd-boot") => Some(Kind::SystemdBoot),
            () if has("grub") || has("shim") => Some(Kind::Grub),
            () => None,
        }
    };
    if let Some(kind) = file.and_then(named).or_else(|| firmware.loader.as_deref().and_then(named)) {
        return Ok(kind);
    }
    let (grub, systemd) = (grub::config(tree), entries::is_set_up(tree));
    match (&grub, systemd, &firmware.loader) {
        (_, _, Some(loader)) => Err(format!("the boot loader says that it is {loader:?}, which is not read here")),
        (Some(_), false, None) => Ok(Kind::Grub),
        (None, true, None) => Ok(Kind::SystemdBoot),
        (Some(_), true, None) => {
            Err("there are files of GRUB and of systemd-boot, and nothing says which is used".to_owned())
        }
        (None, false, None) => {
            let none = "no boot loader that is read here (GRUB, systemd-boot) has its files in /boot or /efi";
            Err(unreadable(tree).unwrap_or_else(|| none.to_owned()))
        }
    }
}

/// Why the files of a boot loader that are there cannot be read: most are root's alone.
fn unreadable(tree: &Tree) -> Option<String> {
    let systemd = PARTITIONS.iter().map(|at| Path::new(at).join(entries::CONFIG));
    grub::configs().chain(systemd).find_map(|path| tree.read_if_there(path, TEXT).err()).map(|error| error.to_string())
}

/// The release of a kernel: its own word, else the end of its name.
fn release(tree: &Tree, kernel: &Path) -> Option<String> {
    let own = tree.read(kernel, BINARY).ok().and_then(|bytes| uki::release(&bytes));
    own.or_else(|| release_of_name(&kernel.to_string_lossy()))
}

/// From `vmlinuz-6.12.9-amd64`.
fn release_of_name(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    let rest =
        ["vmlinuz-", "linux-", "kernel-", "vmlinux-", "bzImage-"].iter().find_map(|begin| name.strip_prefix(begin))?;
    rest.starts_with(|c: char| c.is_ascii_digit()).then(|| rest.trim_end_matches(".efi").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_by_name() {
        assert_eq!(release_of_name("/boot/vmlinuz-6.1.0-38-amd64").as_deref(), Some("6.1.0-38-amd64"));
        assert_eq!(release_of_name("/vmlinuz-linux"), None);
        assert_eq!(release_of_name(""), None);
    }
}
