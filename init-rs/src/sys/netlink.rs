//! The kernel's uevent multicast: `NETLINK_KOBJECT_UEVENT`, group 1 (group 2 carries udevd's own messages).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt, socket, sockopt,
};

/// Bytes the kernel may queue for us. Coldplug of a big machine makes thousands of events of up to a few KB (each is
/// accounted with its buffer); memory is used only while events wait.
const RECEIVE_BUFFER: usize = 32 << 20;
/// Longest datagram: the kernel's own limit is 2 KB of variables (`UEVENT_BUFFER_SIZE`) and the path before them.
const DATAGRAM: usize = 16 << 10;

/// What [`UeventSocket::recv`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// One datagram from the kernel.
    Event(Vec<u8>),
    /// The kernel dropped events (`ENOBUFS`): what they told must be read from `/sys` again.
    Overrun,
    /// Nothing within the time.
    Nothing,
}

/// A socket that receives the kernel's uevents from the moment it is open.
#[derive(Debug)]
pub struct UeventSocket {
    fd: OwnedFd,
}

impl UeventSocket {
    /// Opens and binds; needs no privilege in the initial network namespace's user namespace, else `EPERM`.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkKObjectUEvent)?;
        // Force goes over net.core.rmem_max but needs CAP_NET_ADMIN; without either an overrun is only more likely.
        if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER);
        }
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 1))?;
        Ok(Self { fd })
    }

    /// Whether an event (or an overrun) waits to be read.
    pub fn readable(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(n) if n > 0)
    }

    /// The next event, waiting for it at most `timeout`; messages that are not from the kernel are dropped.
    pub fn recv(&self, timeout: Duration) -> io::Result<Received> {
        let deadline = Instant::now() + timeout;
        let mut buffer = vec![0_u8; DATAGRAM];
        loop {
            match recvfrom::<NetlinkAddr>(self.fd.as_raw_fd(), &mut buffer) {
                Ok((len, from)) if from.is_some_and(|a| a.pid() == 0) => {
                    buffer.truncate(len);
                    return Ok(Received::Event(buffer));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => return Ok(Received::Overrun),
                Err(Errno::EAGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(Received::Nothing);
                    }
                    wait_readable(&[self.fd.as_fd()], left)?;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for UeventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until one of `fds` can be read (or was hung up) or `timeout` is over; a signal ends the wait early.
pub fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    // Rounded up, so that the last fraction of a millisecond is slept instead of spun away.
    let millis = u32::try_from(timeout.as_millis().saturating_add(1)).unwrap_or(u32::MAX).min(i32::MAX as u32);
    match poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The real kernel answers a write to any device's `uevent` file with an event; needs root.
    #[test]
    fn receives_a_real_event() {
        let socket = match UeventSocket::open() {
            Ok(socket) => socket,
            Err(err) => return eprintln!("skipped: no uevent socket here: {err}"),
        };
        let Err(err) = std::fs::write("/sys/devices/virtual/mem/null/uevent", "change") else {
            let deadline = Instant::now() + Duration::from_secs(5);
            while Instant::now() < deadline {
                if let Received::Event(bytes) = socket.recv(Duration::from_millis(500)).unwrap()
                    && bytes.starts_with(b"change@/devices/virtual/mem/null\0")
                {
                    return;
                }
            }
            return eprintln!("skipped: events do not reach this network namespace");
        };
        eprintln!("skipped: cannot ask for an event: {err}");
        assert_eq!(socket.recv(Duration::from_millis(5)).unwrap(), Received::Nothing);
    }
}
