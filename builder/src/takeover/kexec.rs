//! The system in memory is given to the kernel.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use taproot_init::sys::kexec::{Segment, load_files, load_segments};

use super::bzimage::lay_out;

/// By which system call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// `kexec_file_load`; if that fails, `kexec_load`.
    #[default]
    Auto,
    /// `kexec_file_load`: the kernel reads the files, and checks signatures where it wants them.
    File,
    /// `kexec_load`: this program lays the kernel out in memory.
    Segments,
}

/// Words of the running kernel's line that another boot on this machine wants as well: consoles, and what works around hardware.
const KEPT: [&str; 19] = [
    "console",
    "earlycon",
    "earlyprintk",
    "no_timer_check",
    "acpi",
    "pci",
    "noapic",
    "nolapic",
    "apic",
    "iommu",
    "intel_iommu",
    "amd_iommu",
    "tsc",
    "clocksource",
    "nomodeset",
    "mem",
    "memmap",
    "reboot",
    "swiotlb",
];

/// The words for the kernel of the system in memory, from the running kernel's and those that were given.
pub(super) fn words(running: &str, given: &str) -> String {
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let kept = running.split_whitespace().filter(|word| KEPT.contains(&name(word).as_str()));
    // A kernel that panics restarts, into the old system as long as that is there. What it says else is not to hide the prompt.
    let own = ["panic=10", "loglevel=4", "rdinit=/init"];
    let all: Vec<&str> = kept.chain(own).chain(given.split_whitespace()).collect();
    all.join(" ")
}

/// Loads it; by which call, and what became of others.
pub(super) fn load(method: Method, kernel: &Path, initramfs: &File, words: &str) -> Result<String> {
    let file = File::open(kernel).with_context(|| format!("opening {}", kernel.display()))?;
    let first = match method {
        Method::Segments => None,
        Method::Auto | Method::File => match load_files(&file, initramfs, words) {
            Ok(()) => return Ok("kexec_file_load".to_owned()),
            Err(error) => Some(error),
        },
    };
    let said = first.map(|error| format!("kexec_file_load: {error}"));
    if method == Method::File {
        bail!("{}; expected a kernel with CONFIG_KEXEC_FILE that takes {}", said.unwrap_or_default(), kernel.display());
    }
    let told = said.as_deref().unwrap_or("kexec_file_load was not asked");
    by_segments(kernel, initramfs, words).with_context(|| format!("{told}; kexec_load failed too"))?;
    Ok(format!("kexec_load ({told})"))
}

fn by_segments(kernel: &Path, mut initramfs: &File, words: &str) -> Result<()> {
    const RUNNING: &str = "/sys/kernel/boot_params/data";
    let kernel = fs::read(kernel).with_context(|| format!("reading {}", kernel.display()))?;
    let running = fs::read(RUNNING).with_context(|| format!("reading {RUNNING}"))?;
    let mut packed = Vec::new();
    initramfs.rewind().and_then(|()| initramfs.read_to_end(&mut packed)).context("reading the system in memory")?;
    let layout = lay_out(&kernel, &running, packed.len() as u64, words)?;
    let room = |bytes: &[u8]| (bytes.len() as u64).next_multiple_of(4096);
    let (setup, kernel_at, kernel_room) = layout.kernel;
    let code = kernel.get(setup..).context("the kernel ends in its setup")?;
    load_segments(
        layout.entry,
        &[
            Segment { bytes: code, at: kernel_at, room: kernel_room.max(room(code)) },
            Segment { bytes: &layout.start.0, at: layout.start.1, room: room(&layout.start.0) },
            Segment { bytes: &packed, at: layout.initramfs, room: room(&packed) },
        ],
    )
    .context("kexec_load")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_this_machine_go_along_and_those_of_its_root_do_not() {
        let running = "BOOT_IMAGE=/vmlinuz root=UUID=x ro quiet console=tty0 console=ttyS0,115200 pci=nomsi init=/bin/sh resume=/dev/vda2 systemd.unit=x";
        assert_eq!(
            words(running, "console=hvc0 loglevel=7"),
            "console=tty0 console=ttyS0,115200 pci=nomsi panic=10 loglevel=4 rdinit=/init console=hvc0 loglevel=7"
        );
    }
}
