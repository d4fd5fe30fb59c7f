//! The library behind `taproot-init`: one room per job, arrows point down only (see `docs/ARCHITECTURE.md`).
//!
//! The builder depends on it for everything both sides must agree on: the module table, the image configuration,
//! nvlists and labels.

pub mod after;
pub mod boot;
pub mod cmdline;
pub mod devices;
pub mod firmware;
pub mod hex;
pub mod image;
pub mod keyboard;
pub mod layers;
pub mod plan;
pub mod pools;
pub mod report;
pub mod rescue;
pub mod scout;
pub mod shutdown;
pub mod sorted;
pub mod sys;
pub mod unlock;
pub mod zfs;
