//! The packed shell: busybox as a child of PID 1, on the real terminal behind `/dev/console` so that job control works.

use super::Decision;
use crate::sys::terminal;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Where the builder puts busybox.
pub(super) const BUSYBOX: &str = "/bin/busybox";
/// The shell's children leave their wish here before the shell exits.
pub(super) const DECISION_FILE: &str = "/run/taproot/decision";
/// Read by the shell when it starts.
const SHELL_START: &str = "/run/taproot/shrc";
/// Names under which this binary answers in the shell.
const APPLETS: [&str; 8] = ["help", "why", "log", "report", "pools", "retry", "reboot", "poweroff"];

/// Runs the shell until the user leaves it.
pub(super) fn run() -> io::Result<Decision> {
    let _ = Command::new(BUSYBOX).args(["--install", "-s", "/bin"]).status();
    fs::create_dir_all("/run/taproot")?;
    let _ = fs::remove_file(DECISION_FILE);
    // These come after busybox's own links: `reboot` of busybox would look for an init to signal.
    for name in APPLETS {
        let link = Path::new("/bin").join(name);
        let _ = fs::remove_file(&link);
        let _ = symlink("/init", link);
    }
    // The shell's own `help` would hide ours.
    fs::write(SHELL_START, "alias help=/bin/help\n")?;
    let mut shell = Command::new(BUSYBOX);
    shell
        .args(["sh", "-i"])
        .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
        .env("HOME", "/")
        .env("PS1", "(taproot) # ")
        .env("ENV", SHELL_START);
    if std::env::var_os("TERM").is_none() {
        shell.env("TERM", "linux");
    }
    terminal::run_in_foreground(&mut shell)?;
    Ok(match fs::read_to_string(DECISION_FILE).as_deref() {
        Ok("reboot") => Decision::Reboot,
        Ok("poweroff") => Decision::PowerOff,
        _ => Decision::Retry,
    })
}
