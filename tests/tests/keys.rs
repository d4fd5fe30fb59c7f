//! Encrypted roots: keys that are typed, read from files, or cannot be had. The pools are `kit/pools/keys.sh`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use taproot_tests::kit::{self, System};
use taproot_tests::scenario::{dataset_at, explained_failure, vm};
use taproot_tests::vm::{Disk, Report, Running, Scratch, Vm};
use taproot_tests::{image, scenarios};

const FIRST: &str = "taproot-hippo-lantern-52";
const SECOND: &str = "taproot-walrus-candle-77";
const WRONG: &str = "taproot-wrong-wombat-13";
const RAW: &[u8; 32] = b"0123456789abcdef-praw-6789ABCDEF";

/// A machine with one of the encrypted pools.
fn with_disk(name: &str, system: &System, scratch: &Scratch, disk: &str, cmdline: &str) -> Vm {
    vm(name, system, cmdline).unwrap().disks(scratch.overlays(system, &[disk]).unwrap())
}

/// Datasets that the record says were skipped, with the reason.
fn skipped(report: &Report) -> Vec<(String, String)> {
    let json = report.json.as_ref().expect("boot.json");
    let text = |entry: &serde_json::Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    json["skipped"].as_array().unwrap().iter().map(|s| (text(s, "dataset"), text(s, "why"))).collect()
}

fn was_skipped(report: &Report, dataset: &str) {
    let list = skipped(report);
    let reason = format!("the key of {dataset} is not loaded");
    // What was named is skipped with the word before the reason.
    assert!(list.iter().any(|(of, why)| of == dataset && why.ends_with(&reason)), "{dataset} is not among {list:?}");
}

/// A disk with an ext4 file system, no partitions, that holds one file.
fn stick(scratch: &Scratch, label: &str, file: &str, content: &[u8]) -> Disk {
    let (tree, image) = (scratch.path().join("stick"), scratch.path().join("stick.img"));
    let path = tree.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    let mut mkfs = Command::new("mke2fs");
    mkfs.args(["-q", "-t", "ext4", "-L", label, "-d"]).arg(&tree).arg(&image).arg("8M");
    kit::run(&mut mkfs).unwrap();
    Disk::read_only(&image, "stick")
}

/// An image with one file more, in an archive of its own behind it.
fn with_file(scratch: &Scratch, image: &Path, file: &str, content: &[u8]) -> PathBuf {
    let (tree, extended) = (scratch.path().join("more"), scratch.path().join("extended.img"));
    fs::create_dir_all(tree.join(file).parent().unwrap()).unwrap();
    fs::write(tree.join(file), content).unwrap();
    let script = "cp \"$2\" \"$3\" && truncate -s %4 \"$3\" && cd \"$1\" && find . -mindepth 1 | sort | cpio --quiet -o -H newc >>\"$3\"";
    kit::run(Command::new("sh").args(["-c", script, "sh"]).args([&tree, image, &extended])).unwrap();
    extended
}

/// Nobody was asked for a key, neither for a passphrase nor for a hex key.
fn nobody_was_asked(vm: &Running) {
    let text = vm.console.text();
    assert!(!text.contains("Passphrase for") && !text.contains("digits) for"), "somebody was asked:\n{text}");
}

