//! Archives as they are found: in a file or on standard input, as they are or compressed. The first bytes say how, no name does.

use super::Tarball;
use super::feed::{Fed, feed};
use super::merge::Merged;
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Write as _};
use std::path::{Path, PathBuf};

/// `xz -9` takes 65 MiB to unpack.
const XZ_MEMORY: u64 = 256 << 20;
/// Concatenated streams are one (`LZMA_CONCATENATED`): pixz and `xz -T` write such.
const XZ_CONCATENATED: u32 = 8;
/// Longest beginning that tells a format.
const MAGIC: usize = 6;
const READ_AHEAD: usize = 256 << 10;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Xz,
    Zstd,
    Lz4,
}

impl Packing {
    fn of(start: &[u8]) -> Result<Self> {
        Ok(match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Self::Xz,
            // The second is a frame to be skipped: pzstd begins with one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Lz4,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => bail!(
                "it is compressed by bzip2; expected a tar as it is, or by gzip, xz, zstd or lz4: bzip2 -d < FILE | taproot image --tar -"
            ),
            [b'P', b'K', 3, 4, ..] => bail!("it is a zip archive, which knows no owners; expected a tar"),
            _ => Self::None,
        })
    }
}

/// An archive that nobody makes.
#[derive(Debug)]
struct Plain<R>(R);

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read + Send + std::fmt::Debug> Tarball for Plain<R> {
    fn finish(mut self: Box<Self>) -> Result<Vec<String>> {
        // Whoever writes to the other end of a pipe wants to come to its end.
        io::copy(&mut self.0, &mut io::sink()).context("reading the archive to its end")?;
        Ok(Vec::new())
    }
}

/// The archive in a file; `-` is standard input.
pub fn open(path: &Path) -> Result<Box<dyn Tarball>> {
    let named = || path.display().to_string();
    if path == Path::new("-") {
        return unpacked(io::stdin()).context("standard input");
    }
    let file = File::open(path).with_context(|| format!("{}: expected a tar archive", named()))?;
    let meta = file.metadata().with_context(|| format!("{}: reading it", named()))?;
    if meta.is_dir() {
        bail!("{}: expected a tar archive, found a directory: say --directory", named());
    }
    unpacked(file).with_context(named)
}

/// Archives one over the other, the lowest first: a later one takes the place of what earlier ones have, and adds to their directories.
pub fn over(archives: Vec<PathBuf>) -> Result<Fed> {
    for path in &archives {
        if path == Path::new("-") {
            bail!("archives that lie over each other are read twice: expected files, found standard input");
        }
        File::open(path).with_context(|| format!("{}: expected a tar archive", path.display()))?;
    }
    Ok(feed(move |out| {
        let mut merged = Merged::default();
        for path in &archives {
            merged.take(open(path)?).with_context(|| path.display().to_string())?;
        }
        merged.directories(out)?;
        for (number, path) in archives.iter().enumerate() {
            merged.write(number, open(path)?, out).with_context(|| path.display().to_string())?;
        }
        out.write_all(&crate::tar::write::END)?;
        Ok(Vec::new())
    }))
}

/// An archive without its compression. That is undone in a thread of its own.
pub fn unpacked(mut input: impl Read + Send + std::fmt::Debug + 'static) -> Result<Box<dyn Tarball>> {
    let mut start = Vec::new();
    input.by_ref().take(MAGIC as u64).read_to_end(&mut start).context("reading the archive")?;
    let packing = Packing::of(&start)?;
    let whole = Cursor::new(start).chain(input);
    if packing == Packing::None {
        // Whoever reads it has a buffer.
        return Ok(Box::new(Plain(whole)));
    }
    let whole = BufReader::with_capacity(READ_AHEAD, whole);
    Ok(Box::new(feed(move |out| {
        let mut plain = decoder(whole, packing)?;
        io::copy(&mut plain, out).with_context(|| format!("undoing {packing:?}: the archive is cut or damaged"))?;
        Ok(Vec::new())
    })))
}

fn decoder(input: impl io::BufRead + 'static, packing: Packing) -> Result<Box<dyn Read>> {
    Ok(match packing {
        Packing::None => Box::new(input),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Packing::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, XZ_CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        Packing::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(input)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: Vec<u8>) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut stream = unpacked(Cursor::new(bytes))?;
        stream.read_to_end(&mut all)?;
        stream.finish()?;
        Ok(all)
    }

    #[test]
    fn the_first_bytes_say_how_it_is_packed() {
        let content: Vec<u8> = (0_u32..100_000).flat_map(u32::to_le_bytes).collect();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
        gz.write_all(&content).unwrap();
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&content).unwrap();
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"size"].concat();
        let zstd = zstd::encode_all(content.as_slice(), 1).unwrap();
        let packed = [
            ("none", content.clone()),
            ("gzip", gz.finish().unwrap()),
            ("xz", liblzma::encode_all(content.as_slice(), 0).unwrap()),
            ("zstd", zstd.clone()),
            ("pzstd", [skipped, zstd].concat()),
            ("lz4", lz4.finish().unwrap()),
        ];
        for (name, packed) in packed {
            assert!(read(packed.clone()).unwrap() == content, "{name}");
            if name == "none" {
                continue;
            }
            // Cut, wherever that is.
            // An lz4 stream without its end mark is taken for whole; the archive in it has an end of its own.
            let last = if name == "lz4" { packed.len() / 3 } else { packed.len() - 1 };
            for cut in [last, packed.len() / 2] {
                let said = read(packed[..cut].to_vec()).map_err(|error| format!("{error:#}"));
                assert!(
                    said.as_ref().is_err_and(|said| said.contains("cut or damaged")),
                    "{name} {cut}: {:?}",
                    said.err()
                );
            }
        }
        let two = [liblzma::encode_all(&b"ab"[..], 0).unwrap(), liblzma::encode_all(&b"cd"[..], 0).unwrap()].concat();
        assert_eq!(read(two).unwrap(), b"abcd", "concatenated");
    }

    #[test]
    fn what_is_no_tar_is_told_apart() {
        assert!(read(b"BZh91AY".to_vec()).unwrap_err().to_string().contains("bzip2 -d"));
        assert!(read(b"PK\x03\x04....".to_vec()).unwrap_err().to_string().contains("zip"));
        assert_eq!(read(b"ab".to_vec()).unwrap(), b"ab");
        let dir = tempfile::tempdir().unwrap();
        assert!(format!("{:#}", open(dir.path()).err().unwrap()).contains("--directory"));
        assert!(format!("{:#}", open(&dir.path().join("x")).err().unwrap()).contains("expected a tar archive"));
    }
}
