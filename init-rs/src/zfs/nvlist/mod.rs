//! nvlists: the typed name-value lists in which ZFS keeps labels and talks through `/dev/zfs`.
//!
//! Two encodings exist. The kernel answers in the native one; labels and cache files use XDR. Both decoders are total:
//! counts are checked against the bytes that remain before anything is allocated, and nesting is limited to
//! [`MAX_DEPTH`]. Source: OpenZFS `sys/nvpair.h`, `nvpair.c`.

mod cursor;
mod native;
#[cfg(test)]
mod tests;
mod value;
mod xdr;

use std::borrow::Cow;

pub use value::Value;

/// Nesting that is decoded; the kernel's own limit. A pool configuration needs six.
pub const MAX_DEPTH: u32 = 20;

/// Flag bit of lists in which a name occurs once.
const NV_UNIQUE_NAME: u32 = 1;

const ENCODING_NATIVE: u8 = 0;
const ENCODING_XDR: u8 = 1;
const LITTLE_ENDIAN: u8 = 1;

/// Longest name both encodings can carry: its size with the NUL is a positive `i16`.
const MAX_NAME: usize = i16::MAX as usize - 1;

/// Why bytes are not an nvlist. Offsets count from the start of the packed list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NvError {
    /// The bytes end inside the list.
    #[error(
        "packed nvlist ends too early: {need} more bytes expected at offset {offset}, {have} left (cut or damaged)"
    )]
    Truncated {
        /// Where the read was tried.
        offset: usize,
        /// Bytes needed there.
        need: usize,
        /// Bytes that were left.
        have: usize,
    },
    /// The four header bytes name no known encoding.
    #[error("not a packed nvlist: encoding byte 0 (native) or 1 (XDR) expected, {found} found")]
    Encoding {
        /// The first byte.
        found: u8,
    },
    /// A native list of a machine with the other byte order.
    #[error(
        "native nvlist of another byte order (endian byte 1 expected, {found} found): it was not made on this machine"
    )]
    Endian {
        /// The second byte.
        found: u8,
    },
    /// A list version other than 0.
    #[error("nvlist version 0 expected, {found} found at offset {offset}: damaged, or newer than this program")]
    Version {
        /// Where the list starts.
        offset: usize,
        /// The version found.
        found: i32,
    },
    /// A pair whose sizes contradict each other.
    #[error("damaged nvlist: impossible {what} {found} at offset {offset}")]
    Size {
        /// Where the pair or value starts.
        offset: usize,
        /// Which field is wrong.
        what: &'static str,
        /// Its value.
        found: i64,
    },
    /// A name that is too long, unterminated or holds a NUL.
    #[error("damaged nvlist: malformed pair name at offset {offset}")]
    Name {
        /// Where the name starts.
        offset: usize,
    },
    /// A string without its NUL, or with one inside.
    #[error("damaged nvlist: malformed string at offset {offset}")]
    Text {
        /// Where the string starts.
        offset: usize,
    },
    /// A type number that does not exist.
    #[error(
        "nvlist value type 1 to 27 expected, {found} found at offset {offset}: damaged, or newer than this program"
    )]
    Type {
        /// Where the pair starts.
        offset: usize,
        /// The number found.
        found: i32,
    },
    /// A boolean value other than 0 and 1.
    #[error("damaged nvlist: boolean 0 or 1 expected, {found} found at offset {offset}")]
    Boolean {
        /// Where the value lies.
        offset: usize,
        /// The value found.
        found: u32,
    },
    /// Lists nested deeper than [`MAX_DEPTH`].
    #[error("nvlists nested deeper than {MAX_DEPTH} at offset {offset}: damaged or hostile")]
    Depth {
        /// Where the list that is too deep starts.
        offset: usize,
    },
}

/// One name with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    name: Vec<u8>,
    value: Value,
}

/// An ordered list of named values.
///
/// Names are bytes. Order and repeated names of a decoded list are kept; lookups see the first of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvList {
    /// `nvl_nvflag`; [`NV_UNIQUE_NAME`] in every list ZFS makes.
    flags: u32,
    pairs: Vec<Pair>,
}

impl Default for NvList {
    fn default() -> Self {
        NvList { flags: NV_UNIQUE_NAME, pairs: Vec::new() }
    }
}

impl NvList {
    /// An empty list with unique names.
    pub fn new() -> Self {
        Self::default()
    }

    fn with_flags(flags: u32) -> Self {
        NvList { flags, pairs: Vec::new() }
    }

    fn push(&mut self, name: Vec<u8>, value: Value) {
        self.pairs.push(Pair { name, value });
    }

