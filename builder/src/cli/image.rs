//! The command line of `taproot image`. Each option stands for a key of the configuration.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::source::SourceArgs;
use crate::image::config::Said;

/// Arguments of `taproot image`.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools)] // one a switch
#[command(after_help = HELP)]
pub struct ImageArgs {
    /// Where the tree comes from, and the configuration.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Write the disk's bytes, in a file with holes
    #[arg(long, value_name = "FILE")]
    pub raw: Option<String>,
    /// Write a disk for QEMU
    #[arg(long, value_name = "FILE")]
    pub qcow2: Option<String>,
    /// Write a disk as `VirtualBox` has them (by qemu-img)
    #[arg(long, value_name = "FILE")]
    pub vdi: Option<String>,
    /// Write a disk as `VMware` has them (by qemu-img)
    #[arg(long, value_name = "FILE")]
    pub vmdk: Option<String>,
    /// Write a disk for Hyper-V (by qemu-img)
    #[arg(long, value_name = "FILE")]
    pub vhdx: Option<String>,
    /// Write to a block device that nobody uses, with guids of its own; all that is on it goes
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Write another device (or raw file) of the same kind: the pool is a mirror of all, and each can be booted from; may be given several
    /// times
    #[arg(long, value_name = "DEVICE")]
    pub mirror: Vec<String>,
    /// Size of the disk, such as 20G [default: 8G; of a device: all]
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// Bytes of a sector: 512 or 4096 [default: 512; of a device: its own]
    #[arg(long, value_name = "BYTES")]
    pub sector_size: Option<String>,
    /// Size of the EFI system partition [default: 512M]
    #[arg(long, value_name = "SIZE")]
    pub esp: Option<String>,
    /// Size of a swap partition [default: none]
    #[arg(long, value_name = "SIZE")]
    pub swap: Option<String>,
    /// Name of the pool; pools of this machine are not touched [default: zroot]
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,
    /// How data is compressed: off, lz4, zstd, or zstd-1 to zstd-19 [default: zstd]
    #[arg(long, value_name = "NAME")]
    pub compression: Option<String>,
    /// Words of the kernel command line [default: zfs=POOL, which boots what bootfs names]
    #[arg(long, value_name = "WORDS")]
    pub cmdline: Option<String>,
    /// Release of the kernel to boot [default: the newest of the tree]
    #[arg(long, value_name = "RELEASE")]
    pub kernel: Option<String>,
    /// systemd-boot, bls, grub or grub-pool [default: systemd-boot]
    #[arg(long, value_name = "NAME")]
    pub loader: Option<String>,
    /// Private key (PEM) that programs for UEFI are signed with, by sbsign
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<String>,
    /// Its certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub sign_cert: Option<String>,
    /// The static taproot-init [default: beside this program]
    #[arg(long, value_name = "FILE")]
    pub init: Option<String>,
    /// What guids are made from, with the pool's name: images of different seeds can be in one machine before they booted once
    #[arg(long, value_name = "TEXT")]
    pub seed: Option<String>,
    /// Read the pool back and compare it with the tree
    #[arg(long)]
    pub verify: bool,
    /// Do not ask before a device is written
    #[arg(long)]
    pub yes: bool,
    /// Workers that compress; the image does not depend on them [default: as many as processors]
    #[arg(long, value_name = "COUNT")]
    pub jobs: Option<std::num::NonZeroUsize>,
    /// Print a configuration file with all keys, and make nothing
    #[arg(long)]
    pub template: bool,
    /// Print the configuration as it was put together, with who said what, and make nothing
    #[arg(long)]
    pub show: bool,
    /// Print what a configuration of paczfs says as one of this program, and make nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["template", "show", "config"])]
    pub from_paczfs: Option<PathBuf>,
    /// Write what was converted there instead: image.toml, and its functions as hooks, each in a file
    #[arg(long, value_name = "DIR", requires = "from_paczfs")]
    pub to: Option<PathBuf>,
    /// Print what was made as JSON
    #[arg(long)]
    pub json: bool,
    /// No progress
    #[arg(long, short)]
    pub quiet: bool,
}

impl ImageArgs {
    /// What the command line says, as keys of the configuration.
    pub fn said(&self) -> Result<Vec<Said<'_>>> {
        let options = [
            ("--raw", "output.raw", &self.raw),
            ("--qcow2", "output.qcow2", &self.qcow2),
            ("--vdi", "output.vdi", &self.vdi),
            ("--vmdk", "output.vmdk", &self.vmdk),
            ("--vhdx", "output.vhdx", &self.vhdx),
            ("--device", "output.device", &self.device),
            ("--size", "disk.size", &self.size),
            ("--sector-size", "disk.sector", &self.sector_size),
            ("--esp", "disk.esp", &self.esp),
            ("--swap", "disk.swap", &self.swap),
            ("--pool", "pool.name", &self.pool),
            ("--compression", "pool.compression", &self.compression),
            ("--cmdline", "boot.cmdline", &self.cmdline),
            ("--kernel", "boot.kernel", &self.kernel),
            ("--loader", "boot.loader", &self.loader),
            ("--sign-key", "boot.sign-key", &self.sign_key),
            ("--sign-cert", "boot.sign-certificate", &self.sign_cert),
            ("--init", "boot.init", &self.init),
            ("--seed", "pool.seed", &self.seed),
        ];
        let mut said = self.source.said(options)?;
        if !self.mirror.is_empty() {
            // As TOML: a path may have a comma.
            said.insert(0, ("--mirror", "output.mirror", toml::Value::from(self.mirror.clone()).to_string()));
        }
        if self.verify {
            said.insert(0, ("--verify", "output.verify", "true".to_owned()));
        }
        Ok(said)
    }
}

const HELP: &str = "Makes a disk that boots from a tree, in one pass over its archive, as an ordinary user: no root, no ZFS, no loop device, no mount. \
    The same input gives the same bytes. A file gets its name when it is whole; a device gets its partition table last.\n\n\
    The tree needs a kernel with a zfs module for it. The image gets taproot, which keeps the boot loader in step with the kernels that are \
    installed later.\n\n\
    Examples:\n  taproot image --tar root.tar --qcow2 box.qcow2\n  \
    mmdebstrap --include=linux-image-amd64,zfs-dkms,... bookworm - | taproot image --tar - --raw box.raw --size 20G\n  \
    taproot image --tar root.tar --device /dev/disk/by-id/usb-... --loader grub\n  \
    taproot image --tar root.tar --device /dev/disk/by-id/ata-A --mirror /dev/disk/by-id/ata-B\n  \
    taproot image --template >box.toml; taproot image -c box.toml\n  \
    taproot image --from-paczfs paczfs.conf --to box; taproot image -c box/image.toml";
