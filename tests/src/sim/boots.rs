//! Boots that are written out: what we decide, with a kernel that does as it is modelled.

use super::files::Tree;
use super::invariants::of_any;
use super::machine::{Holds, Machine, ModuleSpec, ProgramSpec, Typed};
use super::run;
use super::world::{End, World};
use super::zfs::dataset::Key;
use super::zfs::pool::Pool;
use std::collections::BTreeMap;
use std::time::Duration;
use taproot_init::image::ExpectedPool;

/// A pool with one disk and a root, perhaps behind a passphrase.
fn bootable(name: &str, guid: u64, key: Option<Key>) -> Pool {
    let locked = key.is_some().then(|| "ROOT".to_owned());
    let pool = Pool::new(name, guid).disk(&format!("/dev/disk/by-id/virtio-{name}0-part1"));
    let pool = pool.dataset("ROOT", |d| {
        d.set("mountpoint", "none");
        d.key = key;
        d.encryption_root.clone_from(&locked);
    });
    let pool = pool.dataset("ROOT/default", |d| {
        d.set("mountpoint", "/");
        d.encryption_root.clone_from(&locked);
        d.tree = Tree::system("");
    });
    pool.bootfs("ROOT/default")
}

fn boot(machine: Machine) -> (World, Option<End>) {
    let world = World::new(machine, vec![]);
    let end = run(&world, |system| {
        let _ = taproot_init::boot::run(&system, Vec::new());
    });
    assert_eq!(of_any(&world, end.as_ref()), [""; 0], "{}", world.story());
    (world, end)
}

/// And what could not win is not opened.
#[test]
fn the_pool_that_the_image_expects_comes_first() {
    let mut machine = Machine::new("root=zfs:AUTO");
    machine.image.pools = vec![ExpectedPool { name: "beta".to_owned(), guid: 0, vdevs: Vec::new() }];
    for (name, guid) in [("alpha", 100), ("beta", 200)] {
        machine.add_pool(bootable(name, guid, None));
    }
    let (world, end) = boot(machine);
    let Some(End::HandOver { root, .. }) = end else { unreachable!("{end:?}") };
    assert_eq!(root.source, "beta/ROOT/default");
    let json: serde_json::Value =
        serde_json::from_slice(&world.file("/run/taproot/boot.json").unwrap_or_default()).unwrap_or_default();
    let why = json.pointer("/choice/why").and_then(|why| why.as_str()).unwrap_or_default();
    assert!(why.ends_with("which the image expects"), "{json:#}");
    let pools = json.get("pools").and_then(|pools| pools.as_array()).into_iter().flatten();
    let problems: Vec<_> = pools.filter(|pool| pool["name"] == "alpha").map(|pool| &pool["problem"]).collect();
    assert_eq!(problems, ["not opened yet"], "{json:#}");
}

/// The machine is switched off, with an explanation and without a question. `panic=` says what follows a failure; a passphrase that
/// is needed is none.
#[test]
fn nobody_is_asked_for_a_key_where_nobody_watches() {
    let key =
        Key { format: 3, location: "prompt".to_owned(), salt: 1, iterations: 1000, bytes: vec![7; 32], loaded: false };
    let asked = || End::Question("Passphrase for crypt/ROOT:".to_owned());
    for (words, ends) in [("taproot.rescue=poweroff:1", End::PowerOff), ("panic=1", asked()), ("", asked())] {
        let mut machine = Machine::new(&format!("root=ZFS=crypt/ROOT/default {words}"));
        machine.add_pool(bootable("crypt", 100, Some(key.clone())));
        let (world, end) = boot(machine);
        assert_eq!(end, Some(ends.clone()), "{}", world.story());
        if ends == End::PowerOff {
            // It is wrapped for the terminal.
            let printed = world.printed().split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(!printed.contains("Passphrase for") && !printed.contains(crate::words::PROMPT), "{printed}");
            assert!(
                printed.contains("nobody is asked (default (no, because of taproot.rescue=poweroff:1))"),
                "{printed}"
            );
        }
    }
}

