//! Keymaps of a tree: any bytes, and one file that they can include.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taproot::initramfs::keymap::kmap::{Source, compile};
use taproot_init::keyboard::Layout;
use taproot_init::sys::keymap::COMPOSE_MAX;

fuzz_target!(|bytes: &[u8]| {
    let binary = bytes.starts_with(b"bkeymap");
    let split = bytes.iter().position(|b| *b == 0).filter(|_| !binary).unwrap_or(bytes.len());
    let (main, included) = bytes.split_at(split);
    let source = |bytes: &[u8]| Source { path: "x".to_owned(), bytes: bytes.to_vec() };
    let mut include = |_: &str, _: &str| Some(source(included.get(1..).unwrap_or_default()));
    match compile(&source(main), &mut include) {
        Ok(compiled) => {
            assert!(compiled.keymap.compose.len() <= COMPOSE_MAX && compiled.unknown.len() <= COMPOSE_MAX);
            assert!(compiled.keymap.tables.values().all(|keys| !keys.contains_key(&0)));
            let layout = Layout::new("x", compiled.keymap);
            assert_eq!(Layout::parse(&layout.render()), Ok(layout));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
