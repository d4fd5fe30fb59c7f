//! The native encoding: the kernel's in-memory pairs, one after another.
//!
//! Alignment is relative to each pair. Embedded lists follow the pair that announces them, in order.

use super::cursor::Cursor;
use super::value::{LIST_HEADER, PAIR_HEADER, POINTER, round8, value_offset};
use super::{MAX_DEPTH, NvError, NvList, Value, c_bytes, c_name, count};

/// Smallest pair: header and a one-byte name, rounded up.
const MIN_PAIR: usize = 24;

/// Appends the list after the 4-byte stream header.
pub(super) fn encode(list: &NvList, out: &mut Vec<u8>) {
    out.extend_from_slice(&0_i32.to_le_bytes());
    out.extend_from_slice(&list.flags.to_le_bytes());
    encode_pairs(list, out);
}

fn encode_pairs(list: &NvList, out: &mut Vec<u8>) {
    for pair in &list.pairs {
        encode_pair(&pair.name, &pair.value, out);
        match &pair.value {
            Value::List(inner) => encode_pairs(inner, out),
            Value::ListArray(inner) => inner.iter().for_each(|l| encode_pairs(l, out)),
            _ => {}
        }
    }
    out.extend_from_slice(&0_i32.to_le_bytes());
}

fn encode_pair(name: &[u8], value: &Value, out: &mut Vec<u8>) {
    let name = c_name(name);
    let start = out.len();
    let value_at = value_offset(name.len() + 1);
    let size = value_at + round8(value.native_len());
    out.extend_from_slice(&count(size).to_le_bytes());
    // `c_name` keeps names short enough for the signed 16-bit size.
    out.extend_from_slice(&i16::try_from(name.len() + 1).unwrap_or(i16::MAX).to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&value.elements().to_le_bytes());
    out.extend_from_slice(&value.number().to_le_bytes());
    out.extend_from_slice(name);
    out.resize(start + value_at, 0);
    encode_value(value, out);
    out.resize(start + size, 0);
}

fn encode_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Boolean => {}
        Value::Byte(v) | Value::U8(v) => out.push(*v),
        Value::I8(v) => out.push(v.cast_unsigned()),
        Value::I16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::BooleanValue(v) => out.extend_from_slice(&u32::from(*v).to_le_bytes()),
        Value::I64(v) | Value::HrTime(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U64(v) | Value::Double(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Str(v) => string(v, out),
        Value::ByteArray(v) | Value::U8Array(v) => out.extend_from_slice(v),
        Value::I8Array(v) => out.extend(v.iter().map(|i| i.cast_unsigned())),
        Value::I16Array(v) => out.extend(v.iter().flat_map(|i| i.to_le_bytes())),
        Value::U16Array(v) => out.extend(v.iter().flat_map(|i| i.to_le_bytes())),
        Value::I32Array(v) => out.extend(v.iter().flat_map(|i| i.to_le_bytes())),
        Value::U32Array(v) => out.extend(v.iter().flat_map(|i| i.to_le_bytes())),
        Value::BooleanArray(v) => out.extend(v.iter().flat_map(|i| u32::from(*i).to_le_bytes())),
        Value::I64Array(v) => out.extend(v.iter().flat_map(|i| i.to_le_bytes())),
        Value::U64Array(v) => out.extend(v.iter().flat_map(|i| i.to_le_bytes())),
        Value::StrArray(v) => {
            out.resize(out.len() + v.len() * POINTER, 0);
            for text in v {
                string(text, out);
            }
        }
        Value::List(v) => list_header(v, out),
        Value::ListArray(v) => {
            out.resize(out.len() + v.len() * POINTER, 0);
            for list in v {
                list_header(list, out);
            }
        }
    }
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(c_bytes(text));
    out.push(0);
}

/// The in-memory header: version, flags, then a pointer and two words that mean nothing outside the kernel.
fn list_header(list: &NvList, out: &mut Vec<u8>) {
    let end = out.len() + LIST_HEADER;
    out.extend_from_slice(&0_i32.to_le_bytes());
    out.extend_from_slice(&list.flags.to_le_bytes());
    out.resize(end, 0);
}

/// Decodes the list after the 4-byte stream header.
pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<NvList, NvError> {
    let mut list = header(cursor)?;
    decode_pairs(cursor, &mut list, 0)?;
    Ok(list)
}

fn header(cursor: &mut Cursor<'_>) -> Result<NvList, NvError> {
    let offset = cursor.offset();
    let found = i32::from_le_bytes(cursor.array()?);
    if found != 0 {
        return Err(NvError::Version { offset, found });
    }
    Ok(NvList::with_flags(u32::from_le_bytes(cursor.array()?)))
}

