//! The model, asked by the program's own calls.

use super::dataset::Key;
use super::pool::{EXPORTED, Kind, Pool};
use crate::sim::files::Tree;
use crate::sim::machine::{Machine, ZfsVersion};
use crate::sim::world::World;
use std::time::Duration;
use taproot_init::sys::System;
use taproot_init::zfs::assemble::{Candidate, Seen, assemble};
use taproot_init::zfs::ioctl::{ImportError, ImportFlags, ObjsetKind, Zfs};
use taproot_init::zfs::judge::{Health, Judgement, judge};
use taproot_init::zfs::label::Label;
use taproot_init::zfs::nvlist::{NvList, Value};

/// A pool with a root, a home, a volume, an encrypted part and snapshots.
fn tank() -> Pool {
    let key = Key {
        format: 1,
        location: "file:///etc/key".into(),
        salt: 0,
        iterations: 0,
        bytes: vec![7; 32],
        loaded: false,
    };
    Pool::new("tank", 7)
        .mirror(&["/dev/vda", "/dev/vdb"])
        .dataset("ROOT", |d| d.set("mountpoint", "none"))
        .dataset("ROOT/a", |d| {
            d.set("mountpoint", "/");
            d.set("canmount", 2);
            d.tree = Tree::system("");
            d.snapshot("one", 10);
            d.snapshot("two", 20);
        })
        .dataset("vol", |d| d.volume = true)
        .dataset("safe", |d| {
            d.key = Some(key);
            d.encryption_root = Some("safe".into());
        })
        .dataset("safe/in", |d| d.encryption_root = Some("safe".into()))
        .bootfs("ROOT/a")
}

fn machine(pool: Pool) -> Machine {
    let mut machine = Machine::new("root=zfs:AUTO");
    machine.modules.insert("zfs".into(), crate::sim::machine::ModuleSpec::takes(0));
    machine.add_pool(pool);
    machine
}

/// Switched on, with the pseudo file systems mounted and all modules there.
fn world(machine: Machine) -> World {
    let world = World::new(machine, vec![]);
    for (fstype, target) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        world.make_dirs(target.as_ref()).unwrap();
        world.mount(fstype, target.as_ref(), fstype, 0, "").unwrap();
    }
    world.state().modules.insert("spl".into(), Duration::ZERO);
    world.state().modules.insert("zfs".into(), Duration::ZERO);
    world.pass(Duration::from_secs(5));
    world
}

fn candidate(world: &World) -> Candidate {
    let machine = world.machine();
    let pool = &machine.pools[0];
    let there = |path: &str| world.stat(path.as_ref()).is_ok();
    let seen: Vec<Seen> = pool
        .devices()
        .iter()
        .filter(|leaf| there(&leaf.path))
        .map(|leaf| {
            let config = pool.label(leaf.guid, machine.zfs).unwrap();
            Seen::sound(leaf.path.clone(), Label::new(config, 0))
        })
        .collect();
    assemble(&seen).remove(0)
}

fn tried(world: &World) -> (NvList, Judgement) {
    let reply = Zfs::new(world).try_import("tank", &candidate(world).config).unwrap();
    let judgement = judge(&reply);
    (reply, judgement)
}

fn import(world: &World, flags: ImportFlags, properties: &[(&str, Value)]) -> Result<(), ImportError> {
    let (mut reply, _) = tried(world);
    // As the program does: whose it was decides about the check for activity.
    if let Some(hostid) = candidate(world).hostid {
        reply.set("hostid", Value::U64(hostid));
    }
    let properties: NvList = properties.iter().map(|(name, value)| (*name, value.clone())).collect();
    Zfs::new(world).import("tank", 7, &reply, &properties, flags)
}

fn imported(machine: Machine) -> World {
    let world = world(machine);
    import(&world, ImportFlags::default(), &[("cachefile", Value::text("none"))]).unwrap();
    world
}

