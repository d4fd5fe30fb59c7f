//! An image that cannot boot is refused when it is packed, with every reason at once.

use super::compress::Compression;
use super::elf;
use super::index::{Index, kernels_there};
use super::modinfo::ModInfo;
use super::modprobe_d::ModprobeConfig;
use super::modules::{Chosen, Packed};
use super::root::Known;
use super::tree::Tree;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use taproot_init::devices::filesystems;
use taproot_init::image::CONFIG_PATH;
use taproot_init::zfs::keys::Encryption;

/// What is to be said of an image.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Why it could not boot.
    pub problems: Vec<String>,
    /// What people should know.
    pub notes: Vec<String>,
}

impl fmt::Display for Remarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this image could not boot, so it is not written (--no-preflight writes it all the same):")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))?;
        self.notes.iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

impl std::error::Error for Remarks {}

/// What is wrong with a module: its name, and in words.
pub type OfModule = (String, String);

/// The modules that find and mount this root, and why each is needed.
pub fn wanted(index: &Index, root: &Known) -> Vec<(String, String)> {
    let mut wanted: Vec<(String, String)> = Vec::new();
    if root.needs_zfs() {
        wanted.push(("zfs".to_owned(), "root file system".to_owned()));
    }
    for mounted in &root.types {
        let names = filesystems::modules(&mounted.fstype).into_iter().map(str::to_owned);
        let names = names.chain(index.resolve(&format!("fs-{}", mounted.fstype)));
        wanted.extend(names.map(|name| (name, format!("file system of {}", mounted.what))));
    }
    let layers = root.layered.iter().flat_map(|layered| layered.needed());
    wanted.extend(layers.map(|(name, why)| (name.to_owned(), why.to_owned())));
    for disk in &root.disks {
        let by_alias = disk.modaliases.iter().flat_map(|modalias| index.matching(modalias));
        let names = disk.modules.iter().cloned().chain(by_alias);
        wanted.extend(names.map(|name| (name, format!("driver of disk {}", disk.disk))));
    }
    wanted
}

/// The modules that this root cannot do without, with all that they need.
pub fn needed(index: &Index, root: &Known) -> BTreeSet<String> {
    let names: Vec<String> = wanted(index, root).into_iter().map(|(name, _)| name).collect();
    let entries = names.iter().filter_map(|name| index.modules.get(name));
    let deps: Vec<String> = entries.flat_map(|entry| entry.deps.clone()).collect();
    names.into_iter().chain(deps).collect()
}

/// What is wrong with a module that is needed is a problem. The machine boots without the others, such as that of a sound card.
pub fn judge(found: Vec<OfModule>, needed: &BTreeSet<String>, remarks: &mut Remarks) {
    for (module, text) in found {
        if needed.contains(&module) {
            remarks.problems.push(text);
        } else {
            remarks.notes.push(format!("{text}; the boot goes on without {module}"));
        }
    }
}

/// Checks modules: zfs and the root's file system there, the drivers of the root's disks packed.
pub fn modules(
    tree: &Tree,
    version: &str,
    (index, modprobe): (&Index, &ModprobeConfig),
    chosen: &BTreeMap<String, Chosen>,
    root: &Known,
    problems: &mut Vec<String>,
) {
    let there = |name: &str| chosen.contains_key(name) || index.builtin.contains(name);
    // The module is there, and a file says that it is never to be loaded.
    let blocked = |name: &str| {
        let needs = index.modules.get(name).into_iter().flat_map(|entry| entry.deps.iter().map(String::as_str));
        let by = std::iter::once(name).chain(needs).find(|name| modprobe.blocked.contains(*name))?;
        Some(format!("{name} is kept out, because modprobe.d says: install {by} /bin/false; take that line out"))
    };
    if root.needs_zfs()
        && let Some(why) = blocked("zfs")
    {
        problems.push(format!("the root is in a pool, and {why}"));
    } else if root.needs_zfs() && !there("zfs") {
        problems.push(format!(
            "no zfs module for kernel {version}: expected zfs.ko below {} (install zfs-dkms or the distribution's zfs modules for this kernel; {})",
            tree.shown(&index.dir).display(),
            kernels_there(tree)
        ));
    }
    for mounted in &root.types {
        let module = filesystems::modules(&mounted.fstype).pop().unwrap_or_default();
        // A file system can be part of a module with another name, which says so by an alias.
        let fs = index.resolve(&format!("fs-{}", mounted.fstype));
        if !there(module) && !fs.iter().any(|module| there(module)) {
            problems.push(format!(
                "{} is {}, and kernel {version} has no module {module} for it; choose a kernel that has it",
                mounted.what, mounted.fstype
            ));
        }
    }
    for disk in &root.disks {
        for module in disk.modules.iter().filter(|module| !there(module)) {
            let why = blocked(module).map_or_else(
                || format!("which kernel {version} does not have; choose a kernel that has it"),
                |why| format!("but {why}"),
            );
            problems.push(format!("disk {} of the root needs driver {module}, {why}", disk.disk));
        }
    }
}

