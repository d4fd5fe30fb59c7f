//! Any bytes: decoding ends, takes memory in proportion to the input, and what decodes survives both encodings.
#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libfuzzer_sys::fuzz_target;
use taproot_init::zfs::nvlist::NvList;

/// Counts what is allocated at once.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system allocator unchanged; counting touches two atomics only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed).wrapping_add(layout.size()), Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fuzz_target!(|bytes: &[u8]| {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let decoded = NvList::decode(bytes);
    let taken = PEAK.load(Relaxed).saturating_sub(before);
    assert!(taken <= 16 * bytes.len() + 1024, "{taken} bytes allocated for {} of input", bytes.len());
    let Ok(list) = decoded else { return };
    assert_eq!(NvList::decode(&list.encode_native()).as_ref(), Ok(&list));
    assert_eq!(NvList::decode(&list.encode_xdr()).as_ref(), Ok(&list));
});
