//! The rescue password: an argon2id hash packed in the image, in the usual text form
//! (`$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`, as `argon2 -id -e` prints it).

use argon2::{Algorithm, Argon2, Block, Params, Version};
use std::time::Duration;
use zeroize::Zeroize;

/// Wrong passwords in a row until a pause.
const TRIES: u32 = 3;
/// The pause.
const PAUSE: Duration = Duration::from_secs(30);
/// Most memory that one check may take, KiB: a machine in trouble must be able to afford it.
const MEMORY_MAX: u32 = 64 * 1024;
/// Most passes and lanes.
const PASSES_MAX: u32 = 32;
const LANES_MAX: u32 = 16;
/// Cost of hashes made here (OWASP's recommendation for argon2id): KiB, passes, lanes.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A hash with all that is needed to check a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordHash {
    memory: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl PasswordHash {
    /// Reads the text form; the error says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "expected $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH".to_owned();
        let fields: Vec<&str> = text.trim().split('$').collect();
        let ["", "argon2id", "v=19", cost, salt, hash] = fields.as_slice() else { return Err(expected()) };
        let mut numbers =
            cost.split(',').zip(["m=", "t=", "p="]).map(|(field, key)| field.strip_prefix(key)?.parse().ok());
        let mut number = || numbers.next().flatten().ok_or_else(expected);
        let (memory, passes, lanes) = (number()?, number()?, number()?);
        let salt = decode(salt).filter(|s| (8..=64).contains(&s.len())).ok_or_else(expected)?;
        let hash = decode(hash).filter(|h| (16..=64).contains(&h.len())).ok_or_else(expected)?;
        if memory > MEMORY_MAX || passes > PASSES_MAX || lanes > LANES_MAX {
            return Err(format!(
                "costs too much to check in an initramfs: m={memory},t={passes},p={lanes}; at most \
                 m={MEMORY_MAX},t={PASSES_MAX},p={LANES_MAX} are possible"
            ));
        }
        let parsed = Self { memory, passes, lanes, salt, hash };
        parsed.params().map(|_| parsed.clone())
    }

    /// Hashes a password; the salt should be random.
    pub fn new(password: &[u8], salt: &[u8]) -> Result<Self, String> {
        let (memory, passes, lanes) = COST;
        let mut made = Self { memory, passes, lanes, salt: salt.to_owned(), hash: vec![0; 32] };
        made.hash = made.compute(password)?;
        Ok(made)
    }

    /// The text form.
    pub fn render(&self) -> String {
        let Self { memory, passes, lanes, salt, hash } = self;
        format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${}${}", encode(salt), encode(hash))
    }

    /// Whether it is the hash of this password.
    pub fn matches(&self, password: &[u8]) -> Result<bool, String> {
        let mut computed = self.compute(password)?;
        // Every byte is looked at, so that the time tells nothing.
        let difference = computed.iter().zip(&self.hash).fold(0, |sum, (a, b)| sum | (a ^ b));
        computed.zeroize();
        Ok(difference == 0)
    }

    fn params(&self) -> Result<Params, String> {
        Params::new(self.memory, self.passes, self.lanes, Some(self.hash.len())).map_err(|e| e.to_string())
    }

    fn compute(&self, password: &[u8]) -> Result<Vec<u8>, String> {
        let params = self.params()?;
        let mut memory: Vec<Block> = Vec::new();
        memory
            .try_reserve_exact(params.block_count())
            .map_err(|_| format!("no {} KiB of memory for it", self.memory))?;
        memory.resize(params.block_count(), Block::new());
        let mut out = vec![0; self.hash.len()];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let result = argon2.hash_password_into_with_memory(password, &self.salt, &mut out, &mut memory);
        for block in &mut memory {
            block.zeroize();
        }
        result.map(|()| out).map_err(|e| e.to_string())
    }
}