/// A note of a hibernated system must not survive `noresume`, however slow the machine is: the pool is written, and who resumed
/// that system later would ruin it. The driver of the variables has its time from when it is asked for.
#[test]
fn a_slow_machine_forgets_the_note_too() {
    let note = "HibernateLocation-8cf2644b-4b0b-428f-9387-6d876050dc67";
    for millis in [800, 20_000] {
        let mut machine = Machine::new("root=ZFS=tank/ROOT/default noresume");
        machine.firmware = Some(BTreeMap::from([(note.to_owned(), b"?".to_vec())]));
        machine.modules.insert("zfs".to_owned(), ModuleSpec { at_boot: true, ..ModuleSpec::takes(millis) });
        machine.modules.insert("efivarfs".to_owned(), ModuleSpec::takes(3000));
        machine.add_pool(bootable("tank", 100, None));
        let (world, end) = boot(machine);
        assert!(matches!(end, Some(End::HandOver { .. })), "{}", world.story());
        let removed =
            world.events().iter().any(|event| event.text.starts_with("remove ") && event.text.ends_with(note));
        assert!(removed, "{}", world.story());
    }
}

/// A disk that comes while the prompt stands: the machine that nobody sits at goes on, and one that somebody types on does not.
#[test]
fn what_comes_while_the_prompt_stands_is_booted() {
    for (person, boots) in [(vec![], true), (vec![Typed::line(crate::words::PROMPT.trim(), "help")], false)] {
        let mut machine = Machine::new("root=ZFS=tank/ROOT/default taproot.wait=5");
        machine.add_pool(bootable("tank", 100, None));
        for device in &mut machine.devices {
            device.arrives = Duration::from_secs(90);
        }
        machine.person = person;
        let (world, end) = boot(machine);
        let printed = world.printed().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(printed.contains("goes on by itself when this comes: pool tank"), "{printed}");
        assert_eq!(matches!(end, Some(End::HandOver { .. })), boots, "{end:?}: {printed}");
        assert_eq!(printed.contains("What was awaited is there: the boot goes on in 10 s"), boots, "{printed}");
    }
}

/// Words are changed at the prompt: taken away, put in the place of others, and asked for where something may be lost. The record
/// has them.
#[test]
fn words_typed_at_the_prompt_are_obeyed() {
    let yes = || Typed::line("Type yes to do it", "yes");
    let retry = |words: &str| Typed::line(crate::words::PROMPT.trim(), &format!("retry {words}"));
    for (line, person, typed) in [
        ("root=ZFS=tank/ROOT/default init=/sbin/wrong", vec![retry("init=")], "[\"init=\"]"),
        ("zfs=tank/ROOT/wrong", vec![retry("root=ZFS=tank/ROOT/default")], "[\"root=ZFS=tank/ROOT/default\"]"),
        ("root=ZFS=tank/ROOT/default resume=UUID=gone", vec![retry("resume=none"), yes()], "[\"resume=none\"]"),
        (
            "root=ZFS=tank/ROOT/wrong init=/sbin/wrong",
            vec![Typed::line(crate::words::PROMPT.trim(), "boot tank/ROOT/default"), retry("init=")],
            "[\"init=\"]",
        ),
        (
            "root=ZFS=tank/ROOT/wrong init=/sbin/wrong",
            vec![Typed::line(crate::words::PROMPT.trim(), "boot tank/ROOT/default init=/sbin/init")],
            "[\"init=/sbin/init\"]",
        ),
    ] {
        let mut machine = Machine::new(line);
        machine.add_pool(bootable("tank", 100, None));
        machine.person = person;
        let (world, end) = boot(machine);
        let Some(End::HandOver { root, .. }) = end else { unreachable!("{line}: {end:?} {}", world.story()) };
        assert_eq!(root.source, "tank/ROOT/default", "{line}");
        let json: serde_json::Value =
            serde_json::from_slice(&world.file("/run/taproot/boot.json").unwrap_or_default()).unwrap_or_default();
        assert_eq!(json["typed"].to_string(), typed, "{line}");
        assert!(json["declared"]["refused"].as_array().is_some_and(Vec::is_empty), "{json:#}");
    }
}

