//! Hashes of passwords as `/etc/shadow` has them: SHA-512 crypt, which every libc knows (Ulrich Drepper, "Unix crypt using SHA-256 and
//! SHA-512", 0.6).

use sha2::{Digest as _, Sha512};

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Many more than the 5000 of old: a hash in an image can be tried by whoever has a copy.
const ROUNDS: u32 = 200_000;
const SALT: usize = 16;
const SUM: usize = 64;

/// Hash of a password. The salt follows from what it is for, so that the same image comes out each time: it is no secret, but no other
/// account may have it.
pub fn hash(password: &[u8], purpose: &str) -> String {
    salted(password, purpose, ROUNDS)
}

fn salted(password: &[u8], purpose: &str, rounds: u32) -> String {
    let sum = Sha512::digest(format!("taproot: salt of {purpose}"));
    let salt: String = sum.iter().take(SALT).map(|byte| letter(u32::from(*byte))).collect();
    crypt(password, &salt, Some(rounds))
}

fn letter(value: u32) -> char {
    char::from(*ALPHABET.get(usize::try_from(value & 63).unwrap_or(0)).unwrap_or(&b'.'))
}

/// Bytes of a sum, again and again, as many as another text has.
fn repeated(sum: &[u8], length: usize) -> Vec<u8> {
    sum.iter().copied().cycle().take(length).collect()
}

fn crypt(password: &[u8], salt: &str, rounds: Option<u32>) -> String {
    let salt_bytes = salt.as_bytes();
    let second = Sha512::new().chain_update(password).chain_update(salt_bytes).chain_update(password).finalize();
    let mut first = Sha512::new().chain_update(password).chain_update(salt_bytes);
    first.update(repeated(&second, password.len()));
    let mut bits = password.len();
    while bits > 0 {
        first.update(if bits & 1 == 1 { second.as_slice() } else { password });
        bits >>= 1;
    }
    let mut sum = first.finalize();
    let mut all = Sha512::new();
    for _ in 0..password.len() {
        all.update(password);
    }
    let p = repeated(&all.finalize(), password.len());
    let mut all = Sha512::new();
    for _ in 0..16 + usize::from(*sum.first().unwrap_or(&0)) {
        all.update(salt_bytes);
    }
    let s = repeated(&all.finalize(), salt_bytes.len());
    for round in 0..rounds.unwrap_or(5000) {
        let odd = round & 1 == 1;
        let mut next = Sha512::new();
        next.update(if odd { p.as_slice() } else { sum.as_slice() });
        if round % 3 != 0 {
            next.update(&s);
        }
        if round % 7 != 0 {
            next.update(&p);
        }
        next.update(if odd { sum.as_slice() } else { p.as_slice() });
        sum = next.finalize();
    }
    let shown = rounds.map_or_else(String::new, |rounds| format!("rounds={rounds}$"));
    format!("$6${shown}{salt}${}", encoded(&sum))
}

/// The bytes by threes, in an order of their own.
fn encoded(sum: &[u8]) -> String {
    let byte = |at: usize| u32::from(sum.get(at).copied().unwrap_or(0));
    let mut out = String::new();
    let (mut a, mut b, mut c) = (0, 21, 42);
    for _ in 0..21 {
        let value = byte(a) << 16 | byte(b) << 8 | byte(c);
        out.extend((0..4).map(|nth| letter(value >> (6 * nth))));
        (a, b, c) = (b + 1, c + 1, a + 1);
    }
    let last = byte(SUM - 1);
    out.extend((0..2).map(|nth| letter(last >> (6 * nth))));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `openssl passwd -6` makes them.
    #[test]
    fn known_hashes() {
        assert_eq!(
            crypt(b"Hello world!", "saltstring", None),
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
        );
        assert_eq!(
            crypt(b"Hello world!", "saltstringsaltst", Some(10_000)),
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v."
        );
    }

    #[test]
    fn the_same_each_time_and_for_each_account_another() {
        let hash = |purpose| salted(b"x", purpose, 1000);
        assert_eq!(hash("a"), hash("a"));
        assert_ne!(hash("a"), hash("b"));
        assert!(hash("a").starts_with("$6$rounds=1000$"));
    }
}
