//! Steps with the root itself: asked for, checked, mounted.

use super::Boot;
use crate::devices::filesystems::never_written;
use crate::devices::probe::Wanted;
use crate::plan::facts::Dataset;
use crate::plan::failure::{Code, Failure};
use crate::plan::from_zfs;
use crate::plan::next::Mount;
use crate::plan::next::{no_dataset, not_mountable, not_mounted};
use crate::plan::root::Root;
use crate::plan::roots;
use crate::report::boot::MountDone;
use crate::report::slow;
use crate::sys::switch_root::SwitchError;
use crate::sys::{Ended, Finished, Program};
use crate::zfs::ioctl::{ObjsetKind, Zfs, ZfsError};
use std::path::{Path, PathBuf};

/// How many names are shown where one was looked for in vain.
const SHOWN: usize = 40;
/// Tells the booted system that its root was checked (`systemd-fsck-root.service`, initramfs-tools).
pub(super) const CHECKED: &str = "/run/initramfs/fsck-root";
/// As much as a check may say.
const CHECK_OUTPUT: usize = 16 << 10;

impl Boot<'_> {
    pub(super) fn ask_bootfs(&mut self, pool: &str) -> Result<(), Failure> {
        let told = self.with_pools(|pools| pools.ask(pool)).map_err(|why| {
            let advice = ["look at the pools (status)", "another root: boot POOL/DATASET", "reboot"];
            Failure::new(Code::ZfsCall, format!("pool {pool} {why}"), "an answer from the pool", vec![], &advice)
        })?;
        let error = |errno| ZfsError { call: "POOL_GET_PROPS", name: pool.to_owned(), errno };
        let bootfs = told.bootfs.map_err(|errno| Failure::zfs(&error(errno)))?;
        // The record was made when it was not known yet.
        for fact in self.report.pools.iter_mut().filter(|fact| fact.name == pool) {
            fact.bootfs.clone_from(&bootfs);
            fact.bootfs_unknown = false;
        }
        if bootfs.is_none() {
            let all = Zfs::new(self.system).datasets(pool).unwrap_or_default();
            let all: Vec<Dataset> = all.iter().map(|o| from_zfs::dataset(o, self.relatime_default())).collect();
            self.facts.attempt.candidates = roots::names(&all).into_iter().take(SHOWN).collect();
        }
        self.facts.attempt.bootfs = Some(bootfs);
        Ok(())
    }

    pub(super) fn ask_root(&mut self, dataset: &str) -> Result<(), Failure> {
        let zfs = Zfs::new(self.system);
        match zfs.objset(dataset) {
            Ok(objset) => {
                let mut dataset = from_zfs::dataset(&objset, self.relatime_default());
                if dataset.key_available == Some(false) {
                    dataset.key_location = self.key_location(&dataset.name);
                }
                if let Some(failure) = not_mountable(&dataset) {
                    return Err(failure);
                }
                self.facts.attempt.root = Some(Root::Dataset(dataset));
                Ok(())
            }
            Err(e) if e.errno == libc::ENOENT => {
                let pool = crate::plan::names::pool_of(dataset);
                let all = zfs.walk(pool, 500, &|_| true).map(|walk| walk.found).unwrap_or_default();
                let roots = all.iter().filter(|o| o.kind == ObjsetKind::Filesystem).map(|o| o.name.clone());
                Err(no_dataset(dataset, roots.take(SHOWN).collect()))
            }
            Err(e) => Err(Failure::zfs(&e)),
        }
    }

    pub(super) fn relatime_default(&self) -> bool {
        self.facts.zfs.as_ref().is_some_and(crate::plan::next::facts::ZfsModule::relatime_default)
    }

    /// Runs the check of a file system. What it finds decides whether it may be mounted.
    pub(super) fn check(&mut self, node: String, fstype: &str, program: (&str, Vec<String>), repairs: bool) {
        let phase = self.phases.start("fsck");
        self.log.info(format!("checking {node} ({fstype})"));
        let mut tell = slow::still(self.system, self.log, format!("checking {node}"));
        let program = Program { path: PathBuf::from(program.0), args: program.1, ..Program::default() };
        let finished = self.system.run(&program, None, CHECK_OUTPUT, &mut tell);
        drop(phase);
        let result = match finished {
            // A file system without a program that can be executed is mounted as it would be without any.
            Err(e) => {
                self.trouble(format!(
                    "{} could not be run ({e}), so {node} is mounted unchecked",
                    program.path.display()
                ));
                Ok(())
            }
            // Its loader, or a library, is not there: no fsck ends so.
            Ok(Finished { ended: Ended::Exit(126 | 127), output }) => {
                self.trouble(format!(
                    "{} cannot be executed ({}), so {node} is mounted unchecked",
                    program.path.display(),
                    String::from_utf8_lossy(&output).trim()
                ));
                Ok(())
            }
            Ok(finished) => {
                // What lies on other devices is checked after the root is mounted.
                self.facts.attempt.root_checked |= !self.facts.attempt.mounted;
                for line in String::from_utf8_lossy(&finished.output).lines().filter(|line| !line.trim().is_empty()) {
                    self.log.info(format!("fsck {node}: {}", line.trim_end()));
                }
                self.verdict(&node, &finished.ended, repairs)
            }
        };
        self.facts.attempt.checked.insert(node, result);
    }

    /// What the exit status of fsck(8) means. Some programs that repair nothing tell errors by the status for repaired ones.
    fn verdict(&mut self, node: &str, ended: &Ended, repairs: bool) -> Result<(), String> {
        const CORRECTED: i32 = 1;
        const REBOOT: i32 = 2;
        const UNCORRECTED: i32 = 4;
        let status = match ended {
            Ended::Exit(status) => *status,
            Ended::Signal(signal) => return Err(format!("the check of {node} was ended by signal {signal}")),
            Ended::Late | Ended::Stopped => return Err(format!("the check of {node} did not come to its end")),
        };
        if status == 0 || (repairs && status & !(CORRECTED | REBOOT) == 0) {
            if status != 0 {
                self.trouble(format!(
                    "the file system on {node} had errors, which were repaired (fsck status {status})"
                ));
            }
            return Ok(());
        }
        let what = match status {
            s if s & UNCORRECTED != 0 || (!repairs && s == CORRECTED) => "it has errors that were left uncorrected",
            s if s & 8 != 0 => "the check failed: an operational error, such as a device that cannot be read",
            s if s & 16 != 0 => "the check was called wrongly",
            s if s & 32 != 0 => "the check was cancelled",
            _ => "the check failed",
        };
        Err(format!("{what} (fsck status {status} on {node})"))
    }

    pub(super) fn mount_root(&mut self, mount: &Mount) -> Result<(), Failure> {
        let Mount { step, source, fstype } = mount.clone();
        // What an earlier attempt left mounted.
        let _ = self.system.unmount(&self.new_root, true);
        let name = step.dataset.clone();
        let failed = |e: &std::io::Error| not_mounted(&name, &fstype, e.raw_os_error(), &e.to_string());
        self.system.make_dirs(&self.new_root).map_err(|e| failed(&e))?;
        self.mounting = Some(self.phases.start("mount"));
        let start = self.system.now();
        let result = {
            let (what, options) = ((source.as_str(), self.new_root.as_path(), fstype.as_str()), &step.options);
            slow::mount(self.system, self.log, what, options.flags, &options.data)
        };
        result.map_err(|e| failed(&e))?;
        self.log.info(format!("mounted {} on / ({})", step.dataset, step.why));
        if fstype != "zfs" {
            self.tell_other_paths(&step.dataset);
        }
        let write_protected = self.is_write_protected(&step.dataset);
        if write_protected {
            self.tell_write_protected(&step.dataset, &fstype);
        }
        self.report.root = Some(step.dataset.clone());
        let took = self.system.now().saturating_sub(start);
        self.report.mounts = vec![MountDone { step, took, error: None, write_protected }];
        self.facts.root_mounted(mount);
        self.tell_checked();
        Ok(())
    }

    /// The same disk may be there twice, over two cables.
    pub(super) fn tell_other_paths(&self, spec: &str) {
        let wanted = Wanted::parse(spec);
        let others = wanted.map(|wanted| self.scout.hardware.other_paths(&wanted)).unwrap_or_default();
        if !others.is_empty() {
            self.log.info(format!("the disk of {spec} is also {}; the first path is used", others.join(" ")));
        }
    }

    /// Whether the device of this name cannot be written to.
    pub(super) fn is_write_protected(&self, spec: &str) -> bool {
        let found = Wanted::parse(spec).and_then(|wanted| self.scout.hardware.find(&wanted).ok().flatten());
        found.is_some_and(|device| device.read_only)
    }

    /// Who wants to write there has to know; nobody expects to where nothing can ever be written.
    fn tell_write_protected(&mut self, name: &str, fstype: &str) {
        let asked = self.request.read_only.as_ref().is_some_and(|ro| ro.value) || self.request.import.read_only.value;
        if !asked && !never_written(fstype) {
            self.trouble(format!("the device is write-protected, so root {name} is mounted read-only"));
        }
    }

    /// The booted system need not check again what was checked here.
    fn tell_checked(&self) {
        if self.facts.attempt.root_checked {
            let note = Path::new(CHECKED);
            let _ = note.parent().map_or(Ok(()), |dir| self.system.make_dirs(dir));
            let _ = self.system.write(note, b"");
        }
    }
}

/// The hand-over failed.
pub(super) fn not_handed_over(error: &SwitchError) -> Failure {
    match error {
        // By now the new root is `/`, and what the image held is gone.
        SwitchError::Exec { .. } => Failure::new(
            Code::Exec,
            error.to_string(),
            "a program that this kernel executes",
            vec![],
            &["restart (reboot) and boot another root, or with init=/path/to/program"],
        ),
        SwitchError::Move { .. } | SwitchError::Root(_) => Failure::new(
            Code::HandOver,
            error.to_string(),
            "a root with /dev, /proc, /sys and /run",
            vec![],
            &["repair the root, then retry"],
        ),
    }
}
