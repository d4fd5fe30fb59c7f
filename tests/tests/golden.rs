//! The kernels of the kit, asked what their models are asked.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use taproot_tests::sim::golden::compare::{against_a_recording, against_the_model};
use taproot_tests::{golden, scenarios};

scenarios! {
    /// What simulated machines go by is what this kernel says: the model of it, and its recording, which may be older than the kit.
    fn the_kernel_answers_as_its_model_does(system) {
        let now = golden::ask("golden", system, Path::new(env!("CARGO_BIN_EXE_recorder"))).unwrap();
        let wrong = against_the_model(golden::version(system).unwrap(), &now);
        assert!(wrong.is_empty(), "the model of {} answers otherwise: {wrong:#?}", system.zfs);
        let wrong = against_a_recording(&golden::recorded(system).unwrap(), &now);
        assert!(wrong.is_empty(), "{} answers otherwise than recorded (make golden records it anew): {wrong:#?}", system.zfs);
    }
}
