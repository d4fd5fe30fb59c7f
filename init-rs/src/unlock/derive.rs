//! From the bytes of a file or a typed line to the 32 bytes that the kernel takes (zfs-load-key(8), `libzfs_crypto.c`).

use crate::sys::consoles::Secret;
use crate::zfs::keys::{Encryption, KEY_LEN, KeyFormat};
use sha1::Sha1;
use zeroize::{Zeroize, Zeroizing};

/// Stack that a derivation may have used; what it left there is overwritten.
const STACK: usize = 16 * 1024;

/// 32 bytes, erased when dropped.
pub struct Key(Secret);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// All zero, to be filled.
    fn blank() -> Self {
        Self(Zeroizing::new(vec![0; KEY_LEN]))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; KEY_LEN] {
        // Every constructor makes exactly this length.
        self.0.as_slice().try_into().unwrap_or(&[0; KEY_LEN])
    }
}

/// Why bytes cannot be the key. No text holds any of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// A raw key of another length.
    #[error("a raw key is exactly {KEY_LEN} bytes, found {0}")]
    RawLength(usize),
    /// A raw key with a newline behind it: the usual accident.
    #[error(
        "a raw key is exactly {KEY_LEN} bytes, found {found} and the last is a newline that does not belong to it",
        found = KEY_LEN + 1
    )]
    RawNewline,
    /// A hex key of another length.
    #[error("a hex key is {digits} hex digits on one line, found {0} characters", digits = 2 * KEY_LEN)]
    HexLength(usize),
    /// A hex key with other characters.
    #[error("a hex key is {digits} hex digits on one line, found something else among them", digits = 2 * KEY_LEN)]
    HexDigits,
    /// Nothing before the end of the first line.
    #[error("a passphrase stands on the first line, which is empty")]
    Empty,
    /// `pbkdf2iters` beyond what can be computed.
    #[error("pbkdf2iters is {0}, expected 1 to {max}", max = u32::MAX)]
    Iterations(u64),
    /// A `keyformat` that this program does not know.
    #[error("keyformat is none of raw, hex and passphrase: OpenZFS is newer than this program")]
    Format,
}

/// The key from a file's content, or from a typed line.
pub fn key(encryption: &Encryption, content: &[u8]) -> Result<Key, BadKey> {
    match encryption.format {
        Some(KeyFormat::Raw) => raw(content),
        Some(KeyFormat::Hex) => hex(first_line(content)),
        Some(KeyFormat::Passphrase) => passphrase(encryption, first_line(content)),
        None => Err(BadKey::Format),
    }
}

/// Hex keys and passphrases: up to the first newline, without it.
pub fn first_line(content: &[u8]) -> &[u8] {
    content.split(|b| *b == b'\n').next().unwrap_or_default()
}

fn raw(content: &[u8]) -> Result<Key, BadKey> {
    let mut key = Key::blank();
    match content.len() {
        KEY_LEN => {
            key.0.copy_from_slice(content);
            Ok(key)
        }
        len if len == KEY_LEN + 1 && content.ends_with(b"\n") => Err(BadKey::RawNewline),
        len => Err(BadKey::RawLength(len)),
    }
}

fn hex(digits: &[u8]) -> Result<Key, BadKey> {
    if digits.len() != 2 * KEY_LEN {
        return Err(BadKey::HexLength(digits.len()));
    }
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut key = Key::blank();
    for (byte, pair) in key.0.iter_mut().zip(digits.chunks(2)) {
        let (high, low) = (digit(pair.first()), digit(pair.get(1)));
        *byte = high.zip(low).map(|(high, low)| high << 4 | low).ok_or(BadKey::HexDigits)?;
    }
    Ok(key)
}

/// PBKDF2 with HMAC-SHA1, the salt as eight little-endian bytes. As in C, a passphrase ends at its first NUL.
fn passphrase(encryption: &Encryption, text: &[u8]) -> Result<Key, BadKey> {
    let text = text.split(|b| *b == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Err(BadKey::Empty);
    }
    let rounds = u32::try_from(encryption.iterations).ok().filter(|n| *n > 0);
    let rounds = rounds.ok_or(BadKey::Iterations(encryption.iterations))?;
    let mut key = Key::blank();
    derive(text, encryption.salt, rounds, &mut key);
    scrub_stack();
    Ok(key)
}

