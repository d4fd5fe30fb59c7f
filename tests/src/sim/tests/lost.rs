//! Imported pools that lose a disk which they cannot do without.

use super::{Dataset, Effect, End, Fault, Holds, Machine, Pool, Tree, Typed, When, World, layers, run, seconds};
use crate::sim::invariants::silence;
use crate::sim::machine::ZfsVersion;
use crate::sim::zfs::dataset::Key;

fn pool(name: &str, guid: u64, disk: &str, tree: Tree) -> Pool {
    let root = |dataset: &mut Dataset| dataset.tree = tree;
    Pool::new(name, guid).disk(disk).dataset("r", root).bootfs("r")
}

fn booted(machine: Machine, faults: Vec<Fault>) -> (Option<End>, World) {
    let world = World::new(machine, faults);
    let end = run(&world, |system| {
        let _ = taproot_init::boot::run(&system, Vec::new());
    });
    (end, world)
}

/// It goes between two questions of the next attempt, which is not about that pool.
#[test]
fn a_pool_that_the_boot_has_left_holds_up_no_other_root() {
    let mut machine = Machine::new("zfs=tank taproot.fallback=data/r taproot.rescue=reboot:5");
    machine.add_pool(pool("tank", 7, "/dev/vda", Tree::default()));
    machine.add_pool(pool("data", 8, "/dev/vdb", Tree::system("")));
    let gone = Fault::at("zfs POOL_GET_PROPS", 0, Effect::Gone("vda".into()));
    let (end, world) = booted(machine, vec![gone]);
    let Some(End::HandOver { root, .. }) = end else { panic!("{end:?}: {}", world.story()) };
    assert_eq!(root.source, "data/r");
    assert!(world.unused().is_empty() && world.story().contains("still asking pool tank: "), "{}", world.story());
}

/// A pool that could not be given back loses its disk, and the next root's fstab has a line about it.
fn left_behind(words: &str, version: ZfsVersion, gone: Fault) -> (Option<End>, World) {
    let mut machine = Machine::new(&format!("zfs=tank taproot.fallback=data/r {words}"));
    (machine.zfs, machine.limit) = (version, seconds(600));
    let home = |dataset: &mut Dataset| dataset.set("mountpoint", "legacy");
    machine.add_pool(pool("tank", 7, "/dev/vda", Tree::default()).dataset("home", home));
    machine.add_pool(pool("data", 8, "/dev/vdb", Tree::system("tank/home /home zfs defaults 0 0\n")));
    booted(machine, vec![gone, Fault::at("zfs EXPORT", 0, Effect::Errno(libc::EBUSY))])
}

#[test]
fn a_pool_left_behind_without_its_disk_is_asked_nothing_by_the_next_root() {
    for version in [ZfsVersion::V2_1, ZfsVersion::V2_4] {
        let (end, world) = left_behind("", version, Fault::at("zfs EXPORT", 0, Effect::Gone("vda".into())));
        let Some(End::HandOver { root, .. }) = end else { panic!("{end:?}: {}", world.story()) };
        assert_eq!(root.source, "data/r");
        assert!(world.story().contains("nothing is mounted of pool tank: it "), "{}", world.story());
        assert!(world.unused().is_empty());
    }
}

/// It goes at that very question: then it is not only told of for ever, whether the kernel says what it waits for or not.
#[test]
fn a_question_that_is_not_answered_ends_as_the_words_say() {
    for (words, ends) in
        [("taproot.rescue=reboot:5", End::Restart), ("", End::Question("(waiting for the disk) #".to_owned()))]
    {
        for version in [ZfsVersion::V2_1, ZfsVersion::V2_4] {
            // Of those before, three are about the first root, and three about this one and its own pool.
            let gone = Fault::at("zfs OBJSET_STATS", 6, Effect::Gone("vda".into()));
            let (end, world) = left_behind(words, version, gone);
            assert_eq!(end.as_ref(), Some(&ends), "{version:?}: {}", world.story());
            let patience = seconds(if words.is_empty() { 30 } else { 120 });
            assert!(world.time() > patience && world.time() < patience + seconds(30), "{}", world.story());
        }
    }
}

