//! The built-in prompt, for images without a shell: enough to understand the failure and to go on.

use super::{Decision, WHY_FILE, pools, print};
use crate::report::boot::REPORT_PATH;
use crate::report::log::LOG_PATH;
use std::fs;
use std::io::BufRead;
use std::time::Duration;

/// Seconds until a console that gives no input is taken for absent and the boot is tried again.
const NO_CONSOLE_RETRY: Duration = Duration::from_secs(30);
/// Files shown by `cat` are cut here: a prompt is no pager.
const SHOWN: usize = 64 * 1024;

const HELP: &str = "\
why             what went wrong
log             the log of this boot
report          the machine-readable record (boot.json)
pools           pools seen on the disks
ls DIR          names in a directory
cat FILE        contents of a file, e.g. cat /proc/mounts
retry           try to boot again
reboot          restart the machine
poweroff        switch it off
";

/// Reads commands until one of them decides.
pub(super) fn run() -> Decision {
    let stdin = std::io::stdin();
    loop {
        print("(taproot) # ");
        let mut line = Vec::new();
        let read = stdin.lock().read_until(b'\n', &mut line);
        if !matches!(read, Ok(n) if n > 0) {
            std::thread::sleep(NO_CONSOLE_RETRY);
            return Decision::Retry;
        }
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split_whitespace();
        let command = words.next().unwrap_or("");
        match (command, words.next()) {
            ("", _) => {}
            ("retry" | "exit", _) => return Decision::Retry,
            ("reboot", _) => return Decision::Reboot,
            ("poweroff", _) => return Decision::PowerOff,
            (_, argument) => answer(command, argument),
        }
    }
}

/// The commands that only show something; also what the binary answers under these names in the packed shell.
pub(super) fn answer(command: &str, argument: Option<&str>) {
    match (command, argument) {
        ("help" | "?", _) => print(HELP),
        ("why", _) => show(WHY_FILE),
        ("log", _) => show(LOG_PATH),
        ("report", _) => show(REPORT_PATH),
        ("pools", _) => print(&pools::text()),
        ("cat", Some(path)) => show(path),
        ("ls", dir) => list(dir.unwrap_or("/")),
        ("cat", None) => print("cat: expected a file, e.g. cat /proc/mounts\n"),
        _ => print(&format!("{command}: not a command of this prompt; 'help' lists them\n")),
    }
}

fn show(path: &str) {
    match fs::read(path) {
        Ok(bytes) => {
            print(&String::from_utf8_lossy(bytes.get(..SHOWN).unwrap_or(&bytes)));
            if bytes.len() > SHOWN {
                print(&format!("\n[{} of {} bytes shown]\n", SHOWN, bytes.len()));
            } else if bytes.last() != Some(&b'\n') {
                print("\n");
            }
        }
        Err(e) => print(&format!("{path}: {e}\n")),
    }
}

fn list(dir: &str) {
    match fs::read_dir(dir) {
        Ok(entries) => {
            let mut names: Vec<String> =
                entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            print(&format!("{}\n", names.join("  ")));
        }
        Err(e) => print(&format!("{dir}: {e}\n")),
    }
}
