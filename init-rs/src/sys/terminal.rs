//! Running a child on a terminal of its own.
#![allow(unsafe_code)]

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The terminal behind `/dev/console`: that node itself cannot be a controlling terminal. The kernel lists the active
/// ones, the preferred one last.
pub fn console_terminal() -> Option<PathBuf> {
    let active = std::fs::read_to_string("/sys/class/tty/console/active").ok()?;
    let name = active.split_whitespace().last()?;
    let name = if name == "tty0" { "tty1" } else { name };
    Some(PathBuf::from("/dev").join(name)).filter(|p| p.exists())
}

/// Runs `command` in its own session on the console's terminal and waits for it, reaping whatever else ends meanwhile:
/// orphans of a shell become children of PID 1.
pub fn run_in_foreground(command: &mut Command) -> io::Result<()> {
    let path = console_terminal().unwrap_or_else(|| PathBuf::from("/dev/console"));
    let terminal = File::options().read(true).write(true).open(path)?;
    command.stdin(Stdio::from(terminal.try_clone()?));
    command.stdout(Stdio::from(terminal.try_clone()?));
    command.stderr(Stdio::from(terminal));
    // SAFETY: between fork and exec only setsid(2) and ioctl(2) are called, both async-signal-safe; fd 0 is the terminal.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 0);
            Ok(())
        });
    }
    let child = Pid::from_raw(command.spawn()?.id().cast_signed());
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) if pid == child => return Ok(()),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
