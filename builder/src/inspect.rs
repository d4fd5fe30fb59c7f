//! Reading an image back: uncompressed archives, the compressed main archive, the manifest. Images are foreign bytes.

use crate::initramfs::compress::LegacyLz4;
use crate::initramfs::decompress;
use crate::initramfs::sources::{self, SOURCES_PATH, Source};
use crate::uki;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use taproot_init::image::{CONFIG_PATH, ImageConfig, MANIFEST_PATH};
use taproot_init::plan::layerlist::KEYS_DIR;

/// More than this is no initramfs.
pub const LIMIT: u64 = 1 << 30;
/// Headers and names of all entries; thousands of files take less than one MiB.
const ENTRIES_LIMIT: usize = 32 << 20;
/// The kernel skips entries with longer names (`PATH_MAX`).
const NAME_LIMIT: usize = 4096;
/// The manifest is the longest text that is read.
const TEXT_LIMIT: u64 = 8 << 20;
/// Modules that roots made of layers may need.
const LAYER_MODULES: [&str; 5] = ["loop", "overlay", "squashfs", "erofs", "dm-verity"];
/// Bytes of an entry's header.
const HEADER: usize = 110;
const NOT_AN_IMAGE: &str = "not an initramfs: expected a cpio archive, or one compressed with zstd, xz, gzip or lz4";

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// `directory`, `file`, `link`, `device`.
    pub kind: &'static str,
    /// Bytes; of a link, the length of its target.
    pub size: u64,
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
    /// Why it is there, where the image says so.
    pub why: Option<String>,
    /// Read by the kernel before anything is unpacked: microcode, in an uncompressed archive before the main one.
    pub early: bool,
}

/// A whole image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// Of this object; grows when what is there changes its meaning.
    pub format: u32,
    /// Size of the image.
    pub bytes: u64,
    /// `zstd`, `xz`, `gzip`, `lz4` or `none`.
    pub compression: &'static str,
    /// Size of what is unpacked.
    pub uncompressed_bytes: u64,
    /// What the packer noted; `null` if another tool made the image.
    pub packed: Option<Packed>,
    /// Entries in archive order.
    pub files: Vec<File>,
}

/// What the packer noted in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Packed {
    /// Kernel release.
    pub kernel: String,
    /// Program and version.
    pub packer: String,
    /// Words before the kernel's.
    pub cmdline: String,
    /// Pools that are expected: name and guid.
    pub pools: Vec<(String, String)>,
    /// The file system that is expected as root, if that is no dataset.
    pub root: Option<String>,
    /// Modules in it that roots made of layers may need; a kernel can have others built in.
    pub layer_modules: Vec<String>,
    /// Names of the keys in it that lists of layers are signed with.
    pub layer_keys: Vec<String>,
    /// What went in; `null` if an older version packed it.
    pub sources: Option<Vec<Source>>,
}

impl Packed {
    /// From the texts of the configuration and the list of sources.
    fn of(config: &str, sources: Option<&Vec<u8>>, files: &[File]) -> Self {
        let config = ImageConfig::parse(config);
        let named = |name: &&&str| files.iter().any(|file| module_name(&file.path).as_deref() == Some(**name));
        let keys =
            files.iter().filter_map(|file| Some(file.path.strip_prefix(KEYS_DIR)?.trim_start_matches('/').to_owned()));
        Self {
            pools: config.pools.into_iter().map(|pool| (pool.name, pool.guid.to_string())).collect(),
            root: config.root.map(|root| root.source),
            sources: sources.map(|text| sources::parse(&String::from_utf8_lossy(text))),
            layer_modules: LAYER_MODULES.iter().filter(named).map(|name| (*name).to_owned()).collect(),
            layer_keys: keys.filter(|name| !name.is_empty()).collect(),
            kernel: config.kernel,
            packer: config.packer,
            cmdline: config.cmdline,
        }
    }
}

/// The name of the module in a file.
fn module_name(path: &str) -> Option<String> {
    let (name, _) = path.rsplit('/').next()?.split_once(".ko")?;
    Some(name.replace('_', "-"))
}

