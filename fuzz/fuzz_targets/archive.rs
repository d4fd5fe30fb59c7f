//! An image of any bytes, or one whose archive is any bytes: listing ends in entries or a reason, in little memory
//! whatever they unpack to. Compressed files of any bytes: no more than the limit comes out.
#![no_main]

mod counting;

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use taproot::initramfs::compress::Compression;
use taproot::initramfs::decompress::by_name_up_to;
use taproot::inspect::{config, list};
use taproot_init::image::ImageConfig;

const LIMIT: u64 = 1 << 20;
const MIB: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let [control, data @ ..] = bytes else { return };
    match control % 8 {
        0..=2 => image(data),
        3 => image(&packed(Compression::Gzip(1), data)),
        4 => image(&packed(Compression::Lz4, data)),
        // An early archive, and a main one, with a byte between them that says where one ends.
        5 => {
            let at = data.first().map_or(0, |n| data.len() * usize::from(*n) / 256);
            let (early, main) = data.split_at(at);
            image(&[early.get(1..).unwrap_or_default(), &packed(Compression::Lz4, main)].concat());
        }
        kind => {
            let name = Path::new(["x.zst", "x.xz", "x.gz"][usize::from(kind + control / 8) % 3]);
            let (unpacked, taken) = counting::counted(|| by_name_up_to(LIMIT, name, data.to_vec()));
            assert!(taken <= 5 * MIB, "{taken} bytes allocated");
            match unpacked {
                Ok(unpacked) => assert!(unpacked.len() as u64 <= LIMIT),
                Err(problem) => assert!(!problem.to_string().is_empty()),
            }
        }
    }
});

fn packed(compression: Compression, archive: &[u8]) -> Vec<u8> {
    compression.apply(archive.to_vec()).unwrap_or_default()
}

fn image(bytes: &[u8]) {
    let (listing, taken) = counting::counted(|| list(bytes));
    let config = config(bytes);
    assert_eq!(config.is_ok(), listing.is_ok());
    match listing {
        Ok(listing) => {
            assert_eq!(listing.bytes, bytes.len() as u64);
            let unpacked = usize::try_from(listing.uncompressed_bytes).unwrap_or(usize::MAX);
            // A header has 110 bytes, and what is shown of an entry is not much more than its name.
            assert!(listing.files.len() <= (bytes.len() + unpacked) / 110);
            assert!(listing.files.iter().all(|f| f.path.starts_with('/') && f.path.len() < 5000));
            assert!(taken <= 9 * MIB + 16 * (bytes.len() + unpacked), "{taken} bytes allocated for {unpacked}");
        }
        Err(problem) => assert!(!format!("{problem:#}").is_empty()),
    }
    assert!(taken <= 256 * MIB, "{taken} bytes allocated for {} of input", bytes.len());
    if let Ok(Some(text)) = config {
        assert!(ImageConfig::parse(&text).pools.len() <= text.lines().count());
    }
}
