//! What a process needs before anything else: usable standard streams and signal dispositions.
//!
//! As PID 1 of an initramfs there may be no `/dev/console`, so fds 0 to 2 may be closed; and without Rust's own start-up
//! (which aborts in that case) SIGPIPE is not ignored.

use nix::sys::signal::{SigHandler, Signal};
use nix::sys::stat::{Mode, SFlag};
use std::fs::File;
use std::io;
use std::path::Path;

/// Ignores SIGPIPE: a closed console must not kill PID 1.
#[allow(unsafe_code)]
pub fn ignore_sigpipe() {
    // SAFETY: SIG_IGN installs no handler, so nothing can run in signal context.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigIgn) };
}

/// Puts every signal back to its default, as the real init expects to find them.
#[allow(unsafe_code)]
pub fn default_signals() {
    for signal in [Signal::SIGPIPE, Signal::SIGINT, Signal::SIGCHLD, Signal::SIGTTIN, Signal::SIGTTOU] {
        // SAFETY: SIG_DFL installs no handler.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    }
}

/// Lets this thread go before others: what inserts modules before what looks for further ones.
#[allow(unsafe_code)]
pub fn hurry() {
    const BEFORE: i32 = -10;
    // SAFETY: takes three numbers; process 0 is the calling thread. Without the right to it everything goes on as it was.
    let _ = unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, BEFORE) };
}

/// Lets every other process go before this one, at the processor and at the disk: for long work that nobody waits for. Threads and
/// programs that are started afterwards have it too.
#[allow(unsafe_code)]
pub fn give_way() {
    const BEHIND: i32 = 19;
    /// `IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)`, of the process that asks (`ioprio_set(2)`).
    const IDLE: libc::c_long = 3 << 13;
    const OF_PROCESS: libc::c_long = 1;
    // SAFETY: takes three numbers; process 0 is the calling thread. Without it everything goes on as it was.
    let _ = unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, BEHIND) };
    // SAFETY: the same.
    let _ = unsafe { libc::syscall(libc::SYS_ioprio_set, OF_PROCESS, 0 as libc::c_long, IDLE) };
}

/// Points stdin, stdout and stderr at the console, or at `/dev/null` where the kernel has no console.
/// The nodes are made when devtmpfs does not provide them.
pub fn attach_console() -> io::Result<()> {
    for (path, major, minor) in [("/dev/console", 5, 1), ("/dev/null", 1, 3)] {
        if !Path::new(path).exists() {
            let mode = Mode::from_bits_truncate(0o600);
            let _ = nix::sys::stat::mknod(path, SFlag::S_IFCHR, mode, nix::sys::stat::makedev(major, minor));
        }
    }
    let console = File::options()
        .read(true)
        .write(true)
        .open("/dev/console")
        .or_else(|_| File::options().read(true).write(true).open("/dev/null"))?;
    nix::unistd::dup2_stdin(&console)?;
    nix::unistd::dup2_stdout(&console)?;
    nix::unistd::dup2_stderr(&console)?;
    Ok(())
}
