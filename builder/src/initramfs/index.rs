//! What depmod wrote about a kernel's modules: `modules.dep`, `modules.alias`, `modules.softdep`, `modules.builtin`,
//! `modules.builtin.modinfo`.

use super::tree::{self, Tree, TreeError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use taproot_init::devices::aliases::glob;
use taproot_init::devices::table::canonical_name;

/// One module on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the module directory, as in `modules.dep`.
    pub path: String,
    /// Canonical names of everything it needs, nearest first (depmod lists the whole closure).
    pub deps: Vec<String>,
}

/// `softdep` of one module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Soft {
    /// To be loaded before, if possible.
    pub pre: Vec<String>,
    /// To be loaded after, if possible.
    pub post: Vec<String>,
}

/// The index of one module directory.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// The directory in the tree.
    pub dir: PathBuf,
    /// By canonical name.
    pub modules: BTreeMap<String, Entry>,
    /// Pattern and canonical name, in file order.
    pub aliases: Vec<(String, String)>,
    /// By canonical name.
    pub soft: BTreeMap<String, Soft>,
    /// Canonical names of what is built into the kernel.
    pub builtin: BTreeSet<String>,
    /// Aliases of that; `None` where nothing says them.
    pub builtin_aliases: Option<BTreeSet<String>>,
    /// Files beside `modules.dep` that are missing or cannot be read, and why: without them devices have no drivers.
    pub lacking: Vec<String>,
}

/// Canonical module name of a file such as `kernel/fs/ext4/ext4.ko.xz`.
pub fn name_of(path: &str) -> String {
    let base = path.rsplit('/').next().unwrap_or(path);
    canonical_name(base.split(".ko").next().unwrap_or(base))
}

/// The kernel's `MODULE_NAME_LEN` on 64 bits, without the NUL.
const MAX_NAME: usize = 55;
/// A name that is no module's stands for a few modules by their aliases (`crypto-crc32c`: 3).
const MAX_MEANT: usize = 16;

/// Whether a module can have this canonical name; an index can hold anything.
fn possible(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.contains(|c: char| c == ',' || c.is_whitespace() || c.is_control())
}

/// Why a module directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{cause}; expected the module index that depmod writes (run: depmod -b ROOT {version}); {there}")]
pub struct IndexError {
    version: String,
    there: String,
    cause: TreeError,
}

/// Which kernels a tree has, in words.
pub fn kernels_there(tree: &Tree) -> String {
    match tree.kernels() {
        Ok(list) if list.is_empty() => format!("{tree} has no kernel with a modules.dep"),
        Ok(list) => format!("kernels in {tree}: {}", list.join(", ")),
        Err(error) => error.to_string(),
    }
}

impl Index {
    /// Reads the index of one kernel. Only `modules.dep` must be there.
    pub fn read(tree: &Tree, version: &str) -> Result<Self, IndexError> {
        let dir = tree.modules(version);
        let read = |name: &str| tree.read(dir.join(name), tree::TEXT);
        let failed = |cause| IndexError { version: version.to_owned(), there: kernels_there(tree), cause };
        let dep = read("modules.dep").map_err(failed)?;
        let mut lacking = Vec::new();
        let mut beside = |name: &str| {
            // depmod begins its files with a line about itself; nothing at all is what a power cut or a full disk leaves.
            let found = match read(name) {
                Ok(bytes) if bytes.is_empty() && name != "modules.builtin" => {
                    format!("{}: it is empty", tree.shown(dir.join(name)).display())
                }
                Ok(bytes) => return bytes,
                Err(error) => error.to_string(),
            };
            lacking.push(format!(
                "{found}; expected what depmod and the kernel's package write (run: depmod -b ROOT {version})"
            ));
            Vec::new()
        };
        let (alias, soft, builtin) = (beside("modules.alias"), beside("modules.softdep"), beside("modules.builtin"));
        // Not in kernels before 5.2.
        let builtin_aliases = read("modules.builtin.modinfo").ok().map(|bytes| parse_builtin_aliases(&bytes));
        Ok(Self { dir, builtin_aliases, lacking, ..Self::parse([&dep, &alias, &soft, &builtin]) })
    }

