//! The command line of `taproot layer`.

use crate::layer::format::{Compression, Format};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What `taproot layer` does.
#[derive(Debug, Subcommand)]
pub enum Layer {
    /// Make the first layer, from a directory, a tar, or the running system.
    #[command(after_help = INIT_HELP)]
    Init(InitArgs),
    /// List the layers in a directory.
    #[command(
        after_help = "The checksum is that of the file beside the layer (NAME.sha256), or of the layer itself with --sha256. The exit code is 3 \
        if an image was cut off or is none.\n\nExamples:\n  taproot layer list /layers\n  taproot layer list --json | jq -r '.[].name'"
    )]
    List(ListArgs),
    /// Say whether images are whole, and what they should be.
    #[command(
        after_help = "Compares the length with what the superblock says, the checksum with the one beside the image (NAME.sha256), and, as \
        root, mounts it and reads every file. The exit code is 3 if an image is not good.\n\n\
        Examples:\n  taproot layer verify /layers/base.sqsh\n  taproot layer verify --json /layers/*.sqsh"
    )]
    Verify(VerifyArgs),
    /// Say what a layer changes, or how two layers differ.
    #[command(
        after_help = "A line for each entry: A added, C changed, D deleted, R replaced (a directory that hides the one below), = stored again \
        and the same, - a whiteout of nothing. Times alone are no change. Needs root. Of two layers the exit code is 0 if \
        they hold the same, 3 if not.\n\n\
        Examples:\n  taproot layer diff /layers/old.sqsh /layers/new.sqsh\n  \
        taproot layer diff /upper/upper --lowers /layers/site.sqsh /layers/base.sqsh    what the upper changes"
    )]
    Diff(DiffArgs),
    /// Make one layer of several.
    #[command(after_help = MERGE_HELP)]
    Merge(MergeArgs),
    /// Unpack a stack of layers into a plain root: a directory, or a tar.
    #[command(
        after_help = "What is written is what an overlay of the layers shows: without whiteouts, ready to be a plain root or a dataset. A \
        directory that is not there is written under a temporary name and renamed; one that is there must be empty, such as a new \
        file system. Needs root.\n\n\
        Examples:\n  taproot layer convert --to /srv/root /layers/site.sqsh /layers/base.sqsh\n  \
        taproot layer convert --to - /layers/site.sqsh /layers/base.sqsh | ssh host tar -xp -C /mnt --xattrs --xattrs-include='*'\n  \
        taproot layer convert --to root.tar /upper/upper /layers/base.sqsh"
    )]
    Convert(ConvertArgs),
}

const INIT_HELP: &str = "What belongs to one machine (machine-id, SSH host keys, random seed, hostid...) and what ends with a boot (content of /tmp, /run...) is \
    left out and listed; other file systems below the source too. The running system (--from /) is read from a snapshot of btrfs, ZFS \
    or LVM that is made for it; where there can be none, files change while they are read, and --live says that this is accepted.\n\n\
    The image is written under a temporary name, read again, compared with the source entry by entry, synced and renamed; its checksum \
    stands beside it (NAME.sha256). The same source gives the same bytes; SOURCE_DATE_EPOCH is the latest time in it. Needs root, and \
    mksquashfs 4.5 or newer (squashfs-tools) or mkfs.erofs (erofs-utils).\n\n\
    Examples:\n  taproot layer init base --from /srv/debian --into /layers\n  \
    taproot layer init base --from debian.tar.xz --type erofs\n  \
    taproot layer init base --from / --into /mnt/stick --compress xz\n  \
    taproot layer init base --from / --live --keep etc/hostid --exclude 'home/*'";

const MERGE_HELP: &str = "The layers are named from the top down, images and directories (uppers of overlays) alike. Deleted files stay deleted and replaced \
    directories replaced for the layers below; with --bottom, when the last one named is the bottom of the stack, nothing is below, \
    and what is deleted takes no room any more. Only --offline is there: layers that no running system uses as its own. A layer whose overlay \
    had metacopy or redirect_dir on is refused with the path. Needs root.\n\n\
    Examples:\n  taproot layer merge --offline /layers/both.sqsh /layers/site.sqsh /layers/tools.sqsh\n  \
    taproot layer merge --offline --bottom /layers/new.sqsh /upper/upper /layers/site.sqsh /layers/base.sqsh\n  \
    taproot layer merge --offline --dry-run --json out.erofs a.sqsh b.sqsh";

