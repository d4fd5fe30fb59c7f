//! Little-endian words in buffers. What lies outside a buffer is not written, and reads as 0: places are fixed by the format.

/// Copies `bytes` to `at`.
pub(super) fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = buffer.get_mut(at..at.saturating_add(bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

/// Writes one byte.
pub(super) fn put8(buffer: &mut [u8], at: usize, value: u8) {
    put(buffer, at, &[value]);
}

/// Writes a 16-bit word.
pub(super) fn put16(buffer: &mut [u8], at: usize, value: u16) {
    put(buffer, at, &value.to_le_bytes());
}

/// Writes a 32-bit word.
pub(super) fn put32(buffer: &mut [u8], at: usize, value: u32) {
    put(buffer, at, &value.to_le_bytes());
}

/// Writes a 64-bit word.
pub(super) fn put64(buffer: &mut [u8], at: usize, value: u64) {
    put(buffer, at, &value.to_le_bytes());
}

/// Reads a 64-bit word.
pub(super) fn get64(buffer: &[u8], at: usize) -> u64 {
    let bytes = buffer.get(at..at.saturating_add(8)).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Reads a 32-bit word.
pub(super) fn get32(buffer: &[u8], at: usize) -> u32 {
    let bytes = buffer.get(at..at.saturating_add(4)).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Reads a 16-bit word.
pub(super) fn get16(buffer: &[u8], at: usize) -> u16 {
    let bytes = buffer.get(at..at.saturating_add(2)).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

/// 64-bit words one after the other.
pub(super) fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A size as an index; nothing here is larger than memory.
pub(super) fn index(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// The low 16 bits.
pub(super) fn low16(value: u64) -> u16 {
    let [a, b, ..] = value.to_le_bytes();
    u16::from_le_bytes([a, b])
}

/// The low 8 bits.
pub(super) fn low8(value: u64) -> u8 {
    let [a, ..] = value.to_le_bytes();
    a
}
