//! The state file of layers, with its checksum set right: a state that reads back the same and that a boot and the running system can
//! go on from, or a reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};
use taproot_init::hex::hex;
use taproot_init::layers::boot::{self, Disk};
use taproot_init::layers::request::{self, Mounted};
use taproot_init::layers::{State, steps, text};

fn goes_on(state: &State) {
    let mounted = Mounted { stack: state.stack.clone(), ram: false };
    let _ = steps::next(state, &mounted);
    let files = state.images.iter().map(|(file, image)| (file.clone(), image.digest.size)).collect();
    let disk = Disk { files, uppers: (1..=state.last_upper.min(1000)).collect() };
    let entry = boot::enter(state, &disk).ok().and_then(|entry| entry.state);
    for next in [entry, request::confirm(state, &mounted), steps::fresh_start(state)].into_iter().flatten() {
        let _ = text::parse(&text::render(&next));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let _ = text::parse(bytes);
    let mut text = [text::HEADER.as_bytes(), b"\n", bytes, b"\n"].concat();
    let sum = hex(&Sha256::digest(&text));
    text.extend_from_slice(format!("sum {sum}\n").as_bytes());
    if let Ok(state) = text::parse(&text) {
        assert_eq!(text::parse(&text::render(&state)).as_ref(), Ok(&state));
        goes_on(&state);
    }
});
