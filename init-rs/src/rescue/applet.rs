//! The same binary by other names in the packed shell, and `--help` anywhere else.

use super::prompt;
use super::shell::DECISION_FILE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;

const USAGE: &str = "\
taproot-init is the /init of an initramfs that `taproot initramfs` packed. In the rescue shell of such an image it
answers as: help why log report pools retry reboot poweroff

  taproot-init --version    print the version
  taproot-init --help       this text
";

/// Runs as the applet that `args` name; returns the exit status.
pub fn run(args: &[String]) -> i32 {
    let base = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let name = args.first().map(base).unwrap_or_default();
    // `taproot-init log` is the same as `log`.
    let (name, rest) = if matches!(name.as_str(), "taproot-init" | "init") {
        (args.get(1).cloned().unwrap_or_default(), args.get(2))
    } else {
        (name, args.get(1))
    };
    match name.as_str() {
        "--version" | "-V" => println!("taproot-init {}", env!("CARGO_PKG_VERSION")),
        "" | "--help" | "-h" => print!("{USAGE}"),
        "retry" | "reboot" | "poweroff" => return leave(&name),
        "why" | "log" | "report" | "pools" => prompt::answer(&name, None),
        "help" => {
            prompt::answer("help", None);
            println!("Everything else is busybox; `busybox` alone lists what it has.");
        }
        _ => {
            eprintln!("taproot-init: unknown word {:?} {:?}\n{USAGE}", name, rest.map_or("", String::as_str));
            return 2;
        }
    }
    0
}

/// Writes the wish down for PID 1 and ends the shell that called.
fn leave(decision: &str) -> i32 {
    if let Err(e) = std::fs::write(DECISION_FILE, decision) {
        eprintln!("{decision}: {DECISION_FILE}: {e}; this works only in the rescue shell of an image");
        return 1;
    }
    match kill(getppid(), Signal::SIGHUP) {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("{decision}: the shell did not take the signal ({e}); type exit");
            1
        }
    }
}
