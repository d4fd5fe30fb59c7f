//! What an image carries besides modules: rescue programs with their libraries, firmware, microcode.

use super::archive::{Archive, ArchiveError, Content};
use super::host::Processor;
use super::tree::{self, Tree, TreeError};
use super::{decompress, elf};
use std::collections::BTreeMap;
use std::path::Path;
use taproot_init::devices::aliases::glob;

/// What the rescue shell has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rescue {
    /// busybox, zpool, zfs and zdb.
    Full,
    /// busybox.
    #[default]
    Small,
    /// The prompt built into taproot-init.
    None,
}

/// A program that should be packed and is not there.
#[derive(Debug, thiserror::Error)]
pub enum ExtrasError {
    /// Not in the tree.
    #[error("{program} is not in {root}: {advice}")]
    Missing {
        /// Program.
        program: String,
        /// Tree.
        root: String,
        /// What to do.
        advice: String,
    },
    /// A library that a program needs.
    #[error("{program} needs {library}, which is not in {root}; install the package it belongs to")]
    Library {
        /// Program.
        program: String,
        /// Library.
        library: String,
        /// Tree.
        root: String,
    },
    /// Unreadable file.
    #[error(transparent)]
    Read(#[from] TreeError),
    /// Unreadable program.
    #[error("{program}: {reason}")]
    Elf {
        /// Program.
        program: String,
        /// What is wrong.
        reason: String,
    },
    /// Two things at one path.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// glibc opens it by name when a thread is cancelled, which zpool does; no ELF header says so.
const OPENED_BY_NAME: &str = "libgcc_s.so.1";

/// Packs the rescue programs.
pub fn rescue(archive: &mut Archive, tree: &Tree, kind: Rescue) -> Result<(), ExtrasError> {
    if kind == Rescue::None {
        return Ok(());
    }
    let find = |name: &str, advice: &str| {
        tree.program(name).ok_or_else(|| ExtrasError::Missing {
            program: name.to_owned(),
            root: tree.to_string(),
            advice: advice.to_owned(),
        })
    };
    let busybox = find("busybox", "install busybox (or busybox-static), or pack with --rescue none")?;
    program(archive, tree, &busybox, "/bin/busybox", "rescue shell")?;
    archive.add("/bin/sh", Content::Link("busybox".to_owned()), 0o777, "rescue shell")?;
    if kind == Rescue::Full {
        for name in ["zpool", "zfs", "zdb"] {
            let path = find(name, "install zfsutils-linux (zfs-utils), or pack with --rescue small")?;
            program(archive, tree, &path, &format!("/sbin/{name}"), "rescue: pool and dataset tools")?;
        }
    }
    Ok(())
}

/// Packs a program and every library it needs, at the paths the loader looks for them.
pub fn program(archive: &mut Archive, tree: &Tree, source: &Path, target: &str, why: &str) -> Result<(), ExtrasError> {
    archive.program(target, tree.read(source, tree::BINARY)?, why)?;
    let shown = source.display().to_string();
    let failed = |reason| ExtrasError::Elf { program: shown.clone(), reason };
    let closure = elf::closure(tree, source, target, &[OPENED_BY_NAME]).map_err(failed)?;
    if let Some(library) = closure.missing.first() {
        return Err(ExtrasError::Library { program: shown, library: library.clone(), root: tree.to_string() });
    }
    for (path, from) in &closure.files {
        archive.program(path, tree.read(from, tree::BINARY)?, &format!("library of {target}"))?;
    }
    Ok(())
}

/// Packs the firmware that modules name, by names or patterns; returns what the tree does not have.
pub fn firmware(
    archive: &mut Archive,
    tree: &Tree,
    kernel: &str,
    wanted: &BTreeMap<String, String>,
) -> Result<Vec<String>, ExtrasError> {
    let mut absent = Vec::new();
    for (pattern, module) in wanted {
        let names =
            if pattern.contains(['*', '?', '[']) { matching(tree, kernel, pattern)? } else { vec![pattern.clone()] };
        let mut any = false;
        for name in names {
            let Some((path, ending)) = tree.firmware(kernel, &name, &decompress::ENDINGS) else { continue };
            let raw = tree.read(&path, tree::BINARY)?;
            let data = decompress::by_name(Path::new(&format!("x{ending}")), raw)
                .map_err(|cause| TreeError::Io { path: tree.shown(&path), cause })?;
            archive.file(&format!("/lib/firmware/{name}"), data, &format!("firmware of {module}"))?;
            any = true;
        }
        if !any {
            absent.push(format!("{pattern} ({module})"));
        }
    }
    Ok(absent)
}

/// Names of firmware files that a pattern means; `*` stands for part of a file's name.
fn matching(tree: &Tree, kernel: &str, pattern: &str) -> Result<Vec<String>, ExtrasError> {
    let (below, last) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let mut names = Vec::new();
    for dir in tree.firmware_directories(kernel) {
        let found = tree.list(dir.join(below))?;
        let found = found.iter().map(|name| decompress::strip_suffix(name));
        names.extend(found.filter(|name| glob(last.as_bytes(), name.as_bytes())).map(|name| match below {
            "" => name.to_owned(),
            below => format!("{below}/{name}"),
        }));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// The early archive with microcode, which the kernel reads before anything is unpacked; `None` if the tree has none.
/// Of one processor if it is known, else of all.
pub fn microcode(tree: &Tree, processor: Option<&Processor>) -> Result<Option<Archive>, ExtrasError> {
    let mut early = Archive::default();
    let mut any = false;
    for (maker, dir) in [("GenuineIntel", "intel-ucode"), ("AuthenticAMD", "amd-ucode")] {
        if processor.is_some_and(|processor| processor.vendor != maker) {
            continue;
        }
        let mut data = Vec::new();
        // Links within the directory have been seen in none; files lie in the first that has any.
        for dir in tree.firmware_directories("").iter().map(|parent| parent.join(dir)) {
            // README and signature files lie beside the data.
            let names = tree.list(&dir)?.into_iter().filter(|name| {
                Path::new(name).extension().is_none_or(|end| end != "asc") && !name.starts_with("README")
            });
            let names = names.filter(|name| processor.is_none_or(|processor| processor.has_microcode(name)));
            for path in names.map(|name| dir.join(name)).filter(|path| tree.file(path).is_some()) {
                let raw = tree.read(&path, tree::BINARY)?;
                let unpacked = decompress::by_name(&path, raw);
                data.extend(unpacked.map_err(|cause| TreeError::Io { path: tree.shown(&path), cause })?);
            }
            if !data.is_empty() {
                break;
            }
        }
        if !data.is_empty() {
            any = true;
            early.file(&format!("/kernel/x86/microcode/{maker}.bin"), data, "processor microcode")?;
        }
    }
    Ok(any.then_some(early))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn firmware_is_found_compressed_or_reported() {
        let dir = tempfile::tempdir().unwrap();
        let fw = dir.path().join("lib/firmware/a");
        fs::create_dir_all(&fw).unwrap();
        fs::write(fw.join("b.bin.zst"), zstd::encode_all(&b"code"[..], 1).unwrap()).unwrap();
        let wanted = [("a/b.bin".to_owned(), "m".to_owned()), ("none.bin".to_owned(), "m".to_owned())].into();
        let (tree, mut archive) = (Tree::open(dir.path()).unwrap(), Archive::default());
        assert_eq!(firmware(&mut archive, &tree, "6.1", &wanted).unwrap(), ["none.bin (m)"]);
        let node = archive.iter().find(|(p, _)| *p == "/lib/firmware/a/b.bin").unwrap().1;
        assert_eq!(node.content, Content::File(b"code".to_vec()));
    }

    #[test]
    fn firmware_by_patterns_and_of_a_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join("usr/lib/firmware").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for name in ["q/a1.bin", "q/a2.bin", "q/b.bin", "6.1/q/a1.bin"] {
            write(name, name);
        }
        let wanted = [("q/a*.bin".to_owned(), "m".to_owned()), ("q/c*".to_owned(), "m".to_owned())].into();
        let mut archive = Archive::default();
        assert_eq!(firmware(&mut archive, &Tree::open(dir.path()).unwrap(), "6.1", &wanted).unwrap(), ["q/c* (m)"]);
        let files: Vec<_> = archive.iter().filter(|(_, node)| node.content != Content::Directory).collect();
        assert_eq!(files.len(), 2);
        assert_eq!(files[0].1.content, Content::File(b"6.1/q/a1.bin".to_vec()));
    }

    #[test]
    fn hostile_firmware_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("lib/firmware")).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        let wanted = [("../../secret".to_owned(), "m".to_owned())].into();
        assert!(firmware(&mut Archive::default(), &Tree::open(dir.path()).unwrap(), "6.1", &wanted).is_err());
    }

    #[test]
    fn microcode_of_both_makers_is_joined() {
        let dir = tempfile::tempdir().unwrap();
        for (sub, name) in
            [("intel-ucode", "06-01"), ("intel-ucode", "06-00"), ("amd-ucode", "fam.bin"), ("amd-ucode", "fam.bin.asc")]
        {
            fs::create_dir_all(dir.path().join("lib/firmware").join(sub)).unwrap();
            fs::write(dir.path().join("lib/firmware").join(sub).join(name), name).unwrap();
        }
        let tree = Tree::open(dir.path()).unwrap();
        let early = microcode(&tree, None).unwrap().unwrap();
        let files: Vec<_> = early
            .iter()
            .filter_map(|(p, n)| match &n.content {
                Content::File(data) => Some((p.to_owned(), String::from_utf8_lossy(data).into_owned())),
                _ => None,
            })
            .collect();
        assert_eq!(files[0].1, "fam.bin");
        assert_eq!(files[1].1, "06-0006-01");
        let intel = Processor { vendor: "GenuineIntel".into(), family: 6, model: 1, stepping: 0 };
        assert!(microcode(&tree, Some(&intel)).unwrap().is_none(), "none of this processor");
        fs::write(dir.path().join("lib/firmware/intel-ucode/06-01-00"), "mine").unwrap();
        let early = microcode(&tree, Some(&intel)).unwrap().unwrap();
        assert_eq!(early.file_bytes(), 4);
        let none = tempfile::tempdir().unwrap();
        assert!(microcode(&Tree::open(none.path()).unwrap(), None).unwrap().is_none());
    }
}