/// What the words allow is declared anew: what was read-only may be written only after a typed yes, and nothing but that.
#[test]
fn words_typed_at_the_prompt_are_declared_anew() {
    for (answer, boots) in [("yes", true), ("no", false)] {
        let mut machine = Machine::new("root=ZFS=tank/ROOT/default@clean taproot.import=ro init=/sbin/wrong");
        let pool = bootable("tank", 100, None).dataset("ROOT/default", |d| {
            d.set("mountpoint", "/");
            d.tree = Tree::system("");
            d.snapshot("clean", 10);
        });
        machine.add_pool(pool);
        let retry = "retry taproot.import=rw init=";
        machine.person =
            vec![Typed::line(crate::words::PROMPT.trim(), retry), Typed::line("Type yes to do it", answer)];
        let (world, end) = boot(machine);
        assert_eq!(matches!(end, Some(End::HandOver { .. })), boots, "{answer}: {end:?} {}", world.story());
        assert_eq!(world.story().contains("CLONE"), boots, "{answer}");
    }
}

/// What a loader ends with that lacks a library says nothing of a file system; what fsck(8) ends with does.
#[test]
fn a_check_that_cannot_be_executed_keeps_nobody_from_booting() {
    // Where nothing is to be repaired, nothing was.
    let left = "fsck.repair=no";
    let table = [
        (0, "", true),
        (1, "", true),
        (1, left, false),
        (0, left, true),
        (4, "", false),
        (126, "", true),
        (127, "", true),
    ];
    for (status, words, boots) in table {
        let mut machine = Machine::new(&format!("root=/dev/vda taproot.wait=5 taproot.rescue=poweroff:1 {words}"));
        let tree = Tree::system("");
        machine.add("vda", Holds::Filesystem { kind: "ext4".into(), uuid: "u".into(), label: "l".into(), tree });
        let takes = Some(std::time::Duration::from_secs(1));
        let fsck = ProgramSpec { takes, output: "libext2fs.so.2: cannot open".into(), status };
        machine.programs.insert("/sbin/fsck.ext4".into(), fsck);
        let (world, end) = boot(machine);
        assert_eq!(matches!(end, Some(End::HandOver { .. })), boots, "{status}: {}", world.printed());
        assert_eq!(world.story().contains("is mounted unchecked"), status > 100, "{status}");
        // The note that it was checked is one that it was.
        assert_eq!(world.file("/run/initramfs/fsck-root").is_some(), status < 2 && boots, "{status}");
    }
}

/// A root that was mounted, and had no program to start, is checked again when it is tried again: nothing uses it then.
#[test]
fn a_root_that_was_mounted_is_checked_again_at_the_next_attempt() {
    let mut machine = Machine::new("root=/dev/vda init=/none");
    let tree = Tree::system("");
    machine.add("vda", Holds::Filesystem { kind: "ext4".into(), uuid: "u".into(), label: "l".into(), tree });
    let takes = Some(std::time::Duration::from_secs(1));
    machine.programs.insert("/sbin/fsck.ext4".into(), ProgramSpec { takes, output: String::new(), status: 0 });
    machine.person = vec![Typed::line(crate::words::PROMPT.trim(), "retry init=/sbin/init")];
    let (world, end) = boot(machine);
    assert!(matches!(end, Some(End::HandOver { .. })), "{end:?} {}", world.printed());
    assert_eq!(world.story().matches("run /sbin/fsck.ext4").count(), 2, "{}", world.story());
}
