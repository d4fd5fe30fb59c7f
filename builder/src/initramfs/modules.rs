//! From names to a packed module table: closure, load order, contents.

use super::decompress;
use super::index::{Entry, Index};
use super::modinfo::{self, ModInfo};
use super::modprobe_d::ModprobeConfig;
use super::sources;
use super::tree::{self, Tree, TreeError};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use taproot_init::devices::table::{Module, ModuleTable, When};

/// Keeps its tables between modules.
type Compressor = zstd::bulk::Compressor<'static>;

/// A module chosen for the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Why it is packed, e.g. `virtio disks` or `needed by virtio_blk`.
    pub why: String,
    /// Loaded at once, without a device asking.
    pub boot: bool,
}

/// A chosen module with its contents.
#[derive(Debug)]
pub struct Packed {
    /// Path in the image.
    pub path: String,
    /// As it is packed.
    pub data: Vec<u8>,
    /// Hash of its file in the tree.
    pub hash: String,
    /// What `.modinfo` says.
    pub info: ModInfo,
    /// Why it is packed.
    pub why: String,
}

/// What to start from.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Names, or aliases such as `crypto-crc32c`, with the reason.
    pub names: Vec<(String, String)>,
    /// Names to be loaded at once.
    pub boot: Vec<String>,
    /// Modaliases of devices that get their drivers, with the reason.
    pub modaliases: Vec<(String, String)>,
}

