//! The packed shell: busybox as a child of PID 1, on a real terminal so that job control works.

use super::Decision;
use super::words::{Place, WORDS};
use crate::image::CONFIG_PATH;
use crate::sys::{Program, System};
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Where the builder puts busybox.
pub(super) const BUSYBOX: &str = "/bin/busybox";
/// The shell's children leave their wish here before the shell exits.
pub(super) const DECISION_FILE: &str = "/run/taproot/decision";
/// Read by the shell when it starts.
const SHELL_START: &str = "/run/taproot/shrc";

/// Whether there is one.
pub(super) fn packed(system: &dyn System) -> bool {
    system.exists(Path::new(BUSYBOX))
}

/// Runs the shell on the terminal at `path` until the user leaves it; the decision that a word in it made, if one did.
pub(super) fn run(system: &dyn System, terminal: &Path) -> io::Result<Option<Decision>> {
    system.make_dirs(Path::new("/run/taproot"))?;
    let _ = system.remove(Path::new(DECISION_FILE));
    // When the init could not be executed, `/` is the user's root already: nothing of it may be touched. Nor may an image
    // of another tool, whose /init is not ours.
    let init = system.is_init();
    let in_image = init && system.exists(Path::new(CONFIG_PATH));
    if in_image {
        furnish(system);
    }
    let program = match (in_image, init) {
        (true, _) => "/init".to_owned(),
        (false, true) => "/proc/1/exe".to_owned(),
        (false, false) => system.own_program().display().to_string(),
    };
    system.write(Path::new(SHELL_START), aliases(&program).as_bytes())?;
    // TERM is what we have ourselves: the kernel gives init one.
    let env = [("PATH", "/bin:/sbin:/usr/bin:/usr/sbin"), ("HOME", "/"), ("PS1", "(shell) # "), ("ENV", SHELL_START)];
    let shell = Program {
        path: BUSYBOX.into(),
        args: vec!["sh".to_owned(), "-i".to_owned()],
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..Program::default()
    };
    system.run_on_terminal(&shell, terminal)?;
    Ok(take_decision(system))
}

/// Makes the names of busybox's programs and of our words in the image.
fn furnish(system: &dyn System) {
    let args = ["--install", "-s", "/bin"].map(str::to_owned).to_vec();
    let _ = system.run(&Program { path: BUSYBOX.into(), args, ..Program::default() }, None, 0, &mut || false);
    // Where hands mount by habit.
    let _ = system.make_dirs(Path::new("/mnt"));
    // Scripts see no aliases; busybox's `mount` stays for them.
    for name in our_words().filter(|name| *name != "mount") {
        let link = Path::new("/bin").join(name);
        let _ = system.remove(&link);
        let _ = system.symlink(Path::new("/init"), &link);
    }
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
pub fn take_decision(system: &dyn System) -> Option<Decision> {
    let text = system.text(DECISION_FILE);
    let _ = system.remove(Path::new(DECISION_FILE));
    read(&text)
}

/// Leaves a decision for PID 1.
pub(super) fn write_decision(system: &dyn System, decision: &Decision) -> io::Result<()> {
    let text = match decision {
        Decision::Retry { words } => format!("retry {words}"),
        Decision::Wait(time) => format!("wait {}", time.as_secs()),
        Decision::Boot { name, words } => format!("boot {name}\n{words}"),
        Decision::Cmdline(words) => format!("cmdline {words}"),
        Decision::Continue => "continue".to_owned(),
        Decision::Reboot => "reboot".to_owned(),
        Decision::PowerOff => "poweroff".to_owned(),
    };
    system.write(Path::new(DECISION_FILE), text.as_bytes())
}

fn read(text: &str) -> Option<Decision> {
    Some(match text.split_once(' ').unwrap_or((text, "")) {
        ("retry", words) => Decision::Retry { words: words.to_owned() },
        ("wait", time) => Decision::Wait(Duration::from_secs(time.parse().ok()?)),
        ("boot", rest) if !rest.is_empty() => {
            let (name, words) = rest.split_once('\n').unwrap_or((rest, ""));
            Decision::Boot { name: name.to_owned(), words: words.to_owned() }
        }
        ("cmdline", words) if !words.is_empty() => Decision::Cmdline(words.to_owned()),
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
        assert!(!text.contains("alias export="), "the shell exports variables by it");
    }

    #[test]
    fn decisions_are_read_back() {
        let boot = |name: &str, words: &str| Some(Decision::Boot { name: name.into(), words: words.into() });
        assert_eq!(read("boot tank/a b@s"), boot("tank/a b@s", ""));
        assert_eq!(read("boot tank/a b\nro init="), boot("tank/a b", "ro init="));
        assert_eq!(read("retry init="), Some(Decision::Retry { words: "init=".into() }));
        assert_eq!(read("wait 90"), Some(Decision::Wait(Duration::from_secs(90))));
        assert_eq!(read("continue"), Some(Decision::Continue));
        assert_eq!(read("cmdline root=x ro"), Some(Decision::Cmdline("root=x ro".into())));
        for wrong in ["", "cmdline", "boot", "boot ", "wait x", "reboot now"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