#[test]
fn a_pool_is_opened_imported_listed_and_exported() {
    let world = world(machine(tank()));
    let (reply, judgement) = tried(&world);
    assert_eq!((judgement.health, judgement.bootfs.as_deref()), (Health::Online, Some("tank/ROOT/a")));
    assert!(!world.machine().pools[0].written);
    let zfs = Zfs::new(&world);
    assert_eq!(zfs.bootfs("tank").unwrap_err().errno, libc::ENOENT);
    zfs.import("tank", 7, &reply, &NvList::new(), ImportFlags::default()).unwrap();
    assert_eq!(zfs.imported_pools().unwrap(), [("tank".to_owned(), 7)]);
    assert_eq!(zfs.bootfs("tank").unwrap().as_deref(), Some("tank/ROOT/a"));
    assert_eq!(zfs.try_import("tank", &candidate(&world).config).unwrap_err().errno, libc::EINVAL);
    assert_eq!(judge(&zfs.pool_stats("tank").unwrap()).health, Health::Online);
    let names: Vec<String> = zfs.datasets("tank").unwrap().into_iter().map(|o| o.name).collect();
    assert_eq!(names, ["tank", "tank/ROOT", "tank/ROOT/a", "tank/safe", "tank/safe/in", "tank/vol"]);
    assert_eq!(zfs.objset("tank/vol").unwrap().kind, ObjsetKind::Volume);
    let root = zfs.objset("tank/ROOT/a").unwrap();
    let mountpoint = root.properties.list("mountpoint").unwrap();
    assert_eq!(
        (mountpoint.text("value").as_deref(), mountpoint.text("source").as_deref()),
        (Some("/"), Some("tank/ROOT/a"))
    );
    let call = taproot_init::sys::ZfsCall { number: 0x03, name: b"tank", ..Default::default() };
    world.make_dirs("/mnt".as_ref()).unwrap();
    world.mount("tank/ROOT/a", "/mnt".as_ref(), "zfs", 0, "").unwrap();
    assert_eq!(world.zfs(&call).unwrap().errno, libc::EBUSY);
    world.unmount("/mnt".as_ref(), false).unwrap();
    assert_eq!(world.zfs(&call).unwrap().errno, 0);
    assert_eq!((zfs.imported_pools().unwrap().len(), world.machine().pools[0].state), (0, EXPORTED));
}

#[test]
fn a_missing_half_degrades_and_a_missing_whole_forbids() {
    let mut two = machine(tank());
    two.device("vdb").unwrap().arrives = Duration::from_secs(60);
    let world = world(two);
    assert_eq!(tried(&world).1.health, Health::Degraded);
    import(&world, ImportFlags::default(), &[]).unwrap();
    let bad = judge(&Zfs::new(&world).pool_stats("tank").unwrap()).bad;
    assert_eq!((bad.len(), bad[0].path.as_deref()), (1, Some("/dev/vdb")));

    let mut raidz = machine(Pool::new("tank", 7).with(Kind::Raidz(1), false, &["/dev/vda", "/dev/vdb", "/dev/vdc"]));
    for name in ["vdb", "vdc"] {
        raidz.device(name).unwrap().arrives = Duration::from_secs(60);
    }
    let world = self::world(raidz);
    assert_eq!(tried(&world).1.health, Health::Unavailable);
    assert_eq!(import(&world, ImportFlags::default(), &[]).unwrap_err().error.errno, libc::ENXIO);
}

#[test]
fn a_missing_log_needs_leave() {
    let pool = || Pool::new("tank", 7).disk("/dev/vda").with(Kind::Disk, true, &["/dev/log"]);
    let without_log = |version| {
        let mut machine = machine(pool());
        machine.zfs = version;
        machine.device("log").unwrap().arrives = Duration::from_secs(60);
        world(machine)
    };
    let world = without_log(ZfsVersion::V2_4);
    let judgement = tried(&world).1;
    assert_eq!((judgement.health, judgement.missing_logs), (Health::Degraded, vec!["/dev/log".to_owned()]));
    let refused = import(&world, ImportFlags::default(), &[]).unwrap_err();
    let missing = taproot_init::zfs::judge::missing_vdevs(refused.detail.unwrap().list("load_info").unwrap());
    assert_eq!((refused.error.errno, missing.len(), missing[0].log), (libc::ENXIO, 1, true));
    import(&world, ImportFlags { missing_log: true, ..ImportFlags::default() }, &[]).unwrap();
    // Before 2.1.12 the pool could not even be opened without it.
    assert_eq!(tried(&without_log(ZfsVersion::V2_1)).1.missing_logs.len(), 1);
}

#[test]
fn multihost_needs_a_hostid_and_time() {
    let shared = || Pool { multihost: true, hostid: 1, ..tank() };
    let mut nobody = machine(shared());
    nobody.hostid = 0;
    assert!(tried(&world(nobody)).1.reason.contains("no hostid"));
    let world = world(machine(shared()));
    let before = world.time();
    assert_eq!(tried(&world).1.health, Health::Online);
    assert!(world.time().saturating_sub(before) >= Duration::from_secs(20));
    let used = self::world(machine(Pool { elsewhere: true, ..shared() }));
    assert!(tried(&used).1.reason.contains("in use by another system"));
    assert_eq!(import(&used, ImportFlags::default(), &[]).unwrap_err().error.errno, libc::EREMOTEIO);
}

#[test]
fn read_only_pools_take_no_writes_but_keys() {
    let world = world(machine(tank()));
    import(&world, ImportFlags::default(), &[("readonly", Value::U64(1))]).unwrap();
    let zfs = Zfs::new(&world);
    assert_eq!(zfs.take_snapshot("tank/ROOT/a@x").unwrap_err().error.errno, libc::EROFS);
    zfs.load_key("tank/safe", &[7; 32]).unwrap();
    assert!(!world.machine().pools[0].written);
    world.make_dirs("/mnt".as_ref()).unwrap();
    world.mount("tank/ROOT/a", "/mnt".as_ref(), "zfs", 0, "").unwrap();
    assert_eq!(world.write("/mnt/x".as_ref(), b"").unwrap_err().raw_os_error(), Some(libc::EROFS));
}

