//! An image that cannot boot is refused when it is packed, with every reason at once.

use super::compress::Compression;
use super::elf;
use super::index::Index;
use super::modules::{Chosen, Packed};
use super::root::Known;
use std::collections::BTreeMap;
use std::fmt;
use taproot_init::devices::filesystems;

/// Everything that is wrong with an image.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this image could not boot, so it is not written:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for Problems {}

/// Checks modules: zfs and the root's file system there, everything built for this kernel, the drivers of the root's disks
/// packed.
pub fn modules(
    version: &str,
    index: &Index,
    chosen: &BTreeMap<String, Chosen>,
    packed: &BTreeMap<String, Packed>,
    root: &Known,
    problems: &mut Problems,
) {
    let there = |name: &str| chosen.contains_key(name) || index.builtin.contains(name);
    if root.needs_zfs() && !there("zfs") {
        problems.0.push(format!(
            "no zfs module for kernel {version}: expected zfs.ko below {} (install zfs-dkms or the distribution's zfs modules for this kernel)",
            index.dir.display()
        ));
    }
    for (name, module) in packed {
        match module.info.kernel() {
            Some(kernel) if kernel == version => {}
            found => problems.0.push(format!(
                "module {name} was built for kernel {}, expected {version}; rebuild it (for DKMS: dkms autoinstall -k {version})",
                found.unwrap_or("unknown")
            )),
        }
    }
    for mounted in &root.types {
        let module = filesystems::modules(&mounted.fstype).pop().unwrap_or_default();
        // A file system can be part of a module with another name, which says so by an alias.
        let fs = index.resolve(&format!("fs-{}", mounted.fstype));
        if !there(module) && !fs.iter().any(|module| there(module)) {
            problems.0.push(format!(
                "{} is {}, and kernel {version} has no module {module} for it; choose a kernel that has it",
                mounted.what, mounted.fstype
            ));
        }
    }
    for disk in &root.disks {
        for module in disk.modules.iter().filter(|module| !there(module)) {
            problems.0.push(format!(
                "disk {} of the root needs driver {module}, which kernel {version} does not have; choose a kernel that has it",
                disk.disk
            ));
        }
    }
}

/// Checks the program that becomes `/init`: an executable for this kind of machine that needs no libraries.
pub fn init(path: &str, program: &[u8], problems: &mut Problems) {
    let advice = "expected the static taproot-init (make build leaves it at out/taproot-init)";
    match elf::needs(program) {
        Err(e) => problems.0.push(format!("{path} is not an executable ({e}); {advice}")),
        Ok(needs) if needs.interpreter.is_some() || !needs.libraries.is_empty() => {
            problems
                .0
                .push(format!("{path} is dynamically linked and would not start without its libraries; {advice}"));
        }
        Ok(needs) if needs.machine != goblin::elf::header::EM_X86_64 => {
            problems.0.push(format!("{path} is built for another kind of processor; {advice}"));
        }
        Ok(_) => {}
    }
}

/// Checks that the kernel can unpack the image, as far as its build configuration is there to tell.
pub fn compression(config: Option<&str>, compression: Compression, problems: &mut Problems) {
    let (Some(config), Some(option)) = (config, compression.kernel_option()) else { return };
    if !config.lines().any(|line| line == format!("{option}=y")) {
        problems.0.push(format!("this kernel is built without {option}; choose another --compress, or none"));
    }
}

/// Checks `/etc/hostid` of the tree: 4 bytes, or absent.
pub fn hostid(found: Option<&[u8]>, problems: &mut Problems) {
    if let Some(bytes) = found
        && bytes.len() != 4
    {
        problems.0.push(format!("etc/hostid has {} bytes, expected 4; make it anew with zgenhostid", bytes.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initramfs::host::Chain;
    use crate::initramfs::modinfo::ModInfo;
    use crate::initramfs::root::Mounted;

    #[test]
    fn every_problem_is_named() {
        let index = Index { builtin: ["ahci".to_owned()].into(), ..Index::default() };
        let info = ModInfo { vermagic: Some("5.0 SMP".into()), ..ModInfo::default() };
        let packed = [("x".to_owned(), Packed { path: "/x".into(), data: vec![], info, why: String::new() })].into();
        let disk = Chain {
            disk: "nvme0n1".into(),
            modules: ["nvme".to_owned(), "ahci".to_owned()].into(),
            ..Chain::default()
        };
        let usr = Mounted { fstype: "xfs".into(), what: "/usr" };
        let root = Known { disks: vec![disk], types: vec![usr], ..Known::default() };
        let mut problems = Problems::default();
        modules("6.1", &index, &BTreeMap::new(), &packed, &root, &mut problems);
        hostid(Some(&[1]), &mut problems);
        compression(Some("CONFIG_RD_XZ=y\n# CONFIG_RD_ZSTD is not set\n"), Compression::Zstd(3), &mut problems);
        compression(Some("CONFIG_RD_XZ=y\n"), Compression::Xz(3), &mut problems);
        compression(None, Compression::Lz4, &mut problems);
        init("/bin/sh", b"#!/bin/sh", &mut problems);
        let text = problems.to_string();
        for part in [
            "no zfs module for kernel 6.1",
            "x was built for kernel 5.0",
            "nvme0n1",
            "needs driver nvme",
            "/usr is xfs",
            "without CONFIG_RD_ZSTD",
            "hostid has 1",
            "/bin/sh is not",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(!text.contains("RD_XZ") && !text.contains("RD_LZ4"), "{text}");
        assert!(!text.contains("ahci"), "a built-in driver is no problem: {text}");
    }

    #[test]
    fn a_plain_root_needs_its_file_system_and_no_zfs() {
        let text = |fstype: &str| {
            let index = Index::parse([b"ext4.ko:\n", b"alias fs-odd other\n", b"", b"kernel/other.ko\nvfat.ko\n"]);
            let chosen = Chosen { why: String::new(), boot: false };
            let root = Known { types: vec![Mounted { fstype: fstype.into(), what: "the root" }], ..Known::default() };
            let mut problems = Problems::default();
            modules("6.1", &index, &[("ext4".to_owned(), chosen)].into(), &BTreeMap::new(), &root, &mut problems);
            problems.0.concat()
        };
        assert_eq!([text("ext3"), text("vfat"), text("odd")], [""; 3]);
        let found = text("xfs");
        assert!(found.contains("the root is xfs") && found.contains("no module xfs"), "{found}");
    }
}
