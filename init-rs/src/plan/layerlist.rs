//! Signed lists of layers: which layers there are, what is in each, and by whom that is said.
//!
//! A list is a text, the topmost layer first:
//!
//! ```text
//! taproot-layers 1
//! serial 42
//! layer 30-site 1048576 sha256 <64 hexadecimal digits>
//! layer base 314572800 verity <64 hexadecimal digits>
//! signature <128 hexadecimal digits>
//! ```
//!
//! One blank between two words, a newline behind each line, numbers without anything needless: there is one way to write a list. The
//! signature is one by Ed25519 (RFC 8032) of everything before its line, the first line with its name and version included, by a key
//! whose public half is packed in the image ([`KEYS_DIR`]). Nothing of a list is looked at before its signature is found good.

use super::names;
use crate::devices::verity::Digest;
use crate::hex::{hex, unhex};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where the public keys lie in an image, a file each.
pub const KEYS_DIR: &str = "/etc/taproot/layer-keys";
/// How their names end.
pub const KEY_SUFFIX: &str = ".pub";
/// No list is longer, bytes: that many layers with the longest names.
pub const MAX_BYTES: usize = 128 << 10;
/// As many as an overlay takes (`OVL_MAX_STACK`).
pub const MAX_LAYERS: usize = 500;
/// As many are tried.
pub const MAX_KEYS: usize = 64;

const HEADER: &str = "taproot-layers 1";
const SIGNATURE: &str = "signature ";
const KEY: &str = "ed25519";
const SIGNATURE_LEN: usize = 64;

/// Why a list is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Nothing to check it by.
    #[error("expected a public key in {KEYS_DIR} of the image, found none; pack the key of whoever signs the layers")]
    NoKeys,
    /// Not one of ours.
    #[error("expected a list of layers of at most {MAX_BYTES} bytes, found more")]
    TooLong,
    /// No signature where it must be.
    #[error(
        "expected a line `signature` with 128 hexadecimal digits at the end of the list, found none; sign the list"
    )]
    Unsigned,
    /// By nobody that the image knows, or changed since.
    #[error(
        "expected a signature by one of the {0} keys in {KEYS_DIR} of the image, found one that fits none of them: the list was \
         changed, or signed with another key"
    )]
    Signature(usize),
    /// Signed, and not written as a list is.
    #[error("line {line} of the list: expected {expected}, found {found:?}")]
    Line {
        /// From 1.
        line: usize,
        /// What should stand there.
        expected: String,
        /// What does.
        found: String,
    },
    /// An old one, perhaps brought back by somebody who can write to the medium.
    #[error(
        "expected a list with serial number {last} or later, which was seen before, found {found}; bring the newest list back"
    )]
    Older {
        /// The list's.
        found: u64,
        /// The last that was seen.
        last: u64,
    },
}

/// A public key, or why it is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a line `{KEY}` with 64 hexadecimal digits, as taproot writes public keys, found {0}")]
pub struct KeyError(&'static str);

/// A key that lists are checked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(ed25519_compact::PublicKey);

impl PublicKey {
    /// From the 32 bytes of RFC 8032. A key that anything is signed by is none.
    pub fn new(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_compact::PublicKey::new(bytes);
        key.validate().map(|()| Self(key)).map_err(|_| KeyError("digits that are no point of the curve, or a weak one"))
    }

    /// From a file: one line, with a comment behind the digits if there is one.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut words = text.lines().next().unwrap_or_default().split(' ');
        if words.next() != Some(KEY) {
            return Err(KeyError("something else"));
        }
        if text.lines().count() > 1 {
            return Err(KeyError("more lines; put each key into a file of its own"));
        }
        Self::new(words.next().and_then(unhex).ok_or(KeyError("other digits"))?)
    }

    /// The text of its file.
    pub fn render(&self, comment: &str) -> String {
        format!("{KEY} {} {comment}", hex(&*self.0)).trim_end().to_owned() + "\n"
    }

    fn has_signed(&self, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
        self.0.verify(message, &ed25519_compact::Signature::new(*signature)).is_ok()
    }
}

/// How it is known that a layer is the one that was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// The sum of the whole image, which has to be read for it.
    Sha256(Digest),
    /// The root of its verity tree: each block is checked when it is read. The size is that of the data under the tree.
    Verity(Digest),
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// What it must be.
    pub seal: Seal,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, digest) = match &self.seal {
            Seal::Sha256(digest) => ("sha256", digest),
            Seal::Verity(digest) => ("verity", digest),
        };
        write!(f, "layer {} {} {kind} {digest}", self.name, self.size)
    }
}

/// A list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerList {
    /// Grows with each list that is signed.
    pub serial: u64,
    /// The topmost first.
    pub layers: Vec<Layer>,
}

impl LayerList {
    /// The text that is signed.
    pub fn render(&self) -> String {
        let head = format!("{HEADER}\nserial {}\n", self.serial);
        self.layers.iter().fold(head, |text, layer| text + &format!("{layer}\n"))
    }

    /// With its signature, as it is kept.
    pub fn signed(&self, signature: &[u8; SIGNATURE_LEN]) -> String {
        format!("{}{SIGNATURE}{}\n", self.render(), hex(signature))
    }