/// Where nobody is to be asked the machine is restarted, or switched off; where somebody is, that is the question.
#[test]
fn a_root_whose_disk_goes_ends_as_the_words_say() {
    let calls = ["zfs OBJSET_STATS", "zfs DATASET_LIST_NEXT", "mount"];
    for (call, version) in calls.into_iter().flat_map(|call| [(call, ZfsVersion::V2_1), (call, ZfsVersion::V2_4)]) {
        for (word, ends) in [
            ("taproot.rescue=reboot:5", End::Restart),
            ("taproot.rescue=poweroff:5", End::PowerOff),
            ("", End::Question("(waiting for the disk) #".to_owned())),
        ] {
            let mut machine = Machine::new(&format!("zfs=tank {word}"));
            (machine.zfs, machine.limit) = (version, seconds(600));
            machine.add_pool(pool("tank", 7, "/dev/vda", Tree::system("")));
            let (end, world) = booted(machine, vec![Fault::at(call, 0, Effect::Gone("vda".into()))]);
            assert_eq!(end, Some(ends.clone()), "{call} {version:?} {word}: {}", world.story());
            let text = world.story();
            let asked = matches!(ends, End::Question(_));
            assert_eq!(text.contains("nobody is to be asked, so the machine is "), !asked, "{text}");
            assert!(text.contains(" s so far") || text.contains(" s without an answer"), "{text}");
            let (took, patience) = (world.time(), seconds(if asked { 30 } else { 120 }));
            assert!(took > patience && took < patience + seconds(10), "{took:?}: {text}");
        }
    }
}

/// A restart that is counted by the firmware stays counted.
#[test]
fn restarts_because_of_a_lost_disk_are_counted() {
    let mut machine = Machine::new("zfs=tank taproot.rescue=reboot:5 taproot.attempts=2");
    machine.firmware = Some(std::collections::BTreeMap::new());
    machine.modules.insert("efivarfs".into(), crate::sim::machine::ModuleSpec::takes(1));
    machine.add_pool(pool("tank", 7, "/dev/vda", Tree::system("")));
    let ends = |machine: &Machine| {
        let (end, world) = booted(machine.clone(), vec![Fault::at("zfs OBJSET_STATS", 0, Effect::Gone("vda".into()))]);
        (end, world.machine().firmware, world.story())
    };
    let (end, _, story) = ends(&machine);
    assert_eq!(end, Some(End::Restart), "{story}");
    assert!(story.contains("write /sys/firmware/efi/efivars/TaprootFailedBoots"), "{story}");
}

/// The prompt that stands meanwhile answers.
#[test]
fn a_prompt_before_a_lost_pool_answers() {
    let mut machine = Machine::new("zfs=tank/nosuch");
    machine.add_pool(pool("tank", 7, "/dev/vda", Tree::system("")));
    machine.device("vda").unwrap().leaves = Some(seconds(5));
    machine.person =
        ["retry", "reboot"].map(|line| Typed { after: seconds(9), ..Typed::line("(taproot) #", line) }).into();
    let (end, world) = booted(machine, vec![]);
    assert_eq!(end, Some(End::Restart), "{}", world.story());
}

#[test]
fn a_pool_that_has_lost_its_disk_does_not_keep_the_machine_on() {
    for (line, expected) in [("poweroff", End::PowerOff), ("reboot", End::Restart)] {
        let mut machine = Machine::new("root=ZFS=tank/vol");
        machine.add_pool(Pool::new("tank", 7).disk("/dev/vda").dataset("vol", |d| d.volume = true));
        machine.device("vda").unwrap().leaves = Some(seconds(5));
        machine.person = vec![Typed { after: seconds(10), ..Typed::line("(taproot) #", line) }];
        let world = World::new(machine, vec![]);
        let end = run(&world, |system| {
            let _ = taproot_init::boot::run(&system, Vec::new());
        });
        assert_eq!(end, Some(expected), "{}", world.story());
    }
}

