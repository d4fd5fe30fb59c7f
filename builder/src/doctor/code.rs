//! Names of what can be found; `docs/status.md` has a row for each.

use serde::Serialize;

/// What a finding comes to; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The next boot would stop.
    Stops,
    /// It may.
    MayStop,
    /// It would not, but people should know.
    Note,
}

impl Severity {
    /// In words, as the page has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stops => "stops the boot",
            Self::MayStop => "may stop it",
            Self::Note => "note",
        }
    }
}

/// What can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The boot loader's entry names a kernel that is not there.
    EntryKernelMissing,
    /// It names an image that is not there.
    EntryImageMissing,
    /// It names none.
    EntryWithoutImage,
    /// The image is none.
    ImageDamaged,
    /// The image is for another kernel.
    ImageOfOtherKernel,
    /// The boot would fail, as `taproot explain` says.
    WouldNotBoot,
    /// The pool has features that the packed zfs module does not know.
    PoolFeatures,
    /// Words name a device for resuming that is not there.
    ResumeMissing,
    /// A kernel has no image.
    ImageMissing,
    /// Modules are not those that were packed.
    ModulesChanged,
    /// A module that the root needs is not in the image.
    ModuleLacking,
    /// Files that the image holds are not what they were.
    FilesChanged,
    /// The image's hostid is another one.
    HostidDiffers,
    /// The image expects another pool.
    PoolDiffers,
    /// The file with the root's key is not in the image.
    KeyLacking,
    /// A new image would be refused.
    WouldNotPack,
    /// A newer kernel has no zfs.
    ZfsMissing,
    /// The kernel that boots next has no modules.
    KernelWithoutModules,
    /// Where kernels and images are is not mounted.
    BootUnmounted,
    /// A mirror's other disk boots an older state.
    LoaderPartitionBehind,
    /// There is no room for a new image.
    NoRoom,
    /// The pool does not answer.
    PoolSuspended,
    /// The pool lacks disks.
    PoolDegraded,
    /// The installed taproot-init is another one.
    InitChanged,
    /// The configuration is another one.
    ConfigurationChanged,
    /// The pool has other disks.
    DisksChanged,
    /// Another tool made the image.
    ImageOfOtherTool,
    /// The image does not say what it was made of.
    ImageUnrecorded,
    /// What boots next is not known.
    LoaderUnknown,
    /// What packing would say.
    PackingNote,
}

impl Code {
    /// All of them, for tests and the documentation.
    pub const ALL: [Self; 30] = [
        Self::EntryKernelMissing,
        Self::EntryImageMissing,
        Self::EntryWithoutImage,
        Self::ImageDamaged,
        Self::ImageOfOtherKernel,
        Self::WouldNotBoot,
        Self::PoolFeatures,
        Self::ResumeMissing,
        Self::ImageMissing,
        Self::ModulesChanged,
        Self::ModuleLacking,
        Self::FilesChanged,
        Self::HostidDiffers,
        Self::PoolDiffers,
        Self::KeyLacking,
        Self::WouldNotPack,
        Self::ZfsMissing,
        Self::KernelWithoutModules,
        Self::BootUnmounted,
        Self::LoaderPartitionBehind,
        Self::NoRoom,
        Self::PoolSuspended,
        Self::PoolDegraded,
        Self::InitChanged,
        Self::ConfigurationChanged,
        Self::DisksChanged,
        Self::ImageOfOtherTool,
        Self::ImageUnrecorded,
        Self::LoaderUnknown,
        Self::PackingNote,
    ];

    /// The name that stays the same when the words change.
    pub fn code(self) -> &'static str {
        match self {
            Self::EntryKernelMissing => "entry-kernel-missing",
            Self::EntryImageMissing => "entry-image-missing",
            Self::EntryWithoutImage => "entry-without-image",
            Self::ImageDamaged => "image-damaged",
            Self::ImageOfOtherKernel => "image-of-other-kernel",
            Self::WouldNotBoot => "would-not-boot",
            Self::PoolFeatures => "pool-features",
            Self::ResumeMissing => "resume-missing",
            Self::ImageMissing => "image-missing",
            Self::ModulesChanged => "modules-changed",
            Self::ModuleLacking => "module-lacking",
            Self::FilesChanged => "files-changed",
            Self::HostidDiffers => "hostid-differs",
            Self::PoolDiffers => "pool-differs",
            Self::KeyLacking => "key-lacking",
            Self::WouldNotPack => "would-not-pack",
            Self::ZfsMissing => "zfs-missing",
            Self::KernelWithoutModules => "kernel-without-modules",
            Self::BootUnmounted => "boot-unmounted",
            Self::LoaderPartitionBehind => "loader-partition-behind",
            Self::NoRoom => "no-room",
            Self::PoolSuspended => "pool-suspended",
            Self::PoolDegraded => "pool-degraded",
            Self::InitChanged => "init-changed",
            Self::ConfigurationChanged => "configuration-changed",
            Self::DisksChanged => "disks-changed",
            Self::ImageOfOtherTool => "image-of-other-tool",
            Self::ImageUnrecorded => "image-unrecorded",
            Self::LoaderUnknown => "loader-unknown",
            Self::PackingNote => "packing-note",
        }
    }

    /// What it comes to.
    pub fn severity(self) -> Severity {
        match self {
            Self::EntryKernelMissing
            | Self::EntryImageMissing
            | Self::EntryWithoutImage
            | Self::ImageDamaged
            | Self::ImageOfOtherKernel
            | Self::WouldNotBoot
            | Self::PoolFeatures
            | Self::ResumeMissing => Severity::Stops,
            Self::ImageMissing
            | Self::ModulesChanged
            | Self::ModuleLacking
            | Self::FilesChanged
            | Self::HostidDiffers
            | Self::PoolDiffers
            | Self::KeyLacking
            | Self::WouldNotPack
            | Self::ZfsMissing
            | Self::KernelWithoutModules
            | Self::BootUnmounted
            | Self::LoaderPartitionBehind
            | Self::NoRoom
            | Self::PoolSuspended => Severity::MayStop,
            Self::PoolDegraded
            | Self::InitChanged
            | Self::ConfigurationChanged
            | Self::DisksChanged
            | Self::ImageOfOtherTool
            | Self::ImageUnrecorded
            | Self::LoaderUnknown
            | Self::PackingNote => Severity::Note,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The page has a row for each, with its severity, and no other.
    #[test]
    fn the_page_has_each_of_them() {
        let page = include_str!("../../../docs/status.md");
        let section = page.split("\n## Findings\n").nth(1).unwrap().split("\n## ").next().unwrap();
        let rows: Vec<(&str, &str)> = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .map(|row| row.split_once("` | ").unwrap())
            .map(|(code, rest)| (code, rest.split(" | ").next().unwrap()))
            .collect();
        let known: BTreeSet<(&str, &str)> =
            Code::ALL.iter().map(|code| (code.code(), code.severity().word())).collect();
        assert_eq!(known.len(), Code::ALL.len());
        assert_eq!(rows.iter().copied().collect::<BTreeSet<_>>(), known);
        assert_eq!(rows.len(), known.len());
    }
}