#[inline(never)]
fn derive(text: &[u8], salt: u64, rounds: u32, key: &mut Key) {
    pbkdf2::pbkdf2_hmac::<Sha1>(text, &salt.to_le_bytes(), rounds, &mut key.0);
}

/// Overwrites the stack below the caller, where hashing left its working state.
#[inline(never)]
fn scrub_stack() {
    let mut room = [0xff_u8; STACK];
    room.zeroize();
    std::hint::black_box(&room);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(format: KeyFormat) -> Encryption {
        Encryption {
            root: "tank".into(),
            format: Some(format),
            location: "prompt".into(),
            salt: u64::from_le_bytes(*b"saltSALT"),
            iterations: 4096,
            available: false,
        }
    }

    #[test]
    fn raw_keys_are_exactly_32_bytes() {
        let facts = facts(KeyFormat::Raw);
        let mut content = vec![b'\n'; 32];
        assert_eq!(key(&facts, &content).unwrap().bytes(), &[b'\n'; 32]);
        content.push(b'\n');
        assert_eq!(key(&facts, &content).unwrap_err(), BadKey::RawNewline);
        assert_eq!(key(&facts, b"short").unwrap_err(), BadKey::RawLength(5));
        content[32] = b'x';
        assert_eq!(key(&facts, &content).unwrap_err(), BadKey::RawLength(33));
    }

    #[test]
    fn hex_keys_in_either_case_with_or_without_a_newline() {
        let facts = facts(KeyFormat::Hex);
        let digits = "00112233445566778899aAbBcCdDeEfF".repeat(2);
        let expected = key(&facts, digits.as_bytes()).unwrap();
        assert_eq!(expected.bytes()[..4], [0, 0x11, 0x22, 0x33]);
        assert_eq!(expected.bytes()[31], 0xff);
        let file = format!("{digits}\nsecond line");
        assert_eq!(key(&facts, file.as_bytes()).unwrap().bytes(), expected.bytes());
        assert_eq!(key(&facts, b"0011").unwrap_err(), BadKey::HexLength(4));
        assert_eq!(key(&facts, digits.replace('2', "g").as_bytes()).unwrap_err(), BadKey::HexDigits);
        assert_eq!(key(&facts, digits.replace('2', "+").as_bytes()).unwrap_err(), BadKey::HexDigits);
    }

    /// The value is that of `hashlib.pbkdf2_hmac("sha1", b"correct horse", b"saltSALT", 4096, 32)`.
    #[test]
    fn passphrases_are_the_first_line() {
        let facts = facts(KeyFormat::Passphrase);
        let expected = [
            0x2d, 0xc8, 0xe0, 0x98, 0xaf, 0x32, 0x90, 0xe5, 0xbc, 0x24, 0x0c, 0xd1, 0x6a, 0xd3, 0xe4, 0x38, 0xde, 0x08,
            0x0b, 0xd8, 0xb6, 0x04, 0x93, 0x0a, 0x82, 0x6f, 0x10, 0x6a, 0xcd, 0x42, 0x48, 0x5c,
        ];
        for content in ["correct horse", "correct horse\n", "correct horse\nmore", "correct horse\0junk\n"] {
            let key = key(&facts, content.as_bytes()).unwrap();
            assert_eq!(key.bytes(), &expected, "{content:?}");
        }
        // Only the newline is dropped.
        let other = key(&facts, b"correct horse\r\n").unwrap();
        assert_ne!(other.bytes(), key(&facts, b"correct horse").unwrap().bytes());
        assert_eq!(key(&facts, b"\nx").unwrap_err(), BadKey::Empty);
        assert_eq!(key(&Encryption { iterations: 0, ..facts.clone() }, b"x").unwrap_err(), BadKey::Iterations(0));
        let huge = Encryption { iterations: 1 << 32, ..facts };
        assert_eq!(key(&huge, b"x").unwrap_err(), BadKey::Iterations(1 << 32));
    }
}
