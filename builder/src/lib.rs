//! Library behind the `taproot` command.

pub mod cli;
pub mod commands;
pub mod date;
pub mod doctor;
pub mod esp;
pub mod explain;
pub mod firstboot;
pub mod hooks;
pub mod image;
pub mod initramfs;
pub mod inspect;
pub mod install;
pub mod layer;
pub mod layer_integrity;
pub mod loader;
pub mod machine;
#[cfg(test)]
#[path = "../tests/made/mod.rs"]
mod made;
pub mod output;
pub mod pool;
pub mod progress;
pub mod replace;
pub mod run;
pub mod settings;
pub mod status;
pub mod takeover;
pub mod tar;
pub mod uki;
pub mod uuid;