fn decode_pairs(cursor: &mut Cursor<'_>, list: &mut NvList, depth: u32) -> Result<(), NvError> {
    if depth > MAX_DEPTH {
        return Err(NvError::Depth { offset: cursor.offset() });
    }
    loop {
        let offset = cursor.offset();
        let size = i32::from_le_bytes(cursor.array()?);
        if size == 0 {
            return Ok(());
        }
        let bad_size = NvError::Size { offset, what: "pair size", found: i64::from(size) };
        let size = usize::try_from(size).ok().filter(|s| *s >= MIN_PAIR).ok_or(bad_size)?;
        let mut pair = Cursor::at(cursor.take(size - 4)?, offset + 4);
        let (name, mut value) = decode_pair(&mut pair, offset)?;
        match &mut value {
            Value::List(inner) => decode_pairs(cursor, inner, depth + 1)?,
            Value::ListArray(inner) => {
                for list in inner {
                    decode_pairs(cursor, list, depth + 1)?;
                }
            }
            _ => {}
        }
        list.push(name, value);
    }
}

/// Decodes one pair from behind its size word; embedded lists come out empty, their pairs follow in the stream.
fn decode_pair(pair: &mut Cursor<'_>, start: usize) -> Result<(Vec<u8>, Value), NvError> {
    let name_size = i16::from_le_bytes(pair.array()?);
    let _reserved: [u8; 2] = pair.array()?;
    let elements = i32::from_le_bytes(pair.array()?);
    let kind = i32::from_le_bytes(pair.array()?);
    let offset = pair.offset();
    let size = usize::try_from(name_size).ok().filter(|s| *s > 0).ok_or(NvError::Name { offset })?;
    let name = match pair.take(size)?.split_last() {
        Some((0, name)) if !name.contains(&0) => name.to_vec(),
        _ => return Err(NvError::Name { offset }),
    };
    pair.take(value_offset(size) - PAIR_HEADER - size)?;
    let value = decode_value(pair, start, kind, elements)?;
    Ok((name, value))
}

fn decode_value(c: &mut Cursor<'_>, start: usize, kind: i32, elements: i32) -> Result<Value, NvError> {
    let n = super::value::checked_elements(start, kind, elements)?;
    Ok(match kind {
        1 => Value::Boolean,
        2 => Value::Byte(u8::from_le_bytes(c.array()?)),
        3 => Value::I16(i16::from_le_bytes(c.array()?)),
        4 => Value::U16(u16::from_le_bytes(c.array()?)),
        5 => Value::I32(i32::from_le_bytes(c.array()?)),
        6 => Value::U32(u32::from_le_bytes(c.array()?)),
        7 => Value::I64(i64::from_le_bytes(c.array()?)),
        8 => Value::U64(u64::from_le_bytes(c.array()?)),
        9 => Value::Str(decode_string(c)?),
        10 => Value::ByteArray(c.take(n)?.to_vec()),
        11 => Value::I16Array(c.items(n, i16::from_le_bytes)?),
        12 => Value::U16Array(c.items(n, u16::from_le_bytes)?),
        13 => Value::I32Array(c.items(n, i32::from_le_bytes)?),
        14 => Value::U32Array(c.items(n, u32::from_le_bytes)?),
        15 => Value::I64Array(c.items(n, i64::from_le_bytes)?),
        16 => Value::U64Array(c.items(n, u64::from_le_bytes)?),
        17 => {
            c.room_for(n, POINTER + 1)?;
            c.take(n * POINTER)?;
            Value::StrArray((0..n).map(|_| decode_string(c)).collect::<Result<_, _>>()?)
        }
        18 => Value::HrTime(i64::from_le_bytes(c.array()?)),
        19 => Value::List(decode_list_header(c)?),
        20 => {
            c.room_for(n, POINTER + LIST_HEADER)?;
            c.take(n * POINTER)?;
            Value::ListArray((0..n).map(|_| decode_list_header(c)).collect::<Result<_, _>>()?)
        }
        21 => Value::BooleanValue(decode_boolean(c)?),
        22 => Value::I8(i8::from_le_bytes(c.array()?)),
        23 => Value::U8(u8::from_le_bytes(c.array()?)),
        24 => {
            c.room_for(n, 4)?;
            Value::BooleanArray((0..n).map(|_| decode_boolean(c)).collect::<Result<_, _>>()?)
        }
        25 => Value::I8Array(c.items(n, i8::from_le_bytes)?),
        26 => Value::U8Array(c.take(n)?.to_vec()),
        27 => Value::Double(u64::from_le_bytes(c.array()?)),
        found => return Err(NvError::Type { offset: start, found }),
    })
}

fn decode_string(c: &mut Cursor<'_>) -> Result<Vec<u8>, NvError> {
    let length = c.until_nul().ok_or(NvError::Text { offset: c.offset() })?;
    let text = c.take(length)?.to_vec();
    c.take(1)?;
    Ok(text)
}

fn decode_boolean(c: &mut Cursor<'_>) -> Result<bool, NvError> {
    let offset = c.offset();
    match u32::from_le_bytes(c.array()?) {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(NvError::Boolean { offset, found }),
    }
}

fn decode_list_header(c: &mut Cursor<'_>) -> Result<NvList, NvError> {
    let list = header(c)?;
    c.take(LIST_HEADER - 8)?;
    Ok(list)
}
