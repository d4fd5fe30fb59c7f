//! What happened, for people and programs: kernel log, `/run/taproot/boot.log`, `/run/taproot/boot.json`.

pub mod boot;
pub mod calm;
mod facts;
pub mod json;
pub mod layers;
pub mod log;
pub mod modules;
pub mod phases;
pub mod slow;
