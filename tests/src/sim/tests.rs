//! The machine itself: its clock, its scout, its people, and what goes wrong.

mod anew;
mod attempts;
mod found;
mod integrity;
mod keyboard;
mod layer_state;
mod layers;
mod live;
mod lost;
mod mounts;
mod noticed;
mod persistence;
mod prompt;
mod scouts;
mod stack;
mod to_ram;

use super::faults::{Effect, Fault, When};
use super::files::{Node, Tree};
use super::machine::{Holds, Machine, ModuleSpec, ProgramSpec, Typed};
use super::world::{End, World};
use super::zfs::dataset::Dataset;
use super::zfs::pool::Pool;
use super::{Case, HOSTID, boot, run, seed};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use taproot_init::devices::known::{Module, Reading, Zfs};
use taproot_init::plan::failure::Code;
use taproot_init::scout::message::{Command, Message};
use taproot_init::sys::{Ended, Heard, Program, System, Terminals};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What the scout says within this time.
fn heard(system: &dyn System, time: Duration) -> Vec<(Duration, Message)> {
    let until = system.now() + time;
    let mut all = Vec::new();
    while let Heard::Message(bytes) = system.hear_scout(until.saturating_sub(system.now())) {
        all.push((system.now(), Message::decode(&bytes).unwrap()));
    }
    all
}

fn devices(messages: &[(Duration, Message)]) -> Vec<(String, bool)> {
    let device = |message: &Message| match message {
        Message::Device(device) => Some((device.name.clone(), device.content != Reading::Waiting)),
        Message::Gone(name) => Some((format!("-{name}"), false)),
        _ => None,
    };
    messages.iter().filter_map(|(_, message)| device(message)).collect()
}

