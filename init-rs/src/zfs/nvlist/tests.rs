use proptest::collection::vec;
use proptest::prelude::*;

use super::{MAX_DEPTH, NvError, NvList, Value};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|c| u8::from_str_radix(std::str::from_utf8(c).unwrap(), 16).unwrap()).collect()
}

fn list<const N: usize>(pairs: [(&str, Value); N]) -> NvList {
    pairs.into_iter().collect()
}

/// `LOAD_KEY`'s arguments, 164 bytes, as the kernel accepted them.
#[test]
fn native_load_key_vector() {
    let args = list([
        ("hidden_args", Value::List(list([("wkeydata", Value::U8Array(vec![0x6b; 32]))]))),
        ("noop", Value::Boolean),
    ]);
    let mut expected = hex("00010000 00000000 01000000 38000000 0c000000 01000000 13000000");
    expected.extend(b"hidden_args\0");
    expected.extend(hex("00000000 00000000 01000000"));
    expected.extend([0; 16]);
    expected.extend(hex("40000000 09000000 20000000 1a000000"));
    expected.extend(b"wkeydata\0");
    expected.extend([0; 7]);
    expected.extend([0x6b; 32]);
    expected.extend([0; 4]);
    expected.extend(hex("18000000 05000000 00000000 01000000"));
    expected.extend(b"noop\0\0\0\0");
    expected.extend([0; 4]);
    assert_eq!(expected.len(), 164);
    assert_eq!(args.encode_native(), expected);
    assert_eq!(NvList::decode(&expected), Ok(args));
}

/// The start of a spare's label, written by OpenZFS 2.3.2.
#[test]
fn xdr_spare_label_vector() {
    let mut bytes = hex("01010000 00000000 00000001 00000024 00000020 00000007");
    bytes.extend(b"version\0");
    bytes.extend(hex("00000008 00000001 00000000 00001388 00000024 00000020 00000005"));
    bytes.extend(b"state\0\0\0");
    bytes.extend(hex("00000008 00000001 00000000 00000003 00000020 00000020 00000004"));
    bytes.extend(b"guid");
    bytes.extend(hex("00000008 00000001 743323bb 708ebc3a 00000028 00000028 00000004"));
    bytes.extend(b"path");
    bytes.extend(hex("00000009 00000001 00000009"));
    bytes.extend(b"/dev/vdk1\0\0\0");
    bytes.extend([0; 8]);
    let spare = list([
        ("version", Value::U64(5000)),
        ("state", Value::U64(3)),
        ("guid", Value::U64(0x7433_23bb_708e_bc3a)),
        ("path", Value::text("/dev/vdk1")),
    ]);
    assert_eq!(NvList::decode(&bytes).as_ref(), Ok(&spare));
    assert_eq!(spare.encode_xdr(), bytes);
    bytes.extend([0xff; 9]); // a label region goes on after the list
    assert_eq!(NvList::decode(&bytes), Ok(spare));
}

/// One value of every type.
fn every_type() -> NvList {
    let inner = list([("a", Value::Boolean), ("b", Value::text(""))]);
    list([
        ("boolean", Value::Boolean),
        ("byte", Value::Byte(0xfe)),
        ("i16", Value::I16(-2)),
        ("u16", Value::U16(0xfffe)),
        ("i32", Value::I32(-3)),
        ("u32", Value::U32(0xffff_fffd)),
        ("i64", Value::I64(-4)),
        ("u64", Value::U64(u64::MAX - 3)),
        ("string", Value::text("rpool/ROOT")),
        ("byte_array", Value::ByteArray(vec![1, 2, 3, 4, 5])),
        ("i16s", Value::I16Array(vec![-1, 2, -3])),
        ("u16s", Value::U16Array(vec![1, 0xffff])),
        ("i32s", Value::I32Array(vec![i32::MIN, 0])),
        ("u32s", Value::U32Array(vec![u32::MAX])),
        ("i64s", Value::I64Array(vec![i64::MIN])),
        ("u64s", Value::U64Array(vec![])),
        ("strings", Value::StrArray(vec![b"one".to_vec(), vec![], b"three".to_vec()])),
        ("hrtime", Value::HrTime(123)),
        ("list", Value::List(inner.clone())),
        ("lists", Value::ListArray(vec![NvList::new(), inner])),
        ("boolean_value", Value::BooleanValue(true)),
        ("i8", Value::I8(-1)),
        ("u8", Value::U8(255)),
        ("booleans", Value::BooleanArray(vec![true, false])),
        ("i8s", Value::I8Array(vec![-128, 127, 0])),
        ("u8s", Value::U8Array(vec![0, 255, 1])),
        ("double", Value::Double(1.5_f64.to_bits())),
    ])
}

