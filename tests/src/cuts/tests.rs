//! Cuts of the first seeds, and every cut of some stories; `make layer-sim` plays many more.

use std::collections::BTreeMap;
use std::path::Path;

use taproot_init::layers::state::{Digest, Flags, Image};
use taproot_init::layers::store::Slot;
use taproot_init::layers::{Files as _, Places, State, Store};

use super::disk::{Disk, Loss};
use super::story::STORIES;
use super::{every_cut, run};
use crate::sim::prng::Prng;

/// Seeds that found a fault, of the protocol or of what was expected of it.
const FOUND: [u64; 13] = [7604, 9395, 14569, 16564, 24577, 24702, 25227, 51455, 62839, 67100, 76812, 93580, 217_121];

#[test]
fn the_first_seeds_end_well() {
    let mut cuts: BTreeMap<String, u64> = BTreeMap::new();
    for seed in FOUND.into_iter().chain(0..400) {
        let outcome = run(seed);
        assert!(outcome.broken.is_empty(), "seed {seed}: {}\n{}", outcome.broken.join("; "), outcome.told.join("\n"));
        for (what, count) in outcome.cuts {
            *cuts.entry(what).or_default() += count;
        }
    }
    // What is rare is asked of `make layer-sim` with its many seeds.
    for what in
        ["in boot that seals", "in boot that adopts", "in build", "in publish", "in remove", "in confirm", "in copy"]
    {
        assert!(cuts.contains_key(what), "never cut: {what}; {cuts:?}");
    }
}

#[test]
fn every_cut_of_a_story_ends_well() {
    for (what, acts) in STORIES {
        let (runs, broken) = every_cut(acts, 3);
        assert!(runs > 50, "{what}: only {runs} cuts");
        assert!(broken.is_empty(), "{what}: {} of {runs}: {}", broken.len(), broken[0]);
    }
}

/// A machine with a state of two generations.
fn written(places: &Places) -> Disk {
    let disk = Disk::default();
    let images = [("base.sqsh".to_owned(), Image { digest: Digest { size: 1, sha256: [0; 32] }, made: false })];
    let state = State::new(images.into(), vec!["base.sqsh".to_owned()], Flags::portable()).unwrap();
    disk.make_dirs(&places.state).unwrap();
    let store = Store::new(&disk, places);
    store.write(None, &state).unwrap();
    store.update(|state| Some(state.clone())).unwrap();
    disk.sync_all();
    disk
}

/// After each write of the state it may go bad: the copy says the same, also if it went bad before that write.
#[test]
fn a_state_that_goes_bad_has_a_copy() {
    let places = Places { state: "/.layers".into(), images: vec!["/images".into()] };
    let disk = written(&places);
    let store = Store::new(&disk, &places);
    for generation in 1..9 {
        assert_eq!(store.load().unwrap().unwrap().state.generation, generation);
        disk.rot(Path::new("/.layers/state"), 70);
        let loaded = store.load().unwrap().unwrap();
        assert_eq!((loaded.state.generation, loaded.from), (generation, Slot::Previous));
        store.update(|state| Some(state.clone())).unwrap();
    }
}

/// A state that is whole in memory alone is nothing to go on from: the state is bad, a write fails for want of room, and the power in the
/// next one.
#[test]
fn there_is_always_a_state() {
    let places = Places { state: "/.layers".into(), images: vec!["/images".into()] };
    let change = |state: &State| Some(state.clone());
    for (full, fuse, seed) in
        (0..8).flat_map(|full| (0..12).flat_map(move |fuse| (0..40).map(move |seed| (full, fuse, seed))))
    {
        let disk = written(&places);
        let store = Store::new(&disk, &places);
        disk.rot(Path::new("/.layers/state"), 70);
        disk.set_full(Some(full));
        let _ = store.update(change);
        disk.set_full(None);
        disk.set_fuse(Some(fuse));
        let _ = store.update(change);
        disk.crash(&mut Loss::Random(Prng::new(seed)));
        let loaded = store.load();
        assert!(matches!(loaded, Ok(Some(_))), "{full} {fuse} {seed}: {loaded:?}");
    }
}

/// The disk loses what it may, and keeps what it must.
#[test]
fn what_is_not_synced_can_be_lost() {
    let path = Path::new("/a");
    let left = |prepare: &dyn Fn(&Disk)| {
        let all = (0..200).map(|seed| {
            let disk = Disk::default();
            disk.write(path, b"old").unwrap();
            disk.sync_all();
            prepare(&disk);
            disk.crash(&mut Loss::Random(Prng::new(seed)));
            disk.read(path, 9).ok()
        });
        all.collect::<std::collections::BTreeSet<_>>()
    };
    let overwritten = left(&|disk| disk.write(path, b"new!").unwrap());
    for content in [&b"old"[..], b"", b"ne", b"\0\0\0\0", b"new!"] {
        assert!(overwritten.contains(&Some(content.to_vec())), "{content:?}");
    }
    let synced = left(&|disk| {
        disk.write(path, b"new!").unwrap();
        disk.sync(path).unwrap();
    });
    assert_eq!(synced.into_iter().collect::<Vec<_>>(), [Some(b"new!".to_vec())]);
    // A new name is only durable with its directory, whatever is in the file.
    let renamed = left(&|disk| {
        disk.write(Path::new("/b"), b"new!").unwrap();
        disk.sync(Path::new("/b")).unwrap();
        disk.rename(Path::new("/b"), path).unwrap();
    });
    assert_eq!(renamed.into_iter().collect::<Vec<_>>(), [Some(b"new!".to_vec()), Some(b"old".to_vec())]);
    let removed = left(&|disk| {
        disk.remove(path).unwrap();
        disk.sync(Path::new("/")).unwrap();
    });
    assert_eq!(removed.into_iter().collect::<Vec<_>>(), [None]);
    let disk = Disk::default();
    disk.set_fuse(Some(1));
    assert!(disk.write(path, b"x").is_ok() && disk.sync(path).is_err() && disk.is_dead());
}
