//! Any bytes: parsing ends, keeps every word, and the request can be described; so can that of the words it kept.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taproot_init::cmdline::{Selector, parse, settings};

fuzz_target!(|bytes: &[u8]| {
    let request = parse(bytes);
    assert!(request.words.len() + request.init_args.len() <= bytes.len());
    // A root that cannot be used is always reported.
    let unusable = matches!(request.root.value, Selector::Unusable(_));
    assert!(!unusable || !request.problems.is_empty());
    // A word that decided a setting is one of the words.
    for setting in settings(&request).iter().filter(|s| !s.default && !s.why.ends_with('=')) {
        assert!(request.words.contains(&setting.why), "{setting:?}");
    }
    // The words alone say the same.
    let again = parse(request.words.join(" ").as_bytes());
    assert_eq!(again.root, request.root);
    assert_eq!(again.words, request.words);
});
