//! The command line of `taproot run`.

use clap::Args;
use std::path::PathBuf;

use crate::run::Forward;

/// Help of `taproot run`.
pub(super) const HELP: &str = "Runs a system in a virtual machine (QEMU) and changes nothing of it. Of an image, what the guest writes is gone \
    with the machine. Of the running root's snapshot, with those of the same name that its other datasets have, or of a directory, a \
    squashfs is made, and the guest's own kernel boots it under an upper in memory. The guest's console is this terminal; Ctrl-A X ends it.\n\n\
    Examples:\n  taproot run box.qcow2                        would it boot\n  \
    taproot run @before-upgrade                  the running root as it was\n  \
    taproot run --root /mnt --forward 2222:22    a system that is mounted there, with a way in by ssh\n  \
    taproot run box.raw --dry-run                the command";

/// Arguments of `taproot run`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // one a switch
pub struct RunArgs {
    /// Image of a disk (raw, qcow2, vdi, vmdk, vhdx), or @SNAPSHOT of the running root
    #[arg(value_name = "IMAGE|@SNAPSHOT", required_unless_present = "root", conflicts_with = "root")]
    pub what: Option<String>,
    /// Run the system in this directory; what is mounted in it stays out
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Memory in MiB
    #[arg(long, short, value_name = "MIB", default_value_t = 2048)]
    pub memory: u32,
    /// Processors
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    pub cpus: u16,
    /// Start an image by UEFI firmware [default: UEFI, unless a raw image has BIOS boot code]
    #[arg(long, conflicts_with = "bios")]
    pub uefi: bool,
    /// Start an image by BIOS firmware
    #[arg(long)]
    pub bios: bool,
    /// Let the guest change the image
    #[arg(long)]
    pub write: bool,
    /// A window with the guest's screen, instead of its serial line on this terminal
    #[arg(long)]
    pub window: bool,
    /// A port of this machine that leads to one of the guest; may be given several times
    #[arg(long = "forward", value_name = "HOST:GUEST")]
    pub forwards: Vec<Forward>,
    /// Release of the kernel, of a directory that has several
    #[arg(long, value_name = "RELEASE")]
    pub kernel: Option<String>,
    /// Further words for the kernel of a directory or snapshot
    #[arg(long, value_name = "WORDS", default_value = "")]
    pub cmdline: String,
    /// The static taproot-init [default: beside this program, or lib/taproot/taproot-init of its prefix]
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Where files of the machine lie while it runs
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub work: PathBuf,
    /// Print the commands, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Further arguments for QEMU
    #[arg(last = true, value_name = "QEMU")]
    pub more: Vec<String>,
}
