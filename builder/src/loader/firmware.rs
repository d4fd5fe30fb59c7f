//! UEFI variables: what the firmware starts, and what systemd-boot and others keep there ("Boot Manager" in the UEFI
//! specification; the Boot Loader Interface of systemd).

use crate::initramfs::tree::Tree;

const VARIABLES: &str = "/sys/firmware/efi/efivars";
const EFI: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// No variable that is read here is longer.
const LONGEST: u64 = 64 << 10;
/// `LOAD_OPTION_ACTIVE`.
const ACTIVE: u32 = 1;

/// What the variables say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Firmware {
    /// What is started next.
    pub start: Option<Start>,
    /// What the boot loader of the present boot calls itself.
    pub loader: Option<String>,
    /// Entry for one boot.
    pub one_shot: Option<String>,
    /// Entry that a person chose for good.
    pub default: Option<String>,
    /// Entry that was booted last.
    pub last: Option<String>,
}

/// What the firmware starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    /// In words.
    pub why: String,
    /// The program, as a path on its partition with `/`; `None` if none is named.
    pub file: Option<String>,
}

impl Firmware {
    /// Reads them; what cannot be read is not there.
    pub(super) fn read(tree: &Tree) -> Self {
        let text = |name: &str| variable(tree, name, LOADER).map(|bytes| utf16(&bytes)).filter(|text| !text.is_empty());
        Self {
            start: start(tree),
            loader: text("LoaderInfo"),
            one_shot: text("LoaderEntryOneShot"),
            default: text("LoaderEntryDefault"),
            last: text("LoaderEntryLastBooted"),
        }
    }
}

/// A variable without the attributes in front.
fn variable(tree: &Tree, name: &str, vendor: &str) -> Option<Vec<u8>> {
    let bytes = tree.read(format!("{VARIABLES}/{name}-{vendor}"), LONGEST).ok()?;
    Some(bytes.get(4..)?.to_vec())
}

fn start(tree: &Tree) -> Option<Start> {
    let numbers = |name: &str| {
        let bytes = variable(tree, name, EFI).unwrap_or_default();
        bytes.chunks_exact(2).map(|pair| pair.iter().rev().fold(0, |n, b| n << 8 | u16::from(*b))).collect::<Vec<_>>()
    };
    let option =
        |number: u16| variable(tree, &format!("Boot{number:04X}"), EFI).and_then(|bytes| LoadOption::parse(&bytes));
    if let Some((number, option)) = numbers("BootNext").into_iter().find_map(|number| Some((number, option(number)?))) {
        let why = format!("the firmware starts Boot{number:04X} ({}) once (BootNext)", option.name);
        return Some(Start { why, file: option.file });
    }
    let mut order = numbers("BootOrder").into_iter().filter_map(|number| Some((number, option(number)?)));
    let (number, option) = order.find(|(_, option)| option.attributes & ACTIVE != 0)?;
    let why = format!("the firmware starts Boot{number:04X} ({}), the first of its order", option.name);
    Some(Start { why, file: option.file })
}

/// `EFI_LOAD_OPTION`.
#[derive(Debug, PartialEq, Eq)]
struct LoadOption {
    attributes: u32,
    name: String,
    file: Option<String>,
}

impl LoadOption {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let attributes = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
        let paths = usize::from(u16::from_le_bytes(bytes.get(4..6)?.try_into().ok()?));
        let rest = bytes.get(6..)?;
        let end = rest.chunks_exact(2).position(|pair| pair == [0, 0])?;
        let name = utf16(rest.get(..2 * end)?);
        let mut nodes = rest.get(2 * end + 2..)?;
        nodes = nodes.get(..paths.min(nodes.len()))?;
        let mut file = None;
        // Type, subtype, length of each; 4/4 is the path of a file.
        while let Some([kind, sub, low, high]) = nodes.get(..4) {
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            let Some(node) = nodes.get(4..length) else { break };
            if (*kind, *sub) == (4, 4) {
                let path = utf16(node).replace('\\', "/");
                file = Some(path.trim_start_matches('/').to_owned());
            }
            nodes = nodes.get(length..).unwrap_or_default();
        }
        Some(Self { attributes, name, file })
    }
}

/// Text up to its first NUL; without what would steer a terminal.
fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| pair.iter().rev().fold(0, |n, b| n << 8 | u16::from(*b)));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units).replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    fn option(attributes: u32, name: &str, file: &str) -> Vec<u8> {
        let path = wide(file);
        let mut nodes = vec![4, 1, 5, 0, 9];
        nodes.extend([4, 4]);
        nodes.extend(u16::try_from(path.len() + 4).unwrap().to_le_bytes());
        nodes.extend(path);
        nodes.extend([0x7f, 0xff, 4, 0]);
        let length = u16::try_from(nodes.len()).unwrap().to_le_bytes();
        [attributes.to_le_bytes().to_vec(), length.to_vec(), wide(name), nodes, b"optional".to_vec()].concat()
    }

    #[test]
    fn what_is_started_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        assert_eq!(Firmware::read(&tree), Firmware::default());
        let at = dir.path().join("sys/firmware/efi/efivars");
        fs::create_dir_all(&at).unwrap();
        let write = |name: &str, vendor: &str, data: &[u8]| {
            fs::write(at.join(format!("{name}-{vendor}")), [&[7, 0, 0, 0], data].concat()).unwrap();
        };
        write("BootOrder", EFI, &[9, 0, 2, 0, 0x1a, 0]);
        write("Boot0002", EFI, &option(0, "off", "\\EFI\\x.efi"));
        write("Boot001A", EFI, &option(1, "debian", "\\EFI\\debian\\shimx64.efi"));
        write("LoaderEntryOneShot", LOADER, &wide("a.conf"));
        let firmware = Firmware::read(&tree);
        let start = firmware.start.unwrap();
        assert_eq!(start.file.as_deref(), Some("EFI/debian/shimx64.efi"));
        assert_eq!(start.why, "the firmware starts Boot001A (debian), the first of its order");
        assert_eq!(firmware.one_shot.as_deref(), Some("a.conf"));
        write("BootNext", EFI, &[2, 0]);
        assert!(Firmware::read(&tree).start.unwrap().why.contains("Boot0002 (off) once"));
    }

    proptest! {
        #[test]
        fn total(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..80, value in any::<u8>()) {
            let _ = LoadOption::parse(&bytes);
            let mut damaged = option(1, "a", "\\b");
            let len = damaged.len();
            damaged[at % len] = value;
            let _ = LoadOption::parse(&damaged);
        }
    }
}
