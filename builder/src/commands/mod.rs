//! One file a subcommand.

pub mod completions;
pub mod disk;
pub mod doctor;
pub mod explain;
pub mod hooks;
pub mod image;
pub mod initramfs;
pub mod inspect;
pub mod install;
pub mod layer;
pub mod live;
pub mod machine;
pub mod man;
pub mod run;
pub mod status;
pub mod takeover;
