//! Reboot and power off.

use nix::sys::reboot::{RebootMode, reboot};
use std::convert::Infallible;

fn stop(mode: RebootMode) -> nix::Result<Infallible> {
    // Everything imported is consistent on disk at any moment; sync only saves the last seconds of a rescue session.
    nix::unistd::sync();
    reboot(mode)
}

/// Restarts the machine; returns only on failure.
pub fn restart() -> std::io::Error {
    match stop(RebootMode::RB_AUTOBOOT) {
        Err(e) => e.into(),
        Ok(never) => match never {},
    }
}

/// Switches the machine off; returns only on failure.
pub fn power_off() -> std::io::Error {
    match stop(RebootMode::RB_POWER_OFF) {
        Err(e) => e.into(),
        Ok(never) => match never {},
    }
}
