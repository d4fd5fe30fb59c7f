//! The command line of `taproot takeover`.

use clap::Args;
use std::path::PathBuf;

use crate::takeover::Method;

/// Help of `taproot takeover`.
pub(super) const HELP: &str = "Replaces the system of this machine by an image, without any other way in than its console. The machine leaves \
    its system for one in memory, which has the image with it, and the disk is not touched. There the number that was told here is shown, \
    and the takeover is confirmed by typing it; only then the disk is written, read back, and its partition table comes last. Without a \
    confirmation the machine restarts into its old system. Everything is looked at before; what stands against it is told at once.\n\n\
    Examples:\n  taproot takeover box.raw.zst --disk /dev/vda --dry-run     what would happen\n  \
    taproot takeover box.raw.zst --disk /dev/vda               the sum lies in box.raw.zst.sha256\n  \
    taproot takeover box.raw --disk S3YJNB0K --sha256 9f86d0... --minutes 5 --yes";

/// Arguments of `taproot takeover`.
#[derive(Debug, Args)]
pub struct TakeoverArgs {
    /// Image of a whole disk, raw or compressed by zstd
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// The disk that it replaces: its path, or its serial number
    #[arg(long, value_name = "DISK")]
    pub disk: String,
    /// SHA-256 of the image file [default: what stands in IMAGE.sha256]
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,
    /// The machine returns to its old system after so many minutes without a confirmation
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1440))]
    pub minutes: u16,
    /// Kernel of the system in memory; it must fit the running one's modules [default: the running kernel's file]
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Further words for its command line
    #[arg(long, value_name = "WORDS", default_value = "")]
    pub cmdline: String,
    /// How it is loaded
    #[arg(long, value_enum, default_value_t)]
    pub method: Method,
    /// Look at everything, say what would happen, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask before the machine leaves its system
    #[arg(long)]
    pub yes: bool,
}
