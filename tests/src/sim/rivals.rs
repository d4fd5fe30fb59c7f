//! Which pool, and which disks of it, by the program itself: labels that are left over, one disk by two paths, pools beside the
//! root's.

use super::files::Tree;
use super::machine::{Holds, Machine};
use super::run;
use super::world::{End, World};
use super::zfs::pool::Pool;
use std::time::Duration;
use taproot_init::devices::known::Partition;

/// A pool on these disks, with a root `r` that has this fstab.
fn pool(name: &str, guid: u64, disks: &[&str], fstab: &str) -> Pool {
    let pool = Pool::new(name, guid);
    let pool = if let [disk] = disks { pool.disk(disk) } else { pool.mirror(disks) };
    let root = pool.dataset("r", |dataset| {
        dataset.set("mountpoint", "/");
        dataset.tree = Tree::system(fstab);
    });
    root.bootfs("r")
}

/// Boots a machine; what the new root is, and the machine then.
fn boot(machine: Machine) -> (String, Machine, World) {
    let world = World::new(machine, vec![]);
    let end = run(&world, |system| {
        let _ = taproot_init::boot::run(&system, Vec::new());
    });
    let root = match end {
        Some(End::HandOver { root, .. }) => root.source,
        other => format!("{other:?}\n{}", world.printed()),
    };
    (root, world.machine(), world)
}

fn partition(machine: &mut Machine, name: &str, number: u32) {
    let device = machine.device(name).unwrap();
    device.disk = Some(name.trim_end_matches(char::is_numeric).to_owned());
    device.partition = Some(Partition { number, start: u64::from(number) << 20, ..Partition::default() });
}

fn of<'m>(machine: &'m Machine, name: &str) -> &'m Pool {
    machine.pools.iter().find(|pool| pool.name == name).unwrap()
}

/// The whole disk has a label of an old pool, its second partition a new pool.
#[test]
fn a_disk_with_a_leftover_is_not_written_to() {
    for line in ["root=zfs:AUTO", "zfs=rpool", "taproot.wait=5 zfs=aold taproot.fallback=rpool/r"] {
        let mut machine = Machine::new(line);
        machine.add_pool(pool("aold", 5, &["/dev/vda"], ""));
        machine.add_pool(pool("rpool", 7, &["/dev/vda2"], ""));
        partition(&mut machine, "vda2", 2);
        let (root, machine, _) = boot(machine);
        assert_eq!(root, "rpool/r", "{line}");
        let old = of(&machine, "aold");
        assert!(old.imported.is_none() && !old.written, "{line}");
    }
}

/// The other half of the mirror still lists the disk, and the kernel would open it at the path that is recorded.
#[test]
fn the_kernel_does_not_come_upon_a_leftover() {
    let mut machine = Machine::new("zfs=tank");
    machine.add_pool(pool("tank", 7, &["/dev/vda", "/dev/vdb"], ""));
    machine.add_pool(pool("other", 9, &["/dev/vda1"], ""));
    partition(&mut machine, "vda1", 1);
    let (root, machine, world) = boot(machine);
    assert_eq!(root, "tank/r");
    let tank = of(&machine, "tank");
    let paths: Vec<&String> = tank.imported.as_ref().unwrap().paths.values().collect();
    assert_eq!(paths, ["/dev/vdb"]);
    assert!(world.story().contains("/dev/vda was a disk of it and is something else now"));
}

#[test]
fn one_disk_by_two_paths_is_one_disk() {
    for (second, copy) in [("naa.5", false), ("naa.6", true)] {
        let mut machine = Machine::new("taproot.wait=5 taproot.rescue=poweroff:1");
        machine.add_pool(pool("tank", 7, &["/dev/disk/by-id/lun"], ""));
        let Some(Holds::Vdev(guid)) = machine.device("vd0").map(|device| device.holds.clone()) else { unreachable!() };
        machine.add("vd1", Holds::Vdev(guid)).wwid = Some(second.to_owned());
        let first = machine.device("vd0").unwrap();
        first.wwid = Some("naa.5".to_owned());
        // Neither is where the pool was last.
        first.links.clear();
        let (root, machine, world) = boot(machine);
        assert_eq!(root == "tank/r", !copy, "{root}");
        assert_eq!(of(&machine, "tank").written, !copy);
        let says = if copy { "copies of one disk" } else { "are one disk" };
        assert!(world.story().contains(says), "{}", world.story());
    }
}

/// A machine that was started from the partition with the UUID `22`, as systemd's boot loader has it.
fn started_from_22(line: &str) -> Machine {
    let mut machine = Machine::new(line);
    let uuid = "00000022-0000-0000-0000-000000000000";
    let wide = uuid.to_uppercase().encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let name = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f".to_owned();
    machine.firmware = Some([(name, wide)].into());
    machine
}

