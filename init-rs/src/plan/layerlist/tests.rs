use super::*;
use ed25519_compact::{KeyPair, Seed};

const SITE: &str = "e127894b7593e08595175aff47005fe0fcab03ffdae1c4cd6594ee7b90920680";
const BASE: &str = "43934e53274df5691e51f0a8adbf134f5778c2760c84debba9f3402fd2e9ca39";
/// Public half of the secret key whose bytes count from 0 to 31.
const KEY_DIGITS: &str = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
/// What OpenSSL 3.0 signs [`text`] by with it (`openssl pkeyutl -sign -rawin`).
const SIGNED: &str = "b384f4724c4acfc5b9c5a3755c401e67881547d2c53618989db883eaa92ea13ca917c52b5422ebc99ddd1852684586da7b9db41728a90de9809041daaf4f730b";

fn text() -> String {
    format!("taproot-layers 1\nserial 42\nlayer 30-site 1048576 sha256 {SITE}\nlayer base 314572800 verity {BASE}\n")
}

fn key() -> PublicKey {
    PublicKey::parse(&format!("ed25519 {KEY_DIGITS} of the tests\n")).unwrap()
}

fn pair(seed: u8) -> KeyPair {
    KeyPair::from_seed(Seed::new([seed; 32]))
}

fn public(pair: &KeyPair) -> PublicKey {
    PublicKey::new(*pair.pk).unwrap()
}

/// A text with its signature, whatever is in it.
fn sign(text: &str, pair: &KeyPair) -> String {
    format!("{text}signature {}\n", hex(&*pair.sk.sign(text, None)))
}

#[test]
fn a_list_that_openssl_signed() {
    let signed = format!("{}signature {SIGNED}\n", text());
    let list = LayerList::open(signed.as_bytes(), &[public(&pair(7)), key()], Some(42)).unwrap();
    let layer = |name: &str, size, seal| Layer { name: name.to_owned(), size, seal };
    let digest = |digits| Digest::parse(digits).unwrap();
    assert_eq!(
        list.layers,
        [
            layer("30-site", 1_048_576, Seal::Sha256(digest(SITE))),
            layer("base", 314_572_800, Seal::Verity(digest(BASE)))
        ]
    );
    assert_eq!((list.serial, list.render()), (42, text()));
    assert_eq!(list.signed(&unhex(SIGNED).unwrap()), signed);
}

/// Whatever byte is another, the list is not believed.
#[test]
fn a_list_that_was_changed_is_refused() {
    let signed = format!("{}signature {SIGNED}\n", text()).into_bytes();
    for at in 0..signed.len() {
        for bit in [0x01, 0x20] {
            let mut changed = signed.clone();
            changed[at] ^= bit;
            let is_digit = at >= signed.len() - 129 && changed[at].is_ascii_hexdigit() && at < signed.len() - 1;
            let same = is_digit && changed[at].eq_ignore_ascii_case(&signed[at]);
            let opened = LayerList::open(&changed, &[key()], None);
            if same {
                // Digits of the signature itself may be of either case.
                assert!(opened.is_ok());
            } else {
                let error = opened.unwrap_err();
                assert!(matches!(error, ListError::Signature(1) | ListError::Unsigned), "byte {at}: {error}");
            }
        }
    }
    // Cut anywhere, or with something behind it.
    for end in 0..signed.len() {
        assert!(LayerList::open(&signed[..end], &[key()], None).is_err(), "{end}");
    }
    let mut longer = signed.clone();
    longer.extend(format!("layer evil 1 sha256 {SITE}\n").bytes());
    assert_eq!(LayerList::open(&longer, &[key()], None), Err(ListError::Unsigned));
    // A second signature line signs the first one, too.
    longer.truncate(signed.len());
    longer.extend(format!("signature {SIGNED}\n").bytes());
    assert_eq!(LayerList::open(&longer, &[key()], None), Err(ListError::Signature(1)));
}

#[test]
fn a_list_of_somebody_else_is_refused() {
    let (own, other) = (pair(1), pair(2));
    let list = sign(&text(), &other);
    assert_eq!(LayerList::open(list.as_bytes(), &[], None), Err(ListError::NoKeys));
    assert_eq!(LayerList::open(text().as_bytes(), &[public(&own)], None), Err(ListError::Unsigned));
    assert_eq!(LayerList::open(list.as_bytes(), &[public(&own)], None), Err(ListError::Signature(1)));
    assert!(LayerList::open(list.as_bytes(), &[public(&own), public(&other)], None).is_ok());
    // What is not signed by one of ours is not looked at, however wrong it is.
    let wrong = sign("nonsense\n", &other);
    assert_eq!(LayerList::open(wrong.as_bytes(), &[public(&own)], None), Err(ListError::Signature(1)));
}

#[test]
fn an_older_list_is_refused() {
    let own = pair(1);
    let open = |last| LayerList::open(sign(&text(), &own).as_bytes(), &[public(&own)], last);
    for last in [None, Some(0), Some(41), Some(42)] {
        assert!(open(last).is_ok(), "{last:?}");
    }
    let error = open(Some(43)).unwrap_err();
    assert_eq!(error, ListError::Older { found: 42, last: 43 });
    assert!(error.to_string().contains("43 or later") && error.to_string().contains("found 42"), "{error}");
}

