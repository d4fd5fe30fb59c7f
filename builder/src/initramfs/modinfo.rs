//! The `.modinfo` section of a module: `key=value` strings separated by NULs.

use goblin::container::Ctx;
use goblin::elf::{Elf, SectionHeader};
use std::collections::BTreeMap;

/// What we use of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModInfo {
    /// Kernel release and flags the module was built for.
    pub vermagic: Option<String>,
    /// Firmware files it may ask for.
    pub firmware: Vec<String>,
    /// Module's own version.
    pub version: Option<String>,
    /// Types of its parameters (`parmtype`), by name.
    pub parameters: BTreeMap<String, String>,
    /// Checksums of the kernel's symbols that it uses, if it has any.
    pub crcs: Option<BTreeMap<String, u64>>,
}

impl ModInfo {
    /// Kernel release of the vermagic: its first word.
    pub fn kernel(&self) -> Option<&str> {
        self.vermagic.as_deref().and_then(|v| v.split_whitespace().next())
    }

    /// How the kernel was built that it is for: the rest of the vermagic.
    pub fn flags(&self) -> &str {
        let magic = self.vermagic.as_deref().unwrap_or_default();
        magic.split_once(' ').map_or("", |(_, flags)| flags.trim())
    }
}

/// Reads a module file; total over any bytes, in memory in proportion to them. Symbols and relocations are not looked at.
pub fn parse(module: &[u8]) -> Result<ModInfo, String> {
    let sections = Sections::parse(module)?;
    let mut info = ModInfo { crcs: sections.find("__versions").map(crcs), ..ModInfo::default() };
    if let (Some(sums), Some(names)) = (sections.find("__version_ext_crcs"), sections.find("__version_ext_names")) {
        info.crcs.get_or_insert_default().extend(extended_crcs(sums, names));
    }
    for text in sections.find(".modinfo").ok_or("it has no .modinfo section")?.split(|b| *b == 0) {
        let mut parts = text.splitn(2, |b| *b == b'=');
        let (key, Some(value)) = (parts.next(), parts.next()) else { continue };
        let value = || String::from_utf8_lossy(value).into_owned();
        match key {
            Some(b"vermagic") => info.vermagic = Some(value()),
            Some(b"version") => info.version = Some(value()),
            Some(b"firmware") => info.firmware.push(value()),
            Some(b"parmtype") => {
                info.parameters.extend(value().split_once(':').map(|(name, kind)| (name.to_owned(), kind.to_owned())));
            }
            _ => {}
        }
    }
    Ok(info)
}

/// `struct modversion_info` of the kernel: a checksum, then a name, in 64 bytes each.
fn crcs(section: &[u8]) -> BTreeMap<String, u64> {
    let one = |entry: &[u8]| {
        let (crc, name) = entry.split_first_chunk::<8>()?;
        let name = name.split(|b| *b == 0).next()?;
        Some((String::from_utf8_lossy(name).into_owned(), u64::from_le_bytes(*crc)))
    };
    section.chunks_exact(64).filter_map(one).collect()
}

/// The form for names of any length (Linux 6.14): checksums of 4 bytes, and the names in the same order, each with a NUL.
fn extended_crcs<'a>(sums: &'a [u8], names: &'a [u8]) -> impl Iterator<Item = (String, u64)> + 'a {
    let sums = sums.chunks_exact(4).filter_map(|sum| Some(u64::from(u32::from_le_bytes(sum.try_into().ok()?))));
    let names = names.split(|b| *b == 0).map(|name| String::from_utf8_lossy(name).into_owned());
    names.zip(sums).filter(|(name, _)| !name.is_empty())
}

/// The sections of a module.
struct Sections<'a> {
    module: &'a [u8],
    list: Vec<SectionHeader>,
    names: &'a [u8],
}

impl<'a> Sections<'a> {
    fn parse(module: &'a [u8]) -> Result<Self, String> {
        let bad = |e: goblin::error::Error| e.to_string();
        let header = Elf::parse_header(module).map_err(bad)?;
        let context = Ctx::new(header.container().map_err(bad)?, header.endianness().map_err(bad)?);
        let start = usize::try_from(header.e_shoff).map_err(|_| "its sections are out of bounds")?;
        let list = SectionHeader::parse(module, start, header.e_shnum.into(), context).map_err(bad)?;
        // With 65280 sections or more the index stands in the first one.
        let names = match header.e_shstrndx {
            0xffff => list.first().and_then(|first| list.get(usize::try_from(first.sh_link).ok()?)),
            index => list.get(usize::from(index)),
        };
        let names = names.and_then(|section| module.get(section.file_range()?));
        Ok(Self { module, names: names.ok_or("the names of its sections are out of bounds")?, list })
    }

