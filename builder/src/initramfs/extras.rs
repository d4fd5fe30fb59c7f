//! What an image carries besides modules: rescue programs with their libraries, firmware, microcode.

use super::archive::{Content, Tree, TreeError};
use super::{decompress, elf};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use taproot_init::sys::beneath::resolve_here as resolve;

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
        root: PathBuf,
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
        root: PathBuf,
    },
    /// Unreadable file.
    #[error("{path}: {cause}")]
    Read {
        /// File.
        path: PathBuf,
        /// System error.
        cause: io::Error,
    },
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
    Tree(#[from] TreeError),
}

const PROGRAM_DIRECTORIES: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];

pub(super) fn read(path: &Path) -> Result<Vec<u8>, ExtrasError> {
    fs::read(path).map_err(|cause| ExtrasError::Read { path: path.to_owned(), cause })
}

/// A program of the tree by its name.
pub(super) fn find_program(root: &Path, name: &str) -> Option<PathBuf> {
    PROGRAM_DIRECTORIES.iter().filter_map(|dir| resolve(root, &Path::new(dir).join(name)).ok()).find(|p| p.is_file())
}

/// Packs the rescue programs.
pub fn rescue(tree: &mut Tree, root: &Path, kind: Rescue) -> Result<(), ExtrasError> {
    if kind == Rescue::None {
        return Ok(());
    }
    let missing = |program: &str, advice: &str| ExtrasError::Missing {
        program: program.to_owned(),
        root: root.to_owned(),
        advice: advice.to_owned(),
    };
    let busybox = find_program(root, "busybox")
        .ok_or_else(|| missing("busybox", "install busybox (or busybox-static), or pack with --rescue none"))?;
    program(tree, root, &busybox, "/bin/busybox", "rescue shell")?;
    tree.add("/bin/sh", Content::Link("busybox".to_owned()), 0o777, "rescue shell")?;
    if kind == Rescue::Full {
        for name in ["zpool", "zfs", "zdb"] {
            let path = find_program(root, name)
                .ok_or_else(|| missing(name, "install zfsutils-linux (zfs-utils), or pack with --rescue small"))?;
            program(tree, root, &path, &format!("/sbin/{name}"), "rescue: pool and dataset tools")?;
        }
        // glibc opens it by name when a thread is cancelled, which zpool does; no ELF header says so.
        for dir in elf::DEFAULT_DIRECTORIES {
            let path = Path::new(dir).join("libgcc_s.so.1");
            if let Some(real) = resolve(root, &path).ok().filter(|p| p.is_file()) {
                tree.program(&path.display().to_string(), read(&real)?, "library that glibc loads for zpool")?;
                break;
            }
        }
    }
    Ok(())
}

/// Packs a program and every library it needs, at the paths the loader looks for them.
pub fn program(tree: &mut Tree, root: &Path, source: &Path, target: &str, why: &str) -> Result<(), ExtrasError> {
    tree.program(target, read(source)?, why)?;
    let shown = source.strip_prefix(root).unwrap_or(source).display().to_string();
    let closure = elf::closure(root, source).map_err(|reason| ExtrasError::Elf { program: shown.clone(), reason })?;
    if let Some(library) = closure.missing.first() {
        return Err(ExtrasError::Library { program: shown, library: library.clone(), root: root.to_owned() });
    }
    for (path, real) in &closure.files {
        if !tree.contains(path) {
            tree.program(path, read(real)?, &format!("library of {target}"))?;
        }
    }
    Ok(())
}

/// Packs the firmware that modules name; returns the names that the tree does not have.
pub fn firmware(tree: &mut Tree, root: &Path, wanted: &BTreeMap<String, String>) -> Result<Vec<String>, ExtrasError> {
    let mut absent = Vec::new();
    for (name, module) in wanted {
        let found = ["lib/firmware/updates", "lib/firmware"].iter().find_map(|dir| {
            ["", ".xz", ".zst"].iter().find_map(|suffix| {
                let path = Path::new(dir).join(format!("{name}{suffix}"));
                resolve(root, &path).ok().filter(|p| p.is_file()).map(|real| (real, *suffix))
            })
        });
        match found {
            Some((real, suffix)) => {
                let as_named = PathBuf::from(format!("x{suffix}"));
                let data = decompress::by_name(&as_named, read(&real)?)
                    .map_err(|cause| ExtrasError::Read { path: real, cause })?;
                tree.file(&format!("/lib/firmware/{name}"), data, &format!("firmware of {module}"))?;
            }
            None => absent.push(format!("{name} ({module})")),
        }
    }
    Ok(absent)
}

/// The early archive with microcode, which the kernel reads before anything is unpacked; `None` if the tree has none.
/// `vendor` narrows it to one processor maker (`GenuineIntel` or `AuthenticAMD`).
pub fn microcode(root: &Path, vendor: Option<&str>) -> Result<Option<Tree>, ExtrasError> {
    let mut early = Tree::default();
    let mut any = false;
    for (maker, dir) in [("GenuineIntel", "lib/firmware/intel-ucode"), ("AuthenticAMD", "lib/firmware/amd-ucode")] {
        if vendor.is_some_and(|v| v != maker) {
            continue;
        }
        let Ok(dir) = resolve(root, Path::new(dir)) else { continue };
        let mut files: Vec<PathBuf> = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        // README and signature files lie beside the data.
        files.retain(|p| {
            p.is_file() && !p.file_name().is_some_and(|n| n.as_bytes().ends_with(b".asc") || n == "README")
        });
        files.sort();
        let mut data = Vec::new();
        for file in files {
            let raw = read(&file)?;
            data.extend(decompress::by_name(&file, raw).map_err(|cause| ExtrasError::Read { path: file, cause })?);
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

    #[test]
    fn firmware_is_found_compressed_or_reported() {
        let dir = tempfile::tempdir().unwrap();
        let fw = dir.path().join("lib/firmware/a");
        fs::create_dir_all(&fw).unwrap();
        fs::write(fw.join("b.bin.zst"), zstd::encode_all(&b"code"[..], 1).unwrap()).unwrap();
        let wanted = [("a/b.bin".to_owned(), "m".to_owned()), ("none.bin".to_owned(), "m".to_owned())].into();
        let mut tree = Tree::default();
        assert_eq!(firmware(&mut tree, dir.path(), &wanted).unwrap(), ["none.bin (m)"]);
        let node = tree.iter().find(|(p, _)| *p == "/lib/firmware/a/b.bin").unwrap().1;
        assert_eq!(node.content, Content::File(b"code".to_vec()));
    }

    #[test]
    fn hostile_firmware_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("lib/firmware")).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        let wanted = [("../../secret".to_owned(), "m".to_owned())].into();
        assert!(firmware(&mut Tree::default(), dir.path(), &wanted).is_err());
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
        let early = microcode(dir.path(), None).unwrap().unwrap();
        let files: Vec<_> = early
            .iter()
            .filter_map(|(p, n)| match &n.content {
                Content::File(data) => Some((p.to_owned(), String::from_utf8_lossy(data).into_owned())),
                _ => None,
            })
            .collect();
        assert_eq!(files[0].1, "fam.bin");
        assert_eq!(files[1].1, "06-0006-01");
        assert!(microcode(Path::new("/nonexistent"), None).unwrap().is_none());
    }
}
