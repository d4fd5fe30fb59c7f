//! A list of layers, signed or not: a list that is written the same again, or a reason that can be printed; and a public key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taproot_init::plan::layerlist::{LayerList, MAX_LAYERS, PublicKey};

/// Public half of the key whose secret bytes count from 0 to 31.
const KEY: &str = "ed25519 03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8\n";

fuzz_target!(|bytes: &[u8]| {
    let key = PublicKey::parse(KEY).expect("a key");
    match LayerList::open(bytes, &[key], None) {
        Ok(list) => assert!(bytes.starts_with(list.render().as_bytes())),
        Err(error) => assert!(error.to_string().len() < 1024),
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match LayerList::parse(text) {
        Ok(list) => {
            assert_eq!(list.render(), text);
            assert!(list.layers.len() <= MAX_LAYERS);
        }
        Err(error) => assert!(error.to_string().len() < 1024),
    }
    if let Ok(key) = PublicKey::parse(text) {
        assert_eq!(PublicKey::parse(&key.render("")), Ok(key));
    }
});
