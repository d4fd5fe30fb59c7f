//! `taproot image`: a tree, as a stream of entries, becomes a disk that boots, as an ordinary user.
//!
//! One pass: the pool writer takes the stream, and what the boot needs of it is kept on its way. Then an initramfs is packed for the
//! tree's kernel, the system partition is filled, and the partition table - without which nothing of it counts - comes last.

pub mod boot;
pub mod config;
pub mod disk;
pub mod edit;
mod extract;
pub mod ground;
pub mod live;
mod members;
pub mod pipeline;
pub mod source;
pub mod stages;
pub mod states;
pub mod system;
mod work;

use std::path::PathBuf;

use crate::pool;
use crate::uki::sign::Keys;

/// All that an image is made by; where the entries come from is told apart from it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The pool and its data sets. Size, offset and sector size are given by [`Plan::disk`].
    pub pool: pool::Options,
    /// The disk and its partitions.
    pub disk: Disk,
    /// What boots it.
    pub boot: Boot,
    /// What is written; all of them have the same content.
    pub outputs: Vec<Output>,
    /// They are disks of one mirror, which have the same pool, and a boot loader each.
    pub mirror: bool,
    /// Read the pool back and compare it with the stream.
    pub verify: bool,
}

/// The disk and its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes; `None`: [`Disk::DEFAULT`] in files. A device is used whole, and must not have fewer.
    pub size: Option<u64>,
    /// Bytes of a sector, 512 or 4096; a device's own count instead.
    pub sector: u64,
    /// Bytes of the EFI system partition.
    pub esp: u64,
    /// Bytes of the swap partition; 0: there is none.
    pub swap: u64,
}

impl Disk {
    /// Bytes of a disk of which nothing is said. Files have holes where nothing was written.
    pub const DEFAULT: u64 = 8 << 30;
    /// Bytes of the EFI system partition: two kernels and their images. With sectors of 4096 bytes fewer than 260 MiB are no FAT32.
    pub const ESP: u64 = 512 << 20;
}

impl Default for Disk {
    fn default() -> Self {
        Disk { size: None, sector: 512, esp: Disk::ESP, swap: 0 }
    }
}

/// What boots it.
#[derive(Debug, Clone, Default)]
pub struct Boot {
    /// The boot loader.
    pub loader: Loader,
    /// Release of the kernel; `None`: the newest one of the tree.
    pub kernel: Option<String>,
    /// Words of the kernel command line.
    pub cmdline: String,
    /// Key and certificate that programs for UEFI are signed with.
    pub sign: Option<Keys>,
    /// The static taproot-init; `None`: beside this program.
    pub init: Option<PathBuf>,
}

/// A boot loader, with the firmware that it is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Loader {
    /// UEFI: systemd-boot, and a unified kernel image for each kernel.
    #[default]
    #[value(alias = "uki")]
    SystemdBoot,
    /// UEFI: systemd-boot, and entries for kernels and images beside them.
    Bls,
    /// BIOS and UEFI: GRUB and systemd-boot, which share the kernels on the system partition.
    Grub,
    /// BIOS: GRUB with its files on the system partition, and a pool that it can read, too.
    GrubPool,
}

/// Something to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its format.
    pub format: Format,
    /// The file or device.
    pub path: PathBuf,
}

/// A format of disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes, in a file with holes.
    Raw,
    /// QEMU's.
    Qcow2,
    /// `VirtualBox`'s.
    Vdi,
    /// `VMware`'s.
    Vmdk,
    /// Hyper-V's.
    Vhdx,
    /// A block device of this machine.
    Device,
}

impl Format {
    /// As the configuration calls it.
    pub fn word(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Vdi => "vdi",
            Format::Vmdk => "vmdk",
            Format::Vhdx => "vhdx",
            Format::Device => "device",
        }
    }
}