#[test]
fn keys_open_what_belongs_to_them() {
    let world = imported(machine(tank()));
    let zfs = Zfs::new(&world);
    world.make_dirs("/mnt".as_ref()).unwrap();
    let mount = || world.mount("tank/safe/in", "/mnt".as_ref(), "zfs", 0, "").map_err(|e| e.raw_os_error());
    assert_eq!(mount(), Err(Some(libc::EACCES)));
    let facts = zfs.encryption("tank/safe/in").unwrap().unwrap();
    assert_eq!(
        (facts.root.as_str(), facts.location.as_str(), facts.available),
        ("tank/safe", "file:///etc/key", false)
    );
    assert_eq!(zfs.load_key("tank/safe", &[8; 32]).unwrap_err().errno, libc::EACCES);
    assert_eq!(zfs.load_key("tank/safe/in", &[7; 32]).unwrap_err().errno, libc::EINVAL);
    zfs.load_key("tank/safe", &[7; 32]).unwrap();
    assert_eq!(zfs.load_key("tank/safe", &[7; 32]).unwrap_err().errno, libc::EEXIST);
    assert!(zfs.key_available("tank/safe"));
    assert_eq!(mount(), Ok(()));
}

#[test]
fn snapshots_are_cloned_rolled_back_and_destroyed() {
    let world = imported(machine(tank()));
    let zfs = Zfs::new(&world);
    let names = |after| zfs.snapshots("tank/ROOT/a", after).unwrap().into_iter().map(|s| s.name).collect::<Vec<_>>();
    assert_eq!(names(0), ["tank/ROOT/a@one", "tank/ROOT/a@two"]);
    assert_eq!(names(10), ["tank/ROOT/a@two"]);
    assert_eq!(zfs.roll_back("tank/ROOT/a@one").unwrap_err().error.errno, libc::EEXIST);
    let properties = [("canmount".to_owned(), Value::text("noauto"))];
    let refused = zfs.clone_snapshot("tank/ROOT/a@two", "tank/ROOT/b", &properties).unwrap_err();
    assert_eq!((refused.error.errno, refused.items.len()), (libc::EINVAL, 1));
    let properties = [("canmount".to_owned(), Value::U64(2)), ("mountpoint".to_owned(), Value::text("/"))];
    zfs.clone_snapshot("tank/ROOT/a@two", "tank/ROOT/b", &properties).unwrap();
    assert_eq!(zfs.snapshot("tank/ROOT/a@two").unwrap().unwrap().clones, ["tank/ROOT/b"]);
    let two = ["tank/ROOT/a@two".to_owned()];
    assert_eq!(zfs.destroy_snapshots(&two).unwrap_err().items, [("tank/ROOT/a@two".to_owned(), libc::EEXIST)]);
    assert_eq!(zfs.destroy("tank/ROOT").unwrap_err().error.errno, libc::EEXIST);
    zfs.destroy("tank/ROOT/b").unwrap();
    zfs.destroy_snapshots(&two).unwrap();
    zfs.roll_back("tank/ROOT/a@one").unwrap();
    zfs.take_snapshot("tank/ROOT/a@three").unwrap();
    assert_eq!(zfs.take_snapshot("tank/ROOT/a@three").unwrap_err().error.errno, libc::EEXIST);
    assert_eq!(zfs.take_snapshot("tank/ROOT/a@a+b").unwrap_err().error.errno, libc::EINVAL);
    assert_eq!(names(0), ["tank/ROOT/a@one", "tank/ROOT/a@three"]);
    assert!(world.machine().pools[0].written);
}

#[test]
fn a_pool_of_another_state_or_kernel_says_so() {
    let mut newer = tank();
    newer.unsupported = vec!["org.example:new".into()];
    newer.can_read = true;
    let world = world(machine(newer));
    assert!(tried(&world).1.unwritable.unwrap().contains("org.example:new"));
    assert_eq!(import(&world, ImportFlags::default(), &[]).unwrap_err().error.errno, libc::ENOTSUP);
    import(&world, ImportFlags::default(), &[("readonly", Value::U64(1))]).unwrap();
    let (reply, zfs) = (NvList::new(), Zfs::new(&world));
    assert_eq!(
        zfs.import("tank", 8, &reply, &NvList::new(), ImportFlags::default()).unwrap_err().error.errno,
        libc::EINVAL
    );
    let unknown = taproot_init::sys::ZfsCall { number: 0x7f, ..Default::default() };
    assert_eq!(world.zfs(&unknown).unwrap().errno, 1029);
}
