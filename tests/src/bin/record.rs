//! Records what the kernels of the kit answer to `sim::golden`, into `tests/golden/`: `record RECORDER`, the program that asks them
//! in the guest.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use taproot_tests::image;
use taproot_tests::kit::{self, ON_DEMAND, SYSTEMS, System};
use taproot_tests::vm::{Scratch, Vm};
use taproot_tests::words::{PROMPT, SHELL_PROMPT};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [recorder] = args.as_slice() else { bail!("expected: record RECORDER") };
    for name in SYSTEMS.into_iter().chain([ON_DEMAND]) {
        if name == ON_DEMAND && !kit::cache()?.join("trees").join(name).join("stamp").exists() {
            println!("{name} is not there, its recording stays as it is");
            continue;
        }
        let system = System::open(name)?;
        record(&system, &image::standard(&system)?, Path::new(recorder))?;
    }
    Ok(())
}

fn record(system: &System, image: &Path, recorder: &Path) -> Result<()> {
    let scratch = Scratch::new()?;
    let with = scratch.path().join("with-recorder.img");
    // In front, because the kernel takes an archive that is not compressed only where it is aligned.
    let script = "mkdir -p \"$1\" && cp \"$2\" \"$1/recorder\" && { (cd \"$1\" && echo recorder | cpio --quiet -o -H newc); cat \"$3\"; } >\"$4\"";
    let dir = scratch.path().join("more");
    kit::run(Command::new("sh").args(["-ec", script, "sh"]).arg(&dir).arg(recorder).arg(image).arg(&with))?;
    let mut vm = Vm::new("record", system, &with).append("zfs=nosuch taproot.break=import taproot.wait=1 quiet");
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
    let numbers = system.name.rsplit('-').next().context("a system without a version")?;
    let dir = taproot_tests::checkout().join("tests/golden").join(numbers);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("replies"), lines.join("\n") + "\n")?;
    println!("{}: {} lines", dir.display(), lines.len());
    Ok(())
}
