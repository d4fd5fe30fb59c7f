//! Devices: modules, uevents, coldplug, block devices.
//!
//! The parts from the bottom up: [`table`] says what is packed, [`aliases`] which module a device wants, [`loader`]
//! inserts modules concurrently in dependency order, [`coldplug`] and [`uevent`] say which devices there are,
//! [`block`] which disks, [`links`] what they are called, [`probe`] what is on them, [`swap`] where a hibernation image may lie, [`filesystems`] what mounting one takes, [`verity`] how what is read is checked; [`watch`] ties them
//! together and tells the boot when there is something new to look at.
//!
//! Firmware needs no room: the kernel reads it from the image's `/lib/firmware` by itself.

pub mod aliases;
pub mod block;
pub mod coldplug;
pub mod filesystems;
pub mod known;
pub mod links;
pub mod loader;
pub mod probe;
pub mod swap;
pub mod table;
pub mod uevent;
pub mod verity;
pub mod watch;
