//! The files that an installed kernel boots with, by the names that boot loaders look for. The one place that knows them:
//!
//! | tree | kernel | image | image before it |
//! |---|---|---|---|
//! | Debian and what comes of it (has dpkg) | `/boot/vmlinuz-V` | `/boot/initrd.img-V` | `/boot/initrd.img-V.old` |
//! | Arch and what comes of it (`modules/V/pkgbase`) | `/boot/vmlinuz-NAME` | `/boot/initramfs-NAME.img` | `/boot/initramfs-NAME.old.img` |
//! | others | `/boot/vmlinuz-V` | `/boot/initramfs-V.img` | `/boot/initramfs-V.old.img` |
//!
//! GRUB's `10_linux` finds all images of the third column; Debian's plugin of kernel-install gives the first to systemd-boot. An
//! `output` in the configuration takes the place of the third column. On Arch the package leaves the kernel beside its modules and
//! the hook puts it into `/boot`, where the next release takes its name; so the kernel before it is kept too, as
//! `/boot/vmlinuz-NAME.old`, which `10_linux` lists with the image before it.

use crate::initramfs::tree::{TEXT, Tree, TreeError};
use crate::settings::{self, Standing};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};

/// While this file is there the hooks pack images (`taproot hooks enable`).
pub const ENABLED: &str = "/etc/taproot/hooks.enabled";

/// What one kernel boots with; paths of the tree, whether something is there or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// Release, as `uname -r` prints it.
    pub version: String,
    /// The kernel as the boot loader finds it.
    pub kernel: PathBuf,
    /// The image that the hooks make.
    pub image: PathBuf,
    /// The image before it, which stays until the newer one has booted once.
    pub fallback: PathBuf,
    /// Where the hook gets the kernel from, and where it keeps the one before; `None` where the package puts it into place.
    pub copied: Option<CopiedKernel>,
}

/// A kernel that the hook puts into `/boot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedKernel {
    /// As the package leaves it.
    pub from: PathBuf,
    /// The kernel that the image before belongs to.
    pub fallback: PathBuf,
}

impl BootFiles {
    /// Of a release, whether it is installed or not.
    pub fn of(tree: &Tree, version: &str) -> Result<Self> {
        settings::check_release(version)?;
        let label = pkgbase(tree, version)?;
        let boot = |name: String| Path::new("/boot").join(name);
        let standing = Standing::of(tree)?;
        let image = match (&standing.output, &label) {
            (Some(output), _) => {
                ensure!(
                    output.to_string_lossy().contains("%v"),
                    "{}: output = \"{}\" names one file for every kernel; put %v, the kernel's release, into it",
                    tree.shown(settings::DEFAULT_CONFIG).display(),
                    output.display()
                );
                standing.image(version)
            }
            (None, Some(label)) => boot(format!("initramfs-{label}.img")),
            (None, None) if has_dpkg(tree) => boot(format!("initrd.img-{version}")),
            (None, None) => boot(format!("initramfs-{version}.img")),
        };
        let kernel = boot(format!("vmlinuz-{}", label.as_deref().unwrap_or(version)));
        let others = ["vmlinux", "kernel"].map(|name| boot(format!("{name}-{version}")));
        let there = |path: &&PathBuf| tree.file(path).is_some();
        Ok(Self {
            version: version.to_owned(),
            fallback: before(&image),
            image,
            copied: label
                .is_some()
                .then(|| CopiedKernel { from: tree.modules(version).join("vmlinuz"), fallback: before(&kernel) }),
            kernel: std::iter::once(&kernel).chain(&others).find(there).unwrap_or(&kernel).clone(),
        })
    }

    /// Of each kernel that is installed: with modules, and a kernel where the boot loader or the hook finds it. Sorted by release,
    /// the newest last.
    pub fn installed(tree: &Tree) -> Result<Vec<Self>> {
        let mut versions = tree.kernels()?;
        versions.sort_by(|a, b| numbers(a).cmp(&numbers(b)).then_with(|| a.cmp(b)));
        let mut found = Vec::new();
        for version in versions {
            let files = Self::of(tree, &version)?;
            let kernel = files.copied.as_ref().map_or(&files.kernel, |copied| &copied.from);
            if tree.file(kernel).is_some() {
                found.push(files);
            }
        }
        Ok(found)
    }
}

/// Whether the hooks pack images in this tree.
pub fn enabled(tree: &Tree) -> bool {
    tree.file(ENABLED).is_some()
}

