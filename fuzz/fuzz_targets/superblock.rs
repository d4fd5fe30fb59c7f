//! A device of any bytes, which repeat behind their end: probing ends in a kind or none, and so do the look at its first
//! page for a hibernation image, at its partition table, and at a program that consists of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taproot_init::boot::program::{Form, form};
use taproot_init::devices::probe::{PartitionTable, sealed, superblock, tail};
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
    if let Ok(Some(found)) = superblock(&mut read, end) {
        assert!(!found.kind.is_empty());
        assert!(found.label.iter().chain(&found.uuid).all(|text| !text.is_empty() && text.len() < 2048));
    }
    assert!(sealed(data).is_none_or(|image| ["squashfs", "erofs"].contains(&image.kind)));
    assert!(tail(&mut read, end).is_none_or(|kind| !kind.is_empty()));
    if let Ok(Some(table)) = PartitionTable::read(&mut read, 512)
        && let Some((uuid, name)) = table.partition(1, u64::from(*control) * 512)
    {
        assert!((uuid.len() == 36 || uuid.len() == 11) && name.len() <= 3 * 36);
    }
    let program = form(&mut |at, buf: &mut [u8]| {
        let rest = data.get(usize::try_from(at).ok()?..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Some(n)
    });
    assert!(!matches!(program, Form::Interpreted(path) if path.len() > 3 * 4096));
    let header = Header::read(data);
    assert!(header.swap || header.image.is_none());
    if header.image.is_some() {
        let mut page = data.to_vec();
        let at = page.len() - 10;
        page[at..].copy_from_slice(&signature_without_image(data));
        assert_eq!(Header::read(&page), Header { image: None, swap: true });
    }
});
