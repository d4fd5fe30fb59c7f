//! A machine, what is asked of it, and what goes wrong, all from one number.

use super::faults::{Effect, Fault, When};
use super::files::{Node, Tree};
use super::machine::{Holds, Machine, Typed, ZfsVersion};
use super::prng::Prng;
use super::wide::{self, More};
use super::zfs::dataset::{Dataset, Key};
use super::zfs::pool::{ACTIVE, DESTROYED, EXPORTED, Kind, Pool};
use super::{Case, HOSTID};
use std::collections::BTreeMap;
use std::time::Duration;
use taproot_init::image::ExpectedPool;

/// Which root is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// The `bootfs` of whichever pool.
    Auto,
    /// The `bootfs` of this pool.
    Pool(String),
    /// A dataset, by its full name.
    Dataset(String),
    /// A device, as it is spelled, and its name.
    Device(String, String),
}

impl Wish {
    /// As `taproot.fallback=` takes it; `None` for what it does not take.
    fn name(&self) -> Option<&str> {
        match self {
            Self::Dataset(name) => Some(name),
            _ => None,
        }
    }
}

/// What a failure ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// A person is asked.
    Ask,
    /// Restart.
    Restart,
    /// Switch off.
    PowerOff,
}

/// What the command line asks for, as data: the line is made of it, and the oracle reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one field a word")]
pub struct Asked {
    /// The root.
    pub root: Wish,
    /// The fallback.
    pub fallback: Option<Wish>,
    /// Seconds to wait for the pool.
    pub wait: u64,
    /// Whether degraded pools are taken.
    pub degraded: bool,
    /// Whether pools are imported read-only.
    pub read_only: bool,
    /// Whether a missing log is given up.
    pub missing_log: bool,
    /// Whether pools of other systems are taken, named or not.
    pub force: bool,
    /// What a failure ends in.
    pub policy: Policy,
    /// Whether a passphrase may be asked for.
    pub prompt: bool,
    /// What narrow cases leave out.
    pub more: More,
}

/// Passphrase iterations: real ones take half a second of real time.
const ITERATIONS: u64 = 2;
/// The raw key that lies in the image.
const KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";

/// The case of a seed.
pub fn case(seed: u64) -> Case {
    let mut case = narrow(seed);
    wide::widen(&mut case);
    super::lost::widen(&mut case);
    super::scouts::widen(&mut case);
    case
}

/// The same without what came later: a seed makes the same machine as ever.
pub fn narrow(seed: u64) -> Case {
    let mut prng = Prng::new(seed);
    let mut machine = Machine::new("");
    machine.zfs = prng.pick(ZfsVersion::V2_4, &[ZfsVersion::V2_1]);
    let pools = 1 + prng.below(3);
    for number in 0..pools {
        pool(&mut prng, &mut machine, number);
    }
    others(&mut prng, &mut machine);
    let asked = asked(&mut prng, &mut machine);
    machine.cmdline = line(&mut prng, &asked);
    machine.limit = Duration::from_secs(1800);
    let faults = if prng.chance(60) { faults(&mut prng, &machine) } else { Vec::new() };
    Case { seed, machine, asked, faults }
}

fn paths(prng: &mut Prng, number: u64, count: usize, what: &str) -> Vec<String> {
    let by_id = prng.chance(50);
    let name = |n| format!("p{number}{what}{n}");
    (0..count)
        .map(|n| if by_id { format!("/dev/disk/by-id/{}", name(n)) } else { format!("/dev/{}", name(n)) })
        .collect()
}

