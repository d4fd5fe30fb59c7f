//! The packed shell: busybox as a child of PID 1, on a real terminal so that job control works.

use super::Decision;
use super::words::{Place, WORDS};
use crate::image::CONFIG_PATH;
use crate::sys::terminal;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Where the builder puts busybox.
pub(super) const BUSYBOX: &str = "/bin/busybox";
/// The shell's children leave their wish here before the shell exits.
pub(super) const DECISION_FILE: &str = "/run/taproot/decision";
/// Read by the shell when it starts.
const SHELL_START: &str = "/run/taproot/shrc";

/// Whether there is one.
pub(super) fn packed() -> bool {
    Path::new(BUSYBOX).exists()
}

/// Runs the shell on the terminal at `path` until the user leaves it; the decision that a word in it made, if one did.
pub(super) fn run(path: &Path) -> io::Result<Option<Decision>> {
    fs::create_dir_all("/run/taproot")?;
    let _ = fs::remove_file(DECISION_FILE);
    // When the init could not be executed, `/` is the user's root already: nothing of it may be touched. Nor may an image
    // of another tool, whose /init is not ours.
    let pid_1 = std::process::id() == 1;
    let in_image = pid_1 && Path::new(CONFIG_PATH).exists();
    if in_image {
        let _ = Command::new(BUSYBOX).args(["--install", "-s", "/bin"]).status();
        // Where hands mount by habit.
        let _ = fs::create_dir_all("/mnt");
        // Scripts see no aliases; busybox's `mount` stays for them.
        for name in our_words().filter(|name| *name != "mount") {
            let link = Path::new("/bin").join(name);
            let _ = fs::remove_file(&link);
            let _ = symlink("/init", link);
        }
    }
    let own = std::env::current_exe().unwrap_or_else(|_| "taproot-init".into());
    let program = match (in_image, pid_1) {
        (true, _) => "/init".to_owned(),
        (false, true) => "/proc/1/exe".to_owned(),
        (false, false) => own.display().to_string(),
    };
    fs::write(SHELL_START, aliases(&program))?;
    let mut shell = Command::new(BUSYBOX);
    shell
        .args(["sh", "-i"])
        .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
        .env("HOME", "/")
        .env("PS1", "(shell) # ")
        .env("ENV", SHELL_START);
    if std::env::var_os("TERM").is_none() {
        shell.env("TERM", "linux");
    }
    terminal::run_in_foreground(&mut shell, path)?;
    Ok(take_decision())
}

fn our_words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().filter(|w| w.place == Place::Both).map(|w| w.name)
}

/// The shell's own `help`, and busybox's applets of the same names, would hide our words.
fn aliases(program: &str) -> String {
    our_words().fold(String::new(), |mut out, name| {
        let _ = writeln!(out, "alias {name}='{program} {name}'");
        out
    })
}

/// The decision that a word in a shell left, once.
pub fn take_decision() -> Option<Decision> {
    let text = fs::read_to_string(DECISION_FILE).ok()?;
    let _ = fs::remove_file(DECISION_FILE);
    read(&text)
}

/// Leaves a decision for PID 1.
pub(super) fn write_decision(decision: &Decision) -> io::Result<()> {
    let text = match decision {
        Decision::Retry => "retry".to_owned(),
        Decision::Wait(time) => format!("wait {}", time.as_secs()),
        Decision::Boot(name) => format!("boot {name}"),
        Decision::Continue => "continue".to_owned(),
        Decision::Reboot => "reboot".to_owned(),
        Decision::PowerOff => "poweroff".to_owned(),
    };
    fs::write(DECISION_FILE, text)
}

fn read(text: &str) -> Option<Decision> {
    Some(match text.split_once(' ').unwrap_or((text, "")) {
        ("retry", "") => Decision::Retry,
        ("wait", time) => Decision::Wait(Duration::from_secs(time.parse().ok()?)),
        ("boot", name) if !name.is_empty() => Decision::Boot(name.to_owned()),
        ("continue", "") => Decision::Continue,
        ("reboot", "") => Decision::Reboot,
        ("poweroff", "") => Decision::PowerOff,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_knows_our_words() {
        let text = aliases("/proc/1/exe");
        assert!(text.contains("alias retry='/proc/1/exe retry'\n") && !text.contains("alias ls="), "{text}");
    }

    #[test]
    fn decisions_are_read_back() {
        assert_eq!(read("boot tank/a b@s"), Some(Decision::Boot("tank/a b@s".into())));
        assert_eq!(read("wait 90"), Some(Decision::Wait(Duration::from_secs(90))));
        assert_eq!(read("continue"), Some(Decision::Continue));
        for wrong in ["", "boot", "boot ", "wait x", "reboot now"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
