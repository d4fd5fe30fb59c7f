//! Pools and datasets by labels, nvlists and `/dev/zfs` ioctls; no libzfs, no `zpool`.

pub mod assemble;
pub mod calls;
#[cfg(test)]
mod fake;
pub mod growth;
pub mod ioctl;
pub mod judge;
pub mod keys;
pub mod label;
pub mod nvlist;
pub mod paths;
pub mod rewind;
pub mod snapshots;
pub mod walk;
