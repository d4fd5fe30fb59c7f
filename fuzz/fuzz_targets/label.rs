//! Any four copies of a label, most of them with a right checksum: reading ends in a label or a reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taproot_init::zfs::label::{self, REGION_SIZE, REGION_START};

const DEVICE: u64 = 64 << 20;

fuzz_target!(|bytes: &[u8]| {
    let [control, odd_one, data @ ..] = bytes else { return };
    let _ = label::parse_label(data, u64::from(*control));
    let (half, other) = data.split_at(data.len() / 2);
    let offsets = label::label_offsets(DEVICE).unwrap_or_default();
    // Copies: all bytes, or one of the halves for the odd one; bit 0..3 of the control byte leave a checksum wrong.
    let regions: Vec<Vec<u8>> = offsets
        .iter()
        .enumerate()
        .map(|(i, offset)| {
            let part = match *odd_one {
                n if usize::from(n & 3) == i && n & 4 != 0 => half,
                n if usize::from(n & 3) == i && n & 8 != 0 => other,
                _ => data,
            };
            let wrong = u64::from(control >> i & 1);
            label::seal_region(part.to_vec(), offset + REGION_START + wrong).unwrap_or_else(|| vec![0; REGION_SIZE])
        })
        .collect();
    let mut read = |offset: u64, buffer: &mut [u8]| {
        let at = offsets.iter().position(|o| o + REGION_START == offset);
        match at.and_then(|at| regions.get(at)) {
            Some(region) if control & 16 == 0 => buffer.copy_from_slice(region),
            _ => return Err(std::io::Error::other("no label here")),
        }
        Ok(())
    };
    match label::read_labels(&mut read, DEVICE) {
        Ok(label) => {
            assert!(label.index < 4);
            assert!(label.guid().is_some_and(|guid| guid != 0));
            assert!(label.is_aux() || label.txg().is_some_and(|txg| txg != 0));
            let _ = (label.pool_name(), label.hostname(), label.pool_guid(), label.vdev_children());
        }
        Err(problem) => assert!(!problem.to_string().is_empty()),
    }
});
