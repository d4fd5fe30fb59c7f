//! The XDR encoding (RFC 4506): big-endian, padded to four bytes, the same on every machine.
//!
//! Each pair states its own size and the size of its native form; the kernel allocates by the second, so it is computed
//! exactly. A list ends at a pair whose native size is 0.

use super::cursor::Cursor;
use super::value::{checked_elements, round8, value_offset};
use super::{MAX_DEPTH, MAX_NAME, NvError, NvList, Value, c_bytes, c_name, count};

/// Smallest list: version, flags and the two zero words.
const MIN_LIST: usize = 16;

/// Appends the list after the 4-byte stream header.
pub(super) fn encode(list: &NvList, out: &mut Vec<u8>) {
    word(0, out);
    out.extend_from_slice(&list.flags.to_be_bytes());
    for pair in &list.pairs {
        encode_pair(&pair.name, &pair.value, out);
    }
    out.extend_from_slice(&[0; 8]);
}

fn encode_pair(name: &[u8], value: &Value, out: &mut Vec<u8>) {
    let start = out.len();
    let name = c_name(name);
    word(0, out);
    word(count(value_offset(name.len() + 1) + round8(value.native_len())), out);
    counted(name, out);
    word(value.number(), out);
    word(value.elements(), out);
    encode_value(value, out);
    let size = count(out.len() - start).to_be_bytes();
    for (slot, byte) in out.iter_mut().skip(start).zip(size) {
        *slot = byte;
    }
}

fn encode_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Boolean => {}
        // One-byte values are zero-extended: the kernel refuses a word above 255 here.
        Value::Byte(v) | Value::U8(v) => word(i32::from(*v), out),
        Value::I8(v) => word(i32::from(v.cast_unsigned()), out),
        Value::I16(v) => word(i32::from(*v), out),
        Value::U16(v) => word(i32::from(*v), out),
        Value::I32(v) => word(*v, out),
        Value::U32(v) => word(v.cast_signed(), out),
        Value::BooleanValue(v) => word(i32::from(*v), out),
        Value::I64(v) | Value::HrTime(v) => out.extend_from_slice(&v.to_be_bytes()),
        Value::U64(v) | Value::Double(v) => out.extend_from_slice(&v.to_be_bytes()),
        Value::Str(v) => counted(c_bytes(v), out),
        Value::ByteArray(v) => {
            out.extend_from_slice(v);
            out.resize(out.len() + padding(v.len()), 0);
        }
        Value::I16Array(v) => words(v.iter().map(|i| i32::from(*i)), v.len(), out),
        Value::U16Array(v) => words(v.iter().map(|i| i32::from(*i)), v.len(), out),
        Value::I32Array(v) => words(v.iter().copied(), v.len(), out),
        Value::U32Array(v) => words(v.iter().map(|i| i.cast_signed()), v.len(), out),
        Value::BooleanArray(v) => words(v.iter().map(|i| i32::from(*i)), v.len(), out),
        Value::I8Array(v) => words(v.iter().map(|i| i32::from(i.cast_unsigned())), v.len(), out),
        Value::U8Array(v) => words(v.iter().map(|i| i32::from(*i)), v.len(), out),
        Value::I64Array(v) => {
            word(count(v.len()), out);
            out.extend(v.iter().flat_map(|i| i.to_be_bytes()));
        }
        Value::U64Array(v) => {
            word(count(v.len()), out);
            out.extend(v.iter().flat_map(|i| i.to_be_bytes()));
        }
        Value::StrArray(v) => v.iter().for_each(|s| counted(c_bytes(s), out)),
        Value::List(v) => encode(v, out),
        Value::ListArray(v) => v.iter().for_each(|l| encode(l, out)),
    }
}

