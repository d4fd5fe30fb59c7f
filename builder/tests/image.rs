//! `taproot image` on a small made-up tree: the same bytes each time, an output that is whole or not there, and errors that say what to do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)] // a test stops at the first surprise

mod made;
mod place;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use place::{ESP, MIB, Place, RELEASE, SIZE, tree, whole};
use taproot_init::devices::probe::{PartitionTable, superblock};
use taproot_init::zfs::label::{PoolState, read_labels};

fn same(a: &Path, b: &Path) -> bool {
    Command::new("cmp").arg(a).arg(b).output().unwrap().status.success()
}

#[test]
fn the_disk_is_what_it_should_be() {
    let place = Place::new(&tree());
    let output = place.make(&["--raw", "box.raw", "--swap", "8M", "--json"]);
    whole(&output);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["kernel"], &said["zfs"]), (&RELEASE.into(), &"2.9.9".into()));
    let esp: Vec<&str> = said["esp"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(esp.contains(&"EFI/BOOT/BOOTX64.EFI") && esp.contains(&"loader/loader.conf"), "{esp:?}");
    assert!(esp.iter().any(|name| name.starts_with("loader/entries/")), "{esp:?}");

    let disk = File::open(place.path("box.raw")).unwrap();
    let table = PartitionTable::read(&mut |at, buffer| disk.read_exact_at(buffer, at), 512).unwrap().unwrap();
    let name = |number, start| table.partition(number, start).unwrap().1;
    let pool = MIB + ESP + 8 * MIB;
    assert_eq!([name(1, MIB), name(2, MIB + ESP), name(3, pool)], ["esp", "swap", "zfs"]);
    let fat = superblock(&mut |at, buffer| disk.read_exact_at(buffer, MIB + at), ESP).unwrap().unwrap();
    assert_eq!((fat.kind, fat.label.as_deref()), ("vfat", Some("ESP")));
    let label = read_labels(&mut |at, buffer| disk.read_exact_at(buffer, pool + at), SIZE - MIB - pool).unwrap();
    assert_eq!((label.state(), label.pool_name().as_deref()), (PoolState::Exported, Some("zroot")));
    assert_eq!(label.pool_guid().unwrap().to_string(), said["guid"]);
}

#[test]
fn the_same_bytes_whoever_makes_them() {
    let place = Place::new(&tree());
    whole(&place.make(&["--raw", "one.raw", "--jobs", "1"]));
    let mut other = place.command(&["--raw", "two.raw", "--jobs", "4"]);
    other.env("TZ", "Asia/Tokyo").env("LC_ALL", "de_DE.UTF-8").env("HOME", "/nowhere").env("USER", "somebody");
    whole(
        &Command::new("sh")
            .args(["-c", "umask 077; exec \"$@\"", "sh"])
            .args([other.get_program()])
            .args(other.get_args())
            .envs(other.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(place.path("."))
            .output()
            .unwrap(),
    );
    assert!(same(&place.path("one.raw"), &place.path("two.raw")));
    whole(&place.make(&["--raw", "three.raw", "--jobs", "2"]));
    assert!(same(&place.path("one.raw"), &place.path("three.raw")));
    whole(&place.make(&["--raw", "four.raw", "--seed", "other"]));
    assert!(!same(&place.path("one.raw"), &place.path("four.raw")));
}

#[test]
fn a_run_that_is_killed_leaves_no_output() {
    let place = Place::new(&tree());
    let begun = std::time::Instant::now();
    whole(&place.make(&["--raw", "box.raw", "--quiet"]));
    let took = begun.elapsed();
    fs::rename(place.path("box.raw"), place.path("whole.raw")).unwrap();
    let mut killed = 0;
    for part in 1..=20 {
        let mut child = place.command(&["--raw", "box.raw", "--quiet"]).spawn().unwrap();
        std::thread::sleep(took * part / 21 + Duration::from_micros(u64::from(part * 37)));
        child.kill().unwrap();
        if !child.wait().unwrap().success() {
            killed += 1;
            assert!(!place.path("box.raw").exists() || same(&place.path("box.raw"), &place.path("whole.raw")));
        }
        let _ = fs::remove_file(place.path("box.raw"));
    }
    assert!(killed > 5, "{killed}");
    whole(&place.make(&["--raw", "box.raw", "--quiet"]));
    assert!(same(&place.path("box.raw"), &place.path("whole.raw")));
    assert_eq!(place.names(), ["box.raw", "root.tar", "whole.raw"]);
}
