//! The root that `ro` mounted read-only, made writable.

use super::Remount;
use crate::cmdline::Request;
use crate::plan::fstab::FstabEntry;
use crate::plan::options::{mount_options, root_flags};
use crate::plan::root::Root;

/// Boot loaders put `ro` on every command line, trusting the booted system to remount the root. It does so only for a
/// root that has a line of its own in its fstab, which a root on ZFS seldom has; a line for `/` may be left from the file
/// system that was there before. So the root is remounted as its properties say, unless fstab says that it stays read-only.
pub(super) fn remount_root(root: &Root, fstab: &[FstabEntry], request: &Request) -> Option<Remount> {
    let root = root.dataset()?;
    let ro = request.read_only.as_ref().filter(|ro| ro.value)?;
    let flags = request.root_flags.as_ref().map(|f| root_flags(&f.value)).unwrap_or_default();
    let never = root.readonly || request.import.read_only.value;
    if never || flags.read_only.is_some() || fstab.iter().any(keeps_it) {
        return None;
    }
    let why = format!("`{}` is for the boot loader's sake, and no line for / in the root's fstab says ro", ro.why);
    Some(Remount { options: mount_options(root, None, "/", &flags.options), why })
}

/// Whether a line says that `/` is read-only: of `ro` and `rw` the last one counts.
fn keeps_it(entry: &FstabEntry) -> bool {
    let last = entry.options.iter().rev().find(|option| matches!(option.as_str(), "ro" | "rw"));
    super::target_path(&entry.target).is_ok_and(|target| target == "/") && last.is_some_and(|option| option == "ro")
}