    /// A list that one of these keys has signed, and that is not older than the last one seen.
    pub fn open(bytes: &[u8], keys: &[PublicKey], last: Option<u64>) -> Result<Self, ListError> {
        if keys.is_empty() {
            return Err(ListError::NoKeys);
        }
        if bytes.len() > MAX_BYTES {
            return Err(ListError::TooLong);
        }
        let (message, signature) = split(bytes).ok_or(ListError::Unsigned)?;
        let tried = keys.len().min(MAX_KEYS);
        if !keys.iter().take(tried).any(|key| key.has_signed(message, &signature)) {
            return Err(ListError::Signature(tried));
        }
        let signed = Self::parse(&String::from_utf8_lossy(message))?;
        match last {
            Some(last) if signed.serial < last => Err(ListError::Older { found: signed.serial, last }),
            _ => Ok(signed),
        }
    }

    /// From the text that is signed, or is to be.
    pub fn parse(text: &str) -> Result<Self, ListError> {
        let mut lines = text.split_inclusive('\n').zip(1..);
        let mut next = |expected: &str| {
            let (line, at) = lines.next().unwrap_or(("", text.lines().count() + 1));
            line.strip_suffix('\n').map(|line| (line, at)).ok_or_else(|| wrong(at, expected, line))
        };
        let (header, line) = next(HEADER)?;
        if header != HEADER {
            return Err(wrong(line, &format!("{HEADER} (a list of this version)"), header));
        }
        let (serial, line) = next("serial NUMBER")?;
        let number_of = serial.strip_prefix("serial ").and_then(number);
        let serial = number_of.ok_or_else(|| wrong(line, "serial NUMBER", serial))?;
        let mut layers = Vec::new();
        let mut seen = BTreeSet::new();
        for (line, at) in lines {
            let layer = line.strip_suffix('\n').ok_or_else(|| "a newline at its end".to_owned()).and_then(layer);
            let layer = layer.map_err(|expected| wrong(at, &expected, line))?;
            if !seen.insert(layer.name.clone()) {
                return Err(wrong(at, "each name once", line));
            }
            if layers.len() == MAX_LAYERS {
                return Err(wrong(at, &format!("at most {MAX_LAYERS} layers"), line));
            }
            layers.push(layer);
        }
        if layers.is_empty() {
            return Err(wrong(3, "a layer", ""));
        }
        Ok(Self { serial, layers })
    }
}

/// Serial numbers of the lists that were seen last, by their files: what an older list is known by. Lines of a number and a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serials(BTreeMap<String, u64>);

impl Serials {
    /// No text of them is longer, bytes: firmware has little room.
    pub const MAX_BYTES: usize = 2048;

    /// From a text that was kept. One that is damaged is none: it must not look as if nothing had been seen.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let wrong = |what: &str| format!("expected lines of a number and the file of a list, found {what:?}");
        if bytes.len() > Self::MAX_BYTES {
            return Err(format!("expected at most {} bytes, found {}", Self::MAX_BYTES, bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("bytes that are no text"))?;
        let line = |line: &str| {
            let (serial, file) = line.split_once(' ')?;
            Some((Some(file).filter(|file| !file.is_empty())?.to_owned(), number(serial)?))
        };
        let lines = text.lines().map(|text| line(text).ok_or_else(|| wrong(text)));
        lines.collect::<Result<_, _>>().map(Self)
    }

    /// The last one of this file's lists.
    pub fn last(&self, file: &str) -> Option<u64> {
        self.0.get(file).copied()
    }

    /// With this one seen; `None` if that is nothing new.
    pub fn with(&self, file: &str, serial: u64) -> Option<Self> {
        let new = self.last(file).is_none_or(|last| last < serial);
        new.then(|| {
            let mut serials = self.0.clone();
            serials.insert(file.to_owned(), serial);
            Self(serials)
        })
    }

    /// The text that is kept.
    pub fn render(&self) -> String {
        self.0.iter().fold(String::new(), |text, (file, serial)| text + &format!("{serial} {file}\n"))
    }
}

/// What is signed, and by what.
fn split(bytes: &[u8]) -> Option<(&[u8], [u8; SIGNATURE_LEN])> {
    let last = bytes.strip_suffix(b"\n")?.rsplit(|byte| *byte == b'\n').next()?;
    let digits = std::str::from_utf8(last).ok()?.strip_prefix(SIGNATURE)?;
    let message = bytes.get(..bytes.len().checked_sub(last.len() + 1)?)?;
    Some((message, unhex(digits)?))
}

/// A number as we write it.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

/// A line of a layer, or what should stand there.
fn layer(line: &str) -> Result<Layer, String> {
    let words: Vec<&str> = line.splitn(6, ' ').collect();
    let ["layer", name, size, kind, digits] = words.as_slice() else {
        return Err("layer NAME BYTES sha256|verity DIGITS".to_owned());
    };
    names::check_layer(name).map_err(|why| format!("the name of a layer ({why})"))?;
    let size = number(size).filter(|size| *size > 0).ok_or("a size in bytes")?;
    let digest = Digest::parse(digits).filter(|digest| digest.to_string() == *digits);
    let digest = digest.ok_or("64 hexadecimal digits in lower case")?;
    let seal = match *kind {
        "sha256" => Seal::Sha256(digest),
        "verity" => Seal::Verity(digest),
        _ => return Err("sha256 or verity".to_owned()),
    };
    Ok(Layer { name: (*name).to_owned(), size, seal })
}

fn wrong(line: usize, expected: &str, found: &str) -> ListError {
    let found = found.trim_end_matches('\n').chars().take(120).collect();
    ListError::Line { line, expected: expected.to_owned(), found }
}

#[cfg(test)]
mod tests;
