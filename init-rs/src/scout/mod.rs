//! The scout: the process that touches devices, so that PID 1 need not.

pub mod message;
