//! Decisions, as pure functions over plain data: which pool, which dataset, which mounts in which order and why.

mod environments;
pub mod facts;
pub mod from_zfs;
pub mod fstab;
pub mod mounts;
pub mod names;
pub mod options;
pub mod roots;
pub mod select;
