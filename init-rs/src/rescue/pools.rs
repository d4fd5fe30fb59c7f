//! The pools on the disks, read from their labels: works without the zfs module.

use crate::devices::block;
use crate::sys::System;
use crate::sys::linux::Linux;
use crate::zfs::assemble::{Seen, assemble};
use crate::zfs::label::read_labels;
use std::fmt::Write as _;
use std::path::Path;

/// The list as text.
pub(super) fn text() -> String {
    let system = Linux::new();
    let mut seen = Vec::new();
    let mut out = String::new();
    for device in block::enumerate(Path::new("/sys"), Path::new("/dev")).devices {
        let mut read = |offset, buf: &mut [u8]| system.read_at(&device.node, offset, buf);
        match read_labels(&mut read, device.size_bytes) {
            Ok(label) => seen.push(Seen { device: device.node.display().to_string(), label }),
            Err(problem) => {
                let _ = writeln!(out, "{}: {problem}", device.node.display());
            }
        }
    }
    for pool in assemble(&seen) {
        let _ = writeln!(out, "pool {} guid {} {:?}", pool.name, pool.guid, pool.state);
        for leaf in &pool.leaves {
            let recorded = leaf.recorded_path.as_deref().unwrap_or("(no path)");
            let _ = writeln!(out, "  {recorded}  {}", leaf.device.as_deref().unwrap_or("MISSING"));
        }
        for problem in &pool.problems {
            let _ = writeln!(out, "  {problem}");
        }
    }
    out
}
