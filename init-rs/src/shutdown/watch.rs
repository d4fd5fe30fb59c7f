//! The end of a machine whose root lies on a medium that is gone.
//!
//! systemd cannot read then what it has not read before, and waits by its own rules, longer than anybody does, for what hangs. So the
//! boot leaves a unit that runs this program, from memory ([`leave`]). It keeps in memory what systemd needs to come to the
//! end. When the machine is to end, systemd stops it: if what the root lies on can still be read then, it goes. Else it stays, and
//! after [`PATIENCE`] ends the machine itself.

use super::{PROGRAM, end_of, finish, plan, say};
use crate::plan::names;
use crate::sys::{End, Kept, Program, System};
use crate::zfs::ioctl::Zfs;
use crate::zfs::nvlist::NvList;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The program's name in the unit: systemd-shutdown kills no program whose name begins so.
pub const WATCHER: &str = "@taproot-end";
/// The unit, and what starts it.
pub(super) const UNIT: &str = "/run/systemd/system/taproot-end.service";
pub(super) const WANTED: &str = "/run/systemd/system/sysinit.target.wants/taproot-end.service";
/// Where the boot mounts what holds the root.
const PARTS: &str = "/run/taproot";

/// From the moment at which the end was asked for to the end, if the medium is gone.
const PATIENCE: Duration = Duration::from_secs(40);
/// A medium that does not answer within this time is gone.
const ANSWER: Duration = Duration::from_secs(5);

/// What systemd is called with on the way to the end, what loads it, and where users stand. Those that are links lead to one of the
/// others.
const FILES: [&str; 10] = [
    SYSTEMCTL,
    "/usr/lib/systemd/systemd-shutdown",
    "/usr/lib/systemd/systemd-executor",
    "/usr/sbin/reboot",
    "/usr/sbin/poweroff",
    "/usr/sbin/halt",
    "/etc/ld.so.cache",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
];
/// Whom systemctl asks for the end (`/proc/PID/comm`). They start long after this program.
const ASKED: [&str; 4] = ["systemd-logind", "dbus-daemon", "dbus-broker", "dbus-broker-lau"];
/// How long to wait between looks for them, and how often.
const TURN: Duration = Duration::from_secs(60);
const TURNS: u32 = 15;
const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// Units that systemd starts to end the machine begin with its words for that.
const TARGET: &str = ".target";
/// Bytes of files of /proc, and of a list of jobs, that are looked at.
const LONGEST: usize = 4 << 20;

/// Leaves the unit. It is started with everything else that comes first. Units that it names are read then, and not only when the
/// machine is to end.
pub fn leave(system: &dyn System) -> io::Result<()> {
    let text = format!(
        "# Written by taproot for this boot: ends the machine if the medium of its root is gone then.\n\
         [Unit]\nDescription=End of the machine without the medium of its root\nDefaultDependencies=no\n\
         Conflicts=shutdown.target reboot.target poweroff.target halt.target kexec.target\nIgnoreOnIsolate=yes\n\
         [Service]\nExecStart=@{PROGRAM} {WATCHER}\nKillMode=process\nSendSIGKILL=no\nTimeoutStopSec=infinity\n\
         OOMScoreAdjust=-1000\nLimitMEMLOCK=infinity\n"
    );
    let link = Path::new(WANTED);
    link.parent().map_or(Ok(()), |dir| system.make_dirs(dir))?;
    system.write(Path::new(UNIT), text.as_bytes())?;
    // Of an attempt before this one.
    let _ = system.remove(link);
    system.symlink(Path::new(UNIT), link)
}

/// Runs as the watcher; the exit status.
pub fn run(system: &Arc<dyn System>) -> i32 {
    let mut kept = keep(&**system, &wanted(&**system));
    if let Err(e) = stopped(&**system, &mut kept) {
        say(&**system, 4, &format!("the watcher is not told of the end: {e}"));
        return 1;
    }
    let asked = system.now();
    let Some(gone) = gone(system) else { return 0 };
    let end = way(&**system);
    let left = PATIENCE.saturating_sub(system.now().saturating_sub(asked));
    say(&**system, 4, &format!("{gone} does not answer any more; the machine ends within {} s", left.as_secs()));
    system.sleep(left);
    finish(&**system, end.unwrap_or_else(|| becoming(&**system)));
    drop(kept);
    1
}

