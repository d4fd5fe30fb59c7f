//! QEMU virtual machines: built, started, watched on serial lines, driven through QMP, and gone when dropped.

pub mod accel;
pub mod disk;
pub mod firmware;
pub mod keyboard;
pub mod machine;
pub mod memory;
pub mod qmp;
pub mod report;
pub mod running;
pub mod stream;
pub mod unmix;
pub mod warm;
pub mod written;

pub use accel::{Accel, accel};
pub use disk::{Bus, Disk, Scratch};
pub use machine::Vm;
pub use report::{Mount, Report};
pub use running::Running;
