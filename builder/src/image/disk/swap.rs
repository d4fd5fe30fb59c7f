//! The header of swap space, as mkswap writes it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes of a page of the machines that these images are for.
const PAGE: u64 = 4096;

/// Makes swap space of a partition.
pub fn write(file: &File, start: u64, size: u64, uuid: [u8; 16]) -> io::Result<()> {
    file.write_all_at(&header(size, uuid), start)
}

fn header(size: u64, uuid: [u8; 16]) -> Vec<u8> {
    let last = u32::try_from(size / PAGE - 1).unwrap_or(u32::MAX);
    let mut page = vec![0; 1024];
    page.extend(1_u32.to_le_bytes());
    page.extend(last.to_le_bytes());
    // No bad pages.
    page.extend(0_u32.to_le_bytes());
    page.extend(uuid);
    page.extend(*b"swap");
    page.resize(4086, 0);
    page.extend(*b"SWAPSPACE2");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_mkswap_writes_it() {
        let header = header(64 << 20, *b"0123456789abcdef");
        assert_eq!(header.len(), 4096);
        assert_eq!(header[1024..1036], [1, 0, 0, 0, 0xff, 0x3f, 0, 0, 0, 0, 0, 0]);
        assert_eq!((&header[1036..1052], &header[4086..]), (&b"0123456789abcdef"[..], &b"SWAPSPACE2"[..]));
    }
}
