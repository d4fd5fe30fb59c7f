use super::*;

/// What the vectors are made over.
fn data(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i.wrapping_mul(31) ^ (i >> 8).wrapping_mul(7)).to_le_bytes()[0]).collect()
}

fn salt(kind: &str) -> Vec<u8> {
    match kind {
        "-" => Vec::new(),
        "counting" => (0..32).collect(),
        "longest" => (0..=255).rev().collect(),
        text => text.as_bytes().to_vec(),
    }
}

const UUID: [u8; 16] = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128.to_be_bytes();

/// Blocks, bytes of a data and of a hash block, salt, root hash, and the SHA-256 of the whole file with superblock and tree that
/// `veritysetup format` of cryptsetup 2.6.1 makes with the uuid above. A program in Python, which knows only the kernel's
/// description of the tree, comes to the same.
const VECTORS: &str = "
    1 4096 4096 - 574386fbd94e4e4bb2480cf29ffeced526177cbda77f13471d29eaea65ef0f96 a80d0391b4c368599a3c43fd73f9c04eaee71c7916a83193b1a4fd3c78c4562f
    2 4096 4096 - cb604c20db7ab351ea13b0fa0d24ef546410fab83a486dd2f6ffd864f9968645 1fadb2e80bc195d23fc96c186b82fcb0641d8a64584f2aeabfc608b202ada271
    128 4096 4096 counting 43934e53274df5691e51f0a8adbf134f5778c2760c84debba9f3402fd2e9ca39 635c7005f5fd72ec4802b68b1d11eba01e615376300d488e5c3e1438fc073fe5
    129 4096 4096 counting e127894b7593e08595175aff47005fe0fcab03ffdae1c4cd6594ee7b90920680 e92b8f211e0591d02899873ef5a496f45dd87d1464c7b901f53f1d43672e3cff
    16 512 512 salt f1e7582674acf29ee57165f1777daf9da1f85c36cb0f51a517953545d1b13035 81cb0c6485b3b0aa0de8659688bae39e9e778e154b86957ef7790e1a173eda00
    17 512 512 - e088af098428c465dea9e10c5935d74e1ede7c5d059bbf34d37a6482f3ea0c26 32aeec1552b2fc9a914cca1c5651ef61b1ed0b99c16a2fedbd2ce82b0a81214b
    257 512 512 longest e6d75ac94683b6cb87dfe82d6b7f0774c496053274165c0bee780106cc028399 44e6635f61cf6add365f155939440bb8b5182cf80c372255c013327039ab10d8
    4097 512 512 \u{1} b66e21c6e6d119b3c48147492fe88c899e418f82b7436efe210e620079625bdd 02a97364fa7926400d2b573012015ffc031e77fe8d531f318b2447546772d1c1
    100 1024 512 abc 71c4cfdfc24717ad34ff6eca0f738ac06be117dfb0ac3089790304efb1b5dd8a 32f33ce7204011ccc69f930f1990f203c31c6551312bdddbb464938c8498b99a
    100 512 4096 abc 73a37f20cb95b5156e020a1316938564593fa9ac9aa9a9b6cd838ce446cc90de 48aa3d0685fca2f82370dc6ce5fb9b1b61b7e4b4fdbcd776d4d8c541254dd5aa
";

#[test]
fn trees_are_those_of_veritysetup() {
    use sha2::{Digest as _, Sha256};
    let lines: Vec<&str> = VECTORS.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(lines.len(), 10);
    for line in lines {
        let words: Vec<&str> = line.trim_start().split(' ').collect();
        let [blocks, data_block, hash_block, salt_kind, root, file] = words[..] else { panic!("{line}") };
        let number = |text: &str| text.parse::<u32>().unwrap();
        let (blocks, data_block, hash_block) = (number(blocks), number(data_block), number(hash_block));
        let format = Format::new(data_block, hash_block, blocks.into(), &salt(salt_kind)).unwrap();
        let tree = build(&format, &mut data((blocks * data_block) as usize).as_slice()).unwrap();
        assert_eq!(tree.root.to_string(), root, "{line}");
        assert_eq!(tree.blocks.len() as u64, format.tree_bytes(), "{line}");
        let superblock = Superblock { uuid: UUID, format };
        let mut bytes = superblock.bytes().to_vec();
        bytes.resize(hash_block as usize, 0);
        bytes.extend(tree.blocks);
        // veritysetup makes room for a superblock of 4 KiB if there is no tree.
        assert_eq!(Digest::of(Sha256::new_with_prefix(&bytes)).to_string(), file, "{line}");
        assert_eq!(Superblock::parse(&bytes), Ok(superblock));
    }
}