    /// The bytes of the first section of that name.
    fn find(&self, name: &str) -> Option<&'a [u8]> {
        let called = |section: &&SectionHeader| {
            let rest = self.names.get(section.sh_name..).and_then(|rest| rest.strip_prefix(name.as_bytes()));
            rest.is_some_and(|rest| rest.starts_with(&[0]))
        };
        self.list.iter().find(called).and_then(|section| self.module.get(section.file_range()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A module with these sections besides the names of the sections, which stand last.
    fn module(sections: &[(u32, &[u8])], names: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 64];
        out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        (out[16], out[18], out[20]) = (1, 62, 1);
        let mut headers = vec![[0; 8]];
        for (name, bytes) in sections.iter().chain(&[(0, names)]) {
            headers.push([u64::from(*name) | 1 << 32, 0, 0, out.len() as u64, bytes.len() as u64, 0, 1, 0]);
            out.extend(*bytes);
        }
        let (at, count) = (out.len() as u64, u8::try_from(headers.len()).unwrap());
        out.extend(headers.iter().flatten().flat_map(|word| word.to_le_bytes()));
        out[40..48].copy_from_slice(&at.to_le_bytes());
        (out[58], out[60], out[62]) = (64, count, count - 1);
        out
    }

    #[test]
    fn fields() {
        let info = b"vermagic=6.1 SMP\0version=2\0firmware=a\0firmware=b\0x\0";
        let found = parse(&module(&[(1, b"text"), (7, info)], b"\0.text\0.modinfo\0")).unwrap();
        assert_eq!((found.kernel(), found.version.as_deref()), (Some("6.1"), Some("2")));
        assert_eq!(found.firmware, ["a", "b"]);
        assert_eq!((found.flags(), &found.crcs), ("SMP", &None));
        let mut versions = [0; 128];
        versions[..13].copy_from_slice(b"\x05\0\0\0\0\0\0\0_prin");
        versions[64] = 7;
        let info = b"vermagic=6.1\0parmtype=a:int\0parmtype=odd\0";
        let found = parse(&module(&[(10, &versions), (1, info)], b"\0.modinfo\0__versions\0")).unwrap();
        assert_eq!(found.crcs.unwrap(), [("_prin".to_owned(), 5), (String::new(), 7)].into());
        assert_eq!((found.parameters.len(), found.parameters["a"].as_str()), (1, "int"));
        let (sums, symbols) = (b"\x05\0\0\0\x07\0\0\0\x09\0", b"_printk\0a_long_name\0");
        let names = b"\0.modinfo\0__version_ext_crcs\0__version_ext_names\0";
        let found = parse(&module(&[(1, info), (10, sums), (29, symbols)], names)).unwrap();
        assert_eq!(found.crcs.unwrap(), [("_printk".to_owned(), 5), ("a_long_name".to_owned(), 7)].into());
        assert!(parse(&module(&[(1, info)], b"\0.modinfo.x\0")).unwrap_err().contains("no .modinfo"));
    }

    /// A list of all strings of a table takes many times the memory of the table, and none of it is needed.
    #[test]
    fn other_sections_are_not_looked_at() {
        let mut bytes = module(&[(1, b"version=1")], b"\0.modinfo\0\xff\xff\0");
        let at = usize::try_from(u64::from_le_bytes(bytes[40..48].try_into().unwrap())).unwrap();
        // The first section claims to be a symbol table that is longer than the file.
        bytes[at + 4] = 2;
        bytes[at + 32..at + 40].copy_from_slice(&u64::MAX.to_le_bytes());
        bytes[at + 56] = 24;
        assert_eq!(parse(&bytes).unwrap().version.as_deref(), Some("1"));
    }

    proptest! {
        #[test]
        fn total(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
            let magic = [0x7f, b'E', b'L', b'F', 2, 1, 1];
            for (i, b) in magic.iter().enumerate() {
                if let Some(slot) = bytes.get_mut(i) {
                    *slot = *b;
                }
            }
            let _ = parse(&bytes);
        }
    }
}
