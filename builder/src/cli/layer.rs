//! The command line of `taproot layer`.

use super::integrity::{KeygenArgs, SEAL_HELP, SIGN_HELP, SignArgs, TreeArgs};
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
    /// Make the hash trees of images, or check them.
    #[command(after_help = SEAL_HELP)]
    Seal(TreeArgs),
    /// Sign a list of layers.
    #[command(after_help = SIGN_HELP)]
    Sign(SignArgs),
    /// Make a pair of keys, to sign lists of layers with.
    #[command(after_help = "Examples:\n  taproot layer keygen /root/site --comment 'lists of site'")]
    Keygen(KeygenArgs),
    /// Make one layer of several: of the running system's topmost ones, or of any with --offline.
    #[command(after_help = MERGE_HELP)]
    Merge(MergeArgs),
    /// Make a layer of what was written to the running system's root.
    #[command(after_help = COMMIT_HELP)]
    Commit(CommitArgs),
    /// Go back to a stack of the past, or to the layers of now without what was written over them.
    #[command(
        after_help = "Without a number: the layers of now under a fresh upper. With one of those that `taproot layer status` lists: that stack, with the \
        upper that was set aside with it, or a fresh one. The upper of now is set aside, never removed; `taproot layer forget` does that. The \
        next boot takes it on trial, and goes back by itself after three boots that were not called good. Needs root.\n\n\
        Examples:\n  taproot layer rollback            a fresh upper\n  taproot layer rollback 3 --reboot"
    )]
    Rollback(RollbackArgs),
    /// Say what the root is made of, what is under way, and what the next boot does.
    #[command(
        after_help = "The exit code is 3 if something waits for a person, or the next boot would lack a layer.\n\n\
        Examples:\n  taproot layer status\n  taproot layer status --hidden\n  taproot layer status --json | jq -r '.operations[] | .name + \" \" + .phase'"
    )]
    Status(StackStatusArgs),
    /// Withdraw a commit, merge or rollback that is not finished.
    #[command(
        after_help = "What was sealed for it stays a layer of its own; what is on trial is left with the next boot. Needs root.\n\n\
        Examples:\n  taproot layer withdraw site\n  taproot layer withdraw rollback"
    )]
    Withdraw(NameArgs),
    /// Try again what waits because of trouble.
    #[command(after_help = "Needs root.\n\nExamples:\n  taproot layer retry site")]
    Retry(NameArgs),
    /// Give up a stack of the past, with the upper that was set aside with it.
    #[command(
        after_help = "What only that stack has is removed: images that were made here, and its upper with all that was written to it. Needs \
        root.\n\nExamples:\n  taproot layer forget 3"
    )]
    Forget(ForgetArgs),
    /// Carry out what was asked for, as far as it goes without a reboot; taproot-layer-work.service does this.
    #[command(
        after_help = "Builds images, proves them, gives them their names, removes what nothing needs any more. Each step can be interrupted, also by \
        the power, and is done again. Every other program goes first. What lacks room is tried again each time this starts. Needs \
        root.\n\nExamples:\n  taproot layer work\n  taproot layer work --compress xz --drop-acls"
    )]
    Work(WorkArgs),
    /// Call this boot good; taproot-layer-confirm.service does this behind boot-complete.target.
    #[command(
        after_help = "What was on trial stays, and what it replaces is removed. Nothing happens if nothing is on trial. Needs root.\n\n\
        Examples:\n  taproot layer confirm"
    )]
    Confirm,
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

const COMMIT_HELP: &str = "Noted at once, done by the next boots. The next one seals the upper, in milliseconds, and writes to a fresh one. The image is built and \
    compared in the background, at low priority; the boot after that takes it on trial, and once that boot is called good \
    (boot-complete.target) what it replaces is removed. The power may fail at any moment. Files that belong to this machine (machine-id, SSH host \
    keys, random seed...) go into no image and stay. An upper in memory is copied while it is written, which is weaker. What cannot be \
    sealed is refused now: directories that were moved (redirect_dir=on), files without their data (metacopy=on), a volatile upper. With access \
    control lists in it the image is erofs, because squashfs cannot hold them.\n\n\
    The kernel command line has to say taproot.layers without a list: a list goes over the state. Needs root.\n\n\
    Examples:\n  taproot layer commit site\n  taproot layer commit site --dry-run\n  taproot layer commit site --with 2    the upper and two layers below it as one\n  \
    taproot layer commit site --reboot";

