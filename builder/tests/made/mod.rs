//! Files made up for tests, of the crate itself and as a user runs it: what of them the packer reads is real.

#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)] // no test needs all; a test stops at the first surprise

pub(crate) mod tar;

/// A relocatable ELF file with a `.modinfo` section.
pub(crate) fn module(modinfo: &str) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let mut out = vec![0_u8; 64];
    out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (out[16], out[18], out[20], out[52], out[58], out[60], out[62]) = (1, 62, 1, 64, 64, 3, 2);
    out.extend(modinfo.as_bytes());
    out.extend(names);
    out.resize(out.len().next_multiple_of(8), 0);
    let headers = out.len() as u64;
    let info = modinfo.len() as u64;
    for words in [[0; 5], [1 | 1 << 32, 0, 0, 64, info], [0xa | 3 << 32, 0, 0, 64 + info, names.len() as u64]] {
        let words = words.into_iter().chain([0, 1, 0]);
        out.extend(words.flat_map(|word: u64| word.to_le_bytes()));
    }
    out[40..48].copy_from_slice(&headers.to_le_bytes());
    out
}

/// The header of a kernel.
pub(crate) fn kernel(release: &str) -> Vec<u8> {
    let mut out = vec![0; 0x400];
    out[0x202..0x206].copy_from_slice(b"HdrS");
    out[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    out[0x300..0x300 + release.len()].copy_from_slice(release.as_bytes());
    out
}

/// A PE program with these sections.
pub(crate) fn program(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"MZ".to_vec();
    out.resize(0x40, 0);
    out[0x3c] = 0x40;
    out.extend(b"PE\0\0");
    let mut coff = [0; 20];
    coff[2] = u8::try_from(sections.len()).unwrap();
    out.extend(coff);
    let mut at = out.len() + 40 * sections.len();
    for (name, data) in sections {
        let mut entry = [0; 40];
        entry[..name.len()].copy_from_slice(name.as_bytes());
        let size = u32::try_from(data.len()).unwrap().to_le_bytes();
        entry[8..12].copy_from_slice(&size);
        entry[16..20].copy_from_slice(&size);
        entry[20..24].copy_from_slice(&u32::try_from(at).unwrap().to_le_bytes());
        out.extend(entry);
        at += data.len();
    }
    for (_, data) in sections {
        out.extend(*data);
    }
    out
}

/// An EFI program as systemd's stub is one: its sections begin at this place in memory.
pub(crate) fn stub(first: u32, sections: &[(&str, &[u8])]) -> Vec<u8> {
    const FILE: usize = 0x200;
    let mut out = b"MZ".to_vec();
    out.resize(0x40, 0);
    out[0x3c] = 0x40;
    out.extend(b"PE\0\0");
    let mut coff = [0_u8; 20];
    coff[..2].copy_from_slice(&0x8664_u16.to_le_bytes());
    coff[2] = u8::try_from(sections.len()).unwrap();
    coff[8] = 9; // symbols that are not there
    coff[16] = 240;
    out.extend(coff);
    let mut optional = [0_u8; 240];
    optional[..2].copy_from_slice(&0x20b_u16.to_le_bytes());
    for (at, value) in [(32, first.min(0x1000)), (36, 0x200), (60, 0x200), (108, 16)] {
        optional[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    out.extend(optional);
    let mut memory = first;
    let mut at = FILE * (out.len() + 40 * sections.len()).div_ceil(FILE);
    for (name, data) in sections {
        let size = u32::try_from(data.len()).unwrap();
        let mut entry = [0_u8; 40];
        entry[..name.len()].copy_from_slice(name.as_bytes());
        let padded = u32::try_from(data.len().next_multiple_of(FILE)).unwrap();
        for (place, value) in [(8, size), (12, memory), (16, padded), (20, u32::try_from(at).unwrap())] {
            entry[place..place + 4].copy_from_slice(&value.to_le_bytes());
        }
        out.extend(entry);
        memory = (memory + size).next_multiple_of(0x1000);
        at += data.len().next_multiple_of(FILE);
    }
    for (_, data) in sections {
        out.resize(out.len().next_multiple_of(FILE), 0);
        out.extend(*data);
    }
    out.resize(out.len().next_multiple_of(FILE), 0);
    out
}
