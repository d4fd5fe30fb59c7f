//! File systems that are not ZFS: their modules, and the devices they lie on.

use super::hardware::Hardware;
use crate::devices::filesystems;
use crate::devices::probe::{Found, Prober, Wanted};
use crate::plan::mounts::MountStep;
use crate::report::log::Log;
use crate::sys::System;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// How long a module of a file system may take to start.
const MODULE_WAIT: Duration = Duration::from_secs(10);
/// Between two looks for a device of which no event tells, such as a label that is written late.
const POLL: Duration = Duration::from_millis(500);

/// What mount(2) gets besides the target and the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mountable {
    /// Dataset, device or name.
    pub(super) source: String,
    /// Type.
    pub(super) fstype: String,
}

/// The dataset, or the device of another file system once it is there. Loads the file system's module.
pub(super) fn find(
    system: &dyn System,
    step: &MountStep,
    hardware: &Hardware,
    prober: &mut Prober,
    log: &Log,
) -> io::Result<Mountable> {
    let source = step.dataset.clone();
    let Some(foreign) = &step.foreign else { return Ok(Mountable { source, fstype: "zfs".to_owned() }) };
    let mut found = Mountable { source, fstype: foreign.fstype.clone() };
    if foreign.device {
        let missing = |what| io::Error::new(io::ErrorKind::NotFound, what);
        let Some(device) = wait(system, &step.dataset, foreign.wait, hardware, prober, log) else {
            let waited = match foreign.wait.as_secs() {
                0 => String::new(),
                seconds => format!(" within {seconds} s"),
            };
            return Err(missing(format!("no device {} was found{waited}", step.dataset)));
        };
        found.source = device.node.display().to_string();
        if foreign.fstype == "auto" {
            let kind = device.kind.ok_or_else(|| missing(format!("{} holds no known file system", found.source)))?;
            kind.clone_into(&mut found.fstype);
        }
    }
    if let Err(e) = load(&found.fstype, hardware) {
        log.warn(format!("{}: {e}", found.fstype));
    }
    Ok(found)
}

fn load(fstype: &str, hardware: &Hardware) -> Result<(), String> {
    if known(&fs::read_to_string("/proc/filesystems").unwrap_or_default(), fstype) {
        return Ok(());
    }
    let mut last = Ok(());
    for module in filesystems::modules(fstype) {
        last = match hardware.module(module, MODULE_WAIT) {
            Some(Ok(())) => Ok(()),
            // One that is not packed may be built in; if not, the mount says so.
            Some(Err(e)) => Err(format!("{e}; pack it: taproot initramfs --add-module {module}")),
            None => Err(format!("its module is still starting after {} s", MODULE_WAIT.as_secs())),
        };
    }
    last
}

/// Whether `/proc/filesystems` has the type.
fn known(text: &str, fstype: &str) -> bool {
    text.lines().any(|line| line.split_whitespace().next_back() == Some(fstype))
}

fn wait(
    system: &dyn System,
    spec: &str,
    patience: Duration,
    hardware: &Hardware,
    prober: &mut Prober,
    log: &Log,
) -> Option<Found> {
    let wanted = Wanted::parse(spec)?;
    let deadline = Instant::now() + patience;
    let mut told = false;
    loop {
        if let Some(device) =
            prober.find(&wanted, &mut |path, offset, buf| crate::sys::device::read_at(path, offset, buf))
        {
            return Some(device);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        if !told {
            told = true;
            log.info(format!("waiting up to {} s for {spec}", patience.as_secs()));
        }
        hardware.wait_change(left.min(POLL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_the_kernel_knows() {
        let text = "nodev\tsysfs\nnodev\ttmpfs\n\text4\n";
        assert!(known(text, "ext4") && known(text, "tmpfs"));
        assert!(!known(text, "ext") && !known(text, "nodev"));
    }
}
