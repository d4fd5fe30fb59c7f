//! Words, prompts and the last resort, on a machine of the test's own.

use super::desk::{Desk, Outcome, SHOWN};
use super::hands::tests::{Scripted, device};
use super::shell::{BUSYBOX, DECISION_FILE};
use super::talk::Talk;
use super::*;
use crate::cmdline;
use crate::image::CONFIG_PATH;
use crate::report::log::LOG_PATH;
use crate::sys::fake::{Machine, Said, Tree};
use crate::sys::{Ended, ZfsReply};
use crate::zfs::nvlist::{NvList, Value};

fn machine() -> Machine {
    Machine::new(Tree::new().with(WHY_FILE, ""))
}

/// Where pool t is imported, healthy, and can be exported.
fn imported() -> Tree {
    Tree::answering(|_, call| {
        let leaf =
            [("type", Value::text("disk")), ("vdev_stats", Value::U64Array(vec![0, 7, 0]))].into_iter().collect();
        let root = [("type", Value::text("root")), ("children", Value::ListArray(vec![leaf]))].into_iter().collect();
        let config: NvList = [("pool_guid", Value::U64(7)), ("vdev_tree", Value::List(root))].into_iter().collect();
        let list = match (call.number, call.name) {
            (0x04, _) => [("t", Value::List(config))].into_iter().collect(),
            (0x05, b"t") => config,
            (0x03, b"t") => NvList::new(),
            _ => return ZfsReply { errno: libc::ENOENT, ..ZfsReply::default() },
        };
        ZfsReply { dst: list.encode_native(), ..ZfsReply::default() }
    })
}

/// What a word does, and what is said.
fn word(machine: &Arc<Machine>, hands: Scripted, line: &str) -> (Outcome, String, Vec<String>) {
    let system: Arc<dyn System> = Arc::clone(machine) as Arc<dyn System>;
    let (log, phases) = (Log::new(Arc::clone(&system)), Phases::new(Arc::clone(&system)));
    let hands = RefCell::new(hands);
    let talk = Talk::on(&*system, Terminals::All);
    let kernel = machine.tree.exists("/proc/cmdline").then(|| machine.tree.text("/proc/cmdline"));
    let mut desk = Desk {
        system: &*system,
        log: &log,
        phases: &phases,
        hands: &hands,
        talk,
        request: cmdline::parse(kernel.as_deref().unwrap_or_default().as_bytes()),
        words: kernel,
        packed: String::new(),
        pools: &[],
        stopped: false,
        listed: Vec::new(),
    };
    let words: Vec<&str> = line.split(' ').collect();
    let outcome = desk.answer(words[0], &words[1..]);
    let loaded = hands.borrow().loaded.clone();
    (outcome, machine.said.text(), loaded)
}

/// The same in a process that is not PID 1.
fn apart(tree: Tree, line: &str) -> (Outcome, String) {
    let machine = Machine { init: false, ..Machine::new(tree) };
    let (outcome, text, _) = word(&Arc::new(machine), Scripted::default(), line);
    (outcome, text)
}

fn plain(tree: Tree, line: &str) -> (Outcome, String) {
    let (outcome, text, _) = word(&Arc::new(Machine::new(tree)), Scripted::default(), line);
    (outcome, text)
}

#[test]
fn files_are_shown_up_to_a_limit() {
    let cat = |text: &str| apart(Tree::new().with("/etc/x", text), "cat /etc/x");
    assert_eq!(cat("one\ntwo"), (Outcome::Done, "one\ntwo\n".to_owned()));
    assert_eq!(cat(&"x".repeat(SHOWN)).1.len(), SHOWN + 1);
    let long = cat(&"x".repeat(SHOWN + 1)).1;
    assert!(long.ends_with(&format!("x\n[the first {SHOWN} bytes]\n")), "{}", long.len());
    let (outcome, text) = apart(Tree::new().with("/etc/x", ""), "cat /etc");
    assert!(outcome == Outcome::Failed && text.starts_with("cat: /etc: expected a file"), "{text}");
    let blank = apart(Tree::new().with("/mnt/My Files/x y", "z"), "cat /mnt/My Files/x y");
    assert_eq!(blank, (Outcome::Done, "z\n".to_owned()));
    let listed = apart(Tree::new().with("/etc/b", "").with("/etc/a", ""), "ls /etc");
    assert_eq!(listed, (Outcome::Done, "a  b\n".to_owned()));
}

