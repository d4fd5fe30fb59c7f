//! The libraries of a program, found in the tree it comes from as glibc's loader finds them (ld.so(8)), and where that loader
//! will find them in the image, which has neither ld.so.conf nor a cache.
//!
//! Own code on goblin: lddtree 0.5 reads the packing machine's `/etc/ld.so.conf` and library directories even when it is
//! given another root, so a foreign tree would get this machine's libraries.

use super::tree::{self, Tree, TreeError};
use goblin::container::Ctx;
use goblin::elf::Elf;
use goblin::elf::dynamic::{DT_NEEDED, DT_RPATH, DT_RUNPATH, Dynamic};
use goblin::elf::header::EI_CLASS;
use goblin::elf::program_header::{PT_INTERP, ProgramHeader};
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead as _;
use std::path::{Component, Path, PathBuf};

/// What loaders have built in: on Debian the first two and the last two, elsewhere two of the others.
const DEFAULT_DIRECTORIES: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];
/// Where distributions have libraries that their ld.so.conf or cache names.
const MORE_DIRECTORIES: [&str; 3] = ["/usr/local/lib/x86_64-linux-gnu", "/usr/local/lib64", "/usr/local/lib"];
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
    /// Libraries that no directory has for this kind of processor.
    pub missing: BTreeSet<String>,
}

/// What one file asks the loader for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// 32 or 64 bits, as `e_ident` has it.
    pub class: u8,
    /// Kind of processor, as `e_machine` has it.
    pub machine: u16,
    /// The loader.
    pub interpreter: Option<String>,
    /// Names of libraries, or paths.
    pub libraries: Vec<String>,
    /// Directories for its own libraries.
    pub runpath: Vec<String>,
    /// Directories for its own libraries, theirs, and so on.
    pub rpath: Vec<String>,
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
    let mut needs = Needs {
        class: header.e_ident.get(EI_CLASS).copied().unwrap_or_default(),
        machine: header.e_machine,
        ..Needs::default()
    };
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
    let list = |at: Option<usize>| {
        let text = at.and_then(|at| text(strings, at)).unwrap_or_default();
        text.split(':').filter(|directory| !directory.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    // Who has the newer list has no older one for the loader.
    needs.rpath = if runpath.is_none() { list(rpath) } else { Vec::new() };
    needs.runpath = list(runpath);
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
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("hwcap "));
    lines.map(|line| match line.strip_prefix("include ") {
        Some(pattern) => Line::Include(pattern.trim()),
        None => Line::Directory(line.split('=').next().unwrap_or(line).trim_end()),
    })
}

/// Directories of a tree's ld.so.conf. Each file is read once, or two that include each other twice would fill the memory.
fn configured(
    tree: &Tree,
    file: &Path,
    depth: u32,
    seen: &mut BTreeSet<PathBuf>,
    into: &mut Vec<String>,
) -> Result<(), TreeError> {
    let Some(real) = tree.file(file) else { return Ok(()) };
    if depth > MAX_INCLUDES || !seen.insert(real.clone()) {
        return Ok(());
    }
    let bytes = tree.read(&real, tree::TEXT)?;
    for line in lines(&String::from_utf8_lossy(&bytes)) {
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
            configured(tree, &pattern, depth + 1, seen, into)?;
            continue;
        }
        for name in tree.list(dir)?.iter().filter(|n| Path::new(n).extension().is_some_and(|e| e == "conf")) {
            configured(tree, &dir.join(name), depth + 1, seen, into)?;
        }
    }
    Ok(())
}

/// A directory that is searched: in the tree, and where what was found there will lie in the image.
#[derive(Debug, Clone)]
struct Directory {
    tree: PathBuf,
    image: PathBuf,
}

/// A file whose libraries are still to be found.
struct Object {
    needs: Needs,
    /// Its directory.
    origin: Directory,
    /// `DT_RPATH` of those that it was needed by, nearest first.
    inherited: Vec<Directory>,
}

impl Object {
    /// Puts its directory in for `$ORIGIN`.
    fn expand(&self, list: &[String]) -> Vec<Directory> {
        let with = |directory: &str, origin: &Path| {
            let origin = origin.display().to_string();
            PathBuf::from(directory.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin))
        };
        let one = |directory: &String| Directory {
            tree: with(directory, &self.origin.tree),
            image: with(directory, &self.origin.image),
        };
        list.iter().map(one).collect()
    }
}

/// The search for the libraries of one program.
struct Search<'a> {
    tree: &'a Tree,
    class: u8,
    machine: u16,
    /// Directories for all, in the loader's order.
    shared: Vec<Directory>,
    found: Closure,
    seen: BTreeSet<String>,
    work: Vec<Object>,
}

