//! Disks that hardly answer: one request, or 1500 bytes, a second.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::vm::{Scratch, Vm};

/// A controller with this many empty disks that hardly answer, before all others in the alphabet.
pub fn disks(vm: Vm, scratch: &Scratch, count: usize) -> Result<Vm> {
    let mut vm =
        vm.cpus(2).extra(&["-device", "ahci,id=quiet,addr=0x1e"]).extra(&["-device", "ahci,id=quiet2,addr=0x1f"]);
    for n in 0..count {
        let file = scratch.path().join(format!("quiet{n}.img"));
        File::create(&file).and_then(|file| file.set_len(256 << 20)).context("a silent disk")?;
        vm = attach(vm, &file, "raw", n, &format!("quiet{n}"));
    }
    Ok(vm)
}

/// Attaches an image to port `n` of the two controllers, throttled.
#[must_use]
pub fn attach(vm: Vm, file: &Path, format: &str, n: usize, serial: &str) -> Vm {
    let (bus, port) = if n < 6 { ("quiet", n) } else { ("quiet2", n - 6) };
    let drive = format!(
        "file={},if=none,id=drive-{serial},format={format},throttling.iops-total=1,throttling.bps-total=1500",
        file.display()
    );
    let device = format!("ide-hd,bus={bus}.{port},drive=drive-{serial},serial={serial}");
    vm.extra(&["-drive", &drive, "-device", &device])
}
