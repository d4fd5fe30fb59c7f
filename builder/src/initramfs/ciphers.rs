//! Whether what a file system computes with is packed.

use super::index::Index;
use super::modprobe_d::ModprobeConfig;
use super::modules::Chosen;
use super::preflight::Remarks;
use std::collections::{BTreeMap, BTreeSet};

/// Checks the ciphers and checksums that needed modules ask for by an alias (`softdep ext4 pre: crypto-crc32c`): the kernel would run
/// modprobe for them, and without them the file system is not mounted (ENOENT). Other soft dependencies are wishes.
pub fn check(
    (index, modprobe): (&Index, &ModprobeConfig),
    chosen: &BTreeMap<String, Chosen>,
    needed: &BTreeSet<String>,
    remarks: &mut Remarks,
) {
    for name in needed.iter().filter(|name| chosen.contains_key(*name)) {
        let soft = [index.soft.get(name), modprobe.soft.get(name)].into_iter().flatten();
        for word in soft.flat_map(|soft| &soft.pre).filter(|word| word.starts_with("crypto-")) {
            let found = index.resolve(word);
            let builtin = index.builtin_aliases.as_ref().map(|aliases| aliases.contains(word));
            if builtin == Some(true) || found.iter().any(|module| chosen.contains_key(module)) {
                continue;
            }
            let blocked = found.iter().find(|module| modprobe.blocked.contains(*module));
            let text = match blocked {
                Some(module) => format!(
                    "module {name} needs {word}, and {module} is kept out, because modprobe.d says: install {module} /bin/false; take \
                     that line out"
                ),
                None => format!(
                    "module {name} needs {word}, and no module below {} is that: the kernel's package is not whole; install it again",
                    index.dir.display()
                ),
            };
            if builtin.is_none() && blocked.is_none() {
                remarks.notes.push(format!("{text} (if it is not built into the kernel)"));
            } else {
                remarks.problems.push(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initramfs::modules::{self, Wanted};

    /// ext4 with its checksum packed, built in, kept out, missing, and where nothing says what is built in.
    #[test]
    fn a_checksum_that_a_file_system_asks_for() {
        let files: [&[u8]; 4] = [
            b"ext4.ko:\ncrc32c_generic.ko:\n",
            b"alias crypto-crc32c crc32c_generic\n",
            b"softdep ext4 pre: crypto-crc32c realtek\n",
            b"",
        ];
        let whole = Index { builtin_aliases: Some(BTreeSet::new()), ..Index::parse(files) };
        let torn = Index { builtin_aliases: Some(BTreeSet::new()), ..Index::parse([files[0], b"", files[2], b""]) };
        let builtin = Index { builtin_aliases: Some(["crypto-crc32c".to_owned()].into()), ..torn.clone() };
        let unknown = Index { builtin_aliases: None, ..torn.clone() };
        let out = ModprobeConfig { blocked: ["crc32c_generic".to_owned()].into(), ..ModprobeConfig::default() };
        let nothing = ModprobeConfig::default();
        let said = |index: &Index, config: &ModprobeConfig| {
            let wanted = Wanted { names: vec![("ext4".into(), "root".into())], ..Wanted::default() };
            let (chosen, mut remarks) = (modules::close(index, config, &wanted), Remarks::default());
            check((index, config), &chosen, &["ext4".to_owned()].into(), &mut remarks);
            (remarks.problems.concat(), remarks.notes.concat())
        };
        for (index, config) in [(&whole, &nothing), (&builtin, &nothing), (&builtin, &out)] {
            assert_eq!(said(index, config), (String::new(), String::new()));
        }
        assert!(said(&whole, &out).0.contains("crc32c_generic is kept out"));
        assert!(said(&torn, &nothing).0.contains("module ext4 needs crypto-crc32c, and no module"));
        assert!(said(&unknown, &nothing).1.contains("if it is not built into the kernel"));
    }
}