#[test]
fn what_touches_a_disk_is_done_by_a_process_that_may_be_left_behind() {
    let dying = Arc::new(Machine { programs: Box::new(|_, _| Ended::Late), ..Machine::new(imported()) });
    for line in ["ls /mnt", "cat /mnt/x", "mount t/a@s /mnt ro", "umount /mnt", "clear t"] {
        let (outcome, text, _) = word(&dying, Scripted::default(), line);
        assert!(
            outcome == Outcome::Failed && text.contains("no answer for 20 s: a disk may be dying"),
            "{line}: {text}"
        );
        assert_eq!(dying.calls().last(), Some(&format!("run /proc/self/exe do-word {line}")));
    }
    assert_eq!(dying.now(), Duration::from_secs(100), "each had its time");
    let fails = Arc::new(Machine { programs: Box::new(|_, _| Ended::Exit(1)), ..Machine::new(Tree::new()) });
    assert_eq!(word(&fails, Scripted::default(), "ls /mnt").0, Outcome::Failed);
    assert_eq!(plain(Tree::new(), "ls /mnt").0, Outcome::Done);
}

#[test]
fn what_is_mounted_is_unmounted_but_for_what_is_needed() {
    let mounts = "rootfs / rootfs rw 0 0\nproc /proc proc rw 0 0\nt/a b /mnt zfs rw 0 0\nt/c /x zfs rw 0 0\n";
    let tree = || Tree::new().with("/proc/self/mounts", &mounts.replace("a b", "a\\040b"));
    assert_eq!(apart(tree(), "umount /x"), (Outcome::Done, "/x is unmounted\n".to_owned()));
    assert_eq!(apart(tree(), "umount t/a b"), (Outcome::Done, "/mnt is unmounted\n".to_owned()));
    for (line, says) in
        [("umount /proc", "needed here"), ("umount t/nosuch", "is not mounted"), ("umount", "expected a directory")]
    {
        let (outcome, text) = apart(tree(), line);
        assert!(outcome == Outcome::Failed && text.contains(says), "{line}: {text}");
    }
}

/// A wait in vain that ends when it was looked so often.
struct After(u32);

impl Awaited for After {
    fn what(&self) -> &'static str {
        "pool tank"
    }
    fn arrived(&mut self, _: &crate::devices::known::Hardware, _: Duration) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 == 0
    }
}

