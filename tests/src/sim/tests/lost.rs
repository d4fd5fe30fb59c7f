//! Imported pools that lose a disk which they cannot do without.

use super::{Dataset, Effect, End, Fault, Machine, Pool, Tree, Typed, World, run, seconds};
use crate::sim::machine::ZfsVersion;

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

/// Where nobody is to be asked the machine is restarted, or switched off; where somebody is, it says all the time what it waits for.
#[test]
fn a_root_whose_disk_goes_ends_as_the_words_say() {
    let calls = ["zfs OBJSET_STATS", "zfs DATASET_LIST_NEXT", "mount"];
    for (call, version) in calls.into_iter().flat_map(|call| [(call, ZfsVersion::V2_1), (call, ZfsVersion::V2_4)]) {
        for (word, ends) in [
            ("taproot.rescue=reboot:5", End::Restart),
            ("taproot.rescue=poweroff:5", End::PowerOff),
            ("", End::OutOfTime),
        ] {
            let mut machine = Machine::new(&format!("zfs=tank {word}"));
            (machine.zfs, machine.limit) = (version, seconds(600));
            machine.add_pool(pool("tank", 7, "/dev/vda", Tree::system("")));
            let (end, world) = booted(machine, vec![Fault::at(call, 0, Effect::Gone("vda".into()))]);
            assert_eq!(end, Some(ends.clone()), "{call} {version:?} {word}: {}", world.story());
            let text = world.story();
            assert_eq!(text.contains("nobody is to be asked, so the machine is "), ends != End::OutOfTime, "{text}");
            assert!(text.contains(" s so far") || text.contains(" s without an answer"), "{text}");
            if ends != End::OutOfTime {
                let took = world.time();
                assert!(took > seconds(120) && took < seconds(130), "{took:?}: {text}");
            }
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
