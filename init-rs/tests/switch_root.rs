//! The hand-over with real mounts, in a mount and PID namespace of its own: this test program plays the initramfs' init and
//! then the real one.
#![allow(clippy::unwrap_used, clippy::panic)] // a test stops at the first surprise

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use std::fmt::Write as _;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use taproot_init::sys::switch_root::hand_over;

#[path = "../../tests/src/account.rs"]
#[allow(unreachable_pub, reason = "public where the scenarios use it")]
mod account;

/// Set to the file that the last stage writes its findings to.
const VERDICT: &str = "TAPROOT_TEST_VERDICT";
/// Made by the initramfs stage on the tmpfs that moves along: numbers of the inherited fds (old root, verdict).
const STAGE: &str = "/run/taproot-test-stage";

#[test]
fn hand_over_to_the_next_init() {
    match std::env::var_os(VERDICT) {
        Some(_) if Path::new(STAGE).exists() => real_root(),
        Some(verdict) => initramfs(Path::new(&verdict)),
        None => outside(),
    }
}

fn outside() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    if !status.lines().any(|l| l.starts_with("Uid:\t0\t0")) {
        account::skipped("mounting needs root");
        return;
    }
    let verdict = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "hand_over_to_the_next_init", "--nocapture"])
        .env(VERDICT, verdict.path())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("cannot change root filesystem propagation") {
        account::skipped("/ is no mount point (a plain chroot), so mounts made here could not be kept private");
        return;
    }
    let found = fs::read_to_string(verdict.path()).unwrap();
    let expected = "pid 1\nroot real\nleft in the initramfs: []\nmounts /dev /proc /run /sys\nwords quiet splash\n";
    assert_eq!(found, expected, "{errors}");
}

fn bind(source: &str, target: &Path, fstype: Option<&str>) {
    let flags = if fstype.is_some() { MsFlags::empty() } else { MsFlags::MS_BIND };
    mount(Some(source), target, fstype, flags, None::<&str>).unwrap();
}

/// PID 1 of a small initramfs on a tmpfs.
fn initramfs(verdict: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path();
    bind("old", old, Some("tmpfs"));
    for sub in ["dev", "proc", "sys", "run", "newroot", "lib/deep/er"] {
        fs::create_dir_all(old.join(sub)).unwrap();
    }
    fs::write(old.join("lib/deep/er/module.ko"), "x").unwrap();
    fs::write(old.join("init"), "x").unwrap();
    bind("/dev", &old.join("dev"), None);
    bind("/sys", &old.join("sys"), None);
    bind("proc", &old.join("proc"), Some("proc"));
    bind("run", &old.join("run"), Some("tmpfs"));

    let new = old.join("newroot");
    bind("real", &new, Some("tmpfs"));
    // /run is left out: the hand-over makes a missing directory where it can.
    for sub in ["dev", "proc", "sys", "sbin"] {
        fs::create_dir(new.join(sub)).unwrap();
    }
    fs::write(new.join("which"), "real").unwrap();
    fs::copy(std::env::current_exe().unwrap(), new.join("sbin/init")).unwrap();

    // Without O_CLOEXEC both survive into the next init.
    let old_root = open(old, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    let verdict = open(verdict, OFlag::O_WRONLY, Mode::empty()).unwrap();
    let numbers = format!("{} {}", old_root.as_raw_fd(), verdict.as_raw_fd());
    fs::write(old.join("run/taproot-test-stage"), numbers).unwrap();
    nix::unistd::chroot(old).unwrap();
    nix::unistd::chdir("/").unwrap();
    let words = ["--exact", "hand_over_to_the_next_init", "--nocapture", "quiet", "splash"].map(Into::into);
    panic!("{}", hand_over(Path::new("/newroot"), Path::new("/sbin/init"), &words));
}

/// The next init: says what it sees.
fn real_root() {
    let stage = fs::read_to_string(STAGE).unwrap();
    let (old_root, verdict) = stage.split_once(' ').unwrap();
    let mut text = format!("pid {}\nroot {}\n", std::process::id(), fs::read_to_string("/which").unwrap());
    let mut left: Vec<String> = fs::read_dir(format!("/proc/self/fd/{old_root}"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut mounts: Vec<&str> = mounts.lines().filter_map(|l| l.split(' ').nth(1)).collect();
    mounts.retain(|m| ["/dev", "/proc", "/run", "/sys"].contains(m));
    mounts.sort_unstable();
    mounts.dedup();
    let words: Vec<String> = std::env::args().skip(4).collect();
    writeln!(text, "left in the initramfs: {left:?}\nmounts {}\nwords {}", mounts.join(" "), words.join(" ")).unwrap();
    fs::write(format!("/proc/self/fd/{verdict}"), text).unwrap();
}
