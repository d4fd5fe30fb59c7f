//! What the narrow cases of [`super::seed`] leave out, from a second stream of the same seed: snapshots, hibernation, people,
//! checks, key devices, partitions, hostids, plain roots to fall back to, more datasets.

use super::faults::{Effect, Fault};
use super::files::{Node, Tree};
use super::machine::{Device, Holds, Machine, ProgramSpec, Typed};
use super::prng::Prng;
use super::seed::{Policy, Wish};
use super::zfs::dataset::Dataset;
use super::{Case, HOSTID, later};
use std::time::Duration;
use taproot_init::devices::known::Partition;

/// UUID of the swap space, as firmware and command line have it.
pub(super) const SWAP: &str = "11111111-2222-3333-4444-555555555555";
/// The device of the swap space.
const SWAP_DEVICE: &str = "swap0";
/// The firmware's note of a hibernated system.
const NOTE: &str = "HibernateLocation-8cf2644b-4b0b-428f-9387-6d876050dc67";
/// How long the device of `resume=` is waited for where no word says it, and so is that of a key.
const WAITED: Duration = Duration::from_secs(10);
/// The prompt of the rescue.
const PROMPT: &str = "(taproot) #";

/// How the swap space is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// By its UUID, which somebody has to read.
    Uuid,
    /// By its path.
    Path,
    /// There is no such device, or nobody can tell what is meant.
    Nothing,
}

/// What a person types after a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// `reboot`.
    Reboot,
    /// `poweroff`.
    PowerOff,
    /// `retry`.
    Retry,
    /// `boot` with this name.
    Boot(String),
    /// `retry` with words.
    Words(later::Change),
}

/// What is asked for besides. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one field a word")]
pub struct More {
    /// The snapshot behind the root.
    pub snapshot: Option<String>,
    /// Whether the root is rolled back to it instead of cloned.
    pub rollback: bool,
    /// `bootfs.rollback=`.
    pub rollback_to: Option<String>,
    /// Whether a rollback may destroy.
    pub destroy_newer: bool,
    /// Whether a snapshot is taken.
    pub take: bool,
    /// `resume=`, or what the firmware notes.
    pub resume: Option<Named>,
    /// `noresume`.
    pub noresume: bool,
    /// This system's hostid.
    pub hostid: Option<u32>,
    /// Whether a device with keys is named.
    pub key_device: bool,
    /// `fsck.mode=skip`.
    pub skip_fsck: bool,
    /// The root that a person chooses from the menu.
    pub chosen: Option<String>,
    /// What a person types after a failure.
    pub then: Option<Then>,
}

impl More {
    /// The system's hostid.
    pub fn hostid(&self) -> u32 {
        self.hostid.unwrap_or(HOSTID)
    }

    /// Whether a word asks for a call that changes a pool (a name of `zfs/mod.rs`).
    pub fn asks_for(&self, call: &str) -> bool {
        let clones = self.snapshot.is_some() && !self.rollback;
        let rolls_back = self.rollback || self.rollback_to.is_some();
        match call {
            "CLONE" | "SET_PROP" | "DESTROY" => clones,
            "ROLLBACK" => rolls_back,
            "DESTROY_SNAPS" => rolls_back && self.destroy_newer,
            "SNAPSHOT" => self.take,
            _ => false,
        }
    }
}

/// Makes a narrow case wider, most times.
pub fn widen(case: &mut Case) {
    let mut prng = Prng::new(case.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x0077_1de5);
    if prng.chance(30) {
        return;
    }
    let mut words: Vec<String> = Vec::new();
    for part in [plain_root, snapshots, more_datasets, hibernation, checks, key_device, hostid, fallback, people] {
        words.extend(part(&mut prng, case));
    }
    if prng.chance(2) {
        case.faults.push(Fault::at("hand_over", 0, Effect::Errno(libc::ENOEXEC)));
    }
    words.insert(0, std::mem::take(&mut case.machine.cmdline));
    words.retain(|word| !word.is_empty());
    case.machine.cmdline = words.join(" ");
    later::widen(case);
}

type Words = Vec<String>;

/// The word that names the root is the first of the line, if there is one.
fn name_root(case: &mut Case, change: impl FnOnce(&str) -> String) {
    let line = std::mem::take(&mut case.machine.cmdline);
    let (first, rest) = line.split_once(' ').unwrap_or((&line, ""));
    let names = first.starts_with("root=") || first.starts_with("zfs=");
    let (first, rest) = if names { (first, rest) } else { ("", line.as_str()) };
    format!("{} {rest}", change(first)).trim().clone_into(&mut case.machine.cmdline);
}

