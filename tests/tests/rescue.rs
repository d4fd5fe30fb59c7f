//! The rescue as a person works with it: over the serial line, at the prompt and in the packed shell.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs::File;
use std::process::Command;

use taproot_tests::kit::{self, System};
use taproot_tests::scenario::{explained_failure, vm};
use taproot_tests::vm::{Disk, Running, Scratch, Vm};
use taproot_tests::words::{PROMPT, SHELL_PROMPT};
use taproot_tests::{image, scenarios_on_newest};

/// Types a line and waits for what is said to it, then for the prompt.
fn says(vm: &Running, line: &str, parts: &[&str]) {
    says_at(vm, PROMPT, line, parts);
}

fn says_at(vm: &Running, prompt: &str, line: &str, parts: &[&str]) {
    let said = answer(vm, prompt, line);
    for part in parts {
        assert!(said.contains(part), "{line:?}: {part:?} is not in\n{said}");
    }
}

/// Types a line; returns what is said up to `end`.
fn answer(vm: &Running, end: &str, line: &str) -> String {
    let begin = vm.console.cursor();
    vm.type_line(line).unwrap();
    vm.expect(end, 20).unwrap();
    vm.console.unmixed(begin..vm.console.cursor())
}

/// A disk image with a file system, or an empty one.
fn spare_disk(scratch: &Scratch, serial: &str, ext4: bool) -> Disk {
    let path = scratch.path().join(format!("{serial}.img"));
    File::create(&path).unwrap().set_len(64 << 20).unwrap();
    if ext4 {
        kit::run(Command::new("mkfs.ext4").arg("-q").arg(&path)).unwrap();
    }
    Disk::writable(&path, "raw", serial)
}

/// What debugfs says of an ext4 image.
fn debugfs(disk: &Disk, request: &str) -> String {
    kit::run(Command::new("debugfs").args(["-R", request]).arg(&disk.path)).unwrap()
}

fn fails(name: &str, system: &System, image: &[&str], cmdline: &str, disks: Vec<Disk>) -> Running {
    let image = image::cached(system, image).unwrap();
    let vm = Vm::new(name, system, &image).append(cmdline).warm().disks(disks).start().unwrap();
    explained_failure(&vm, 60).unwrap();
    vm
}

const STANDARD: [&str; 4] = ["--modules", "generic", "--rescue", "small"];

/// The kernel's name of the disk with this serial number, from what `devices` has shown: which disk is `vdb` is up to the order
/// in which drivers find them.
fn node_of(vm: &Running, serial: &str) -> String {
    let text = vm.console.text();
    let line = text.lines().rev().find(|line| line.starts_with("/dev/") && line.contains(&format!("serial {serial}")));
    let node = line.unwrap().split_whitespace().next().unwrap();
    node.trim_start_matches("/dev/").to_owned()
}

