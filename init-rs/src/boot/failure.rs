//! Everything that can stop a boot, with the words for it.

use crate::plan::Refusal;
use crate::pools::ImportError;
use crate::rescue::Explanation;
use crate::sys::switch_root::SwitchError;
use crate::unlock::UnlockError;
use crate::zfs::ioctl::{ObjsetKind, ZfsError};
use std::io;

/// Why the boot cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The zfs module is not there or did not start.
    #[error("the ZFS kernel module is not usable: {0}")]
    Module(String),
    /// No pool, or no dataset, that fits the request.
    #[error("{message}")]
    NoRoot {
        /// From the plan: expected, found, what to do.
        message: String,
        /// Pools and devices seen, a line each.
        seen: Vec<String>,
    },
    /// The kernel refused the import.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A question to the imported pool failed.
    #[error(transparent)]
    Zfs(#[from] ZfsError),
    /// The root dataset does not exist.
    #[error("root dataset {dataset} does not exist")]
    NoDataset {
        /// The name asked for.
        dataset: String,
        /// File systems of the pool that could be meant.
        others: Vec<String>,
    },
    /// The root dataset is encrypted and its key could not be had.
    #[error("root dataset {dataset} is encrypted: {error}")]
    Key {
        /// Dataset.
        dataset: String,
        /// What was tried.
        error: UnlockError,
    },
    /// The root dataset could not be mounted.
    #[error("root dataset {dataset} could not be mounted: {source}")]
    Mount {
        /// Dataset.
        dataset: String,
        /// System error.
        source: io::Error,
    },
    /// The mounted root has no program to start.
    #[error("root {dataset} has no {wanted} that can be executed")]
    NoInit {
        /// The mounted dataset.
        dataset: String,
        /// Candidates looked for.
        wanted: String,
        /// What is there instead, a line each.
        found: Vec<String>,
    },
    /// Something that was asked for is not done; the words come from the plan.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// It is not known whether a hibernated system would be overwritten.
    #[error(transparent)]
    Resume(Box<Refusal>),
    /// `noresume`, but the image cannot be discarded.
    #[error("the hibernation image on {device} could not be discarded: {source}")]
    KeptImage {
        /// As `resume=` or the firmware names it.
        device: String,
        /// System error.
        source: io::Error,
    },
    /// Not a failure: the boot begins again, because something else was chosen.
    #[error("the boot begins again")]
    Again,
    /// The hand-over failed.
    #[error(transparent)]
    HandOver(#[from] SwitchError),
}

/// A root that was named but is no file system.
pub(super) fn not_mountable(name: &str, kind: ObjsetKind) -> Failure {
    let kind = if kind == ObjsetKind::Volume { "volume" } else { "dataset of another kind" };
    let refusal = Refusal {
        problem: format!("{name} is a {kind}, which cannot be mounted as the root"),
        expected: "a file system of a pool".to_owned(),
        found: vec![],
        advice: vec!["name another one on the kernel command line: root=ZFS=pool/dataset; or set bootfs".to_owned()],
    };
    refusal.into()
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl Failure {
    /// Whether another root could be booted where this one could not: not if what is wrong lies before any root.
    pub(super) fn another_root_may_help(&self) -> bool {
        !matches!(self, Self::Module(_) | Self::Resume(_) | Self::KeptImage { .. })
    }

    /// Its name for programs, which stays (`docs/errors.md`).
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Module(_) => "zfs-module",
            Self::NoRoot { .. } => "no-root",
            Self::Import(_) => "pool-import",
            Self::Zfs(_) => "zfs-call-failed",
            Self::NoDataset { .. } => "no-dataset",
            Self::Key { error, .. } => error.code(),
            Self::Mount { .. } => "root-mount",
            Self::NoInit { .. } => "no-init",
            Self::Refused(_) => "refused",
            Self::Resume(_) => "resume-unclear",
            Self::KeptImage { .. } => "hibernation-image-kept",
            Self::Again => "again",
            Self::HandOver(_) => "hand-over",
        }
    }

    /// What the rescue shows.
    pub(super) fn explain(&self) -> Explanation {
        let problem = self.to_string();
        let explain = |expected: &str, found: Vec<String>, advice: &[&str]| Explanation {
            code: self.code(),
            problem: problem.clone(),
            expected: expected.to_owned(),
            found,
            advice: advice.iter().map(|s| (*s).to_owned()).collect(),
        };
        match self {
            Self::Module(_) => explain(
                "spl and zfs in the image, built for the running kernel",
                vec![format!("kernel {}", super::start::kernel_release())],
                &["boot the kernel this image was packed for, or pack it again: taproot initramfs"],
            ),
            Self::NoRoot { seen, .. } => explain(
                "a pool with all its disks, and a root dataset named on the command line or by the pool's bootfs",
                seen.clone(),
                &[
                    "attach the missing disks and type retry; taproot.wait=SECONDS waits longer",
                    "name the root on the kernel command line: root=ZFS=pool/dataset",
                ],
            ),
            Self::Import(e) => {
                let advice: Vec<&str> = e.advice.iter().map(String::as_str).collect();
                explain("a pool that this kernel can import", e.detail.clone(), &advice)
            }
            Self::Zfs(_) => explain("an answer from the zfs module", vec![], &["look at the log (log)", "retry"]),
            Self::NoDataset { others, .. } => explain(
                "a file system of that name",
                others.clone(),
                &[
                    "name one of these on the kernel command line: root=ZFS=pool/dataset",
                    "or set bootfs to one of them",
                ],
            ),
            Self::Key { error, .. } => explain(
                &error.expected(),
                error.found(),
                &[
                    "type retry to be asked again, or to look for the device with the key file again",
                    "name a key file on the kernel command line: taproot.key=LABEL=X:/path or taproot.key=/path/in/image",
                ],
            ),
            Self::Mount { source, .. } => {
                let found = if source.raw_os_error() == Some(libc::EACCES) {
                    vec!["it is encrypted and its key is not loaded".to_owned()]
                } else {
                    vec![]
                };
                explain("a mountable file system", found, &["look at the log (log)", "choose another root"])
            }
            Self::NoInit { found, .. } => explain(
                "an executable file, or init=PATH on the kernel command line naming one",
                found.clone(),
                &["boot with init=/path/to/program", "choose another root: root=ZFS=pool/dataset"],
            ),
            Self::Refused(refusal) | Self::Resume(refusal) => Explanation {
                code: self.code(),
                problem: refusal.problem.clone(),
                expected: refusal.expected.clone(),
                found: refusal.found.clone(),
                advice: refusal.advice.clone(),
            },
            Self::KeptImage { .. } => explain(
                "a device that can be written: an image that stayed could be resumed later, over a pool that has changed",
                vec![],
                &["look at the log (log)", "boot with taproot.import=ro to look at the pool without writing to it"],
            ),
            Self::Again => explain("a choice", vec![], &["retry"]),
            // By now the new root is `/`, and what the image held is gone.
            Self::HandOver(SwitchError::Exec { .. }) => explain(
                "a program that this kernel executes",
                vec![],
                &["restart (reboot) and boot another root, or with init=/path/to/program"],
            ),
            Self::HandOver(_) => {
                explain("a root with /dev, /proc, /sys and /run", vec![], &["repair the root, then retry"])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_no_root() {
        let failure = not_mountable("tank/vm", ObjsetKind::Volume);
        assert_eq!(failure.to_string(), "tank/vm is a volume, which cannot be mounted as the root");
        assert!(failure.explain().advice[0].contains("root=ZFS="));
    }

    #[test]
    fn a_fallback_is_for_what_another_root_can_change() {
        let refusal = || Box::new(crate::plan::resume::unreadable("x"));
        assert!(!Failure::Resume(refusal()).another_root_may_help());
        assert!(!Failure::Module(String::new()).another_root_may_help());
        assert!(not_mountable("tank/vm", ObjsetKind::Volume).another_root_may_help());
        let resume = Failure::Resume(refusal()).explain().text();
        assert_eq!(resume.replace("resume-unclear", "refused"), Failure::Refused(refusal()).explain().text());
    }

    #[test]
    fn what_is_gone_is_not_to_be_retried() {
        let source = io::Error::from_raw_os_error(libc::ENOEXEC);
        let failure = Failure::from(SwitchError::Exec { init: "/sbin/init".into(), source });
        let explanation = failure.explain();
        assert!(explanation.advice.iter().all(|line| !line.contains("retry")), "{explanation:?}");
    }
}
