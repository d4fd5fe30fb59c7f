//! The model against what real kernels answered.

use super::compare::{against_a_recording, against_the_model};
use crate::sim::machine::ZfsVersion;

const NEWEST: &str = include_str!("../../../golden/zfs2.4/replies");

#[test]
fn the_model_answers_as_the_kernels_did() {
    for (version, text) in [
        (ZfsVersion::V2_4, NEWEST),
        (ZfsVersion::V2_3, include_str!("../../../golden/zfs2.3/replies")),
        (ZfsVersion::V2_1, include_str!("../../../golden/zfs2.1/replies")),
    ] {
        let wrong = against_the_model(version, text);
        assert!(wrong.is_empty(), "{version:?}: {wrong:#?}");
    }
}

#[test]
fn a_kernel_that_answers_otherwise_is_noticed() {
    assert_eq!(against_a_recording(NEWEST, NEWEST), Vec::<String>::new());
    let cases = [
        ("stats of none: 2", "stats of none: 22", "expected stats of none: 2; found stats of none: 22"),
        ("  name string\n", "  name u64\n", "name u64"),
        ("  bootfs string\n", "", "tryimport: whole: only in the recording: bootfs string"),
        ("vdev_stats = 7 0\n", "vdev_stats = 5 0\n", "vdev_stats = 5 0"),
    ];
    for (line, other, noticed) in cases {
        let now = NEWEST.replacen(line, other, 1);
        assert_ne!(now, NEWEST, "{line}");
        for wrong in [against_a_recording(NEWEST, &now), against_the_model(ZfsVersion::V2_4, &now)] {
            assert!(!wrong.is_empty(), "{line}");
        }
        let wrong = against_a_recording(NEWEST, &now);
        assert!(wrong.iter().any(|line| line.contains(noticed)), "{line}: {wrong:?}");
    }
    // What nobody reads may change with any release.
    let now = NEWEST.replacen("  errata u64\n", "", 1);
    assert!(now != NEWEST && against_a_recording(NEWEST, &now).is_empty());
}
