//! The hook files for mkinitcpio, run under busybox ash and bash with mkinitcpio's own functions replaced by recorders.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use taproot_tests::checkout;
use tempfile::TempDir;

/// What of `init_functions` the runtime file may call; each call is one line of the record.
const RUNTIME: &str = r#"
record() { printf '%s\n' "$*" >>"$RECORD"; }
msg() { record msg "$@"; }
err() { record err "$@"; }
modprobe() { record modprobe "$@"; return "${MODPROBE_STATUS:-0}"; }
run_hookfunctions() { record run_hookfunctions "$@"; }
launch_interactive_shell() { record shell; }
stat() { if [ "$3" = / ] || [ ! -e "$RECORD.by-hand" ]; then echo 1; else echo 2; fi; }
sleep() { record sleep "$@"; }
mount_handler=default_mount_handler
init=/sbin/init
EMERGENCYHOOKS="plymouth other"
"#;

/// What of `functions` the build file may call.
const BUILD: &str = r#"
record() { printf '%s\n' "$*" >>"$RECORD"; }
for f in add_module add_binary add_dir add_symlink add_runscript add_udev_rule warning error quiet; do
    eval "$f() { record $f \"\$@\"; }"
done
add_file() { record add_file "$@"; if [[ $1 == - ]]; then sed 's/^/| /' >>"$RECORD"; fi; }
map() { local f=$1 a; shift; for a; do "$f" "$a"; done; }
findmnt() { record findmnt "$@" >&2; [[ -n "$ROOT_SOURCE" ]] && echo "$ROOT_SOURCE"; }
zpool() {
    case "$1" in
        get) echo 1234567890123456789 ;;
        list) printf 'tank\t10G\n\tmirror-0\t10G\n\t/dev/disk/by-id/a b\t10G\n\t/dev/disk/by-id/c\t10G\n' ;;
    esac
}
_builderrors=0
KERNELVERSION=6.12-test
"#;

struct Room {
    dir: TempDir,
}

impl Room {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("bin")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A `taproot-init` that records its arguments and answers `hook WORD` with the next of the statuses given for it.
    fn taproot_init(&self, answers: &[(&str, &str)]) {
        let mut cases = String::new();
        for (word, statuses) in answers {
            fs::write(self.path(&format!("answers-{word}")), statuses.replace(' ', "\n") + "\n").unwrap();
        }
        cases.push_str(
            "#!/bin/sh\necho \"taproot-init $*\" >>\"$RECORD\"\nf=$ROOM/answers-$2\n[ -e \"$f\" ] || exit 0\n",
        );
        cases.push_str("s=$(head -n 1 \"$f\")\nsed -i 1d \"$f\"\nexit \"${s:-0}\"\n");
        let program = self.path("bin/taproot-init");
        fs::write(&program, cases).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a script; gives the record and what was printed. Fails unless the script came to its end: a hook that exits
    /// ends PID 1.
    fn run(&self, shell: &[&str], script: &str) -> (Vec<String>, String) {
        let record = self.path("record");
        let _ = fs::remove_file(&record);
        let output = Command::new(shell[0])
            .args(&shell[1..])
            .arg("-c")
            .arg(format!("{script}\necho THE-END\n"))
            .env("RECORD", &record)
            .env("ROOM", self.dir.path())
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("bin").display()))
            .env_remove("ENV")
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(printed.ends_with("THE-END\n"), "{shell:?} did not come to the end\n{printed}{errors}");
        assert!(!errors.contains("not found") && !errors.contains("yntax"), "{shell:?}: {errors}");
        let record = fs::read_to_string(&record).unwrap_or_default();
        (record.lines().map(str::to_owned).collect(), printed)
    }

    /// A boot: the file is sourced for each phase, as `run_hookfunctions` of mkinitcpio does it.
    fn boot(&self, shell: &[&str], before: &str) -> (Vec<String>, String) {
        let file = hook_file("hooks");
        let new_root = self.path("new_root");
        let phase = |name: &str| format!("unset -f {name}\n. {}\n{name}\n", file.display());
        self.run(
            shell,
            &format!(
                "{RUNTIME}\ndefault_mount_handler() {{ record default_mount_handler; }}\n{before}\n{}\
                 record handler \"$mount_handler\"\n\"$mount_handler\" {}\n{}record init \"$init\"",
                phase("run_hook"),
                new_root.display(),
                phase("run_latehook"),
            ),
        )
    }

    /// A build; `before` sets what mkinitcpio and its configuration would have set.
    fn build(&self, before: &str) -> Vec<String> {
        let script =
            format!("{BUILD}\n{before}\n. {}\nbuild\nrecord errors $_builderrors", hook_file("install").display());
        self.run(&["bash"], &script).0
    }
}

fn hook_file(kind: &str) -> PathBuf {
    checkout().join("mkinitcpio-hook").join(kind).join("taproot")
}

