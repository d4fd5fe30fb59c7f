//! The geometry of a vdev: labels, metaslabs, and who gets the next free byte.

use taproot_init::zfs::label::{LABEL_SIZE, MIN_DEVICE_SIZE};

use super::PoolError;
use super::bytes::index;

/// Where space that can be allocated begins: behind two labels and the boot area.
pub(super) const START: u64 = 4 << 20;
/// Smallest and largest metaslab, as a power of two.
const METASLAB_SHIFTS: (u32, u32) = (24, 34);
/// Metaslabs that the kernel aims at.
const METASLABS: u64 = 128;
/// With fewer, what is free is spread too unevenly.
const MIN_METASLABS: u64 = 8;

/// The geometry of the one top-level vdev.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Bytes of the device, rounded down to whole labels.
    pub(super) size: u64,
    /// Bytes that can be allocated.
    pub(super) asize: u64,
    /// Smallest allocation, as a power of two.
    pub(super) ashift: u32,
    /// Bytes of a metaslab, as a power of two.
    pub(super) metaslab_shift: u32,
}

impl Geometry {
    /// For a device of `size` bytes which is expected to be grown to `grow_to`. The kernel never changes the size of metaslabs,
    /// so it is that of the pool to come that decides.
    pub(super) fn new(size: u64, ashift: u32, grow_to: u64) -> Result<Self, PoolError> {
        if !(9..=13).contains(&ashift) {
            return Err(PoolError::Option(format!("ashift 9 to 13 expected, {ashift} found")));
        }
        let size = size - size % LABEL_SIZE;
        if size < MIN_DEVICE_SIZE {
            return Err(PoolError::Option(format!(
                "a pool needs at least {MIN_DEVICE_SIZE} bytes, {size} were given: choose a larger size"
            )));
        }
        let asize = size - START - 2 * LABEL_SIZE;
        let (smallest, largest) = METASLAB_SHIFTS;
        let wanted = (grow_to.max(size) / METASLABS).checked_ilog2().unwrap_or(0).clamp(smallest, largest);
        let shift = (smallest..=wanted).rev().find(|shift| asize >> shift >= MIN_METASLABS);
        let metaslab_shift = shift.unwrap_or_else(|| {
            let most = asize.checked_ilog2().unwrap_or(smallest).saturating_sub(2);
            most.min(smallest)
        });
        Ok(Geometry { size, asize, ashift, metaslab_shift })
    }

    /// How many metaslabs there are.
    pub(super) fn metaslabs(&self) -> u64 {
        self.asize >> self.metaslab_shift
    }

    /// Bytes that are allocated for `size`.
    pub(super) fn round(&self, size: u64) -> u64 {
        size.next_multiple_of(1 << self.ashift)
    }
}

/// Hands out space from the beginning to the end. Nothing is ever freed.
#[derive(Debug, Clone)]
pub(super) struct Allocator {
    geometry: Geometry,
    next: u64,
    /// Bytes taken from the start of each metaslab that is in use.
    used: Vec<u64>,
}

impl Allocator {
    pub(super) fn new(geometry: Geometry) -> Self {
        Allocator { geometry, next: 0, used: Vec::new() }
    }

    /// The offset of `size` free bytes, counted from [`START`]. A block lies in one metaslab, so the end of one may stay free.
    pub(super) fn take(&mut self, size: u64) -> Result<u64, PoolError> {
        let shift = self.geometry.metaslab_shift;
        let mut at = self.next;
        if at >> shift != (at + size - 1) >> shift {
            at = ((at >> shift) + 1) << shift;
        }
        let metaslab = at >> shift;
        if metaslab >= self.geometry.metaslabs() {
            return Err(PoolError::Full { size: self.geometry.size });
        }
        self.next = at + size;
        self.used.resize(index(metaslab) + 1, 0);
        if let Some(used) = self.used.last_mut() {
            *used = self.next - (metaslab << shift);
        }
        Ok(at)
    }

    /// Bytes taken from each metaslab that is in use.
    pub(super) fn used(&self) -> &[u64] {
        &self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metaslabs_are_sized_for_what_the_pool_grows_to() {
        let shift = |size: u64, grow: u64| Geometry::new(size, 12, grow).unwrap().metaslab_shift;
        assert_eq!(shift(64 << 30, 64 << 30), 29);
        assert_eq!(shift(5 << 30, 64 << 30), 29, "8 of 512 MiB");
        assert_eq!(shift(1 << 30, 64 << 30), 26, "at least 8");
        assert_eq!(shift(1 << 30, 0), 24);
        assert_eq!(shift(1 << 50, 0), 34);
        assert!(shift(64 << 20, 64 << 30) < 24);
        assert!(Geometry::new(63 << 20, 12, 0).is_err());
        assert!(Geometry::new(1 << 30, 8, 0).is_err());
    }

    #[test]
    fn no_block_crosses_the_border_of_a_metaslab() {
        let geometry = Geometry::new(1 << 30, 12, 0).unwrap();
        let mut allocator = Allocator::new(geometry);
        let size = 1 << 24;
        assert_eq!(allocator.take(size - 4096).unwrap(), 0);
        assert_eq!(allocator.take(8192).unwrap(), size);
        assert_eq!(allocator.used(), [size - 4096, 8192]);
        let all = geometry.metaslabs() * size;
        assert!(std::iter::repeat_with(|| allocator.take(131_072)).map_while(Result::ok).all(|at| at + 131_072 <= all));
    }
}
