//! Messages between PID 1 and its scout, of any bytes: decoding ends in a message or a reason, takes little more memory
//! than there are bytes, and what was decoded is encoded so that it comes back.
#![no_main]

mod counting;

use libfuzzer_sys::fuzz_target;
use taproot_init::scout::message::{Command, Message};
use taproot_init::sys::SCOUT_MESSAGE_MAX;

/// What a value takes for each byte that it was made of, at most: a label with many short values is the worst.
const PER_BYTE: usize = 24;

fuzz_target!(|bytes: &[u8]| {
    let (decoded, took) = counting::counted(|| Message::decode(bytes));
    assert!(took <= 4096 + PER_BYTE * bytes.len(), "{took} bytes for {}", bytes.len());
    match decoded {
        Ok(message) => {
            let again = message.encode();
            assert!(again.len() <= SCOUT_MESSAGE_MAX);
            // Texts that are too long are cut, so the second time it is the same.
            let once = Message::decode(&again).expect("what was encoded");
            assert_eq!(Message::decode(&once.encode()).as_ref(), Ok(&once));
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
    if let Ok(command) = Command::decode(bytes) {
        assert!(Command::decode(&command.encode()).is_ok());
    }
});