/// Whether packages of this tree are Debian's.
pub fn has_dpkg(tree: &Tree) -> bool {
    tree.file("/var/lib/dpkg/status").is_some()
}

/// The name of what was there before: `.old` at the end, or before `.img`.
fn before(path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    PathBuf::from(match text.strip_suffix(".img") {
        Some(stem) => format!("{stem}.old.img"),
        None => format!("{text}.old"),
    })
}

/// Whether an image is the one before, which the hooks keep until the newer one has booted.
pub fn is_fallback(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.strip_suffix(".img").unwrap_or(&name).strip_suffix(".old").is_some()
}

/// The name of the package that a kernel belongs to, where its files in `/boot` are named by it.
fn pkgbase(tree: &Tree, version: &str) -> Result<Option<String>, TreeError> {
    let text = tree.read_if_there(tree.modules(version).join("pkgbase"), TEXT)?;
    let name = text.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    Ok(name.filter(|name| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\n', '\0'])))
}

/// The numbers of a release, in order: a newer release has greater ones.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let tree = Tree::open(dir.path()).unwrap();
        (dir, tree)
    }

    fn names(files: &BootFiles) -> [&str; 3] {
        [&files.kernel, &files.image, &files.fallback].map(|path| path.to_str().unwrap())
    }

    #[test]
    fn names_that_boot_loaders_look_for() {
        let (_dir, debian) = tree(&[("var/lib/dpkg/status", "")]);
        let files = BootFiles::of(&debian, "6.1.0-32-amd64").unwrap();
        let expected =
            ["/boot/vmlinuz-6.1.0-32-amd64", "/boot/initrd.img-6.1.0-32-amd64", "/boot/initrd.img-6.1.0-32-amd64.old"];
        assert_eq!((names(&files), &files.copied), (expected, &None));
        let (_dir, arch) = tree(&[
            ("usr/lib/modules/6.12.9-arch1-1/pkgbase", "linux\n"),
            ("usr/lib/modules/6.12.9-arch1-1/modules.dep", ""),
        ]);
        let files = BootFiles::of(&arch, "6.12.9-arch1-1").unwrap();
        assert_eq!(
            names(&files),
            ["/boot/vmlinuz-linux", "/boot/initramfs-linux.img", "/boot/initramfs-linux.old.img"]
        );
        let copied = files.copied.unwrap();
        assert_eq!(copied.from, Path::new("/usr/lib/modules/6.12.9-arch1-1/vmlinuz"));
        assert_eq!(copied.fallback, Path::new("/boot/vmlinuz-linux.old"));
        let (_dir, other) = tree(&[("boot/kernel-6.1", "")]);
        let files = BootFiles::of(&other, "6.1").unwrap();
        assert_eq!(names(&files), ["/boot/kernel-6.1", "/boot/initramfs-6.1.img", "/boot/initramfs-6.1.old.img"]);
        assert!(BootFiles::of(&other, "../6.1").is_err() && BootFiles::of(&other, "").is_err());
    }

    #[test]
    fn a_configured_name_goes_first_and_must_tell_kernels_apart() {
        let (dir, tree) = tree(&[("etc/taproot/initramfs.toml", "output = \"/efi/%v.img\"")]);
        let files = BootFiles::of(&tree, "6.1").unwrap();
        assert_eq!(names(&files), ["/boot/vmlinuz-6.1", "/efi/6.1.img", "/efi/6.1.old.img"]);
        fs::write(dir.path().join("etc/taproot/initramfs.toml"), "output = \"/efi/image\"").unwrap();
        assert!(BootFiles::of(&tree, "6.1").unwrap_err().to_string().contains("%v"));
    }

    #[test]
    fn installed_kernels_have_modules_and_a_kernel_and_the_newest_is_last() {
        let mut files =
            vec![("lib/modules/7.0/kernel/x.ko", ""), ("boot/vmlinuz-7.0", ""), ("lib/modules/7.1/modules.dep", "")];
        files.extend([("lib/modules/6.9/modules.dep", ""), ("boot/vmlinuz-6.9", "")]);
        files.extend([("lib/modules/6.12/modules.dep", ""), ("boot/vmlinuz-6.12", "")]);
        let (_dir, tree) = tree(&files);
        let found: Vec<String> = BootFiles::installed(&tree).unwrap().into_iter().map(|files| files.version).collect();
        assert_eq!(found, ["6.9", "6.12"]);
    }
}
