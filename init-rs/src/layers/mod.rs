//! A root of sealed layers that changes of itself: what stands in its state file, how a commit, a merge or a rollback goes on from
//! any point at which the power may have failed, and what of it a boot does.
//!
//! [`state`] is what is known, [`text`] how it is written down (`docs/layer-state.md`). [`request`], [`steps`] and [`boot`] are the
//! protocol: pure functions from one state to the next (`docs/decisions/0018-layer-commits.md`). [`store`] writes states so that one is
//! always there, [`run`] carries out steps in the running system.

pub mod boot;
pub mod request;
pub mod run;
pub mod state;
pub mod steps;
pub mod store;
#[cfg(test)]
mod tests;
pub mod text;

pub use boot::{Entry, Note};
pub use request::{Mounted, Refusal};
pub use state::{Layer, Operation, Phase, Stack, State};
pub use steps::{Step, Wait};
pub use store::{Files, Places, Store};
