//! A device of any bytes, which repeat behind their end: probing ends in a kind or none, and so does the look at its first
//! page for a hibernation image.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taproot_init::devices::probe::superblock;
use taproot_init::devices::swap::{Header, signature_without_image};

fuzz_target!(|bytes: &[u8]| {
    let [control, data @ ..] = bytes else { return };
    if data.is_empty() {
        return;
    }
    // The length of the device: reads behind it fail.
    let end = 1_u64 << (control % 40);
    let mut read = |offset: u64, buffer: &mut [u8]| {
        if offset.checked_add(buffer.len() as u64).is_none_or(|behind| behind > end) {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        for (at, byte) in buffer.iter_mut().enumerate() {
            let from = (offset + at as u64) % data.len() as u64;
            *byte = data[usize::try_from(from).unwrap_or(0)];
        }
        Ok(())
    };
    if let Ok(Some(found)) = superblock(&mut read) {
        assert!(!found.kind.is_empty());
        assert!(found.label.iter().chain(&found.uuid).all(|text| !text.is_empty() && text.len() < 2048));
    }
    let header = Header::read(data);
    assert!(header.swap || header.image.is_none());
    if header.image.is_some() {
        let mut page = data.to_vec();
        let at = page.len() - 10;
        page[at..].copy_from_slice(&signature_without_image(data));
        assert_eq!(Header::read(&page), Header { image: None, swap: true });
    }
});