    /// From the contents of `modules.dep`, `modules.alias`, `modules.softdep` and `modules.builtin`; total over any bytes.
    pub fn parse(files: [&[u8]; 4]) -> Self {
        let [dep, alias, softdep, builtin] = files.map(String::from_utf8_lossy);
        Self {
            dir: PathBuf::new(),
            lacking: Vec::new(),
            builtin_aliases: None,
            modules: parse_dep(&dep),
            aliases: parse_alias(&alias),
            soft: parse_softdep(&softdep),
            builtin: builtin.lines().map(name_of).collect(),
        }
    }

    /// What modules need by `modules.dep`, though it has no line for that, and it is not built in: a file that was cut off.
    pub fn torn<'a>(&'a self, names: impl Iterator<Item = &'a String>) -> Vec<String> {
        let entries = names.filter_map(|name| Some((name, self.modules.get(name)?)));
        let missing = |dep: &&String| !self.modules.contains_key(*dep) && !self.builtin.contains(*dep);
        let torn = entries.filter_map(|(name, entry)| Some((name, entry.deps.iter().find(missing)?)));
        torn.map(|(name, dep)| format!("module {name} needs {dep}, for which modules.dep has no line (run: depmod)"))
            .collect()
    }

    /// Modules that a name means: itself, or those with a matching alias (`crypto-crc32c`, `fs-ext4`).
    pub fn resolve(&self, name: &str) -> Vec<String> {
        let canonical = canonical_name(name);
        if self.modules.contains_key(&canonical) {
            return vec![canonical];
        }
        self.hits(name, MAX_MEANT)
    }

    /// Modules whose alias matches a device or alias name, without repetition.
    pub fn matching(&self, modalias: &str) -> Vec<String> {
        self.hits(modalias, usize::MAX)
    }

    fn hits(&self, modalias: &str, most: usize) -> Vec<String> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for (pattern, name) in &self.aliases {
            if found.len() >= most {
                break;
            }
            // The first bytes decide nearly always; most patterns start with a bus name.
            let literal = pattern.bytes().take_while(|b| !matches!(b, b'*' | b'?' | b'['));
            if literal.zip(modalias.bytes()).all(|(a, b)| a == b)
                && !seen.contains(name.as_str())
                && glob(pattern.as_bytes(), modalias.as_bytes())
            {
                seen.insert(name.as_str());
                found.push(name.clone());
            }
        }
        found
    }
}

/// Lines of what no module can be called are skipped.
fn parse_dep(text: &str) -> BTreeMap<String, Entry> {
    let line = |line: &str| {
        let (path, deps) = line.split_once(':')?;
        let name = Some(name_of(path)).filter(|name| possible(name))?;
        let deps = deps.split_whitespace().map(name_of).filter(|dep| possible(dep)).collect();
        Some((name, Entry { path: path.to_owned(), deps }))
    };
    text.lines().filter_map(line).collect()
}

fn parse_alias(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let rest = line.strip_prefix("alias ")?;
        // Patterns may hold spaces (DMI strings do); module names never.
        let (pattern, name) = rest.trim_end().rsplit_once(' ')?;
        let name = Some(canonical_name(name)).filter(|name| possible(name))?;
        Some((pattern.to_owned(), name))
    };
    text.lines().filter_map(line).collect()
}

/// `NAME.alias=crypto-crc32c` and the like, each with a NUL.
fn parse_builtin_aliases(bytes: &[u8]) -> BTreeSet<String> {
    let alias = |text: &[u8]| {
        let text = std::str::from_utf8(text).ok()?;
        Some(text.split_once('.')?.1.strip_prefix("alias=")?.to_owned())
    };
    bytes.split(|byte| *byte == 0).filter_map(alias).collect()
}

