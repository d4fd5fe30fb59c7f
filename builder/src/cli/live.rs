//! The command line of `taproot live`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::source::SourceArgs;
use crate::image::config::Said;
use crate::layer::format::Compression;

/// Help of `taproot live`.
pub(super) const HELP: &str = "Makes a disk or an ISO that boots a tree from a squashfs, by UEFI and by BIOS, as an ordinary user: no root, no loop \
    device, no mount. mksquashfs writes the image, which is read again and compared with the tree; what is written in the live system goes to memory, or is kept \
    (--persistence, --persistence-zvol). The boot finds the medium by a file on it, so it may be copied to another one. A file gets its name when it is \
    whole.\n\n\
    The source is said as for taproot image, also by a configuration file (-c, --set); of that, [source] and [system] count.\n\n\
    Examples:\n  taproot live --tar root.tar --raw stick.raw\n  \
    taproot live --tar root.tar --raw stick.raw --persistence 4G\n  \
    taproot live --tar root.tar --iso live.iso --verity\n  \
    mmdebstrap --include=linux-image-amd64,... bookworm - | taproot live --tar - --raw stick.raw --compress xz";

/// Arguments of `taproot live`.
#[derive(Debug, Clone, Args)]
pub struct LiveArgs {
    /// Where the tree comes from, and the configuration.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Write the disk's bytes, in a file with holes
    #[arg(long, value_name = "FILE")]
    pub raw: Option<PathBuf>,
    /// Write a hybrid ISO, for a CD and for a disk
    #[arg(long, value_name = "FILE")]
    pub iso: Option<PathBuf>,
    /// Write the image, kernel, initramfs and command line into a directory, for a medium that another program makes
    #[arg(long, value_name = "DIR")]
    pub squash: Option<PathBuf>,
    /// Keep what is written on a partition of this size, such as 4G [default: in memory]
    #[arg(long, value_name = "SIZE", conflicts_with = "persistence_zvol")]
    pub persistence: Option<String>,
    /// Keep what is written on a zvol of this size, in a pool on the medium
    #[arg(long, value_name = "SIZE")]
    pub persistence_zvol: Option<String>,
    /// Seal the tree's image: a hash tree beside it, and its root hash on the kernel command line; a block that was changed is not read
    #[arg(long)]
    pub verity: bool,
    /// Seal it, and sign a list with it by this secret key (of taproot layer keygen) instead; the initramfs boots what the key signed alone
    #[arg(long, value_name = "FILE")]
    pub layers_sign_key: Option<PathBuf>,
    /// Number of that list: a boot that has seen one refuses those with lower ones
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "layers_sign_key")]
    pub list_serial: u64,
    /// zstd[:1-22], gzip[:1-9], lzo[:1-9], xz, lz4 or none [default: zstd:9]
    #[arg(long, value_name = "NAME[:LEVEL]")]
    pub compress: Option<Compression>,
    /// Further words of the kernel command line
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    pub cmdline: String,
    /// Release of the kernel to boot [default: the newest of the tree]
    #[arg(long, value_name = "RELEASE")]
    pub kernel: Option<String>,
    /// The static taproot-init [default: beside this program]
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Processors to use; the medium does not depend on it [default: all]
    #[arg(long, value_name = "COUNT")]
    pub jobs: Option<NonZeroUsize>,
    /// Print what was made as JSON
    #[arg(long)]
    pub json: bool,
    /// No progress
    #[arg(long, short)]
    pub quiet: bool,
}

impl LiveArgs {
    /// What the command line says of the source and the system, as keys of the configuration.
    pub fn said(&self) -> Result<Vec<Said<'_>>> {
        self.source.said([])
    }
}