#[test]
fn every_type_survives_both_encodings() {
    let list = every_type();
    assert_eq!(NvList::decode(&list.encode_native()).as_ref(), Ok(&list));
    assert_eq!(NvList::decode(&list.encode_xdr()).as_ref(), Ok(&list));
    assert!(list.encode_xdr().len().is_multiple_of(4));
}

/// The XDR stream states native sizes; they must be those of the native stream.
#[test]
fn xdr_states_the_native_pair_size() {
    for (name, value) in every_type().iter() {
        let one: NvList = [(name, value.clone())].into_iter().collect();
        let native = i32::from_le_bytes(one.encode_native()[12..16].try_into().unwrap());
        let stated = i32::from_be_bytes(one.encode_xdr()[16..20].try_into().unwrap());
        assert_eq!(stated, native, "{}", String::from_utf8_lossy(name));
        let encoded = i32::from_be_bytes(one.encode_xdr()[12..16].try_into().unwrap());
        assert_eq!(usize::try_from(encoded).unwrap(), one.encode_xdr().len() - 12 - 8);
    }
}

#[test]
fn names_of_every_length() {
    for n in (0..=255).chain([32_766]) {
        let list: NvList = [("n".repeat(n), Value::U64(1)), ("after".into(), Value::Boolean)].into_iter().collect();
        assert_eq!(NvList::decode(&list.encode_native()).as_ref(), Ok(&list));
        assert_eq!(NvList::decode(&list.encode_xdr()).as_ref(), Ok(&list));
    }
}

#[test]
fn names_and_strings_end_as_in_c() {
    let list: NvList =
        [("name\0x".to_owned(), Value::text("text\0x")), ("l".repeat(40_000), Value::Boolean)].into_iter().collect();
    for bytes in [list.encode_native(), list.encode_xdr()] {
        let seen = NvList::decode(&bytes).unwrap();
        assert_eq!(seen.string("name"), Some(&b"text"[..]));
        assert!(seen.flag(&"l".repeat(32_766)));
    }
}

#[test]
fn every_truncation_is_an_error() {
    for bytes in [every_type().encode_native(), every_type().encode_xdr()] {
        for n in 0..bytes.len() {
            assert!(matches!(NvList::decode(&bytes[..n]), Err(NvError::Truncated { .. })), "cut at {n}");
        }
    }
}

fn nested(depth: u32) -> NvList {
    (0..depth).fold(NvList::new(), |inner, _| list([("in", Value::List(inner))]))
}

#[test]
fn nesting_is_limited() {
    for encode in [NvList::encode_native, NvList::encode_xdr] {
        assert_eq!(NvList::decode(&encode(&nested(MAX_DEPTH))), Ok(nested(MAX_DEPTH)));
        assert!(matches!(NvList::decode(&encode(&nested(MAX_DEPTH + 1))), Err(NvError::Depth { .. })));
    }
}

