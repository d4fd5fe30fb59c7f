//! Encryption roots: what they say of their key, and the call that hands the key to the kernel (zfs-load-key(8)).

use super::calls::LOAD_KEY;
use super::ioctl::{Zfs, ZfsError};
use super::nvlist::{NvList, Value};
use crate::sys::ZfsCall;
use crate::sys::consoles::Secret;
use zeroize::{Zeroize, Zeroizing};

/// Room for the packed argument, which takes 140 bytes: a buffer that grows leaves copies of the key behind.
const ARGUMENT: usize = 1024;

/// Length of every wrapping key (`WRAPPING_KEY_LEN`).
pub const KEY_LEN: usize = 32;

/// Property `keyformat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFormat {
    /// 32 bytes.
    Raw,
    /// 64 hex digits.
    Hex,
    /// A passphrase, from which the key is derived.
    Passphrase,
}

impl KeyFormat {
    /// What a user would call it.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Raw => "raw key",
            Self::Hex => "hex key",
            Self::Passphrase => "passphrase",
        }
    }
}

/// What an encryption root says of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// The encryption root's name; the dataset asked for, or another one that may lie outside its path (clones).
    pub root: String,
    /// `keyformat`; `None` for one that this program does not know.
    pub format: Option<KeyFormat>,
    /// `keylocation`: `prompt`, or a URL.
    pub location: String,
    /// `pbkdf2salt`.
    pub salt: u64,
    /// `pbkdf2iters`.
    pub iterations: u64,
    /// Whether the key is loaded (`keystatus`).
    pub available: bool,
}

impl Encryption {
    /// From the properties of the encryption root `name` itself; `None` if it is not encrypted.
    fn from_properties(name: &str, properties: &NvList) -> Option<Self> {
        let number = |property: &str| properties.list(property).and_then(|p| p.u64("value"));
        let text = |property: &str| properties.list(property).and_then(|p| p.text("value"));
        Some(Self {
            available: number("keystatus")? == 2,
            root: text("encryptionroot").map_or_else(|| name.to_owned(), std::borrow::Cow::into_owned),
            format: match number("keyformat") {
                Some(1) => Some(KeyFormat::Raw),
                Some(2) => Some(KeyFormat::Hex),
                Some(3) => Some(KeyFormat::Passphrase),
                _ => None,
            },
            location: text("keylocation").map_or_else(|| "none".to_owned(), std::borrow::Cow::into_owned),
            salt: number("pbkdf2salt").unwrap_or(0),
            iterations: number("pbkdf2iters").unwrap_or(0),
        })
    }
}

impl Zfs<'_> {
    /// The facts of the encryption root that `dataset` belongs to; `None` if it is not encrypted.
    pub fn encryption(self, dataset: &str) -> Result<Option<Encryption>, ZfsError> {
        let own = Encryption::from_properties(dataset, &self.objset(dataset)?.properties);
        match own {
            // keylocation is kept only where the key belongs.
            Some(facts) if facts.root != dataset => {
                Ok(Encryption::from_properties(&facts.root, &self.objset(&facts.root)?.properties))
            }
            own => Ok(own),
        }
    }

    /// Whether the key of an encryption root is loaded, whoever loaded it.
    pub fn key_available(self, encryption_root: &str) -> bool {
        self.encryption(encryption_root).is_ok_and(|facts| facts.is_some_and(|f| f.available))
    }

    /// Loads the key of an encryption root. A wrong key is `EACCES`, one that is there already `EEXIST`.
    pub fn load_key(self, encryption_root: &str, key: &[u8; KEY_LEN]) -> Result<(), ZfsError> {
        let src = key_argument(key);
        let call = ZfsCall { number: LOAD_KEY, name: encryption_root.as_bytes(), src: &src, ..ZfsCall::default() };
        match self.call("LOAD_KEY", &call)?.errno {
            0 => Ok(()),
            errno => Err(ZfsError { call: "LOAD_KEY", name: encryption_root.to_owned(), errno }),
        }
    }
}

/// `{hidden_args: {wkeydata: uint8[32]}}`; hidden arguments stay out of the pool's history.
fn key_argument(key: &[u8; KEY_LEN]) -> Secret {
    let mut hidden = NvList::new();
    hidden.set("wkeydata", Value::U8Array(key.to_vec()));
    let mut list = NvList::new();
    list.set("hidden_args", Value::List(hidden));
    let mut packed = Zeroizing::new(Vec::with_capacity(ARGUMENT));
    list.encode_native_into(&mut packed);
    if let Some(Value::U8Array(copy)) = list.list_mut("hidden_args").and_then(|hidden| hidden.get_mut("wkeydata")) {
        copy.zeroize();
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, Value)]) -> NvList {
        let wrapped = |value: &Value| Value::List([("value", value.clone())].into_iter().collect());
        pairs.iter().map(|(name, value)| (*name, wrapped(value))).collect()
    }

    #[test]
    fn facts_of_an_encryption_root() {
        let list = properties(&[
            ("keystatus", Value::U64(1)),
            ("keyformat", Value::U64(3)),
            ("keylocation", Value::text("prompt")),
            ("encryptionroot", Value::text("tank/e")),
            ("pbkdf2salt", Value::U64(0x0102)),
            ("pbkdf2iters", Value::U64(350_000)),
        ]);
        let facts = Encryption::from_properties("tank/e", &list).unwrap();
        assert_eq!((facts.format, facts.available), (Some(KeyFormat::Passphrase), false));
        assert_eq!((facts.salt, facts.iterations, facts.location.as_str()), (0x0102, 350_000, "prompt"));
        assert_eq!(Encryption::from_properties("tank/plain", &properties(&[])), None);
    }

    #[test]
    fn the_argument_is_packed_once_in_a_buffer_that_never_grows() {
        let key = [0xa7; KEY_LEN];
        let packed = key_argument(&key);
        assert_eq!((packed.len(), packed.capacity()), (140, ARGUMENT));
        let list = NvList::decode(&packed).unwrap();
        let hidden = list.list("hidden_args").unwrap();
        assert_eq!((list.len(), hidden.get("wkeydata")), (1, Some(&Value::U8Array(key.to_vec()))));
    }
}
