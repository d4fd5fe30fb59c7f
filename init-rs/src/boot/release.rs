//! Takes away what an attempt has mounted, so that the next one finds devices that nothing uses.
//!
//! A lazy unmount says nothing of when the file system is really gone: a loop device gives its file back when its last reader,
//! which can be the scout, closes it. Until then a check says that the device is in use, and another mount that it is busy.

use super::Boot;
use crate::plan::root::Root;
use crate::rescue::mounted;
use crate::sys::System;
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

/// Unmounts, and waits a moment for what still uses it; after that, lazily.
pub(super) fn release(system: &dyn System, target: &Path) {
    let end = system.now() + PATIENCE;
    while let Err(e) = system.unmount(target, false) {
        if e.raw_os_error() != Some(libc::EBUSY) {
            return;
        }
        if system.now() >= end {
            let _ = system.unmount(target, true);
            return;
        }
        system.sleep(TURN);
    }
}