/// The plain root is a partition, and is asked for more often.
fn plain_root(prng: &mut Prng, case: &mut Case) -> Words {
    let wanted = prng.chance(40);
    let Some(device) = case.machine.device("plain0").filter(|_| wanted) else { return Words::new() };
    let uuid = "0b5e1f6a-02".to_owned();
    device.partition = Some(Partition { number: 2, start: 1 << 20, uuid, label: "root".to_owned() });
    let spelled = prng.pick("PARTUUID=0B5E1F6A-02", &["PARTLABEL=root", "UUID=1234-ABCD", "LABEL=plain"]);
    case.asked.root = Wish::Device(spelled.to_owned(), "plain0".to_owned());
    name_root(case, |_| format!("root={spelled}"));
    Words::new()
}

/// A snapshot behind the root, or one that it is rolled back to.
fn snapshots(prng: &mut Prng, case: &mut Case) -> Words {
    let mut words = Words::new();
    if !prng.chance(30) {
        return words;
    }
    let at = usize::try_from(prng.below(case.machine.pools.len() as u64)).unwrap_or(0);
    let Some(pool) = case.machine.pools.get_mut(at) else { return words };
    let short = prng.pick("ROOT/a", &["ROOT/b"]);
    let name = pool.full(short);
    if let Some(dataset) = pool.datasets.get_mut(short)
        && prng.chance(40)
    {
        dataset.snapshot("newer", 20);
        if let Some(newer) = dataset.snapshots.get_mut("newer").filter(|_| prng.chance(20)) {
            newer.holds = 1;
        }
    }
    if prng.chance(15) {
        let taken = Dataset { tree: Tree::system(""), ..Dataset::new(30) };
        pool.datasets.insert(format!("{short}_clean"), taken);
    }
    let snapshot = prng.pick("clean", &["clean", "clean", "none"]);
    let more = &mut case.asked.more;
    more.destroy_newer = prng.chance(50);
    more.take = prng.chance(30);
    let mut behind = String::new();
    match prng.below(4) {
        0 => more.rollback_to = Some(snapshot.to_owned()),
        1 => more.rollback = true,
        _ => {}
    }
    if more.rollback_to.is_none() && (more.rollback || !more.take) {
        more.snapshot = Some(snapshot.to_owned());
        behind = format!("@{snapshot}");
    }
    words.extend(more.rollback_to.iter().map(|to| format!("bootfs.rollback={to}")));
    let switches = [
        (more.rollback, "rollback=on"),
        (more.destroy_newer, "taproot.destroy_newer=yes"),
        (more.take, "bootfs.snapshot=before"),
    ];
    words.extend(switches.into_iter().filter(|(on, _)| *on).map(|(_, word)| word.to_owned()));
    case.asked.root = Wish::Dataset(name.clone());
    name_root(case, |_| format!("root=ZFS={name}{behind}"));
    words
}

/// Datasets of the system, and lines of its fstab.
fn more_datasets(prng: &mut Prng, case: &mut Case) -> Words {
    let lines = [
        "LABEL=data /usr ext4 defaults 0 0\n",
        "tank/home /home zfs defaults 0 0\n",
        "tmpfs /usr/tmp tmpfs size=1M 0 0\n",
        "LABEL=plain /srv auto x-initrd.mount,nofail 0 0\n",
    ];
    for pool in &mut case.machine.pools {
        let root = pool.datasets.get("ROOT/a").and_then(|d| d.encryption_root.clone());
        for (short, chance) in [("ROOT/a/var", 30), ("ROOT/a/var/log", 20), ("home/me", 20)] {
            if prng.chance(chance) {
                *pool = pool.clone().dataset(short, |d| {
                    if short.starts_with("ROOT") {
                        d.encryption_root.clone_from(&root);
                    }
                    d.snapshot("clean", 10);
                });
            }
        }
        let fstab: String = lines.iter().filter(|_| prng.chance(15)).copied().collect();
        if !fstab.is_empty() {
            for short in ["ROOT/a", "ROOT/b"] {
                if let Some(dataset) = pool.datasets.get_mut(short)
                    && dataset.tree.get("sbin/init").is_some()
                {
                    dataset.tree.text("etc/fstab", &fstab);
                }
            }
        }
    }
    Words::new()
}

