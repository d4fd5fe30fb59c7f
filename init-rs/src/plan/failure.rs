//! Everything that can stop a boot, with the words for it and a code that stays the same.

use super::Refusal;
use std::fmt;

/// What kind of failure: stands in the explanation, in `boot.json` and in `docs/errors.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The zfs module is not there, or did not start.
    ZfsModule,
    /// No pool, or none that can be imported, fits the request.
    NoPool,
    /// The pool is there and has no `bootfs`.
    NoBootfs,
    /// The words name a root that cannot be used.
    UnusableRoot,
    /// The root's block device did not appear.
    NoDevice,
    /// The root's block device holds no file system that can be mounted.
    NoFilesystem,
    /// Several disks answer to the name of the root's block device.
    AmbiguousDevice,
    /// The file system check found damage that it did not repair.
    Fsck,
    /// The kernel refused the import, or the pool is imported already, against the words, and cannot be exported.
    Import,
    /// A question to an imported pool failed.
    ZfsCall,
    /// The root dataset does not exist.
    NoDataset,
    /// The root is no file system.
    NotMountable,
    /// The root is encrypted and its key could not be had.
    NoKey,
    /// What was asked to be done with a snapshot is not done.
    Snapshot,
    /// The place of further layers cannot be had.
    NoLayerDevice,
    /// A layer is missing.
    NoLayer,
    /// A layer's image is cut off, or none.
    BrokenLayer,
    /// The layers could not be copied to memory.
    ToRam,
    /// A layer is not, or cannot be seen to be, the one that was sealed.
    UncheckedLayer,
    /// The signed list of layers is not believed.
    LayerList,
    /// The state file of layers is not there, or cannot be read.
    LayerState,
    /// What is to take what is written cannot be had.
    NoUpper,
    /// The layers could not be put together.
    Overlay,
    /// The root could not be mounted.
    Mount,
    /// The mounted root has no program to start.
    NoInit,
    /// It is not known whether a hibernated system would be overwritten.
    Resume,
    /// `noresume`, but the image cannot be discarded.
    KeptImage,
    /// The hand-over failed.
    HandOver,
    /// The init could not be executed after the root was switched.
    Exec,
    /// The boot was about to do what its words do not allow: a bug.
    Undeclared,
    /// Any other bug.
    Bug,
}

impl Code {
    /// All of them, for tests and the documentation.
    pub const ALL: [Self; 31] = [
        Self::ZfsModule,
        Self::NoPool,
        Self::NoBootfs,
        Self::UnusableRoot,
        Self::NoDevice,
        Self::NoFilesystem,
        Self::AmbiguousDevice,
        Self::Fsck,
        Self::Import,
        Self::ZfsCall,
        Self::NoDataset,
        Self::NotMountable,
        Self::NoKey,
        Self::Snapshot,
        Self::NoLayerDevice,
        Self::NoLayer,
        Self::BrokenLayer,
        Self::ToRam,
        Self::UncheckedLayer,
        Self::LayerList,
        Self::LayerState,
        Self::NoUpper,
        Self::Overlay,
        Self::Mount,
        Self::NoInit,
        Self::Resume,
        Self::KeptImage,
        Self::HandOver,
        Self::Exec,
        Self::Undeclared,
        Self::Bug,
    ];

    /// Its name.
    pub fn code(self) -> &'static str {
        match self {
            Self::ZfsModule => "zfs-module",
            Self::NoPool => "no-pool",
            Self::NoBootfs => "no-bootfs",
            Self::UnusableRoot => "unusable-root",
            Self::NoDevice => "no-device",
            Self::NoFilesystem => "no-filesystem",
            Self::AmbiguousDevice => "ambiguous-device",
            Self::Fsck => "fsck-failed",
            Self::Import => "import-failed",
            Self::ZfsCall => "zfs-call-failed",
            Self::NoDataset => "no-dataset",
            Self::NotMountable => "not-mountable",
            Self::NoKey => "no-key",
            Self::Snapshot => "snapshot-refused",
            Self::NoLayerDevice => "no-layer-device",
            Self::NoLayer => "no-layer",
            Self::BrokenLayer => "layer-broken",
            Self::ToRam => "to-ram-failed",
            Self::UncheckedLayer => "layer-unchecked",
            Self::LayerList => "layer-list",
            Self::LayerState => "layer-state",
            Self::NoUpper => "no-upper",
            Self::Overlay => "overlay-failed",
            Self::Mount => "mount-failed",
            Self::NoInit => "no-init",
            Self::Resume => "resume-unsettled",
            Self::KeptImage => "image-kept",
            Self::HandOver => "hand-over-failed",
            Self::Exec => "exec-failed",
            Self::Undeclared => "not-declared",
            Self::Bug => "bug",
        }
    }

    /// Whether another root could be booted where this one could not: not if what is wrong lies before any root.
    pub fn another_root_may_help(self) -> bool {
        !matches!(self, Self::ZfsModule | Self::Resume | Self::KeptImage | Self::Exec | Self::Undeclared | Self::Bug)
    }
}

/// Why a boot cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its kind.
    pub code: Code,
    /// Expected, found, and what to do.
    pub refusal: Refusal,
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.refusal.problem)
    }
}

impl Failure {
    /// With its words: one sentence, what should have been there, what was there, what helps.
    pub fn new(
        code: Code,
        problem: impl Into<String>,
        expected: impl Into<String>,
        found: Vec<String>,
        advice: &[&str],
    ) -> Self {
        let advice = advice.iter().map(|line| (*line).to_owned()).collect();
        Self { code, refusal: Refusal { problem: problem.into(), expected: expected.into(), found, advice } }
    }

    /// A refusal of the plan.
    pub fn refused(code: Code, refusal: Refusal) -> Self {
        Self { code, refusal }
    }

    /// The zfs module cannot be used.
    pub fn module(why: &str, kernel: &str) -> Self {
        Self::new(
            Code::ZfsModule,
            format!("the ZFS kernel module is not usable: {why}"),
            "spl and zfs in the image, built for the running kernel",
            vec![format!("kernel {kernel}")],
            &["boot the kernel this image was packed for, or pack it again: taproot initramfs"],
        )
    }

    /// A question to the zfs module failed.
    pub fn zfs(error: &crate::zfs::ioctl::ZfsError) -> Self {
        let advice = ["look at the log (log)", "retry"];
        Self::new(Code::ZfsCall, error.to_string(), "an answer from the zfs module", vec![], &advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_different_and_kebab_case() {
        let codes: std::collections::BTreeSet<&str> = Code::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
        assert!(codes.iter().all(|c| c.chars().all(|c| c.is_ascii_lowercase() || c == '-')), "{codes:?}");
    }

    #[test]
    fn a_fallback_is_for_what_another_root_can_change() {
        for (code, helps) in [(Code::ZfsModule, false), (Code::Resume, false), (Code::NoPool, true), (Code::Fsck, true)]
        {
            assert_eq!(code.another_root_may_help(), helps, "{code:?}");
        }
    }
}
