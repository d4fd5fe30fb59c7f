//! After the hand-over: what keeps the datasets of other boot environments unmounted in the booted system.
//!
//! `zfs mount -a` of its `zfs-mount.service`, and the units that `zfs-mount-generator` makes, know nothing of environments. So
//! the early boot leaves in `/run`, which moves to the booted system, a copy of this program and what makes systemd call it in
//! their place: as [`mount_all`], and as [`generate`]. Nothing of it is in the root, and nothing of it is left after the next
//! boot.

mod generator;
mod mount_all;
mod prepare;
mod protect;
mod root_line;

use crate::plan::facts::Dataset;
use crate::plan::layers::BASE;
use crate::rescue::mounted;
use crate::sys::System;
use std::path::PathBuf;

pub use generator::run as generate;
pub use mount_all::run as mount_all;
pub use prepare::{prepare, runs_systemd};
pub use protect::read_only_lines;
pub use root_line::without_root_line;

/// The word of `taproot-init` for [`mount_all`].
pub const MOUNT_ALL: &str = "mount-all";
/// The name of OpenZFS's generator, and ours for [`generate`].
pub const GENERATOR: &str = "zfs-mount-generator";

/// Where the copy of this program is.
const PROGRAM: &str = "/run/taproot/taproot-init";
/// Where systemd looks for generators, the first of a name wins; it looks in [`RUN_GENERATORS`] before all of them.
const GENERATORS: [&str; 4] = [
    "/etc/systemd/system-generators",
    "/usr/local/lib/systemd/system-generators",
    "/usr/lib/systemd/system-generators",
    "/lib/systemd/system-generators",
];
const RUN_GENERATORS: &str = "/run/systemd/system-generators";

/// The datasets that are mounted now, and where; a later mount on the same directory comes later.
fn zfs_mounts(system: &dyn System) -> Vec<(String, PathBuf)> {
    let mounts = mounted::all(system).into_iter().filter(|mount| mount.kind == "zfs");
    mounts.map(|mount| (mount.source, mount.target)).collect()
}

/// The dataset that is `/`, or whose snapshot is, or that `/` is an overlay over.
fn root_name(system: &dyn System, mounts: &[(String, PathBuf)]) -> Option<String> {
    let at = |place: &str| mounts.iter().rev().find(|(_, target)| target.as_os_str() == place);
    let root = at("/").or_else(|| at(BASE).filter(|_| is_over_base(system)))?;
    root.0.split('@').next().map(str::to_owned)
}

/// Whether `/` is an overlay of which the base itself is a layer, and not only what its layers lie on.
fn is_over_base(system: &dyn System) -> bool {
    let text = system.text("/proc/self/mounts");
    let root = text.lines().rev().find(|line| line.split(' ').nth(1) == Some("/"));
    let options = root.and_then(|line| line.split(' ').nth(3)).unwrap_or_default();
    let lowers =
        options.split(',').filter_map(|option| option.split_once('=')).filter(|(name, _)| name.starts_with("lowerdir"));
    lowers.flat_map(|(_, value)| value.split(':')).any(|lower| lower == BASE)
}

/// A dataset of this name; with nothing but the name, if it is not among those that are known.
fn of_name(name: &str, known: &[Dataset]) -> Dataset {
    known.iter().find(|d| d.name == name).cloned().unwrap_or_else(|| Dataset::with_defaults(name))
}

#[cfg(test)]
mod tests;
