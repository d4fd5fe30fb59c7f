//! The libraries of a program, found in the tree it comes from.
//!
//! Own code on goblin: lddtree 0.5 reads the packing machine's `/etc/ld.so.conf` and library directories even when it is
//! given another root, so a foreign tree would get this machine's libraries.

use goblin::container::Ctx;
use goblin::elf::Elf;
use goblin::elf::dynamic::{DT_NEEDED, DT_RPATH, DT_RUNPATH, Dynamic};
use goblin::elf::program_header::{PT_INTERP, ProgramHeader};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use taproot_init::sys::beneath::resolve_here as resolve;

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
/// ld.so.conf files include others; deeper than this nobody does.
const MAX_INCLUDES: u32 = 8;
/// The kernel takes 64 KiB of program headers, which are about as many.
const MAX_SEGMENTS: u16 = 1200;
/// A path has at most 4096 bytes, a list of them not many more.
const MAX_TEXT: usize = 64 << 10;

/// What a program needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closure {
    /// Path in the image and the file in the tree, the interpreter included.
    pub files: BTreeMap<String, PathBuf>,
    /// Libraries that no directory has.
    pub missing: BTreeSet<String>,
}

/// What one file asks the loader for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Kind of processor, as `e_machine` has it.
    pub machine: u16,
    /// The loader.
    pub interpreter: Option<String>,
    /// Names of libraries, or paths.
    pub libraries: Vec<String>,
    /// Directories that come before all others.
    pub runpath: Vec<String>,
}

/// Reads a program or library; total over any bytes, in memory in proportion to them. Its relocations and symbols, which
/// are most of it, are not looked at.
pub fn needs(bytes: &[u8]) -> Result<Needs, String> {
    let bad = |e: goblin::error::Error| format!("not an ELF file: {e}");
    let header = Elf::parse_header(bytes).map_err(bad)?;
    let context = Ctx::new(header.container().map_err(bad)?, header.endianness().map_err(bad)?);
    if header.e_phnum > MAX_SEGMENTS {
        return Err(format!("not an ELF file: {} segments, expected at most {MAX_SEGMENTS}", header.e_phnum));
    }
    let start = usize::try_from(header.e_phoff).map_err(|_| "not an ELF file: its segments are out of bounds")?;
    let segments = ProgramHeader::parse(bytes, start, header.e_phnum.into(), context).map_err(bad)?;
    let mut needs = Needs { machine: header.e_machine, ..Needs::default() };
    if let Some(segment) = segments.iter().find(|s| s.p_type == PT_INTERP) {
        let path = usize::try_from(segment.p_offset).ok().and_then(|at| text(bytes, at));
        needs.interpreter = Some(path.ok_or("not an ELF file: the path of its loader is out of bounds")?);
    }
    let Some(dynamic) = Dynamic::parse(bytes, &segments, context).map_err(bad)? else { return Ok(needs) };
    let strings = bytes.get(dynamic.info.strtab..).unwrap_or_default();
    let strings = strings.get(..dynamic.info.strsz.min(strings.len())).unwrap_or_default();
    let (mut runpath, mut rpath) = (None, None);
    let mut left = bytes.len();
    for entry in &dynamic.dyns {
        match entry.d_tag {
            DT_NEEDED => {
                let name = usize::try_from(entry.d_val).ok().and_then(|at| text(strings, at));
                let name = name.ok_or("not an ELF file: the name of a library is out of bounds")?;
                // Names can overlap in the file, but not here.
                left =
                    left.checked_sub(name.len() + 1).ok_or("not an ELF file: more names of libraries than it holds")?;
                needs.libraries.push(name);
            }
            // The loader takes the last one of each.
            DT_RUNPATH => runpath = usize::try_from(entry.d_val).ok(),
            DT_RPATH => rpath = usize::try_from(entry.d_val).ok(),
            _ => {}
        }
    }
    let lists = runpath.into_iter().chain(rpath).filter_map(|at| text(strings, at));
    let directories = lists.flat_map(|list| list.split(':').map(str::to_owned).collect::<Vec<_>>());
    needs.runpath = directories.filter(|directory| !directory.is_empty()).collect();
    Ok(needs)
}

/// The string that begins at `at` and ends with a NUL.
fn text(bytes: &[u8], at: usize) -> Option<String> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().take(MAX_TEXT).position(|b| *b == 0)?;
    Some(String::from_utf8_lossy(rest.get(..end)?).into_owned())
}

/// A line of ld.so.conf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// A directory with libraries.
    Directory(&'a str),
    /// More files, as a pattern.
    Include(&'a str),
}

/// The lines of one ld.so.conf file that mean something.
pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.map(|line| match line.strip_prefix("include ") {
        Some(pattern) => Line::Include(pattern.trim()),
        None => Line::Directory(line),
    })
}

