//! Modules and firmware come compressed in several ways; the image holds them uncompressed and is compressed once.

use std::io::{self, Read};
use std::path::Path;

const SUFFIXES: [&str; 3] = [".xz", ".zst", ".gz"];
/// How the name of a firmware file can end, first what the kernel looks for first.
pub(super) const ENDINGS: [&str; 3] = ["", ".zst", ".xz"];
/// No kernel module or firmware file is near this; a bomb is refused.
const LIMIT: u64 = 512 << 20;

/// `xz -9` takes 65 MiB to unpack.
const XZ_MEMORY: u64 = 256 << 20;

/// The path without a compression suffix.
pub fn strip_suffix(path: &str) -> &str {
    SUFFIXES.iter().find_map(|s| path.strip_suffix(s)).unwrap_or(path)
}

/// Decompresses by the file name's suffix.
pub fn by_name(path: &Path, raw: Vec<u8>) -> io::Result<Vec<u8>> {
    by_name_up_to(LIMIT, path, raw)
}

/// [`by_name`] with a limit for the uncompressed size.
pub fn by_name_up_to(limit: u64, path: &Path, raw: Vec<u8>) -> io::Result<Vec<u8>> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => all(limit, xz(&raw)?),
        Some("zst") => all(limit, zstd::stream::read::Decoder::new(raw.as_slice())?),
        Some("gz") => all(limit, flate2::read::MultiGzDecoder::new(raw.as_slice())),
        _ => Ok(raw),
    }
}

/// A reader of xz; the dictionary that its beginning asks for is allocated at once.
pub(crate) fn xz(bytes: &[u8]) -> io::Result<impl Read> {
    let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0)?;
    Ok(liblzma::read::XzDecoder::new_stream(bytes, stream))
}

/// Everything a reader gives, up to a limit.
fn all(limit: u64, reader: impl Read) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(limit + 1).read_to_end(&mut out)?;
    if out.len() as u64 > limit {
        let text = format!("more than {limit} bytes uncompressed; expected a module or a firmware file");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn suffixes() {
        assert_eq!(strip_suffix("a/b.ko.xz"), "a/b.ko");
        assert_eq!(strip_suffix("a/b.ko"), "a/b.ko");
        let packed = zstd::encode_all(&b"hello"[..], 1).unwrap();
        assert_eq!(by_name(Path::new("x.ko.zst"), packed).unwrap(), b"hello");
        assert!(by_name(Path::new("x.ko.xz"), b"junk".to_vec()).is_err());
    }

    #[test]
    fn no_more_than_the_limit_comes_out() {
        let data = vec![0; 10_000];
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
        gz.write_all(&data).unwrap();
        let packed = [
            ("x.zst", zstd::encode_all(data.as_slice(), 1).unwrap()),
            ("x.xz", liblzma::encode_all(data.as_slice(), 0).unwrap()),
            ("x.gz", gz.finish().unwrap()),
        ];
        for (name, packed) in packed {
            assert_eq!(by_name_up_to(10_000, Path::new(name), packed.clone()).unwrap(), data, "{name}");
            let error = by_name_up_to(9_999, Path::new(name), packed).unwrap_err().to_string();
            assert!(error.contains("more than 9999 bytes uncompressed"), "{name}: {error}");
        }
    }

    #[test]
    fn an_xz_file_that_asks_for_a_huge_dictionary() {
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(1 << 20);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::None).unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(b"x").unwrap();
        let mut packed = encoder.finish().unwrap();
        assert_eq!(by_name(Path::new("x.xz"), packed.clone()).unwrap(), b"x");
        // The block header behind the 12 bytes of the stream header: size, flags, filter 0x21 with 1 byte of properties.
        assert_eq!(packed[12..16], [2, 0, 0x21, 1]);
        packed[16] = 40; // 4 GiB - 1
        let mut crc = flate2::Crc::new();
        crc.update(&packed[12..20]);
        packed[20..24].copy_from_slice(&crc.sum().to_le_bytes());
        let error = by_name(Path::new("x.xz"), packed).unwrap_err().to_string();
        assert!(error.contains("memory"), "{error}");
    }
}
