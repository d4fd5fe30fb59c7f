//! This machine as it runs. From a snapshot, where its file systems have such: what is in the image then was there at one moment.

use super::Tarball;
use super::directory::Walk;
use super::feed::{Fed, feed};
use crate::layer::snapshot::{Frozen, mounted_at};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What nobody wants of a running machine: what its kernel and its services make anew, and caches.
const LEFT_OUT: [&str; 12] = [
    "proc/*",
    "sys/*",
    "dev/*",
    "run/*",
    "tmp/*",
    "var/tmp/*",
    "var/cache/apt/archives/*",
    "var/cache/pacman/pkg/*",
    "var/lib/systemd/coredump/*",
    "lost+found",
    "var/lib/containers/storage",
    "var/lib/docker",
];

/// Types of file systems that are no part of a machine's tree, wherever they are mounted.
const NO_PART: [&str; 12] =
    ["proc", "sysfs", "devtmpfs", "devpts", "tmpfs", "nfs", "nfs4", "cifs", "fuse.sshfs", "overlay", "squashfs", "9p"];

/// Begins to read it.
pub fn stream(also: Vec<PathBuf>, exclude: Vec<String>) -> Result<Fed> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "reading this machine takes root: most of what makes it one can be read by root alone; run it with sudo"
    );
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo: reading it")?;
    for path in &also {
        let mount = mounted_at(&mountinfo, path)
            .with_context(|| format!("source.running-also: {}: expected a mount point", path.display()))?;
        ensure!(
            !NO_PART.contains(&mount.kind.as_str()),
            "source.running-also: {}: {} is no part of this machine's tree",
            path.display(),
            mount.kind
        );
    }
    let swap = swap_files(&fs::read_to_string("/proc/swaps").unwrap_or_default());
    Ok(feed(move |out| {
        let mut told = Vec::new();
        let mut views = Views::default();
        let top = views.of(Path::new("/"), &mut told);
        let mut others = BTreeMap::new();
        for path in &also {
            let below = path.strip_prefix("/").unwrap_or(path).to_owned();
            others.insert(below, views.of(path, &mut told));
        }
        let live = views.live;
        let patterns: Vec<String> = LEFT_OUT.iter().map(|path| (*path).to_owned()).chain(exclude).chain(swap).collect();
        let none: [&str; 0] = [];
        let rules = crate::layer::exclude::Exclusions::new(&none, &[], &patterns);
        let walk = Walk { top, others, left_out: Box::new(move |path| rules.excludes(path)), live };
        let mut walked = walk.stream()?;
        std::io::copy(&mut walked, out)?;
        told.extend(Box::new(walked).finish()?);
        Ok(told)
    }))
}

/// Snapshots, which go when the stream ends.
#[derive(Default)]
struct Views {
    frozen: Vec<Frozen>,
    live: bool,
}

impl Views {
    /// Where the content of a mount point can be read: frozen, or as it is.
    fn of(&mut self, path: &Path, told: &mut Vec<String>) -> PathBuf {
        match Frozen::of(path) {
            Ok(frozen) => {
                told.push(format!("{}: from a snapshot", path.display()));
                let at = frozen.path().to_owned();
                self.frozen.push(frozen);
                at
            }
            Err(error) => {
                told.push(format!(
                    "{}: read while it is in use ({error:#}); stop databases before, or their files may be of no use",
                    path.display()
                ));
                self.live = true;
                path.to_owned()
            }
        }
    }
}

/// Files that are swapped to (`/proc/swaps`).
fn swap_files(swaps: &str) -> Vec<String> {
    swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .filter(|path| !path.starts_with("/dev/"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_swapped_to() {
        let text = "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n/swapfile file 1 0 -3\n";
        assert_eq!(swap_files(text), ["/swapfile"]);
    }
}