const SHELLS: [&[&str]; 2] = [&["busybox", "ash"], &["bash"]];

/// The same with both shells.
fn each_shell(test: impl Fn(&Room, &[&str])) {
    for shell in SHELLS {
        test(&Room::new(), shell);
    }
}

fn has(record: &[String], line: &str) -> bool {
    record.iter().any(|l| l == line)
}

#[test]
fn the_runtime_file_is_short_and_never_exits() {
    let text = fs::read_to_string(hook_file("hooks")).unwrap();
    assert!(text.lines().count() < 60);
    assert!(text.starts_with("#!/usr/bin/ash\n"));
    for line in text.lines().filter(|l| !l.trim_start().starts_with('#') && !l.contains("echo ")) {
        assert!(!line.split(|c: char| !c.is_alphanumeric()).any(|word| word == "exit" || word == "exec"), "{line}");
    }
}

/// mkinitcpio reads from the text which phases a file has.
#[test]
fn phases_are_found_by_text() {
    let pattern = "^[[:space:]]*[[:alnum:]_]+[[:space:]]*\\([[:space:]]*\\)";
    let script = format!("grep -oE '{pattern}' '{}' | tr -d ' ()' | grep '^run_'", hook_file("hooks").display());
    let found = Command::new("sh").args(["-c", &script]).output().unwrap().stdout;
    assert_eq!(String::from_utf8(found).unwrap(), "run_hook\nrun_latehook\n");
}

#[test]
fn a_root_of_ours_is_mounted() {
    each_shell(|room, shell| {
        room.taproot_init(&[]);
        let (record, printed) = room.boot(shell, "");
        let new_root = room.path("new_root");
        let mount = format!("taproot-init hook mount {}", new_root.display());
        assert_eq!(
            record,
            [
                "taproot-init hook wanted",
                "modprobe zfs",
                "handler taproot_mount_handler",
                &mount,
                "taproot-init hook late",
                "init /sbin/init",
            ],
            "{shell:?}"
        );
        assert_eq!(printed, "THE-END\n", "what there is to say the binary says");
    });
}

#[test]
fn another_root_is_left_alone() {
    each_shell(|room, shell| {
        room.taproot_init(&[("wanted", "1")]);
        let (record, _) = room.boot(shell, "root=/dev/sda1");
        assert_eq!(
            record,
            ["taproot-init hook wanted", "handler default_mount_handler", "default_mount_handler", "init /sbin/init"],
            "{shell:?}"
        );
    });
}

#[test]
fn a_failed_mount_leads_to_the_shell_and_another_attempt() {
    each_shell(|room, shell| {
        room.taproot_init(&[("mount", "1 1 0")]);
        let (record, printed) = room.boot(shell, "");
        let new_root = room.path("new_root");
        let mount = format!("taproot-init hook mount {}", new_root.display());
        let failure = format!("err taproot: no root is mounted on {}", new_root.display());
        let attempt =
            [&mount, "run_hookfunctions run_emergencyhook emergency hook plymouth other", &failure, "shell", "sleep 1"];
        let from = record.iter().position(|l| *l == mount).unwrap();
        assert_eq!(record[from..from + 5], attempt, "{shell:?}");
        assert_eq!(record[from + 5..from + 10], attempt, "{shell:?}");
        assert_eq!(record[from + 10..from + 12], [mount.as_str(), "taproot-init hook late"], "{shell:?}");
        assert!(printed.contains("'taproot-init help'") && printed.contains("'exit' tries again"), "{printed}");
    });
}

/// The binary missing, or killed, is a failure like any other.
#[test]
fn a_missing_module_and_a_killed_program_end_in_the_shell() {
    each_shell(|room, shell| {
        room.taproot_init(&[("mount", "137 0")]);
        let (record, _) = room.boot(shell, "MODPROBE_STATUS=1");
        assert!(has(&record, "err taproot: the zfs module was not loaded"), "{record:?}");
        assert!(has(&record, "shell"), "{shell:?}: {record:?}");
    });
}

#[test]
fn a_root_mounted_by_hand_is_taken() {
    each_shell(|room, shell| {
        room.taproot_init(&[("mount", "1 1 1 1 1 1")]);
        let (record, _) = room.boot(shell, "launch_interactive_shell() { record shell; : >\"$RECORD.by-hand\"; }");
        assert_eq!(record.iter().filter(|l| *l == "shell").count(), 1, "{shell:?}: {record:?}");
        assert!(has(&record, "taproot-init hook late"), "{record:?}");
    });
}