/// Checks that the kernel will take each module. One with checksums may be built for another release, as distributions with a
/// stable kernel interface do: the kernel compares the checksums and how both were built (`same_magic`, `check_version`).
pub fn kernels(version: &str, packed: &BTreeMap<String, Packed>) -> Vec<OfModule> {
    let (own, others): (Vec<_>, Vec<_>) = packed.iter().partition(|(_, module)| module.info.kernel() == Some(version));
    let flags = own.first().map(|(_, module)| module.info.flags());
    let mut known: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, module) in &own {
        known.extend(module.info.crcs.iter().flatten().map(|(symbol, crc)| (symbol.as_str(), *crc)));
    }
    let mut found = Vec::new();
    for (name, module) in others {
        if let Some(why) = refused(&module.info, flags, &known) {
            let built = module.info.kernel().unwrap_or("unknown");
            let text = format!(
                "module {name} was built for kernel {built}, expected {version}{why}; rebuild it (for DKMS: dkms autoinstall -k {version})"
            );
            found.push((name.clone(), text));
        }
    }
    found
}

/// Why the kernel would not take a module of another release.
fn refused(module: &ModInfo, flags: Option<&str>, known: &BTreeMap<&str, u64>) -> Option<String> {
    let crcs = module.crcs.as_ref().filter(|_| module.vermagic.is_some());
    let Some(crcs) = crcs else { return Some(String::new()) };
    if let Some(flags) = flags.filter(|flags| *flags != module.flags()) {
        return Some(format!(", and otherwise: {:?}, expected {flags:?}", module.flags()));
    }
    let differs = crcs.iter().find(|(symbol, crc)| known.get(symbol.as_str()).is_some_and(|own| own != *crc));
    differs.map(|(symbol, _)| format!(", which has another {symbol}"))
}

/// Checks the options of packed modules: a number that is none makes the kernel refuse the module.
pub fn options(config: &ModprobeConfig, packed: &BTreeMap<String, Packed>) -> Vec<OfModule> {
    let mut found = Vec::new();
    for (module, options) in &config.options {
        let Some(info) = packed.get(module).map(|packed| &packed.info) else { continue };
        for option in options.split_whitespace() {
            let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
            let kind = info.parameters.iter().find(|(known, _)| known.replace('-', "_") == name.replace('-', "_"));
            let expected = match kind {
                Some((_, kind)) => wrong(kind, value),
                // OpenZFS does not tell the types of those that it checks itself; sizes have no units for any of them.
                None => (matches!(module.as_str(), "zfs" | "spl") && value.is_some_and(has_unit))
                    .then_some("a number without a unit"),
            };
            if let Some(expected) = expected {
                let text = format!(
                    "modprobe.d: options {module} {option}: expected {expected}, and the kernel would not load {module}; correct it in /etc/modprobe.d"
                );
                found.push((module.clone(), text));
            }
        }
    }
    found
}