/// Base64 without padding (RFC 4648, section 4).
fn encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            let index = usize::try_from(bits >> (18 - 6 * digit) & 63).unwrap_or(0);
            out.push(ALPHABET.get(index).copied().unwrap_or(b'A').into());
        }
    }
    out
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for byte in chunk {
            bits = bits << 6 | u32::try_from(ALPHABET.iter().position(|c| c == byte)?).ok()?;
        }
        let bytes = (bits << (6 * (4 - chunk.len()))).to_be_bytes();
        out.extend(bytes.get(1..chunk.len())?);
        // One digit alone is no byte.
        if chunk.len() == 1 {
            return None;
        }
    }
    Some(out)
}

/// What a try ended in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// Wrong, and nothing more is taken for this time.
    Pause(Duration),
    Unusable(String),
}

/// The lock of one prompt.
#[derive(Debug)]
pub(super) struct Lock<'a> {
    hash: Option<&'a str>,
    wrong: u32,
}

impl<'a> Lock<'a> {
    pub(super) fn new(hash: Option<&'a str>) -> Self {
        Self { hash, wrong: 0 }
    }

    /// Whether there is a password that opens it.
    pub(super) fn has_password(&self) -> bool {
        self.hash.is_some()
    }

    pub(super) fn check(&mut self, password: &[u8]) -> Verdict {
        let Some(hash) = self.hash else { return Verdict::Wrong };
        match PasswordHash::parse(hash).and_then(|hash| hash.matches(password)) {
            Ok(true) => Verdict::Right,
            Ok(false) => {
                self.wrong += 1;
                if self.wrong.is_multiple_of(TRIES) { Verdict::Pause(PAUSE) } else { Verdict::Wrong }
            }
            Err(e) => Verdict::Unusable(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation's `test.c`: argon2id, version 19, t=2, m=256, p=1, "password", "somesalt".
    const REFERENCE: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    #[test]
    fn the_reference_hash_is_understood() {
        let hash = PasswordHash::parse(REFERENCE).unwrap();
        assert_eq!(hash.render(), REFERENCE);
        assert_eq!(hash.matches(b"password"), Ok(true));
        assert_eq!(hash.matches(b"Password"), Ok(false));
    }

    #[test]
    fn costs_are_bounded_and_other_texts_refused() {
        let mut texts = vec![String::new(), "secret".to_owned(), REFERENCE.replace("argon2id", "argon2i")];
        texts.extend(
            [("m=256", "m=65537"), ("t=2", "t=33"), ("p=1", "p=17"), ("p=1", "p=0"), ("m=256", "m=1")]
                .map(|(from, to)| REFERENCE.replace(from, to)),
        );
        texts.push(REFERENCE.replace("c29tZXNhbHQ", "c29t"));
        texts.push(REFERENCE.replace("c29tZXNhbHQ", "c29tZXNhbHQ="));
        for text in texts {
            assert!(PasswordHash::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn base64_of_every_length() {
        for (bytes, text) in
            [(&b"f"[..], "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (b"foob", "Zm9vYg"), (b"\xff\xfe\xfd", "//79")]
        {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text).unwrap(), bytes);
        }
        assert_eq!(decode("Zm9vY"), None);
    }

    #[test]
    fn three_wrong_ones_make_a_pause() {
        let hash = PasswordHash { memory: 8, passes: 1, ..PasswordHash::new(b"right", &[7; 16]).unwrap() };
        let hash = PasswordHash { hash: hash.compute(b"right").unwrap(), ..hash }.render();
        let mut lock = Lock::new(Some(&hash));
        assert_eq!(lock.check(b"a"), Verdict::Wrong);
        assert_eq!(lock.check(b""), Verdict::Wrong);
        assert_eq!(lock.check(b"c"), Verdict::Pause(PAUSE));
        assert_eq!(lock.check(b"d"), Verdict::Wrong);
        assert_eq!(lock.check(b"right"), Verdict::Right);
        assert!(!Lock::new(None).has_password());
    }
}
