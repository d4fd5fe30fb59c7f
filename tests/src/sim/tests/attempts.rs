//! What lasts longer than a step: times that begin anew, what each attempt does again, what is given back.

use super::layers::{booted_with as booted, ext4 as plain};
use super::{Dataset, Effect, End, Fault, Holds, Machine, ModuleSpec, Node, Pool, Tree, Typed, World, run, seconds};
use crate::sim::files::program;
use crate::sim::zfs::dataset::Key;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn with_pool(cmdline: &str) -> Machine {
    let mut machine = Machine::new(cmdline);
    let root = |dataset: &mut Dataset| dataset.tree = Tree::system("");
    machine.add_pool(Pool::new("tank", 7).disk("/dev/vda").dataset("r", root).bootfs("r"));
    machine
}

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A pool whose root has a raw key.
fn locked() -> Pool {
    let (format, location, bytes) = (1, "prompt".to_owned(), KEY.to_vec());
    let key = Key { format, location, salt: 0, iterations: 0, bytes, loaded: false };
    let root = |dataset: &mut Dataset| {
        (dataset.key, dataset.encryption_root) = (Some(key), Some("r".into()));
        dataset.tree = Tree::system("");
    };
    Pool::new("tank", 7).disk("/dev/vda").dataset("r", root).bootfs("r")
}

pub(super) fn is_booted(end: Option<&End>) -> bool {
    matches!(end, Some(End::HandOver { .. }))
}

#[test]
fn what_people_take_at_a_stop_is_not_taken_from_the_wait() {
    let words = "zfs=tank taproot.break=mount taproot.key=/dev/stick:/key taproot.key_wait=5 taproot.key_prompt=no";
    let mut machine = Machine::new(words);
    let stick = machine.add("stick", plain("stick", Tree::of(&[("key", KEY)])));
    stick.arrives = seconds(63);
    machine.add_pool(locked());
    machine.person = vec![Typed { after: seconds(60), ..Typed::line("(taproot) #", "continue") }];
    let (end, world) = booted(machine, vec![]);
    assert!(is_booted(end.as_ref()), "{end:?}: {}", world.printed());
}

/// A root that is mounted is not looked for again among devices that nobody knows any more.
#[test]
fn a_plain_root_survives_the_end_of_the_scout() {
    let mut mounted = 0;
    for at in 0..40 {
        let mut machine = Machine::new("root=LABEL=root panic=1");
        machine.add("vda", plain("root", Tree::system("LABEL=usr /usr ext4 defaults 0 0\n")));
        machine.add("vdb", plain("usr", Tree::default())).arrives = seconds(3);
        let gone = Fault::at("hear_scout", at, Effect::Gone("vda".into()));
        let (end, world) = booted(machine, vec![gone, Fault::at("hear_scout", at + 1, Effect::NoScouts(1))]);
        if world.story().contains("mounted LABEL=root on /") {
            mounted += 1;
            assert!(is_booted(end.as_ref()), "at {at}: {end:?}: {}", world.story());
        }
    }
    assert!(mounted > 3, "the device went away after the mount {mounted} times");
}

#[test]
fn noresume_discards_an_image_in_each_attempt() {
    let mut machine = with_pool("root=ZFS=tank/r noresume resume=/dev/vdb taproot.resume_wait=1");
    let swap = machine.add("vdb", Holds::Swap { uuid: "u".into(), image: Some("S1SUSPEND".into()) });
    swap.arrives = seconds(20);
    // The first attempt finds no device to look at, and its import fails.
    machine.person = vec![Typed { after: seconds(30), ..Typed::line("(taproot) #", "retry") }];
    let (end, world) = booted(machine, vec![Fault::at("zfs IMPORT", 0, Effect::Errno(libc::EIO))]);
    assert!(is_booted(end.as_ref()), "{end:?}: {}", world.printed());
    let left = world.machine().devices.into_iter().find(|device| device.name == "vdb").map(|device| device.holds);
    assert!(matches!(left, Some(Holds::Swap { image: None, .. })), "{left:?}");
}

