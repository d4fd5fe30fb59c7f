//! Reading the labels of every block device, each device once, several at a time.

use crate::devices::block::{self, BlockDevice};
use crate::sys::System;
use crate::zfs::assemble::Seen;
use crate::zfs::label::{Label, LabelProblem, read_labels};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Readers at a time: reads wait for disks, not for processors.
const READERS: usize = 8;

/// What is known of the block devices.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    devices: BTreeMap<String, (u64, Result<Label, LabelProblem>)>,
}

impl Scanner {
    /// Looks at devices that are new or changed size; true if anything changed.
    pub(super) fn update(&mut self, system: &dyn System) -> bool {
        let now = block::enumerate(Path::new("/sys"), Path::new("/dev")).devices;
        let before = self.devices.len();
        self.devices.retain(|name, (size, _)| now.iter().any(|d| d.name == *name && d.size_bytes == *size));
        let gone = before != self.devices.len();
        let new: Vec<&BlockDevice> = now.iter().filter(|d| !self.devices.contains_key(&d.name)).collect();
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..READERS.min(new.len()) {
                scope.spawn(|| {
                    while let Some(device) = new.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let mut read = |offset, buf: &mut [u8]| system.read_at(&device.node, offset, buf);
                        let label = read_labels(&mut read, device.size_bytes);
                        if let Ok(mut results) = results.lock() {
                            results.push((device.name.clone(), (device.size_bytes, label)));
                        }
                    }
                });
            }
        });
        let results = results.into_inner().unwrap_or_default();
        let changed = gone || !results.is_empty();
        self.devices.extend(results);
        changed
    }

    /// Forgets a device, so that the next update reads it anew (a `change` event).
    pub(super) fn forget(&mut self, name: &str) {
        self.devices.remove(name);
    }

    /// Devices with a valid label.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let label = |(name, (_, label)): (&String, &(u64, Result<Label, LabelProblem>))| {
            label.as_ref().ok().map(|label| Seen { device: format!("/dev/{name}"), label: label.clone() })
        };
        self.devices.iter().filter_map(label).collect()
    }

    /// One line for each device that looks like, but is not, a usable member, and a count of the others.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut blank = Vec::new();
        for (name, (_, label)) in &self.devices {
            match label {
                Ok(_) => {}
                Err(LabelProblem::NoLabel | LabelProblem::TooSmall { .. }) => blank.push(name.as_str()),
                Err(problem) if problem.is_partition_tail() => blank.push(name.as_str()),
                Err(problem) => lines.push(format!("/dev/{name}: {problem}")),
            }
        }
        if !blank.is_empty() {
            lines.push(format!("without a ZFS label: {}", blank.join(" ")));
        }
        if self.devices.is_empty() {
            lines.push("no block device at all: is the driver of the disk controller in the image?".to_owned());
        }
        lines
    }
}
