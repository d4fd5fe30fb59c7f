//! Text that the boot reads from the new root, the kernel and the image: any bytes, no more entries than lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taproot_init::devices::table::ModuleTable;
use taproot_init::devices::uevent::Uevent;
use taproot_init::image::ImageConfig;
use taproot_init::plan::{fstab, listcache};

fuzz_target!(|bytes: &[u8]| {
    let [control, data @ ..] = bytes else { return };
    let text = String::from_utf8_lossy(data);
    let lines = data.split(|b| *b == b'\n').count();
    match control % 5 {
        0 => {
            let entries = fstab::parse(data);
            assert!(entries.len() <= lines);
            assert!(entries.iter().all(|e| e.line >= 1 && e.line <= lines));
        }
        1 => assert!(listcache::mounted(&text, "tank").len() <= text.lines().count()),
        2 => {
            if let Some(event) = Uevent::parse(data) {
                let _ = (event.is_block(), event.sysname());
            }
        }
        3 => {
            let config = ImageConfig::parse(&text);
            assert_eq!(ImageConfig::parse(&config.render()).pools.len(), config.pools.len());
        }
        _ => {
            if let Ok(table) = ModuleTable::parse(&text) {
                assert!(table.modules.len() <= text.lines().count());
            }
        }
    }
});
