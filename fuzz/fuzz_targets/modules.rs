//! What depmod and modprobe.d say, separated by NULs: choosing and ordering ends, takes little memory, puts a module after
//! what it needs, and gives a table that reads back the same.
#![no_main]

mod counting;

use std::collections::{BTreeMap, BTreeSet};

use libfuzzer_sys::fuzz_target;
use taproot::initramfs::index::Index;
use taproot::initramfs::modinfo::ModInfo;
use taproot::initramfs::modprobe_d::ModprobeConfig;
use taproot::initramfs::modules::{Packed, Wanted, close, table};
use taproot_init::devices::table::{Module, ModuleTable};

fuzz_target!(|bytes: &[u8]| {
    let mut files = bytes.split(|b| *b == 0);
    let mut next = || files.next().unwrap_or_default();
    let index_files = [next(), next(), next(), next()];
    let modprobe = String::from_utf8_lossy(next());

    let (table, taken) = counting::counted(|| made(index_files, &modprobe));
    assert!(taken <= 128 * bytes.len() + 65536, "{taken} bytes allocated for {} of input", bytes.len());
    let mut seen = BTreeSet::new();
    for module in &table.modules {
        assert!(seen.insert(module.name.as_str()), "{} stands twice", module.name);
        for other in module.deps.iter().chain(&module.soft) {
            assert!(
                seen.contains(other.as_str()) || needs(&table, other, &module.name),
                "{} after {other}",
                module.name
            );
        }
    }
    assert_eq!(ModuleTable::parse(&table.render()).as_ref(), Ok(&table));
});

/// Whether a module needs another, through others: then they need each other, and one must stand first.
fn needs(table: &ModuleTable, from: &str, to: &str) -> bool {
    let by_name: BTreeMap<&str, &Module> = table.modules.iter().map(|m| (m.name.as_str(), m)).collect();
    let (mut work, mut seen) = (vec![from], BTreeSet::new());
    while let Some(name) = work.pop() {
        if name == to {
            return true;
        }
        if seen.insert(name) {
            work.extend(by_name.get(name).iter().flat_map(|m| m.deps.iter().chain(&m.soft)).map(String::as_str));
        }
    }
    false
}

fn made(files: [&[u8]; 4], modprobe: &str) -> ModuleTable {
    let index = Index::parse(files);
    let mut config = ModprobeConfig::default();
    config.parse(modprobe);
    let why = || "wanted".to_owned();
    let first = index.modules.keys().take(3).chain(index.modules.keys().next_back());
    let wanted = Wanted {
        names: first.cloned().chain(["zfs".to_owned(), "fs-ext4".to_owned()]).map(|name| (name, why())).collect(),
        boot: vec!["zfs".to_owned()],
        modaliases: vec![("virtio:d00000002v00001AF4".to_owned(), why())],
    };
    let chosen = close(&index, &config, &wanted);
    let mut packed = BTreeMap::new();
    for name in chosen.keys() {
        let entry = &index.modules[name];
        let path = format!("/lib/modules/6/{}", entry.path);
        // Such a path is refused when the file is packed.
        if path.contains(['\t', '\n', '\0']) {
            return ModuleTable::default();
        }
        packed.insert(name.clone(), Packed { path, data: vec![], info: ModInfo::default(), why: why(), hash: String::new() });
    }
    let table = table(&index, &config, &chosen, &packed);
    assert_eq!(table.modules.len(), chosen.len());
    table
}
