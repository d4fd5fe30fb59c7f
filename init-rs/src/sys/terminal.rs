//! Running a child on a terminal of its own.
#![allow(unsafe_code)]

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `command` in its own session on the terminal at `path` (not `/dev/console`, which cannot be a controlling
/// terminal) and waits for it, reaping whatever else ends meanwhile: orphans of a shell become children of PID 1.
pub(super) fn run_in_foreground(command: &mut Command, path: &Path) -> io::Result<()> {
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