/// Counts that claim more than the bytes can hold fail before memory is reserved for them.
#[test]
fn claimed_counts_are_checked_first() {
    for array in [
        Value::StrArray(vec![vec![]]),
        Value::U64Array(vec![1]),
        Value::BooleanArray(vec![true]),
        Value::ListArray(vec![NvList::new()]),
        Value::ByteArray(vec![1]),
    ] {
        let list = list([("a", array)]);
        let mut native = list.encode_native();
        native[20..24].copy_from_slice(&i32::MAX.to_le_bytes());
        assert!(matches!(NvList::decode(&native), Err(NvError::Truncated { .. })));
        let mut xdr = list.encode_xdr();
        xdr[32..36].copy_from_slice(&i32::MAX.to_be_bytes());
        assert!(NvList::decode(&xdr).is_err());
        xdr[36..40].copy_from_slice(&i32::MAX.to_be_bytes());
        assert!(matches!(NvList::decode(&xdr), Err(NvError::Truncated { .. })));
    }
}

#[test]
fn malformed_lists_say_what_is_wrong() {
    let good = list([("a", Value::BooleanValue(true))]).encode_native();
    let patched = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        NvList::decode(&bytes)
    };
    assert_eq!(patched(0, &[7]), Err(NvError::Encoding { found: 7 }));
    assert_eq!(patched(1, &[0]), Err(NvError::Endian { found: 0 }));
    assert_eq!(patched(4, &[1]), Err(NvError::Version { offset: 4, found: 1 }));
    assert_eq!(patched(12, &[8]), Err(NvError::Size { offset: 12, what: "pair size", found: 8 }));
    assert_eq!(patched(12, &[0xff; 4]), Err(NvError::Size { offset: 12, what: "pair size", found: -1 }));
    assert_eq!(patched(16, &[0]), Err(NvError::Name { offset: 28 }));
    assert_eq!(patched(29, b"b"), Err(NvError::Name { offset: 28 }));
    assert_eq!(patched(20, &[2]), Err(NvError::Size { offset: 12, what: "element count", found: 2 }));
    assert_eq!(patched(24, &[28]), Err(NvError::Type { offset: 12, found: 28 }));
    assert_eq!(patched(24, &[0]), Err(NvError::Type { offset: 12, found: 0 }));
    assert_eq!(patched(36, &[2]), Err(NvError::Boolean { offset: 36, found: 2 }));
}

#[test]
fn lookups_are_by_exact_type() {
    let mut list = every_type();
    assert_eq!(list.u64("u64"), Some(u64::MAX - 3));
    assert_eq!(list.u64("u32"), None);
    assert_eq!(list.string("string"), Some(&b"rpool/ROOT"[..]));
    assert_eq!(list.text("string").as_deref(), Some("rpool/ROOT"));
    assert!(list.flag("boolean") && list.flag("boolean_value") && !list.flag("u64") && !list.flag("absent"));
    assert_eq!(list.u64s("u64s"), Some(&[][..]));
    list.list_mut("list").unwrap().set("c", Value::U64(3));
    assert_eq!(list.list("list").unwrap().u64("c"), Some(3));
    list.lists_mut("lists").unwrap().pop();
    assert_eq!(list.lists("lists").unwrap().len(), 1);
}

