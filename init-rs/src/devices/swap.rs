//! Swap space and the hibernation image in it: its header (mkswap(8), `kernel/power/swap.c`), and finding the device that
//! `resume=` means, without udev.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::block;

/// Signatures of an image, at the end of the first page: those of the kernel, of the tools of uswsusp, and of `TuxOnIce`.
const IMAGES: [&[u8]; 4] = [b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001"];
/// Signatures of swap space without an image.
const SWAPS: [&[u8]; 2] = [b"SWAPSPACE2", b"SWAP-SPACE"];
/// Length of a signature.
const SIGNATURE: usize = 10;
/// What mkswap writes, behind the room for a boot loader: version, pages, bad pages, then these.
const UUID_AT: usize = 1036;
const LABEL_AT: usize = 1052;

/// The first page of a swap device or swap file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// Signature of the image in it, if there is one.
    pub image: Option<String>,
    /// Whether it is swap space, with or without an image.
    pub swap: bool,
    /// Lower-case uuid, as blkid(8) shows it.
    pub uuid: String,
    /// Label.
    pub label: String,
}

impl Header {
    /// Reads a page; total over any bytes.
    pub fn read(page: &[u8]) -> Self {
        let tail = page.len().checked_sub(SIGNATURE).and_then(|at| page.get(at..)).unwrap_or_default();
        let image =
            IMAGES.iter().find(|s| **s == tail).map(|s| String::from_utf8_lossy(s).trim_end_matches('\0').to_owned());
        let swap = image.is_some() || SWAPS.contains(&tail);
        if !swap {
            return Self::default();
        }
        let label = page.get(LABEL_AT..LABEL_AT + 16).unwrap_or_default();
        let label = label.split(|b| *b == 0).next().unwrap_or_default();
        Self {
            image,
            swap,
            uuid: uuid(page.get(UUID_AT..UUID_AT + 16).unwrap_or_default()),
            label: String::from_utf8_lossy(label).into_owned(),
        }
    }
}

/// The signature that makes plain swap space of a page that holds an image: the one that the image displaced, which stands
/// before its own. To be written to the last bytes of the page.
pub fn signature_without_image(page: &[u8]) -> [u8; SIGNATURE] {
    let displaced = page.len().checked_sub(2 * SIGNATURE).and_then(|at| page.get(at..at + SIGNATURE));
    let known = SWAPS.into_iter().find(|s| Some(*s) == displaced).unwrap_or(SWAPS[0]);
    known.try_into().unwrap_or([0; SIGNATURE])
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// What `resume=` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// A node below `/dev`.
    Path(PathBuf),
    /// Number of the device, major and minor.
    Number(u32, u32),
    /// Uuid of the swap space.
    Uuid(String),
    /// Label of the swap space.
    Label(String),
    /// Uuid of a partition.
    PartUuid(String),
    /// Name of a partition.
    PartLabel(String),
}

impl Spec {
    /// Reads the value of `resume=`; the error says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| -> Option<Self> {
            let (major, minor) = text.split_once(':')?;
            Some(Self::Number(major.parse().ok()?, minor.parse().ok()?))
        };
        let (tag, value) = text.split_once('=').unwrap_or(("", text));
        let value = value.trim_matches('"');
        let tagged = match (tag.to_ascii_uppercase().as_str(), value) {
            (_, "") => None,
            ("UUID", value) => Some(Self::Uuid(value.to_ascii_lowercase())),
            ("LABEL", value) => Some(Self::Label(value.to_owned())),
            ("PARTUUID", value) => Some(Self::PartUuid(value.to_ascii_lowercase())),
            ("PARTLABEL", value) => Some(Self::PartLabel(value.to_owned())),
            ("", value) if value.starts_with("/dev/") => Some(Self::path(value)),
            ("", value) => number(value),
            _ => None,
        };
        tagged.ok_or_else(|| {
            format!("{text:?} names no device; expected /dev/NAME, UUID=, LABEL=, PARTUUID=, PARTLABEL= or MAJOR:MINOR")
        })
    }

    /// udev's links below `/dev/disk` say what they mean.
    fn path(path: &str) -> Self {
        let value = |dir: &str| path.strip_prefix(dir).map(str::to_owned);
        None.or_else(|| value("/dev/disk/by-uuid/").map(|v| Self::Uuid(v.to_ascii_lowercase())))
            .or_else(|| value("/dev/disk/by-label/").map(Self::Label))
            .or_else(|| value("/dev/disk/by-partuuid/").map(|v| Self::PartUuid(v.to_ascii_lowercase())))
            .or_else(|| value("/dev/disk/by-partlabel/").map(Self::PartLabel))
            .unwrap_or_else(|| Self::Path(path.into()))
    }

    /// Whether it can only be a zvol.
    pub fn is_zvol(&self) -> bool {
        let Self::Path(path) = self else { return false };
        path.starts_with("/dev/zvol") || path.to_str().and_then(|p| p.strip_prefix("/dev/zd")).is_some_and(is_number)
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A block device that swap can be on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its node.
    pub node: PathBuf,
    /// Its number.
    pub number: (u32, u32),
}

