//! The command line of `taproot layer seal`, `sign` and `keygen`.

use clap::Args;
use std::path::PathBuf;

/// Help of `taproot layer seal`.
pub(super) const SEAL_HELP: &str = "Makes the hash tree of an image, by which the kernel checks each block when it is read: NAME.verity \
    beside it, or with --append at its end. What it comes to stands in NAME.roothash, and is printed as the word by which a boot wants it. \
    The same image gets the same tree, that of veritysetup without a salt.\n\n\
    Examples:\n  taproot layer seal /layers/base.sqsh\n  taproot layer seal --append /layers/*.erofs\n  \
    taproot layer seal --check /layers/base.sqsh    whether image, tree and NAME.roothash still fit";
/// Help of `taproot layer sign`.
pub(super) const SIGN_HELP: &str = "Signs a list of layers, the topmost first, with what each must be: its root hash if it is sealed \
    (NAME.roothash), else the sum of all of it. An image that was packed with the public key boots these layers and no others; it refuses a \
    list whose number is lower than the last one seen.\n\n\
    Examples:\n  taproot layer keygen /root/site\n  taproot layer sign --key /root/site.key /layers/site.sqsh /layers/base.sqsh\n  \
    taproot initramfs --layers-key /root/site.pub";

/// Arguments of `taproot layer seal`.
#[derive(Debug, Args)]
pub struct TreeArgs {
    /// Images
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// Put the tree at the image's end
    #[arg(long, conflicts_with = "check")]
    pub append: bool,
    /// Read images and their trees, and say whether they fit
    #[arg(long)]
    pub check: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `taproot layer sign`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// Secret key, as keygen makes it
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// List to write [default: layers.list beside the first layer]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Number of the list [default: one more than that of the list in its place, else 1]
    #[arg(long, value_name = "NUMBER")]
    pub serial: Option<u64>,
    /// Layers from the top down
    #[arg(required = true, value_name = "IMAGE")]
    pub layers: Vec<PathBuf>,
}

/// Arguments of `taproot layer keygen`.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// Where the keys go: NAME.key, which is secret, and NAME.pub
    pub name: PathBuf,
    /// Stands behind the public key, for people
    #[arg(long, default_value = "")]
    pub comment: String,
}
