//! SHA-256 sums as people write them.

use crate::hex::{hex, unhex};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// A SHA-256 sum.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; Digest::LEN]);

impl Digest {
    /// Its bytes.
    pub const LEN: usize = 32;

    /// From what hashing gave.
    pub fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// From 64 hexadecimal digits of either case, and nothing else.
    pub fn parse(digits: &str) -> Option<Self> {
        unhex(digits).map(Self)
    }

    /// Of what a hasher was fed.
    pub fn of(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// The sum itself.
    pub fn bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