/// A pool, its datasets, and how its disks do.
fn pool(prng: &mut Prng, machine: &mut Machine, number: u64) {
    let name = ["tank", "rpool", "data"].get(usize::try_from(number).unwrap_or(0)).copied().unwrap_or("more");
    let mut pool = Pool::new(name, 7 + number);
    for top in 0..=prng.below(2) {
        let (kind, count) = prng.pick((Kind::Disk, 1), &[(Kind::Mirror, 2), (Kind::Mirror, 3), (Kind::Raidz(1), 3)]);
        let paths = paths(prng, number, count, &format!("t{top}d"));
        pool = pool.with(kind, false, &paths.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let one = |prng: &mut Prng, what: &str| paths(prng, number, 1, what).pop().unwrap_or_default();
    if prng.chance(15) {
        let path = one(prng, "log");
        pool = pool.with(Kind::Disk, true, &[&path]);
    }
    if prng.chance(10) {
        pool = pool.with(Kind::Indirect, false, &[]);
    }
    if prng.chance(15) {
        pool = pool.spare(&one(prng, "spare"));
    }
    if prng.chance(15) {
        pool = pool.cache(&one(prng, "cache"));
    }
    pool.state = prng.pick(ACTIVE, &[ACTIVE, ACTIVE, ACTIVE, EXPORTED, EXPORTED, DESTROYED]);
    pool.hostid = prng.pick(HOSTID, &[HOSTID, HOSTID, HOSTID, 0, 0xbad]);
    if prng.chance(5) {
        pool.unsupported = vec!["org.example:new".to_owned()];
        pool.can_read = prng.chance(50);
    }
    if prng.chance(5) {
        pool.multihost = true;
        pool.elsewhere = prng.chance(50);
    }
    let pool = datasets(prng, machine, pool);
    machine.add_pool(pool);
    let disks: Vec<String> =
        machine.pools.last().map(Pool::devices).unwrap_or_default().into_iter().map(|leaf| leaf.path).collect();
    for path in disks {
        trouble(prng, machine, &path);
    }
}

/// What may be wrong with a disk: it comes late, never, or does not answer.
fn trouble(prng: &mut Prng, machine: &mut Machine, path: &str) {
    if !prng.chance(12) {
        return;
    }
    let link = path.strip_prefix("/dev/disk/").unwrap_or("-").to_owned();
    let node = path.strip_prefix("/dev/").unwrap_or(path).to_owned();
    let Some(device) = machine.devices.iter_mut().find(|d| d.links.contains(&link) || d.name == node) else { return };
    match prng.below(4) {
        0 => device.answers = None,
        1 => device.arrives = Duration::MAX,
        2 => device.arrives = Duration::from_millis(1000 + prng.below(4000)),
        _ => device.answers = Some(Duration::from_millis(prng.below(5000))),
    }
}

/// Boot environments, a home, perhaps a key.
fn datasets(prng: &mut Prng, machine: &mut Machine, pool: Pool) -> Pool {
    let locked = prng.pick(0, &[0, 0, 0, 0, 1, 3]);
    let key = (locked != 0).then(|| {
        let location = if locked == 1 { "file:///etc/root.key" } else { "prompt" };
        let bytes = if locked == 1 { KEY.to_vec() } else { derived() };
        Key { format: locked, location: location.to_owned(), salt: 1, iterations: ITERATIONS, bytes, loaded: false }
    });
    if locked == 1 && prng.chance(70) {
        machine.files.put("etc/root.key", Node::File(KEY.to_vec(), 0o600));
    }
    if locked == 3 && prng.chance(70) {
        machine.person.push(Typed::line("assphrase", if prng.chance(80) { "secret" } else { "wrong" }));
    }
    let fstab = if prng.chance(20) { "LABEL=data /data ext4 defaults,nofail 0 0\n" } else { "" };
    let root = |d: &mut Dataset| {
        d.set("mountpoint", "/");
        d.set("canmount", 2);
        d.encryption_root = key.as_ref().map(|_| "ROOT".to_owned());
        d.tree = Tree::system(fstab);
        d.snapshot("clean", 10);
    };
    let mut pool = pool.dataset("ROOT", |d| {
        d.set("mountpoint", "none");
        d.key.clone_from(&key);
        d.encryption_root = key.as_ref().map(|_| "ROOT".to_owned());
    });
    pool = pool.dataset("ROOT/a", root).dataset("ROOT/b", root);
    if prng.chance(10) {
        pool = pool.dataset("ROOT/b", |d| d.tree = Tree::default());
    }
    if prng.chance(50) {
        pool = pool.dataset("home", |d| d.set("mountpoint", "/home"));
    }
    pool = pool.dataset("vol", |d| d.volume = true);
    match prng.below(6) {
        0 => pool,
        1 => pool.bootfs("ROOT/b"),
        _ => pool.bootfs("ROOT/a"),
    }
}

/// The key of the passphrase `secret`.
fn derived() -> Vec<u8> {
    use taproot_init::unlock::derive::key;
    use taproot_init::zfs::keys::{Encryption, KeyFormat};
    let facts = Encryption {
        root: String::new(),
        format: Some(KeyFormat::Passphrase),
        location: "prompt".to_owned(),
        salt: 1,
        iterations: ITERATIONS,
        available: false,
    };
    key(&facts, b"secret").map(|key| key.bytes().to_vec()).unwrap_or_default()
}

/// Disks that have nothing to do with pools.
fn others(prng: &mut Prng, machine: &mut Machine) {
    let system = |kind: &str, uuid: &str, label: &str, tree: Tree| Holds::Filesystem {
        kind: kind.to_owned(),
        uuid: uuid.to_owned(),
        label: label.to_owned(),
        tree,
    };
    if prng.chance(30) {
        let kind = prng.pick("ext4", &["xfs", "btrfs"]);
        machine.add("plain0", system(kind, "1234-abcd", "plain", Tree::system("")));
        trouble(prng, machine, "/dev/plain0");
    }
    if prng.chance(20) {
        machine.add("other0", system("ext4", "5678", "data", Tree::default()));
        trouble(prng, machine, "/dev/other0");
    }
    for number in 0..prng.pick(0, &[0, 1, 9]) {
        machine.add(&format!("dead{number}"), Holds::Nothing).answers = None;
    }
    if prng.chance(10) {
        machine.add("bad0", Holds::Damaged("wrong checksum".to_owned()));
    }
    if prng.chance(20) {
        machine.firmware = Some(BTreeMap::new());
    }
    if prng.chance(5) {
        machine.modules.remove("zfs");
    }
}

fn wish(prng: &mut Prng, machine: &Machine) -> Wish {
    let count = machine.pools.len() as u64;
    let at = usize::try_from(prng.below(count)).unwrap_or(0);
    let name = machine.pools.get(at).map_or("tank", |pool| pool.name.as_str());
    let plain = machine.devices.iter().any(|d| d.name == "plain0");
    match prng.below(12) {
        0..=4 => Wish::Auto,
        5 | 6 => Wish::Pool(name.to_owned()),
        7 => Wish::Dataset(format!("{name}/nosuch")),
        8 => Wish::Dataset(format!("{name}/vol")),
        9 if plain => {
            let spelled = prng.pick("UUID=1234-ABCD", &["LABEL=plain", "/dev/plain0", "/dev/disk/by-id/virtio-plain0"]);
            Wish::Device(spelled.to_owned(), "plain0".to_owned())
        }
        9 => Wish::Device("UUID=none".to_owned(), "none".to_owned()),
        10 => Wish::Dataset(format!("{name}/ROOT/b")),
        _ => Wish::Dataset(format!("{name}/ROOT/a")),
    }
}

fn asked(prng: &mut Prng, machine: &mut Machine) -> Asked {
    let root = wish(prng, machine);
    let policy = prng.pick(Policy::Ask, &[Policy::Ask, Policy::Restart, Policy::PowerOff]);
    let fallback = prng.chance(25).then(|| wish(prng, machine)).filter(|wish| wish.name().is_some());
    if prng.chance(40) {
        let expected = machine.pools.iter().take(2).map(|pool| ExpectedPool {
            name: pool.name.clone(),
            guid: pool.guid,
            vdevs: Vec::new(),
        });
        machine.image.pools = expected.collect();
    }
    Asked {
        root,
        fallback,
        wait: prng.pick(30, &[30, 10, 60]),
        degraded: !prng.chance(10),
        read_only: prng.chance(8),
        missing_log: prng.chance(15),
        force: prng.chance(10),
        policy,
        prompt: policy == Policy::Ask,
        more: More::default(),
    }
}

/// One of the ways in which people say it.
fn line(prng: &mut Prng, asked: &Asked) -> String {
    let mut words = Vec::new();
    words.push(match &asked.root {
        Wish::Auto => prng.pick("root=zfs:AUTO", &["", "zfs=bootfs", "root=zfs"]).to_owned(),
        Wish::Pool(pool) => format!("zfs={pool}"),
        Wish::Dataset(name) => {
            prng.pick(format!("root=ZFS={name}"), &[format!("root=zfs:{name}"), format!("zfs={name}")])
        }
        Wish::Device(spelled, _) => format!("root={spelled}"),
    });
    words.extend(asked.fallback.as_ref().and_then(Wish::name).map(|name| format!("taproot.fallback={name}")));
    if asked.wait != 30 {
        words.push(format!("taproot.wait={}", asked.wait));
    }
    let switches = [
        (!asked.degraded, "taproot.degraded=no"),
        (asked.read_only, "taproot.import=ro"),
        (asked.missing_log, "taproot.missing_log=yes"),
        (asked.force, "taproot.hostid=force"),
        (asked.policy == Policy::Restart, "taproot.rescue=reboot:5"),
        (asked.policy == Policy::PowerOff, "taproot.rescue=poweroff:5"),
    ];
    words.extend(switches.into_iter().filter(|(on, _)| *on).map(|(_, word)| word.to_owned()));
    words.push(prng.pick("ro", &["rw", "quiet", ""]).to_owned());
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// One to three things that go wrong.
fn faults(prng: &mut Prng, machine: &Machine) -> Vec<Fault> {
    let count = 1 + prng.below(3);
    (0..count).map(|_| fault(prng, machine)).collect()
}

fn fault(prng: &mut Prng, machine: &Machine) -> Fault {
    // A boot makes some hundred calls.
    let anywhere = When::Call(usize::try_from(prng.below(500)).unwrap_or(0));
    let slow = ["zfs IMPORT", "zfs EXPORT", "mount"];
    let others = ["zfs IMPORT", "zfs EXPORT", "mount", "zfs OBJSET_STATS", "zfs LOAD_KEY", "zfs POOL_CONFIGS", "run"];
    let of_kind = |prng: &mut Prng, kinds: &[&'static str]| {
        let kind = prng.pick("zfs TRYIMPORT", kinds).to_owned();
        When::Kind(kind, usize::try_from(prng.below(4)).unwrap_or(0))
    };
    match prng.below(12) {
        0..=3 => {
            let errno = prng.pick(libc::EIO, &[libc::ENOMEM, libc::ENOENT, libc::EBUSY, libc::EACCES, libc::EINTR]);
            Fault { when: anywhere, effect: Effect::Errno(errno) }
        }
        4..=6 => {
            let errno = prng.pick(libc::EIO, &[libc::ENXIO, libc::EBUSY, libc::EAGAIN, libc::ENOMEM]);
            Fault { when: of_kind(prng, &others), effect: Effect::Errno(errno) }
        }
        7 => Fault { when: of_kind(prng, &slow), effect: Effect::Late(Duration::from_secs(prng.below(60))) },
        8 => Fault { when: of_kind(prng, &slow), effect: Effect::Never },
        9 => {
            let at = usize::try_from(prng.below(machine.devices.len() as u64)).unwrap_or(0);
            let name = machine.devices.get(at).map(|device| device.name.clone()).unwrap_or_default();
            Fault { when: anywhere, effect: Effect::Gone(name) }
        }
        10 => Fault {
            when: When::Kind("hear_scout".to_owned(), usize::try_from(prng.below(60)).unwrap_or(0)),
            effect: Effect::NoScouts(1),
        },
        _ => Fault { when: anywhere, effect: Effect::PowerCut },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_case() {
        for seed in 0..50 {
            assert_eq!(format!("{:?}", case(seed)), format!("{:?}", case(seed)));
        }
        assert_ne!(narrow(1).machine.cmdline, narrow(4).machine.cmdline);
    }

    #[test]
    fn every_word_is_understood() {
        for seed in 0..2000 {
            let case = case(seed);
            let request = taproot_init::cmdline::parse(case.machine.cmdline.as_bytes());
            assert!(request.problems.is_empty() && request.notes.is_empty(), "{}: {request:?}", case.machine.cmdline);
        }
    }
}
