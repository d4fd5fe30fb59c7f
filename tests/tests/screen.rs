//! A machine as people have it: a screen and a USB keyboard, whose drivers come from the image.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use taproot_tests::scenario::vm;
use taproot_tests::vm::keyboard::SCREEN;
use taproot_tests::vm::{Scratch, Vm, unmix};
use taproot_tests::words::PROMPT;
use taproot_tests::{image, kit, scenarios_on_newest};

/// Of `kit/pools/keys.sh`.
const PASSPHRASE: &str = "taproot-hippo-lantern-52";

/// Letters, digits and what German keyboards have beside them, as people write keymaps.
const GERMAN: &str = r#"keymaps 0-2,4,8
alt_is_meta
keycode 1 = Escape
keycode 2 = one exclam
keycode 3 = two quotedbl twosuperior
keycode 4 = three section threesuperior
keycode 5 = four dollar
keycode 6 = five percent
keycode 7 = six ampersand
keycode 8 = seven slash braceleft
keycode 9 = eight parenleft bracketleft
keycode 10 = nine parenright bracketright
keycode 11 = zero equal braceright
keycode 12 = ssharp question backslash
keycode 13 = dead_acute dead_grave
keycode 14 = Delete
keycode 15 = Tab
include "letters"
altgr keycode 16 = at
altgr keycode 18 = euro
keycode 21 = z
keycode 26 = +udiaeresis +Udiaeresis
keycode 27 = plus asterisk tilde
keycode 28 = Return
keycode 29 = Control
keycode 39 = +odiaeresis +Odiaeresis
keycode 40 = +0xe4 +0xc4
keycode 41 = dead_circumflex degree
keycode 42 = Shift
keycode 43 = numbersign apostrophe
keycode 44 = y
keycode 51 = comma semicolon
keycode 52 = period colon
keycode 53 = minus underscore
keycode 54 = Shift
keycode 56 = Alt
keycode 57 = space
keycode 86 = less greater bar
keycode 97 = Control
keycode 100 = AltGr
compose as usual for "iso-8859-1"
"#;
/// Where letters lie on most keyboards, by their keycodes.
const LETTERS: [(u8, &str); 3] = [(16, "qwertyuiop"), (30, "asdfghjkl"), (44, "zxcvbnm")];
/// With letters that lie elsewhere, that a US keyboard does not have, and that need `AltGr`.
const GERMAN_PASSPHRASE: &str = "Zypresse-grün-Maß-@7";