/// A module file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// Unreadable file.
    #[error("modules.dep names a file that cannot be read; run depmod, or reinstall the kernel's modules")]
    Read(#[from] TreeError),
    /// Not a module.
    #[error("{path}: not a kernel module: {reason}; reinstall the package it belongs to")]
    Format {
        /// File.
        path: std::path::PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The closure of what is wanted: dependencies, soft dependencies, with a reason each.
pub fn close(index: &Index, config: &ModprobeConfig, wanted: &Wanted) -> BTreeMap<String, Chosen> {
    let mut closure = Closure { index, config, chosen: BTreeMap::new(), asked: BTreeSet::new() };
    for (modalias, why) in &wanted.modaliases {
        closure.add(index.matching(modalias), why);
    }
    for (name, why) in &wanted.names {
        closure.add(index.resolve(name), why);
    }
    let mut chosen = closure.chosen;
    for name in &wanted.boot {
        for name in index.resolve(name) {
            if let Some(module) = chosen.get_mut(&name) {
                module.boot = true;
            }
        }
    }
    chosen
}

/// What is chosen so far.
struct Closure<'a> {
    index: &'a Index,
    config: &'a ModprobeConfig,
    chosen: BTreeMap<String, Chosen>,
    /// Words of soft dependencies that were followed.
    asked: BTreeSet<&'a str>,
}

impl<'a> Closure<'a> {
    /// Adds modules and all that they need, each once and in memory for each once: an index can hold circles and a word
    /// that means many modules.
    fn add(&mut self, names: Vec<String>, why: &str) {
        let mut work = Vec::new();
        for name in names {
            self.choose(name, why, &mut work);
        }
        while let Some((name, entry)) = work.pop() {
            let soft = [self.index.soft.get(&name), self.config.soft.get(&name)];
            for other in soft.into_iter().flatten().flat_map(|soft| soft.pre.iter().chain(&soft.post)) {
                if self.asked.insert(other) {
                    for found in self.index.resolve(other) {
                        self.choose(found, &format!("wanted by {name}"), &mut work);
                    }
                }
            }
            for dep in &entry.deps {
                self.choose(dep.clone(), &format!("needed by {name}"), &mut work);
            }
        }
    }

    fn choose(&mut self, name: String, why: &str, work: &mut Vec<(String, &'a Entry)>) {
        let blocked = |name: &String| self.config.blocked.contains(name);
        if let Some(entry) = self.index.modules.get(&name)
            && !self.chosen.contains_key(&name)
            && !blocked(&name)
            && !entry.deps.iter().any(blocked)
        {
            self.chosen.insert(name.clone(), Chosen { why: why.to_owned(), boot: false });
            work.push((name, entry));
        }
    }
}

/// Reads the chosen modules, several at a time, and compresses each by itself at a level of zstd, if there is one.
pub fn read(
    tree: &Tree,
    index: &Index,
    version: &str,
    chosen: &BTreeMap<String, Chosen>,
    level: Option<i32>,
) -> Result<BTreeMap<String, Packed>, ModuleError> {
    // Each thread has one compressor: its tables are larger than most modules.
    let compressor = || level.map(zstd::bulk::Compressor::new).transpose();
    let one = |compressor: &mut io::Result<Option<Compressor>>, (name, choice): (&String, &Chosen)| {
        let entry_path = index.modules.get(name).map_or("", |e| e.path.as_str());
        let inside = index.dir.join(entry_path);
        let path = tree.shown(&inside);
        let raw = tree.read(&inside, tree::BINARY)?;
        let hash = sources::hash(&raw);
        let failed = |cause| ModuleError::Read(TreeError::Io { path: path.clone(), cause });
        let data = decompress::by_name(&inside, raw).map_err(failed)?;
        let info = modinfo::parse(&data).map_err(|reason| ModuleError::Format { path: path.clone(), reason })?;
        // depmod writes whole paths for what lies elsewhere.
        let mut image_path = match decompress::strip_suffix(entry_path) {
            whole if whole.starts_with('/') => whole.to_owned(),
            relative => format!("/lib/modules/{version}/{relative}"),
        };
        let mut data = data;
        match compressor {
            Ok(None) => {}
            Ok(Some(compressor)) => {
                image_path.push_str(".zst");
                data = compressor.compress(&data).map_err(failed)?;
                // It has room for the worst case.
                data.shrink_to_fit();
            }
            Err(error) => return Err(failed(io::Error::other(error.to_string()))),
        }
        Ok((name.clone(), Packed { path: image_path, data, hash, info, why: choice.why.clone() }))
    };
    let list: Vec<(&String, &Chosen)> = chosen.iter().collect();
    list.into_par_iter().map_init(compressor, one).collect()
}

/// The table init reads: in load order, with aliases of the packed modules and modprobe.d's options.
pub fn table(
    index: &Index,
    config: &ModprobeConfig,
    chosen: &BTreeMap<String, Chosen>,
    packed: &BTreeMap<String, Packed>,
) -> ModuleTable {
    let mut order =
        Order { index, chosen, soft: soft_before(index, config, chosen), begun: BTreeSet::new(), list: Vec::new() };
    for name in chosen.keys() {
        order.visit(name);
    }
    let module = |ordered: Ordered| {
        let boot = chosen.get(&ordered.name).is_some_and(|c| c.boot);
        let params = config.options.get(&ordered.name).map_or("", String::as_str);
        Some(Module {
            path: packed.get(&ordered.name)?.path.clone(),
            when: if boot { When::Boot } else { When::Device },
            params: params.split_whitespace().filter(|param| *param != "-").collect::<Vec<_>>().join(" "),
            name: ordered.name,
            deps: ordered.deps,
            soft: ordered.soft,
        })
    };
    let aliases = config.aliases.iter().chain(&index.aliases);
    let mut blacklist: Vec<String> = config.blacklist.iter().filter(|n| chosen.contains_key(*n)).cloned().collect();
    blacklist.sort();
    blacklist.dedup();
    ModuleTable {
        modules: order.list.into_iter().filter_map(module).collect(),
        aliases: aliases
            .filter(|(pattern, name)| chosen.contains_key(name) && device_alias(pattern))
            .cloned()
            .collect(),
        blacklist,
    }
}

/// Aliases of buses that x86 machines have. Others (`fs-ext4`, `crypto-...`, `net-pf-...`) are names, not devices, and
/// device-tree patterns match nothing here.
fn device_alias(pattern: &str) -> bool {
    pattern.split_once(':').is_some_and(|(bus, _)| bus != "of" && !bus.is_empty()) && !pattern.contains('\t')
}

/// What each module is to be loaded after, if that can be had: its own `pre` list, and those whose `post` list names it.
fn soft_before(
    index: &Index,
    config: &ModprobeConfig,
    chosen: &BTreeMap<String, Chosen>,
) -> BTreeMap<String, Vec<String>> {
    let mut before: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut add = |later: &str, earlier: &str| {
        if later != earlier && seen.insert((later.to_owned(), earlier.to_owned())) {
            before.entry(later.to_owned()).or_default().push(earlier.to_owned());
        }
    };
    for (name, soft) in index.soft.iter().chain(&config.soft).filter(|(name, _)| chosen.contains_key(*name)) {
        for (words, first) in [(&soft.pre, true), (&soft.post, false)] {
            for other in words.iter().flat_map(|word| index.resolve(word)).filter(|other| chosen.contains_key(other)) {
                if first { add(name, &other) } else { add(&other, name) }
            }
        }
    }
    before
}

struct Ordered {
    name: String,
    deps: Vec<String>,
    soft: Vec<String>,
}

/// The load order under construction.
struct Order<'a> {
    index: &'a Index,
    chosen: &'a BTreeMap<String, Chosen>,
    soft: BTreeMap<String, Vec<String>>,
    begun: BTreeSet<String>,
    list: Vec<Ordered>,
}

impl Order<'_> {
    /// Depth-first, so that everything stands after what it needs; a circle (hostile or broken index) is cut. Not recursive:
    /// such an index can be deeper than the stack.
    fn visit(&mut self, name: &str) {
        let mut path: Vec<(Ordered, usize)> = self.begin(name).into_iter().map(|module| (module, 0)).collect();
        while let Some((module, at)) = path.last_mut() {
            let next = module.soft.iter().chain(&module.deps).nth(*at).cloned();
            *at += 1;
            match next {
                Some(name) => path.extend(self.begin(&name).map(|module| (module, 0))),
                None => self.list.extend(path.pop().map(|(module, _)| module)),
            }
        }
    }

    /// The module, unless it stands in the order already or in the path to it.
    fn begin(&mut self, name: &str) -> Option<Ordered> {
        let entry = self.index.modules.get(name).filter(|_| self.chosen.contains_key(name))?;
        if !self.begun.insert(name.to_owned()) {
            return None;
        }
        let deps = entry.deps.iter().filter(|dep| self.chosen.contains_key(*dep)).cloned().collect();
        Some(Ordered { name: name.to_owned(), deps, soft: self.soft.remove(name).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(index: &Index, name: &str) -> BTreeMap<String, Chosen> {
        let wanted = Wanted { names: vec![(name.to_owned(), "test".to_owned())], ..Wanted::default() };
        close(index, &ModprobeConfig::default(), &wanted)
    }

    fn ordered(index: &Index, chosen: &BTreeMap<String, Chosen>, config: &ModprobeConfig) -> ModuleTable {
        let one = |name: &String| {
            let path = format!("/{name}.ko");
            (
                name.clone(),
                Packed { path, data: vec![], hash: String::new(), info: ModInfo::default(), why: String::new() },
            )
        };
        table(index, config, chosen, &chosen.keys().map(one).collect())
    }

    #[test]
    fn an_index_deeper_than_the_stack() {
        let lines = (0..100_000).map(|n| format!("m{n}.ko: m{}.ko\n", n + 1)).collect::<Vec<_>>().concat();
        let index = Index::parse([lines.as_bytes(), b"", b"", b""]);
        let all = chosen(&index, "m0");
        let table = ordered(&index, &all, &ModprobeConfig::default());
        assert_eq!((all.len(), table.modules.len()), (100_000, 100_000));
        assert_eq!(table.modules.first().map(|m| m.name.as_str()), Some("m99999"));
    }

    #[test]
    fn circles_and_reasons() {
        let index = Index::parse([
            b"a.ko: b.ko\nb.ko: a.ko\nc.ko:\nd.ko:\n",
            b"alias soft-x c\nalias soft-x absent\n",
            b"softdep b pre: soft-x post: d\n",
            b"",
        ]);
        let all = chosen(&index, "a");
        let reasons: Vec<&str> = all.values().map(|c| c.why.as_str()).collect();
        assert_eq!(reasons, ["test", "needed by a", "wanted by b", "wanted by b"]);
        let table = ordered(&index, &all, &ModprobeConfig::default());
        assert_eq!(table.modules.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["c", "b", "a", "d"]);
    }

    /// Every word that means all modules is followed once, and every module waits to be looked at once.
    #[test]
    fn words_that_mean_many_modules() {
        let names = |n: usize| format!("m{n}");
        let dep = (0..3000).map(|n| format!("{}.ko:\n", names(n))).collect::<Vec<_>>().concat();
        let alias = (0..3000).map(|n| format!("alias * {}\n", names(n))).collect::<Vec<_>>().concat();
        let soft = (0..3000).map(|n| format!("softdep {} pre: all every{n}\n", names(n))).collect::<Vec<_>>().concat();
        let index = Index::parse([dep.as_bytes(), alias.as_bytes(), soft.as_bytes(), b""]);
        let all = chosen(&index, "m0");
        assert_eq!(all.len(), index.resolve("all").len());
        assert!(ordered(&index, &all, &ModprobeConfig::default()).modules.iter().all(|m| m.soft.len() < all.len()));
    }

    #[test]
    fn what_is_blocked_stays_out_with_what_needs_it() {
        let index = Index::parse([b"a.ko: b.ko\nb.ko:\nc.ko:\n", b"alias x:* a\nalias x:* c\n", b"", b""]);
        let mut config = ModprobeConfig::default();
        config.parse("install b /bin/false\ninstall c /sbin/modprobe --ignore-install c\n");
        let wanted = Wanted { modaliases: vec![("x:1".into(), "test".into())], ..Wanted::default() };
        assert_eq!(close(&index, &config, &wanted).into_keys().collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn a_parameter_that_stands_for_nothing_in_the_table() {
        let index = Index::parse([b"a.ko:\n", b"", b"", b""]);
        let mut config = ModprobeConfig::default();
        config.parse("options a -\n");
        let table = ordered(&index, &chosen(&index, "a"), &config);
        assert_eq!(ModuleTable::parse(&table.render()), Ok(table));
    }
}