/// Whatever cannot be kept is read when it is needed, as without us.
fn keep(system: &dyn System, files: &BTreeSet<String>) -> Vec<Kept> {
    files.iter().filter_map(|path| system.keep_in_memory(Path::new(path)).ok()).collect()
}

/// Waits for the end; meanwhile those who are asked for it are kept, too.
fn stopped(system: &dyn System, kept: &mut Vec<Kept>) -> io::Result<()> {
    for _ in 0..TURNS {
        if system.await_stop(Some(TURN))? {
            return Ok(());
        }
        let files = asked(system);
        if !files.is_empty() {
            kept.extend(keep(system, &files));
            break;
        }
    }
    system.await_stop(None).map(drop)
}

/// Files that systemd has mapped, and those that it executes on the way to the end.
fn wanted(system: &dyn System) -> BTreeSet<String> {
    mapped(system, "1").into_iter().chain(FILES.map(str::to_owned)).collect()
}

/// Files that the bus and logind have mapped, if logind is there.
fn asked(system: &dyn System) -> BTreeSet<String> {
    let processes = system.list(Path::new("/proc")).unwrap_or_default();
    let processes = processes.into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let named = processes.map(|process| (system.text(&format!("/proc/{process}/comm")), process));
    let found: Vec<(String, String)> = named.filter(|(name, _)| ASKED.contains(&name.as_str())).collect();
    if !found.iter().any(|(name, _)| name == ASKED[0]) {
        return BTreeSet::new();
    }
    found.iter().flat_map(|(_, process)| mapped(system, process)).collect()
}

/// Files that a process has mapped.
fn mapped(system: &dyn System, process: &str) -> BTreeSet<String> {
    let maps = system.read(Path::new(&format!("/proc/{process}/maps")), LONGEST).unwrap_or_default();
    let maps = String::from_utf8_lossy(&maps);
    maps.lines().filter_map(|line| Some(line.get(line.find('/')?..)?.trim_end().to_owned())).collect()
}

/// What the root lies on that cannot be read any more.
fn gone(system: &Arc<dyn System>) -> Option<String> {
    let mounts = plan::mounts(&system.read(Path::new("/proc/self/mountinfo"), LONGEST).unwrap_or_default());
    let sources: BTreeSet<String> = mounts
        .into_iter()
        .filter(|mount| names::is_within(&mount.place, PARTS))
        .filter_map(|mount| below(&**system, &mount.kind, &mount.source))
        .collect();
    sources.into_iter().find(|source| !within(system, source))
}

/// The device or pool that a mount is of; none of its own for memory, and for what lies on another mount.
fn below(system: &dyn System, kind: &str, source: &str) -> Option<String> {
    if let Some(name) = source.strip_prefix("/dev/loop") {
        // A live medium that is a whole disk with partitions has one.
        let file = system.text(&format!("/sys/block/loop{name}/loop/backing_file"));
        return Some(file).filter(|file| file.starts_with("/dev/"));
    }
    match kind {
        "zfs" => Some(source.split(['/', '@']).next().unwrap_or_default().to_owned()),
        _ if ["/dev/dm-", "/dev/mapper/"].iter().any(|on| source.starts_with(on)) => None,
        _ => Some(source).filter(|source| source.starts_with("/dev/")).map(str::to_owned),
    }
}

