//! The command line of `taproot machine`.

use clap::Subcommand;
use std::path::PathBuf;

const CREATE_HELP: &str = "Makes a root for systemd-nspawn in /var/lib/machines: a clone of a snapshot, which takes no space and no time, or a copy of a \
    directory. It gets a name and an empty machine-id, and mounts nothing of the host's.\n\n\
    Examples:\n  taproot machine create web --from tank/ROOT/debian@installed && systemd-nspawn -b -M web\n  \
    taproot machine create web --from /srv/miniroot";
const LIST_HELP: &str = "Examples:\n  taproot machine list";
const REMOVE_HELP: &str = "Only what was made by taproot machine create is removed, with everything in it, and not while it runs.\n\n\
    Examples:\n  taproot machine remove web";
const EXPORT_HELP: &str = "Owners are numbers, and attributes and access lists are in it. The end of the name says how it is compressed.\n\n\
    Examples:\n  taproot machine export web web.tar.zst";

/// What to do with machines.
#[derive(Debug, Subcommand)]
pub enum Machine {
    /// Make one.
    #[command(after_help = CREATE_HELP)]
    Create {
        /// Its name
        name: String,
        /// A snapshot to clone (DATASET@SNAPSHOT), or a directory to copy (with a slash before it)
        #[arg(long, value_name = "SNAPSHOT|DIR")]
        from: String,
        /// Dataset below which the clone lies [default: POOL/machines, made if it is not there]
        #[arg(long, value_name = "DATASET")]
        parent: Option<String>,
    },
    /// Show those that were made here.
    #[command(after_help = LIST_HELP)]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove one.
    #[command(after_help = REMOVE_HELP)]
    Remove {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Write one as a tar archive.
    #[command(after_help = EXPORT_HELP)]
    Export {
        /// Its name
        name: String,
        /// The archive
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}
