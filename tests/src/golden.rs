//! What the kernels of the kit answer to `sim::golden`: the recordings in `tests/golden/`, and the machine in which they are made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::kit::{self, System};
use crate::sim::machine::ZfsVersion;
use crate::vm::{Scratch, Vm};
use crate::words::{PROMPT, SHELL_PROMPT};
use crate::{checkout, image};

/// Asks the kernel of a kit system anew, by `recorder` (`bin/recorder.rs`) in a virtual machine of this name; gives a recording.
pub fn ask(name: &str, system: &System, recorder: &Path) -> Result<String> {
    let scratch = Scratch::new()?;
    let with = scratch.path().join("with-recorder.img");
    // In front, because the kernel takes an archive that is not compressed only where it is aligned.
    let script = "mkdir -p \"$1\" && cp \"$2\" \"$1/recorder\" && { (cd \"$1\" && echo recorder | cpio --quiet -o -H newc); cat \"$3\"; } >\"$4\"";
    let (dir, image) = (scratch.path().join("more"), image::standard(system)?);
    kit::run(Command::new("sh").args(["-ec", script, "sh"]).arg(&dir).arg(recorder).arg(&image).arg(&with))?;
    let mut vm = Vm::new(name, system, &with).append("zfs=nosuch taproot.break=import taproot.wait=1 quiet");
    for serial in ["snap0", "mirror0", "logdata0", "keys1"] {
        vm = vm.disk(scratch.overlay(system, serial)?);
    }
    let vm = vm.start()?;
    vm.expect(PROMPT, 120)?;
    vm.type_line("shell")?;
    vm.expect(SHELL_PROMPT, 30)?;
    vm.type_line("/recorder")?;
    vm.expect("@@GOLDEN DONE", 240)?;
    let text = vm.console.text();
    let lines: Vec<&str> = text.lines().filter_map(|line| line.trim_end().strip_prefix("@@G ")).collect();
    Ok(lines.join("\n") + "\n")
}

/// The part of a system's name that says which OpenZFS it has.
fn zfs_of(system: &System) -> Result<&str> {
    system.name.rsplit('-').next().context("a system without a version")
}

/// Where its recording is kept.
pub fn path(system: &System) -> Result<PathBuf> {
    Ok(checkout().join("tests/golden").join(zfs_of(system)?).join("replies"))
}

/// What was recorded of it.
pub fn recorded(system: &System) -> Result<String> {
    let path = path(system)?;
    fs::read_to_string(&path).with_context(|| format!("reading {}; make golden makes it", path.display()))
}

/// The model that stands for it.
pub fn version(system: &System) -> Result<ZfsVersion> {
    Ok(match zfs_of(system)? {
        "zfs2.1" => ZfsVersion::V2_1,
        "zfs2.3" => ZfsVersion::V2_3,
        "zfs2.4" => ZfsVersion::V2_4,
        other => bail!("there is no model of {other}"),
    })
}
