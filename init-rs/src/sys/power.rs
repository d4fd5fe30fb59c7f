//! Reboot and power off.

use super::End;
use nix::sys::reboot::{RebootMode, reboot};
use std::convert::Infallible;
use std::sync::mpsc::channel;
use std::time::Duration;

/// How long what was written last may take to reach the disks.
const SYNC_PATIENCE: Duration = Duration::from_secs(15);

fn stop(mode: RebootMode) -> nix::Result<Infallible> {
    // Everything imported is consistent on disk at any moment; sync only saves the last seconds of a rescue session, and
    // never ends where a pool has lost its disk.
    let (done, synced) = channel();
    let sync = std::thread::Builder::new().spawn(move || {
        nix::unistd::sync();
        let _ = done.send(());
    });
    if sync.is_ok() {
        let _ = synced.recv_timeout(SYNC_PATIENCE);
    }
    reboot(mode)
}

/// Ends the run of the kernel without waiting for anything; returns only on failure.
pub(super) fn end_now(how: End) -> std::io::Error {
    let mode = match how {
        End::Restart => RebootMode::RB_AUTOBOOT,
        End::PowerOff => RebootMode::RB_POWER_OFF,
        End::Halt => RebootMode::RB_HALT_SYSTEM,
        End::Kexec => RebootMode::RB_KEXEC,
    };
    match reboot(mode) {
        Err(e) => e.into(),
        Ok(never) => match never {},
    }
}

/// Restarts the machine; returns only on failure.
pub(super) fn restart() -> std::io::Error {
    match stop(RebootMode::RB_AUTOBOOT) {
        Err(e) => e.into(),
        Ok(never) => match never {},
    }
}

/// Switches the machine off; returns only on failure.
pub(super) fn power_off() -> std::io::Error {
    match stop(RebootMode::RB_POWER_OFF) {
        Err(e) => e.into(),
        Ok(never) => match never {},
    }
}