/// How an image is made.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools)] // one a switch
pub struct SealArgs {
    /// zstd, gzip, xz, lzo, lz4 or none for squashfs, lz4, lz4hc, lzma, deflate, zstd or none for erofs, with an optional level [default: zstd:9, for erofs lz4hc]
    #[arg(long, value_name = "NAME[:LEVEL]")]
    pub compress: Option<Compression>,
    /// Leave access control lists out, which squashfs cannot hold
    #[arg(long)]
    pub drop_acls: bool,
    /// Try it even if there may not be room
    #[arg(long)]
    pub force: bool,
    /// Processors to use [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Let every other program go first, at the processor and at the disk
    #[arg(long)]
    pub low_priority: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print what was made as JSON
    #[arg(long)]
    pub json: bool,
    /// No progress
    #[arg(long, short)]
    pub quiet: bool,
}

/// Arguments of `taproot layer init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Name of the layer: letters, digits and - _ . + @
    pub name: String,
    /// Directory, tar, or / for the running system
    #[arg(long, value_name = "DIR|TAR")]
    pub from: PathBuf,
    /// Directory for the image
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub into: PathBuf,
    /// Type of the image
    #[arg(long = "type", value_enum, default_value_t)]
    pub format: Format,
    /// The running system may change while it is read
    #[arg(long)]
    pub live: bool,
    /// Keep this, although it belongs to one machine; `all` keeps everything; may be given several times
    #[arg(long, value_name = "PATH")]
    pub keep: Vec<String>,
    /// Leave this out too (* stands for any part of a name); may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// How the image is made.
    #[command(flatten)]
    pub seal: SealArgs,
}

/// Arguments of `taproot layer list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Directory with layers
    #[arg(default_value = ".")]
    pub directory: PathBuf,
    /// Read each image for its checksum
    #[arg(long)]
    pub sha256: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `taproot layer verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Images
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// No progress
    #[arg(long, short)]
    pub quiet: bool,
}

/// Arguments of `taproot layer diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A layer, and the one to compare it with; or the layer alone, with --lowers
    #[arg(required = true, num_args = 1..=2, value_name = "LAYER")]
    pub layers: Vec<PathBuf>,
    /// The stack below, from the top down: say what the layer changes of it
    #[arg(long, value_name = "LAYER", num_args = 1..)]
    pub lowers: Vec<PathBuf>,
    /// The overlay was mounted with userxattr
    #[arg(long)]
    pub userxattr: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `taproot layer merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The layers are in no use, or in use as lowers only
    #[arg(long, required = true)]
    pub offline: bool,
    /// Image to write: NAME.sqsh, NAME.squashfs or NAME.erofs
    pub output: PathBuf,
    /// Layers from the top down
    #[arg(required = true, value_name = "LAYER")]
    pub layers: Vec<PathBuf>,
    /// The last layer is the bottom of the stack
    #[arg(long)]
    pub bottom: bool,
    /// The overlay was mounted with userxattr
    #[arg(long)]
    pub userxattr: bool,
    /// How the image is made.
    #[command(flatten)]
    pub seal: SealArgs,
}

/// Arguments of `taproot layer convert`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // one a switch
pub struct ConvertArgs {
    /// Directory, file that ends with .tar, or - for a tar on standard output
    #[arg(long, value_name = "DIR|TAR")]
    pub to: PathBuf,
    /// Layers from the top down, the last one the bottom of the stack
    #[arg(required = true, value_name = "LAYER")]
    pub layers: Vec<PathBuf>,
    /// The overlay was mounted with userxattr
    #[arg(long)]
    pub userxattr: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print what was written as JSON
    #[arg(long)]
    pub json: bool,
    /// No progress
    #[arg(long, short)]
    pub quiet: bool,
}
