//! Reading an image back: early archives, the compressed main archive, the manifest. Images are foreign bytes.

use crate::initramfs::compress::lz4_legacy_read;
use crate::initramfs::decompress;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use taproot_init::image::{CONFIG_PATH, MANIFEST_PATH};

/// More than this is no initramfs.
const LIMIT: usize = 512 << 20;

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
    /// In the uncompressed archive before the main one.
    pub early: bool,
}

/// A whole image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// Size of the image.
    pub bytes: u64,
    /// `zstd`, `xz`, `gzip`, `lz4` or `none`.
    pub compression: &'static str,
    /// Size of the main archive unpacked.
    pub uncompressed_bytes: u64,
    /// Entries in archive order.
    pub files: Vec<File>,
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
    let plain = match compression_of(bytes) {
        Some("none") => bytes.to_vec(),
        Some("zstd") => decompress::all(zstd::stream::read::Decoder::new(bytes)?)?,
        Some("xz") => decompress::all(liblzma::read::XzDecoder::new(bytes))?,
        Some("gzip") => decompress::all(flate2::read::MultiGzDecoder::new(bytes))?,
        Some("lz4") => lz4_legacy_read(bytes, LIMIT)?,
        _ => bail!("not an initramfs: expected a cpio archive, or one compressed with zstd, xz, gzip or lz4"),
    };
    Ok(plain)
}

/// Reads one archive; returns the entries, the text of the file `wanted` if it is there, and where the archive ends.
fn entries(archive: &[u8], early: bool, wanted: &str) -> Result<(Vec<File>, Option<String>, usize)> {
    let mut cursor = Cursor::new(archive);
    let mut files = Vec::new();
    let mut content = None;
    loop {
        let mut reader = cpio::NewcReader::new(cursor).context("the archive is damaged or cut off")?;
        let entry = reader.entry();
        if entry.is_trailer() {
            let inner = reader.finish().context("the archive's end is damaged")?;
            return Ok((files, content, usize::try_from(inner.position())?));
        }
        let path = format!("/{}", entry.name().trim_start_matches("./").trim_start_matches('/'));
        let kind = match entry.mode() & 0o170_000 {
            0o040_000 => "directory",
            0o100_000 => "file",
            0o120_000 => "link",
            _ => "device",
        };
        let file = File { kind, size: entry.file_size().into(), mode: entry.mode(), why: None, early, path };
        if file.path == wanted {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).with_context(|| format!("{wanted} is cut off"))?;
            content = Some(String::from_utf8_lossy(&text).into_owned());
        }
        files.push(file);
        cursor = reader.finish().context("the archive is damaged or cut off")?;
    }
}

/// Lists an image.
pub fn list(image: &[u8]) -> Result<Listing> {
    let (mut listing, manifest) = walk(image, MANIFEST_PATH)?;
    let why: BTreeMap<&str, &str> =
        manifest.iter().flat_map(|m| m.lines()).filter_map(|l| l.split_once('\t')).collect();
    for file in listing.files.iter_mut().filter(|f| !f.early) {
        file.why = why.get(file.path.as_str()).map(|w| (*w).to_owned());
    }
    Ok(listing)
}

/// The text of the image configuration; `None` if another tool made the image.
pub fn config(image: &[u8]) -> Result<Option<String>> {
    walk(image, CONFIG_PATH).map(|(_, config)| config)
}

/// Every entry, and the text of the main archive's file `wanted`.
fn walk(image: &[u8], wanted: &str) -> Result<(Listing, Option<String>)> {
    let mut files = Vec::new();
    let mut rest = image;
    loop {
        let Some(compression) = compression_of(rest) else {
            bail!("not an initramfs: expected a cpio archive, or one compressed with zstd, xz, gzip or lz4");
        };
        if compression != "none" {
            let archive = unpack(rest)?;
            return finish(image.len(), compression, &archive, files, wanted);
        }
        let (found, _, end) = entries(rest, true, wanted)?;
        let after = rest.get(end..).unwrap_or_default();
        let zeros = after.iter().take_while(|b| **b == 0).count();
        let next = after.get(zeros..).unwrap_or_default();
        if next.is_empty() {
            return finish(image.len(), "none", rest, files, wanted);
        }
        files.extend(found);
        rest = next;
    }
}

fn finish(
    bytes: usize,
    compression: &'static str,
    archive: &[u8],
    mut files: Vec<File>,
    wanted: &str,
) -> Result<(Listing, Option<String>)> {
    let (main, content, _) = entries(archive, false, wanted)?;
    files.extend(main);
    Ok((Listing { bytes: bytes as u64, compression, uncompressed_bytes: archive.len() as u64, files }, content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initramfs::archive::Tree;
    use proptest::prelude::*;

    fn image(compression: &str) -> Vec<u8> {
        let mut early = Tree::default();
        early.file("/kernel/x86/microcode/GenuineIntel.bin", vec![1; 100], "microcode").unwrap();
        let mut tree = Tree::default();
        tree.program("/init", vec![7; 5000], "init").unwrap();
        tree.file(MANIFEST_PATH, b"/init\tthe program\n".to_vec(), "manifest").unwrap();
        tree.file(CONFIG_PATH, b"cmdline=quiet\n".to_vec(), "configuration").unwrap();
        let mut bytes = early.to_cpio(0).unwrap();
        let compression: crate::initramfs::compress::Compression = compression.parse().unwrap();
        bytes.extend(compression.apply(tree.to_cpio(0).unwrap()).unwrap());
        bytes
    }

    #[test]
    fn early_and_main_archives_with_reasons() {
        for compression in ["zstd", "xz", "gzip", "lz4", "none"] {
            let listing = list(&image(compression)).unwrap();
            assert_eq!(listing.compression, compression);
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