scenarios! {
    /// Under `quiet`, wrong first, then right; then other encryption roots: one with the same passphrase, one with its own that is
    /// named, one whose key lies in the root, one whose key nobody has. Afterwards no passphrase is anywhere in the machine.
    fn typed_on_the_serial_line_and_nowhere_afterwards(system) {
        let scratch = Scratch::new().unwrap();
        let cmdline = "root=ZFS=pcrypt/ROOT/default quiet taproot.also=pcrypt/data";
        let mut vm = with_disk("key-typed", system, &scratch, "keys0", cmdline).extra(&["-no-shutdown"]).start().unwrap();
        vm.expect("Passphrase for pcrypt/ROOT: ", 40).unwrap();
        vm.type_line(WRONG).unwrap();
        vm.expect("wrong passphrase for pcrypt/ROOT, 2 tries left", 30).unwrap();
        vm.expect("Passphrase for pcrypt/ROOT: ", 10).unwrap();
        vm.type_line(FIRST).unwrap();
        vm.expect("Passphrase for pcrypt/data (Enter skips it): ", 60).unwrap();
        vm.type_line(SECOND).unwrap();
        let report = vm.report(60).unwrap();
        for (point, dataset) in [("/", "ROOT/default"), ("/data", "data"), ("/same", "same"), ("/inroot", "inroot"), ("/legacy", "legacy")] {
            assert_eq!(dataset_at(&report, point), Some(format!("pcrypt/{dataset}")), "{point}");
        }
        assert_eq!(dataset_at(&report, "/lost"), None);
        was_skipped(&report, "pcrypt/lost");
        let json = report.json.as_ref().unwrap().to_string();
        assert!(!json.contains("no key for pcrypt/lost"), "the boot does not need it: {json}");
        vm.wait_off(60).unwrap();
        assert!(vm.memory_contains(cmdline.as_bytes()).unwrap(), "the search finds nothing");
        for secret in [FIRST, SECOND, WRONG] {
            assert!(!vm.console.shows(secret), "the console shows {secret}");
            assert!(!json.contains(secret), "boot.json has {secret}");
            assert_eq!(vm.memory_count(secret.as_bytes()).unwrap(), 0, "memory holds {secret}");
        }
    }

    /// The clone's encryption root lies outside its own path. The question stands on both consoles, and either may answer.
    fn clone_with_its_encryption_root_elsewhere_on_two_consoles(system) {
        let scratch = Scratch::new().unwrap();
        let vm = with_disk("key-clone", system, &scratch, "keys0", "root=ZFS=pcrypt/BE/clone taproot.also=pcrypt/data").second_console();
        let mut vm = vm.start().unwrap();
        vm.expect("Passphrase for pcrypt/ROOT: ", 40).unwrap();
        vm.expect_second("Passphrase for pcrypt/ROOT: ", 10).unwrap();
        vm.type_line_second(FIRST).unwrap();
        vm.expect_second("Passphrase for pcrypt/data (Enter skips it): ", 60).unwrap();
        vm.expect("Passphrase for pcrypt/data (Enter skips it): ", 10).unwrap();
        vm.type_line("").unwrap();
        let report = vm.report(60).unwrap();
        assert_eq!(dataset_at(&report, "/"), Some("pcrypt/BE/clone".to_owned()));
        assert_eq!(dataset_at(&report, "/same"), Some("pcrypt/same".to_owned()));
        assert_eq!(dataset_at(&report, "/data"), None);
        was_skipped(&report, "pcrypt/data");
        vm.wait_exit(20).unwrap();
        assert!(!vm.second().unwrap().shows(FIRST));
    }

    /// A raw key and a passphrase in files of the image, a hex key typed.
    fn key_files_in_the_image(system) {
        let scratch = Scratch::new().unwrap();
        let packed = ["--modules", "generic", "--rescue", "small", "--add-file", "/etc/issue"];
        let image = with_file(&scratch, &image::cached(system, &packed).unwrap(), "etc/keys/praw.raw", RAW);
        let vm = Vm::new("key-image", system, &image).append("root=zfs:AUTO taproot.also=praw/hex");
        let mut vm = vm.disks(scratch.overlays(system, &["keys1"]).unwrap()).start().unwrap();
        vm.expect("Hex key (64 digits) for praw/hex (Enter skips it): ", 60).unwrap();
        vm.type_line("00112233").unwrap();
        vm.expect("found 8 characters, 2 tries left", 20).unwrap();
        vm.expect("Hex key", 10).unwrap();
        vm.type_line(&"00112233445566778899aabbccddeeff".repeat(2)).unwrap();
        let report = vm.report(60).unwrap();
        for (point, dataset) in [("/", "ROOT/default"), ("/data", "data"), ("/hex", "hex")] {
            assert_eq!(dataset_at(&report, point), Some(format!("praw/{dataset}")), "{point}");
        }
        vm.wait_exit(20).unwrap();
    }

    /// The stick is plugged in while it is waited for. What else has no key is left alone, because nobody may be asked.
    fn key_file_on_a_stick_that_comes_late(system) {
        let scratch = Scratch::new().unwrap();
        let cmdline = "root=zfs:AUTO taproot.key=LABEL=KEYSTICK:/keys/praw.raw taproot.key_wait=300 taproot.key_prompt=no";
        let mut vm = with_disk("key-stick", system, &scratch, "keys1", cmdline).start().unwrap();
        vm.expect("waiting for LABEL=KEYSTICK with the key file", 60).unwrap();
        vm.plug(&stick(&scratch, "KEYSTICK", "keys/praw.raw", RAW)).unwrap();
        let report = vm.report(60).unwrap();
        assert_eq!(dataset_at(&report, "/"), Some("praw/ROOT/default".to_owned()));
        was_skipped(&report, "praw/data");
        was_skipped(&report, "praw/hex");
        assert!(!report.mounts().iter().any(|m| m.kind == "ext4" || m.point.starts_with("/run/taproot/")), "the stick is still mounted");
        vm.wait_exit(20).unwrap();
        nobody_was_asked(&vm);
    }

    /// A raw key cannot be typed: the explanation says what was looked for, and what would help.
    fn no_key_file(system) {
        let scratch = Scratch::new().unwrap();
        let cmdline = "root=ZFS=praw/ROOT/default taproot.key=/keys/wrong.raw taproot.key=LABEL=NOSTICK:/k taproot.key_wait=2";
        let vm = with_disk("key-missing", system, &scratch, "keys1", cmdline).start().unwrap();
        let text = explained_failure(&vm, 60).unwrap();
        for part in [
            "a raw key cannot be typed",
            "encryption root praw/ROOT (keylocation=file:///etc/keys/praw.raw)",
            "taproot.key=/keys/wrong.raw: not in the image",
            "no device with LABEL=NOSTICK after 2 s",
        ] {
            assert!(text.contains(part), "{part:?} is not in the explanation:\n{text}");
        }
        nobody_was_asked(&vm);
    }
}
