//! The end of a machine whose root is held by what only the early boot knows: layers on loop devices, pools.
//!
//! The boot leaves this program as `/run/initramfs/shutdown` ([`prepare`]). When systemd has unmounted what it can, it makes that
//! directory the root, the old one `/oldroot` in it, and becomes `/shutdown` with the word for what is to come. That is [`run`]: it
//! gives back what is left, in order, and ends the machine, whatever hangs meanwhile.

mod plan;
mod release;
mod watch;

use watch::{UNIT, WANTED};

pub use watch::{WATCHER, leave as leave_watcher, run as watch};

use crate::sys::{End, System};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What systemd makes the root.
const DIRECTORY: &str = "/run/initramfs";
/// What it looks for there.
const PROGRAM: &str = "/run/initramfs/shutdown";
/// Where the old root comes to lie, and onto what the pseudo file systems are bound.
const DIRECTORIES: [&str; 5] = ["oldroot", "proc", "sys", "dev", "run"];
/// For every unit of a mount below `/run/taproot`, by systemd's rule of prefixes.
const DROP_IN: &str = "/run/systemd/system/run-taproot-.mount.d/00-taproot.conf";
/// Without it systemd would unmount them among the first.
const LEFT_TO_THE_END: &str = "# Written by taproot for this boot: what holds the root is unmounted last.\n\
     [Unit]\nDefaultDependencies=no\n";

/// Everything that is left for the end of a root that is not handed over to.
pub const FILES: [&str; 4] = [PROGRAM, DROP_IN, UNIT, WANTED];

/// The machine ends after so long, whatever has not ended by itself: half a minute with what comes before and behind.
const LIMIT: Duration = Duration::from_secs(28);

/// Leaves this program where systemd looks for it. What is in the directory stays.
pub fn prepare(system: &dyn System) -> io::Result<()> {
    for name in DIRECTORIES {
        system.make_dirs(&Path::new(DIRECTORY).join(name))?;
    }
    let program = Path::new(PROGRAM);
    if system.exists(program) {
        // Of an attempt before this one.
        system.remove(program)?;
    }
    system.keep_program(program)?;
    if system.noexec(program) {
        system.remove(program)?;
        return Err(io::Error::other("nothing in /run can be executed, it is mounted noexec"));
    }
    Ok(())
}

/// Tells systemd to leave mounts below `/run/taproot` to the end. Only for a root whose init is systemd: `/run/systemd/system` tells
/// programs that it runs.
pub fn mark(system: &dyn System) -> io::Result<()> {
    let path = Path::new(DROP_IN);
    path.parent().map_or(Ok(()), |dir| system.make_dirs(dir))?;
    system.write(path, LEFT_TO_THE_END.as_bytes())
}

/// What is to come, if systemd-shutdown called: the program's name is `/shutdown`, and one of its words says it.
pub fn called(args: &[String]) -> Option<End> {
    let (name, words) = args.split_first()?;
    if name != "/shutdown" {
        return None;
    }
    // A word that is none of them: it is still the end.
    Some(words.iter().find_map(|word| end_of(word)).unwrap_or(End::PowerOff))
}

/// What systemd's word for an end means.
fn end_of(word: &str) -> Option<End> {
    match word {
        "reboot" => Some(End::Restart),
        "poweroff" | "exit" => Some(End::PowerOff),
        "halt" => Some(End::Halt),
        "kexec" => Some(End::Kexec),
        _ => None,
    }
}

/// Gives back what holds disks and ends the machine. Comes back only where the machine is a simulated one.
pub fn run(system: &Arc<dyn System>, end: End) {
    system.on_panic(Box::new(move |system, _| finish(&**system, end)));
    // The kernel drops what comes at more than ten records in five seconds otherwise.
    let _ = system.write(Path::new("/proc/sys/kernel/printk_devkmsg"), b"on\n");
    let worker = Arc::clone(system);
    if !system.within(LIMIT, Box::new(move || release::all(&worker))) {
        say(&**system, 4, &format!("not everything was given back within {} s; the machine ends now", LIMIT.as_secs()));
    }
    finish(&**system, end);
}

/// Nothing here may wait for a disk.
fn finish(system: &dyn System, end: End) {
    let what = match end {
        End::Restart => "restart",
        End::PowerOff => "power off",
        End::Halt => "halt",
        End::Kexec => "start of the loaded kernel",
    };
    say(system, 5, what);
    let Err(error) = system.end_now(end) else { return };
    // No kernel is loaded, or the machine cannot be switched off.
    say(system, 3, &format!("{what}: {error}; restart instead"));
    if let Err(error) = system.end_now(End::Restart) {
        say(system, 0, &format!("restart: {error}; switch the machine off by hand"));
        // PID 1 must not end.
        loop {
            system.sleep(Duration::from_secs(3600));
        }
    }
}

/// One record for the kernel's log, which shows it on the console.
fn say(system: &dyn System, priority: u8, text: &str) {
    let _ = system.kmsg(&format!("<{priority}>taproot: shutdown: {text}\n"));
}

#[cfg(test)]
mod tests;
