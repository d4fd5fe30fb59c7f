//! A layered Debian is given back, and a machine ends whatever its disks do.

use super::plan::{self, Action, Held};
use super::*;
use crate::sys::fake::{Tree, otherwise_linux};
use crate::sys::{FileKind, ZfsCall, ZfsReply};
use crate::zfs::calls::{POOL_CONFIGS, POOL_EXPORT};
use crate::zfs::nvlist::{NvList, Value};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What systemd leaves of a Debian whose root is an overlay of layers in a dataset, with an upper in another.
const LAYERED: &str = "\
1 1 0:2 / / rw - rootfs none rw
90 1 0:24 /initramfs / rw,nosuid,nodev shared:1 master:2 - tmpfs tmpfs rw,size=1g
91 90 0:6 / /dev rw - devtmpfs udev rw
92 91 0:23 / /dev/pts rw - devpts devpts rw
93 90 0:21 / /proc rw - proc proc rw
94 90 0:22 / /sys rw - sysfs sysfs rw
95 90 0:24 / /run rw - tmpfs tmpfs rw
30 90 0:40 / /oldroot rw,relatime - overlay overlay rw,lowerdir=/run/taproot/layers/top:/run/taproot/layers/base
31 30 0:21 / /oldroot/proc rw - proc proc rw
32 30 0:24 / /oldroot/run rw - tmpfs tmpfs rw
33 32 0:50 / /oldroot/run/taproot/lower rw - zfs tank/layers rw
34 32 7:0 / /oldroot/run/taproot/layers/base ro - squashfs /dev/loop0 ro
35 32 253:0 / /oldroot/run/taproot/layers/the\\040top ro - squashfs /dev/mapper/top ro
36 32 0:51 / /oldroot/run/taproot/upper rw - zfs tank/upper rw
37 30 0:52 / /oldroot/srv rw - ext4 /dev/sdb1 rw
38 37 0:53 / /oldroot/srv rw - zfs data/srv rw
half a line
39 x 0:53 / /oldroot/x rw - zfs data/srv rw
40 90 0:53 / /oldroot/x rw zfs data/srv rw
";

fn layered() -> Held {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    Held {
        mounts: plan::mounts(LAYERED.as_bytes()),
        mapped: names(&["top"]),
        loops: names(&["loop0", "loop1"]),
        pools: names(&["data", "tank"]),
    }
}

fn texts(actions: &[Action]) -> Vec<String> {
    actions.iter().map(Action::text).collect()
}

#[test]
fn what_lies_in_another_goes_first() {
    let expected = [
        "unmount /oldroot/run/taproot/upper",
        "unmount /oldroot/run/taproot/layers/the top",
        "unmount /oldroot/run/taproot/layers/base",
        "unmount /oldroot/run/taproot/lower",
        // Of two on one directory the upper one, which the kernel takes; then the other.
        "unmount /oldroot/srv",
        "unmount /oldroot/srv",
        "unmount /oldroot/run",
        "unmount /oldroot/proc",
        "unmount /oldroot",
        "remove device-mapper top",
        "detach loop0",
        "detach loop1",
    ];
    let found = texts(&plan::round(&layered()));
    // Those of one depth have no order among them but the kernel's.
    let at = |text: &str| found.iter().position(|found| found == text).unwrap();
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    assert_eq!(sorted(&found), sorted(&expected.map(str::to_owned)), "nothing that we need ourselves goes: {found:#?}");
    assert!(at("unmount /oldroot/run/taproot/lower") < at("unmount /oldroot/run"));
    assert!(at("unmount /oldroot/run") < at("unmount /oldroot") && at("unmount /oldroot/srv") < at("unmount /oldroot"));
    assert_eq!(found[found.len() - 4..], expected[8..], "the devices come last");
}

#[test]
fn no_pool_is_exported_from_below_a_mount() {
    let mut held = layered();
    assert_eq!(plan::exports(&held), []);
    assert_eq!(plan::mounted_pools(&held).into_iter().collect::<Vec<_>>(), ["data", "tank"]);
    let protected = texts(&plan::protections(&held));
    assert_eq!(protected.len(), 7, "{protected:?}");
    assert!(!protected.iter().any(|text| text.contains("/run ") || text.contains("/proc ")), "{protected:?}");
    held.mounts = plan::mounts(b"38 37 0:53 / /oldroot/srv rw - zfs data@now rw\n");
    assert_eq!(texts(&plan::exports(&held)), ["export pool tank"]);
}

#[test]
fn mountinfo_of_no_kernel() {
    // Numbers in a circle, at their ends, and no numbers at all.
    let circle =
        "1 2 0:1 / /a rw - ext4 a rw\n2 1 0:1 / /b rw - ext4 b rw\n18446744073709551615 7 0:1 / /c rw - ext4 c rw\n";
    let held = Held { mounts: plan::mounts(circle.as_bytes()), ..Held::default() };
    assert_eq!(plan::round(&held).len(), 3);
    for cut in 0..LAYERED.len() {
        let held = Held { mounts: plan::mounts(&LAYERED.as_bytes()[..cut]), ..Held::default() };
        assert!(plan::round(&held).len() <= 9);
    }
    assert_eq!(plan::mounts(b"\xff \xff - - - - - - -\n - \n\n"), []);
}

