//! The scout: the process that touches devices, so that PID 1 need not.
//!
//! Everything that can hang - reading a disk, opening one whose partitions are still being looked for, a driver's
//! initialisation - happens in a child process of the same program, which reports what it finds ([`message`]) and is killed
//! before the hand-over, wherever it sits. [`run`](mod@run) is that process, [`client`] is PID 1's side of it.

pub mod client;
pub mod copy;
pub mod message;
mod reader;
mod requests;
pub mod run;
mod state;
mod survey;

pub use client::{Scout, apply};
