//! The same binary by other names in the packed shell, and `--help` anywhere else.

use super::desk::{Desk, Outcome};
use super::shell::{BUSYBOX, DECISION_FILE, write_decision};
use super::talk::Talk;
use super::words::{self, Place};
use super::{Decision, apart, hands};
use crate::cmdline;
use crate::image::{CONFIG_PATH, ImageConfig};
use crate::report::boot::WORDS_PATH;
use crate::report::log::Log;
use crate::report::phases::Phases;
use crate::sys::{Program, System, Terminals};
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

/// Longest command line that a kernel takes.
const CMDLINE_MAX: usize = 64 << 10;

const USAGE: &str = "\
taproot-init is the /init of an initramfs that `taproot initramfs` packed. In the rescue shell of such an image it
answers to the words below, alone or as `/init WORD`. `taproot-init hook` is for the initramfs of another tool,
`taproot-init mount-all [ZFS]` for a booted system: `zfs mount -a` without the datasets of other boot environments.

  taproot-init --version    print the version
  taproot-init --help       this text

";

/// Runs as the applet that `args` name; returns the exit status.
pub fn run(system: &Arc<dyn System>, args: &[String]) -> i32 {
    let base = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let name = args.first().map(base).unwrap_or_default();
    // `taproot-init log` is the same as `log`; `exe`: called by /proc/1/exe.
    let skip = usize::from(matches!(name.as_str(), "taproot-init" | "init" | "exe"));
    let name = args.get(skip).map(base).unwrap_or_default();
    let rest: Vec<&str> = args.iter().skip(skip + 1).map(String::as_str).collect();
    match name.as_str() {
        "--version" | "-V" => println!("taproot-init {}", env!("CARGO_PKG_VERSION")),
        "" | "--help" | "-h" => print!("{USAGE}{}", help()),
        apart::WORD => apart::try_pools(&**system),
        apart::DO => match rest.split_first() {
            Some((name, rest)) if apart::TOUCHING.contains(name) => return word(system, name, rest),
            Some((name, rest)) => return apart::part(&**system, &kernel_log(system), name, rest).unwrap_or(2),
            None => return 2,
        },
        "help" => print!("{}\nEverything else is busybox; `busybox` alone lists what it has.\n", help()),
        // Two programs have this name: ours takes a dataset, busybox's everything else.
        "mount" if !is_ours(&**system, &rest) => {
            let args = ["mount"].iter().chain(&rest).map(|arg| (*arg).to_owned()).collect();
            let error = system.become_program(&Program { path: BUSYBOX.into(), args, ..Program::default() });
            eprintln!("mount: {BUSYBOX}: {error}");
            return 1;
        }
        _ if words::find(&name).is_some_and(|w| w.place != Place::Prompt) => return word(system, &name, &rest),
        _ => {
            eprintln!("taproot-init: unknown word {name:?}\n{USAGE}{}", help());
            return 2;
        }
    }
    0
}

fn help() -> String {
    words::help(|w| w.place != Place::Prompt)
}

/// Whether the arguments of `mount` are `DATASET [DIR] [ro]`.
fn is_ours(system: &dyn System, rest: &[&str]) -> bool {
    let rest = rest.strip_suffix(&["ro"]).unwrap_or(rest);
    let dataset = |name: &str| !name.starts_with(['/', '-']) && !name.contains('=');
    match rest {
        [name] => dataset(name) && !system.exists(Path::new(name)),
        [name, dir] => dataset(name) && dir.starts_with('/') && *name != "none",
        _ => false,
    }
}

/// What an import or a key tells belongs into the kernel's log, not between the lines here.
fn kernel_log(system: &Arc<dyn System>) -> Log {
    let log = Log::new(Arc::clone(system));
    let _ = log.attach();
    log
}

fn word(system: &Arc<dyn System>, name: &str, rest: &[&str]) -> i32 {
    let log = kernel_log(system);
    let packed = ImageConfig::parse(&system.text(CONFIG_PATH)).cmdline;
    let words = words_now(&**system, &packed);
    let request = cmdline::parse(words.as_ref().unwrap_or(&packed).as_bytes());
    let talk = Talk::on(&**system, Terminals::Own);
    let hands = RefCell::new(hands::Own::new(&**system, &log));
    let phases = Phases::new(Arc::clone(system));
    let mut desk = Desk {
        system: &**system,
        log: &log,
        phases: &phases,
        hands: &hands,
        talk,
        request,
        words,
        packed,
        pools: &[],
        stopped: true,
        listed: Vec::new(),
    };
    match desk.answer(name, rest) {
        Outcome::Done => 0,
        Outcome::Failed => 1,
        Outcome::Decided(decision) => leave(&**system, name, &decision),
    }
}

/// The words that hold: those that were typed, else the image's and the kernel's.
fn words_now(system: &dyn System, packed: &str) -> Option<String> {
    let read = |path: &str| {
        let bytes = system.read(Path::new(path), CMDLINE_MAX).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    read(WORDS_PATH).or_else(|| Some(format!("{packed} {}", read("/proc/cmdline")?)))
}

/// Writes the wish down for PID 1 and ends the shell that called.
fn leave(system: &dyn System, name: &str, decision: &Decision) -> i32 {
    // In a booted system this would end the shell of whoever tries it.
    if !system.exists(Path::new(CONFIG_PATH)) {
        eprintln!("{name}: this works only in the rescue shell of an image ({CONFIG_PATH} is not there)");
        return 1;
    }
    if let Err(e) = write_decision(system, decision) {
        eprintln!("{name}: {DECISION_FILE}: {e}");
        return 1;
    }
    match system.hang_up_caller() {
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
    use crate::sys::fake::Tree;

    /// The shell that is not ended here is the one that runs the tests.
    #[test]
    fn outside_of_an_image_no_shell_is_ended() {
        let tree = Tree::new();
        assert_eq!(leave(&tree, "retry", &Decision::RETRY), 1);
        assert!(!tree.exists(DECISION_FILE));
    }

    #[test]
    fn mount_is_ours_only_with_a_dataset() {
        for ours in
            [vec!["tank/home"], vec!["tank", "/mnt"], vec!["tank/a b", "/mnt/x"], vec!["tank/a@s", "/mnt", "ro"]]
        {
            assert!(is_ours(&Tree::new(), &ours), "{ours:?}");
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
            assert!(!is_ours(&Tree::new(), other), "{other:?}");
        }
    }
}
