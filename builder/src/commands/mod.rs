//! One file a subcommand.

pub mod completions;
pub mod disk;
pub mod doctor;
pub mod explain;
pub mod hooks;
pub mod initramfs;
pub mod inspect;
pub mod layer;
pub mod man;
pub mod status;
