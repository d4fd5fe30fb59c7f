//! Bounds-checked reading.

use super::NvError;

/// A position in bytes; every read is checked and says where it failed.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, offset: 0 }
    }

    /// A cursor over `bytes`, which lie `offset` bytes into the packed list.
    pub(super) fn at(bytes: &'a [u8], offset: usize) -> Self {
        Cursor { bytes, offset }
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes before the next NUL, if there is one.
    pub(super) fn until_nul(&self) -> Option<usize> {
        self.bytes.iter().position(|b| *b == 0)
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], NvError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(n) else {
            return Err(NvError::Truncated { offset: self.offset, need: n, have: self.bytes.len() });
        };
        self.bytes = rest;
        self.offset = self.offset.saturating_add(n);
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], NvError> {
        let Some((taken, rest)) = self.bytes.split_first_chunk::<N>() else {
            return Err(NvError::Truncated { offset: self.offset, need: N, have: self.bytes.len() });
        };
        self.bytes = rest;
        self.offset = self.offset.saturating_add(N);
        Ok(*taken)
    }

    /// Fails unless `n` items of at least `each` bytes can still follow: called before memory is reserved for them.
    pub(super) fn room_for(&self, n: usize, each: usize) -> Result<(), NvError> {
        let need = n.saturating_mul(each);
        if need > self.bytes.len() {
            return Err(NvError::Truncated { offset: self.offset, need, have: self.bytes.len() });
        }
        Ok(())
    }

    /// Reads `n` items, each taken from `N` bytes by `convert`.
    pub(super) fn items<const N: usize, T>(
        &mut self,
        n: usize,
        convert: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, NvError> {
        self.room_for(n, N)?;
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(convert(self.array()?));
        }
        Ok(items)
    }
}
