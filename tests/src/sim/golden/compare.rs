//! What real kernels answered, against the model and against each other.

use super::{KEY, ask};
use crate::sim::machine::{Machine, ZfsVersion};
use crate::sim::world::World;
use crate::sim::zfs::dataset::{Dataset, Key};
use crate::sim::zfs::pool::{EXPORTED, Kind, Pool};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use taproot_init::sys::System as _;
use taproot_init::zfs::assemble::Seen;
use taproot_init::zfs::label::Label;

/// One question, its errno, and what the reply has.
struct Answer {
    what: String,
    errno: i32,
    lines: BTreeSet<String>,
}

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
        if let Some(device) = machine.device(name) {
            device.arrives = Duration::MAX;
        }
    }
    machine
}

/// What the model of this version answers.
fn model(version: ZfsVersion) -> Vec<Answer> {
    let world = World::new(machine(version), vec![]);
    for (fstype, target) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        let target = Path::new(target);
        let _ = world.make_dirs(target).and_then(|()| world.mount(fstype, target, fstype, 0, ""));
    }
    world.state().modules.extend(["spl", "zfs"].map(|name| (name.to_owned(), Duration::ZERO)));
    world.pass(Duration::from_secs(5));
    let pools = world.machine().pools;
    let leaves = pools.iter().flat_map(|pool| pool.devices().into_iter().map(move |leaf| (pool, leaf)));
    let seen: Vec<Seen> = leaves
        .filter(|(_, leaf)| world.stat(Path::new(&leaf.path)).is_ok())
        .filter_map(|(pool, leaf)| {
            let config = pool.label(leaf.guid, version)?;
            Some(Seen::sound(leaf.path, Label::new(config, 0)))
        })
        .collect();
    let mut all = Vec::new();
    let mut say = |what: &str, errno, lines: &BTreeSet<String>| {
        all.push(Answer { what: what.to_owned(), errno, lines: lines.clone() });
    };
    ask(&world, &seen, &mut say);
    all
}

/// A recording: each question in order, with its errno and the lines of its reply.
fn recorded(text: &str) -> Vec<Answer> {
    let mut all: Vec<Answer> = Vec::new();
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("  ") {
            if let Some(answer) = all.last_mut() {
                answer.lines.insert(line.to_owned());
            }
        } else if let Some((what, errno)) = line.rsplit_once(": ") {
            // A number that is none differs from every errno.
            let errno = errno.parse().unwrap_or(i32::MIN);
            all.push(Answer { what: what.to_owned(), errno, lines: BTreeSet::new() });
        }
    }
    all
}

/// The part of a line that says what is looked at.
fn read(line: &str) -> bool {
    let path = line.split(' ').next().unwrap_or_default();
    let path = path.trim_end_matches(".value").trim_end_matches(".source");
    READ.contains(&path.rsplit(['.', ']']).next().unwrap_or_default())
}

/// The questions with their errnos, where they are not the same.
fn other_errnos(expected: &[Answer], found: &[Answer]) -> Vec<String> {
    let line = |answer: Option<&Answer>| answer.map_or("nothing".to_owned(), |a| format!("{}: {}", a.what, a.errno));
    let pairs = (0..expected.len().max(found.len())).map(|n| (line(expected.get(n)), line(found.get(n))));
    let other = pairs.filter(|(expected, found)| expected != found);
    other.map(|(expected, found)| format!("expected {expected}; found {found}")).collect()
}

/// What stands in one of two lists of answers and should stand in both, a line each.
fn differences<'a>(pairs: impl Iterator<Item = (&'a Answer, Vec<String>)>) -> Vec<String> {
    let lines = pairs.flat_map(|(answer, lines)| {
        // The reply of a refused import is the caller's own list but for its load_info.
        let lines = lines.into_iter().filter(|line| answer.errno == 0 || line.contains("load_info"));
        lines.filter(|line| !excused(&answer.what, line)).map(|line| format!("{}: {line}", answer.what))
    });
    lines.collect()
}

/// Where the model does not answer as this recording says that the kernel did, a line each: what the program reads must be there, and
/// nothing that the kernel does not tell.
pub fn against_the_model(version: ZfsVersion, kernel: &str) -> Vec<String> {
    let (kernel, model) = (recorded(kernel), model(version));
    let other = other_errnos(&kernel, &model);
    if !other.is_empty() {
        return other;
    }
    differences(kernel.iter().zip(&model).map(|(kernel, model)| {
        let more = model.lines.difference(&kernel.lines).map(|line| format!("only in the model: {line}"));
        let less = kernel.lines.difference(&model.lines).filter(|line| read(line));
        (kernel, more.chain(less.map(|line| format!("only in the kernel: {line}"))).collect())
    }))
}

/// Where the kernel does not answer as it did when this was recorded, a line each, as far as the program reads it.
pub fn against_a_recording(before: &str, now: &str) -> Vec<String> {
    let (before, now) = (recorded(before), recorded(now));
    let other = other_errnos(&before, &now);
    if !other.is_empty() {
        return other;
    }
    differences(before.iter().zip(&now).map(|(before, now)| {
        let changed = before.lines.symmetric_difference(&now.lines).filter(|line| read(line));
        let of = |line: &String| if now.lines.contains(line) { "only now" } else { "only in the recording" };
        (before, changed.map(|line| format!("{}: {line}", of(line))).collect())
    }))
}
