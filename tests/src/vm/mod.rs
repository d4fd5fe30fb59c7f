//! QEMU virtual machines: built, started, watched on two serial lines, driven through QMP, and gone when dropped.

pub mod accel;
pub mod disk;
pub mod machine;
pub mod qmp;
pub mod report;
pub mod stream;

pub use accel::{Accel, accel};
pub use disk::{Bus, Disk, Scratch};
pub use machine::{Running, Vm};
pub use report::{Mount, Report};
