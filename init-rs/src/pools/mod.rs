//! Pools on disks: labels read, candidates opened, pools imported. The boot, the hook and the rescue's applets
//! use it alike; what to do with a pool is decided elsewhere (`plan/select.rs`).

mod facts;
mod hostid;
mod import;
mod open;
mod progress;
mod scan;

pub use facts::{NOT_OPENED, fact, leaf_text, missing_text};
pub use hostid::{own as own_hostid, set as set_hostid};
pub use import::{ImportError, ImportRequest};
pub use open::Tried;
pub use scan::Scanner;

use crate::report::log::Log;
use crate::report::phases::Phases;
use crate::sys::System;

/// What is done with pools, on a given system, told to a given log.
#[derive(Clone, Copy)]
pub struct Pools<'a> {
    system: &'a dyn System,
    log: &'a Log,
    phases: &'a Phases,
}

impl std::fmt::Debug for Pools<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pools").finish_non_exhaustive()
    }
}

impl<'a> Pools<'a> {
    /// Calls go to `system`; what happens is told to `log`, how long it took to `phases`.
    pub fn new(system: &'a dyn System, log: &'a Log, phases: &'a Phases) -> Self {
        Self { system, log, phases }
    }
}
