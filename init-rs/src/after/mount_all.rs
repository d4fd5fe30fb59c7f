//! `taproot-init mount-all [ZFS]`: as `zfs mount -a`, without the datasets of other boot environments.

use super::{of_name, root_name, zfs_mounts};
use crate::plan::facts::Dataset;
use crate::plan::mounts::{MountStep, condense, rest};
use crate::plan::next::facts::ZfsModule;
use crate::plan::{from_zfs, names};
use crate::sys::{FileKind, Program, System};
use crate::zfs::ioctl::{Zfs, ZfsError};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Properties that tell of datasets which no kernel mounts: half received ones, and redacted ones.
const UNFIT: [&str; 2] = ["receive_resume_token", "redact_snaps"];

/// Every dataset of the imported pools.
struct All {
    datasets: Vec<Dataset>,
    /// Names of those that need not be mountable.
    unfit: BTreeSet<String>,
    failed: bool,
}

/// Mounts what is to be mounted; `words`: the `zfs` of this system, which does it itself where there is nothing to leave out.
/// Returns the exit status.
pub fn run(system: &dyn System, words: &[String]) -> i32 {
    let mounts = zfs_mounts(system);
    let Some(root) = root_name(system, &mounts) else { return stock(system, words) };
    let all = match ask(system) {
        Ok(all) => all,
        Err(e) => {
            eprintln!("taproot: {e}");
            return 1;
        }
    };
    let mounted: Vec<(String, String)> =
        mounts.into_iter().map(|(source, target)| (source, target.to_string_lossy().into_owned())).collect();
    let rest = rest(&of_name(&root, &all.datasets), &all.datasets, &mounted);
    // The system's own program knows best how its datasets are mounted.
    if rest.left.is_empty() && !words.is_empty() {
        return stock(system, words);
    }
    for skipped in condense(rest.left) {
        let more = if skipped.more > 0 { format!(" and {} more", skipped.more) } else { String::new() };
        println!("{}{more} not mounted: {}", skipped.dataset, skipped.why);
    }
    let mut failed: Vec<String> = Vec::new();
    for step in &rest.steps {
        // What lies below would be mounted into the wrong dataset.
        if failed.iter().any(|target| names::is_within(&step.target, target)) {
            println!("{} not mounted on {}: what it lies in is not mounted", step.dataset, step.target);
            continue;
        }
        match mount(system, step) {
            Ok(()) => println!("mounted {} on {}", step.dataset, step.target),
            Err(e) if all.unfit.contains(&step.dataset) => println!("{} not mounted: {e}", step.dataset),
            Err(e) => {
                eprintln!("{} not mounted on {}: {e}", step.dataset, step.target);
                failed.push(step.target.clone());
            }
        }
    }
    i32::from(all.failed || !failed.is_empty())
}

/// Becomes `zfs mount -a`.
fn stock(system: &dyn System, words: &[String]) -> i32 {
    let path = words.first().map_or("/sbin/zfs", String::as_str);
    let args = ["mount", "-a"].map(str::to_owned).to_vec();
    let error = system.become_program(&Program { path: path.into(), args, ..Program::default() });
    eprintln!("taproot: {path}: {error}");
    1
}

fn ask(system: &dyn System) -> Result<All, ZfsError> {
    let zfs = Zfs::new(system);
    let version = system.text("/sys/module/zfs/version");
    let relatime = ZfsModule { version, ..ZfsModule::default() }.relatime_default();
    let mut all = All { datasets: Vec::new(), unfit: BTreeSet::new(), failed: false };
    for (pool, _) in zfs.imported_pools()? {
        let objsets = match zfs.datasets(&pool) {
            Ok(objsets) => objsets,
            Err(e) => {
                eprintln!("nothing of pool {pool} is mounted: {e}");
                all.failed = true;
                continue;
            }
        };
        let read_only = zfs.is_read_only(&pool);
        for objset in objsets {
            let mut dataset = from_zfs::dataset(&objset, relatime);
            dataset.readonly |= read_only;
            if UNFIT.iter().any(|name| objset.properties.get(name).is_some()) {
                all.unfit.insert(dataset.name.clone());
            }
            all.datasets.push(dataset);
        }
    }
    Ok(all)
}

fn mount(system: &dyn System, step: &MountStep) -> io::Result<()> {
    let target = Path::new(&step.target);
    match system.stat(target).map(|info| info.kind) {
        Ok(FileKind::Directory) => {
            if !step.overlay && system.list(target).is_ok_and(|names| !names.is_empty()) {
                return Err(io::Error::other("the directory is not empty, and the dataset has overlay=off"));
            }
        }
        Ok(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => system.make_dirs(target)?,
        Err(e) => return Err(e),
    }
    system.mount(&step.dataset, target, "zfs", step.options.flags, &step.options.data)
}
