//! Pools that are imported in another way than the words say by now: they are given back, and imported as the words say.

use super::layers::{booted_with as booted, ext4};
use super::{Dataset, Effect, End, Fault, Machine, Pool, Tree, Typed, World, run, seconds};
use crate::sim::zfs::pool::Imported;
use std::collections::BTreeMap;
use std::path::Path;

const PROMPT: &str = "(taproot) #";

/// A machine with two pools, each with a root, and in tank one without an init; these lines are typed at its prompt.
fn typed(words: &str, lines: &[&str]) -> Machine {
    let mut machine = Machine::new(words);
    let root = |dataset: &mut Dataset| dataset.tree = Tree::system("");
    machine.add_pool(Pool::new("tank", 7).disk("/dev/vda").dataset("r", root).dataset("empty", |_| {}).bootfs("r"));
    machine.add_pool(Pool::new("usb", 8).disk("/dev/vdb").dataset("r", root).bootfs("r"));
    machine.add("vdc", ext4("other", Tree::system("")));
    machine.person = lines.iter().map(|line| Typed::line(PROMPT, line)).collect();
    machine
}

/// How each pool is imported.
fn imported(world: &World) -> Vec<(String, &'static str)> {
    let machine = world.machine();
    let pools = machine.pools.iter().filter_map(|pool| Some((pool.name.clone(), pool.imported.as_ref()?.read_only)));
    pools.map(|(name, read_only)| (name, if read_only { "ro" } else { "rw" })).collect()
}

