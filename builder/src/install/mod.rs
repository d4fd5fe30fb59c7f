//! `taproot install`: an archive of a system becomes a boot environment of a pool that is imported here. The kernel creates the dataset, so
//! it can be encrypted, and nothing else of the pool is changed until the environment is whole.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use taproot_init::plan::names;
use taproot_init::sys::System as _;
use taproot_init::sys::linux::Linux;

use crate::initramfs::host;
use crate::initramfs::tree::Tree;
use crate::machine::{Zfs, adapt, said};
use crate::progress::Progress;

/// Of a dataset that is not whole yet.
const UNFINISHED: &str = "taproot:install";

/// What is installed, and where.
#[derive(Debug)]
pub struct Request<'a> {
    /// A tar archive, compressed or not.
    pub archive: &'a Path,
    /// The dataset that is made.
    pub dataset: &'a str,
    /// Host name of the new system.
    pub hostname: &'a str,
    /// Ask for a passphrase, and encrypt it.
    pub encrypt: bool,
    /// Make it the one that boots next.
    pub bootfs: bool,
}

/// How the dataset is made; the passphrase is asked for by zfs itself.
fn creation(request: &Request<'_>) -> Vec<String> {
    let mut words = vec!["create".to_owned()];
    let mut add = |property: &str| words.extend(["-o".to_owned(), property.to_owned()]);
    // Mounted by the boot, and by nothing else: several of them want the same place.
    add("mountpoint=/");
    add("canmount=noauto");
    add(&format!("{UNFINISHED}=unfinished"));
    if request.encrypt {
        add("encryption=on");
        add("keyformat=passphrase");
        add("keylocation=prompt");
    }
    words.push(request.dataset.to_owned());
    words
}

/// What stands against it.
fn refuse(request: &Request<'_>, zfs: &Zfs) -> Result<()> {
    let Request { dataset, archive, .. } = request;
    ensure!(archive.is_file(), "{}: expected a tar archive, found no such file", archive.display());
    names::check(dataset).map_err(|why| anyhow::anyhow!("--dataset {dataset}: {why}"))?;
    let parent = names::parent(dataset);
    let parent = parent.with_context(|| {
        format!("expected a dataset below one that is there, such as rpool/ROOT/new, found {dataset:?}")
    })?;
    ensure!(
        zfs.exists(parent),
        "expected {parent}, below which {dataset} is to lie, found none; zfs create {parent} makes it"
    );
    if zfs.exists(dataset) {
        let state = zfs.run(&["get", "-H", "-o", "value", "-s", "local", UNFINISHED, dataset])?;
        let left = if state.trim() == "unfinished" { ": an install that was cut off left it" } else { "" };
        anyhow::bail!("{dataset} is there already{left}; zfs destroy -r {dataset} removes it, or choose another name");
    }
    Ok(())
}

/// Installs it; gives what is to be told.
pub fn install(request: &Request<'_>, zfs: &Zfs, progress: &Progress) -> Result<Vec<String>> {
    refuse(request, zfs)?;
    let status = Command::new(zfs.program()).args(creation(request)).status().context("starting zfs")?;
    ensure!(status.success(), "zfs create {}: {status}", request.dataset);
    let place =
        tempfile::Builder::new().prefix("taproot-install.").tempdir_in("/run").context("a directory in /run")?;
    let system = Linux::new();
    let filled = system
        .mount(request.dataset, place.path(), "zfs", 0, "zfsutil")
        .with_context(|| format!("mounting {}", request.dataset))
        .and_then(|()| fill(request, place.path(), progress));
    let unmounted = system.unmount(place.path(), false);
    let notes = filled.and_then(|notes| {
        unmounted.with_context(|| format!("unmounting {}", place.path().display()))?;
        Ok(notes)
    });
    let notes = notes.inspect_err(|_| {
        // It was made a moment ago, and has what this archive brought.
        let _ = system.unmount(place.path(), true);
        let _ = zfs.run(&["destroy", request.dataset]);
    })?;
    zfs.run(&["inherit", UNFINISHED, request.dataset])?;
    if request.bootfs {
        let pool = request.dataset.split('/').next().unwrap_or_default();
        let property = format!("bootfs={}", request.dataset);
        said(Command::new("zpool").args(["set", &property, pool]))?;
    }
    Ok(notes)
}

/// Unpacks the archive and makes it a system of its own.
fn fill(request: &Request<'_>, root: &Path, progress: &Progress) -> Result<Vec<String>> {
    progress.step(&format!("unpacking {}", request.archive.display()));
    let mut tar = Command::new("tar");
    tar.args([
        "--extract",
        "--numeric-owner",
        "--same-owner",
        "--preserve-permissions",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
    ]);
    said(tar.arg("--file").arg(request.archive).arg("--directory").arg(root))?;
    let mut notes = adapt(root, request.hostname)?;
    let tree = Tree::open(root)?;
    ensure!(
        ["/sbin/init", "/usr/lib/systemd/systemd", "/usr/sbin/init"].iter().any(|path| tree.file(path).is_some()),
        "expected a system with an init, found neither /sbin/init nor systemd in {}",
        request.archive.display()
    );
    notes.extend(kernels(&tree.kernels().unwrap_or_default(), &host::kernel().unwrap_or_default()));
    fs::File::open(root).and_then(|dir| dir.sync_all()).context("syncing")?;
    Ok(notes)
}

/// What to know of the kernels that have modules in the new system.
fn kernels(there: &[String], running: &str) -> Option<String> {
    let has = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    let why = format!(
        "it has modules of {has}, and the running kernel is {running}: the boot loader must start one that it has"
    );
    (!there.iter().any(|release| release == running)).then_some(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(encrypt: bool) -> Request<'static> {
        Request { archive: Path::new("/dev/null"), dataset: "tank/ROOT/new", hostname: "new", encrypt, bootfs: false }
    }

    #[test]
    fn the_dataset_is_mounted_by_the_boot_alone() {
        let plain = "create -o mountpoint=/ -o canmount=noauto -o taproot:install=unfinished";
        assert_eq!(creation(&request(false)).join(" "), format!("{plain} tank/ROOT/new"));
        let key = "-o encryption=on -o keyformat=passphrase -o keylocation=prompt";
        assert_eq!(creation(&request(true)).join(" "), format!("{plain} {key} tank/ROOT/new"));
    }

    #[test]
    fn kernels_are_told_of_where_they_do_not_fit() {
        assert_eq!(kernels(&["6.1".into(), "6.12".into()], "6.12"), None);
        assert!(kernels(&["6.1".into()], "6.12").unwrap().contains("modules of 6.1, and the running kernel is 6.12"));
        assert!(kernels(&[], "6.12").unwrap().contains("modules of none"));
    }
}
