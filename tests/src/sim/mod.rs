//! Simulated machines: whole boots in milliseconds, with everything that can go wrong.
//!
//! A [`Machine`] is plain data: disks that come when they like and answer when they like, pools, an image, firmware, a person.
//! A [`World`] is that machine switched on: it is the seam through which the program sees the world, with a clock that
//! advances only where something takes time. What the kernel decides is modelled ([`zfs`]); what we decide is the program
//! itself.

mod apart;
#[cfg(test)]
mod boots;
mod copying;
mod faults;
pub mod files;
pub mod golden;
pub mod invariants;
mod kernel;
pub mod later;
mod layering;
mod lost;
pub mod machine;
mod mounting;
pub mod oracle;
mod people;
pub mod prng;
#[cfg(test)]
mod rivals;
mod scout;
mod scouts;
pub mod seed;
mod system;
#[cfg(test)]
mod tests;
mod verity;
pub mod wide;
pub mod world;
pub mod zfs;

pub use faults::{Effect, Fault, When};
pub use machine::Machine;
pub use world::{End, World};

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use taproot_init::sys::System;

/// The hostid of the simulated system.
pub const HOSTID: u32 = 0x00c0_ffee;

/// A machine, what is asked of it, and what goes wrong.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it was made from.
    pub seed: u64,
    /// The machine.
    pub machine: Machine,
    /// What its command line asks for.
    pub asked: seed::Asked,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

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

/// A run of a whole boot: how it ended, and what it has broken, a line each.
#[derive(Debug)]
pub struct Ran {
    /// The machine after it.
    pub world: World,
    /// The end.
    pub end: Option<End>,
    /// Nothing, if all is well.
    pub broken: Vec<String>,
}

impl Ran {
    /// Codes of failures that were explained or stand in `boot.json`.
    pub fn codes(&self) -> BTreeSet<String> {
        let printed = self.world.printed();
        let explained = printed.lines().filter_map(|line| line.trim().strip_prefix("Code:"));
        let mut codes: BTreeSet<String> = explained.map(|code| code.trim().to_owned()).collect();
        let report = self.world.file("/run/taproot/boot.json");
        let report = report.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        let code = report.as_ref().and_then(|report| report.pointer("/failure/code")?.as_str());
        codes.extend(code.map(str::to_owned));
        codes
    }
}

/// Boots the machine of a case and looks at what became of it. A panic of the program is a thing that it has broken.
pub fn boot(case: &Case) -> Ran {
    let world = World::new(case.machine.clone(), case.faults.clone());
    let ran = catch_unwind(AssertUnwindSafe(|| {
        run(&world, |system| {
            let _ = taproot_init::boot::run(&system, Vec::new());
        })
    }));
    match ran {
        Ok(end) => Ran { broken: invariants::broken(case, &world, end.as_ref()), world, end },
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let end = world.end();
            Ran { world, end, broken: vec![format!("panic: {}", text.unwrap_or_default())] }
        }
    }
}
