//! Whoever looks for devices dies more often than it is started again: what a boot had asked it is asked again, and nothing is taken
//! for known that nobody could see.

use super::attempts::{is_booted, with_pool};
use super::layers::{booted_with, ext4};
use super::*;
use crate::sim::files::program;
use crate::sim::wide::{SWAP, note};

/// From this call on so many die in a row: given up with the sixth.
fn die(kind: &str, nth: usize, count: usize) -> Vec<Fault> {
    vec![Fault::at(kind, nth, Effect::NoScouts(count))]
}

fn hibernated(machine: &mut Machine) {
    machine.add("swap0", Holds::Swap { uuid: SWAP.into(), image: Some("S1SUSPEND".into()) });
}

/// systemd's note in the firmware.
fn noted(machine: &mut Machine) {
    note(machine, &format!("{{\"uuid\":\"{SWAP}\",\"offset\":0}}"));
}

fn image_is_left(world: &World) -> bool {
    let image = |holds: &Holds| matches!(holds, Holds::Swap { image: Some(_), .. });
    world.machine().devices.iter().any(|device| image(&device.holds))
}

#[test]
fn the_firmwares_note_of_a_hibernated_system_is_read_by_the_next_attempt() {
    let mut resumed = 0;
    for nth in 0..12 {
        let mut machine = with_pool("root=ZFS=tank/r taproot.wait=1");
        hibernated(&mut machine);
        noted(&mut machine);
        machine.person = vec![Typed { after: seconds(2), ..Typed::line("(taproot) #", "retry") }];
        let (end, world) = booted_with(machine, die("hear_scout", nth, 6));
        assert!(!is_booted(end.as_ref()), "at {nth}: {}", world.story());
        assert!(world.machine().pools.iter().all(|pool| !pool.written), "at {nth}: {}", world.story());
        resumed += usize::from(matches!(end, Some(End::Resumed(_))));
    }
    assert!(resumed > 6, "{resumed}");
}

/// It is read by the attempt that another scout joins, too: nothing is mounted under the hibernated system.
#[test]
fn the_firmwares_note_is_read_once_somebody_can_load_its_driver() {
    let mut resumed = 0;
    for nth in 0..12 {
        let mut machine = Machine::new("root=LABEL=root rootwait panic=1");
        machine.add("vda", ext4("root", Tree::system(""))).arrives = seconds(100);
        hibernated(&mut machine);
        noted(&mut machine);
        let (end, world) = booted_with(machine, die("hear_scout", nth, 6));
        assert!(!is_booted(end.as_ref()), "at {nth}: {}", world.story());
        resumed += usize::from(matches!(end, Some(End::Resumed(_))) && world.time() > seconds(60));
    }
    assert!(resumed > 0, "none was resumed by a scout that came later");
}

/// No pool is written under an image that is to be discarded and is not.
#[test]
fn an_image_is_discarded_whoever_looked_for_it() {
    let by_uuid = format!("resume=UUID={SWAP}");
    for (count, word) in [(1, "resume=/dev/swap0"), (9, "resume=/dev/swap0"), (1, &by_uuid), (9, &by_uuid), (9, "")] {
        let mut discarded = 0;
        for nth in 0..40 {
            let mut machine = with_pool(&format!("root=ZFS=tank/r noresume {word} taproot.wait=1 panic=1"));
            hibernated(&mut machine);
            if word.is_empty() {
                noted(&mut machine);
            }
            let (_, world) = booted_with(machine, die("hear_scout", nth, count));
            let written = world.machine().pools.iter().any(|pool| pool.written);
            assert!(!(written && image_is_left(&world)), "{count} {word} at {nth}: {}", world.story());
            discarded += usize::from(written);
        }
        assert!(discarded > 3, "{count} {word}: {discarded}");
    }
}

