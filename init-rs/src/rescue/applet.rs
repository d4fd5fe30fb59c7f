//! The same binary by other names in the packed shell, and `--help` anywhere else.

use super::desk::{Desk, Outcome};
use super::shell::{BUSYBOX, DECISION_FILE, write_decision};
use super::talk::Talk;
use super::words::{self, Place};
use super::{Decision, apart};
use crate::cmdline;
use crate::image::{CONFIG_PATH, ImageConfig};
use crate::report::log::Log;
use crate::sys::linux::Linux;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const USAGE: &str = "\
taproot-init is the /init of an initramfs that `taproot initramfs` packed. In the rescue shell of such an image it
answers to the words below, alone or as `taproot-init WORD`. `taproot-init hook` is for the initramfs of another tool.

  taproot-init --version    print the version
  taproot-init --help       this text

";

/// Runs as the applet that `args` name; returns the exit status.
pub fn run(args: &[String]) -> i32 {
    let base = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let name = args.first().map(base).unwrap_or_default();
    // `taproot-init log` is the same as `log`; `exe`: called by /proc/1/exe.
    let skip = usize::from(matches!(name.as_str(), "taproot-init" | "init" | "exe"));
    let name = args.get(skip).map(base).unwrap_or_default();
    let rest: Vec<&str> = args.iter().skip(skip + 1).map(String::as_str).collect();
    match name.as_str() {
        "--version" | "-V" => println!("taproot-init {}", env!("CARGO_PKG_VERSION")),
        "" | "--help" | "-h" => print!("{USAGE}{}", help()),
        apart::WORD => apart::try_pools(),
        "help" => print!("{}\nEverything else is busybox; `busybox` alone lists what it has.\n", help()),
        // Two programs have this name: ours takes a dataset, busybox's everything else.
        "mount" if !is_ours(&rest) => {
            let error = Command::new(BUSYBOX).arg("mount").args(&rest).exec();
            eprintln!("mount: {BUSYBOX}: {error}");
            return 1;
        }
        _ if words::find(&name).is_some_and(|w| w.place == Place::Both) => return word(&name, &rest),
        _ => {
            eprintln!("taproot-init: unknown word {name:?}\n{USAGE}{}", help());
            return 2;
        }
    }
    0
}

fn help() -> String {
    words::help(|w| w.place == Place::Both)
}

/// Whether the arguments of `mount` are `DATASET [DIR]`.
fn is_ours(rest: &[&str]) -> bool {
    let dataset = |name: &str| !name.starts_with(['/', '-']) && !name.contains('=');
    match rest {
        [name] => dataset(name) && !Path::new(name).exists(),
        [name, dir] => dataset(name) && dir.starts_with('/') && *name != "none",
        _ => false,
    }
}

fn word(name: &str, rest: &[&str]) -> i32 {
    let system = Linux::new();
    let log = Log::new(Arc::new(Linux::new()));
    // What an import or a key tells belongs into the kernel's log, not between the lines here.
    let _ = log.attach();
    let image = ImageConfig::parse(&std::fs::read_to_string(CONFIG_PATH).unwrap_or_default());
    let mut line = image.cmdline.into_bytes();
    line.push(b' ');
    line.extend(std::fs::read("/proc/cmdline").unwrap_or_default());
    let request = cmdline::parse(&line);
    let mut desk = Desk { system: &system, log: &log, talk: Talk::as_applet(), request, pools: &[], stopped: true };
    match desk.answer(name, rest) {
        Outcome::Done => 0,
        Outcome::Failed => 1,
        Outcome::Decided(decision) => leave(name, &decision),
    }
}

/// Writes the wish down for PID 1 and ends the shell that called.
fn leave(name: &str, decision: &Decision) -> i32 {
    // In a booted system this would end the shell of whoever tries it.
    if !Path::new(CONFIG_PATH).exists() {
        eprintln!("{name}: this works only in the rescue shell of an image ({CONFIG_PATH} is not there)");
        return 1;
    }
    if let Err(e) = write_decision(decision) {
        eprintln!("{name}: {DECISION_FILE}: {e}");
        return 1;
    }
    match kill(getppid(), Signal::SIGHUP) {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("{name}: the shell did not take the signal ({e}); type exit");
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shell that is not ended here is the one that runs the tests.
    #[test]
    fn outside_of_an_image_no_shell_is_ended() {
        assert_eq!(leave("retry", &Decision::Retry), 1);
        assert!(!Path::new(DECISION_FILE).exists());
    }

    #[test]
    fn mount_is_ours_only_with_a_dataset() {
        for ours in [vec!["tank/home"], vec!["tank", "/mnt"], vec!["tank/a b", "/mnt/x"]] {
            assert!(is_ours(&ours), "{ours:?}");
        }
        let not: [&[&str]; 6] = [
            &[],
            &["/dev/sda1"],
            &["/dev/sda1", "/mnt"],
            &["-t", "vfat", "/dev/sda1", "/mnt"],
            &["LABEL=x", "/mnt"],
            &["none", "/mnt"],
        ];
        for other in not {
            assert!(!is_ours(other), "{other:?}");
        }
    }
}