fn compression_of(bytes: &[u8]) -> Option<&'static str> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    match () {
        () if starts(b"070701") || starts(b"070702") => Some("none"),
        () if starts(&[0x28, 0xb5, 0x2f, 0xfd]) => Some("zstd"),
        () if starts(&[0xfd, b'7', b'z', b'X', b'Z', 0]) => Some("xz"),
        () if starts(&[0x1f, 0x8b]) => Some("gzip"),
        () if starts(&[0x02, 0x21, 0x4c, 0x18]) => Some("lz4"),
        () => None,
    }
}

/// Unpacks one compressed archive.
pub fn unpack(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    Unpacked::new(bytes)?.read_to_end(&mut out)?;
    Ok(out)
}

/// An archive that is unpacked while it is read: what a small image unpacks to need not fit into memory.
struct Unpacked<'a> {
    inner: Box<dyn Read + 'a>,
    taken: u64,
}

impl<'a> Unpacked<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self> {
        let inner: Box<dyn Read + 'a> = match compression_of(bytes) {
            Some("none") => Box::new(bytes),
            Some("zstd") => Box::new(zstd::stream::read::Decoder::new(bytes)?),
            Some("xz") => Box::new(decompress::xz(bytes)?),
            Some("gzip") => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
            Some("lz4") => Box::new(LegacyLz4::new(bytes)),
            _ => bail!(NOT_AN_IMAGE),
        };
        Ok(Self { inner, taken: 0 })
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.taken += n as u64;
        if self.taken > LIMIT {
            let text = format!("more than {} MiB unpacked, which is no initramfs", LIMIT >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        Ok(n)
    }
}

/// The entries of one archive.
#[derive(Default)]
struct Entries {
    files: Vec<File>,
    /// The contents of the files that were looked for, by path.
    contents: Contents,
}

/// Contents of files by path.
pub type Contents = BTreeMap<String, Vec<u8>>;
/// Which files' contents are wanted: the most bytes that are taken of one.
type Wanted<'a> = &'a dyn Fn(&str) -> Option<u64>;

/// Reads one archive and the contents of its files that are `wanted`; `archive` stands behind it then.
fn entries(archive: &mut impl Read, wanted: Wanted<'_>) -> Result<Entries> {
    let damaged = "the archive is damaged or cut off";
    let mut found = Entries::default();
    let mut room = ENTRIES_LIMIT;
    loop {
        let mut header = [0; HEADER];
        archive.read_exact(&mut header).context(damaged)?;
        let name = name_size(&header);
        if name > NAME_LIMIT {
            bail!("{damaged}: an entry's name has {name} bytes, expected at most {NAME_LIMIT}");
        }
        room = room.checked_sub(HEADER + name).context("the archive has more entries than an initramfs")?;
        let mut reader = cpio::NewcReader::new(header.chain(&mut *archive)).context(damaged)?;
        let entry = reader.entry();
        if entry.is_trailer() {
            reader.finish().context("the archive's end is damaged")?;
            return Ok(found);
        }
        let path = format!("/{}", entry.name().trim_start_matches("./").trim_start_matches('/'));
        let kind = match entry.mode() & 0o170_000 {
            0o040_000 => "directory",
            0o100_000 => "file",
            0o120_000 => "link",
            _ => "device",
        };
        let early = false;
        let file = File { kind, size: entry.file_size().into(), mode: entry.mode(), why: None, early, path };
        if let Some(limit) = wanted(&file.path) {
            if file.size > limit {
                bail!("{} has {} bytes, expected at most {limit}", file.path, file.size);
            }
            let mut content = Vec::new();
            reader.read_to_end(&mut content).with_context(|| format!("{} is cut off", file.path))?;
            found.contents.insert(file.path.clone(), content);
        }
        found.files.push(file);
        reader.finish().context(damaged)?;
    }
}