#[test]
fn a_call_on_a_pool_that_has_lost_its_disk_ends_with_a_question() {
    let root = |d: &mut Dataset| d.tree = Tree::system("");
    for (typed, expected) in [
        ("", End::Question("(waiting for the disk) #".to_owned())),
        ("reboot", End::Restart),
        ("poweroff", End::PowerOff),
        // What is no answer, and Enter alone, which waits on.
        ("retry", End::Question("(waiting for the disk) #".to_owned())),
    ] {
        let mut machine = Machine::new("root=ZFS=tank/r");
        machine.add_pool(Pool::new("tank", 7).disk("/dev/vda").dataset("r", root));
        machine.person = vec![Typed::line("(waiting for the disk) #", typed)];
        let gone = Fault::at("zfs DATASET_LIST_NEXT", 0, Effect::Gone("vda".to_owned()));
        let world = World::new(machine, vec![gone]);
        let end = run(&world, |system| {
            let _ = taproot_init::boot::run(&system, Vec::new());
        });
        assert_eq!(end, Some(expected), "{}", world.story());
        assert!(world.printed().contains("pool tank has been waiting for a disk that is gone"), "{}", world.printed());
    }
}

/// What reaches a disk of a pool, as the events have it. A process of its own can be left behind.
fn reaches(call: &str) -> bool {
    let ioctl = call.strip_prefix("zfs ").is_some_and(|call| !call.starts_with("TRYIMPORT"));
    let mounts = call.starts_with("mount ") && !call.starts_with("mount pseudo ");
    let files = ["/newroot", "/run/taproot/base", "/run/taproot/layers"].iter().any(|place| call.contains(place));
    ioctl || mounts || files || call.starts_with("unmount ")
}

/// The disk goes, and the kernel never comes back from the very call, whichever it is of those before `until`.
fn at_each_call(machine: &Machine, until: &str, ends: &[End]) {
    let mut met = 0;
    for call in 0.. {
        let at = |effect| Fault { when: When::Call(call), effect };
        let (end, world) = booted(machine.clone(), vec![at(Effect::Gone("vda".into())), at(Effect::Never)]);
        if !world.unused().is_empty() {
            break;
        }
        let events = world.events();
        if events.iter().any(|event| event.text.starts_with(until)) {
            break;
        }
        let hit =
            events.iter().position(|event| event.text == "fault: Never").and_then(|at| events.get(at.checked_sub(2)?));
        let Some(text) = hit.map(|event| event.text.clone()).filter(|text| reaches(text)) else { continue };
        met += 1;
        assert!(end.as_ref().is_some_and(|end| ends.contains(end)), "call {call}, {text}: {end:?}: {}", world.story());
        assert_eq!(silence(&events), None, "call {call}, {text}: {}", world.story());
    }
    assert!(met > 20, "only {met} calls reach the disk");
}

const KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";

/// Its key is a file of the root.
fn locked(dataset: &mut Dataset) {
    dataset.set("mountpoint", "/home");
    dataset.encryption_root = Some("home".into());
    let location = "file:///etc/keys/home".into();
    dataset.key = Some(Key { format: 1, location, salt: 0, iterations: 0, bytes: KEY.to_vec(), loaded: false });
}

#[test]
fn no_call_for_layers_of_a_pool_keeps_the_machine() {
    for (words, end) in
        [("taproot.rescue=poweroff:5", End::PowerOff), ("", End::Question("(waiting for the disk) #".to_owned()))]
    {
        for version in [ZfsVersion::V2_1, ZfsVersion::V2_4] {
            let mut machine =
                layers::machine(&format!("root=ZFS=tank/r taproot.layers=top:base taproot.upper=dir {words}"));
            (machine.zfs, machine.limit) = (version, seconds(600));
            machine.add_pool(pool("tank", 7, "/dev/vda", layers::images("", &["base", "top"])));
            at_each_call(&machine, "hand_over ", std::slice::from_ref(&end));
        }
    }
}

