//! What the scout tells becomes what is known of the machine.

use crate::devices::known::{Device, Hardware, Reading};
use crate::scout::message::Message;
use std::time::Duration;

/// Adds what a message tells to what is known; true if that changed anything. `now`: time since the kernel started. Lines
/// for the log and answers to questions are nothing that is known of the machine.
pub fn apply(hardware: &mut Hardware, message: Message, now: Duration) -> bool {
    let mut labels;
    let of_devices = match message {
        Message::Device(device) => {
            let mut device = *device;
            // One that has not answered is no newer because another scout tells of it.
            let waits = |device: &&Device| device.content == Reading::Waiting;
            if let Some(before) = hardware.devices.get(&device.name).filter(waits).filter(|_| waits(&&device)) {
                device.since = device.since.min(before.since);
            }
            labels = device.is_member() || on_member(hardware, &device);
            let since = device.since;
            let before = hardware.devices.insert(device.name.clone(), device);
            // An answer is no sign that more devices come.
            if before.as_ref().is_none_or(|before| before.since != since) {
                hardware.last_change = now;
            }
            labels |= before.is_some_and(|before| before.is_member());
            true
        }
        Message::Gone(name) => {
            let before = hardware.devices.remove(&name);
            labels = before.as_ref().is_some_and(|before| before.is_member() || on_member(hardware, before));
            if before.is_some() {
                hardware.last_change = now;
            }
            before.is_some()
        }
        Message::Module { name, state, .. } => {
            return hardware.modules.insert(name, state.clone()).is_none_or(|before| before != state);
        }
        Message::Settled { settled, inserting } => {
            let before = (hardware.settled, hardware.inserting);
            (hardware.settled, hardware.inserting) = (settled, inserting);
            return before != (settled, inserting);
        }
        Message::Undriven(list) => {
            hardware.undriven = list;
            return true;
        }
        Message::Log { .. } | Message::Peeked { .. } | Message::Discarded { .. } => return false,
    };
    if of_devices {
        changed(hardware, labels);
    }
    of_devices
}

/// Whether this is a partition of a disk that carries a label of its own: what that is worth depends on the partitions.
fn on_member(hardware: &Hardware, device: &Device) -> bool {
    let disk = device.disk.as_ref().and_then(|disk| hardware.devices.get(disk));
    disk.is_some_and(Device::is_member)
}

/// Something is known of devices that was not before, or no longer.
pub(super) fn changed(hardware: &mut Hardware, labels: bool) {
    hardware.label_generation += u64::from(labels);
    hardware.generation += 1;
}