/// Notes it in the firmware, as systemd does.
pub(super) fn note(machine: &mut Machine, text: &str) {
    let data = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    machine.firmware.get_or_insert_default().insert(NOTE.to_owned(), data);
}

/// Swap space, perhaps with an image, and who says so.
fn hibernation(prng: &mut Prng, case: &mut Case) -> Words {
    let mut words = Words::new();
    if !prng.chance(25) {
        return words;
    }
    let image = prng.pick(None, &[None, Some("S1SUSPEND"), Some("S1SUSPEND"), Some("ULSUSPEND")]).map(str::to_owned);
    let device = case.machine.add(SWAP_DEVICE, Holds::Swap { uuid: SWAP.to_owned(), image });
    // Before any other: what is looked for first must not depend on milliseconds.
    device.arrives = Duration::from_millis(540);
    match prng.below(10) {
        0 => device.arrives = Duration::MAX,
        1 => device.arrives = Duration::from_secs(4),
        2 | 3 => device.answers = None,
        _ => {}
    }
    let late = device.arrives > Duration::from_secs(1);
    let named = prng.pick(Named::Uuid, &[Named::Path, Named::Uuid, Named::Path, Named::Nothing]);
    let more = &mut case.asked.more;
    more.resume = Some(named);
    // Whether an image is discarded on a device that comes meanwhile is a matter of milliseconds.
    more.noresume = !late && prng.chance(35);
    if more.noresume {
        words.push(prng.pick("noresume", &["hibernate=noresume"]).to_owned());
    }
    // A note that a fault hides is not obeyed.
    if named != Named::Path && case.faults.is_empty() && prng.chance(30) {
        let text = if named == Named::Uuid { format!("{{\"uuid\":\"{SWAP}\",\"offset\":0}}") } else { "{}".to_owned() };
        note(&mut case.machine, &text);
        return words;
    }
    words.push(match named {
        Named::Uuid => format!("resume=UUID={SWAP}"),
        Named::Path => format!("resume=/dev/{SWAP_DEVICE}"),
        Named::Nothing => prng.pick("resume=LABEL=none", &["resume=/dev/nosuch"]).to_owned(),
    });
    words
}

/// A program that checks file systems, and what it comes to.
fn checks(prng: &mut Prng, case: &mut Case) -> Words {
    if !prng.chance(50) {
        return Words::new();
    }
    let spec = ProgramSpec {
        takes: Some(Duration::from_secs(prng.below(20))),
        output: "plain: recovering journal\n".to_owned(),
        status: prng.pick(0, &[0, 1, 2, 3, 4, 8, 12]),
    };
    case.machine.programs.insert("/sbin/fsck.ext4".to_owned(), spec);
    case.asked.more.skip_fsck = prng.chance(15);
    if case.asked.more.skip_fsck { vec!["fsck.mode=skip".to_owned()] } else { Words::new() }
}

/// A stick with the key.
fn key_device(prng: &mut Prng, case: &mut Case) -> Words {
    if !prng.chance(25) {
        return Words::new();
    }
    let key = case.machine.pools.iter().find_map(|pool| pool.key_of("ROOT").filter(|(_, key)| key.format == 1));
    let Some(key) = key.map(|(_, key)| key.bytes.clone()) else { return Words::new() };
    let mut tree = Tree::default();
    tree.put("keys/root.key", Node::File(key, 0o600));
    let (kind, uuid, label) = ("vfat".to_owned(), "AB-CD".to_owned(), "stick".to_owned());
    let device = case.machine.add("stick0", Holds::Filesystem { kind, uuid, label, tree });
    match prng.below(6) {
        0 => device.answers = None,
        1 => device.arrives = Duration::MAX,
        2 => device.arrives = Duration::from_secs(1 + prng.below(4)),
        _ => {}
    }
    case.asked.more.key_device = true;
    vec![format!("taproot.key={}:/keys/root.key", prng.pick("LABEL=stick", &["UUID=AB-CD", "/dev/stick0"]))]
}

/// The system's hostid from a word.
fn hostid(prng: &mut Prng, case: &mut Case) -> Words {
    // Where it cannot be set the packed one counts.
    if !case.faults.is_empty() || !prng.chance(10) {
        return Words::new();
    }
    case.asked.more.hostid = Some(0xbad);
    vec!["spl_hostid=00000bad".to_owned()]
}