#[test]
fn the_scout_tells_in_time_and_never_of_what_is_silent() {
    let mut machine = Machine::new("");
    machine.add_pool(Pool::new("tank", 7).disk("/dev/vda"));
    machine.add("silent", Holds::Nothing).answers = None;
    machine.add("late", Holds::Nothing).arrives = seconds(4);
    machine.add("brief", Holds::Nothing).leaves = Some(seconds(6));
    let world = World::new(machine, vec![]);
    world.start_scout(&[]).unwrap();
    let messages = heard(&world, seconds(3));
    let said = devices(&messages);
    assert!(said.contains(&("vda".into(), true)) && said.contains(&("silent".into(), false)));
    assert!(!said.contains(&("silent".into(), true)) && !said.iter().any(|(name, _)| name == "late"));
    let label = messages.iter().find_map(|(_, message)| match message {
        Message::Device(device) if device.name == "vda" => device.content().map(|c| c.zfs.clone()),
        _ => None,
    });
    assert!(matches!(label, Some(Zfs::Member(label)) if label.label.pool_guid() == Some(7)));
    assert!(messages.iter().any(|(_, m)| matches!(m, Message::Settled { settled: true, .. })));
    let zfs: Vec<Module> = messages
        .iter()
        .filter_map(|(_, m)| match m {
            Message::Module { name, state, .. } if name == "zfs" => Some(state.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(zfs, [Module::Starting, Module::Ready]);
    assert!(world.stat(Path::new("/sys/module/zfs")).is_err(), "sysfs is not mounted");
    let said = devices(&heard(&world, seconds(10)));
    assert_eq!(said, [("late".into(), false), ("late".into(), true), ("-brief".into(), false)]);
}

#[test]
fn the_scout_obeys_and_can_die() {
    let mut machine = Machine::new("");
    machine.modules.insert("bad".into(), ModuleSpec { fails: true, ..ModuleSpec::takes(1) });
    machine.add("vda", Holds::Swap { uuid: "u".into(), image: Some("S1SUSPEND".into()) });
    let world = World::new(machine, vec![Fault::at("hear_scout", 30, Effect::NoScouts(1))]);
    world.start_scout(&["--no-modules".into()]).unwrap();
    heard(&world, seconds(2));
    world.start_scout(&[]).unwrap();
    heard(&world, seconds(2));
    let tell = |command: Command| world.tell_scout(&command.encode()).unwrap();
    for name in ["ext4", "bad", "nosuch"] {
        tell(Command::Load(name.into()));
    }
    let said: Vec<_> = heard(&world, seconds(1))
        .into_iter()
        .filter_map(|(_, m)| match m {
            Message::Module { name, state, .. } => Some((name, state)),
            _ => None,
        })
        .collect();
    assert!(said.contains(&("ext4".into(), Module::Ready)) && said.contains(&("nosuch".into(), Module::NotPacked)));
    assert!(said.iter().any(|(name, state)| name == "bad" && matches!(state, Module::Failed(_))));
    tell(Command::Peek { id: 5, node: "/dev/vda".into(), offset: 4086, len: 10 });
    let peeked = heard(&world, seconds(1));
    assert!(peeked.iter().any(|(_, m)| matches!(m, Message::Peeked { id: 5, result: Ok(b) } if b == b"S1SUSPEND\0")));
    tell(Command::DiscardImage { id: 6, node: "/dev/vda".into(), offset: 0, page: 4096 });
    assert!(heard(&world, seconds(1)).iter().any(|(_, m)| matches!(m, Message::Discarded { id: 6, result: Ok(true) })));
    let dies = (0..40).any(|_| matches!(world.hear_scout(seconds(1)), Heard::Ended(_)));
    assert!(dies && world.tell_scout(&Command::Undriven.encode()).is_err());
}

#[test]
fn a_watched_call_is_told_of_while_it_lasts() {
    let world = World::new(Machine::new(""), vec![]);
    let start = world.now();
    let mut told = Vec::new();
    let seen = std::sync::Mutex::new(Vec::new());
    world.watched(
        seconds(1),
        &mut |at| {
            told.push(at);
            seen.lock().unwrap().push(world.now().saturating_sub(start));
        },
        &mut || world.sleep(Duration::from_millis(2500)),
    );
    assert_eq!(told, [seconds(1), seconds(2)]);
    assert_eq!(*seen.lock().unwrap(), told);
    assert_eq!(world.now().saturating_sub(start), Duration::from_millis(2500));
}

#[test]
fn a_call_that_never_comes_back_ends_with_the_time() {
    let mut machine = Machine::new("");
    machine.limit = seconds(20);
    let world = World::new(machine, vec![Fault::at("sync", 0, Effect::Never), Fault::at("read", 0, Effect::Never)]);
    let mut told = 0;
    let end = run(&world, |system| {
        let mut work = || drop(system.read(Path::new("/etc/hostid"), 4));
        system.watched(seconds(1), &mut |_| told += 1, &mut work);
    });
    assert_eq!((end, told, world.unused().len()), (Some(End::OutOfTime), 19, 1));
}

#[test]
fn faults_hit_the_call_they_are_for() {
    let faults = vec![
        Fault { when: When::Call(1), effect: Effect::Errno(libc::EIO) },
        Fault::at("read", 2, Effect::Late(seconds(3))),
        Fault::at("read", 3, Effect::Gone("vda".into())),
        Fault::at("read", 4, Effect::PowerCut),
    ];
    let mut machine = Machine::new("");
    machine.add("vda", Holds::Nothing).arrives = Duration::ZERO;
    let world = World::new(machine, faults);
    let end = run(&world, |system| {
        let read = || system.read(Path::new("/etc/hostid"), 4).map_err(|e| e.raw_os_error());
        assert_eq!(read(), Ok(HOSTID.to_ne_bytes().to_vec()));
        assert_eq!(read(), Err(Some(libc::EIO)));
        let before = system.now();
        assert!(read().is_ok());
        assert_eq!(system.now().saturating_sub(before), seconds(3));
        system.make_dirs(Path::new("/dev")).unwrap();
        system.mount("dev", Path::new("/dev"), "devtmpfs", 0, "").unwrap();
        assert!(system.exists(Path::new("/dev/vda")));
        read().unwrap();
        assert!(!system.exists(Path::new("/dev/vda")));
        read().unwrap();
        unreachable!("the power is gone");
    });
    assert_eq!(end, Some(End::PowerCut));
    assert!(world.story().contains("fault: PowerCut"));
}

#[test]
fn circles_are_noticed_and_panics_are_not_hidden() {
    let spins = |system: Arc<dyn System>| while system.read(Path::new("/etc/hostid"), 4).is_ok() {};
    assert_eq!(run(&World::new(Machine::new(""), vec![]), spins), Some(End::Spinning));
    let world = World::new(Machine::new(""), vec![]);
    let panics = std::panic::catch_unwind(|| run(&world, |_| std::panic::resume_unwind(Box::new(7))));
    assert!(panics.is_err_and(|payload| payload.is::<i32>()));
}

#[test]
fn people_answer_in_their_time_or_never() {
    let mut machine = Machine::new("");
    machine.person = vec![Typed::line("passphrase", "secret"), Typed { after: seconds(9), ..Typed::line("", "late") }];
    let world = World::new(machine, vec![]);
    let end = run(&world, |system| {
        let mut consoles = system.consoles(Terminals::All);
        let mut ask = |question: &str, timeout: Option<u64>, stop: bool| {
            format!("{:?}", consoles.ask(question, true, timeout.map(seconds).into(), &mut || stop))
        };
        assert!(ask("the passphrase: ", None, false).starts_with("Line"));
        assert_eq!(ask("quick? ", Some(5), false), "TimedOut");
        assert_eq!(ask("needed? ", None, true), "Stopped");
        ask("for ever? ", None, false);
        unreachable!("nobody answers");
    });
    assert_eq!(end, Some(End::Question("for ever?".into())));
    assert!(world.printed().contains("the passphrase: secret\n"));
}

#[test]
fn programs_run_and_are_late() {
    let mut machine = Machine::new("");
    let fsck = ProgramSpec { takes: Some(seconds(2)), output: "clean".into(), status: 1 };
    machine.programs.insert("/sbin/fsck.ext4".into(), fsck);
    machine.programs.insert("/bin/hangs".into(), ProgramSpec::default());
    let world = World::new(machine, vec![]);
    let run = |path: &str, stop: bool| {
        let program = Program { path: path.into(), ..Program::default() };
        world.run(&program, Some(seconds(10)), 3, &mut || stop).map(|f| (f.ended, f.output.to_vec()))
    };
    assert_eq!(run("/sbin/fsck.ext4", false).unwrap(), (Ended::Exit(1), b"cle".to_vec()));
    assert_eq!(run("/bin/hangs", false).unwrap().0, Ended::Late);
    assert_eq!(run("/bin/hangs", true).unwrap().0, Ended::Stopped);
    assert!(run("/bin/none", false).is_err());
}

#[test]
fn a_plain_root_is_mounted_and_handed_over_to() {
    let mut machine = Machine::new("root=/dev/vda");
    machine.add(
        "vda",
        Holds::Filesystem { kind: "ext4".into(), uuid: "u".into(), label: "l".into(), tree: Tree::system("") },
    );
    machine.add("dead", Holds::Nothing).answers = None;
    let world = World::new(machine, vec![]);
    let end = run(&world, |system| {
        for (fstype, target) in [("devtmpfs", "/dev"), ("sysfs", "/sys")] {
            system.make_dirs(Path::new(target)).unwrap();
            system.mount(fstype, Path::new(target), fstype, 0, "").unwrap();
        }
        system.make_dirs(Path::new("/newroot")).unwrap();
        let mount = |source: &str, fstype: &str| {
            system.mount(source, Path::new("/newroot"), fstype, libc::MS_RDONLY, "").map_err(|e| e.raw_os_error())
        };
        system.sleep(seconds(1));
        assert_eq!(mount("/dev/vda", "ext4"), Err(Some(libc::ENODEV)), "no driver yet");
        system.start_scout(&[]).unwrap();
        system.tell_scout(&Command::Load("ext4".into()).encode()).unwrap();
        heard(&*system, seconds(1));
        assert_eq!(mount("/dev/none", "ext4"), Err(Some(libc::ENOENT)));
        assert_eq!(mount("/dev/vda", "xfs"), Err(Some(libc::ENODEV)));
        assert_eq!(mount("/dev/vda", "ext4"), Ok(()));
        let init = Path::new("/sbin/init");
        assert!(system.hand_over(Path::new("/newroot"), Path::new("/sbin/none"), &[]).is_err());
        let _ = system.hand_over(Path::new("/newroot"), init, &[OsString::from("3")]);
    });
    let Some(End::HandOver { root, init, args }) = end else { unreachable!("{end:?}") };
    assert_eq!((root.source.as_str(), root.read_only()), ("/dev/vda", true));
    assert_eq!((init.as_str(), args), ("/sbin/init", vec!["3".to_owned()]));
}

#[test]
fn a_hand_over_with_another_thread_is_noticed() {
    let world = World::new(Machine::new(""), vec![]);
    let hand_over = || drop(world.hand_over(Path::new("/newroot"), Path::new("/sbin/init"), &[]));
    world.watched(seconds(1), &mut |_| (), &mut || world.pass(seconds(3)));
    hand_over();
    let inside = || world.watched(seconds(1), &mut |_| (), &mut || hand_over());
    assert!(catch_unwind(AssertUnwindSafe(inside)).is_err());
}

/// NixOS: the root is as good as empty, and what holds the init is a dataset that nothing but the word says where to mount.
#[test]
fn an_empty_root_with_its_store_beside_it() {
    let legacy = |tree: Tree| {
        move |dataset: &mut Dataset| {
            dataset.set("mountpoint", "legacy");
            dataset.tree = tree.clone();
        }
    };
    let init = Tree::system("").get("sbin/init").unwrap().clone();
    let (mut empty, mut store) = (Tree::default(), Tree::default());
    for dir in ["dev", "proc", "sys", "run"] {
        empty.put(dir, Node::Dir);
    }
    store.put("store/0-system/init", init);
    let line = "root=ZFS=tank/root init=/nix/store/0-system/init";
    let boot = |more: &str| {
        let mut machine = Machine::new(&format!("{line} {more} panic=1"));
        let pool = Pool::new("tank", 7).disk("/dev/vda");
        machine.add_pool(pool.dataset("root", legacy(empty.clone())).dataset("nix", legacy(store.clone())));
        let world = World::new(machine, vec![]);
        let end = run(&world, |system| {
            let _ = taproot_init::boot::run(&system, Vec::new());
        });
        (end, world.printed())
    };
    let (end, printed) = boot("taproot.also=tank/nix=/nix");
    let Some(End::HandOver { root, init, .. }) = end else { panic!("{end:?}: {printed}") };
    assert_eq!((root.source.as_str(), init.as_str()), ("tank/root", "/nix/store/0-system/init"));
    let (end, printed) = boot("");
    assert!(!matches!(end, Some(End::HandOver { .. })) && printed.contains("/nix/store/0-system/init"), "{printed}");
}

#[test]
fn a_pool_is_not_opened_while_a_silent_disk_cannot_be_kept_from_the_kernel() {
    let mut machine = Machine::new("zfs=tank taproot.wait=5 taproot.degraded=1 taproot.rescue=poweroff:1");
    let root = |d: &mut super::zfs::dataset::Dataset| d.tree = Tree::system("");
    machine.add_pool(Pool::new("tank", 7).mirror(&["/dev/vda", "/dev/vdb"]).dataset("r", root).bootfs("r"));
    machine.device("vdb").unwrap().answers = None;
    let ends = |faults: Vec<Fault>| {
        let world = World::new(machine.clone(), faults);
        let end = run(&world, |system| {
            let _ = taproot_init::boot::run(&system, Vec::new());
        });
        (end, world.printed())
    };
    assert!(matches!(ends(vec![]).0, Some(End::HandOver { .. })));
    // Before the pool is opened, and before it is imported.
    for (at, code) in [(0, "no-pool"), (2, "import-failed")] {
        let (end, printed) = ends(vec![Fault::at("rename", at, Effect::Errno(libc::ENOENT))]);
        assert_eq!(end, Some(End::PowerOff), "{printed}");
        // It stands in lines of some width.
        let said = printed.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("could not be kept from the kernel") && printed.contains(code), "{printed}");
    }
}

#[test]
fn a_silent_device_with_a_key_or_a_line_of_fstab_is_not_mounted() {
    let holds = |label: &str| Holds::Filesystem {
        kind: "ext4".into(),
        uuid: label.into(),
        label: label.into(),
        tree: Tree::of(&[("key", b"0123456789abcdef0123456789abcdef")]),
    };
    let mut machine = Machine::new("zfs=tank taproot.key=/dev/stick:/key taproot.rescue=poweroff:1");
    machine.add("stick", holds("stick"));
    let key = super::zfs::dataset::Key {
        format: 1,
        location: "prompt".into(),
        salt: 0,
        iterations: 0,
        bytes: b"0123456789abcdef0123456789abcdef".to_vec(),
        loaded: false,
    };
    let root = |d: &mut super::zfs::dataset::Dataset| {
        (d.key, d.encryption_root) = (Some(key), Some("r".into()));
        d.tree = Tree::system("/dev/usr /usr ext4 defaults,x-systemd.device-timeout=3 0 0\n");
    };
    machine.add_pool(Pool::new("tank", 7).disk("/dev/vda").dataset("r", root).bootfs("r"));
    machine.add("usr", holds("usr")).answers = None;
    let end = |machine: &Machine| {
        let world = World::new(machine.clone(), vec![]);
        let end = run(&world, |system| {
            let _ = taproot_init::boot::run(&system, Vec::new());
        });
        (end, world.printed())
    };
    assert!(matches!(end(&machine).0, Some(End::HandOver { .. })), "without /usr, which is told");
    machine.device("stick").unwrap().answers = None;
    let (end, printed) = end(&machine);
    assert_eq!(end, Some(End::PowerOff), "{printed}");
    assert!(printed.contains("no-key") && printed.contains("or none that answers"), "{printed}");
}

/// What reaches each code of a failure; the seeds are those that `make sim` tells.
const REACHED: [(Code, fn() -> Case); 29] = [
    (Code::ZfsModule, || seed::case(8)),
    (Code::NoPool, || seed::case(3)),
    (Code::NoBootfs, || seed::case(30)),
    (Code::UnusableRoot, || seed::case(126)),
    (Code::NoDevice, || seed::case(0)),
    (Code::AmbiguousDevice, twice),
    (Code::NoFilesystem, || seed::case(609)),
    (Code::Fsck, || seed::case(88)),
    (Code::Import, || seed::case(89)),
    (Code::ZfsCall, || seed::case(168)),
    (Code::NoDataset, || seed::case(35)),
    (Code::NotMountable, || seed::case(27)),
    (Code::NoKey, || seed::case(13)),
    (Code::Snapshot, || seed::case(20)),
    (Code::NoLayerDevice, layers::without_layer_device),
    (Code::NoLayer, layers::without_layer),
    (Code::BrokenLayer, layers::with_broken_layer),
    (Code::ToRam, layers::without_memory),
    (Code::UncheckedLayer, integrity::changed_layer),
    (Code::LayerList, integrity::list_without_key),
    (Code::LayerState, layer_state::without_state),
    (Code::NoUpper, layers::without_upper),
    (Code::Overlay, layers::not_overlaid),
    (Code::Mount, || seed::case(450)),
    (Code::NoInit, || seed::case(83)),
    (Code::Resume, || seed::case(55)),
    (Code::KeptImage, || seed::case(1723)),
    (Code::HandOver, not_handed_over),
    (Code::Exec, || seed::case(46)),
];
fn not_handed_over() -> Case {
    Case { faults: vec![Fault::at("hand_over", 0, Effect::Errno(libc::EIO))], ..seed::narrow(2) }
}

/// Two disks answer to the root's name.
fn twice() -> Case {
    let mut case = Case { faults: vec![], ..seed::case(720) };
    let devices = &mut case.machine.devices;
    let mut copy = devices.iter().find(|device| device.name == "plain0").unwrap().clone();
    copy.name = "plain1".to_owned();
    copy.number = (253, 99);
    devices.push(copy);
    case
}

/// Codes that no machine brings about: only a bug of ours does, which the guard and the executor test by themselves.
const BUGS: [Code; 2] = [Code::Undeclared, Code::Bug];

#[test]
fn every_code_of_a_failure_is_reached() {
    for (code, case) in REACHED {
        let case = case();
        let codes = boot(&case).codes();
        assert!(codes.contains(code.code()), "seed {}: expected {}, found {codes:?}", case.seed, code.code());
    }
    let named: BTreeSet<Code> = REACHED.into_iter().map(|(code, _)| code).chain(BUGS).collect();
    assert_eq!(named, Code::ALL.into_iter().collect());
}
