//! Simulated machines: whole boots in milliseconds, with everything that can go wrong.
//!
//! A [`Machine`] is plain data: disks that come when they like and answer when they like, pools, an image, firmware, a person.
//! A [`World`] is that machine switched on: it is the seam through which the program sees the world, with a clock that
//! advances only where something takes time. What the kernel decides is modelled ([`zfs`]); what we decide is the program
//! itself.

pub mod faults;
pub mod files;
pub mod machine;
mod mounting;
mod people;
pub mod prng;
mod scout;
mod system;
#[cfg(test)]
mod tests;
pub mod world;
pub mod zfs;

pub use faults::{Effect, Fault, When};
pub use machine::Machine;
pub use world::{End, World};

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use taproot_init::sys::System;

/// The hostid of the simulated system.
pub const HOSTID: u32 = 0x00c0_ffee;

/// Runs a program on a machine until the machine says that it is over. Comes back with how it ended; `None` if the program
/// came back by itself, which PID 1 must not.
pub fn run(world: &World, program: impl FnOnce(Arc<dyn System>)) -> Option<End> {
    let system: Arc<dyn System> = Arc::new(world.clone());
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| program(system)))
        && !payload.is::<world::Over>()
    {
        resume_unwind(payload);
    }
    world.end()
}