/// Follows what `program` (of the tree) needs, and what that needs, as it will be at `target` in the image. `optional`
/// libraries are not missing if they are not there.
pub fn closure(tree: &Tree, program: &Path, target: &str, optional: &[&str]) -> Result<Closure, String> {
    let program = tree.file(program).unwrap_or_else(|| program.to_owned());
    let needs = needs(&tree.read(&program, tree::BINARY).map_err(|e| e.to_string())?)?;
    if needs.interpreter.is_none() && needs.libraries.is_empty() {
        return Ok(Closure::default());
    }
    let (class, machine) = (needs.class, needs.machine);
    let mut search = Search {
        tree,
        class,
        machine,
        shared: Vec::new(),
        found: Closure::default(),
        seen: BTreeSet::new(),
        work: Vec::new(),
    };
    search.shared = search.shared(needs.interpreter.as_deref()).map_err(|e| e.to_string())?;
    let above = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
    let origin = Directory { tree: above(&program), image: above(Path::new(target)) };
    let optional: Vec<String> = optional.iter().map(|name| (*name).to_owned()).collect();
    let opener = Object { needs: Needs::default(), origin: origin.clone(), inherited: Vec::new() };
    search.work.push(Object { needs, origin, inherited: Vec::new() });
    search.follow_all();
    for name in optional.iter().filter(|name| !search.seen.contains(*name)).collect::<Vec<_>>() {
        search.library(name, &opener, &[]);
        search.found.missing.remove(name);
    }
    search.follow_all();
    Ok(search.found)
}

impl Search<'_> {
    /// What the loader has built in, in its order, and before that ld.so.conf's directories: what is found only there goes to
    /// the first of the loader's own.
    fn shared(&mut self, interpreter: Option<&str>) -> Result<Vec<Directory>, TreeError> {
        let mut own: Vec<&str> = DEFAULT_DIRECTORIES.to_vec();
        if let Some(interpreter) = interpreter {
            match self.fitting(Path::new(interpreter)) {
                Some((real, _)) => {
                    let loader = self.tree.read(&real, tree::BINARY)?;
                    self.found.files.insert(interpreter.to_owned(), real);
                    let built_in = |directory: &&str| is_string(&loader, &format!("{directory}/"));
                    let known: Vec<&str> = DEFAULT_DIRECTORIES.into_iter().filter(built_in).collect();
                    if !known.is_empty() {
                        own = known;
                    }
                }
                None => drop(self.found.missing.insert(interpreter.to_owned())),
            }
        }
        let first = PathBuf::from(own.first().copied().unwrap_or("/lib"));
        let mut list = Vec::new();
        configured(self.tree, Path::new("/etc/ld.so.conf"), 0, &mut BTreeSet::new(), &mut list)?;
        list.extend(own.iter().chain(&DEFAULT_DIRECTORIES).chain(&MORE_DIRECTORIES).map(|d| (*d).to_owned()));
        let place = |directory: String| {
            let image = if own.contains(&directory.as_str()) { PathBuf::from(&directory) } else { first.clone() };
            Directory { tree: PathBuf::from(directory), image }
        };
        Ok(list.into_iter().map(place).collect())
    }

    /// A file of the tree for the kind of processor that the program is for, and what it needs.
    fn fitting(&self, path: &Path) -> Option<(PathBuf, Needs)> {
        let real = self.tree.file(path)?;
        let needs = needs(&self.tree.read(&real, tree::BINARY).ok()?).ok()?;
        (needs.class == self.class && needs.machine == self.machine).then_some((real, needs))
    }

    fn follow_all(&mut self) {
        while let Some(object) = self.work.pop() {
            let mut inherited = object.expand(&object.needs.rpath);
            inherited.extend(object.inherited.iter().cloned());
            for library in &object.needs.libraries {
                self.library(library, &object, &inherited);
            }
        }
    }

    /// Finds one library of an object.
    fn library(&mut self, library: &str, object: &Object, inherited: &[Directory]) {
        if !self.seen.insert(library.to_owned()) {
            return;
        }
        let before = if object.needs.runpath.is_empty() { inherited } else { &[] };
        let own = object.expand(&object.needs.runpath);
        let search = before.iter().chain(&own).chain(&self.shared);
        let hit = search.map(|directory| (directory.tree.join(library), directory.image.join(library))).find_map(
            |(at, image)| {
                let (real, needs) = self.fitting(&at)?;
                Some((at, plain(&image), real, needs))
            },
        );
        let Some((at, image, real, needs)) = hit else {
            self.found.missing.insert(library.to_owned());
            return;
        };
        self.found.files.insert(image.display().to_string(), real);
        let above = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
        let origin = Directory { tree: above(&at), image: above(&image) };
        self.work.push(Object { needs, origin, inherited: inherited.to_vec() });
    }
}

/// A path without `.` and `..`: the image has no links among its directories.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

/// Whether `wanted`, which begins with a slash, stands somewhere.
pub(super) fn contains(mut bytes: &[u8], wanted: &str) -> bool {
    let Some(wanted) = wanted.as_bytes().strip_prefix(b"/") else { return false };
    while bytes.skip_until(b'/').is_ok_and(|skipped| skipped > 0) {
        if bytes.starts_with(wanted) {
            return true;
        }
    }
    false
}

/// Whether `wanted` is one of the NUL-terminated strings in there, as a whole: `/lib/` is not where `/usr/lib/` stands.
fn is_string(bytes: &[u8], wanted: &str) -> bool {
    bytes.split_inclusive(|byte| *byte == 0).any(|text| text.strip_suffix(&[0]) == Some(wanted.as_bytes()))
}

#[cfg(test)]
mod tests;
