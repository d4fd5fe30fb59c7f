//! The model against what real kernels answered.

use super::*;
use crate::sim::machine::{Machine, ZfsVersion};
use crate::sim::world::World;
use crate::sim::zfs::dataset::{Dataset, Key};
use crate::sim::zfs::pool::{EXPORTED, Kind, Pool};
use std::collections::BTreeMap;
use std::time::Duration;
use taproot_init::zfs::label::Label;

/// What the program looks at, wherever it is in a reply: it must be in the model's, too.
const READ: [&str; 27] = [
    "name",
    "pool_guid",
    "state",
    "version",
    "vdev_tree",
    "children",
    "spares",
    "l2cache",
    "type",
    "guid",
    "path",
    "is_log",
    "vdev_stats",
    "bootfs",
    "load_info",
    "missing_vdevs",
    "nparity",
    "keystatus",
    "keyformat",
    "keylocation",
    "encryptionroot",
    "pbkdf2salt",
    "createtxg",
    "userrefs",
    "clones",
    "mountpoint",
    "canmount",
];

/// Lines that the model has and that kernel has not, or the other way round, each with its reason.
fn excused(what: &str, line: &str) -> bool {
    // Which dataset comes first is a matter of a hash.
    let first = what == "first of datasets" && line.contains("canmount");
    // Of an import that it does not begin with the kernel gives back what it was given.
    first || matches!(what, "import: wrong guid" | "import: again") && line.contains("load_info")
}

fn small_root(pool: Pool, change: impl Fn(&mut Dataset)) -> Pool {
    let pool = pool.dataset("ROOT", |d| d.set("mountpoint", "none")).dataset("ROOT/default", |d| {
        d.set("mountpoint", "/");
        d.set("canmount", 2);
    });
    let pool =
        pool.dataset("data", |d| d.set("mountpoint", "/data")).dataset("legacy", |d| d.set("mountpoint", "legacy"));
    let mut pool = pool.dataset("ROOT", &change).dataset("ROOT/default", |d| {
        if d.encryption_root.is_none() {
            change(d);
            d.key = None;
        }
    });
    pool.datasets.entry(String::new()).and_modify(|d| d.set("mountpoint", "none"));
    pool.state = EXPORTED;
    pool.bootfs("ROOT/default")
}

/// The pools of the kit that were asked about.
fn machine(version: ZfsVersion) -> Machine {
    let mut machine = Machine::new("");
    machine.zfs = version;
    machine.hostid = 0;
    let psnap = small_root(Pool::new("psnap", 11).disk("/dev/snap0"), |_| ());
    let psnap = psnap.dataset("ROOT/taken", |_| ()).dataset("ROOT/default/var", |d| {
        d.set("mountpoint", "/var");
        d.set("canmount", 1);
    });
    let psnap = psnap.dataset("ROOT/default", |d| {
        d.set("taproot.test:tag", "kept");
        d.snapshot("old", 30);
        d.snapshot("old2", 40);
    });
    machine.add_pool(psnap);
    machine.add_pool(small_root(Pool::new("pmirror", 12).mirror(&["/dev/mirror0", "/dev/mirror1"]), |_| ()));
    let plog = Pool::new("plog", 13).disk("/dev/logdata0").with(Kind::Disk, true, &["/dev/logdev0"]);
    machine.add_pool(small_root(plog, |_| ()));
    let key = Key {
        format: 1,
        location: "file:///etc/keys/praw.raw".into(),
        salt: 0,
        iterations: 0,
        bytes: KEY.to_vec(),
        loaded: false,
    };
    let praw = small_root(Pool::new("praw", 14).disk("/dev/keys1"), |d| {
        d.key = Some(key.clone());
        d.encryption_root = Some("ROOT".into());
    });
    machine.add_pool(praw);
    for name in ["mirror1", "logdev0"] {
        machine.device(name).unwrap().arrives = Duration::MAX;
    }
    machine
}

fn model(version: ZfsVersion) -> Vec<(String, i32, BTreeSet<String>)> {
    let world = World::new(machine(version), vec![]);
    for (fstype, target) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        world.make_dirs(Path::new(target)).unwrap();
        world.mount(fstype, Path::new(target), fstype, 0, "").unwrap();
    }
    world.state().modules.extend(["spl", "zfs"].map(|name| (name.to_owned(), Duration::ZERO)));
    world.pass(Duration::from_secs(5));
    let pools = world.machine().pools;
    let leaves = pools.iter().flat_map(|pool| pool.devices().into_iter().map(move |leaf| (pool, leaf)));
    let seen: Vec<Seen> = leaves
        .filter(|(_, leaf)| world.stat(Path::new(&leaf.path)).is_ok())
        .map(|(pool, leaf)| {
            let config = pool.label(leaf.guid, version).unwrap();
            Seen::sound(leaf.path, Label { config, index: 0 })
        })
        .collect();
    let mut all = Vec::new();
    ask(&world, &seen, &mut |what, errno, lines| all.push((what.to_owned(), errno, lines.clone())));
    all
}

/// A recording: each question in order, with its errno and the lines of its reply.
fn recorded(text: &str) -> Vec<(String, i32, BTreeSet<String>)> {
    let mut all: Vec<(String, i32, BTreeSet<String>)> = Vec::new();
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("  ") {
            all.last_mut().unwrap().2.insert(line.to_owned());
        } else {
            let (what, errno) = line.rsplit_once(": ").unwrap();
            all.push((what.to_owned(), errno.parse().unwrap(), BTreeSet::new()));
        }
    }
    all
}

/// The part of a line that says what is looked at.
fn read(line: &str) -> bool {
    let path = line.split(' ').next().unwrap();
    let path = path.trim_end_matches(".value").trim_end_matches(".source");
    READ.contains(&path.rsplit(['.', ']']).next().unwrap())
}

fn compare(version: ZfsVersion, text: &str) {
    let (kernel, model) = (recorded(text), model(version));
    let questions = |all: &[(String, i32, BTreeSet<String>)]| -> Vec<(String, i32)> {
        all.iter().map(|(what, errno, _)| (what.clone(), *errno)).collect()
    };
    assert_eq!(questions(&model), questions(&kernel), "{version:?}: errnos");
    let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((what, errno, kernel), (_, _, model)) in kernel.iter().zip(&model) {
        let more = model.difference(kernel).map(|line| format!("only in the model: {line}"));
        let less = kernel.difference(model).filter(|line| read(line)).map(|line| format!("only in the kernel: {line}"));
        // The reply of a refused import is the caller's own list but for its load_info.
        let lines = more.chain(less).filter(|line| *errno == 0 || line.contains("load_info"));
        let lines: Vec<String> = lines.filter(|line| !excused(what, line)).collect();
        if !lines.is_empty() {
            wrong.insert(what.clone(), lines);
        }
    }
    assert!(wrong.is_empty(), "{version:?}: {wrong:#?}");
}

#[test]
fn the_model_answers_as_the_kernels_did() {
    compare(ZfsVersion::V2_4, include_str!("../../../golden/zfs2.4/replies"));
    compare(ZfsVersion::V2_3, include_str!("../../../golden/zfs2.3/replies"));
    compare(ZfsVersion::V2_1, include_str!("../../../golden/zfs2.1/replies"));
}
