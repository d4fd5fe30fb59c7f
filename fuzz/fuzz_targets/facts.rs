//! A command line and behind a NUL a boot.json: explaining them ends in a text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taproot::explain::explain;
use taproot::explain::facts::Facts;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (line, json) = text.split_once('\0').unwrap_or(("", &text));
    let mut facts = match Facts::from_json(json, "boot.json") {
        Ok(facts) => facts,
        Err(problem) => {
            assert!(format!("{problem:#}").starts_with("boot.json"));
            return;
        }
    };
    let recorded = facts.words.clone().unwrap_or_default();
    for line in [line, &recorded] {
        let packed = facts.packed.clone();
        let explanation = explain(line, "here", packed.as_ref(), Some(&mut facts));
        let boot = explanation.boot.as_ref();
        // Each boot has a root, or says what it lacks.
        assert!(boot.is_some_and(|b| b.root.is_some() || b.failure.is_some() || !b.remarks.is_empty()));
        assert!(!explanation.text().is_empty());
    }
});
