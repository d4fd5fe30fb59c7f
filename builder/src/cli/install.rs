//! The command line of `taproot install`.

use clap::Args;
use std::path::PathBuf;

/// Help of `taproot install`.
pub(super) const HELP: &str = "Makes a boot environment of an archive, in a pool that is imported here: the dataset is created, the archive unpacked, host name \
    and machine-id made its own. What boots stays what it is, unless --bootfs says otherwise. If it is cut off, nothing boots what is there \
    of it, and the property taproot:install=unfinished tells so.\n\n\
    Examples:\n  taproot install debian.tar.zst --dataset rpool/ROOT/debian13\n  \
    taproot install arch.tar --dataset rpool/ROOT/arch --encrypt --hostname arch\n  \
    taproot install debian.tar.zst --dataset rpool/ROOT/debian13 --bootfs --yes";

/// Arguments of `taproot install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The system as a tar archive, compressed by what tar knows
    #[arg(value_name = "TAR")]
    pub archive: PathBuf,
    /// The dataset to make
    #[arg(long, value_name = "DATASET")]
    pub dataset: String,
    /// Host name of the new system [default: the last part of the dataset's name]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Encrypt it by a passphrase, which zfs asks for
    #[arg(long)]
    pub encrypt: bool,
    /// Make it the pool's bootfs
    #[arg(long)]
    pub bootfs: bool,
    /// Do not ask before the pool's bootfs is changed
    #[arg(long)]
    pub yes: bool,
}