/// Signed or not, a list is written in one way.
#[test]
fn what_is_no_list_is_refused_with_its_line() {
    let layer = |name: &str| format!("layer {name} 5 sha256 {SITE}\n");
    let head = "taproot-layers 1\nserial 1\n";
    let cases: Vec<(usize, &str, String)> = vec![
        (1, "taproot-layers 1", String::new()),
        (1, "taproot-layers 1", "taproot-layers 1".to_owned()),
        (1, "this version", "taproot-layers 2\n".to_owned()),
        (2, "serial NUMBER", "taproot-layers 1\n".to_owned()),
        (2, "serial NUMBER", "taproot-layers 1\nserial 01\n".to_owned()),
        (2, "serial NUMBER", "taproot-layers 1\nserial +1\n".to_owned()),
        (2, "serial NUMBER", "taproot-layers 1\nserial 18446744073709551616\n".to_owned()),
        (3, "a layer", head.to_owned()),
        (3, "layer NAME", format!("{head}\n{}", layer("a"))),
        (4, "each name once", format!("{head}{}{}", layer("a"), layer("a"))),
        (3, "a newline", format!("{head}{}", layer("a").trim_end())),
        (3, "the name of a layer", format!("{head}{}", layer("../a"))),
        (3, "the name of a layer", format!("{head}{}", layer("upper"))),
        (3, "layer NAME", format!("{head}layer  a 5 sha256 {SITE}\n")),
        (3, "layer NAME", format!("{head}layer a 5 sha256 {SITE} more\n")),
        (3, "a size", format!("{head}layer a 0 sha256 {SITE}\n")),
        (3, "a size", format!("{head}layer a -5 sha256 {SITE}\n")),
        (3, "sha256 or verity", format!("{head}layer a 5 md5 {SITE}\n")),
        (3, "lower case", format!("{head}layer a 5 sha256 {}\n", SITE.to_uppercase())),
        (3, "64 hexadecimal digits", format!("{head}layer a 5 sha256 {}\n", &SITE[1..])),
        (4, "layer NAME", format!("{head}{}# a comment\n", layer("a"))),
        (4, "layer NAME", format!("{head}{}\r\n", layer("a"))),
        (503, "at most 500", (0..501).fold(head.to_owned(), |text, n| text + &layer(&format!("l{n}")))),
    ];
    for (at, said, text) in cases {
        match LayerList::parse(&text) {
            Err(ListError::Line { line, expected, .. }) => {
                assert_eq!(line, at, "{text:?}");
                assert!(expected.contains(said), "{text:?}: {expected}");
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
    // The longest one that can be fits.
    let longest = |n| Layer { name: format!("{n:0>100}"), size: u64::MAX, seal: Seal::Verity(Digest::new([0; 32])) };
    let list = LayerList { serial: u64::MAX, layers: (0..500).map(longest).collect() };
    let own = pair(1);
    let signed = sign(&list.render(), &own);
    assert_eq!(LayerList::open(signed.as_bytes(), &[public(&own)], None).as_ref(), Ok(&list));
    assert!(signed.len() <= MAX_BYTES, "{}", signed.len());
    assert_eq!(LayerList::open(&vec![b'a'; MAX_BYTES + 1], &[key()], None), Err(ListError::TooLong));
}

#[test]
fn public_keys_and_what_is_none() {
    assert_eq!(PublicKey::parse(&key().render("of the tests")), Ok(key()));
    assert_eq!(PublicKey::parse(&key().render("")), Ok(key()));
    assert_eq!(key().render(""), format!("ed25519 {KEY_DIGITS}\n"));
    let weak = "00".repeat(32);
    for (text, why) in [
        (String::new(), "something else"),
        (format!("ssh-ed25519 {KEY_DIGITS}\n"), "something else"),
        (format!("ed25519 {}\n", &KEY_DIGITS[1..]), "other digits"),
        ("ed25519".to_owned(), "other digits"),
        (format!("ed25519 {weak}\n"), "weak"),
        (format!("ed25519 {}\n", "ff".repeat(32)), "no point"),
        (format!("ed25519 {KEY_DIGITS}\ned25519 {KEY_DIGITS}\n"), "more lines"),
    ] {
        let error = PublicKey::parse(&text).unwrap_err().to_string();
        assert!(error.contains(why), "{text:?}: {error}");
    }
}

/// Vectors of RFC 8032, 7.1: TEST 2, TEST 3.
#[test]
fn signatures_are_those_of_the_rfc() {
    let cases: [(&str, &[u8], &str); 2] = [
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            &[0x72],
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            &[0xaf, 0x82],
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    for (key, message, signature) in cases {
        let key = PublicKey::new(unhex(key).unwrap()).unwrap();
        let signature = unhex(signature).unwrap();
        assert!(key.has_signed(message, &signature));
        assert!(!key.has_signed(b"another", &signature));
    }
}

#[test]
fn the_last_list_of_each_file_is_kept_and_damage_is_no_beginning() {
    let none = Serials::parse(b"").unwrap();
    assert_eq!(none.last("layers.list"), None);
    let one = none.with("layers.list", 7).unwrap().with("other list", 9).unwrap();
    assert_eq!(one.render(), "7 layers.list\n9 other list\n");
    assert_eq!(Serials::parse(one.render().as_bytes()), Ok(one.clone()));
    assert_eq!(
        (one.last("layers.list"), one.with("layers.list", 7), one.with("layers.list", 6)),
        (Some(7), None, None)
    );
    assert_eq!(one.with("layers.list", 8).unwrap().last("layers.list"), Some(8));
    for damaged in [&b"7"[..], b"x layers.list\n", b"7 \n", b"-1 a\n", b"\xff", &[b'7'; Serials::MAX_BYTES + 1]] {
        assert!(Serials::parse(damaged).is_err(), "{damaged:?}");
    }
}
