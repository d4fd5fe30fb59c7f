//! Text that the boot reads from the new root, the kernel and the image, and names of devices: any bytes, no more entries
//! than lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taproot_init::devices::aliases::AliasIndex;
use taproot_init::devices::probe::Wanted;
use taproot_init::devices::table::ModuleTable;
use taproot_init::devices::uevent::Uevent;
use taproot_init::image::ImageConfig;
use taproot_init::keyboard::Layout;
use taproot_init::plan::{fstab, listcache};
use taproot_init::rescue::lock::PasswordHash;

fuzz_target!(|bytes: &[u8]| {
    let [control, data @ ..] = bytes else { return };
    let text = String::from_utf8_lossy(data);
    let lines = data.split(|b| *b == b'\n').count();
    match control % 8 {
        0 => {
            let entries = fstab::parse(data);
            assert!(entries.len() <= lines);
            assert!(entries.iter().all(|e| e.line >= 1 && e.line <= lines));
        }
        1 => assert!(listcache::to_look_at(&text, "tank").len() <= text.lines().count()),
        2 => {
            if let Some(event) = Uevent::parse(data) {
                let _ = (event.is_block(), event.sysname());
            }
        }
        3 => {
            let config = ImageConfig::parse(&text);
            assert_eq!(ImageConfig::parse(&config.render()).pools.len(), config.pools.len());
        }
        4 => {
            if let Ok(hash) = PasswordHash::parse(&text) {
                assert_eq!(PasswordHash::parse(&hash.render()), Ok(hash));
            }
        }
        5 => {
            if let Some(wanted) = Wanted::parse(&text) {
                assert!(!wanted.to_string().is_empty());
            }
        }
        6 => {
            if let Ok(layout) = Layout::parse(&text) {
                assert_eq!(Layout::parse(&layout.render()), Ok(layout));
            }
        }
        _ => {
            if let Ok(table) = ModuleTable::parse(&text) {
                assert!(table.modules.len() <= text.lines().count());
                let index = AliasIndex::new(&table);
                for (pattern, _) in table.aliases.iter().take(4) {
                    assert!(index.matches(pattern).iter().all(|module| *module < table.modules.len()));
                }
            }
        }
    }
});