/// A boot can fail before the driver of the firmware's variables is there; a failure that is not counted would be repeated for ever.
#[test]
fn a_failure_is_counted_however_early_it_is() {
    let mut machine = Machine::new("root=ZFS=tank/r noresume taproot.wait=1 taproot.rescue=reboot:1");
    machine.firmware = Some(BTreeMap::new());
    machine.modules.insert("efivarfs".into(), ModuleSpec { at_boot: true, ..ModuleSpec::takes(6000) });
    let (end, world) = booted(machine, vec![]);
    assert_eq!(end, Some(End::Restart), "{}", world.printed());
    let written = "write /sys/firmware/efi/efivars/TaprootFailedBoots-";
    assert!(world.story().contains(written), "{}", world.story());
}

#[test]
fn a_device_with_a_key_is_waited_for_until_it_is_read() {
    let mut machine = Machine::new("zfs=tank taproot.key=/dev/stick:/key taproot.rescue=poweroff:1");
    machine.add("stick", plain("stick", Tree::of(&[("key", KEY)]))).answers = Some(seconds(4));
    machine.add_pool(locked());
    let (end, world) = booted(machine, vec![]);
    assert!(is_booted(end.as_ref()), "{end:?}: {}", world.printed());
}

#[test]
fn the_hook_records_its_failure() {
    let mut machine = Machine::new("root=ZFS=tank/r taproot.wait=1 panic=1");
    machine.add("vdb", Holds::Nothing);
    let world = World::new(machine, vec![]);
    // udev and modprobe have been there before it.
    let _ = run(&world, |system| {
        for (fstype, target) in [("devtmpfs", "/dev"), ("sysfs", "/sys"), ("proc", "/proc"), ("tmpfs", "/run")] {
            system.make_dirs(Path::new(target)).unwrap();
            system.mount(fstype, Path::new(target), fstype, 0, "").unwrap();
        }
        let _ = taproot_init::boot::hook(&system, &["mount".to_owned(), "/new_root".to_owned()]);
    });
    let record = world.file("/run/taproot/boot.json").map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let record: serde_json::Value = serde_json::from_str(&record.unwrap_or_default()).unwrap();
    assert!(record.pointer("/failure/code").and_then(|code| code.as_str()).is_some(), "{record}");
}

/// How long the kernel waits for nodes of missing disks is its own matter again, however the boot came to its end.
#[test]
fn the_kernels_patience_comes_back() {
    let parameter = "/sys/module/zfs/parameters/zfs_vdev_open_timeout_ms";
    for words in [&[][..], &["retry"], &["cmdline root=ZFS=tank/r", "retry"]] {
        let mut machine = with_pool(if words.is_empty() { "root=ZFS=tank/r" } else { "root=ZFS=tank/none" });
        machine.person = words.iter().map(|word| Typed::line("(taproot) #", word)).collect();
        machine.person.push(Typed::line("(taproot) #", "boot tank/r"));
        let (end, world) = booted(machine, vec![]);
        assert!(is_booted(end.as_ref()), "{words:?}: {end:?}: {}", world.printed());
        assert_eq!(world.file(parameter).as_deref(), Some(&b"1000\n"[..]), "{words:?}");
    }
}

/// What was left in /run for a system that was not handed over to is not there for another.
#[test]
fn nothing_is_left_for_the_system_of_another_root() {
    let drop_in = "/run/systemd/system/zfs-mount.service.d/00-taproot.conf";
    let boot = |faults| {
        let mut machine = Machine::new("root=ZFS=tank/r taproot.fallback=LABEL=other");
        let root = |dataset: &mut Dataset| {
            let mut tree = Tree::system("");
            tree.text("usr/lib/systemd/system/zfs-mount.service", "[Service]\nExecStart=/sbin/zfs mount -a\n");
            tree.put("usr/lib/systemd/systemd", Node::File(program(), 0o755));
            tree.put("sbin/init", Node::Link("/usr/lib/systemd/systemd".into()));
            dataset.tree = tree;
        };
        machine.add_pool(Pool::new("tank", 7).disk("/dev/vda").dataset("r", root));
        machine.add("vdb", plain("other", Tree::system("")));
        let (end, world) = booted(machine, faults);
        let Some(End::HandOver { root, .. }) = end else { unreachable!("{end:?}: {}", world.printed()) };
        (root.source, world.file(drop_in).is_some())
    };
    assert_eq!(boot(vec![]), ("tank/r".to_owned(), true));
    let refused = Fault::at("hand_over", 0, Effect::Errno(libc::EBUSY));
    assert_eq!(boot(vec![refused]), ("/dev/vdb".to_owned(), false));
}