/// `softdep NAME pre: a b post: c`; words before the first of the two labels mean nothing.
pub fn parse_softdep(text: &str) -> BTreeMap<String, Soft> {
    let mut all: BTreeMap<String, Soft> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("softdep") {
            continue;
        }
        let Some(name) = words.next() else { continue };
        let soft = all.entry(canonical_name(name)).or_default();
        let mut into: Option<&mut Vec<String>> = None;
        for word in words {
            match word {
                "pre:" => into = Some(&mut soft.pre),
                "post:" => into = Some(&mut soft.post),
                _ => {
                    if let Some(list) = &mut into {
                        list.push(word.to_owned());
                    }
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_dependencies() {
        let modules =
            parse_dep("kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc-16.ko.xz kernel/fs/jbd2/jbd2.ko\nupdates/zfs.ko:\n");
        assert_eq!(modules["ext4"].deps, ["crc_16", "jbd2"]);
        assert_eq!(modules["zfs"].path, "updates/zfs.ko");
    }

    #[test]
    fn what_no_module_can_be_called_is_skipped() {
        let long = "n".repeat(56);
        let modules = parse_dep(&format!("a/.ko:\na,b.ko:\na b.ko:\na\tb.ko:\n{long}.ko:\nx.ko: .ko {long}.ko y.ko\n"));
        assert_eq!(modules.keys().collect::<Vec<_>>(), ["x"]);
        assert_eq!(modules["x"].deps, ["y"]);
        assert_eq!(parse_alias(&format!("alias x:y {long}\nalias x:y a,b\nalias x:y z\n")).len(), 1);
    }

    #[test]
    fn a_name_means_few_modules_and_a_device_as_many_as_match() {
        let lines = (0..1000).map(|n| format!("alias * m{n}\n")).collect::<Vec<_>>().concat();
        let index = Index { aliases: parse_alias(&lines), ..Index::default() };
        assert_eq!(index.resolve("x").len(), MAX_MEANT);
        assert_eq!(index.matching("x").len(), 1000);
    }

    #[test]
    fn files_that_were_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let modules = dir.path().join("lib/modules/1");
        std::fs::create_dir_all(&modules).unwrap();
        let texts = [("dep", "zfs.ko: spl.ko\n"), ("alias", ""), ("softdep", "# by depmod\n"), ("builtin", "")];
        for (name, text) in texts {
            std::fs::write(modules.join(format!("modules.{name}")), text).unwrap();
        }
        let index = Index::read(&Tree::open(dir.path()).unwrap(), "1").unwrap();
        assert_eq!(index.lacking.len(), 1, "{:?}", index.lacking);
        assert!(index.lacking[0].contains("modules.alias: it is empty"), "{:?}", index.lacking);
        assert_eq!(
            index.torn(index.modules.keys()),
            ["module zfs needs spl, for which modules.dep has no line (run: depmod)"]
        );
        let whole = Index::parse([b"zfs.ko: spl.ko\nx.ko: y.ko\nspl.ko:\n", b"", b"", b"kernel/y.ko\n"]);
        assert!(whole.torn(whole.modules.keys()).is_empty());
    }

    #[test]
    fn soft_dependencies() {
        let soft =
            parse_softdep("# x\nsoftdep ext4 pre: crypto-crc32c\nsoftdep cifs gcm\nsoftdep a-b post: c pre: d e\n");
        assert_eq!(soft["ext4"].pre, ["crypto-crc32c"]);
        let builtin =
            parse_builtin_aliases(b"crc32c_generic.license=GPL\0crc32c_generic.alias=crypto-crc32c\0x\0\xff.alias=y\0");
        assert_eq!(builtin, ["crypto-crc32c".to_owned()].into());
        assert_eq!(soft["cifs"], Soft::default());
        assert_eq!(
            (soft["a_b"].pre.as_slice(), soft["a_b"].post.as_slice()),
            (["d", "e"].map(String::from).as_slice(), ["c"].map(String::from).as_slice())
        );
    }

    #[test]
    fn aliases_resolve_to_modules() {
        let index = Index {
            aliases: parse_alias(
                "alias crypto-crc32c crc32c_generic\nalias virtio:d00000002v* virtio-blk\nalias dmi*:bvn A B:* x\n",
            ),
            modules: parse_dep("a/zfs.ko:\n"),
            ..Index::default()
        };
        assert_eq!(index.resolve("crypto-crc32c"), ["crc32c_generic"]);
        assert_eq!(index.matching("virtio:d00000002v00001AF4"), ["virtio_blk"]);
        assert_eq!(index.resolve("zfs"), ["zfs"]);
        assert!(index.resolve("nothing").is_empty());
    }

    proptest! {
        #[test]
        fn parsers_are_total(text in ".{0,300}") {
            let _ = parse_dep(&text);
            let _ = parse_softdep(&text);
            for (pattern, _) in parse_alias(&format!("alias {text} x")) {
                let index = Index { aliases: vec![(pattern, "x".into())], ..Index::default() };
                let _ = index.matching(&text);
            }
        }
    }
}