#[test]
fn who_is_called() {
    let called = |args: &[&str]| called(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
    for (args, expected) in [
        (vec!["/shutdown", "reboot", "--log-level", "6", "--log-target=kmsg"], Some(End::Restart)),
        (vec!["/shutdown", "--log-level", "6", "poweroff"], Some(End::PowerOff)),
        (vec!["/shutdown", "halt"], Some(End::Halt)),
        (vec!["/shutdown", "kexec"], Some(End::Kexec)),
        (vec!["/shutdown", "exit"], Some(End::PowerOff)),
        (vec!["/shutdown"], Some(End::PowerOff)),
        (vec!["/init", "reboot"], None),
        (vec![], None),
    ] {
        assert_eq!(called(&args), expected, "{args:?}");
    }
}

#[test]
fn what_is_left_for_systemd() {
    let tree = Tree::new().with("/run/initramfs/fsck-root", "");
    for _attempt in 0..2 {
        prepare(&tree).unwrap();
        let info = tree.stat(Path::new(PROGRAM)).unwrap();
        assert!(info.kind == FileKind::File && info.mode & 0o111 == 0o111 && info.size > 0, "{info:?}");
        assert_eq!(
            tree.list(Path::new(DIRECTORY)).unwrap(),
            ["dev", "fsck-root", "oldroot", "proc", "run", "shutdown", "sys"]
        );
    }
    assert!(!tree.exists("/run/systemd"), "it would tell programs that systemd runs");
    mark(&tree).unwrap();
    assert!(tree.text(DROP_IN).ends_with("[Unit]\nDefaultDependencies=no"));
}

/// A machine whose mounts are lines of a file, with a kernel that keeps to what the test says. Work that hangs is left, and
/// costs the time that was waited for.
struct Dying {
    tree: Tree,
    /// The places whose unmounting never comes back.
    hung: Vec<&'static str>,
    /// The places that are in use.
    busy: Vec<&'static str>,
    calls: Mutex<Vec<String>>,
    now: Mutex<Duration>,
    stuck: Arc<AtomicBool>,
    /// Ends of the machine that fail.
    refused: Vec<End>,
}

impl Dying {
    fn new() -> Self {
        let pools: NvList = [("tank", Value::List(NvList::new()))].into_iter().collect();
        let exported = AtomicBool::new(false);
        let tree = Tree::answering(move |_, call| match call.number {
            POOL_CONFIGS if exported.load(Ordering::SeqCst) => {
                ZfsReply { dst: NvList::new().encode_native(), ..ZfsReply::default() }
            }
            POOL_CONFIGS => ZfsReply { dst: pools.encode_native(), ..ZfsReply::default() },
            POOL_EXPORT => {
                exported.store(true, Ordering::SeqCst);
                ZfsReply::default()
            }
            _ => ZfsReply { errno: libc::EINVAL, ..ZfsReply::default() },
        });
        let lines = "90 1 0:24 /initramfs / rw - tmpfs tmpfs rw\n93 90 0:21 / /proc rw - proc proc rw\n\
             30 90 0:40 / /oldroot rw - overlay overlay rw\n34 30 7:0 / /oldroot/run/base ro - squashfs /dev/loop0 ro\n\
             36 30 0:51 / /oldroot/run/upper rw - zfs tank/upper rw\n";
        let tree = tree
            .with("/proc/self/mountinfo", lines)
            .with("/sys/block/loop0/loop/backing_file", "/base.squashfs")
            .with("/sys/block/loop1/size", "0")
            .with("/sys/block/sda/size", "9")
            .with("/sys/module/zfs/version", "2.4");
        Self {
            tree,
            hung: vec![],
            busy: vec![],
            calls: Mutex::default(),
            now: Mutex::default(),
            stuck: Arc::default(),
            refused: vec![],
        }
    }

    fn called(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    /// The machine at its end: what was called, what was said, and how long it took.
    fn ends(self, end: End) -> (Vec<String>, String, Duration) {
        let machine = Arc::new(self);
        let system: Arc<dyn System> = Arc::<Self>::clone(&machine);
        run(&system, end);
        let calls = machine.calls.lock().unwrap().clone();
        let now = *machine.now.lock().unwrap();
        (calls, machine.tree.records().concat(), now)
    }

    fn hang(&self) {
        self.stuck.store(true, Ordering::SeqCst);
        loop {
            std::thread::park();
        }
    }
}

impl System for Dying {
    fn zfs(&self, call: &ZfsCall<'_>) -> io::Result<ZfsReply> {
        if call.number == POOL_EXPORT {
            self.called(format!("export {}", String::from_utf8_lossy(call.name)));
        }
        self.tree.zfs(call)
    }
    fn mount(&self, _: &str, target: &Path, _: &str, flags: u64, _: &str) -> io::Result<()> {
        self.called(format!("mount {} {flags}", target.display()));
        Ok(())
    }
    fn unmount(&self, target: &Path, lazy: bool) -> io::Result<()> {
        assert!(!lazy, "a lazy one tells of no success");
        let place = target.to_str().unwrap();
        if self.hung.contains(&place) {
            self.hang();
        }
        if self.busy.contains(&place) {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let lines = self.tree.text("/proc/self/mountinfo");
        let inner = |line: &&str| line.split(' ').nth(4).is_some_and(|at| at.starts_with(&format!("{place}/")));
        if lines.lines().any(|line| inner(&line)) {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        self.called(format!("unmount {place}"));
        let here = |line: &&str| line.split(' ').nth(4) != Some(place);
        let left: Vec<String> = lines.lines().filter(here).map(|line| format!("{line}\n")).collect();
        self.tree.write(Path::new("/proc/self/mountinfo"), left.concat().as_bytes())
    }
    fn detach_loop(&self, device: &Path) -> io::Result<()> {
        self.called(format!("detach {}", device.display()));
        self.tree.remove(Path::new("/sys/block/loop0/loop/backing_file"))
    }
    fn sync_all(&self) {
        self.called("sync".to_owned());
        if !self.hung.is_empty() {
            self.hang();
        }
    }
    fn within(&self, limit: Duration, work: Box<dyn FnOnce() + Send>) -> bool {
        let began = *self.now.lock().unwrap();
        let thread = std::thread::spawn(work);
        loop {
            if thread.is_finished() {
                return true;
            }
            // Whoever waits for the whole sees the time that steps took; whoever waits for the step makes it pass.
            if *self.now.lock().unwrap() >= began + limit {
                return false;
            }
            if limit < LIMIT && self.stuck.swap(false, Ordering::SeqCst) {
                *self.now.lock().unwrap() = began + limit;
                return false;
            }
            std::thread::yield_now();
        }
    }
    fn end_now(&self, how: End) -> io::Result<()> {
        self.called(format!("{how:?}"));
        if self.refused.contains(&how) { Err(io::Error::from_raw_os_error(libc::EINVAL)) } else { Ok(()) }
    }
    fn on_panic(&self, _: crate::sys::PanicAnswer) {}
    otherwise_linux!(tree);
}

#[test]
fn everything_is_given_back_in_order() {
    let (calls, said, _) = Dying::new().ends(End::Restart);
    let expected = [
        "unmount /oldroot/run/upper",
        "unmount /oldroot/run/base",
        "unmount /oldroot",
        "detach /dev/loop0",
        "sync",
        "export tank",
        "Restart",
    ];
    assert_eq!(calls, expected);
    assert!(
        said.contains("unmount /oldroot/run/upper, unmount /oldroot/run/base, unmount /oldroot, detach loop0\n"),
        "{said}"
    );
    assert!(said.contains("shutdown: export pool tank\n") && said.ends_with("shutdown: restart\n"), "{said}");
}

#[test]
fn an_unmount_that_never_returns_holds_nothing_up() {
    let (calls, said, took) = Dying { hung: vec!["/oldroot/run/base"], ..Dying::new() }.ends(End::PowerOff);
    assert_eq!(calls.first().unwrap(), "unmount /oldroot/run/upper", "what can go goes");
    assert_eq!(calls.last().unwrap(), "PowerOff");
    assert!(calls.contains(&"export tank".to_owned()), "nothing of the pool is mounted: {calls:?}");
    assert!(said.contains("unmount /oldroot/run/base: expected to be done within 5 s, and is not"), "{said}");
    assert!(took <= LIMIT, "{took:?}");
}

#[test]
fn disks_that_never_answer_end_with_the_time() {
    let hung = vec!["/oldroot", "/oldroot/run/base", "/oldroot/run/upper"];
    let (calls, said, took) = Dying { hung, ..Dying::new() }.ends(End::Restart);
    assert_eq!(calls.last().unwrap(), "Restart");
    assert!(!calls.contains(&"export tank".to_owned()), "{calls:?}");
    assert!(said.contains("pool tank stays imported") || said.contains("within 28 s"), "{said}");
    assert!(took <= LIMIT, "{took:?}");
}

#[test]
fn what_is_in_use_is_told_made_read_only_and_its_pool_left() {
    let (calls, said, _) = Dying { busy: vec!["/oldroot/run/upper"], ..Dying::new() }.ends(End::Halt);
    let expected = [
        "unmount /oldroot/run/base",
        "detach /dev/loop0",
        "mount /oldroot/run/upper 33",
        "mount /oldroot 33",
        "sync",
        "Halt",
    ];
    assert_eq!(calls, expected);
    assert!(said.contains("unmount /oldroot/run/upper: Device or resource busy"), "{said}");
    assert!(said.contains("pool tank stays imported: something of it is still mounted"), "{said}");
}

#[test]
fn a_kernel_that_was_not_loaded_is_a_restart() {
    let (calls, said, _) = Dying { refused: vec![End::Kexec], ..Dying::new() }.ends(End::Kexec);
    assert_eq!(calls[calls.len() - 2..], ["Kexec", "Restart"]);
    assert!(said.contains("start of the loaded kernel: Invalid argument"), "{said}");
}