fn uuid(machine: &mut Machine, name: &str, start: &str) {
    let part = machine.device(name).unwrap().partition.as_mut().unwrap();
    part.uuid = format!("{start:0>8}-0000-0000-0000-000000000000");
}

/// Copies of a disk of which one was booted before, and so has another guid; and such of which none was.
#[test]
fn of_copies_the_one_that_the_machine_was_started_from() {
    for line in ["zfs=tank", "root=zfs:AUTO"] {
        for taken in [8, 7] {
            let mut machine = started_from_22(line);
            for (guid, disk) in [(7, "vda1"), (8, "vdb1")] {
                machine.add_pool(pool("tank", guid, &[&format!("/dev/{disk}")], ""));
                partition(&mut machine, disk, 1);
                uuid(&mut machine, disk, if guid == taken { "22" } else { "11" });
            }
            let (root, machine, world) = boot(machine);
            assert_eq!(root, "tank/r", "{}", world.printed());
            let written: Vec<u64> = machine.pools.iter().filter(|pool| pool.written).map(|pool| pool.guid).collect();
            assert_eq!(written, [taken], "{line}");
        }
    }
    for meant in ["vda1", "vdb1"] {
        let mut machine = started_from_22("zfs=tank");
        machine.add_pool(pool("tank", 7, &["/dev/vda1"], ""));
        let Some(Holds::Vdev(guid)) = machine.device("vda1").map(|device| device.holds.clone()) else { unreachable!() };
        machine.add("vdb1", Holds::Vdev(guid));
        for disk in ["vda1", "vdb1"] {
            partition(&mut machine, disk, 1);
            uuid(&mut machine, disk, if disk == meant { "22" } else { "11" });
        }
        let (root, machine, world) = boot(machine);
        assert_eq!(root, "tank/r", "{}", world.printed());
        let paths: Vec<&String> = of(&machine, "tank").imported.as_ref().unwrap().paths.values().collect();
        assert_eq!(paths, [&format!("/dev/{meant}")]);
        assert!(world.story().contains("the machine was started from vd"));
    }
}

/// The disk that the machine was started from answers when a pool of the same name could be had for long.
#[test]
fn a_namesake_is_not_taken_before_the_disk_that_the_machine_was_started_from_is_read() {
    for line in ["zfs=tank", "root=zfs:AUTO"] {
        for (late, expected) in [(1200, [8]), (5000, [7])] {
            let mut machine = started_from_22(line);
            for (guid, disk) in [(7, "vda1"), (8, "vdb1")] {
                machine.add_pool(pool("tank", guid, &[&format!("/dev/{disk}")], ""));
                partition(&mut machine, disk, 1);
                uuid(&mut machine, disk, if guid == 8 { "22" } else { "11" });
            }
            machine.device("vdb1").unwrap().answers = Some(Duration::from_millis(late));
            let (root, machine, world) = boot(machine);
            assert_eq!(root, "tank/r", "{}", world.printed());
            let written: Vec<u64> = machine.pools.iter().filter(|pool| pool.written).map(|pool| pool.guid).collect();
            // One that does not answer holds up nothing.
            assert_eq!(written, expected, "{line} {late}");
        }
    }
}

/// `/usr` lies in another pool, which the root's fstab names; it comes late.
#[test]
fn what_init_needs_in_another_pool_is_imported() {
    let machine = |fstab: &str, line: &str| {
        let mut machine = Machine::new(line);
        machine.add_pool(pool("tank", 7, &["/dev/vda"], fstab));
        let fast = Pool::new("fast", 9).disk("/dev/vdb").dataset("usr", |usr| {
            usr.set("mountpoint", "legacy");
            usr.tree = Tree::of(&[("bin/env", b"x")]);
        });
        machine.add_pool(fast);
        machine.device("vdb").unwrap().arrives = std::time::Duration::from_secs(4);
        machine
    };
    let (root, after, world) = boot(machine("fast/usr /usr zfs defaults 0 0\n", "zfs=tank"));
    assert_eq!(root, "tank/r");
    assert!(of(&after, "fast").imported.is_some());
    assert!(world.mounts().iter().any(|mount| mount.source == "fast/usr"), "{}", world.story());
    // What the booted system can mount itself is left to it.
    let (root, after, _) = boot(machine("fast/usr /srv zfs defaults 0 0\n", "zfs=tank"));
    assert_eq!(root, "tank/r");
    assert!(of(&after, "fast").imported.is_none());
    // Named by a word: it stays, used or not.
    let (_, after, _) = boot(machine("", "zfs=tank taproot.also_pools=fast"));
    assert!(of(&after, "fast").imported.is_some());
    let (_, after, _) = boot(machine("", "zfs=tank taproot.also=fast/none"));
    assert!(of(&after, "fast").imported.is_none(), "nothing of it was used");
}
