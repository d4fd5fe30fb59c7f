//! Secure Boot: what `taproot image` signs is started by a firmware that knows the key, and what nobody signed is not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use taproot_tests::kit::{self, System};
use taproot_tests::scenario;
use taproot_tests::small;
use taproot_tests::vm::firmware::{CERTIFICATE, KEY, PASSPHRASE};
use taproot_tests::vm::{Disk, Running, Scratch, Vm};

/// A machine whose only disk is an image of a small system, made with these words.
fn machine(system: &System, scratch: &Scratch, name: &str, words: &[&str]) -> Running {
    let tree = small::reporting(system, scratch, name).unwrap();
    let disk = small::image(&tree, words, "--raw").unwrap();
    let vm = Vm::from_disk(&format!("secure-boot-{name}"), system, Disk::writable(&disk, "raw", name));
    vm.secure_boot().start().unwrap()
}

/// The kernel of such a machine trusts no module that the firmware's key has not signed, and the kit's zfs is none: how far the boot comes
/// shows that it was started, and what it says, that people learn why.
#[test]
fn what_is_signed_starts_and_what_is_not_does_not() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let scratch = Scratch::new().unwrap();
        let key = scratch.path().join("key.pem");
        let passphrase = format!("pass:{PASSPHRASE}");
        kit::run(Command::new("openssl").args(["rsa", "-passin", &passphrase, "-in", KEY, "-out"]).arg(&key)).unwrap();
        let signed =
            machine(system, &scratch, "signed", &["--sign-key", key.to_str().unwrap(), "--sign-cert", CERTIFICATE]);
        signed.expect("Secure boot enabled", 60).unwrap();
        signed.expect("no signature this kernel trusts", 60).unwrap();
        drop(signed);

        let bare = machine(system, &scratch, "bare", &[]);
        bare.expect("Access Denied", 60).unwrap();
    });
}