#[test]
fn no_call_keeps_the_machine() {
    let asked = End::Question("(waiting for the disk) #".to_owned());
    for (words, end) in [("taproot.rescue=reboot:5", End::Restart), ("", asked)] {
        for version in [ZfsVersion::V2_1, ZfsVersion::V2_4] {
            let mut machine = Machine::new(&format!("zfs=tank {words}"));
            (machine.zfs, machine.limit) = (version, seconds(600));
            let etc = |dataset: &mut Dataset| {
                dataset.set("mountpoint", "/etc");
                let tree = [("fstab", &b"tank/srv /srv zfs defaults 0 0\n"[..]), ("keys/home", &KEY)];
                dataset.tree = Tree::of(&tree);
            };
            let root = pool("tank", 7, "/dev/vda", Tree::system("")).dataset("r/etc", etc).dataset("home", locked);
            machine.add_pool(root.dataset("srv", |dataset| dataset.set("mountpoint", "legacy")));
            // There PID 1 is alone, so that it is replaced at once; what it looks up, and what starts, was read right before.
            at_each_call(&machine, "hand_over ", std::slice::from_ref(&end));
        }
    }
}

/// The first root has no init, and the next one lies in another pool: by then the disk matters no more. What is between may be either.
#[test]
fn no_call_about_a_root_that_failed_keeps_the_machine() {
    let handed_over = |machine: &Machine| booted(machine.clone(), vec![]).0.unwrap();
    for words in ["taproot.rescue=reboot:5", ""] {
        for version in [ZfsVersion::V2_1, ZfsVersion::V2_4] {
            let mut machine = Machine::new(&format!("zfs=tank taproot.fallback=data/r {words}"));
            (machine.zfs, machine.limit) = (version, seconds(600));
            machine.add_pool(pool("tank", 7, "/dev/vda", Tree::default()));
            machine.add_pool(pool("data", 8, "/dev/vdb", Tree::system("tank/home /home zfs defaults 0 0\n")));
            let asked = End::Question("(waiting for the disk) #".to_owned());
            at_each_call(
                &machine,
                "zfs IMPORT data",
                &[handed_over(&machine), if words.is_empty() { asked } else { End::Restart }],
            );
        }
    }
}

/// The run in which this call of a kind takes long.
fn with_late(machine: &Machine, kind: &str, call: &str) -> World {
    let late = |nth| booted(machine.clone(), vec![Fault::at(kind, nth, Effect::Late(seconds(20)))]).1;
    let is_it = |world: &World| {
        let events = world.events();
        let fault = events.iter().position(|event| event.text.starts_with("fault: "));
        fault.and_then(|at| events.get(at.checked_sub(1)?)).is_some_and(|event| event.text.starts_with(call))
    };
    (0..500).map(late).find(is_it).unwrap_or_else(|| panic!("there is no {call}"))
}

/// A disk that is none of a pool keeps the kernel as well: that is told.
#[test]
fn what_keeps_the_kernel_with_other_disks_is_told_of() {
    let mut machine = Machine::new("zfs=tank taproot.key=/dev/vdb:/key");
    let (kind, label) = ("ext4".to_owned(), "stick".to_owned());
    let tree = Tree::of(&[("key", &KEY)]);
    machine.add("vdb", Holds::Filesystem { kind, uuid: label.clone(), label, tree });
    let root = |dataset: &mut Dataset| {
        locked(dataset);
        (dataset.encryption_root, dataset.tree) = (Some("r".into()), Tree::system(""));
    };
    machine.add_pool(Pool::new("tank", 7).disk("/dev/vda").dataset("r", root).bootfs("r"));
    let world = with_late(&machine, "unmount", "unmount /run/taproot/key");
    assert!(world.story().contains("letting go of /dev/vdb: "), "{}", world.story());
    assert_eq!(silence(&world.events()), None, "{}", world.story());
    assert!(matches!(world.end(), Some(End::HandOver { .. })), "{}", world.story());

    let mut machine = Machine::new("zfs=tank resume=/dev/vdb");
    machine.add("vdb", Holds::Swap { uuid: "u".into(), image: Some("S1SUSPEND".into()) });
    machine.add_pool(pool("tank", 7, "/dev/vda", Tree::system("")));
    let world = with_late(&machine, "write", "write /sys/power/resume 2");
    assert!(world.story().contains("resuming from /dev/vdb: "), "{}", world.story());
    assert_eq!(silence(&world.events()), None, "{}", world.story());
    assert!(matches!(world.end(), Some(End::Resumed(_))), "{}", world.story());
}