fn word(value: i32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn words(values: impl Iterator<Item = i32>, n: usize, out: &mut Vec<u8>) {
    word(count(n), out);
    values.for_each(|v| word(v, out));
}

/// A length word, the bytes, and padding.
fn counted(bytes: &[u8], out: &mut Vec<u8>) {
    word(count(bytes.len()), out);
    out.extend_from_slice(bytes);
    out.resize(out.len() + padding(bytes.len()), 0);
}

fn padding(n: usize) -> usize {
    n.wrapping_neg() & 3
}

/// Decodes the list after the 4-byte stream header.
pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<NvList, NvError> {
    decode_list(cursor, 0)
}

fn decode_list(c: &mut Cursor<'_>, depth: u32) -> Result<NvList, NvError> {
    let offset = c.offset();
    if depth > MAX_DEPTH {
        return Err(NvError::Depth { offset });
    }
    let found = i32::from_be_bytes(c.array()?);
    if found != 0 {
        return Err(NvError::Version { offset, found });
    }
    let mut list = NvList::with_flags(u32::from_be_bytes(c.array()?));
    loop {
        let offset = c.offset();
        // As in the kernel, only the native size tells the end; the pair's own size is implied by what follows.
        let _encoded_size: [u8; 4] = c.array()?;
        if c.array()? == [0; 4] {
            return Ok(list);
        }
        let name_at = c.offset();
        let name = decode_counted(c)?;
        if name.len() > MAX_NAME || name.contains(&0) {
            return Err(NvError::Name { offset: name_at });
        }
        let kind = i32::from_be_bytes(c.array()?);
        let elements = i32::from_be_bytes(c.array()?);
        let value = decode_value(c, offset, kind, elements, depth)?;
        list.push(name.to_vec(), value);
    }
}

fn decode_value(c: &mut Cursor<'_>, start: usize, kind: i32, elements: i32, depth: u32) -> Result<Value, NvError> {
    let n = checked_elements(start, kind, elements)?;
    Ok(match kind {
        1 => Value::Boolean,
        2 => Value::Byte(low_byte(c.array()?)),
        3 => Value::I16(low_half(c.array()?).cast_signed()),
        4 => Value::U16(low_half(c.array()?)),
        5 => Value::I32(i32::from_be_bytes(c.array()?)),
        6 => Value::U32(u32::from_be_bytes(c.array()?)),
        7 => Value::I64(i64::from_be_bytes(c.array()?)),
        8 => Value::U64(u64::from_be_bytes(c.array()?)),
        9 => Value::Str(decode_string(c)?),
        10 => {
            let bytes = c.take(n)?.to_vec();
            c.take(padding(n))?;
            Value::ByteArray(bytes)
        }
        11 => Value::I16Array(decode_array(c, n, |w| low_half(w).cast_signed())?),
        12 => Value::U16Array(decode_array(c, n, low_half)?),
        13 => Value::I32Array(decode_array(c, n, i32::from_be_bytes)?),
        14 => Value::U32Array(decode_array(c, n, u32::from_be_bytes)?),
        15 => Value::I64Array(decode_array(c, n, i64::from_be_bytes)?),
        16 => Value::U64Array(decode_array(c, n, u64::from_be_bytes)?),
        17 => {
            c.room_for(n, 4)?;
            Value::StrArray((0..n).map(|_| decode_string(c)).collect::<Result<_, _>>()?)
        }
        18 => Value::HrTime(i64::from_be_bytes(c.array()?)),
        19 => Value::List(decode_list(c, depth + 1)?),
        20 => {
            c.room_for(n, MIN_LIST)?;
            Value::ListArray((0..n).map(|_| decode_list(c, depth + 1)).collect::<Result<_, _>>()?)
        }
        21 => Value::BooleanValue(decode_boolean(c)?),
        22 => Value::I8(low_byte(c.array()?).cast_signed()),
        23 => Value::U8(low_byte(c.array()?)),
        24 => {
            repeated_count(c, n)?;
            c.room_for(n, 4)?;
            Value::BooleanArray((0..n).map(|_| decode_boolean(c)).collect::<Result<_, _>>()?)
        }
        25 => Value::I8Array(decode_array(c, n, |w| low_byte(w).cast_signed())?),
        26 => Value::U8Array(decode_array(c, n, low_byte)?),
        27 => Value::Double(u64::from_be_bytes(c.array()?)),
        found => return Err(NvError::Type { offset: start, found }),
    })
}

/// Small integers fill a word; writers differ in how they extend the sign, so only the low part counts.
fn low_byte([_, _, _, low]: [u8; 4]) -> u8 {
    low
}

fn low_half([_, _, high, low]: [u8; 4]) -> u16 {
    u16::from_be_bytes([high, low])
}

fn decode_counted<'a>(c: &mut Cursor<'a>) -> Result<&'a [u8], NvError> {
    let offset = c.offset();
    let length = u32::from_be_bytes(c.array()?);
    let bad = NvError::Size { offset, what: "length", found: i64::from(length) };
    let length = usize::try_from(length).map_err(|_| bad)?;
    let bytes = c.take(length)?;
    c.take(padding(length))?;
    Ok(bytes)
}

fn decode_string(c: &mut Cursor<'_>) -> Result<Vec<u8>, NvError> {
    let offset = c.offset();
    let text = decode_counted(c)?;
    if text.contains(&0) {
        return Err(NvError::Text { offset });
    }
    Ok(text.to_vec())
}

fn decode_boolean(c: &mut Cursor<'_>) -> Result<bool, NvError> {
    let offset = c.offset();
    match u32::from_be_bytes(c.array()?) {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(NvError::Boolean { offset, found }),
    }
}

fn decode_array<const N: usize, T>(
    c: &mut Cursor<'_>,
    n: usize,
    convert: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, NvError> {
    repeated_count(c, n)?;
    c.items(n, convert)
}

/// Arrays repeat their element count before the elements; both must agree.
fn repeated_count(c: &mut Cursor<'_>, n: usize) -> Result<(), NvError> {
    let offset = c.offset();
    let found = u32::from_be_bytes(c.array()?);
    if usize::try_from(found).ok() == Some(n) {
        return Ok(());
    }
    Err(NvError::Size { offset, what: "array length", found: i64::from(found) })
}