/// What is expected of a value of this type, if it is something else (`kernel/params.c`).
fn wrong(kind: &str, value: Option<&str>) -> Option<&'static str> {
    if let Some(kind) = kind.strip_prefix("array of ") {
        let Some(value) = value else { return wrong(kind, None) };
        return value.split(',').find_map(|one| wrong(kind, Some(one)));
    }
    let value = value.map(|value| value.trim_matches('"'));
    let signed = |value: &str| number(value.strip_prefix(['-', '+']).unwrap_or(value)).is_some();
    let unsigned = |value: &str| number(value.strip_prefix('+').unwrap_or(value)).is_some();
    match kind {
        "bool" | "invbool" => {
            let fits = value.is_none_or(|value| {
                let lower = value.to_ascii_lowercase();
                lower.starts_with(['y', 't', '1', 'n', 'f', '0']) || lower.starts_with("on") || lower.starts_with("of")
            });
            (!fits).then_some("y or n")
        }
        "short" | "int" | "long" => (!value.is_some_and(signed)).then_some("a number without a unit"),
        "byte" | "ushort" | "uint" | "ulong" | "ullong" | "hexint" => {
            (!value.is_some_and(unsigned)).then_some("a number of at least 0 without a unit")
        }
        _ => None,
    }
}

/// A number as the kernel reads it: decimal, 0x..., 0...
fn number(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    match lower.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if lower.len() > 1 && lower.starts_with('0') => u64::from_str_radix(&lower, 8).ok(),
        None if lower.bytes().all(|b| b.is_ascii_digit()) => lower.parse().ok(),
        None => None,
    }
}

/// 4G, 512M, 16KiB.
fn has_unit(value: &str) -> bool {
    let rest = value.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < value.len() && ["k", "m", "g", "t"].iter().any(|unit| rest.to_ascii_lowercase().starts_with(unit))
}

/// Checks where the root's key is: `packed` says whether the image has a file.
pub fn key(key: &Encryption, packed: impl Fn(&str) -> bool, words: &str, remarks: &mut Remarks) {
    let Encryption { root, location, .. } = key;
    let named = words.split_whitespace().any(|word| word.starts_with("taproot.key="));
    match location.strip_prefix("file://") {
        // Ubuntu: a LUKS container in a zvol of the pool, opened by its initramfs.
        Some(path) if path.starts_with("/run/keystore/") => remarks.problems.push(format!(
            "the key of {root} is {path}, which lies on an encrypted volume of the pool that taproot-init does not open; give it \
             another place: zfs change-key -o keylocation=prompt -o keyformat=passphrase {root}"
        )),
        Some(path) if !named && !packed(path) => remarks.notes.push(format!(
            "the key of {root} is {path}, which is not in the image: the boot stops for want of it, unless the boot loader adds \
             taproot.key=DEVICE:/path; --add-file {path} packs it"
        )),
        None if location.contains("://") && !named => remarks.notes.push(format!(
            "the key of {root} is at {location}, and nothing is fetched this early: the boot stops for want of it, unless the boot \
             loader adds taproot.key=DEVICE:/path"
        )),
        _ => {}
    }
}

/// Checks the program that becomes `/init`: an executable for this kind of machine that needs no libraries.
pub fn init(path: &str, program: &[u8], problems: &mut Vec<String>) {
    let advice = "expected the static taproot-init (make build leaves it at out/taproot-init)";
    match elf::needs(program) {
        Err(e) => problems.push(format!("{path} is not an executable ({e}); {advice}")),
        Ok(needs) if needs.interpreter.is_some() || !needs.libraries.is_empty() => {
            problems.push(format!("{path} is dynamically linked and would not start without its libraries; {advice}"));
        }
        Ok(needs) if needs.machine != goblin::elf::header::EM_X86_64 => {
            problems.push(format!("{path} is built for another kind of processor; {advice}"));
        }
        // It reads that file first.
        Ok(_) if !elf::contains(program, CONFIG_PATH) => {
            problems.push(format!("{path} is another program; {advice}"));
        }
        Ok(_) => {}
    }
}

/// Checks that the kernel can unpack the image, as far as its build configuration is there to tell.
pub fn compression(config: Option<&str>, compression: Compression, problems: &mut Vec<String>) {
    let (Some(config), Some(option)) = (config, compression.kernel_option()) else { return };
    if !config.lines().any(|line| line == format!("{option}=y")) {
        problems.push(format!("this kernel is built without {option}; choose another --compress, or none"));
    }
}

