//! The stack that the running system's root is: what is asked for, and what goes on behind it, by the protocol of `taproot_init::layers`
//! (docs/decisions/0018-layer-commits.md).
//!
//! [`running`] finds out what the system was booted with, [`ask`] notes requests, [`work`] carries out the steps, [`report`] says how
//! far they are. [`machine`] is about the files that belong to this machine and are in no image.

pub mod ask;
pub mod machine;
pub mod mounts;
pub mod report;
pub mod running;
pub mod work;
