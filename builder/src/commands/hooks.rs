//! `taproot hooks`.

use crate::cli::Hooks;
use crate::hooks::files::{ENABLED, enabled};
use crate::hooks::{Staged, add, remove, said, takeover, update};
use crate::initramfs::Summary;
use crate::initramfs::tree::Tree;
use crate::output::{Cleanup, print};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// Does what was asked for, and says what came of it.
pub fn run(action: &Hooks) -> Result<()> {
    // Before any other thread is there.
    let cleanup = Cleanup::on_signals();
    match action {
        Hooks::Enable => {
            report(&takeover::enable(&cleanup)?)?;
            print("taproot: makes the images of installed kernels from now on; the way back: taproot hooks disable\n")
        }
        Hooks::Disable => takeover::disable(),
        Hooks::Update => report(&update(&tree(None)?, false, &cleanup)?),
        Hooks::Add { release, root, staging, entry } => {
            let staged = staging.clone().zip(entry.clone()).map(|(staging, entry)| Staged { staging, entry });
            // With a place for it kernel-install has asked, and its configuration names us.
            let tree = if staged.is_some() { open(root.as_ref())? } else { tree(root.as_ref())? };
            report(add(&tree, release, staged.as_ref(), &cleanup)?.as_slice())
        }
        Hooks::Mask { hooks } => takeover::mask(&tree(None)?, hooks),
        Hooks::Remove { release, root } => {
            let removed = remove(&tree(root.as_ref())?, release, &cleanup)?;
            removed.iter().try_for_each(|path| print(&format!("taproot: {}: removed\n", path.display())))
        }
    }
}

fn open(root: Option<&PathBuf>) -> Result<Tree> {
    let root = root.map_or(Path::new("/"), PathBuf::as_path);
    Tree::open(root).with_context(|| format!("--root {}: expected a directory", root.display()))
}

/// The tree, in which the hooks must be on: another program's images are not ours to change.
fn tree(root: Option<&PathBuf>) -> Result<Tree> {
    let tree = open(root)?;
    ensure!(
        enabled(&tree),
        "another program makes the images here ({} is not there); `taproot hooks enable` changes that, and `taproot initramfs` makes \
         an image of its own",
        tree.shown(ENABLED).display()
    );
    Ok(tree)
}

fn report(made: &[Summary]) -> Result<()> {
    made.iter().try_for_each(|summary| print(&said(summary)))
}
