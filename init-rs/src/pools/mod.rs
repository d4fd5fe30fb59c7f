//! Pools on disks: labels read, candidates opened, pools imported. The boot, the hook and the rescue's applets
//! use it alike; what to do with a pool is decided elsewhere (`plan/select.rs`).

mod ask;
mod export;
mod hidden;
pub mod hostid;
mod import;
mod imported;
mod open;
mod patience;
mod progress;
mod trouble;

pub use ask::{ASK, Told, answer};
pub use export::ExportError;
pub use hostid::{own as own_hostid, packed as packed_hostid, put_back as put_hostid_back, set as set_hostid};
pub use import::{ImportError, ImportRequest};
pub use imported::imported;
pub use patience::{impatient, patient_again};
pub use trouble::{suspended, waits};

use crate::report::log::Log;
use crate::report::phases::Phases;
use crate::sys::System;

/// What is done with pools, on a given system, told to a given log.
#[derive(Clone, Copy)]
pub struct Pools<'a> {
    system: &'a dyn System,
    log: &'a Log,
    phases: &'a Phases,
    /// Nodes of devices that do not answer, or must not be written to.
    silent: &'a [String],
}

impl std::fmt::Debug for Pools<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pools").finish_non_exhaustive()
    }
}

impl<'a> Pools<'a> {
    /// Calls go to `system`; what happens is told to `log`, how long it took to `phases`.
    pub fn new(system: &'a dyn System, log: &'a Log, phases: &'a Phases) -> Self {
        Self { system, log, phases, silent: &[] }
    }

    /// The same, but while the kernel opens a pool it is kept from these device nodes (`/dev/sdb`): of devices that have not
    /// answered for so long that nobody waits for them any longer. One that has only just come must not be among them: its
    /// reader would not find it.
    #[must_use]
    pub fn without(self, silent: &'a [String]) -> Self {
        Self { silent, ..self }
    }
}
