//! The libraries of a program, found in the tree it comes from.
//!
//! Own code on goblin: lddtree 0.5 reads the packing machine's `/etc/ld.so.conf` and library directories even when it is
//! given another root, so a foreign tree would get this machine's libraries.

use goblin::elf::Elf;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use taproot_init::sys::beneath::resolve;

/// Where glibc looks when nothing else is said; Debian's multiarch directories stand in its ld.so.conf too.
pub(super) const DEFAULT_DIRECTORIES: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib/x86_64-linux-gnu",
    "/usr/local/lib",
];
/// ld.so.conf files include others; a circle ends here.
const MAX_INCLUDES: u32 = 8;

/// What a program needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closure {
    /// Path in the image and the file in the tree, the interpreter included.
    pub files: BTreeMap<String, PathBuf>,
    /// Libraries that no directory has.
    pub missing: BTreeSet<String>,
}

struct Needs {
    interpreter: Option<String>,
    libraries: Vec<String>,
    runpath: Vec<String>,
}

fn needs(path: &Path) -> Result<Needs, String> {
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    let elf = Elf::parse(&bytes).map_err(|e| format!("not an ELF file: {e}"))?;
    let lists = elf.runpaths.iter().chain(&elf.rpaths);
    Ok(Needs {
        interpreter: elf.interpreter.map(str::to_owned),
        libraries: elf.libraries.iter().map(|l| (*l).to_owned()).collect(),
        runpath: lists.flat_map(|l| l.split(':')).filter(|l| !l.is_empty()).map(str::to_owned).collect(),
    })
}

/// Directories of a tree's ld.so.conf.
fn configured(root: &Path, file: &Path, depth: u32, into: &mut Vec<String>) {
    if depth > MAX_INCLUDES {
        return;
    }
    let Ok(text) = resolve(root, file).and_then(fs::read_to_string) else { return };
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let Some(pattern) = line.strip_prefix("include ") else {
            into.push(line.to_owned());
            continue;
        };
        // The one pattern that exists in practice: every .conf file of a directory.
        let pattern = Path::new("/etc").join(pattern.trim());
        let (Some(dir), Some(name)) = (pattern.parent(), pattern.file_name()) else { continue };
        if name != "*.conf" {
            configured(root, &pattern, depth + 1, into);
            continue;
        }
        let Ok(real) = resolve(root, dir) else { continue };
        let mut names: Vec<_> = fs::read_dir(real).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
        names.sort();
        for name in names.iter().filter(|n| Path::new(n).extension().is_some_and(|e| e == "conf")) {
            configured(root, &dir.join(name), depth + 1, into);
        }
    }
}

/// Follows what `program` (a file of the tree at `root`) needs, and what that needs.
pub fn closure(root: &Path, program: &Path) -> Result<Closure, String> {
    let mut directories = Vec::new();
    configured(root, Path::new("/etc/ld.so.conf"), 0, &mut directories);
    directories.extend(DEFAULT_DIRECTORIES.map(str::to_owned));
    let mut found = Closure::default();
    let mut seen = BTreeSet::new();
    let mut work = vec![program.to_path_buf()];
    while let Some(path) = work.pop() {
        let needs = needs(&path)?;
        if let Some(interpreter) = needs.interpreter {
            let real = resolve(root, Path::new(&interpreter)).ok().filter(|p| p.is_file());
            match real {
                Some(real) => drop(found.files.insert(interpreter, real)),
                None => drop(found.missing.insert(interpreter)),
            }
        }
        let inside = path.strip_prefix(root).unwrap_or(&path);
        let origin = Path::new("/").join(inside.parent().unwrap_or(Path::new("")));
        let own = needs.runpath.iter().map(|dir| {
            let origin = origin.display().to_string();
            dir.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin)
        });
        let search: Vec<String> = own.chain(directories.iter().cloned()).collect();
        for library in needs.libraries {
            if !seen.insert(library.clone()) {
                continue;
            }
            let hit = search.iter().find_map(|dir| {
                let at = Path::new(dir).join(&library);
                let real = resolve(root, &at).ok().filter(|p| p.is_file())?;
                Some((at.display().to_string(), real))
            });
            match hit {
                Some((at, real)) => {
                    found.files.insert(at, real.clone());
                    work.push(real);
                }
                None => drop(found.missing.insert(library)),
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_with_includes_and_circles() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc/ld.so.conf.d");
        fs::create_dir_all(&etc).unwrap();
        fs::write(dir.path().join("etc/ld.so.conf"), "# c\ninclude /etc/ld.so.conf.d/*.conf\n/opt/lib\n").unwrap();
        fs::write(etc.join("b.conf"), "/b\ninclude /etc/ld.so.conf\n").unwrap();
        fs::write(etc.join("a.conf"), "/a\n").unwrap();
        fs::write(etc.join("ignored"), "/ignored\n").unwrap();
        let mut found = Vec::new();
        configured(dir.path(), Path::new("/etc/ld.so.conf"), 0, &mut found);
        assert_eq!(&found[..3], ["/a", "/b", "/a"]);
        assert!(!found.contains(&"/ignored".to_owned()));
    }

    #[test]
    fn a_static_program_needs_nothing() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(closure(Path::new("/"), &own).unwrap(), Closure::default());
        assert!(closure(Path::new("/"), Path::new("/etc/passwd")).is_err());
    }
}