/// The root that was booted, whether it is mounted read-only, and how pools are imported.
fn comes_to(words: &str, lines: &[&str]) -> (String, bool, Vec<(String, &'static str)>) {
    let (end, world) = booted(typed(words, lines), vec![]);
    let Some(End::HandOver { root, .. }) = end else { panic!("{lines:?}: {end:?}: {}", world.printed()) };
    (root.source.clone(), root.read_only(), imported(&world))
}

fn one(pool: &str, how: &'static str) -> Vec<(String, &'static str)> {
    vec![(pool.to_owned(), how)]
}

#[test]
fn what_was_imported_writable_is_imported_again_to_be_looked_at() {
    let broken = "root=ZFS=tank/empty";
    for lines in [
        &["boot tank/r taproot.import=ro"][..],
        &["retry root=ZFS=tank/r taproot.import=ro"],
        &["retry taproot.import=ro", "boot tank/r"],
        &["cmdline root=ZFS=tank/r taproot.import=ro"],
    ] {
        assert_eq!(comes_to(broken, lines), ("tank/r".to_owned(), true, one("tank", "ro")), "{lines:?}");
    }
    // By hand, before the boot has imported anything.
    let lines = ["import tank", "retry taproot.import=ro taproot.break="];
    assert_eq!(comes_to("zfs=tank taproot.break=import", &lines), ("tank/r".to_owned(), true, one("tank", "ro")));
    // One that is not the root's is not left writable either.
    let lines = ["import usb", "boot tank/r taproot.import=ro"];
    assert_eq!(comes_to(broken, &lines), ("tank/r".to_owned(), true, one("tank", "ro")));
}

#[test]
fn what_was_looked_at_is_imported_again_to_be_written() {
    let lines = ["import tank ro", "continue"];
    assert_eq!(comes_to("zfs=tank taproot.break=import", &lines), ("tank/r".to_owned(), false, one("tank", "rw")));
    // What is imported as the words say stays.
    let (end, world) = booted(typed("root=ZFS=tank/empty", &["boot tank/r"]), vec![]);
    assert!(matches!(end, Some(End::HandOver { .. })), "{end:?}");
    assert!(!world.story().contains("zfs EXPORT"), "{}", world.story());
}

/// A machine on which somebody has imported tank before our program.
fn imported_before(mut machine: Machine, read_only: bool) -> Machine {
    machine.built_in.extend(["spl", "zfs"].map(str::to_owned));
    machine.devices.iter_mut().for_each(|device| device.arrives = seconds(0));
    let pool = &mut machine.pools[0];
    let paths = BTreeMap::from([(pool.tops[0].guid, "/dev/vda".to_owned())]);
    pool.imported = Some(Imported { read_only, paths, cachefile: Some("none".to_owned()) });
    machine
}

/// What is mounted of a pool keeps it imported: nothing is booted that would write, or not write, against the words.
#[test]
fn a_pool_that_cannot_be_exported_is_not_booted_otherwise() {
    for (how, now, flags, is, wanted) in
        [("rw", "ro", 0, "writable", "read-only"), ("ro", "rw", libc::MS_RDONLY, "read-only", "writable")]
    {
        let retry = format!("retry taproot.import={now}");
        let of = |more: &[&str]| {
            let words = format!("zfs=tank taproot.break=import taproot.import={how}");
            let mut machine = typed(&words, &[&[retry.as_str()], more].concat());
            machine.person.push(Typed::line("Type yes to do it", "yes"));
            let world = World::new(imported_before(machine, how == "ro"), vec![]);
            let end = run(&world, |system| {
                for dir in ["/dev", "/mnt"] {
                    system.make_dirs(Path::new(dir)).unwrap();
                }
                system.mount("devtmpfs", Path::new("/dev"), "devtmpfs", 0, "").unwrap();
                system.mount("tank/empty", Path::new("/mnt"), "zfs", flags, "").unwrap();
                let _ = taproot_init::boot::run(&system, Vec::new());
            });
            (end, world)
        };
        let (end, world) = of(&[]);
        let text = world.printed();
        assert_eq!(end, Some(End::Question(PROMPT.to_owned())), "{now}: {}", world.story());
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = format!("pool tank is still imported {is}, and could not be imported {wanted}");
        assert!(line.contains(&said) && line.contains("mounted are tank/empty on /mnt; unmount them"), "{text}");
        assert!(line.contains("export tank unmounts what is mounted of it"), "{text}");
        assert!(text.contains("import-failed"), "{text}");
        assert_eq!(imported(&world), one("tank", how));
        // However often it is tried.
        let (end, world) = of(&["retry", "retry"]);
        assert_eq!((end, imported(&world)), (Some(End::Question(PROMPT.to_owned())), one("tank", how)));
        // And what is said there helps.
        let (end, world) = of(&["export tank", "retry"]);
        let Some(End::HandOver { root, .. }) = end else { panic!("{now}: {end:?}: {}", world.printed()) };
        assert_eq!((root.read_only(), imported(&world)), (now == "ro", one("tank", now)), "{now}");
    }
}

/// Nor where the kernel says no more than that it is busy, or where it is another pool, or a fallback is there.
#[test]
fn a_busy_pool_stays_writable_behind_no_system_that_is_to_write_nothing() {
    for (line, fallback) in [
        ("boot tank/r taproot.import=ro", ""),
        ("boot usb/r taproot.import=ro", ""),
        ("boot LABEL=other taproot.import=ro", ""),
        ("retry root=ZFS=tank/r taproot.import=ro", "taproot.fallback=tank/none"),
    ] {
        let busy = |at| Fault::at("zfs EXPORT", at, Effect::Errno(libc::EBUSY));
        let machine = typed(&format!("root=ZFS=tank/empty {fallback}"), &[line]);
        let (end, world) = booted(machine, vec![busy(0), busy(1)]);
        assert_eq!(end, Some(End::Question(PROMPT.to_owned())), "{line}: {}", world.printed());
        assert!(world.printed().contains("something uses it, though none"), "{line}: {}", world.printed());
        assert_eq!(imported(&world), one("tank", "rw"), "{line}");
        // It is let go of meanwhile.
        let machine = typed(&format!("root=ZFS=tank/empty {fallback}"), &[line, "retry"]);
        let (end, world) = booted(machine, vec![busy(0)]);
        assert!(matches!(end, Some(End::HandOver { .. })), "{line}: {end:?}: {}", world.printed());
        assert!(imported(&world).iter().all(|(_, how)| *how == "ro"), "{line}");
    }
    // Without the word, one that the boot leaves keeps no other root from it.
    let busy = Fault::at("zfs EXPORT", 0, Effect::Errno(libc::EBUSY));
    let (end, world) = booted(typed("root=ZFS=tank/empty", &["boot usb/r"]), vec![busy]);
    assert!(matches!(end, Some(End::HandOver { .. })), "{end:?}: {}", world.printed());
    assert!(world.story().contains("pool tank stays imported: "), "{}", world.story());
}

/// One that waits for its disk takes no writes, and holds up no other root.
#[test]
fn a_pool_without_its_disk_holds_up_no_other_root() {
    let gone = Fault::at("zfs EXPORT", 0, Effect::Gone("vda".into()));
    let busy = Fault::at("zfs EXPORT", 0, Effect::Errno(libc::EBUSY));
    let lines = ["boot usb/r taproot.import=ro", "retry"];
    let (end, world) = booted(typed("root=ZFS=tank/empty", &lines), vec![gone, busy]);
    let Some(End::HandOver { root, .. }) = end else { panic!("{end:?}: {}", world.printed()) };
    assert_eq!((root.source.as_str(), root.read_only()), ("usb/r", true));
    assert!(world.story().contains("pool tank stays imported: it "), "{}", world.story());
}

/// What another tool has imported is not ours to be exported: it is told.
#[test]
fn the_hook_tells_of_a_pool_that_somebody_has_imported_writable() {
    for (word, before, told) in [("ro", false, true), ("ro", true, false), ("rw", false, false)] {
        let machine = typed(&format!("root=ZFS=tank/r taproot.import={word}"), &[]);
        let world = World::new(imported_before(machine, before), vec![]);
        let _ = run(&world, |system| {
            for (fstype, target) in [("devtmpfs", "/dev"), ("sysfs", "/sys"), ("proc", "/proc"), ("tmpfs", "/run")] {
                system.make_dirs(Path::new(target)).unwrap();
                system.mount(fstype, Path::new(target), fstype, 0, "").unwrap();
            }
            let _ = taproot_init::boot::hook(&system, &["mount".to_owned(), "/new_root".to_owned()]);
        });
        let story = world.story();
        assert!(story.contains("mount tank/r /new_root"), "{story}");
        assert_eq!(story.contains("pool tank was imported writable before"), told, "{word} {before}: {story}");
    }
}