#[test]
fn data_that_ends_early_have_no_tree() {
    let format = Format::new(512, 512, 3, b"").unwrap();
    assert_eq!(build(&format, &mut data(1535).as_slice()).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    // What lies behind the data does not count.
    let [exact, more] = [1536, 9999].map(|bytes| build(&format, &mut data(bytes).as_slice()).unwrap());
    assert_eq!(exact, more);
}

fn superblock() -> Superblock {
    Superblock { uuid: UUID, format: Format::new(4096, 4096, 128 * 128 + 1, &salt("counting")).unwrap() }
}

#[test]
fn levels_are_as_high_as_they_must_be() {
    assert_eq!(superblock().format.levels(), [129, 2, 1]);
    let levels = |blocks| Format::new(4096, 4096, blocks, b"").unwrap().levels();
    assert_eq!(levels(1), [0; 0]);
    assert_eq!(levels(128), [1]);
    assert_eq!(levels(129), [2, 1]);
    // The most data that can be, in the smallest blocks.
    let most = Format::new(512, 512, (1 << 54) - 1, b"").unwrap();
    assert_eq!(most.levels().len(), 14);
    assert!(most.tree_bytes() > most.data_bytes() / 16 && most.tree_bytes() < most.data_bytes() / 14);
}

/// One byte of a good superblock is another.
fn with(at: usize, bytes: &[u8]) -> Result<Superblock, VerityError> {
    let mut all = superblock().bytes();
    all[at..at + bytes.len()].copy_from_slice(bytes);
    Superblock::parse(&all)
}

#[test]
fn superblocks_that_are_none_are_refused_with_the_reason() {
    assert_eq!(Superblock::parse(&superblock().bytes()[..511]), Err(VerityError::NoSuperblock));
    assert_eq!(Superblock::parse(&[]), Err(VerityError::NoSuperblock));
    assert_eq!(with(5, b"i"), Err(VerityError::NoSuperblock));
    assert_eq!(with(8, &[2]), Err(VerityError::Version { version: 2, kind: 1 }));
    assert_eq!(with(12, &[0]), Err(VerityError::Version { version: 1, kind: 0 }));
    assert_eq!(with(32, b"sha512"), Err(VerityError::Algorithm("sha512".to_owned())));
    assert_eq!(with(64, &513_u32.to_le_bytes()), Err(VerityError::BlockSize(513)));
    assert_eq!(with(68, &[0; 4]), Err(VerityError::BlockSize(0)));
    assert_eq!(with(68, &(1_u32 << 20).to_le_bytes()), Err(VerityError::BlockSize(1 << 20)));
    assert_eq!(with(72, &[0; 8]), Err(VerityError::Blocks { blocks: 0, size: 4096 }));
    assert_eq!(with(72, &(1_u64 << 51).to_le_bytes()), Err(VerityError::Blocks { blocks: 1 << 51, size: 4096 }));
    assert_eq!(with(80, &257_u16.to_le_bytes()), Err(VerityError::Salt(257)));
    assert_eq!(with(80, &0_u16.to_le_bytes()).unwrap().format.salt(), b"");
}

#[test]
fn root_hashes_in_the_spellings_in_use() {
    let digits = "e127894b7593e08595175aff47005fe0fcab03ffdae1c4cd6594ee7b90920680";
    for text in [digits.to_owned(), format!("roothash={digits}"), format!("{digits}\n"), digits.to_uppercase()] {
        assert_eq!(root_hash(&text).unwrap().to_string(), digits, "{text}");
    }
    for text in [
        "",
        "roothash=",
        &digits[1..],
        &format!("{digits}0"),
        &format!("0x{}", &digits[2..]),
        &digits.replace('e', "ä"),
    ] {
        let error = root_hash(text).unwrap_err();
        assert_eq!(error, VerityError::RootHash(text.to_owned()));
        assert!(error.to_string().contains("64 hexadecimal digits"));
    }
    assert!(root_hash(&"f".repeat(1 << 20)).unwrap_err().to_string().len() < 300);
}

#[test]
fn the_table_says_everything_the_kernel_goes_by() {
    let superblock = superblock();
    let digits = "e127894b7593e08595175aff47005fe0fcab03ffdae1c4cd6594ee7b90920680";
    let root = root_hash(digits).unwrap();
    let mut table = Table {
        data: (7, 0),
        hash: (7, 1),
        superblock: &superblock,
        superblock_at: 0,
        root,
        on_corruption: OnCorruption::Error,
    };
    let mapping = table.mapping("taproot-base");
    let salt = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    assert_eq!(mapping.parameters, format!("1 7:0 7:1 4096 4096 16385 1 sha256 {digits} {salt}"));
    assert_eq!(mapping.sectors, 16385 * 8);
    assert_eq!((mapping.name.as_str(), mapping.target), ("taproot-base", "verity"));
    assert_eq!(mapping.uuid, "CRYPT-VERITY-0123456789abcdef0123456789abcdef-taproot-base");
    // Appended: the tree follows in the next whole block.
    for (at, start) in [(16385 * 4096, 16386), (16385 * 4096 + 512, 16386), (4096 - 512, 1)] {
        table.superblock_at = at;
        assert!(table.mapping("x").parameters.contains(&format!(" 16385 {start} sha256")), "{at}");
    }
    for (word, end) in [
        ("error", salt),
        ("restart", "1 restart_on_corruption"),
        ("restart-on-corruption", "1 restart_on_corruption"),
        ("panic", "1 panic_on_corruption"),
    ] {
        table.on_corruption = OnCorruption::parse(word).unwrap();
        assert!(table.mapping("x").parameters.ends_with(&format!(" {end}")), "{word}");
    }
    for word in ["", "ignore", "ignore-corruption", "Error"] {
        assert!(OnCorruption::parse(word).is_err(), "{word}");
    }
    let plain = Superblock { uuid: [0; 16], format: Format::new(512, 4096, 8, b"").unwrap() };
    table = Table { superblock: &plain, superblock_at: 0, on_corruption: OnCorruption::Error, ..table };
    assert!(table.mapping("x").parameters.starts_with("1 7:0 7:1 512 4096 8 1 sha256 "));
    assert!(table.mapping("x").parameters.ends_with(" -") && table.mapping("x").sectors == 8);
}

#[test]
fn where_an_image_ends() {
    let mut squashfs = vec![0; HEAD_LEN];
    squashfs[..4].copy_from_slice(b"hsqs");
    for (bytes, end) in [(221_u64, Some(4096)), (4096, Some(4096)), (4097, Some(8192)), (0, None), (u64::MAX, None)] {
        squashfs[40..48].copy_from_slice(&bytes.to_le_bytes());
        assert_eq!(appended_at(&squashfs), end, "{bytes}");
    }
    // What mkfs.erofs 1.5 writes for one small file.
    let mut erofs = vec![0; HEAD_LEN];
    erofs[1024..1028].copy_from_slice(&[0xe2, 0xe1, 0xf5, 0xe0]);
    erofs[1036] = 12;
    erofs[1060] = 3;
    assert_eq!(appended_at(&erofs), Some(3 * 4096));
    erofs[1036] = 9;
    assert_eq!(appended_at(&erofs), Some(4096));
    erofs[1036] = 200;
    assert_eq!(appended_at(&erofs), None);
    assert_eq!(appended_at(&[0; HEAD_LEN]), None);
    assert_eq!(appended_at(b"hsqs"), None);
}
