//! Whether what is written to `/boot` of a running system is what its boot loader reads. Where the root is made of layers, `/boot` lies in
//! the upper unless something else is mounted there, and no boot loader reads an overlay.

use super::tree::{TEXT, Tree, TreeError};
use super::{host, layered, root};
use std::path::{Path, PathBuf};
use taproot_init::plan::fstab::FstabEntry;
use taproot_init::plan::layers::{BASE, DEVICE, UPPER, UPPERS};

/// What the running kernel was booted with.
const CMDLINE: &str = "/proc/cmdline";

/// What was found of a path that no boot loader reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The directory, for people.
    directory: PathBuf,
    /// The directory that the boot loader read the running kernel from, if it is mounted, and whether it can be written to.
    read: Option<(PathBuf, bool)>,
    /// That fstab names a file system for it, which is not mounted.
    not_mounted: Option<String>,
    /// The running kernel, and whether its modules are there.
    running: (String, bool),
}

/// Looks whether a file of the running system, there or not, is in an overlay.
pub fn unread(tree: &Tree, file: &Path) -> Result<Option<Unread>, TreeError> {
    let mounts = root::mounts();
    if layered::report(tree, &mounts).is_none() || !in_overlay(&mounts, &tree.place(file)?) {
        return Ok(None);
    }
    let words = tree.read(CMDLINE, TEXT)?;
    let running = host::kernel().unwrap_or_default();
    let modules = tree.file(tree.modules(&running).join("modules.dep")).is_some();
    Ok(Some(Unread {
        directory: file.parent().unwrap_or(file).to_owned(),
        read: place_of_loader(&mounts, &String::from_utf8_lossy(&words), |path| tree.is_there(path)),
        not_mounted: root::not_mounted(tree, file)?,
        running: (running, modules),
    }))
}

/// Whether a path lies in an overlay, by what is mounted.
fn in_overlay(mounts: &[FstabEntry], path: &Path) -> bool {
    // Of two mounts at one place the last one is seen.
    let over = mounts.iter().filter(|entry| path.starts_with(&entry.target));
    over.max_by_key(|entry| Path::new(&entry.target).components().count())
        .is_some_and(|entry| entry.fstype == "overlay")
}

/// The directory that GRUB read the kernel from (`BOOT_IMAGE=`), where it is on what a layered root lies on, and whether it can be
/// written to.
fn place_of_loader(mounts: &[FstabEntry], words: &str, there: impl Fn(&Path) -> bool) -> Option<(PathBuf, bool)> {
    let kernel = words.split_whitespace().find_map(|word| word.strip_prefix("BOOT_IMAGE="))?;
    // (hd0,gpt2)/boot/vmlinuz: its own name of the partition says nothing here.
    let kernel = kernel.rsplit_once(')').map_or(kernel, |(_, path)| path).trim_start_matches('/');
    [BASE, DEVICE, UPPERS, UPPER].into_iter().find_map(|place| {
        let entry = mounts.iter().rfind(|entry| entry.target == place)?;
        let file = Path::new(place).join(kernel);
        let directory = file.parent().filter(|directory| *directory != Path::new(place))?;
        there(&file).then(|| (directory.to_owned(), entry.has("rw")))
    })
}

impl Unread {
    /// What is so, what boots next, and what to do about it; `again`: the command that is tried then.
    pub fn say(&self, again: &str) -> String {
        let directory = self.directory.display();
        let (running, there) = &self.running;
        let modules = if *there {
            "whose modules stay".to_owned()
        } else {
            format!("WHOSE MODULES ARE GONE: install kernel {running} again before the next boot")
        };
        let advice = match (&self.not_mounted, &self.read) {
            (Some(why), _) => format!("{why}: {again}"),
            (None, Some((read, writable))) => {
                let read = read.display();
                let first = if *writable { "" } else { "it is mounted read-only (mount -o remount,rw); " };
                format!(
                    "it reads {read}: {first}cp -a {directory}/. {read}/, write the line `{read} {directory} none bind 0 0` into /etc/fstab, \
                     mount {directory}, then: {again}"
                )
            }
            (None, None) => format!("mount what it reads at {directory}, then: {again}"),
        };
        format!(
            "{directory} lies in the upper of this layered root, which no boot loader reads: it goes on with what it has, now kernel {running}, \
             {modules}. {advice}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taproot_init::plan::fstab;

    const MOUNTS: &str = "overlay / overlay rw 0 0\n/dev/vda1 /run/taproot/base ext4 rw,noatime 0 0\n\
        /dev/vdb /run/taproot/layer-device ext4 ro 0 0\n";

    #[test]
    fn what_is_mounted_at_boot_decides() {
        let in_overlay = |more: &str, path: &str| {
            let mounts = fstab::parse(format!("{MOUNTS}{more}").as_bytes());
            super::in_overlay(&mounts, Path::new(path))
        };
        assert!(in_overlay("", "/boot/initrd.img-6.1"));
        assert!(!in_overlay("", "/run/taproot/base/boot/initrd.img-6.1"), "an output that is configured");
        for line in ["/dev/vda1 /boot ext4 rw\n", "/dev/sda1 /boot vfat rw\n", "systemd-1 /boot autofs rw\n"] {
            assert!(!in_overlay(line, "/boot/initrd.img-6.1"), "{line}");
        }
        assert!(in_overlay("/dev/sda1 /boot/efi vfat rw\n", "/boot/initrd.img-6.1"));
        assert!(
            in_overlay("/dev/sda1 /boot ext4 rw\noverlay /boot overlay rw\n", "/boot/initrd.img-6.1"),
            "a union over it"
        );
    }

    #[test]
    fn where_the_boot_loader_reads() {
        let mounts = fstab::parse(MOUNTS.as_bytes());
        let place = |words: &str, has: &str| place_of_loader(&mounts, words, |path| path == Path::new(has));
        let base = "/run/taproot/base/boot/vmlinuz-6.1";
        let found = Some((PathBuf::from("/run/taproot/base/boot"), true));
        assert_eq!(place("BOOT_IMAGE=/boot/vmlinuz-6.1 quiet", base), found);
        assert_eq!(place("BOOT_IMAGE=(hd0,gpt2)/boot/vmlinuz-6.1", base), found);
        let device = place("BOOT_IMAGE=/live/vmlinuz", "/run/taproot/layer-device/live/vmlinuz");
        assert_eq!(device, Some((PathBuf::from("/run/taproot/layer-device/live"), false)));
        assert_eq!(place("BOOT_IMAGE=/vmlinuz", "/run/taproot/base/vmlinuz"), None, "not the whole base");
        assert_eq!([place("quiet", base), place("BOOT_IMAGE=/boot/other", base)], [const { None }; 2]);
    }

    #[test]
    fn what_to_do_is_said() {
        let unread = |read, not_mounted, there| Unread {
            directory: "/boot".into(),
            read,
            not_mounted,
            running: ("6.1".into(), there),
        };
        let read = Some((PathBuf::from("/run/taproot/base/boot"), true));
        let text = unread(read.clone(), None, true).say("taproot hooks add 6.2");
        for part in [
            "now kernel 6.1, whose modules stay",
            "`/run/taproot/base/boot /boot none bind 0 0`",
            "then: taproot hooks add 6.2",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(unread(None, None, false).say("x").contains("install kernel 6.1 again before the next boot"));
        let text = unread(read, Some("/boot is not mounted".into()), true).say("x");
        assert!(text.contains("/boot is not mounted: x") && !text.contains("bind"), "{text}");
    }
}
