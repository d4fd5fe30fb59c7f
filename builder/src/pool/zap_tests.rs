use proptest::prelude::*;

use super::super::bytes::get64;
use super::*;

/// Looks a name up as the kernel does.
fn look_up(zap: &Zap, name: &[u8]) -> Option<Vec<u8>> {
    let first = &zap.blocks[0];
    let salt = |at: usize| get64(first, at);
    if get64(first, 0) == BLOCK_MICRO {
        let mut entries = first.chunks_exact(MICRO_ENTRY).skip(1);
        let found = entries.find(|entry| entry[14..].split(|b| *b == 0).next() == Some(name) && !name.is_empty())?;
        return Some(get64(found, 0).to_be_bytes().to_vec());
    }
    let hash = hash(salt(80), name);
    let (start, shift) = (get64(first, 16), get64(first, 32));
    let at = index(hash >> (64 - shift));
    let leaf = if start == 0 {
        get64(first, SIZE / 2 + at * 8)
    } else {
        get64(&zap.blocks[index(start) + at / (SIZE / 8)], at % (SIZE / 8) * 8)
    };
    let leaf = &zap.blocks[index(leaf)];
    let word = |at: usize| u16::from_le_bytes([leaf[at], leaf[at + 1]]);
    let bits = word(32);
    assert_eq!(get64(leaf, 16), if bits == 0 { 0 } else { hash >> (64 - bits) });
    let bucket = index(hash >> (64 - 9 - u64::from(bits)) & 511);
    let mut chunk = word(48 + 2 * bucket);
    let array = |mut chunk: u16, bytes: usize| {
        let mut all = Vec::new();
        while chunk != CHUNK_END {
            let at = Filler::place(chunk);
            assert_eq!(leaf[at], CHUNK_ARRAY);
            all.extend_from_slice(&leaf[at + 1..at + 22]);
            chunk = word(at + 22);
        }
        all.truncate(bytes);
        all
    };
    while chunk != CHUNK_END {
        let at = Filler::place(chunk);
        assert_eq!(leaf[at], CHUNK_ENTRY);
        let found = array(word(at + 4), usize::from(word(at + 6)));
        if found == [name, &[0]].concat() {
            return Some(array(word(at + 8), usize::from(leaf[at + 1]) * usize::from(word(at + 10))));
        }
        chunk = word(at + 2);
    }
    None
}

/// CRC-64 with the reflected ECMA polynomial; from all ones and inverted it is CRC-64/XZ, whose check value is public.
#[test]
fn the_hash_is_the_crc() {
    let mut crc = u64::MAX;
    for byte in b"123456789" {
        crc = (crc >> 8) ^ CRC[index((crc ^ u64::from(*byte)) & 0xff)];
    }
    assert_eq!(!crc, 0x995d_c9bb_df19_39fa);
    assert_eq!(CRC[128], 0xc96c_5795_d787_0f42);
    assert_eq!(hash(1, b"x") << 28, 0, "the low bits do not count");
}

#[test]
fn one_block_as_long_as_it_can() {
    let entries: Vec<Entry> = (0..2047_u64).map(|n| (format!("name {n}").into_bytes(), Value::Number(n))).collect();
    let zap = build(&entries, 4).unwrap();
    assert_eq!((zap.block_size, zap.blocks.len()), (131_072, 1));
    assert_eq!(look_up(&zap, b"name 77"), Some(77_u64.to_be_bytes().to_vec()));
    let long = [(vec![b'n'; 50], Value::Number(1))];
    assert_eq!(build(&long, 4).unwrap().blocks.len(), 2);
    assert_eq!(build(&[], 4).unwrap().block_size, 512);
}

#[test]
fn a_table_of_leaves_beyond_the_first_block() {
    let entries: Vec<Entry> = (0..200_000_u64)
        .map(|n| (format!("a rather long name of a file, number {n}").into_bytes(), Value::Number(n)))
        .collect();
    let zap = build(&entries, 99).unwrap();
    assert!(get64(&zap.blocks[0], 32) > u64::from(TABLE_SHIFT));
    assert!(zap.blocks.iter().all(|block| block.len() == SIZE));
    for n in (0..200_000_u64).step_by(997) {
        let name = format!("a rather long name of a file, number {n}");
        assert_eq!(look_up(&zap, name.as_bytes()), Some(n.to_be_bytes().to_vec()));
    }
    assert_eq!(look_up(&zap, b"another"), None);
}

proptest! {
    #[test]
    fn whatever_goes_in_is_found(
        names in proptest::collection::btree_set("[^\\x00/]{1,60}", 0..300),
        text in "[a-z]{0,300}",
        salt: u64,
    ) {
        let entries: Vec<Entry> = (0_u64..)
            .zip(&names)
            .map(|(n, name)| {
                let value = match n % 3 {
                    0 => Value::Number(n),
                    1 => Value::Bytes(text.clone().into_bytes()),
                    _ => Value::Words(vec![low16(n); 5]),
                };
                (name.clone().into_bytes(), value)
            })
            .collect();
        let zap = build(&entries, salt).unwrap();
        for (name, value) in &entries {
            prop_assert_eq!(look_up(&zap, name), Some(value.bytes()));
        }
    }
}
