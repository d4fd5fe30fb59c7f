//! The scout's process and the socket to it: one datagram a message, in both directions.
#![allow(unsafe_code)]

use super::Heard;
use super::netlink::wait_readable;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, getsockopt, recv, send, setsockopt, socketpair, sockopt,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where the scout finds its end of the socket: it reads nothing else.
const SOCKET: i32 = libc::STDIN_FILENO;
/// Longest message: a label's configuration is 112 KiB at most.
pub const MESSAGE_MAX: usize = 192 << 10;
/// Bytes that may wait in the socket.
const BUFFER: usize = 4 << 20;

/// A scout that was started.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    socket: OwnedFd,
}

impl Process {
    /// Executes our own program anew.
    pub(super) fn start(args: &[String]) -> io::Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )?;
        for end in [&ours, &theirs] {
            // Over the system's limit if we may, else up to it.
            if setsockopt(end, sockopt::SndBufForce, &BUFFER).is_err() {
                let _ = setsockopt(end, sockopt::SndBuf, &BUFFER);
            }
        }
        // Nothing that would need a fork(2): a copy of PID 1's memory takes longer than all else about it.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("taproot-init").arg("scout").args(args).stdin(Stdio::from(theirs));
        let pid = Pid::from_raw(command.spawn()?.id().cast_signed());
        Ok(Self { pid, socket: ours })
    }

    pub(super) fn tell(&self, message: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL).map(drop).map_err(io::Error::from)
    }

    pub(super) fn hear(&self, patience: Duration) -> Heard {
        hear(&self.socket, patience)
    }

    /// Kills it. One whose threads sit in the kernel ends when they come out; nobody waits for that.
    pub(super) fn end(self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        self.reap();
    }

    /// How it ended, if it has.
    pub(super) fn reap(&self) -> Option<String> {
        match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, status)) => Some(format!("it ended with status {status}")),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(format!("it was ended by {signal}")),
            _ => None,
        }
    }
}

/// The next message on a socket of this kind.
pub(super) fn hear(socket: &OwnedFd, patience: Duration) -> Heard {
    let deadline = Instant::now().checked_add(patience);
    loop {
        match take(socket, MsgFlags::MSG_DONTWAIT) {
            Ok(None) => return Heard::Ended("it closed its socket".to_owned()),
            Ok(Some(message)) => return Heard::Message(message),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let left = deadline.map_or(patience, |deadline| deadline.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    return Heard::Nothing;
                }
                if let Err(e) = wait_readable(&[socket.as_fd()], left) {
                    return Heard::Ended(e.to_string());
                }
            }
            Err(errno) => return Heard::Ended(errno.desc().to_owned()),
        }
    }
}

/// The next message; `None` once the other side is gone. Its length is asked for first: filling the longest buffer with zeros
/// for each message would take longer than all else about it.
fn take(socket: &OwnedFd, flags: MsgFlags) -> nix::Result<Option<Vec<u8>>> {
    let len = recv(socket.as_raw_fd(), &mut [], flags | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC)?;
    let mut buffer = vec![0; len.min(MESSAGE_MAX)];
    if len > 0 {
        let taken = recv(socket.as_raw_fd(), &mut buffer, flags)?;
        buffer.truncate(taken);
    }
    Ok(Some(buffer).filter(|message| !message.is_empty()))
}

/// The scout's end of the socket: here sending and receiving wait.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// The socket that the process was started with; an error if there is none, as when a person starts it.
    pub fn inherited() -> io::Result<Self> {
        // SAFETY: the number is only looked at.
        check(unsafe { BorrowedFd::borrow_raw(SOCKET) })?;
        // SAFETY: such a socket is there for the scout alone; nobody else in the process has it.
        let own = unsafe { OwnedFd::from_raw_fd(SOCKET) };
        fcntl(&own, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        Self::waiting(own)
    }

    fn waiting(own: OwnedFd) -> io::Result<Self> {
        fcntl(&own, FcntlArg::F_SETFL(OFlag::empty()))?;
        Ok(Self(own))
    }

    /// Both ends, for tests.
    #[cfg(test)]
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self::waiting(one)?, Self::waiting(other)?))
    }

    /// Sends a message; waits until there is room for it.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        loop {
            match send(self.0.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The next message; `None` once the other side is gone.
    pub fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        loop {
            match take(&self.0, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                result => return result.map_err(io::Error::from),
            }
        }
    }

    /// The next message within some time, for tests.
    #[cfg(test)]
    pub(crate) fn receive_within(&self, patience: Duration) -> Heard {
        hear(&self.0, patience)
    }
}

/// Whether it is a socket as [`Process::start`] makes it.
fn check(socket: BorrowedFd<'_>) -> io::Result<()> {
    if getsockopt(&socket, sockopt::SockType)? == SockType::SeqPacket { Ok(()) } else { Err(Errno::EPROTOTYPE.into()) }
}

/// Makes the process the leader of a session of its own: what is typed on the console is not for it.
pub fn leave_session() {
    let _ = nix::unistd::setsid();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stay_apart_and_the_end_is_told() {
        let (one, other) = Socket::pair().unwrap();
        one.send(b"first").unwrap();
        one.send(&vec![7; 100_000]).unwrap();
        assert_eq!(other.receive().unwrap().unwrap(), b"first");
        assert_eq!(other.receive_within(Duration::ZERO), Heard::Message(vec![7; 100_000]));
        assert_eq!(other.receive_within(Duration::from_millis(5)), Heard::Nothing);
        drop(one);
        assert_eq!(other.receive().unwrap(), None);
        assert!(other.send(b"x").is_err());
        assert!(matches!(other.receive_within(Duration::from_secs(5)), Heard::Ended(_)));
    }

    #[test]
    fn a_process_that_nobody_started_as_a_scout_is_none() {
        let (one, _other) = Socket::pair().unwrap();
        check(one.0.as_fd()).unwrap();
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(check(stream.as_fd()).is_err());
        assert!(check(std::fs::File::open("/dev/null").unwrap().as_fd()).is_err());
    }
}