/// Reads bytes of a device at an offset.
pub type Read<'a> = dyn Fn(&Path, u64, &mut [u8]) -> std::io::Result<()> + 'a;

/// Finds the device that `spec` means among those in `sys` (`/sys`), with nodes below `dev` (`/dev`).
pub fn find(spec: &Spec, sys: &Path, dev: &Path, page_size: usize, read: &Read<'_>) -> Option<Device> {
    let class = sys.join("class/block");
    let path = match spec {
        Spec::Path(path) => Some(fs::canonicalize(path).unwrap_or_else(|_| path.clone())),
        _ => None,
    };
    block::names(sys).into_iter().filter(|name| !name.starts_with("zd") && !name.starts_with("ram")).find_map(|name| {
        let dir = class.join(&name);
        let device = Device {
            node: dev.join(name.replace('!', "/")),
            number: fs::read_to_string(dir.join("dev")).ok().and_then(|text| pair(text.trim()))?,
        };
        let size: u64 = fs::read_to_string(dir.join("size")).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0);
        if size == 0 {
            return None;
        }
        let header = || {
            let mut page = vec![0; page_size];
            read(&device.node, 0, &mut page).map(|()| Header::read(&page)).unwrap_or_default()
        };
        let matches = match spec {
            Spec::Path(asked) => path.as_deref() == Some(&device.node) || mapper(&dir, dev).as_deref() == Some(asked),
            Spec::Number(major, minor) => device.number == (*major, *minor),
            Spec::Uuid(uuid) => header().uuid == *uuid,
            Spec::Label(label) => header().label == *label,
            Spec::PartLabel(label) => uevent(&dir, "PARTNAME").as_deref() == Some(label),
            Spec::PartUuid(uuid) => part_uuid(&dir, dev, read).as_deref() == Some(uuid),
        };
        matches.then_some(device)
    })
}