scenarios_on_newest! {
    /// Two consoles: the prompt is on both, and whoever types is answered. Words, the shell with the same words, the log
    /// saved to a disk, and a root chosen in the shell boots.
    fn prompt_shell_and_saved_log(system) {
        let scratch = Scratch::new().unwrap();
        let (log_disk, blank) = (spare_disk(&scratch, "stick", true), spare_disk(&scratch, "blank", false));
        let vm = vm("rescue-person", system, "root=ZFS=resc/ROOT/typo taproot.wait=5").unwrap().second_console()
            .disk(scratch.overlay(system, "rescue0").unwrap()).disk(log_disk.clone()).disk(blank).start().unwrap();
        let text = explained_failure(&vm, 60).unwrap();
        assert!(text.contains("resc/ROOT/typo does not exist"), "{text}");
        assert!(text.contains("retry") && text.contains("boot another environment"), "the choices: {text}");

        vm.expect_second("resc/ROOT/typo does not exist", 20).unwrap();
        vm.expect_second(PROMPT, 20).unwrap();
        vm.type_line_second("report").unwrap();
        vm.expect_second("-- page 1 of", 20).unwrap();
        vm.type_line_second("q").unwrap();
        vm.expect_second(PROMPT, 20).unwrap();
        vm.expect("-- page 1 of", 20).unwrap();
        vm.expect(PROMPT, 20).unwrap();

        says(&vm, "status", &["asked     root=ZFS=resc/ROOT/typo", "imported  pool resc", "online", "bootfs resc/ROOT/default"]);
        says(&vm, "devices", &["serial rescue0", "/dev/vdb", "ext4", "serial stick", "zfs, pool resc"]);
        let (stick, blank) = (node_of(&vm, "stick"), node_of(&vm, "blank"));
        says(&vm, "pools", &["pool resc guid"]);
        says(&vm, "datasets resc", &["resc/ROOT/other  /", "resc/secret  /secret, canmount=noauto, KEY NOT LOADED"]);
        says(&vm, "continue", &["nothing to go on with"]);
        says(&vm, "99", &["expected a number"]);
        vm.type_line("key").unwrap();
        vm.expect("resc/secret", 20).unwrap();
        vm.type_line("correct horse").unwrap();
        vm.expect("the key of resc/secret is loaded", 30).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        assert!(!vm.console.shows("correct horse"));
        says(&vm, &format!("save-log {stick}"), &[&format!("are on /dev/{stick}; it is unmounted")]);
        let files = debugfs(&log_disk, "ls -p /");
        let name = files.split('/').find(|n| n.contains(".log")).unwrap().to_owned();
        assert!(name.starts_with("taproot-"), "{files}");
        let saved = debugfs(&log_disk, &format!("cat /{name}"));
        for part in ["=== why", "resc/ROOT/typo does not exist", "taproot-init ", "Linux version", "vdb"] {
            assert!(saved.contains(part), "{part:?} is not in {name}");
        }
        let json = debugfs(&log_disk, &format!("cat /{}", name.replace(".log", ".json")));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["pools"][0]["name"], "resc");

        vm.type_line("shell").unwrap();
        vm.expect(SHELL_PROMPT, 20).unwrap();
        says_at(&vm, SHELL_PROMPT, "status", &["imported  pool resc"]);
        says_at(&vm, SHELL_PROMPT, "log | grep -c taproot-init", &["\n1"]);
        says_at(&vm, SHELL_PROMPT, "mount resc/secret /secret && grep -c resc/secret /proc/mounts", &["is mounted on /secret", "\n1"]);
        says_at(&vm, SHELL_PROMPT, &format!("umount /secret; mkdosfs /dev/{blank} && save-log {blank}"), &[&format!("are on /dev/{blank}")]);
        says_at(&vm, SHELL_PROMPT, &format!("mount -t vfat /dev/{blank} /mnt && ls /mnt && umount /mnt"), &["taproot-", ".json"]);
        vm.type_line("boot resc/ROOT/other").unwrap();
        let report = vm.report(60).unwrap();
        assert_eq!(report.hostname(), "other");
        assert_eq!(report.json.unwrap()["root"], "resc/ROOT/other");
    }

    /// A wrong init, and mounts that leave the system without what it needs: both are taken away at the prompt, and what was typed
    /// stands in the record. A word that could lose something is asked for.
    fn words_are_changed_at_the_prompt(system) {
        let scratch = Scratch::new().unwrap();
        let cmdline = "root=ZFS=resc/ROOT/other init=/sbin/nosuch taproot.mounts=none rootflags=nosuchflag";
        let vm = vm("rescue-words", system, cmdline).unwrap().cold().disk(scratch.overlay(system, "rescue0").unwrap()).start().unwrap();
        let text = explained_failure(&vm, 60).unwrap();
        assert!(text.contains("/sbin/nosuch") || text.contains("nosuchflag"), "{text}");
        says(&vm, "retry zfs.zfs_arc_max=1", &["module zfs is loaded already"]);
        says(&vm, "retry taproot.fstab=", &["change nothing"]);
        vm.type_line("retry zfs_force=1").unwrap();
        vm.expect("Type yes to do it: ", 20).unwrap();
        says(&vm, "no", &["nothing was done"]);
        vm.type_line("retry init=/sbin/nosuch2 rootflags=").unwrap();
        let text = explained_failure(&vm, 60).unwrap();
        assert!(text.contains("/sbin/nosuch2") && text.contains("Typed: init=/sbin/nosuch2 rootflags="), "{text}");
        says(&vm, "cmdline", &["with what was typed:", "init=/sbin/nosuch2"]);
        vm.type_line("retry init= taproot.mounts=all").unwrap();
        let report = vm.report(60).unwrap();
        assert_eq!(report.hostname(), "other");
        let json = report.json.unwrap();
        assert_eq!(json["typed"], serde_json::json!(["rootflags=", "taproot.mounts=all", "init="]));
        let words = json["request"]["words"].to_string();
        assert!(!words.contains("nosuch") && words.contains("taproot.mounts=all"), "{words}");
    }

    /// The disk comes while the prompt stands: the boot goes on, unless somebody types.
    fn what_was_awaited_comes_while_the_prompt_stands(system) {
        let scratch = Scratch::new().unwrap();
        // Nothing is typed, not even what shows the whole explanation: a key would stop it.
        let image = image::cached(system, &STANDARD).unwrap();
        let words = "root=ZFS=resc/ROOT/other taproot.wait=2";
        let mut vm = Vm::new("rescue-goes-on", system, &image).append(words).warm().start().unwrap();
        vm.expect("The boot goes on by itself when this comes", 60).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.plug(&scratch.overlay(system, "rescue0").unwrap()).unwrap();
        vm.expect("What was awaited is there", 60).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.expect("another attempt begins", 60).unwrap();
        assert_eq!(vm.report(90).unwrap().hostname(), "other");
    }

    /// What the kernel says below errors stays off the console while a question stands there, and is in its log; then the level is
    /// what it was.
    fn the_console_is_quiet_while_a_prompt_stands(system) {
        let mut vm = fails("rescue-quiet", system, &STANDARD, "root=ZFS=resc/ROOT/typo taproot.wait=2 loglevel=7", vec![]);
        let scratch = Scratch::new().unwrap();
        let disk = spare_disk(&scratch, "late", true);
        let begin = vm.console.cursor();
        vm.plug(&disk).unwrap();
        // Words are answered with the level as it was, so nothing is typed until the kernel has found it.
        std::thread::sleep(std::time::Duration::from_secs(20));
        assert!(answer(&vm, PROMPT, "devices").contains("serial late"), "{}", vm.console.tail(30));
        let shown = vm.console.unmixed(begin..vm.console.cursor());
        assert!(!shown.contains(taproot_tests::words::DISK), "{shown}");
        vm.type_line("shell").unwrap();
        vm.expect(SHELL_PROMPT, 20).unwrap();
        says_at(&vm, SHELL_PROMPT, "dmesg | grep -c 'byte logical bloc'", &["\n"]);
        says_at(&vm, SHELL_PROMPT, "cat /proc/sys/kernel/printk", &["\n4\t"]);
        vm.type_line("exit").unwrap();
        vm.expect(PROMPT, 20).unwrap();
        // Words are answered with the level as it was.
        says(&vm, "cat /proc/sys/kernel/printk", &["\n7\t"]);
    }

    /// Words that look at disks: a key from a file, a snapshot, read-only, unmounted again.
    fn keys_and_mounts_by_hand(system) {
        let scratch = Scratch::new().unwrap();
        let cmdline = "root=ZFS=resc/ROOT/typo taproot.wait=2";
        let vm = vm("rescue-mounts", system, cmdline).unwrap().disk(scratch.overlay(system, "rescue0").unwrap()).start().unwrap();
        explained_failure(&vm, 60).unwrap();
        says(&vm, "mount resc/ROOT/default@before", &["resc/ROOT/default@before is mounted on /mnt, read-only"]);
        says(&vm, "ls /mnt", &["sbin"]);
        says(&vm, "umount /mnt", &["/mnt is unmounted"]);
        says(&vm, "mount resc/ROOT/default /x ro", &["is mounted on /x, read-only"]);
        says(&vm, "cat /proc/mounts", &["resc/ROOT/default /x zfs ro"]);
        says(&vm, "umount resc/ROOT/default", &["/x is unmounted"]);
        says(&vm, "umount /proc", &["needed here"]);
        says(&vm, "key resc/secret /nosuch.key", &["/nosuch.key"]);
        says(&vm, "clear resc", &["the errors of pool resc are cleared"]);
        vm.type_line("kernel-log").unwrap();
        vm.expect("-- page 1 of", 20).unwrap();
        says(&vm, "q", &[]);
    }

    /// Nothing is imported: a pool is imported read-only by hand, the stock tools work on it, it is imported anew, and a
    /// snapshot is chosen from the lists by numbers.
    fn import_by_hand_and_boot_a_snapshot(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["rescue0"]).unwrap();
        let options = ["--modules", "generic", "--rescue", "full"];
        let vm = fails("rescue-import", system, &options, "root=ZFS=nosuch/root taproot.wait=2", disks);
        says(&vm, "import nosuch", &["import: pool nosuch was not found", "resc (guid"]);
        says(&vm, "import resc rw", &["expected ro, missing-log, checkpoint or rewind"]);
        says(&vm, "import resc ro", &["imported  pool resc", "online"]);
        vm.type_line("shell").unwrap();
        vm.expect(SHELL_PROMPT, 20).unwrap();
        says_at(&vm, SHELL_PROMPT, "zpool get -H -o value readonly resc", &["\non"]);
        says_at(&vm, SHELL_PROMPT, "zfs list -H -o name -r resc/ROOT", &["resc/ROOT/broken"]);
        says_at(&vm, SHELL_PROMPT, "zpool export resc", &[]);
        vm.type_line("exit").unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.type_line("import").unwrap();
        vm.expect("Which one?", 20).unwrap();
        vm.type_line("resc").unwrap();
        vm.expect("How?", 20).unwrap();
        vm.type_line("").unwrap();
        vm.expect("imported  pool resc", 30).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.type_line("boot").unwrap();
        vm.expect("2  resc/ROOT/default  (bootfs)", 20).unwrap();
        vm.expect("Which one?", 20).unwrap();
        vm.type_line("2").unwrap();
        vm.expect("3  @before", 20).unwrap();
        vm.expect("Enter boots it as it is now", 20).unwrap();
        vm.type_line("3").unwrap();
        let report = vm.report(60).unwrap();
        assert_eq!(report.hostname(), "resc");
        let root = taproot_tests::scenario::dataset_at(&report, "/").unwrap();
        assert!(root.contains("before"), "{root}");
    }

    /// A pool that has changed since its checkpoint: an import leaves it as it is, a rewound read-only one only shows the
    /// checkpoint, a rewound one is final.
    fn back_to_the_checkpoint(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["check0", "rescue0"]).unwrap();
        let options = ["--modules", "generic", "--rescue", "full"];
        let check = disks[0].clone();
        let mut vm = fails("rescue-checkpoint", system, &options, "root=ZFS=nosuch/root taproot.wait=2", disks);
        let forget = |vm: &Running| {
            vm.type_line("shell").unwrap();
            vm.expect(SHELL_PROMPT, 20).unwrap();
            says_at(vm, SHELL_PROMPT, "zpool export pcheck && echo ex''ported", &["\nexported"]);
            vm.type_line("exit").unwrap();
            vm.expect(PROMPT, 20).unwrap();
        };
        says(&vm, "import pcheck checkpoint ro", &["imported  pool pcheck"]);
        let now = answer(&vm, PROMPT, "datasets pcheck");
        assert!(now.contains("pcheck/ROOT/default") && !now.contains("pcheck/later"), "{now}");
        forget(&vm);
        assert_eq!(vm.writes(&check).unwrap(), 0);
        says(&vm, "import pcheck", &["imported  pool pcheck"]);
        says(&vm, "datasets pcheck", &["pcheck/later"]);
        forget(&vm);
        let question = answer(&vm, "Type yes to do it: ", "import pcheck checkpoint");
        assert!(question.contains("written to pool pcheck since its checkpoint will be lost"), "{question}");
        says(&vm, "no", &["nothing was done"]);
        vm.type_line("import resc checkpoint").unwrap();
        vm.expect("Type yes to do it: ", 20).unwrap();
        says(&vm, "yes", &["pool resc could not be imported: it has no checkpoint"]);
        vm.type_line("import pcheck checkpoint").unwrap();
        vm.expect("Type yes to do it: ", 20).unwrap();
        says(&vm, "yes", &["imported  pool pcheck"]);
        vm.type_line("boot pcheck/ROOT/default").unwrap();
        assert_eq!(vm.report(60).unwrap().hostname(), "pcheck");
    }

    /// A pool whose newest state was lost with the power: the kernel says how far it would go back, nothing is written before the
    /// yes, and then it boots. What is in order is not taken back.
    fn rewind_to_what_can_be_read(system) {
        let scratch = Scratch::new().unwrap();
        let options = ["--modules", "generic", "--rescue", "full"];
        let disk = scratch.overlay(system, "rescue0").unwrap();
        let words = "root=ZFS=nosuch/root taproot.wait=2";
        let vm = fails("rescue-rewind-made", system, &options, words, vec![disk.clone()]);
        says(&vm, "import resc rewind", &["pool resc can be imported as it is", "so it is not taken back: import resc"]);
        says(&vm, "import resc", &["imported  pool resc"]);
        let shell = |vm: &Running, line: &str, part: &str| {
            vm.type_line("shell").unwrap();
            vm.expect(SHELL_PROMPT, 20).unwrap();
            says_at(vm, SHELL_PROMPT, line, &[part]);
            vm.type_line("exit").unwrap();
            vm.expect(PROMPT, 20).unwrap();
        };
        shell(&vm, "for n in 1 2 3 4; do zfs set test:n=$n resc; sleep 2; done; echo wri''tten", "\nwritten");
        vm.kill().unwrap();

        let damaged = scratch.without_newest_state(&disk).unwrap();
        let mut vm = fails("rescue-rewind", system, &options, "root=ZFS=resc/ROOT/other taproot.wait=2", vec![damaged.clone()]);
        let why = vm.console.text();
        assert!(why.contains("bootfs not known") && why.contains("import resc rewind"), "{why}");
        says(&vm, "import resc", &["cannot be imported", "import resc rewind"]);
        let question = answer(&vm, "Type yes to do it: ", "import resc rewind");
        assert!(question.contains("The newest state of pool resc cannot be loaded; that of 20"), "{question}");
        assert!(question.contains("All that was written in the "), "{question}");
        says(&vm, "no", &["nothing was done"]);
        says(&vm, "import resc rewind ro", &["Read-only nothing is lost", "imported  pool resc"]);
        shell(&vm, "zfs get -H -o value test:n resc; zpool export resc && echo ex''ported", "\nexported");
        assert_eq!(vm.writes(&damaged).unwrap(), 0);
        answer(&vm, "Type yes to do it: ", "import resc rewind");
        says(&vm, "yes", &["imported  pool resc"]);
        shell(&vm, "zfs get -H -o value test:n resc", "\n3");
        vm.type_line("boot resc/ROOT/other").unwrap();
        assert_eq!(vm.report(60).unwrap().hostname(), "other");
    }

    /// The only disk of the pool is pulled while the root is mounted, and the pool waits for it for ever. The prompt does
    /// not: it says so, and restarts the machine.
    fn a_pool_whose_disk_is_gone(system) {
        let scratch = Scratch::new().unwrap();
        let disk = scratch.overlay(system, "rescue0").unwrap();
        let cmdline = "root=ZFS=resc/ROOT/other taproot.break=handover taproot.wait=2";
        let mut vm = vm("rescue-suspended", system, cmdline).unwrap().disk(disk.clone()).start().unwrap();
        vm.expect("stopped before the hand-over", 60).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.unplug(&disk).unwrap();
        says(&vm, "", &["restart the machine"]);
        says(&vm, "status", &["mounted   resc/ROOT/other on /", "imported  pool resc", "SUSPENDED: it waits for a disk that is gone (/dev/disk/by-id/virtio-rescue0-part1)", "reboot works"]);
        says(&vm, "pools", &["SUSPENDED"]);
        says(&vm, "datasets resc", &["SUSPENDED"]);
        says(&vm, "devices", &["no block device at all"]);
        says(&vm, "boot", &["no root was found"]);
        says(&vm, "key", &["no dataset of an imported pool waits for a key"]);
        says(&vm, "mount resc/data", &["mount: pool resc waits for a disk"]);
        says(&vm, "cat /newroot/etc/fstab", &["is on pool resc, which waits for a disk"]);
        says(&vm, "ls /newroot/sbin", &["is on pool resc, which waits for a disk"]);
        vm.type_line("retry").unwrap();
        let text = explained_failure(&vm, 60).unwrap();
        assert!(text.contains("it is imported, but waits for a disk that is gone"), "{text}");
        vm.type_line("reboot").unwrap();
        vm.wait_exit(20).unwrap();
    }

    /// The menu of roots, then a stop with the prompt, then on.
    fn menu_of_roots_and_a_stop(system) {
        let scratch = Scratch::new().unwrap();
        let cmdline = "root=zfs:AUTO taproot.menu=600 taproot.break=mount";
        let vm = vm("rescue-menu", system, cmdline).unwrap()
            .disk(scratch.overlay(system, "rescue0").unwrap()).start().unwrap();
        vm.expect("which root is to be booted?", 60).unwrap();
        vm.expect("* 2  resc/ROOT/default", 20).unwrap();
        vm.expect("also after 600 s", 20).unwrap();
        vm.type_line("7").unwrap();
        vm.expect("expected a number from 1 to 3", 20).unwrap();
        vm.type_line("3").unwrap();
        vm.expect("stopped before anything is mounted", 60).unwrap();
        vm.expect("1  continue", 20).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        says(&vm, "status", &["imported  pool resc", "root      none"]);
        vm.type_line("1").unwrap();
        let report = vm.report(60).unwrap();
        assert_eq!(report.hostname(), "other");
        assert!(!vm.console.shows(taproot_tests::words::EXPLANATION));
    }

    /// The countdown of the menu ends with the root that has no init; the fallback boots, and the record says so.
    fn countdown_and_fallback(system) {
        let scratch = Scratch::new().unwrap();
        let cmdline = "root=ZFS=resc/ROOT/broken taproot.menu=2 taproot.fallback=resc/ROOT/nosuch,resc/ROOT/other";
        let vm = vm("rescue-fallback", system, cmdline).unwrap().cold()
            .disk(scratch.overlay(system, "rescue0").unwrap()).start().unwrap();
        vm.expect("also after 2 s", 60).unwrap();
        let report = vm.report(60).unwrap();
        assert_eq!(report.hostname(), "other");
        let problems = report.json.unwrap()["problems"].to_string();
        for part in ["/sbin/init", "fallback root resc/ROOT/nosuch", "does not exist", "fallback root resc/ROOT/other"] {
            assert!(problems.contains(part), "{part:?} is not in {problems}");
        }
        assert!(!vm.console.shows(PROMPT));
    }

    /// A packed password locks everything but the harmless words, also the shell that the policy asks for, until it is typed.
    fn password(system) {
        let scratch = Scratch::new().unwrap();
        let file = scratch.path().join("password");
        std::fs::write(&file, "tr0ub4dor\n").unwrap();
        let packed = scratch.path().join("locked.img");
        let options = [&STANDARD[..], &["--rescue-password-file", file.to_str().unwrap()]].concat();
        kit::run(&mut image::pack_command(system, &options, &packed)).unwrap();
        let vm = Vm::new("rescue-password", system, &packed).append("root=zfs:AUTO taproot.wait=1 taproot.rescue=shell").start().unwrap();
        let text = explained_failure(&vm, 60).unwrap();
        assert!(text.contains("unlock") && !text.contains("save-log"), "{text}");
        for word in ["shell", "log", "boot resc/ROOT/other", "cat /etc/taproot/image.conf", "ls", "sh"] {
            says(&vm, word, &["not available, the prompt is locked"]);
        }
        vm.type_line("unlock").unwrap();
        vm.expect("Rescue password: ", 20).unwrap();
        vm.type_line("tr0ub4dore").unwrap();
        vm.expect("wrong password", 60).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        vm.type_line("unlock").unwrap();
        vm.expect("Rescue password: ", 20).unwrap();
        vm.type_line("tr0ub4dor").unwrap();
        // What the policy asks for comes now.
        vm.expect(SHELL_PROMPT, 60).unwrap();
        says_at(&vm, SHELL_PROMPT, "echo $((6*7))", &["\n42"]);
        vm.type_line("exit").unwrap();
        vm.expect("save-log", 20).unwrap();
        vm.expect(PROMPT, 20).unwrap();
        assert!(!vm.console.shows("tr0ub4dor"));
    }

    /// Locked without a password: a person can only try again, restart or switch off.
    fn locked(system) {
        let scratch = Scratch::new().unwrap();
        let mut vm = fails("rescue-locked", system, &STANDARD, "root=zfs:AUTO taproot.wait=1 taproot.rescue=locked", vec![]);
        for word in ["shell", "log", "import resc"] {
            says(&vm, word, &["not available, the prompt is locked\n"]);
        }
        says(&vm, "unlock", &["no rescue password is packed"]);
        vm.plug(&scratch.overlay(system, "rescue0").unwrap()).unwrap();
        vm.type_line("wait 30").unwrap();
        assert_eq!(vm.report(60).unwrap().hostname(), "resc");
    }
}