/// A plain root to fall back to.
fn fallback(prng: &mut Prng, case: &mut Case) -> Words {
    let free = case.asked.fallback.is_none() && case.machine.device("plain0").is_some();
    if !free || !prng.chance(40) {
        return Words::new();
    }
    let spelled = prng.pick("UUID=1234-ABCD", &["LABEL=plain", "/dev/plain0"]);
    case.asked.fallback = Some(Wish::Device(spelled.to_owned(), "plain0".to_owned()));
    vec![format!("taproot.fallback={spelled}")]
}

/// Stops, a menu, and a person who types.
fn people(prng: &mut Prng, case: &mut Case) -> Words {
    let mut words = Words::new();
    let Case { machine, asked, .. } = case;
    if prng.chance(15) {
        let stages = prng.pick("mount", &["start", "import", "handover", "start,mount"]);
        words.push(format!("taproot.break={stages}"));
        machine.person.extend(stages.split(',').map(|_| Typed::line(PROMPT, "continue")));
    }
    let at = usize::try_from(prng.below(machine.pools.len() as u64)).unwrap_or(0);
    let name = machine.pools.get(at).map_or_else(|| "tank/nosuch".to_owned(), |pool| pool.full("ROOT/b"));
    if prng.chance(12) {
        words.push("taproot.menu=5".to_owned());
        if prng.chance(60) && asked.policy == Policy::Ask {
            machine.person.push(Typed::line("Enter boots", &name));
            asked.more.chosen = Some(name.clone());
        }
    }
    if asked.policy == Policy::Ask && prng.chance(30) {
        let (line, then) = prng.pick(
            ("reboot".to_owned(), Then::Reboot),
            &[
                ("poweroff".to_owned(), Then::PowerOff),
                ("retry".to_owned(), Then::Retry),
                (format!("boot {name}"), Then::Boot(name.clone())),
            ],
        );
        machine.person.push(Typed::line(PROMPT, &line));
        asked.more.then = Some(then);
    }
    words
}

/// What an oracle has to know of a hibernated system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// There is none, or nobody asks.
    None,
    /// It is resumed.
    Resumed,
    /// It is not known, or cannot be resumed.
    Unsettled,
    /// It cannot be discarded.
    Kept,
}

fn swap(machine: &Machine) -> Option<&Device> {
    machine.devices.iter().find(|device| device.name == SWAP_DEVICE)
}

/// Whether a disk never answers. When it comes decides whether it is known before a system is resumed.
pub fn silent(case: &Case) -> bool {
    case.machine.devices.iter().any(|device| device.answers.is_none() && device.arrives < Duration::MAX)
}

/// What is to become of the image.
pub fn image(case: &Case) -> Image {
    let Some(named) = case.asked.more.resume else { return Image::None };
    let there = swap(&case.machine).filter(|device| device.arrives < WAITED && named != Named::Nothing);
    if case.asked.more.noresume {
        let silent = there.is_some_and(|device| device.answers.is_none());
        return if silent && named == Named::Path { Image::Kept } else { Image::None };
    }
    match there.filter(|device| device.answers.is_some()).map(|device| &device.holds) {
        Some(Holds::Swap { image: None, .. }) => Image::None,
        Some(Holds::Swap { image: Some(image), .. }) if image == "S1SUSPEND" => Image::Resumed,
        _ => Image::Unsettled,
    }
}

/// Whether a hibernated system relies on the pools as they are, and the command line or the firmware says where it is.
pub fn relied_on(case: &Case) -> bool {
    // Whoever types that no system is to be resumed has said yes to what follows.
    if matches!(case.asked.more.then, Some(Then::Words(later::Change::NoResume | later::Change::Resume))) {
        return false;
    }
    let image = |device: &Device| matches!(device.holds, Holds::Swap { image: Some(_), .. });
    let told = case.machine.cmdline.contains("resume=UUID=") || case.machine.cmdline.contains("resume=/dev/swap");
    let noted = case.machine.firmware.as_ref().is_some_and(|variables| variables.contains_key(NOTE));
    (told || (noted && case.asked.more.resume == Some(Named::Uuid)))
        && !case.asked.more.noresume
        && swap(&case.machine).is_some_and(image)
}

/// Whether the stick with the key is there when it is wanted.
pub fn key_there(case: &Case) -> bool {
    let stick = case.machine.devices.iter().find(|device| device.name == "stick0");
    case.asked.more.key_device && stick.is_some_and(|device| device.answers.is_some() && device.arrives < WAITED)
}