fn pair(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The node below `/dev/mapper`.
fn mapper(dir: &Path, dev: &Path) -> Option<PathBuf> {
    let name = fs::read_to_string(dir.join("dm/name")).ok()?;
    Some(dev.join("mapper").join(name.trim_end()))
}

fn uevent(dir: &Path, key: &str) -> Option<String> {
    let text = fs::read_to_string(dir.join("uevent")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
}

/// The uuid of a partition: from the GPT of its disk, or disk signature and number where that has an MBR.
fn part_uuid(dir: &Path, dev: &Path, read: &Read<'_>) -> Option<String> {
    let number: u32 = fs::read_to_string(dir.join("partition")).ok()?.trim().parse().ok()?;
    let disk = fs::canonicalize(dir).ok()?.parent()?.to_owned();
    let node = dev.join(disk.file_name()?.to_str()?.replace('!', "/"));
    let block: u64 = fs::read_to_string(disk.join("queue/logical_block_size")).ok()?.trim().parse().ok()?;
    let mut gpt = [0; 92];
    read(&node, block, &mut gpt).ok()?;
    if !gpt.starts_with(b"EFI PART") {
        let mut mbr = [0; 512];
        read(&node, 0, &mut mbr).ok()?;
        let signature = u32::from_le_bytes(mbr.get(440..444)?.try_into().ok()?);
        return Some(format!("{signature:08x}-{number:02x}"));
    }
    let le32 = |at: usize| Some(u32::from_le_bytes(gpt.get(at..at + 4)?.try_into().ok()?));
    let entries = u64::from_le_bytes(gpt.get(72..80)?.try_into().ok()?);
    let (count, size) = (le32(80)?, le32(84)?);
    if number == 0 || number > count {
        return None;
    }
    let at = entries.checked_mul(block)?.checked_add(u64::from(number - 1) * u64::from(size))?;
    let mut entry = [0; 32];
    read(&node, at, &mut entry).ok()?;
    let mut guid: [u8; 16] = entry.get(16..32)?.try_into().ok()?;
    // The first three fields are little-endian, the text is not.
    for field in [0..4, 4..6, 6..8] {
        guid.get_mut(field)?.reverse();
    }
    Some(uuid(&guid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;

    fn page(signature: &[u8]) -> Vec<u8> {
        let mut page = vec![0; 4096];
        page[4096 - signature.len()..].copy_from_slice(signature);
        page[UUID_AT..UUID_AT + 16].copy_from_slice(&[0x11; 16]);
        page[LABEL_AT..LABEL_AT + 3].copy_from_slice(b"hib");
        page
    }

    #[test]
    fn headers() {
        let swap = Header::read(&page(b"SWAPSPACE2"));
        assert_eq!((swap.swap, swap.image, swap.label.as_str()), (true, None, "hib"));
        assert_eq!(swap.uuid, "11111111-1111-1111-1111-111111111111");
        for (signature, name) in
            [(&b"S1SUSPEND\0"[..], "S1SUSPEND"), (b"ULSUSPEND\0", "ULSUSPEND"), (b"LINHIB0001", "LINHIB0001")]
        {
            let header = Header::read(&page(signature));
            assert_eq!((header.image.as_deref(), header.label.as_str()), (Some(name), "hib"));
        }
        assert_eq!(Header::read(&page(b"S1SUSPENDx")), Header::default());
        assert_eq!(Header::read(b"S1SUSPEND"), Header::default());
        assert_eq!(Header::read(b"S1SUSPEND\0").image.as_deref(), Some("S1SUSPEND"));
        assert_eq!(Header::read(&[]), Header::default());
    }

    #[test]
    fn the_displaced_signature_comes_back() {
        let mut with_image = page(b"SWAP-SPACES1SUSPEND\0");
        assert_eq!(&signature_without_image(&with_image), b"SWAP-SPACE");
        with_image[4096 - 20..4096 - 10].fill(0);
        assert_eq!(&signature_without_image(&with_image), b"SWAPSPACE2");
        assert_eq!(&signature_without_image(&[]), b"SWAPSPACE2");
    }

    #[test]
    fn specs() {
        let cases = [
            ("/dev/vda2", Spec::Path("/dev/vda2".into())),
            ("/dev/disk/by-uuid/AB-CD", Spec::Uuid("ab-cd".into())),
            ("/dev/disk/by-partlabel/x", Spec::PartLabel("x".into())),
            ("UUID=AB", Spec::Uuid("ab".into())),
            ("UUID=\"AB\"", Spec::Uuid("ab".into())),
            ("LABEL=Swap", Spec::Label("Swap".into())),
            ("PARTUUID=AB-01", Spec::PartUuid("ab-01".into())),
            ("254:2", Spec::Number(254, 2)),
        ];
        for (text, expected) in cases {
            assert_eq!(Spec::parse(text).unwrap(), expected, "{text}");
        }
        for text in ["", "swap", "ID=x", "UUID=", "1:x"] {
            assert!(Spec::parse(text).unwrap_err().contains("PARTUUID="), "{text}");
        }
        let zvol = |text: &str| Spec::parse(text).unwrap().is_zvol();
        assert!(zvol("/dev/zvol/rpool/swap") && zvol("/dev/zd0") && !zvol("/dev/zdisk") && !zvol("UUID=zd0"));
    }

    #[test]
    fn devices_are_found_by_every_name() {
        let dir = tempfile::tempdir().unwrap();
        let (sys, dev) = (dir.path(), Path::new("/nowhere"));
        fs::create_dir_all(sys.join("class/block")).unwrap();
        let add = |path: &str, files: &[(&str, &str)]| {
            let device = sys.join("devices").join(path);
            fs::create_dir_all(device.join("queue")).unwrap();
            fs::create_dir_all(device.join("dm")).unwrap();
            for (file, text) in [("size", "100\n")].iter().chain(files) {
                fs::write(device.join(file), text).unwrap();
            }
            symlink(&device, sys.join("class/block").join(device.file_name().unwrap())).unwrap();
        };
        add("zd0", &[("dev", "230:0\n")]);
        add("vda", &[("dev", "254:0\n"), ("queue/logical_block_size", "512\n")]);
        add("vda/vda2", &[("dev", "254:2\n"), ("partition", "2\n"), ("uevent", "DEVNAME=vda2\nPARTNAME=Linux swap\n")]);
        add("vdb", &[("dev", "254:16\n"), ("queue/logical_block_size", "512\n")]);
        add("vdb/vdb1", &[("dev", "254:17\n"), ("partition", "1\n")]);
        add("dm-0", &[("dev", "253:0\n"), ("dm/name", "crypt\n")]);

        let mut gpt = vec![0; 8192];
        gpt[512..520].copy_from_slice(b"EFI PART");
        gpt[512 + 72] = 2;
        gpt[512 + 80] = 128;
        gpt[512 + 84] = 128;
        let guid: Vec<u8> = (1..=16).collect();
        gpt[1024 + 128 + 16..1024 + 128 + 32].copy_from_slice(&guid);
        let mut mbr = vec![0; 8192];
        mbr[440..444].copy_from_slice(&0xdead_beef_u32.to_le_bytes());
        // A swap on a zvol of that uuid must not be taken.
        let contents: BTreeMap<&str, Vec<u8>> =
            [("vda", gpt), ("vda2", page(b"S1SUSPEND\0")), ("vdb", mbr), ("zd0", page(b"SWAPSPACE2"))].into();
        let read = |path: &Path, offset: u64, buf: &mut [u8]| {
            let bytes = contents.get(path.file_name().unwrap().to_str().unwrap());
            let at = usize::try_from(offset).unwrap();
            let part = bytes.and_then(|b| b.get(at..at + buf.len())).ok_or(std::io::ErrorKind::UnexpectedEof)?;
            buf.copy_from_slice(part);
            Ok(())
        };
        let found = |text: &str| find(&Spec::parse(text).unwrap(), sys, dev, 4096, &read).map(|d| d.number);
        assert_eq!(found("UUID=11111111-1111-1111-1111-111111111111"), Some((254, 2)));
        assert_eq!(found("LABEL=hib"), Some((254, 2)));
        assert_eq!(found("PARTLABEL=Linux swap"), Some((254, 2)));
        assert_eq!(found("PARTUUID=04030201-0605-0807-090a-0b0c0d0e0f10"), Some((254, 2)));
        assert_eq!(found("PARTUUID=deadbeef-01"), Some((254, 17)));
        assert_eq!(found("254:17"), Some((254, 17)));
        let path = |path: &str| find(&Spec::Path(path.into()), sys, dev, 4096, &read).map(|d| d.number);
        assert_eq!((path("/nowhere/vda2"), path("/nowhere/mapper/crypt")), (Some((254, 2)), Some((253, 0))));
        for missing in ["LABEL=x", "8:1", "PARTUUID=x", "PARTLABEL=x", "/dev/zd0"] {
            assert_eq!(found(missing), None, "{missing}");
        }
    }
}