/// Checks `/etc/hostid` of the tree: 4 bytes, or absent.
pub fn hostid(found: Option<&[u8]>, problems: &mut Vec<String>) {
    if let Some(bytes) = found
        && bytes.len() != 4
    {
        problems.push(format!("etc/hostid has {} bytes, expected 4; make it anew with zgenhostid", bytes.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initramfs::host::Chain;
    use crate::initramfs::modinfo::ModInfo;
    use crate::initramfs::root::Mounted;

    fn packed(vermagic: &str, crcs: Option<&[(&str, u64)]>, parameters: &[(&str, &str)]) -> Packed {
        let crcs = crcs.map(|list| list.iter().map(|(symbol, crc)| ((*symbol).to_owned(), *crc)).collect());
        let parameters = parameters.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect();
        let info = ModInfo { vermagic: Some(vermagic.into()), crcs, parameters, ..ModInfo::default() };
        Packed { path: "/x".into(), data: vec![], hash: String::new(), info, why: String::new() }
    }

    #[test]
    fn every_problem_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let index = Index { builtin: ["ahci".to_owned()].into(), ..Index::default() };
        let disk = Chain {
            disk: "nvme0n1".into(),
            modules: ["nvme".to_owned(), "ahci".to_owned()].into(),
            ..Chain::default()
        };
        let usr = Mounted { fstype: "xfs".into(), what: "/usr" };
        let root = Known { disks: vec![disk], types: vec![usr], ..Known::default() };
        let mut problems = Vec::new();
        modules(&tree, "6.1", (&index, &ModprobeConfig::default()), &BTreeMap::new(), &root, &mut problems);
        problems.extend(
            kernels("6.1", &[("x".to_owned(), packed("5.0 SMP", None, &[]))].into()).into_iter().map(|(_, text)| text),
        );
        hostid(Some(&[1]), &mut problems);
        compression(Some("CONFIG_RD_XZ=y\n# CONFIG_RD_ZSTD is not set\n"), Compression::Zstd(3), &mut problems);
        compression(Some("CONFIG_RD_XZ=y\n"), Compression::Xz(3), &mut problems);
        compression(None, Compression::Lz4, &mut problems);
        init("/bin/sh", b"#!/bin/sh", &mut problems);
        let text = Remarks { problems, ..Remarks::default() }.to_string();
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
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let text = |fstype: &str| {
            let index = Index::parse([b"ext4.ko:\n", b"alias fs-odd other\n", b"", b"kernel/other.ko\nvfat.ko\n"]);
            let chosen = Chosen { why: String::new(), boot: false };
            let root = Known { types: vec![Mounted { fstype: fstype.into(), what: "the root" }], ..Known::default() };
            let mut problems = Vec::new();
            modules(
                &tree,
                "6.1",
                (&index, &ModprobeConfig::default()),
                &[("ext4".to_owned(), chosen)].into(),
                &root,
                &mut problems,
            );
            problems.concat()
        };
        assert_eq!([text("ext3"), text("vfat"), text("odd")], [""; 3]);
        let found = text("xfs");
        assert!(found.contains("the root is xfs") && found.contains("no module xfs"), "{found}");
    }

    #[test]
    fn modules_of_another_release_with_checksums() {
        let problems = |other: Packed| {
            let own = packed("5.14.0-2 SMP modversions", Some(&[("module_layout", 7), ("_printk", 8)]), &[]);
            let found = kernels("5.14.0-2", &[("ext4".to_owned(), own), ("zfs".to_owned(), other)].into());
            found.into_iter().map(|(_, text)| text).collect::<String>()
        };
        let crcs: &[(&str, u64)] = &[("module_layout", 7), ("spl_x", 3)];
        assert_eq!(problems(packed("5.14.0-1 SMP modversions", Some(crcs), &[])), "");
        assert!(problems(packed("5.14.0-1 SMP modversions", Some(&[("_printk", 9)]), &[])).contains("another _printk"));
        assert!(problems(packed("5.14.0-1 SMP preempt modversions", Some(crcs), &[])).contains("and otherwise"));
        assert!(problems(packed("5.14.0-1 SMP modversions", None, &[])).contains("zfs was built for kernel 5.14.0-1"));
    }

    #[test]
    fn what_the_boot_does_not_need_refuses_no_image() {
        let index = Index::parse([
            b"updates/zfs.ko: spl.ko\nspl.ko:\nnvme.ko: nvme_core.ko\nnvme_core.ko:\nsnd.ko:\n",
            b"alias pci:nvme* nvme\n",
            b"",
            b"",
        ]);
        let disk = Chain { modaliases: ["pci:nvme1".to_owned()].into(), ..Chain::default() };
        let needed = needed(&index, &Known { disks: vec![disk], ..Known::default() });
        assert_eq!(needed.iter().collect::<Vec<_>>(), ["nvme", "nvme_core", "spl", "zfs"]);
        let mut remarks = Remarks::default();
        let found = ["spl", "snd"].map(|name| (name.to_owned(), format!("{name} is wrong")));
        judge(found.into(), &needed, &mut remarks);
        assert_eq!(remarks.problems, ["spl is wrong"]);
        assert_eq!(remarks.notes, ["snd is wrong; the boot goes on without snd"]);
    }

    #[test]
    fn what_modprobe_d_keeps_out_is_said_to_be_kept_out() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let index = Index::parse([b"zfs.ko: spl.ko\nspl.ko:\nnvme.ko:\n", b"", b"", b""]);
        let mut config = ModprobeConfig::default();
        config.parse("install spl /bin/false\ninstall nvme /bin/true\n");
        let disk = Chain { disk: "nvme0n1".into(), modules: ["nvme".to_owned()].into(), ..Chain::default() };
        let root = Known { disks: vec![disk], ..Known::default() };
        let mut problems = Vec::new();
        modules(&tree, "6.1", (&index, &config), &BTreeMap::new(), &root, &mut problems);
        assert!(problems[0].contains("zfs is kept out, because modprobe.d says: install spl"), "{problems:?}");
        assert!(
            problems[1].contains("disk nvme0n1 of the root needs driver nvme, but nvme is kept out"),
            "{problems:?}"
        );
    }

    #[test]
    fn options_that_are_no_numbers() {
        let types =
            [("zfs_a", "ulong"), ("zfs_i", "int"), ("zfs_b", "bool"), ("list", "array of uint"), ("s", "charp")];
        let modules =
            [("zfs".to_owned(), packed("1", None, &types)), ("nvme".to_owned(), packed("1", None, &[]))].into();
        let problems = |options: &str| {
            let mut config = ModprobeConfig::default();
            config.parse(options);
            super::options(&config, &modules).len()
        };
        for good in [
            "options zfs zfs_a=0x10 zfs_i=-1 zfs_b=N zfs_b list=1,010 s=4G unknown=x",
            "options zfs zfs_arc_max=4294967296 zfs-a=1 zfs_i=\"5\"",
            "options nvme unknown=4G",
            "options absent zfs_a=4G",
        ] {
            assert_eq!(problems(good), 0, "{good}");
        }
        assert_eq!(
            problems("options zfs zfs_a=4G zfs_a=-1 zfs_i=x zfs_i list=1,x zfs_b=maybe zfs_a=08 zfs_arc_max=4G"),
            8
        );
    }

    #[test]
    fn where_the_key_of_the_root_is() {
        let says = |location: &str, words: &str| {
            let facts = Encryption {
                root: "r/R".into(),
                format: None,
                location: location.into(),
                salt: 0,
                iterations: 0,
                available: true,
            };
            let mut remarks = Remarks::default();
            key(&facts, |path| path == "/etc/packed.key", words, &mut remarks);
            (remarks.problems.concat(), remarks.notes.concat())
        };
        for fine in [("prompt", ""), ("file:///etc/packed.key", ""), ("file:///k", "ro taproot.key=LABEL=x:/k")] {
            assert_eq!(says(fine.0, fine.1), (String::new(), String::new()), "{fine:?}");
        }
        assert!(says("file:///run/keystore/rpool/system.key", "").0.contains("encrypted volume"));
        assert!(says("file:///etc/zfs/k", "").1.contains("--add-file /etc/zfs/k packs it"));
        assert!(says("https://h/k", "").1.contains("nothing is fetched"));
    }

    #[test]
    fn another_static_program_is_no_init() {
        let mut problems = Vec::new();
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        init("/own", &own, &mut problems);
        assert_eq!(problems, [""; 0], "this test program has what taproot-init has");
        let mut header = vec![0; 64];
        header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        (header[16], header[18], header[20], header[52], header[54]) = (2, 62, 1, 64, 56);
        init("/usr/bin/busybox", &header, &mut problems);
        assert!(problems.concat().contains("/usr/bin/busybox is another program"), "{problems:?}");
    }
}
