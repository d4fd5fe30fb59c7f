//! The superblock of a hash tree, of any bytes, with data behind it: the tree has as many blocks as the format says, the kernel's line
//! fits a request; the beginning of an image; the spellings of a root hash.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taproot_init::devices::verity::{
    Digest, OnCorruption, SUPERBLOCK_LEN, Superblock, Table, appended_at, build, root_hash,
};

/// Data that a tree is made over.
const MOST: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    assert!(appended_at(bytes).is_none_or(|at| at > 0 && at % 4096 == 0));
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(root) = root_hash(text)
    {
        assert_eq!(root_hash(&root.to_string()), Ok(root));
    }
    let Ok(superblock) = Superblock::parse(bytes) else { return };
    assert_eq!(Superblock::parse(&superblock.bytes()).as_ref(), Ok(&superblock));
    let format = &superblock.format;
    assert!(format.levels().len() < 64 && format.levels().last().is_none_or(|top| *top == 1));
    let table = Table {
        data: (7, 0),
        hash: (7, 1),
        superblock: &superblock,
        superblock_at: format.data_bytes(),
        root: Digest::new([0; 32]),
        on_corruption: OnCorruption::Restart,
    };
    assert!(table.mapping("taproot-layer").parameters.len() < 1024);
    if format.data_bytes() <= MOST {
        let data = bytes.get(SUPERBLOCK_LEN..).unwrap_or_default().iter().chain(std::iter::repeat(&0));
        let data: Vec<u8> = data.take(usize::try_from(format.data_bytes()).unwrap_or(0)).copied().collect();
        let tree = build(format, &mut data.as_slice()).expect("the data are there");
        assert_eq!(tree.blocks.len() as u64, format.tree_bytes());
    }
});
