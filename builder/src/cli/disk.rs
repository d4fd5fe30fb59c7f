//! Arguments of what looks after the disk of an image that was copied: `taproot first-boot`, `taproot grow`; and of one that is replaced: `taproot replace`.

use clap::Args;
use std::path::PathBuf;

/// Arguments of `taproot first-boot`.
#[derive(Debug, Args)]
#[command(
    after_help = "Renews what a copy must not share with others of its image: the pool's guid, the guids of the disk and its partitions, the serial \
    number of the EFI system partition, the UUID of swap, and every reference to them; makes machine-id, ssh host keys and random seed where \
    they are missing. A unit calls it once, where /etc/taproot/first-boot is there; it goes when all is done. A run that the power ends is gone on \
    with at the next boot.\n\nExamples:\n  taproot first-boot --dry-run\n  journalctl -u taproot-first-boot    what it did"
)]
pub struct FirstBootArgs {
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `taproot grow`.
#[derive(Debug, Args)]
#[command(
    after_help = "Moves the partition table's copy to the disk's end, enlarges the pool's partition if it is the last one, tells the kernel, and has the \
    pool use all of it, while it is in use. Nothing is done where there is nothing to gain; a table that is damaged or odd is left alone, \
    and the exit code is 1. A unit calls it at each boot where /etc/taproot/grow is there.\n\n\
    Examples:\n  taproot grow --dry-run\n  taproot grow tank\n  taproot grow --json | jq -r '.disks[] | .disk, .now'"
)]
pub struct GrowArgs {
    /// The pool [default: that of the root]
    pub pool: Option<String>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `taproot replace`.
#[derive(Debug, Args)]
#[command(
    after_help = "The new disk gets partitions as a disk has that is left, with guids of its own; the files of the boot loader's partition, and GRUB where there is \
    one; fstab names it in the place of the one that is gone; and the pool is told (zpool replace), which fills it. Its sectors must be as large, and the pool's \
    data must have room. A disk that is mounted, imported or used otherwise is refused; what is on it is shown and asked about. A disk that fails and is \
    still there is given up before: zpool offline POOL DISK. A run that was cut off is begun anew.\n\n\
    Examples:\n  taproot replace --dry-run /dev/disk/by-id/ata-NEW\n  taproot replace /dev/disk/by-id/ata-NEW\n  \
    taproot replace --for 1234567890123456789 --yes /dev/disk/by-id/ata-NEW    of several that are gone, as zpool status names it"
)]
pub struct ReplaceArgs {
    /// The new disk
    #[arg(value_name = "DISK")]
    pub device: PathBuf,
    /// Guid or path of the disk that is gone, where the pool lacks several
    #[arg(long = "for", value_name = "GUID")]
    pub gone: Option<String>,
    /// Do not ask before all that is on the new disk goes
    #[arg(long)]
    pub yes: bool,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}