scenarios_on_newest! {
    /// Typed by its keys on a German keyboard, for which the image has a keymap.
    fn passphrase_on_a_german_keyboard(system) {
        let scratch = Scratch::new().unwrap();
        let keymap = scratch.path().join("de.map.gz");
        std::fs::write(scratch.path().join("letters.inc"), LETTERS.iter().flat_map(|(first, row)| {
            (*first..).zip(row.chars()).map(|(key, letter)| format!("keycode {key} = {letter}\n"))
        }).collect::<String>()).unwrap();
        std::fs::write(keymap.with_extension(""), GERMAN).unwrap();
        kit::run(Command::new("gzip").arg(keymap.with_extension(""))).unwrap();
        let image = scratch.path().join("german.img");
        let keymap = format!("--keymap={}", keymap.display());
        let options = ["--modules", "generic", "--rescue", "small", "--compress", "zstd:1", &keymap];
        kit::run(&mut image::pack_command(system, &options, &image)).unwrap();

        let disk = scratch.overlay(system, "keys0").unwrap();
        let script = format!(
            "zpool import -N pcrypt && echo {PASSPHRASE} | zfs load-key pcrypt/ROOT && \
             echo '{GERMAN_PASSPHRASE}' | zfs change-key -o keyformat=passphrase -o pbkdf2iters=100000 pcrypt/ROOT && zpool export pcrypt"
        );
        let mut helper = Vm::helper("screen-passphrase", system, &script).disk(disk.clone()).start().unwrap();
        helper.script(90).unwrap();
        helper.wait_exit(20).unwrap();

        let cmdline = "console=tty0 root=ZFS=pcrypt/ROOT/default taproot.mounts=none taproot.break=import ignore_loglevel";
        let mut vm = Vm::new("screen-german", system, &image).append(cmdline).disk(disk).extra(&SCREEN).start().unwrap();
        vm.expect(PROMPT, 40).unwrap();
        vm.await_keyboard(20).unwrap();
        vm.type_on_german_keyboard("shell").unwrap();
        vm.expect("The shell is on /dev/tty1", 20).unwrap();
        vm.type_on_german_keyboard("cat /dev/vcs1 >/dev/ttyS1").unwrap();
        vm.type_on_german_keyboard("echo ZYzy-äöüßÜ@€/ >/dev/ttyS1").unwrap();
        vm.wait_report("ZYzy-äöüßÜ@€/", 20).unwrap();
        assert!(unmix::screen(&vm.report.text(), 80).contains("Keyboard layout: de"), "{}", vm.report.text());
        vm.type_on_german_keyboard("exit").unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.type_on_german_keyboard("continue").unwrap();
        vm.expect("Passphrase for pcrypt/ROOT: ", 40).unwrap();
        // The kernel's own keyboard: the same keys make another passphrase.
        vm.type_on_keyboard(PASSPHRASE).unwrap();
        vm.expect("wrong passphrase for pcrypt/ROOT, 2 tries left", 30).unwrap();
        vm.expect("Passphrase for pcrypt/ROOT: ", 40).unwrap();
        vm.type_on_german_keyboard(GERMAN_PASSPHRASE).unwrap();
        vm.expect("pcrypt/ROOT is unlocked", 30).unwrap();
        assert_eq!(vm.report(60).unwrap().hostname(), "pcrypt");
        vm.wait_exit(20).unwrap();
        // Asked only now: the kernel may hold a message back until it has another.
        assert!(vm.console.shows("keyboard layout de is loaded"), "{}", vm.console.tail(40));
        // The serial line has the keyboard of whoever is at its other end.
        assert!(!vm.console.shows("Keyboard layout: de"), "{}", vm.console.tail(40));
    }

    /// The prompt, the shell and the question for a passphrase; what is typed there is not shown.
    fn prompt_shell_and_passphrase(system) {
        let scratch = Scratch::new().unwrap();
        let cmdline = "console=tty0 root=ZFS=pcrypt/ROOT/default taproot.mounts=none taproot.break=import ignore_loglevel";
        let disk = scratch.overlay(system, "keys0").unwrap();
        let mut vm = vm("screen", system, cmdline).unwrap().disk(disk).extra(&SCREEN).start().unwrap();
        // The serial line is a console too, and shows what is said.
        vm.expect(PROMPT, 40).unwrap();
        vm.await_keyboard(20).unwrap();
        // What stood on the screen before may be gone: drivers of USB say much.
        vm.type_on_keyboard("status").unwrap();
        vm.expect("asked     root=ZFS=pcrypt/ROOT/default", 20).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.type_on_keyboard("shell").unwrap();
        vm.expect("The shell is on /dev/tty1", 20).unwrap();
        // What is on the screen, on the line that nobody else writes to.
        vm.type_on_keyboard("cat /dev/vcs1 >/dev/ttyS1").unwrap();
        vm.type_on_keyboard("echo that is all >/dev/ttyS1").unwrap();
        vm.wait_report("that is all", 20).unwrap();
        let seen = unmix::screen(vm.report.text().split("that is all").next().unwrap_or_default(), 80);
        for part in ["Keyboard layout: us", "asked     root=ZFS=pcrypt/ROOT/default", "(taproot) # shell", "The shell is on /dev/tty1", "(shell) # cat /dev/vcs1"] {
            assert!(seen.contains(part), "{part:?} is not on the screen:\n{seen}");
        }
        vm.type_on_keyboard("exit").unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.type_on_keyboard("continue").unwrap();
        vm.expect("Passphrase for pcrypt/ROOT: ", 40).unwrap();
        vm.type_on_keyboard(PASSPHRASE).unwrap();
        vm.expect("pcrypt/ROOT is unlocked", 30).unwrap();
        let report = vm.report(60).unwrap();
        assert_eq!(report.hostname(), "pcrypt");
        let unlocked = "key of pcrypt/ROOT loaded: passphrase typed on /dev/tty1";
        assert!(vm.console.shows(unlocked), "{}", vm.console.tail(40));
        vm.wait_exit(20).unwrap();
        assert!(!vm.console.shows(PASSPHRASE));
    }
}
