//! Programs that are executed and waited for.

use super::consoles::Secret;
use super::{Ended, Finished, Program};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How often the caller's own condition is looked at.
const TURN: Duration = Duration::from_millis(200);
/// A program that has closed its output ends soon, or never does.
const SOON: Duration = Duration::from_millis(10);

/// The command for a program.
pub(super) fn command(program: &Program) -> Command {
    let mut command = Command::new(&program.path);
    if let Some(name) = &program.name {
        command.arg0(name);
    }
    command.args(&program.args);
    for (name, value) in &program.env {
        command.env(name, value);
    }
    command
}

pub(super) fn run(
    program: &Program,
    limit: Option<Duration>,
    output: usize,
    stop: &mut dyn FnMut() -> bool,
) -> io::Result<Finished> {
    let began = Instant::now();
    let mut command = command(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let Some(mut out) = child.stdout.take() else { return Err(ErrorKind::BrokenPipe.into()) };
    fcntl(out.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // Full size from the start: a buffer that grows leaves copies behind.
    let mut text: Secret = Zeroizing::new(vec![0; output]);
    let mut beyond = Zeroizing::new([0_u8; 512]);
    let (mut filled, mut open) = (0, true);
    let ended = loop {
        if !open && let Some(status) = child.try_wait()? {
            break of(status);
        }
        if stop() {
            break end(&mut child, Ended::Stopped);
        }
        let left = limit.map(|limit| limit.saturating_sub(began.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            break end(&mut child, Ended::Late);
        }
        let turn = left.map_or(TURN, |left| left.min(TURN));
        if !open {
            std::thread::sleep(turn.min(SOON));
            continue;
        }
        let mut fds = [PollFd::new(out.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::try_from(turn).unwrap_or(PollTimeout::from(200_u8)));
        let room = match text.get_mut(filled..) {
            Some(room) if !room.is_empty() => room,
            _ => &mut beyond[..],
        };
        match out.read(room) {
            Ok(0) => open = false,
            Ok(n) => filled = (filled + n).min(output),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => open = false,
        }
    };
    text.truncate(filled);
    Ok(Finished { ended, output: text })
}

fn of(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exit(code),
        (None, signal) => Ended::Signal(signal.unwrap_or_default()),
    }
}

/// Ends a program that is not needed any more. One that sits in the kernel cannot be waited for.
fn end(child: &mut Child, how: Ended) -> Ended {
    let _ = child.kill();
    let began = Instant::now();
    while began.elapsed() < TURN && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(SOON);
    }
    how
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program { path: "/bin/sh".into(), args: vec!["-c".into(), script.into()], ..Program::default() }
    }

    #[test]
    fn output_and_status() {
        let ran = run(&shell("echo one; echo two; exit 3"), None, 6, &mut || false).unwrap();
        assert_eq!((ran.ended, ran.output.as_slice()), (Ended::Exit(3), b"one\ntw".as_slice()));
        let ran = run(&shell("kill -9 $$"), None, 0, &mut || false).unwrap();
        assert_eq!(ran.ended, Ended::Signal(9));
        assert!(run(&Program { path: "/nonexistent".into(), ..Program::default() }, None, 0, &mut || false).is_err());
    }

    #[test]
    fn late_and_stopped() {
        let began = Instant::now();
        let late = run(&shell("exec sleep 60"), Some(Duration::from_millis(50)), 9, &mut || false).unwrap();
        assert_eq!(late.ended, Ended::Late);
        assert_eq!(run(&shell("exec sleep 60"), None, 9, &mut || true).unwrap().ended, Ended::Stopped);
        // One that closes its output is still waited for, and no longer than asked.
        let closed = run(&shell("exec sleep 60 >&-"), Some(Duration::from_millis(50)), 9, &mut || false).unwrap();
        assert_eq!(closed.ended, Ended::Late);
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
