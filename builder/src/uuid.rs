//! UUIDs (RFC 9562): made, written, and as partition tables have them.

use taproot_init::hex::hex;

/// Of the beginning of a hash (version 8, the maker's own): the same content has the same, and no other has it.
pub fn of_hash(hash: &[u8]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
    with_version(bytes, 8)
}

/// Of random bytes (version 4).
pub fn of_random(bytes: [u8; 16]) -> [u8; 16] {
    with_version(bytes, 4)
}

/// With its version, and the variant of the RFC.
fn with_version(mut bytes: [u8; 16], number: u8) -> [u8; 16] {
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = *version & 0x0f | number << 4;
    *variant = *variant & 0x3f | 0x80;
    bytes
}

/// As people write it.
pub fn text(uuid: [u8; 16]) -> String {
    let digits = hex(&uuid);
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| digits.get(group).unwrap_or_default()).join("-")
}

/// From that, in small or capital letters.
pub fn parse(written: &str) -> Option<[u8; 16]> {
    let digits: String = written.chars().filter(|c| *c != '-').collect();
    let byte = |index: usize| u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok();
    let bytes: Vec<u8> = (0..16).map(byte).collect::<Option<_>>()?;
    bytes.try_into().ok().filter(|bytes| text(*bytes).eq_ignore_ascii_case(written))
}

/// From the order of the text to that of partition tables, and back: the first three numbers are little-endian there.
pub fn mixed(uuid: [u8; 16]) -> [u8; 16] {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    ORDER.map(|at| uuid.get(at).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let written = "6a898cc3-1dd2-11b2-99a6-080020736631";
        let uuid = parse(written).unwrap();
        assert_eq!((text(uuid).as_str(), parse(&written.to_uppercase())), (written, Some(uuid)));
        assert_eq!((mixed(uuid)[..6].to_vec(), mixed(mixed(uuid))), (vec![0xc3, 0x8c, 0x89, 0x6a, 0xd2, 0x1d], uuid));
        for bad in ["", "6a898cc3", "6a898cc31dd211b299a6080020736631", "6a898cc3-1dd2-11b2-99a6-08002073663x", "+a-"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(text(of_random([0xff; 16])), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(text(of_hash(&[0; 32])), "00000000-0000-8000-8000-000000000000");
    }
}
