//! Modules and firmware come compressed in several ways; the image holds them uncompressed and is compressed once.

use std::io::{self, Read};
use std::path::Path;

const SUFFIXES: [&str; 3] = [".xz", ".zst", ".gz"];
/// No kernel module or firmware file is near this; a bomb is refused.
const LIMIT: u64 = 512 << 20;

/// The path without a compression suffix.
pub fn strip_suffix(path: &str) -> &str {
    SUFFIXES.iter().find_map(|s| path.strip_suffix(s)).unwrap_or(path)
}

/// Decompresses by the file name's suffix.
pub fn by_name(path: &Path, raw: Vec<u8>) -> io::Result<Vec<u8>> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => all(liblzma::read::XzDecoder::new(raw.as_slice())),
        Some("zst") => all(zstd::stream::read::Decoder::new(raw.as_slice())?),
        Some("gz") => all(flate2::read::MultiGzDecoder::new(raw.as_slice())),
        _ => Ok(raw),
    }
}

/// Everything a reader gives, up to a limit.
pub fn all(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(LIMIT + 1).read_to_end(&mut out)?;
    if out.len() as u64 > LIMIT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {LIMIT} bytes uncompressed")));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes() {
        assert_eq!(strip_suffix("a/b.ko.xz"), "a/b.ko");
        assert_eq!(strip_suffix("a/b.ko"), "a/b.ko");
        let packed = zstd::encode_all(&b"hello"[..], 1).unwrap();
        assert_eq!(by_name(Path::new("x.ko.zst"), packed).unwrap(), b"hello");
        assert!(by_name(Path::new("x.ko.xz"), b"junk".to_vec()).is_err());
    }
}
