//! The new root on its way: mounting into it, and finding the program to start. Paths are resolved as the new root will
//! see them: an absolute link there must not lead into the initramfs.

use super::failure::Failure;
use super::otherfs::Mountable;
use crate::plan::fstab::FstabEntry;
use crate::plan::mounts::MountStep;
use crate::plan::{fstab, options::MountOptions};
use crate::report::boot::MountDone;
use crate::report::log::Log;
use crate::sys::System;
use crate::sys::beneath::resolve;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Programs tried when the command line names none.
const INITS: [&str; 3] = ["/sbin/init", "/etc/init", "/bin/init"];

/// The selected root's fstab.
pub(super) fn read_fstab(root: &Path) -> Vec<FstabEntry> {
    let text = resolve(root, Path::new("/etc/fstab")).and_then(fs::read).unwrap_or_default();
    fstab::parse(&text)
}

/// The steps in the order of where they really go: `/lib/modules` lies below `/usr` where `/lib` is a link into it.
pub(super) fn in_order(root: &Path, mut steps: Vec<MountStep>) -> Vec<MountStep> {
    // Path compares by parts. One that cannot be resolved fails when its turn comes.
    steps.sort_by_cached_key(|step| {
        resolve(root, Path::new(&step.target)).unwrap_or_else(|_| PathBuf::from(&step.target))
    });
    steps
}

/// Mounts one step of the plan below `root`, which [`mount_root`] mounted. `what`: what to mount, if it was found.
pub(super) fn mount(
    system: &dyn System,
    root: &Path,
    step: MountStep,
    what: io::Result<Mountable>,
    log: &Log,
) -> MountDone {
    let start = Instant::now();
    let result = what.and_then(|what| mount_step(system, root, &step, &what, log));
    let took = start.elapsed();
    match &result {
        Ok(()) => log.info(format!("mounted {} on {} ({})", step.dataset, step.target, step.why)),
        Err(e) if step.nofail => log.info(format!("{} not mounted on {}: {e} (nofail)", step.dataset, step.target)),
        Err(e) => log.warn(format!("{} not mounted on {}: {e}", step.dataset, step.target)),
    }
    MountDone { step, took, error: result.err().map(|e| e.to_string()) }
}

fn mount_step(system: &dyn System, root: &Path, step: &MountStep, what: &Mountable, log: &Log) -> io::Result<()> {
    let target = resolve(root, Path::new(&step.target))?;
    match fs::read_dir(&target) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                log.info(format!("{} is not empty; {} covers what is in it", step.target, step.dataset));
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => fs::create_dir_all(&target).map_err(|e| missing(step, &e))?,
        Err(e) => return Err(e),
    }
    system.mount(&what.source, &target, &what.fstype, step.options.flags, &step.options.data)
}

fn missing(step: &MountStep, error: &io::Error) -> io::Error {
    let why = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "what it lies in is mounted read-only, so it cannot be made".to_owned(),
        _ => format!("making it failed: {error}"),
    };
    io::Error::new(error.kind(), format!("mount point {} is missing, and {why}", step.target))
}

/// Mounts the root, or says why not.
pub(super) fn mount_root(system: &dyn System, root: &Path, step: MountStep, log: &Log) -> Result<MountDone, Failure> {
    // What an earlier attempt left mounted.
    let _ = system.unmount(root, true);
    let failed = |source| Failure::Mount { dataset: step.dataset.clone(), source };
    fs::create_dir_all(root).map_err(failed)?;
    let start = Instant::now();
    system.mount(&step.dataset, root, "zfs", step.options.flags, &step.options.data).map_err(failed)?;
    log.info(format!("mounted {} on / ({})", step.dataset, step.why));
    Ok(MountDone { step, took: start.elapsed(), error: None })
}

/// Changes the options of the mounted root.
pub(super) fn remount_root(
    system: &dyn System,
    root: &Path,
    dataset: &str,
    options: &MountOptions,
    why: &str,
    log: &Log,
) {
    let flags = options.flags | libc::MS_REMOUNT;
    match system.mount(dataset, root, "zfs", flags, &options.data) {
        Ok(()) => log.info(format!("remounted / ({why})")),
        Err(e) => log.warn(format!("remounting / ({why}) failed: {e}")),
    }
}

/// The program to hand over to, as a path inside the new root.
pub(super) fn find_init(root: &Path, dataset: &str, wanted: Option<&str>) -> Result<PathBuf, Failure> {
    let candidates: Vec<&str> = wanted.map_or_else(|| INITS.to_vec(), |w| vec![w]);
    let mut found = Vec::new();
    for candidate in &candidates {
        let real = resolve(root, Path::new(candidate)).unwrap_or_else(|_| root.join(candidate.trim_start_matches('/')));
        match fs::metadata(&real) {
            Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {
                return Ok(PathBuf::from(candidate));
            }
            Ok(meta) if meta.is_file() => found.push(format!("{candidate} is not executable")),
            Ok(_) => found.push(format!("{candidate} is not a file")),
            Err(e) => found.push(format!("{candidate}: {e}")),
        }
    }
    let mut names: Vec<String> = fs::read_dir(root)
        .map(|dir| dir.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).take(40).collect())
        .unwrap_or_default();
    names.sort();
    found.push(format!("in the root: {}", if names.is_empty() { "nothing".into() } else { names.join(" ") }));
    Err(Failure::NoInit { dataset: dataset.to_owned(), wanted: candidates.join(", "), found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::parse;
    use crate::plan::facts::Dataset;
    use crate::plan::mounts;

    #[test]
    fn links_in_the_root_change_the_order() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("usr/lib", dir.path().join("lib")).unwrap();
        let step = |target: &str| MountStep {
            target: target.into(),
            ..mounts::root_step(&Dataset::with_defaults("t"), &parse(b""))
        };
        let steps = ["/lib/modules", "/opt", "/usr", "/usr/lib"].map(step).to_vec();
        let order: Vec<_> = in_order(dir.path(), steps).into_iter().map(|s| s.target).collect();
        assert_eq!(order, ["/opt", "/usr", "/usr/lib", "/lib/modules"]);
    }

    #[test]
    fn init_must_be_executable_and_failures_say_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("sbin")).unwrap();
        fs::write(root.join("sbin/init"), "x").unwrap();
        let error = find_init(root, "tank/r", None).unwrap_err().explain();
        assert!(error.found.iter().any(|l| l.contains("/sbin/init is not executable")), "{error:?}");
        fs::set_permissions(root.join("sbin/init"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_init(root, "tank/r", None).unwrap(), PathBuf::from("/sbin/init"));
        assert!(find_init(root, "tank/r", Some("/bin/missing")).is_err());
    }
}
