//! From names to a packed module table: closure, load order, contents.

use super::decompress;
use super::index::Index;
use super::modinfo::{self, ModInfo};
use super::modprobe_d::ModprobeConfig;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use taproot_init::devices::table::{Module, ModuleTable, When};

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
    /// Uncompressed.
    pub data: Vec<u8>,
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
    #[error("{path}: {cause}; modules.dep names it, so run depmod or reinstall the kernel's modules")]
    Read {
        /// File.
        path: PathBuf,
        /// System error.
        cause: std::io::Error,
    },
    /// Not a module.
    #[error("{path}: not a kernel module: {reason}; reinstall the package it belongs to")]
    Format {
        /// File.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The closure of what is wanted: dependencies, soft dependencies, with a reason each.
pub fn close(index: &Index, config: &ModprobeConfig, wanted: &Wanted) -> BTreeMap<String, Chosen> {
    let mut chosen: BTreeMap<String, Chosen> = BTreeMap::new();
    let mut work: Vec<(String, String)> = Vec::new();
    for (name, why) in wanted.names.iter().rev() {
        work.extend(index.resolve(name).into_iter().map(|n| (n, why.clone())));
    }
    for (modalias, why) in &wanted.modaliases {
        work.extend(index.matching(modalias).into_iter().map(|name| (name, why.clone())));
    }
    while let Some((name, why)) = work.pop() {
        if chosen.contains_key(&name) {
            continue;
        }
        let Some(entry) = index.modules.get(&name) else { continue };
        chosen.insert(name.clone(), Chosen { why, boot: false });
        work.extend(entry.deps.iter().map(|dep| (dep.clone(), format!("needed by {name}"))));
        for soft in [index.soft.get(&name), config.soft.get(&name)].into_iter().flatten() {
            for other in soft.pre.iter().chain(&soft.post) {
                work.extend(index.resolve(other).into_iter().map(|n| (n, format!("wanted by {name}"))));
            }
        }
    }
    for name in &wanted.boot {
        for name in index.resolve(name) {
            if let Some(module) = chosen.get_mut(&name) {
                module.boot = true;
            }
        }
    }
    chosen
}

/// Reads and decompresses the chosen modules, several at a time.
pub fn read(
    index: &Index,
    version: &str,
    chosen: &BTreeMap<String, Chosen>,
) -> Result<BTreeMap<String, Packed>, ModuleError> {
    let one = |(name, choice): (&String, &Chosen)| {
        let entry_path = index.modules.get(name).map_or("", |e| e.path.as_str());
        let path = index.dir.join(entry_path);
        let raw = std::fs::read(&path).map_err(|cause| ModuleError::Read { path: path.clone(), cause })?;
        let data = decompress::by_name(&path, raw).map_err(|cause| ModuleError::Read { path: path.clone(), cause })?;
        let info = modinfo::parse(&data).map_err(|reason| ModuleError::Format { path: path.clone(), reason })?;
        let image_path = format!("/lib/modules/{version}/{}", decompress::strip_suffix(entry_path));
        Ok((name.clone(), Packed { path: image_path, data, info, why: choice.why.clone() }))
    };
    let list: Vec<(&String, &Chosen)> = chosen.iter().collect();
    list.into_par_iter().map(one).collect()
}

/// The table init reads: in load order, with aliases of the packed modules and modprobe.d's options.
pub fn table(
    index: &Index,
    config: &ModprobeConfig,
    chosen: &BTreeMap<String, Chosen>,
    packed: &BTreeMap<String, Packed>,
) -> ModuleTable {
    let mut order =
        Order { index, chosen, soft: soft_before(index, config, chosen), done: BTreeSet::new(), list: Vec::new() };
    for name in chosen.keys() {
        order.visit(name, &mut Vec::new());
    }
    let module = |ordered: Ordered| {
        let boot = chosen.get(&ordered.name).is_some_and(|c| c.boot);
        let params = config.options.get(&ordered.name).map_or("", String::as_str);
        Some(Module {
            path: packed.get(&ordered.name)?.path.clone(),
            when: if boot { When::Boot } else { When::Device },
            params: params.split_whitespace().collect::<Vec<_>>().join(" "),
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
    let mut add = |later: &str, earlier: &str| {
        let list = before.entry(later.to_owned()).or_default();
        if later != earlier && !list.iter().any(|e| e == earlier) {
            list.push(earlier.to_owned());
        }
    };
    for (name, soft) in index.soft.iter().chain(&config.soft).filter(|(name, _)| chosen.contains_key(*name)) {
        let packed = |list: &[String]| {
            let all = list.iter().flat_map(|other| index.resolve(other));
            all.filter(|other| chosen.contains_key(other)).collect::<Vec<_>>()
        };
        for earlier in packed(&soft.pre) {
            add(name, &earlier);
        }
        for later in packed(&soft.post) {
            add(&later, name);
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
    done: BTreeSet<String>,
    list: Vec<Ordered>,
}

impl Order<'_> {
    /// Depth-first, so that everything stands after what it needs; a circle (hostile or broken index) is cut.
    fn visit(&mut self, name: &str, path: &mut Vec<String>) {
        if self.done.contains(name) || path.iter().any(|p| p == name) || !self.chosen.contains_key(name) {
            return;
        }
        let Some(entry) = self.index.modules.get(name) else { return };
        let soft = self.soft.get(name).cloned().unwrap_or_default();
        let deps: Vec<String> = entry.deps.iter().filter(|d| self.chosen.contains_key(*d)).cloned().collect();
        path.push(name.to_owned());
        for other in soft.iter().chain(&deps) {
            self.visit(other, path);
        }
        path.pop();
        if self.done.insert(name.to_owned()) {
            self.list.push(Ordered { name: name.to_owned(), deps, soft });
        }
    }
}
