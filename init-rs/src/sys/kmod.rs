//! Kernel modules: `finit_module(2)`, and `init_module(2)` for those that we decompress.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module, init_module};
use zstd::zstd_safe::get_frame_content_size;

/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h` (since Linux 5.17): the kernel decompresses. nix has no name for it.
const COMPRESSED_FILE: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);
/// Names the one algorithm that the kernel decompresses modules by; not there if it has none.
const KERNEL_ALGORITHM: &str = "/sys/module/compression";
/// The largest modules (those of graphics cards) have a tenth of it uncompressed.
const LIMIT: u64 = 256 << 20;

/// A module that is ready for the kernel: what is left to do is the kernel's own work.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// The kernel reads it.
    File(File),
    /// The kernel reads and decompresses it.
    Compressed(File, &'static str),
    /// We have read and decompressed it.
    Memory(Vec<u8>),
}

/// Reads the module file at `path`, as far as the kernel does not do so itself: files named `.xz`, `.zst` or `.gz` are decompressed
/// by the kernel if it can, and `.zst` by us if not: Debian's 6.12 knows only xz, its 6.1 none. Firmware needs nothing here: the
/// kernel reads `/lib/firmware` itself.
pub fn prepare(path: &Path) -> io::Result<Prepared> {
    let source = match algorithm(path) {
        None => Source::File(File::open(path)?),
        Some(algorithm) if fs::read_to_string(KERNEL_ALGORITHM).is_ok_and(|text| text.trim() == algorithm) => {
            Source::Compressed(File::open(path)?, algorithm)
        }
        Some("zstd") => Source::Memory(decompress(&fs::read(path)?)?),
        Some(other) => {
            let why = format!("this kernel does not decompress modules by {other}; pack them uncompressed or as zstd");
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
    };
    Ok(Prepared { path: path.to_owned(), source })
}

impl Prepared {
    /// Inserts it with `params` (as `finit_module(2)` takes them); returns when its init has run. A module that is there already
    /// is success, because that is what was wanted.
    pub fn insert(self, params: &str) -> io::Result<()> {
        let params = CString::new(params).map_err(|_| io::Error::from(Errno::EINVAL))?;
        let result = match self.source {
            Source::File(file) => finit_module(file, &params, ModuleInitFlags::empty()),
            Source::Compressed(file, algorithm) => match finit_module(file, &params, COMPRESSED_FILE) {
                // What it says of a frame that it does not take; of parameters too, which then is said again.
                Err(Errno::EINVAL | Errno::EOPNOTSUPP) if algorithm == "zstd" => {
                    init_module(&decompress(&fs::read(&self.path)?)?, &params)
                }
                result => result,
            },
            Source::Memory(bytes) => init_module(&bytes, &params),
        };
        match result {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// What a module file is compressed by, as the kernel calls it.
fn algorithm(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()? {
        "zst" => Some("zstd"),
        "xz" => Some("xz"),
        "gz" => Some("gzip"),
        _ => None,
    }
}

/// Decompresses a file that is one zstd frame with its size in its header, as `taproot` packs modules.
pub fn decompress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{why}; pack the image again"));
    let size = get_frame_content_size(bytes).ok().flatten();
    let size = size.ok_or_else(|| bad("expected a zstd frame that says its size".to_owned()))?;
    if size > LIMIT {
        return Err(bad(format!("a module of {size} bytes, expected at most {LIMIT}")));
    }
    // The header can promise what the rest does not hold: memory is only touched as it is filled.
    let size = usize::try_from(size).map_err(|e| bad(e.to_string()))?;
    zstd::bulk::decompress(bytes, size).map_err(|e| bad(format!("a damaged zstd frame: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_carry_the_errno() {
        let load = |path: &Path, params: &str| prepare(path)?.insert(params);
        let missing = load(Path::new("/nonexistent/x.ko"), "").unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(nix::libc::ENOENT));
        let nul = load(Path::new("/dev/null"), "a\0b").unwrap_err();
        assert_eq!(nul.raw_os_error(), Some(nix::libc::EINVAL));
        // Whatever the kernel thinks of an empty file (no privilege, no module support, no ELF), it is no success.
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(load(file.path(), "").is_err());
    }

    #[test]
    fn frames() {
        let text = b"module ".repeat(1000);
        let frame = zstd::bulk::compress(&text, 3).unwrap();
        assert_eq!(decompress(&frame).unwrap(), text);
        let cut = &frame[..frame.len() - 3];
        // A frame that promises 2^40 bytes: magic, descriptor with an 8-byte size, size.
        let huge = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(1_u64 << 40).to_le_bytes()].concat();
        for (bytes, why) in [(cut, "damaged"), (&huge, "at most"), (b"ELF", "expected a zstd frame"), (b"", "expected")]
        {
            let error = decompress(bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
    }

    #[test]
    fn suffixes() {
        let of = |name: &str| algorithm(Path::new(name));
        assert_eq!(
            [of("a.ko.zst"), of("a.ko.xz"), of("a.ko.gz"), of("a.ko")],
            [Some("zstd"), Some("xz"), Some("gzip"), None]
        );
    }

    proptest::proptest! {
        #[test]
        fn total(bytes: Vec<u8>) {
            let _ = decompress(&bytes);
            let _ = decompress(&[&[0x28, 0xb5, 0x2f, 0xfd][..], &bytes].concat());
        }
    }
}