/// What a prompt decides that stands while something is awaited, and what it says.
fn awaiting(typed: &[&'static str], looks: u32) -> (Decision, String) {
    let machine = Arc::new(machine_with(typed));
    let system: Arc<dyn System> = Arc::clone(&machine) as Arc<dyn System>;
    let (log, phases) = (Log::new(Arc::clone(&system)), Phases::new(Arc::clone(&system)));
    let (hands, report) = (RefCell::new(Scripted::default()), BootReport::default());
    let explanation = Explanation { code: "pool-not-found", problem: "no pool".into(), ..Explanation::default() };
    let awaited = RefCell::new(After(looks));
    let bare = Scene::bare(&*system, &log, &phases, &hands, &report);
    let scene = Scene { explanation: Some(&explanation), awaited: Some(&awaited), ..bare };
    (ask(&scene, Occasion::Failed), machine.said.text())
}

#[test]
fn the_boot_goes_on_when_what_was_awaited_is_there_and_nobody_types() {
    let (decision, text) = awaiting(&[], 3);
    assert_eq!(decision, Decision::RETRY);
    assert!(text.contains("goes on by itself when this comes: pool tank; any key stops that."), "{text}");
    assert!(text.contains("What was awaited is there: the boot goes on in 10 s"), "{text}");
    // Whoever types decides.
    let (decision, text) = awaiting(&["help", "poweroff"], 3);
    assert_eq!(decision, Decision::PowerOff);
    assert!(text.contains("does not go on by itself any more") && !text.contains("goes on in"), "{text}");
}

#[test]
fn a_failure_fits_a_screen_with_the_problem_above_the_prompt() {
    let (_, text) = awaiting(&["poweroff"], 3);
    let shown = text.split("(taproot) # ").next().unwrap();
    assert!(shown.ends_with("  Problem:   no pool\n"), "{shown}");
    assert!(shown.lines().count() < 24 && shown.lines().all(|line| line.len() <= 80), "{shown}");
}

#[test]
fn words_that_need_nothing_or_cannot_be() {
    let (_, devices) = plain(Tree::new(), "devices");
    assert!(devices.starts_with("no block device at all"), "{devices}");
    let minutes = Decision::Wait(Duration::from_secs(90));
    assert_eq!(plain(Tree::new(), "wait 90").0, Outcome::Decided(minutes));
    assert_eq!(plain(Tree::new(), "wait 0").0, Outcome::Failed);
    let words = Decision::Cmdline("root=ZFS=t/a taproot.import=ro".into());
    assert_eq!(plain(Tree::new(), "cmdline root=ZFS=t/a taproot.import=ro").0, Outcome::Decided(words));
    assert_eq!(plain(Tree::new(), "boot t/a").0, Outcome::Decided(boot("t/a", "")));
    let (outcome, text) = plain(Tree::new(), "boot 2");
    assert!(outcome == Outcome::Failed && text.contains("2: no list of roots was shown yet"), "{text}");
    let shown = plain(Tree::new().with("/proc/cmdline", "zfs=t quiet\n"), "cmdline");
    assert_eq!(shown, (Outcome::Done, "zfs=t quiet\n".to_owned()));
    let (outcome, text) = plain(Tree::new(), "continue");
    assert!(outcome == Outcome::Failed && text.contains("`retry` tries again"), "{text}");
}

fn boot(name: &str, words: &str) -> Decision {
    Decision::Boot { name: name.to_owned(), words: words.to_owned() }
}

/// What becomes of a line that is typed where the kernel has these words.
fn changed(kernel: &str, typed: &[&'static str]) -> (Outcome, String) {
    let tree = Tree::new().with("/proc/cmdline", kernel).with("/sys/module/zfs/version", "2.3").with(WHY_FILE, "");
    let (line, answers) = typed.split_first().unwrap();
    let machine = Machine { said: Said::typing(answers), ..Machine::new(tree) };
    let (outcome, text, _) = word(&Arc::new(machine), Scripted::default(), line);
    (outcome, text)
}

#[test]
fn words_of_the_command_line_are_changed_at_the_prompt() {
    let kernel = "root=ZFS=t/a init=/wrong resume=/dev/old zfs.zfs_arc_max=1 taproot.import=ro";
    let retry = |words: &str| Outcome::Decided(Decision::Retry { words: words.to_owned() });
    assert_eq!(changed(kernel, &["retry init="]).0, retry("init="));
    assert_eq!(changed(kernel, &["retry resume=none rootflags=x"]).0, retry("resume=none rootflags=x"));
    assert_eq!(changed(kernel, &["boot t/b c init= ro"]).0, Outcome::Decided(boot("t/b c", "init= ro")));
    for (line, says) in [
        ("retry taproot.mounts=", "change nothing"),
        ("retry nonsense", "change nothing"),
        ("retry taproot.wiat=3", "did you mean taproot.wait?"),
        ("retry zfs.zfs_arc_max=2", "module zfs is loaded already"),
        ("retry zfs.zfs_arc_max=", "module zfs is loaded already"),
        ("retry modprobe.blacklist=ahci,zfs", "cannot be kept out any more"),
        ("retry -- single", "boot loader alone"),
        ("boot t/b taproot.mounts=", "change nothing"),
    ] {
        let (outcome, text) = changed(kernel, &[line]);
        assert!(outcome == Outcome::Failed && text.contains(says), "{line}: {text}");
    }
    let (outcome, text) = plain(Tree::new(), "retry init=");
    assert!(outcome == Outcome::Failed && text.contains("`cmdline WORDS` gives all"), "{text}");
}

#[test]
fn what_may_be_lost_by_a_word_is_done_after_a_typed_yes() {
    let (kernel, asks) = ("root=ZFS=t/a resume=/dev/old", "Type yes to do it: ");
    for line in ["retry resume=", "retry zfs_force=1", "boot t/b noresume", "cmdline root=ZFS=t/a"] {
        let (outcome, text) = changed(kernel, &[line, "no"]);
        assert!(outcome == Outcome::Failed && text.contains("nothing was done"), "{line}: {text}");
        let (outcome, text) = changed(kernel, &[line, "yes"]);
        assert!(matches!(outcome, Outcome::Decided(_)) && text.matches(asks).count() == 1, "{line}: {text}");
    }
    // Each is asked for.
    let (outcome, text) = changed(kernel, &["retry resume= zfs_force=1", "yes", "no"]);
    assert!(outcome == Outcome::Failed && text.matches(asks).count() == 2, "{text}");
    let (_, text) = plain(Tree::new(), "cmdline root=ZFS=t/a");
    assert!(text.contains("it may say that nothing is to be written"), "{text}");
}

#[test]
fn a_pool_is_exported_when_nothing_of_it_is_mounted_any_more() {
    let mounts = "rootfs / rootfs rw 0 0\nt/ROOT /newroot zfs rw 0 0\nt/home /newroot/home zfs rw 0 0\n";
    let tree = || imported().with("/proc/self/mounts", mounts).with(CONFIG_PATH, "kernel=6\n");
    let machine = Arc::new(Machine::new(tree()));
    let (outcome, text, _) = word(&machine, Scripted::default(), "export t");
    assert_eq!((outcome, text.as_str()), (Outcome::Done, "pool t is exported\n"));
    assert_eq!(machine.calls(), ["run /proc/self/exe try-pools", "unmount /newroot/home", "unmount /newroot"]);

    let busy = Machine {
        refusals: Box::new(|call| (call == "unmount /newroot").then_some(libc::EBUSY)),
        ..Machine::new(tree())
    };
    let (outcome, text, _) = word(&Arc::new(busy), Scripted::default(), "export t");
    assert!(outcome == Outcome::Failed && text.contains("/newroot could not be unmounted"), "{text}");
    let (outcome, text) = plain(tree(), "export other");
    assert_eq!((outcome, text.as_str()), (Outcome::Failed, "export: pool other is not imported; imported: t\n"));
    assert!(plain(tree(), "export").1.contains("expected a pool; imported: t"));
}

#[test]
fn pools_that_do_not_answer_are_left_alone() {
    let machine = Arc::new(Machine { programs: Box::new(|_, _| Ended::Late), ..Machine::new(imported()) });
    let (outcome, text, _) = word(&machine, Scripted::default(), "datasets");
    assert!(outcome == Outcome::Failed && text.contains("no pool has answered for 20 s"), "{text}");
    // A program of the shell may hang: it is not PID 1.
    let applet = Arc::new(Machine { init: false, ..Machine::new(imported()) });
    assert!(word(&applet, Scripted::default(), "pools").1.contains("imported  pool t (guid 7)"));
    assert!(applet.calls().is_empty());
}

/// A machine with a stick, and what is said of it.
fn stick(init: bool) -> (Machine, Scripted) {
    let tree = Tree::new().with("/run/taproot/disk/old", "").with(WHY_FILE, "because\n");
    let devices = [device("sda", "swap", ""), device("sdb1", "vfat", "STICK")];
    let mut hands = Scripted { coming: devices.to_vec(), ..Scripted::default() };
    hands.hardware.devices.insert("sdc".into(), device("sdc", "", ""));
    (Machine { init, said: Said::typing(&["sdb1"]), ..Machine::new(tree) }, hands)
}

#[test]
fn the_log_is_saved_to_a_disk_that_is_there_only_for_that() {
    let (machine, hands) = stick(false);
    let machine = Arc::new(machine);
    let (outcome, text, loaded) = word(&machine, hands, "save-log");
    assert_eq!(outcome, Outcome::Done, "{text}");
    assert!(text.contains("/dev/sdb1 ") && !text.contains("/dev/sda"), "{text}");
    assert!(text.ends_with("taproot-19700101-000000.json are on /dev/sdb1; it is unmounted\n"), "{text}");
    assert_eq!(loaded.last().map(String::as_str), Some("vfat"));
    assert_eq!(machine.calls(), ["mount /dev/sdb1 /run/taproot/disk vfat 0xe", "unmount /run/taproot/disk"]);
    assert!(machine.tree.text("/run/taproot/disk/taproot-19700101-000000.log").contains("because"));
    let none = plain(Tree::new(), "save-log").1;
    assert!(none.contains("no disk with one of ext4,"), "{none}");
}

#[test]
fn pid_1_mounts_no_stick_and_is_not_held_up_by_one() {
    let (machine, hands) = stick(true);
    let answers = |_: &Machine, program: &crate::sys::Program| match program.args[1].as_str() {
        "save-to" => Ended::Late,
        _ => Ended::Exit(0),
    };
    let machine = Arc::new(Machine { programs: Box::new(answers), ..machine });
    let (outcome, text, loaded) = word(&machine, hands, "save-log");
    assert!(outcome == Outcome::Failed && text.contains("save-log: no answer for 60 s: a disk may be dying"), "{text}");
    assert_eq!(loaded.last().map(String::as_str), Some("vfat"), "by the one that has the drivers");
    let run = |what| format!("run /proc/self/exe do-word {what}");
    assert_eq!(machine.calls(), [run("save-to /dev/sdb1 vfat"), run("umount /run/taproot/disk")]);
}

/// Where pool t is imported and t/a waits for a hex key.
fn locked() -> Tree {
    let known = imported();
    Tree::answering(move |_, call| {
        let property = |value: Value| Value::List([("value", value)].into_iter().collect());
        match (call.number, call.name) {
            (0x12, b"t/a") => {
                let properties: NvList = [
                    ("keystatus", property(Value::U64(1))),
                    ("keyformat", property(Value::U64(2))),
                    ("keylocation", property(Value::text("file:///etc/a.key"))),
                    ("encryptionroot", property(Value::text("t/a"))),
                ]
                .into_iter()
                .collect();
                ZfsReply { dst: properties.encode_native(), objset_type: 2, ..ZfsReply::default() }
            }
            _ => known.zfs(call).unwrap(),
        }
    })
}

#[test]
fn a_key_is_read_and_loaded_by_a_process_of_its_own() {
    const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let ended = |part: &'static str, ended: Ended| {
        move |machine: &Machine, program: &crate::sys::Program| match program.args.get(1).map(String::as_str) {
            Some("load-key") => {
                let key = machine.read(Path::new("/run/taproot/key-to-load"), 64).unwrap();
                assert_eq!((key.len(), key[1]), (32, 0x11), "no argument, which could be seen");
                if part == "load-key" { ended.clone() } else { Ended::Exit(0) }
            }
            Some("read-key") if part == "read-key" => ended.clone(),
            Some("read-key") => Ended::Exit(1),
            _ => Ended::Exit(0),
        }
    };
    let key = |part, how| {
        let tree = locked().with("/run/taproot/x", "");
        let machine =
            Machine { programs: Box::new(ended(part, how)), said: Said::typing(&[KEY]), ..Machine::new(tree) };
        let machine = Arc::new(machine);
        let (outcome, text, _) = word(&machine, Scripted::default(), "key t/a");
        assert!(!machine.tree.exists("/run/taproot/key-to-load"), "it is there only for the moment");
        assert!(machine.calls().iter().all(|call| call.starts_with("run ")), "{:?}", machine.calls());
        (outcome, text, machine.calls())
    };
    let (outcome, text, calls) = key("", Ended::Exit(0));
    assert_eq!(outcome, Outcome::Done, "{text}");
    let run = |what| format!("run /proc/self/exe {what}");
    let expected = ["try-pools", "do-word read-key / /etc/a.key", "do-word load-key t/a"].map(run);
    assert_eq!(calls, expected);
    // A disk that does not answer: when the file is read, when the key is loaded.
    let (outcome, text, _) = key("read-key", Ended::Late);
    assert_eq!(outcome, Outcome::Done, "it can be typed: {text}");
    let (outcome, text, _) = key("load-key", Ended::Late);
    assert!(outcome == Outcome::Failed && text.contains("no answer in time: a disk may be dying"), "{text}");
}

#[test]
fn a_key_file_on_a_device_is_read_there_and_its_drivers_loaded_here() {
    let answers = |_: &Machine, program: &crate::sys::Program| match program.args.get(1).map(String::as_str) {
        Some("read-key") => Ended::Late,
        _ => Ended::Exit(0),
    };
    let machine = Arc::new(Machine { programs: Box::new(answers), ..Machine::new(locked()) });
    let hands = Scripted { coming: vec![device("sdb1", "vfat", "STICK")], ..Scripted::default() };
    let (outcome, text, loaded) = word(&machine, hands, "key t/a LABEL=STICK:/k");
    assert!(outcome == Outcome::Failed && text.contains("no answer for 20 s"), "{text}");
    assert_eq!(loaded.last().map(String::as_str), Some("vfat"));
    let calls = machine.calls();
    assert!(calls.contains(&"run /proc/self/exe do-word read-key /dev/sdb1 vfat /k".to_owned()), "{calls:?}");
    assert_eq!(calls.last(), Some(&"run /proc/self/exe do-word umount /run/taproot/key".to_owned()));
}

#[test]
fn the_process_of_its_own_does_what_it_was_told() {
    let tree = Tree::new().with("/etc/a.key", "secret").with("/run/taproot/key/k", "other");
    let machine = Machine { init: false, ..Machine::new(tree) };
    let log = Log::new(Arc::new(Machine::new(Tree::new())));
    let does = |part: &apart::Part, args: &[&str]| {
        (part.work)(&machine, &log, args).map(|said| String::from_utf8_lossy(&said).into_owned())
    };
    assert_eq!(does(&key::READ, &["/", "/etc/a.key"]), Ok("secret".to_owned()));
    assert_eq!(does(&key::READ, &["/", "/etc/none"]), Err(libc::ENOENT.to_string()));
    assert_eq!(does(&key::READ, &["/dev/sdb1", "vfat", "/k"]), Ok("other".to_owned()));
    assert_eq!(machine.calls(), ["mount /dev/sdb1 /run/taproot/key vfat 0xf", "unmount /run/taproot/key"]);
    assert!(does(&key::LOAD, &["t/a"]).is_err() && does(&save::SAVE, &[]).is_err());
}

#[test]
fn a_shell_of_an_image_has_our_words_and_may_decide() {
    let programs = |machine: &Machine, program: &crate::sys::Program| {
        if program.args == ["sh", "-i"] {
            machine.write(Path::new(DECISION_FILE), b"boot t/a").unwrap();
        }
        Ended::Exit(0)
    };
    let tree = Tree::new().with(BUSYBOX, "").with(CONFIG_PATH, "").with(DECISION_FILE, "reboot");
    let machine = Machine { programs: Box::new(programs), ..Machine::new(tree) };
    let decided = shell::run(&machine, Path::new("/dev/ttyS0")).unwrap();
    assert_eq!(decided, Some(boot("t/a", "")));
    assert_eq!(machine.calls(), ["run /bin/busybox --install -s /bin", "on /dev/ttyS0: /bin/busybox sh -i"]);
    assert!(machine.read_link(Path::new("/bin/retry")).is_ok_and(|to| to == Path::new("/init")));
    assert!(machine.read_link(Path::new("/bin/mount")).is_err(), "scripts want busybox's");
    assert!(machine.tree.text("/run/taproot/shrc").contains("alias log='/init log'"));
    assert!(!machine.tree.exists(DECISION_FILE));

    // Elsewhere `/` is somebody's.
    let machine = Machine { init: false, ..Machine::new(Tree::new().with(BUSYBOX, "")) };
    assert_eq!(shell::run(&machine, Path::new("/dev/tty1")).unwrap(), None);
    assert!(!machine.tree.exists("/bin/retry") && !machine.tree.exists("/mnt"));
    assert!(machine.tree.text("/run/taproot/shrc").contains("alias log='/usr/bin/taproot-init log'"));
}

fn last(machine: Machine, policy: OnFailure) -> (Arc<Machine>, String) {
    let machine = Arc::new(machine);
    let system: Arc<dyn System> = Arc::clone(&machine) as Arc<dyn System>;
    let explanation = Explanation { code: "bug", problem: "it broke".into(), ..Explanation::default() };
    last_resort(&system, &explanation, policy, None);
    let text = machine.said.text();
    (machine, text)
}

#[test]
fn the_last_resort_does_what_the_policy_says_until_it_is_done() {
    let (machine, text) = last(machine(), OnFailure::Reboot(Duration::from_secs(12)));
    assert_eq!((machine.calls(), machine.now()), (vec!["restart".to_owned()], Duration::from_secs(12)));
    let said: Vec<&str> = text.lines().filter(|line| line.starts_with("taproot: nobody")).collect();
    let line = |left| format!("taproot: nobody is to be asked: restarting in {left} s");
    assert_eq!(said, [line(12), line(7), line(2)]);
    assert!(machine.tree.text(WHY_FILE).contains("Code:      bug"));

    // A machine that refuses once.
    let tries = std::sync::atomic::AtomicU32::new(0);
    let once = move |call: &str| {
        let first = call == "power off" && tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        first.then_some(libc::EPERM)
    };
    let stubborn = Machine { refusals: Box::new(once), ..machine_with(&[]) };
    let (machine, text) = last(stubborn, OnFailure::PowerOff(Duration::ZERO));
    assert_eq!(machine.calls(), ["power off", "power off"]);
    assert!(text.contains("taproot: Operation not permitted"), "{text}");
}

fn machine_with(typed: &[&'static str]) -> Machine {
    Machine { said: Said::typing(typed), ..machine() }
}

#[test]
fn the_last_resort_asks_where_somebody_may_be() {
    let (machine, text) = last(machine_with(&["why", "poweroff"]), OnFailure::Menu);
    assert_eq!(machine.calls(), ["scout --no-modules", "power off"]);
    assert!(text.contains("Problem:   it broke") && text.contains("(taproot) # "), "{text}");
    // Nothing can be tried again.
    assert_eq!(last(machine_with(&["retry"]), OnFailure::Menu).0.calls().last().unwrap(), "restart");
    let (machine, text) =
        last(machine_with(&["cat /etc/shadow", "retry taproot.rescue=", "reboot"]), OnFailure::Locked);
    assert!(text.contains("cat: not available, the prompt is locked"), "{text}");
    assert!(text.contains("retry: not available, the prompt is locked"), "{text}");
    assert_eq!(machine.calls(), ["restart"]);
    // Nobody can answer: after a while that is no reason to stay.
    let (machine, _) = last(machine_with(&[]), OnFailure::Menu);
    assert_eq!((machine.calls().last().map(String::as_str), machine.now()), (Some("restart"), Duration::from_secs(30)));
}

#[test]
fn a_bug_is_in_both_logs_with_the_calls_that_led_there() {
    let tree = Arc::new(Tree::new().with(LOG_PATH, "[   0.000001] info  first\n"));
    let panic = Panic { message: "at src/x.rs:7:\nit broke".into(), backtrace: "0: one\n1: two\n".into() };
    let system: Arc<dyn System> = Arc::clone(&tree) as Arc<dyn System>;
    let text = note_panic(&system, &panic).text();
    assert!(text.contains("Code:      bug") && text.contains("it broke"), "{text}");
    let records = tree.records().concat();
    assert!(records.contains("<3>taproot: a bug in taproot-init: at src/x.rs:7: | it broke"), "{records}");
    assert!(records.contains("<3>taproot: 1: two"), "{records}");
    let log = tree.text(LOG_PATH);
    assert!(log.lines().count() == 4 && log.ends_with("error 1: two"), "{log}");
}
