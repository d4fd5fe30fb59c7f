//! Any bytes: decoding ends, takes memory in proportion to the input, and what decodes survives both encodings. As
//! the kernel's word on a pool that somebody else made it is judged, whatever is in it.
#![no_main]

mod counting;

use libfuzzer_sys::fuzz_target;
use taproot_init::zfs::judge::judge;
use taproot_init::zfs::nvlist::NvList;
use taproot_init::zfs::rewind::Earlier;

fuzz_target!(|bytes: &[u8]| {
    let (decoded, taken) = counting::counted(|| NvList::decode(bytes));
    assert!(taken <= 16 * bytes.len() + 1024, "{taken} bytes allocated for {} of input", bytes.len());
    let Ok(list) = decoded else { return };
    assert_eq!(NvList::decode(&list.encode_native()).as_ref(), Ok(&list));
    assert_eq!(NvList::decode(&list.encode_xdr()).as_ref(), Ok(&list));
    assert!(!judge(&list).to_string().is_empty());
    let _ = Earlier::of(&list);
});