const MERGE_HELP: &str = "`merge N NAME` makes one layer of the running system's N topmost ones, in the background; the next boot takes it on trial, and its upper \
    stays as it is. The power may fail at any moment.\n\n\
    With --offline the layers are named from the top down, images and directories (uppers of overlays) alike: layers that no running \
    system uses as its own. Deleted files stay deleted and replaced directories replaced for the layers below; with --bottom, when the last one \
    named is the bottom of the stack, nothing is below, and what is deleted takes no room any more. A layer whose overlay had metacopy or \
    redirect_dir on is refused with the path. Needs root.\n\n\
    Examples:\n  taproot layer merge 2 site\n  taproot layer merge --offline /layers/both.sqsh /layers/site.sqsh /layers/tools.sqsh\n  \
    taproot layer merge --offline --bottom /layers/new.sqsh /upper/upper /layers/site.sqsh /layers/base.sqsh\n  \
    taproot layer merge --offline --dry-run --json out.erofs a.sqsh b.sqsh";

/// How an image is made.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools)] // one a switch
pub struct SealArgs {
    /// For squashfs zstd[:1-22], gzip[:1-9], lzo[:1-9], xz, lz4 or none; for erofs lz4, lz4hc[:0-12], lzma[:0-9], deflate[:0-9], zstd[:0-22] or none [default: zstd:9, for erofs lz4hc]
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
#[allow(clippy::struct_excessive_bools)] // one a switch
pub struct MergeArgs {
    /// The layers are in no use, or in use as lowers only
    #[arg(long)]
    pub offline: bool,
    /// How many of the running system's layers; with --offline the image to write: NAME.sqsh, NAME.squashfs or NAME.erofs
    #[arg(value_name = "N|IMAGE")]
    pub first: PathBuf,
    /// Name of the layer; with --offline layers from the top down
    #[arg(required = true, value_name = "NAME|LAYER")]
    pub rest: Vec<PathBuf>,
    /// The last layer is the bottom of the stack
    #[arg(long, requires = "offline")]
    pub bottom: bool,
    /// The overlay was mounted with userxattr
    #[arg(long, requires = "offline")]
    pub userxattr: bool,
    /// Type of the running system's image [default: squashfs, or erofs if there are access control lists]
    #[arg(long = "type", value_enum, conflicts_with = "offline")]
    pub format: Option<Format>,
    /// Restart the machine when it is noted
    #[arg(long, conflicts_with = "offline")]
    pub reboot: bool,
    /// How the image is made.
    #[command(flatten)]
    pub seal: SealArgs,
}

/// How something is asked for.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools)] // one a switch
pub struct AskArgs {
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Restart the machine when it is noted
    #[arg(long)]
    pub reboot: bool,
    /// Print what was noted as JSON
    #[arg(long)]
    pub json: bool,
    /// No progress
    #[arg(long, short)]
    pub quiet: bool,
}

/// Arguments of `taproot layer commit`.
#[derive(Debug, Args)]
pub struct CommitArgs {
    /// Name of the layer: letters, digits and - _ . + @
    pub name: String,
    /// Put so many of the topmost layers into it, too
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub with: u16,
    /// Type of the image [default: squashfs, or erofs if there are access control lists]
    #[arg(long = "type", value_enum)]
    pub format: Option<Format>,
    /// Note it even if there may not be room: it waits for that then
    #[arg(long)]
    pub force: bool,
    /// How it is asked for.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Arguments of `taproot layer rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Number of the stack [default: the layers of now under a fresh upper]
    pub past: Option<u32>,
    /// How it is asked for.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Arguments of `taproot layer status`.
#[derive(Debug, Args)]
pub struct StackStatusArgs {
    /// Also list what the upper hides of the layers; reads all of them
    #[arg(long)]
    pub hidden: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `taproot layer withdraw` and `taproot layer retry`.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// The layer that it makes, or `rollback`
    pub name: String,
    /// How it is asked for.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Arguments of `taproot layer forget`.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// Number of the stack
    pub past: u32,
    /// How it is asked for.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Arguments of `taproot layer work`.
#[derive(Debug, Args)]
pub struct WorkArgs {
    /// As of `taproot layer init` [default: zstd:9, for erofs lz4hc]
    #[arg(long, value_name = "NAME[:LEVEL]")]
    pub compress: Option<Compression>,
    /// Leave access control lists out of squashfs, which cannot hold them
    #[arg(long)]
    pub drop_acls: bool,
    /// Processors to use [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// No progress
    #[arg(long, short)]
    pub quiet: bool,
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