/// Directories of a tree's ld.so.conf. Each file is read once, or two that include each other twice would fill the memory.
fn configured(root: &Path, file: &Path, depth: u32, seen: &mut BTreeSet<PathBuf>, into: &mut Vec<String>) {
    let Ok(real) = resolve(root, file) else { return };
    if depth > MAX_INCLUDES || !seen.insert(real.clone()) {
        return;
    }
    let Ok(text) = fs::read_to_string(real) else { return };
    for line in lines(&text) {
        let pattern = match line {
            Line::Include(pattern) => pattern,
            Line::Directory(directory) => {
                into.push(directory.to_owned());
                continue;
            }
        };
        // The one pattern that exists in practice: every .conf file of a directory.
        let pattern = Path::new("/etc").join(pattern);
        let (Some(dir), Some(name)) = (pattern.parent(), pattern.file_name()) else { continue };
        if name != "*.conf" {
            configured(root, &pattern, depth + 1, seen, into);
            continue;
        }
        let Ok(real) = resolve(root, dir) else { continue };
        let mut names: Vec<_> = fs::read_dir(real).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
        names.sort();
        for name in names.iter().filter(|n| Path::new(n).extension().is_some_and(|e| e == "conf")) {
            configured(root, &dir.join(name), depth + 1, seen, into);
        }
    }
}

/// Follows what `program` (a file of the tree at `root`) needs, and what that needs.
pub fn closure(root: &Path, program: &Path) -> Result<Closure, String> {
    let mut directories = Vec::new();
    configured(root, Path::new("/etc/ld.so.conf"), 0, &mut BTreeSet::new(), &mut directories);
    directories.extend(DEFAULT_DIRECTORIES.map(str::to_owned));
    let mut found = Closure::default();
    let mut seen = BTreeSet::new();
    let mut work = vec![program.to_path_buf()];
    while let Some(path) = work.pop() {
        let needs = needs(&fs::read(&path).map_err(|e| e.to_string())?)?;
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
        fs::write(etc.join("b.conf"), format!("/b\n{}", "include /etc/ld.so.conf\n".repeat(100))).unwrap();
        fs::write(etc.join("a.conf"), "/a\n").unwrap();
        fs::write(etc.join("ignored"), "/ignored\n").unwrap();
        let mut found = Vec::new();
        configured(dir.path(), Path::new("/etc/ld.so.conf"), 0, &mut BTreeSet::new(), &mut found);
        assert_eq!(found, ["/a", "/b", "/opt/lib"]);
    }

    /// A library whose dynamic section holds these entries; its string table is `strings`.
    fn library(strings: &[u8], entries: &[(u64, u64)]) -> Vec<u8> {
        let words = |words: &[u64]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
        let mut out = vec![0; 64];
        out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        (out[16], out[18], out[20], out[32], out[52], out[54], out[56]) = (3, 62, 1, 64, 64, 56, 2);
        let (at, size) = (64 + 2 * 56 + strings.len() as u64, 16 * (entries.len() as u64 + 2));
        out.extend(words(&[1, 0, 0, 0, at + size, at + size, 8]));
        out.extend(words(&[2, at, at, at, size, size, 8]));
        out.extend(strings);
        out.extend(words(&[5, 64 + 2 * 56, 10, strings.len() as u64]));
        out.extend(entries.iter().flat_map(|(tag, value)| words(&[*tag, *value])));
        out
    }

    #[test]
    fn what_a_library_needs() {
        let strings = b"\0liba.so\0libb.so.1\0/old\0$ORIGIN/x::/opt\0";
        let found = needs(&library(strings, &[(1, 1), (1, 9), (29, 19), (29, 24)])).unwrap();
        assert_eq!(found.libraries, ["liba.so", "libb.so.1"]);
        assert_eq!(found.runpath, ["$ORIGIN/x", "/opt"], "the last one counts");
        assert_eq!((found.machine, found.interpreter), (62, None));
        assert!(needs(&library(strings, &[(1, 1000)])).unwrap_err().contains("out of bounds"));
    }

    #[test]
    fn names_that_overlap_take_no_more_than_the_file() {
        let mut strings = vec![b'a'; 1000];
        strings.push(0);
        let entries: Vec<(u64, u64)> = (0..500).map(|at| (1, at)).collect();
        assert!(needs(&library(&strings, &entries)).unwrap_err().contains("more names of libraries than it holds"));
        let entries: Vec<(u64, u64)> = (0..500).map(|at| (29, at)).collect();
        assert_eq!(needs(&library(&strings, &entries)).unwrap().runpath.len(), 1);
    }

    #[test]
    fn more_segments_than_a_program_can_have() {
        let mut bytes = library(b"\0", &[]);
        bytes.resize(bytes.len() + 2000 * 56, 0);
        bytes[56..58].copy_from_slice(&2000_u16.to_le_bytes());
        assert!(needs(&bytes).unwrap_err().contains("2000 segments"));
    }

    #[test]
    fn a_static_program_needs_nothing() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(closure(Path::new("/"), &own).unwrap(), Closure::default());
        assert!(closure(Path::new("/"), Path::new("/etc/passwd")).is_err());
    }
}
