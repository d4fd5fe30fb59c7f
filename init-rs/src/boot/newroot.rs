//! The new root on its way: mounting into it, and finding the program to start. Paths are resolved as the new root will
//! see them: an absolute link there must not lead into the initramfs.

use super::failure::Failure;
use super::otherfs::Mountable;
use super::program;
use crate::order;
use crate::plan::fstab::FstabEntry;
use crate::plan::mounts::MountStep;
use crate::plan::{fstab, options::MountOptions};
use crate::report::boot::MountDone;
use crate::report::log::Log;
use crate::sys::System;
use crate::sys::beneath::resolve_here as resolve;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Programs tried when the command line names none.
const INITS: [&str; 3] = ["/sbin/init", "/etc/init", "/bin/init"];

/// The selected root's fstab; a root without one has no lines.
pub(super) fn read_fstab(root: &Path) -> Result<Vec<FstabEntry>, String> {
    match resolve(root, Path::new("/etc/fstab")).and_then(fs::read) {
        Ok(text) => Ok(fstab::parse(&text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(format!("the root's /etc/fstab could not be read, so nothing it names is mounted: {e}")),
    }
}

/// The steps in the order of where they really go: `/lib/modules` lies below `/usr` where `/lib` is a link into it.
pub(super) fn in_order(root: &Path, steps: Vec<MountStep>) -> Vec<MountStep> {
    // Path compares by parts. One that cannot be resolved fails when its turn comes.
    let place =
        |step: &MountStep| resolve(root, Path::new(&step.target)).unwrap_or_else(|_| PathBuf::from(&step.target));
    let mut steps: Vec<(PathBuf, MountStep)> = steps.into_iter().map(|step| (place(&step), step)).collect();
    order::sort_by(&mut steps, |a, b| a.0.cmp(&b.0));
    steps.into_iter().map(|(_, step)| step).collect()
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

/// Changes the options of the mounted root; says what is wrong if that fails.
pub(super) fn remount_root(
    system: &dyn System,
    root: &Path,
    dataset: &str,
    options: &MountOptions,
    why: &str,
    log: &Log,
) -> Option<String> {
    let flags = options.flags | libc::MS_REMOUNT;
    match system.mount(dataset, root, "zfs", flags, &options.data) {
        Ok(()) => {
            log.info(format!("remounted / ({why})"));
            None
        }
        Err(e) => Some(format!("/ stays mounted as it is: remounting it ({why}) failed: {e}")),
    }
}

/// The program to hand over to, as a path inside the new root.
pub(super) fn find_init(root: &Path, dataset: &str, wanted: Option<&str>) -> Result<PathBuf, Failure> {
    let candidates: Vec<&str> = wanted.map_or_else(|| INITS.to_vec(), |w| vec![w]);
    let mut found = Vec::new();
    for candidate in &candidates {
        match program::obstacle(root, Path::new(candidate)) {
            None => return Ok(PathBuf::from(candidate)),
            Some(why) => found.push(format!("{candidate}: {why}")),
        }
    }
    let mut names: Vec<String> = fs::read_dir(root)
        .map(|dir| dir.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).take(40).collect())
        .unwrap_or_default();
    order::sort(&mut names);
    found.push(format!("in the root: {}", if names.is_empty() { "nothing".into() } else { names.join(" ") }));
    Err(Failure::NoInit { dataset: dataset.to_owned(), wanted: candidates.join(", "), found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::parse;
    use crate::plan::facts::Dataset;
    use crate::plan::mounts;
    use crate::sys::linux::Linux;
    use std::os::unix::fs::PermissionsExt;

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
    fn a_root_without_fstab_has_no_lines_and_one_that_cannot_be_read_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_fstab(dir.path()).unwrap().len(), 0);
        fs::create_dir_all(dir.path().join("etc/fstab")).unwrap();
        assert!(read_fstab(dir.path()).unwrap_err().contains("could not be read"));
    }

    #[test]
    fn a_remount_that_fails_is_told_of() {
        let options = MountOptions { flags: 0, data: String::new() };
        let nowhere = Path::new("/nonexistent/root");
        let told = remount_root(
            &Linux::new(),
            nowhere,
            "tank/r",
            &options,
            "rw",
            &Log::new(std::sync::Arc::new(Linux::new())),
        );
        assert!(told.unwrap().starts_with("/ stays mounted as it is: remounting it (rw) failed"));
    }

    #[test]
    fn init_must_be_executable_and_failures_say_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("sbin")).unwrap();
        fs::write(root.join("sbin/init"), "x").unwrap();
        let error = find_init(root, "tank/r", None).unwrap_err().explain();
        assert!(error.found.iter().any(|l| l.contains("/sbin/init: is not executable")), "{error:?}");
        fs::set_permissions(root.join("sbin/init"), fs::Permissions::from_mode(0o755)).unwrap();
        // Executable, but nothing that the kernel could execute: better known before the hand-over than behind it.
        let error = find_init(root, "tank/r", None).unwrap_err().explain();
        assert!(error.found.iter().any(|l| l.contains("neither an ELF program nor a script")), "{error:?}");
        fs::copy(std::env::current_exe().unwrap(), root.join("sbin/init")).unwrap();
        assert_eq!(find_init(root, "tank/r", None).unwrap(), PathBuf::from("/sbin/init"));
        assert!(find_init(root, "tank/r", Some("/bin/missing")).is_err());
    }
}
