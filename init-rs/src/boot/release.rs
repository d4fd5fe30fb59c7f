//! Takes away what an attempt has mounted, so that the next one finds devices that nothing uses.
//!
//! A device of device-mapper, and a loop device's file, are held by whoever reads the device, and the scout reads each that comes.
//! A lazy unmount says nothing of when the file system is really gone; until then a check says that the device is in use, and
//! another mount that it is busy.

use super::Boot;
use crate::plan::root::Root;
use crate::rescue::mounted;
use crate::sys::System;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Longer than any reader of a loop device takes to close it.
const PATIENCE: Duration = Duration::from_secs(2);
const TURN: Duration = Duration::from_millis(10);

impl Boot<'_> {
    /// Unmounts a root on a device, and what is mounted in it. A dataset is left: its pool says when it has to go.
    pub(super) fn clear_plain_root(&self) {
        if !self.facts.attempt.mounted || !matches!(self.facts.attempt.root, Some(Root::Device(_))) {
            return;
        }
        self.clear_images();
        for mount in mounted::all(self.system).iter().rev().filter(|mount| mount.target.starts_with(&self.new_root)) {
            let _ = self.system.unmount(&mount.target, true);
        }
        self.log.debug(format!("what was mounted below {} is taken away", self.new_root.display()));
    }
}

/// Does what something else may still hold off for a moment.
pub(super) fn patiently(system: &dyn System, work: &dyn Fn() -> io::Result<()>) -> io::Result<()> {
    let end = system.now() + PATIENCE;
    loop {
        match work() {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && system.now() < end => system.sleep(TURN),
            done => return done,
        }
    }
}

/// Unmounts, and waits a moment for what still uses it; after that, lazily.
pub(super) fn release(system: &dyn System, target: &Path) {
    let busy = |e: io::Error| e.raw_os_error() == Some(libc::EBUSY);
    if patiently(system, &|| system.unmount(target, false)).is_err_and(busy) {
        let _ = system.unmount(target, true);
    }
}
