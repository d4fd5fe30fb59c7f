//! What `taproot image` is given and cannot be: one clear error, and no output, not even half of one. What is merely large becomes an image in
//! `tests/tests/image_pool.rs`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test stops at the first surprise

mod made;
mod place;

use std::fs;

use made::tar::{Made, archive, noise};
use place::{Place, RELEASE, tree};

/// The tree, and more behind it.
fn with(more: impl IntoIterator<Item = Made>) -> Vec<Made> {
    tree().into_iter().chain(more).collect()
}

#[test]
fn what_is_asked_for_and_cannot_be_is_refused_with_the_reason() {
    let place = Place::new(&tree());
    place.refused(&[], "nothing to write");
    place.refused(&["--raw", "none/box.raw"], "none");
    place.refused(&["--raw", "box.raw", "--set", "disk.size=100M"], "larger --size");
    place.refused(&["--raw", "box.raw", "--kernel", "5.0"], RELEASE);
    place.refused(&["--raw", "box.raw", "--sector-size", "4096"], "at least 272");
    place.refused(&["--device", "root.tar"], "block device");
    place.refused(&["--raw", "box.raw", "--set", "disk.sice=1"], "disk.size");
}

#[test]
fn an_archive_that_cannot_be_is_refused_with_the_reason_and_leaves_nothing() {
    let hard = |target: &str| Made { target: target.into(), ..Made::new("./srv/again", b'1') };
    let all = tree();
    let before_its_target: Vec<Made> =
        all[..all.len() - 1].iter().cloned().chain([hard("./srv/299"), all.last().unwrap().clone()]).collect();
    let bytes = archive(&all);
    let without: Vec<Made> = tree().into_iter().filter(|made| !made.path.starts_with(b"./boot/")).collect();
    let cases: [(Vec<u8>, &str); 10] = [
        (bytes[..bytes.len() / 2].to_vec(), "ends too early"),
        (bytes[..bytes.len() / 2 / 512 * 512].to_vec(), "ends too early"),
        (archive(&without), "no kernel"),
        (archive(&with([Made::file("./etc/../../up", "x")])), "leads out of the tree"),
        (archive(&with([Made::file([b"./srv/".to_vec(), vec![b'n'; 256]].concat(), "x")])), "255"),
        (archive(&before_its_target), "srv/299, which was not there before"),
        (archive(&with([hard("./srv/nothing")])), "which was not there before"),
        (archive(&with((0..7).map(|n| Made::file(format!("./srv/noise {n}"), noise(20 << 20))))), "the pool is full"),
        (archive(&with([hard("/srv/299")])), "begins with /"),
        (b"PK\x03\x04".repeat(500), "it is a zip archive"),
    ];
    for (input, because) in cases {
        let place = Place::new(&[]);
        fs::write(place.path("root.tar"), input).unwrap();
        place.refused(&["--raw", "box.raw", "--qcow2", "box.qcow2", "--set", "disk.size=200M"], because);
    }
}