/// The size of an entry's name, with its NUL. What is no number is no header, as the reader will say.
fn name_size(header: &[u8; HEADER]) -> usize {
    let digits = header.get(94..102).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| usize::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// Lists an image.
pub fn list(image: &[u8]) -> Result<Listing> {
    let texts = [MANIFEST_PATH, CONFIG_PATH, SOURCES_PATH];
    let (mut listing, contents) = read(image, &|path| texts.contains(&path).then_some(TEXT_LIMIT))?;
    let manifest = contents.get(MANIFEST_PATH).map(|text| String::from_utf8_lossy(text));
    let mut why: BTreeMap<&str, &str> =
        manifest.iter().flat_map(|m| m.lines()).filter_map(|l| l.split_once('\t')).collect();
    for file in listing.files.iter_mut().filter(|f| !f.early) {
        // Each reason once: with entries of one path it would multiply.
        file.why = why.remove(file.path.as_str()).map(str::to_owned);
    }
    Ok(listing)
}

/// The text of the image configuration; `None` if another tool made the image.
pub fn config(image: &[u8]) -> Result<Option<String>> {
    let (_, contents) = read(image, &|path| (path == CONFIG_PATH).then_some(TEXT_LIMIT))?;
    Ok(contents.get(CONFIG_PATH).map(|text| String::from_utf8_lossy(text).into_owned()))
}

/// Every entry, and the contents of the files that are wanted, each up to so many bytes; of several of one path the last, as
/// the kernel unpacks them. Of a unified kernel image, those of its initramfs.
pub fn read(image: &[u8], wanted: Wanted<'_>) -> Result<(Listing, Contents)> {
    let image = match uki::section(image, ".initrd") {
        Some(initramfs) => initramfs,
        None if uki::is_program(image) => bail!("an EFI program without an initramfs in it (a section .initrd)"),
        None => image,
    };
    let (mut files, mut contents) = (Vec::new(), Contents::new());
    let mut rest = image;
    let mut before = 0;
    let (compression, main, unpacked) = loop {
        let compression = compression_of(rest).context(NOT_AN_IMAGE)?;
        if compression != "none" {
            let mut archive = Unpacked::new(rest)?;
            let main = entries(&mut archive, wanted)?;
            // Its padding counts too.
            io::copy(&mut archive, &mut io::sink()).context("the archive is damaged or cut off")?;
            break (compression, main, before + archive.taken);
        }
        let mut archive = Cursor::new(rest);
        let mut found = entries(&mut archive, wanted)?;
        contents.append(&mut found.contents);
        let after = rest.get(usize::try_from(archive.position())?..).unwrap_or_default();
        let zeros = after.iter().take_while(|b| **b == 0).count();
        let next = after.get(zeros..).unwrap_or_default();
        if next.is_empty() {
            break (compression, found, before + rest.len() as u64);
        }
        let early = |file: &File| file.path == "/kernel" || file.path.starts_with("/kernel/");
        if found.files.iter().all(early) {
            found.files.iter_mut().for_each(|file| file.early = true);
        } else {
            before += (rest.len() - next.len()) as u64;
        }
        files.extend(found.files);
        rest = next;
    };
    files.extend(main.files);
    contents.extend(main.contents);
    let config = contents.get(CONFIG_PATH).map(|text| String::from_utf8_lossy(text));
    let packed = config.map(|config| Packed::of(&config, contents.get(SOURCES_PATH), &files));
    let bytes = image.len() as u64;
    Ok((Listing { format: 1, bytes, compression, uncompressed_bytes: unpacked, packed, files }, contents))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initramfs::archive::Archive;
    use proptest::prelude::*;

    fn image(compression: &str) -> Vec<u8> {
        let mut early = Archive::default();
        early.file("/kernel/x86/microcode/GenuineIntel.bin", vec![1; 100], "microcode").unwrap();
        let mut tree = Archive::default();
        tree.program("/init", vec![7; 5000], "init").unwrap();
        tree.file(MANIFEST_PATH, b"/init\tthe program\n".to_vec(), "manifest").unwrap();
        tree.file(CONFIG_PATH, b"cmdline=quiet\n".to_vec(), "configuration").unwrap();
        tree.file("/lib/modules/x/dm_verity.ko", vec![1], "layers").unwrap();
        tree.file("/etc/taproot/layer-keys/site.pub", vec![1], "key").unwrap();
        let mut bytes = early.into_cpio(0, Vec::new()).unwrap();
        let compression: crate::initramfs::compress::Compression = compression.parse().unwrap();
        bytes.extend(compression.apply(tree.into_cpio(0, Vec::new()).unwrap()).unwrap());
        bytes
    }

    #[test]
    fn early_and_main_archives_with_reasons() {
        for compression in ["zstd", "xz", "gzip", "lz4", "none"] {
            let listing = list(&image(compression)).unwrap();
            assert_eq!(listing.compression, compression);
            let packed = listing.packed.as_ref().unwrap();
            assert_eq!(
                (packed.layer_modules.as_slice(), packed.layer_keys.as_slice()),
                (&["dm-verity".to_owned()][..], &["site.pub".to_owned()][..])
            );
            let init = listing.files.iter().find(|f| f.path == "/init").unwrap();
            assert_eq!((init.why.as_deref(), init.size, init.mode), (Some("the program"), 5000, 0o100_755));
            assert_eq!(config(&image(compression)).unwrap().as_deref(), Some("cmdline=quiet\n"));
            assert!(listing.files.iter().any(|f| f.early && f.path.ends_with("GenuineIntel.bin")));
        }
    }

    #[test]
    fn damage_is_an_error() {
        let whole = image("none");
        for cut in [0, 1, 50, 500, 700, whole.len() - 600] {
            assert!(list(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(list(b"hello").is_err());
    }

    /// What a few KiB of one byte many times unpack to does not stand in memory, and ends.
    #[test]
    fn small_images_that_unpack_to_much() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        let mut tree = Archive::default();
        tree.program("/init", vec![7; 50], "init").unwrap();
        io::copy(&mut tree.into_cpio(0, Vec::new()).unwrap().chain(io::repeat(0).take(LIMIT)), &mut encoder).unwrap();
        let error = format!("{:#}", list(&encoder.finish().unwrap()).unwrap_err());
        assert!(error.contains("more than 1024 MiB unpacked"), "{error}");
    }

    fn entry(name: &str, name_size: usize, data: &[u8]) -> Vec<u8> {
        let fields = [1, 0o100_644, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name_size, 0];
        let mut out = b"070701".to_vec();
        out.extend(fields.iter().flat_map(|n| format!("{n:08x}").into_bytes()));
        out.extend(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(data);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    #[test]
    fn names_entries_and_texts_have_limits() {
        let refused = |archive: &[u8]| format!("{:#}", list(archive).unwrap_err());
        let long = "n".repeat(5000);
        assert!(refused(&entry(&long, 5001, b"")).contains("name has 5001 bytes, expected at most 4096"));
        let trailer = entry("TRAILER!!!", 11, b"");
        let many = [entry("a", 2, b"").repeat(ENTRIES_LIMIT / 112 + 1), trailer.clone()].concat();
        assert!(refused(&many).contains("more entries than an initramfs"));
        let text = vec![b'x'; usize::try_from(TEXT_LIMIT).unwrap() + 1];
        let manifest = entry(&MANIFEST_PATH[1..], MANIFEST_PATH.len(), &text);
        assert!(refused(&[manifest, trailer].concat()).contains("expected at most 8388608"));
    }

    #[test]
    fn a_unified_kernel_image_is_listed_by_its_initramfs() {
        let initramfs = image("zstd");
        let uki = crate::made::program(&[(".linux", b"kernel"), (".initrd", &initramfs)]);
        assert_eq!(list(&uki).unwrap(), list(&initramfs).unwrap());
        assert_eq!(config(&uki).unwrap().as_deref(), Some("cmdline=quiet\n"));
        assert!(list(&crate::made::program(&[(".linux", b"kernel")])).is_err());
    }

    #[test]
    fn a_reason_stands_at_one_of_many_entries_of_a_path() {
        let manifest = entry(&MANIFEST_PATH[1..], MANIFEST_PATH.len(), b"/a\treason\n");
        let archive = [entry("a", 2, b"").repeat(3), manifest, entry("TRAILER!!!", 11, b"")].concat();
        let found = list(&archive).unwrap();
        assert_eq!(found.files.iter().filter(|f| f.why.as_deref() == Some("reason")).count(), 1);
    }

    proptest! {
        #[test]
        fn total(at in 0_usize..2000, value in any::<u8>(), which in 0_usize..5) {
            let mut bytes = image(["zstd", "xz", "gzip", "lz4", "none"][which]);
            let len = bytes.len();
            bytes[at % len] = value;
            let _ = list(&bytes);
        }
    }
}
