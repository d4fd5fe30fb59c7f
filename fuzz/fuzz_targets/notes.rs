//! Small things that PID 1 reads of firmware and of file systems: the variable that says where a system was hibernated to, a boot option,
//! numbers of lists that were seen, what lay under an upper, what was seen of a live medium, its list of images. Any bytes: facts, or a
//! reason that can be printed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taproot_init::cmdline::{LAYERS_MAX, parse};
use taproot_init::firmware::origin;
use taproot_init::plan::layerlist::Serials;
use taproot_init::plan::live::{Sight, images};
use taproot_init::plan::{location, lowers};

fuzz_target!(|bytes: &[u8]| {
    let [control, data @ ..] = bytes else { return };
    let text = String::from_utf8_lossy(data);
    match control % 6 {
        0 => match location::parse(data) {
            Ok(place) => assert!(place.uuid.len() == 36 && !place.system.is_empty()),
            Err(why) => assert!(!why.is_empty()),
        },
        1 => {
            if let Some(origin) = origin::of_option(data) {
                // A node of a device path has four bytes at least.
                assert!(origin.way.len() <= data.len() / 4);
                assert!(origin.partition.is_none_or(|uuid| uuid.len() == 36));
            }
        }
        2 => match Serials::parse(data) {
            Ok(serials) => assert_eq!(Serials::parse(serials.render().as_bytes()), Ok(serials)),
            Err(why) => assert!(!why.is_empty()),
        },
        3 => {
            let (before, now) = text.split_once('\0').unwrap_or((&text, ""));
            assert_eq!(lowers::changes(before, now).is_none(), before == now);
        }
        4 => match Sight::from_text(&text) {
            Ok(sight) => {
                assert!(sight.names.len() <= text.lines().count());
                assert!(Sight::from_text(&sight.to_text()).is_ok());
            }
            Err(why) => assert!(why.len() <= text.len() + 64),
        },
        _ => {
            let request = parse(b"boot=live module=x");
            let live = request.layers.and_then(|layers| layers.live).expect("a live system");
            // The names in the directory, and behind a NUL the list that chooses of them.
            let (names, list) = text.split_once('\0').unwrap_or((&text, ""));
            let names: Vec<String> = names.lines().map(str::to_owned).collect();
            let lists = (!list.is_empty()).then(|| ("x.module".to_owned(), list.to_owned())).into_iter().collect();
            match images(&live, "live", &names, &lists) {
                Ok(found) => {
                    assert!(!found.is_empty() && found.len() <= LAYERS_MAX);
                    assert!(found.iter().all(|name| !name.contains('/') && !name.starts_with('.')));
                }
                Err(why) => assert!(!why.is_empty()),
            }
        }
    }
});