/// Whether it answers, and in time.
fn within(system: &Arc<dyn System>, source: &str) -> bool {
    let answered = Arc::new(Mutex::new(false));
    let (worker, slot, source) = (Arc::clone(system), Arc::clone(&answered), source.to_owned());
    let work = move || {
        let answer = answers(&*worker, &source);
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    };
    system.within(ANSWER, Box::new(work)) && *answered.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answers(system: &dyn System, source: &str) -> bool {
    let node = Path::new(source);
    if !source.starts_with('/') {
        return pool_answers(system, source);
    }
    // Of a zvol memory may have it.
    match system.zvol_name(node) {
        Ok(dataset) => pool_answers(system, names::pool_of(&dataset)),
        Err(_) => system.answers(node).is_ok(),
    }
}

/// A pool of which no device answers is gone; the kernel notices when it next writes to it.
fn pool_answers(system: &dyn System, pool: &str) -> bool {
    if system.text(&format!("/proc/spl/kstat/zfs/{pool}/state")) == "SUSPENDED" {
        return false;
    }
    let Ok(config) = Zfs::new(system).pool_stats(pool) else { return false };
    config.list("vdev_tree").is_some_and(|tree| a_leaf_answers(system, tree))
}

fn a_leaf_answers(system: &dyn System, vdev: &NvList) -> bool {
    let children = vdev.lists("children").unwrap_or_default();
    if !children.is_empty() {
        return children.iter().any(|child| a_leaf_answers(system, child));
    }
    vdev.text("path").is_some_and(|path| system.answers(Path::new(&*path)).is_ok())
}

/// In which way the machine is to end, as systemd's list of jobs says.
fn way(system: &dyn System) -> Option<End> {
    let args = ["list-jobs", "--no-legend", "--no-pager", "--plain"].map(str::to_owned).into();
    let program = Program { path: SYSTEMCTL.into(), args, ..Program::default() };
    let jobs = system.run(&program, Some(ANSWER), LONGEST, &mut || false).ok()?;
    named_in(&String::from_utf8_lossy(&jobs.output))
}

fn named_in(jobs: &str) -> Option<End> {
    jobs.split_whitespace().find_map(|word| end_of(word.strip_suffix(TARGET)?))
}

/// What PID 1 is about to do, if it is systemd-shutdown already; else a restart, which brings the machine back at least.
fn becoming(system: &dyn System) -> End {
    let line = system.read(Path::new("/proc/1/cmdline"), 4096).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .skip(1)
        .find_map(|word| end_of(std::str::from_utf8(word).ok()?))
        .unwrap_or(End::Restart)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::{Machine, Tree, otherwise_linux};
    use crate::sys::{ZfsCall, ZfsReply};
    use crate::zfs::calls::POOL_STATS;
    use crate::zfs::nvlist::Value;

    const MOUNTS: &str = "30 1 0:40 / / rw - overlay overlay rw\n\
        31 30 254:16 / /run/taproot/base rw - ext4 /dev/vdb rw\n\
        32 30 7:0 / /run/taproot/layers/base ro - squashfs /dev/loop0 ro\n\
        33 30 253:0 / /run/taproot/layers/top ro - erofs /dev/mapper/taproot-top ro\n\
        34 30 0:50 / /run/taproot/upper rw - zfs tank/upper rw\n\
        35 30 0:51 / /run/taproot/ram ro - tmpfs taproot-layers ro\n\
        36 30 254:99 / /srv rw - ext4 /dev/vdz rw\n";

    /// A machine whose end is asked for, and of whose devices these do not answer.
    struct Asked {
        machine: Machine,
        dead: Vec<&'static str>,
        calls: Mutex<Vec<String>>,
    }

    impl Asked {
        fn new(dead: &[&'static str]) -> Self {
            let leaf = |path: &str| -> NvList { [("path", Value::text(path))].into_iter().collect() };
            let top: NvList =
                [("children", Value::ListArray(vec![leaf("/dev/vdc"), leaf("/dev/vdd")]))].into_iter().collect();
            let root: NvList = [("children", Value::ListArray(vec![top]))].into_iter().collect();
            let config: NvList = [("vdev_tree", Value::List(root))].into_iter().collect();
            let tree = Tree::answering(move |_, call| match call.number {
                POOL_STATS => ZfsReply { dst: config.encode_native(), ..ZfsReply::default() },
                _ => ZfsReply { errno: libc::EINVAL, ..ZfsReply::default() },
            });
            let tree = tree
                .with("/proc/self/mountinfo", MOUNTS)
                .with("/proc/1/cmdline", "/usr/lib/systemd/systemd-shutdown\0poweroff\0--log-level\x006\0")
                .with("/proc/1/maps", "7f0-7f1 r-xp 00000000 00:2f 77     /usr/lib/libc.so.6\n7f2-7f3 rw-p 0 00:00 0\n")
                .with("/proc/70/comm", "dbus-daemon\n")
                .with("/proc/70/maps", "7f0-7f1 r-xp 00000000 00:2f 78     /usr/bin/dbus-daemon\n")
                .with("/proc/71/comm", "systemd-logind\n")
                .with("/proc/71/maps", "7f0-7f1 r-xp 00000000 00:2f 79     /usr/lib/systemd/systemd-logind\n")
                .with("/proc/72/comm", "cron\n")
                .with("/proc/72/maps", "7f0-7f1 r-xp 00000000 00:2f 80     /usr/sbin/cron\n");
            Self { machine: Machine::new(tree), dead: dead.to_vec(), calls: Mutex::default() }
        }

        /// Its end: what was called, and the exit status.
        fn ends(self) -> (Vec<String>, i32) {
            let asked = Arc::new(self);
            let system: Arc<dyn System> = Arc::<Self>::clone(&asked);
            let status = run(&system);
            let calls = asked.calls.lock().unwrap().clone();
            (calls, status)
        }

        fn called(&self, call: String) {
            self.calls.lock().unwrap().push(call);
        }
    }

    impl System for Asked {
        fn zfs(&self, call: &ZfsCall<'_>) -> io::Result<ZfsReply> {
            self.machine.zfs(call)
        }
        fn mount(&self, _: &str, _: &Path, _: &str, _: u64, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn unmount(&self, _: &Path, _: bool) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn keep_in_memory(&self, path: &Path) -> io::Result<Kept> {
            self.called(format!("keep {}", path.display()));
            Err(io::ErrorKind::Unsupported.into())
        }
        fn await_stop(&self, patience: Option<Duration>) -> io::Result<bool> {
            self.called(patience.map_or("stop", |_| "turn").to_owned());
            Ok(patience.is_none())
        }
        fn answers(&self, node: &Path) -> io::Result<()> {
            let dead = self.dead.iter().any(|dead| node == Path::new(dead));
            if dead { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
        }
        fn end_now(&self, how: End) -> io::Result<()> {
            self.called(format!("{how:?} after {} s", self.machine.now().as_secs()));
            Ok(())
        }
        fn on_panic(&self, _: crate::sys::PanicAnswer) {}
        otherwise_linux!(machine);
    }

    #[test]
    fn it_goes_where_everything_answers_or_a_leg_of_a_mirror_does() {
        for dead in [vec![], vec!["/dev/vdc"], vec!["/dev/vdz", "/dev/loop0", "/dev/mapper/taproot-top"]] {
            let (calls, status) = Asked::new(&dead).ends();
            assert_eq!((calls.last().unwrap().as_str(), status), ("stop", 0), "{dead:?}: {calls:?}");
            assert!(
                calls.contains(&"keep /usr/lib/libc.so.6".to_owned()) && calls.contains(&format!("keep {SYSTEMCTL}"))
            );
            // Those who are asked, once they are there.
            let turn = calls.iter().position(|call| call == "turn").unwrap();
            assert_eq!(
                calls.get(turn + 1..).unwrap(),
                ["keep /usr/bin/dbus-daemon", "keep /usr/lib/systemd/systemd-logind", "stop"]
            );
        }
    }

    #[test]
    fn without_the_medium_the_machine_ends_as_it_was_about_to() {
        for dead in [vec!["/dev/vdb"], vec!["/dev/vdc", "/dev/vdd"]] {
            let (calls, _) = Asked::new(&dead).ends();
            assert_eq!(calls.last().unwrap(), "PowerOff after 40 s", "{dead:?}");
        }
        // A live medium that is attached as a file is.
        let mut attached = Asked::new(&["/dev/vdx"]);
        attached.machine.tree = attached.machine.tree.with("/sys/block/loop0/loop/backing_file", "/dev/vdx\n");
        assert_eq!(attached.ends().0.last().unwrap(), "PowerOff after 40 s");
        let mut suspended = Asked::new(&[]);
        suspended.machine.tree = suspended
            .machine
            .tree
            .with("/proc/spl/kstat/zfs/tank/state", "SUSPENDED\n")
            .with("/proc/1/cmdline", "/sbin/init\0");
        assert_eq!(suspended.ends().0.last().unwrap(), "Restart after 40 s");
    }

    #[test]
    fn the_way_stands_among_the_jobs() {
        let jobs =
            "123 home.mount stop running\n130 poweroff.target start waiting\n131 shutdown.target start waiting\n";
        assert_eq!((named_in(jobs), named_in("1 a.target start\n"), named_in("")), (Some(End::PowerOff), None, None));
        for (word, end) in [("reboot", End::Restart), ("halt", End::Halt), ("kexec", End::Kexec)] {
            assert_eq!(named_in(&format!("9 {word}.target start waiting")), Some(end));
        }
    }

    #[test]
    fn the_unit_is_left_once_more() {
        let tree = Tree::new();
        for _attempt in 0..2 {
            leave(&tree).unwrap();
            assert!(tree.text(UNIT).contains("ExecStart=@/run/initramfs/shutdown @taproot-end\n"));
            assert_eq!(tree.read_link(Path::new(WANTED)).unwrap(), Path::new(UNIT));
        }
    }
}
