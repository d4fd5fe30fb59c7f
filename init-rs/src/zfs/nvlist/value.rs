//! The value types and what both encodings need to know of them.

use super::{NvError, NvList, c_bytes, count};

/// A value. The variants are the kernel's `data_type_t`; integer widths matter, lookups there are by exact type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Present without a value (1).
    Boolean,
    /// One byte (2).
    Byte(u8),
    /// `int16` (3).
    I16(i16),
    /// `uint16` (4).
    U16(u16),
    /// `int32` (5).
    I32(i32),
    /// `uint32` (6).
    U32(u32),
    /// `int64` (7).
    I64(i64),
    /// `uint64` (8).
    U64(u64),
    /// A string without its NUL (9); bytes, not always UTF-8.
    Str(Vec<u8>),
    /// Bytes (10).
    ByteArray(Vec<u8>),
    /// `int16` array (11).
    I16Array(Vec<i16>),
    /// `uint16` array (12).
    U16Array(Vec<u16>),
    /// `int32` array (13).
    I32Array(Vec<i32>),
    /// `uint32` array (14).
    U32Array(Vec<u32>),
    /// `int64` array (15).
    I64Array(Vec<i64>),
    /// `uint64` array (16).
    U64Array(Vec<u64>),
    /// Strings without their NULs (17).
    StrArray(Vec<Vec<u8>>),
    /// Nanoseconds (18).
    HrTime(i64),
    /// An nvlist (19).
    List(NvList),
    /// nvlists (20).
    ListArray(Vec<NvList>),
    /// A boolean with a value (21).
    BooleanValue(bool),
    /// `int8` (22).
    I8(i8),
    /// `uint8` (23).
    U8(u8),
    /// Booleans (24).
    BooleanArray(Vec<bool>),
    /// `int8` array (25).
    I8Array(Vec<i8>),
    /// `uint8` array (26).
    U8Array(Vec<u8>),
    /// A double as its IEEE 754 bits (27); the kernel refuses it.
    Double(u64),
}

impl Value {
    /// A string value.
    pub fn text(text: impl AsRef<[u8]>) -> Self {
        Value::Str(text.as_ref().to_vec())
    }

    /// The type's number in both encodings.
    pub(super) fn number(&self) -> i32 {
        match self {
            Value::Boolean => 1,
            Value::Byte(_) => 2,
            Value::I16(_) => 3,
            Value::U16(_) => 4,
            Value::I32(_) => 5,
            Value::U32(_) => 6,
            Value::I64(_) => 7,
            Value::U64(_) => 8,
            Value::Str(_) => 9,
            Value::ByteArray(_) => 10,
            Value::I16Array(_) => 11,
            Value::U16Array(_) => 12,
            Value::I32Array(_) => 13,
            Value::U32Array(_) => 14,
            Value::I64Array(_) => 15,
            Value::U64Array(_) => 16,
            Value::StrArray(_) => 17,
            Value::HrTime(_) => 18,
            Value::List(_) => 19,
            Value::ListArray(_) => 20,
            Value::BooleanValue(_) => 21,
            Value::I8(_) => 22,
            Value::U8(_) => 23,
            Value::BooleanArray(_) => 24,
            Value::I8Array(_) => 25,
            Value::U8Array(_) => 26,
            Value::Double(_) => 27,
        }
    }

    /// The element count: 0 for a plain boolean, 1 for scalars, the length of arrays.
    pub(super) fn elements(&self) -> i32 {
        count(match self {
            Value::Boolean => 0,
            Value::ByteArray(v) | Value::U8Array(v) => v.len(),
            Value::I16Array(v) => v.len(),
            Value::U16Array(v) => v.len(),
            Value::I32Array(v) => v.len(),
            Value::U32Array(v) => v.len(),
            Value::I64Array(v) => v.len(),
            Value::U64Array(v) => v.len(),
            Value::StrArray(v) => v.len(),
            Value::ListArray(v) => v.len(),
            Value::BooleanArray(v) => v.len(),
            Value::I8Array(v) => v.len(),
            _ => 1,
        })
    }

    /// Bytes the value takes in a native pair, without padding. The XDR encoding states it too: the kernel allocates
    /// by it.
    pub(super) fn native_len(&self) -> usize {
        match self {
            Value::Boolean => 0,
            Value::Byte(_) | Value::I8(_) | Value::U8(_) => 1,
            Value::I16(_) | Value::U16(_) => 2,
            Value::I32(_) | Value::U32(_) | Value::BooleanValue(_) => 4,
            Value::I64(_) | Value::U64(_) | Value::HrTime(_) | Value::Double(_) => 8,
            Value::Str(v) => c_bytes(v).len() + 1,
            Value::ByteArray(v) | Value::U8Array(v) => v.len(),
            Value::I8Array(v) => v.len(),
            Value::I16Array(v) => v.len() * 2,
            Value::U16Array(v) => v.len() * 2,
            Value::I32Array(v) => v.len() * 4,
            Value::U32Array(v) => v.len() * 4,
            Value::BooleanArray(v) => v.len() * 4,
            Value::I64Array(v) => v.len() * 8,
            Value::U64Array(v) => v.len() * 8,
            Value::StrArray(v) => v.iter().map(|s| POINTER + c_bytes(s).len() + 1).sum(),
            Value::List(_) => LIST_HEADER,
            Value::ListArray(v) => v.len() * (POINTER + LIST_HEADER),
        }
    }
}

/// Bytes of a pointer slot in native arrays of strings and lists.
pub(super) const POINTER: usize = 8;
/// Bytes of the in-memory list header inside a native pair.
pub(super) const LIST_HEADER: usize = 24;
/// Bytes of a native pair before its name.
pub(super) const PAIR_HEADER: usize = 16;

/// Offset of the value in a native pair whose name has `name` bytes with its NUL.
pub(super) fn value_offset(name: usize) -> usize {
    round8(PAIR_HEADER.saturating_add(name))
}

/// Rounds up to the native encoding's alignment.
pub(super) fn round8(n: usize) -> usize {
    n.saturating_add(7) & !7
}

/// Checks a pair's element count against its type, as the kernel does: 0 for a plain boolean, 1 for scalars.
pub(super) fn checked_elements(offset: usize, kind: i32, elements: i32) -> Result<usize, NvError> {
    let n = usize::try_from(elements).ok().filter(|n| match kind {
        1 => *n == 0,
        10..=17 | 20 | 24..=26 => true,
        _ => *n == 1,
    });
    n.ok_or(NvError::Size { offset, what: "element count", found: i64::from(elements) })
}
