//! File systems that are not ZFS: their modules, and the devices they lie on.

use super::hardware::Hardware;
use crate::plan::mounts::{Foreign, MountStep};
use crate::report::log::Log;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a module of a file system may take to start.
const MODULE_WAIT: Duration = Duration::from_secs(10);
/// Between two looks for a device of which no event tells, such as a label that is written late.
const POLL: Duration = Duration::from_millis(500);
/// Character sets that a FAT file system is mounted with, depending on the kernel's configuration; there is no modprobe
/// that the kernel could ask for them.
const FAT_NLS: [&str; 4] = ["nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"];

/// What to give mount(2) as the source: the dataset, or the device once it is there. Loads the file system's module.
pub(super) fn source(step: &MountStep, hardware: &Hardware, log: &Log) -> io::Result<String> {
    let Some(foreign) = &step.foreign else { return Ok(step.dataset.clone()) };
    if let Err(e) = load(&foreign.fstype, hardware) {
        log.warn(format!("{}: {e}", foreign.fstype));
    }
    if !foreign.device {
        return Ok(step.dataset.clone());
    }
    let device = wait(&step.dataset, foreign, hardware, log);
    device.map(|path| path.display().to_string()).ok_or_else(|| {
        let waited = match foreign.wait.as_secs() {
            0 => String::new(),
            seconds => format!(" within {seconds} s"),
        };
        io::Error::new(io::ErrorKind::NotFound, format!("no device {} was found{waited}", step.dataset))
    })
}

fn load(fstype: &str, hardware: &Hardware) -> Result<(), String> {
    if known(&fs::read_to_string("/proc/filesystems").unwrap_or_default(), fstype) {
        return Ok(());
    }
    let extra = if matches!(fstype, "vfat" | "msdos") { FAT_NLS.as_slice() } else { &[] };
    for module in extra {
        // One that is not packed may be built in; if not, the mount says so.
        let _ = hardware.module(module, MODULE_WAIT);
    }
    match hardware.module(fstype, MODULE_WAIT) {
        Some(Ok(())) => Ok(()),
        Some(Err(e)) => Err(format!("{e}; pack it: taproot initramfs --add-module {fstype}")),
        None => Err(format!("its module is still starting after {} s", MODULE_WAIT.as_secs())),
    }
}

/// Whether `/proc/filesystems` has the type.
fn known(text: &str, fstype: &str) -> bool {
    text.lines().any(|line| line.split_whitespace().next_back() == Some(fstype))
}

fn wait(spec: &str, foreign: &Foreign, hardware: &Hardware, log: &Log) -> Option<PathBuf> {
    let deadline = Instant::now() + foreign.wait;
    let mut told = false;
    loop {
        if let Some(device) = find(spec) {
            return Some(device);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        if !told {
            told = true;
            log.info(format!("waiting up to {} s for {spec}", foreign.wait.as_secs()));
        }
        hardware.wait_change(left.min(POLL));
    }
}

/// The device that `spec` names now.
fn find(spec: &str) -> Option<PathBuf> {
    let path = Path::new(spec);
    (path.is_absolute() && path.exists()).then(|| path.to_path_buf())
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
