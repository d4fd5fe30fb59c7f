//! A program, library or module of any bytes: what it needs, what it says of itself, or a reason; in memory in proportion
//! to the input. The same bytes as an ld.so.conf: no more entries than lines.
#![no_main]

mod counting;

use libfuzzer_sys::fuzz_target;
use taproot::initramfs::{elf, modinfo, preflight};

fuzz_target!(|bytes: &[u8]| {
    let ((needs, info), taken) = counting::counted(|| (elf::needs(bytes), modinfo::parse(bytes)));
    assert!(taken <= 32 * bytes.len() + 4096, "{taken} bytes allocated for {} of input", bytes.len());
    let mut problems = Vec::new();
    preflight::init("init", bytes, &mut problems);
    match needs {
        Ok(needs) => {
            let free = needs.interpreter.is_none() && needs.libraries.is_empty();
            assert!(free || !problems.is_empty());
            assert!(needs.runpath.iter().all(|dir| !dir.is_empty()));
        }
        Err(reason) => assert!(!reason.is_empty() && !problems.is_empty()),
    }
    match info {
        Ok(info) => assert!(info.kernel().is_none_or(|kernel| !kernel.is_empty())),
        Err(reason) => assert!(!reason.is_empty()),
    }
    let text = String::from_utf8_lossy(bytes);
    assert!(elf::lines(&text).count() <= text.lines().count());
});