#[test]
fn set_and_remove_leave_one_of_a_name() {
    let mut many = list([("a", Value::U64(1)), ("b", Value::Boolean), ("a", Value::U64(2)), ("a", Value::U64(3))]);
    let mut removed = many.clone();
    many.set("a", Value::U64(9));
    assert_eq!(many, list([("a", Value::U64(9)), ("b", Value::Boolean)]));
    many.set("c", Value::U64(4));
    assert_eq!(many.len(), 3);
    assert_eq!(removed.remove("a"), Some(Value::U64(1)));
    assert_eq!(removed, list([("b", Value::Boolean)]));
    assert_eq!(removed.remove("a"), None);
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    vec(1_u8.., 0..20)
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Boolean),
        any::<u8>().prop_map(Value::Byte),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<u64>().prop_map(Value::U64),
        text().prop_map(Value::Str),
        any::<i64>().prop_map(Value::HrTime),
        any::<bool>().prop_map(Value::BooleanValue),
        any::<i8>().prop_map(Value::I8),
        any::<u8>().prop_map(Value::U8),
        any::<u64>().prop_map(Value::Double),
        vec(any::<u8>(), 0..9).prop_map(Value::ByteArray),
        vec(any::<u8>(), 0..9).prop_map(Value::U8Array),
        vec(any::<i8>(), 0..9).prop_map(Value::I8Array),
        vec(any::<i16>(), 0..9).prop_map(Value::I16Array),
        vec(any::<u16>(), 0..9).prop_map(Value::U16Array),
        vec(any::<i32>(), 0..9).prop_map(Value::I32Array),
        vec(any::<u32>(), 0..9).prop_map(Value::U32Array),
        vec(any::<i64>(), 0..9).prop_map(Value::I64Array),
        vec(any::<u64>(), 0..9).prop_map(Value::U64Array),
        vec(any::<bool>(), 0..9).prop_map(Value::BooleanArray),
        vec(text(), 0..4).prop_map(Value::StrArray),
    ]
}

fn any_list() -> impl Strategy<Value = NvList> {
    let flat = vec((text(), leaf()), 0..6).prop_map(|pairs| pairs.into_iter().collect::<NvList>());
    flat.prop_recursive(4, 40, 4, |inner| {
        let value =
            prop_oneof![leaf(), inner.clone().prop_map(Value::List), vec(inner, 0..3).prop_map(Value::ListArray),];
        vec((text(), value), 0..6).prop_map(|pairs| pairs.into_iter().collect())
    })
}

/// Values in the list, embedded ones included: what decoding had to allocate.
fn weight(list: &NvList) -> usize {
    list.iter()
        .map(|(name, value)| {
            name.len()
                + size_of::<super::Pair>()
                + match value {
                    Value::List(l) => weight(l),
                    Value::ListArray(ls) => ls.iter().map(|l| size_of::<NvList>() + weight(l)).sum(),
                    Value::StrArray(v) => v.iter().map(|s| size_of::<Vec<u8>>() + s.len()).sum(),
                    other => other.native_len(),
                }
        })
        .sum()
}

proptest! {
    #[test]
    fn round_trips(list in any_list()) {
        let (native, xdr) = (list.encode_native(), list.encode_xdr());
        let from_native = NvList::decode(&native).unwrap();
        let from_xdr = NvList::decode(&xdr).unwrap();
        prop_assert_eq!(&from_native, &list);
        prop_assert_eq!(&from_xdr, &list);
        prop_assert_eq!(from_xdr.encode_native(), native);
        prop_assert_eq!(from_native.encode_xdr(), xdr);
    }

    #[test]
    fn truncations_fail_cleanly(list in any_list()) {
        for bytes in [list.encode_native(), list.encode_xdr()] {
            for n in 0..bytes.len() {
                prop_assert!(NvList::decode(&bytes[..n]).is_err());
            }
        }
    }

    #[test]
    fn damaged_lists_decode_or_fail(
        list in any_list(),
        patches in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for mut bytes in [list.encode_native(), list.encode_xdr()] {
            for (at, byte) in &patches {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if let Ok(seen) = NvList::decode(&bytes) {
                prop_assert!(weight(&seen) <= 16 * bytes.len());
                prop_assert_eq!(NvList::decode(&seen.encode_native()), Ok(seen.clone()));
                prop_assert_eq!(NvList::decode(&seen.encode_xdr()), Ok(seen.clone()));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_decode_or_fail(encoding in 0_u8..2, rest in vec(any::<u8>(), 0..300)) {
        let bytes: Vec<u8> = [encoding, 1, 0, 0, 0, 0, 0, 0].into_iter().chain(rest).collect();
        let _ = NvList::decode(&bytes);
    }
}
