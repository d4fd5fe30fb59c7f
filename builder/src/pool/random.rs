//! Numbers that look random and are the same for the same pool: guids, salts.

use sha2::{Digest as _, Sha256};

/// A stream of numbers from a seed.
#[derive(Debug, Clone)]
pub(super) struct Random {
    seed: [u8; 32],
    count: u64,
}

impl Random {
    pub(super) fn new(seed: &[u8]) -> Self {
        Random { seed: Sha256::digest(seed).into(), count: 0 }
    }

    /// A stream of its own for something with a name.
    pub(super) fn of(&self, name: &str) -> Self {
        Self::new(&[&self.seed, name.as_bytes()].concat())
    }

    /// The next number; never 0.
    pub(super) fn number(&mut self) -> u64 {
        self.count += 1;
        self.nth(self.count)
    }

    /// The number with an index; never 0.
    pub(super) fn nth(&self, index: u64) -> u64 {
        let digest: [u8; 32] =
            Sha256::new().chain_update(self.seed).chain_update(index.to_le_bytes()).finalize().into();
        let [first, ..] = digest.as_chunks::<8>().0 else { return 1 };
        u64::from_le_bytes(*first).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_numbers() {
        let stream = |seed: &str| {
            let mut random = Random::new(seed.as_bytes());
            [random.number(), random.number(), random.of("x").number()]
        };
        assert_eq!(stream("a"), stream("a"));
        let all: std::collections::BTreeSet<u64> = ["a", "b"].into_iter().flat_map(stream).collect();
        assert_eq!(all.len(), 6);
    }
}