    /// The value under `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.pairs.iter().find(|p| p.name == name.as_bytes()).map(|p| &p.value)
    }

    /// The value under `name`, to change it in place.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.pairs.iter_mut().find(|p| p.name == name.as_bytes()).map(|p| &mut p.value)
    }

    /// Replaces the value under `name`, or appends the pair. Repetitions of the name go.
    pub fn set(&mut self, name: &str, value: Value) {
        let Some(at) = self.pairs.iter().position(|p| p.name == name.as_bytes()) else {
            self.push(name.as_bytes().to_vec(), value);
            return;
        };
        if let Some(pair) = self.pairs.get_mut(at) {
            pair.value = value;
        }
        let mut index = 0;
        self.pairs.retain(|p| {
            let keep = index <= at || p.name != name.as_bytes();
            index += 1;
            keep
        });
    }

    /// Takes every pair called `name` out and returns the first one's value.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let mut first = None;
        let mut kept = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs.drain(..) {
            if pair.name != name.as_bytes() {
                kept.push(pair);
            } else if first.is_none() {
                first = Some(pair.value);
            }
        }
        self.pairs = kept;
        first
    }

    /// The pairs in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Value)> {
        self.pairs.iter().map(|p| (p.name.as_slice(), &p.value))
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// True for a list without pairs.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The `uint64` under `name`; `None` also for any other type, as in the kernel's lookups.
    pub fn u64(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::U64(v) => Some(*v),
            _ => None,
        }
    }

    /// The string under `name`, as bytes.
    pub fn string(&self, name: &str) -> Option<&[u8]> {
        match self.get(name)? {
            Value::Str(v) => Some(v),
            _ => None,
        }
    }

    /// The string under `name` for people: bytes that are not UTF-8 are replaced.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.string(name).map(String::from_utf8_lossy)
    }

    /// The nvlist under `name`.
    pub fn list(&self, name: &str) -> Option<&NvList> {
        match self.get(name)? {
            Value::List(v) => Some(v),
            _ => None,
        }
    }

    /// The nvlist under `name`, to change it in place.
    pub fn list_mut(&mut self, name: &str) -> Option<&mut NvList> {
        match self.get_mut(name)? {
            Value::List(v) => Some(v),
            _ => None,
        }
    }

    /// The nvlist array under `name`.
    pub fn lists(&self, name: &str) -> Option<&[NvList]> {
        match self.get(name)? {
            Value::ListArray(v) => Some(v),
            _ => None,
        }
    }

    /// The nvlist array under `name`, to change it in place.
    pub fn lists_mut(&mut self, name: &str) -> Option<&mut Vec<NvList>> {
        match self.get_mut(name)? {
            Value::ListArray(v) => Some(v),
            _ => None,
        }
    }

    /// The `uint64` array under `name`.
    pub fn u64s(&self, name: &str) -> Option<&[u64]> {
        match self.get(name)? {
            Value::U64Array(v) => Some(v),
            _ => None,
        }
    }

    /// True when the valueless boolean `name` is present, or a boolean value `name` is true.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Boolean | Value::BooleanValue(true)))
    }

    /// Packs the list in the native encoding, as `/dev/zfs` takes it.
    ///
    /// Names and strings end at their first NUL, as in C; names are cut to 32766 bytes.
    pub fn encode_native(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_native_into(&mut out);
        out
    }

    /// Appends what [`NvList::encode_native`] returns to a buffer of the caller's, which can be one that is erased.
    pub fn encode_native_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[ENCODING_NATIVE, LITTLE_ENDIAN, 0, 0]);
        native::encode(self, out);
    }

    /// Packs the list in the XDR encoding, as labels and cache files have it. Cuts names and strings as
    /// [`NvList::encode_native`] does.
    pub fn encode_xdr(&self) -> Vec<u8> {
        let mut out = vec![ENCODING_XDR, LITTLE_ENDIAN, 0, 0];
        xdr::encode(self, &mut out);
        out
    }

    /// Unpacks a list of either encoding; bytes after its end are ignored.
    pub fn decode(bytes: &[u8]) -> Result<NvList, NvError> {
        let mut cursor = cursor::Cursor::new(bytes);
        let [encoding, endian, _, _] = cursor.array()?;
        match (encoding, endian) {
            (ENCODING_NATIVE, LITTLE_ENDIAN) => native::decode(&mut cursor),
            (ENCODING_NATIVE, found) => Err(NvError::Endian { found }),
            (ENCODING_XDR, _) => xdr::decode(&mut cursor),
            (found, _) => Err(NvError::Encoding { found }),
        }
    }
}

impl<N: AsRef<[u8]>> FromIterator<(N, Value)> for NvList {
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(pairs: I) -> Self {
        let mut list = NvList::new();
        for (name, value) in pairs {
            list.push(name.as_ref().to_vec(), value);
        }
        list
    }
}

/// The part of a name or string that C sees: up to its first NUL.
fn c_bytes(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

/// The part of a name that is encoded.
fn c_name(name: &[u8]) -> &[u8] {
    let name = c_bytes(name);
    name.get(..MAX_NAME).unwrap_or(name)
}

/// Length or count as the encodings hold it. Lists of 2 GiB cannot be sent anyway, so the limit is no loss.
fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
