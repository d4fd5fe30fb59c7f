//! The `.modinfo` section of a module: `key=value` strings separated by NULs.

use goblin::elf::Elf;

/// What we use of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModInfo {
    /// Kernel release and flags the module was built for.
    pub vermagic: Option<String>,
    /// Firmware files it may ask for.
    pub firmware: Vec<String>,
    /// Module's own version.
    pub version: Option<String>,
}

impl ModInfo {
    /// Kernel release of the vermagic: its first word.
    pub fn kernel(&self) -> Option<&str> {
        self.vermagic.as_deref().and_then(|v| v.split_whitespace().next())
    }
}

/// Reads a module file; total over any bytes.
pub fn parse(module: &[u8]) -> Result<ModInfo, String> {
    let elf = Elf::parse(module).map_err(|e| e.to_string())?;
    let section = elf
        .section_headers
        .iter()
        .find(|s| elf.shdr_strtab.get_at(s.sh_name) == Some(".modinfo"))
        .and_then(goblin::elf::SectionHeader::file_range)
        .and_then(|range| module.get(range))
        .ok_or("it has no .modinfo section")?;
    let mut info = ModInfo::default();
    for text in section.split(|b| *b == 0) {
        let text = String::from_utf8_lossy(text);
        match text.split_once('=') {
            Some(("vermagic", value)) => info.vermagic = Some(value.to_owned()),
            Some(("version", value)) => info.version = Some(value.to_owned()),
            Some(("firmware", value)) => info.firmware.push(value.to_owned()),
            _ => {}
        }
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