/// mkinitcpio tests `/new_root$init`, through links as they lead in the initramfs.
#[test]
fn an_absolute_link_as_init_is_found() {
    each_shell(|room, shell| {
        room.taproot_init(&[]);
        let new_root = room.path("new_root");
        let seen_as = |name: &str| room.path(&format!("outside/{name}"));
        let link = |target: &Path, name: &str| {
            let path = new_root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, path).unwrap();
        };
        // Two absolute links, one after the other; the "initramfs" they lead to is the room.
        let inside = |name: &str| seen_as(name).strip_prefix("/").unwrap().to_str().unwrap().to_owned();
        link(&seen_as("alternatives/init"), "sbin/init");
        link(&seen_as("systemd"), &inside("alternatives/init"));
        let program = new_root.join(inside("systemd"));
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

        let test = format!("[ -x {}/sbin/init ] && echo found-it", new_root.display());
        let (record, printed) = room.boot(shell, &test);
        assert!(has(&record, "init /sbin/init"), "argv[0] of the init stays: {record:?}");
        assert_eq!(printed, "THE-END\n", "not found before");
        let found = Command::new("sh").args(["-c", &test]).output().unwrap();
        assert!(found.status.success(), "{shell:?}");
    });
}

#[test]
fn build_adds_what_the_boot_needs() {
    let room = Room::new();
    let record = room.build("_hooks=(base udev block taproot filesystems)");
    for line in [
        "add_module zfs",
        "add_module spl?",
        "add_module efivarfs?",
        "add_binary /usr/lib/taproot/taproot-init /usr/bin/taproot-init 755",
        "add_file - /etc/taproot/image.conf 644",
        "| packer=mkinitcpio",
        "| kernel=6.12-test",
        "errors 0",
    ] {
        assert!(has(&record, line), "{line:?} is missing: {record:#?}");
    }
    assert_eq!(record[record.len() - 2], "add_runscript", "last, so that an error before it shows: {record:#?}");
    let hostid = has(&record, "add_file /etc/hostid");
    let warned = record.iter().any(|l| l.starts_with("warning taproot: there is no /etc/hostid"));
    assert_eq!((hostid, warned), if Path::new("/etc/hostid").exists() { (true, false) } else { (false, true) });
    assert!(!record.iter().any(|l| l.starts_with("| pool=") || l.starts_with("| cmdline=")), "{record:#?}");
    assert!(!record.iter().any(|l| l.starts_with("add_binary zpool")), "{record:#?}");
}

#[test]
fn build_knows_the_pool_of_the_running_system_and_its_settings() {
    let room = Room::new();
    let record = room.build("_hooks=(base udev taproot)\nROOT_SOURCE=tank/ROOT/default\nTAPROOT_TOOLS=yes\nTAPROOT_CMDLINE='taproot.wait=60 quiet'");
    assert!(has(&record, "| cmdline=taproot.wait=60 quiet"), "{record:#?}");
    assert!(has(&record, "| pool=tank\t1234567890123456789\t/dev/disk/by-id/a b\t/dev/disk/by-id/c"), "{record:#?}");
    assert!(has(&record, "add_binary zpool") && has(&record, "add_binary zfs"), "{record:#?}");
    // And the boot reads it so.
    let text: String = record.iter().filter_map(|l| l.strip_prefix("| ")).flat_map(|l| [l, "\n"]).collect();
    let config = taproot_init::image::ImageConfig::parse(&text);
    assert_eq!(config.packer, "mkinitcpio");
    assert_eq!(config.cmdline, "taproot.wait=60 quiet");
    assert_eq!(config.pools[0].guid, 1_234_567_890_123_456_789);
    assert_eq!(config.pools[0].vdevs, ["/dev/disk/by-id/a b", "/dev/disk/by-id/c"]);
}

#[test]
fn build_refuses_images_that_cannot_work() {
    for (hooks, word) in [
        ("base systemd taproot", "'systemd'"),
        ("base udev zfs taproot", "'zfs'"),
        ("base udev resume taproot filesystems", "'resume'"),
    ] {
        let record = Room::new().build(&format!("_hooks=({hooks})"));
        assert!(record.iter().any(|l| l.starts_with("error taproot: ") && l.contains(word)), "{record:#?}");
        assert!(has(&record, "errors 1"), "mkinitcpio has to fail: {record:#?}");
        assert!(!record.iter().any(|l| l.starts_with("add_")), "{record:#?}");
    }
}

#[test]
fn help_names_the_words() {
    let (_, text) = Room::new().run(&["bash"], &format!(". {}\nhelp", hook_file("install").display()));
    for word in [
        "root=ZFS=",
        "root=zfs",
        "zfs=bootfs",
        "zfs=auto",
        "zfs_force",
        "zfs_wait",
        "zfs_import_dir",
        "zfs_boot_only",
        "resume=",
        "'zfs' hook",
        "'udev'",
        "'block'",
        "'keyboard'",
        "'filesystems'",
        "TAPROOT_TOOLS",
        "TAPROOT_CMDLINE",
    ] {
        assert!(text.contains(word), "{word:?} is not in the help:\n{text}");
    }
    assert!(text.lines().all(|l| l.len() <= 80), "wider than a terminal");
}