/// It is looked for on disks that are there, and not waited for where there is none.
#[test]
fn an_image_is_discarded_on_a_disk_that_takes_its_time() {
    let boot = |answers: u64| {
        let mut machine = with_pool(&format!("root=ZFS=tank/r noresume resume=UUID={SWAP}"));
        if answers > 0 {
            hibernated(&mut machine);
            machine.device("swap0").unwrap().answers = Some(seconds(answers));
        }
        let (end, world) = booted_with(machine, vec![]);
        assert!(is_booted(end.as_ref()), "{end:?}: {}", world.printed());
        assert!(!image_is_left(&world), "{}", world.story());
        world.time()
    };
    assert!(boot(4) > seconds(4));
    assert!(boot(0) < seconds(4));
}

#[test]
fn a_wait_without_end_does_not_wait_for_what_nobody_looks_for() {
    let mut machine = Machine::new("root=LABEL=root rootwait panic=1");
    machine.add("vda", ext4("root", Tree::system(""))).arrives = seconds(100);
    let (end, world) = booted_with(machine, die("hear_scout", 3, 6));
    assert!(is_booted(end.as_ref()), "{end:?}: {}", world.printed());
    assert!(world.time() < seconds(130), "{:?}", world.time());
}

#[test]
fn after_a_stop_there_is_another_one() {
    let mut machine = Machine::new("root=LABEL=root taproot.break=start");
    machine.add("vda", ext4("root", Tree::system("")));
    machine.person = vec![Typed { after: seconds(20), ..Typed::line("(taproot) #", "continue") }];
    let (end, world) = booted_with(machine, die("hear_scout", 0, 6));
    assert!(is_booted(end.as_ref()), "{end:?}: {}", world.printed());
    assert!(world.time() < seconds(25), "{:?}", world.time());
}

/// A type's module may be called otherwise than the type.
#[test]
fn a_type_with_a_hyphen_is_asked_for_once() {
    for options in ["nofail", "defaults"] {
        let mut machine = Machine::new("root=LABEL=root panic=1");
        machine.add("vda", ext4("root", Tree::system(&format!("LABEL=usr /usr ntfs-3g {options} 0 0\n"))));
        machine.add("vdb", ext4("usr", Tree::default()));
        let (end, world) = booted_with(machine, vec![]);
        assert!(is_booted(end.as_ref()), "{options}: {end:?}: {}", world.printed());
        let asked = world.events().iter().filter(|event| event.text.contains("Load(\"ntfs_3g\")")).count();
        assert_eq!(asked, 1, "{options}: {}", world.story());
    }
}

/// What systemd and programs would take for theirs is not there for the system of another root.
#[test]
fn nothing_of_layers_is_left_for_the_system_of_another_root() {
    let boot = |faults| {
        let mut machine = super::layers::on_ext4("taproot.fallback=LABEL=plain");
        let base = machine.images.get_mut("base").unwrap();
        base.put("usr/lib/systemd/systemd", Node::File(program(), 0o755));
        base.put("sbin/init", Node::Link("/usr/lib/systemd/systemd".into()));
        machine.add("vdb", ext4("plain", Tree::system("")));
        let (end, world) = booted_with(machine, faults);
        assert!(is_booted(end.as_ref()), "{end:?}: {}", world.printed());
        let left = ["/run/systemd/system", "/run/initramfs/shutdown", "/run/taproot/boot.json"];
        left.map(|path| world.stat(Path::new(path)).is_ok())
    };
    assert_eq!(boot(vec![]), [true; 3]);
    assert_eq!(boot(vec![Fault::at("hand_over", 0, Effect::Errno(libc::EBUSY))]), [false, false, true]);
}

#[test]
fn that_a_root_was_checked_is_said_of_that_root_alone() {
    let boot = |faults| {
        let mut machine = with_pool("root=LABEL=root taproot.fallback=ZFS=tank/r panic=1");
        machine.add("vdb", ext4("root", Tree::system("")));
        let fsck = ProgramSpec { takes: Some(Duration::ZERO), output: String::new(), status: 0 };
        machine.programs.insert("/sbin/fsck.ext4".into(), fsck);
        let (end, world) = booted_with(machine, faults);
        assert!(is_booted(end.as_ref()), "{end:?}: {}", world.printed());
        world.file("/run/initramfs/fsck-root").is_some()
    };
    assert!(boot(vec![]));
    assert!(!boot(vec![Fault::at("hand_over", 0, Effect::Errno(libc::EBUSY))]));
}
