//! The settings of a [`super::Request`], by the part of the boot that reads them.

use std::fmt;
use std::time::Duration;

use super::Decided;

/// Whether a pool that another system used last, and did not export, is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostidPolicy {
    /// Never.
    Strict,
    /// Only if the command line names the pool, the image was packed for it (same guid), or it is imported read-only. The
    /// default.
    Known,
    /// Always (`zfs_force=1`). A pool that is in use under multihost protection is refused by the kernel even so.
    Force,
}

/// Which pools an unnamed root may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Automatic {
    /// Any, the expected ones first. The default.
    Any,
    /// Only those that the image expects, if it expects any.
    Expected,
}

/// How pools are found and imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportSettings {
    /// `taproot.hostid=strict|known|force`, `zfs_force=1` and its other spellings.
    pub hostid_policy: Decided<HostidPolicy>,
    /// This system's hostid: `spl_hostid=`, `spl.spl_hostid=`, `taproot.hostid=0x...`; `None`: the image's `/etc/hostid`.
    pub hostid: Option<Decided<u32>>,
    /// `taproot.import=ro`: import read-only. No log is replayed and nothing is written until the pool is imported anew.
    pub read_only: Decided<bool>,
    /// Directories, or devices, that are looked at instead of every block device (`zfs_import_dir=`, `taproot.import_dir=`,
    /// may be given several times, `:` separates several in one).
    pub dirs: Vec<Decided<String>>,
    /// `taproot.missing_log=yes`: import a pool whose log device is missing, giving up what only the log holds.
    pub missing_log: Decided<bool>,
    /// `taproot.skip_pools=a,b`: pools (names or guids) that an unnamed root must not come from.
    pub skip: Vec<String>,
    /// `taproot.also_pools=a,b`: pools (names or guids) that are imported beside the root's.
    pub also: Vec<Decided<String>>,
    /// `taproot.auto=any|expected`: which pools an unnamed root may come from.
    pub automatic: Decided<Automatic>,
}

/// A file with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// `LABEL=x`, `UUID=x`, `PARTLABEL=x`, `PARTUUID=x` or `/dev/x`; `None`: the file lies in the image.
    pub device: Option<String>,
    /// Absolute path on the device or in the image.
    pub path: String,
    /// The word as given.
    pub why: String,
}

/// Keys of encrypted datasets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySettings {
    /// `taproot.key=[DEVICE:]/path`, in order.
    pub files: Vec<KeyFile>,
    /// `taproot.key_wait=SECONDS`: how long to wait for the device of a key file.
    pub file_wait: Decided<Duration>,
    /// `taproot.key_prompt=yes|no`: whether to ask. The default is yes, but no with
    /// `taproot.rescue=reboot` or `poweroff`.
    pub prompt: Decided<bool>,
    /// `taproot.key_tries=N`: how often a passphrase may be wrong; 0: as often as one likes.
    pub tries: Decided<u32>,
    /// `taproot.key_timeout=SECONDS`: how long a prompt waits, anew while somebody types; `None`: for ever.
    pub timeout: Decided<Option<Duration>>,
}

/// Which datasets with a mountpoint are mounted with the root (fstab lines: see `fstab`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All that `zfs mount -a` would mount, but none of another boot environment. The default.
    All,
    /// Only descendants of the root.
    Children,
    /// Only descendants mounted on /usr, /etc, /bin, /lib*, /sbin: what an init needs.
    System,
    /// None.
    None,
    /// Only these.
    List(Vec<String>),
}

/// A dataset of `taproot.also=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Also {
    /// Its name.
    pub dataset: String,
    /// Absolute path in the new root to mount it at; `None`: where its properties say.
    pub target: Option<String>,
}

impl fmt::Display for Also {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Some(target) => write!(f, "{} on {target}", self.dataset),
            None => f.write_str(&self.dataset),
        }
    }
}

/// Which datasets are mounted besides the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSettings {
    /// `taproot.mounts=all|children|system|none|ds,ds`.
    pub which: Decided<Which>,
    /// `taproot.also=ds[=/path],ds`: further datasets, whatever their `canmount` is (`ZFS_INITRD_ADDITIONAL_DATASETS`).
    pub also: Vec<Also>,
    /// `taproot.fstab=yes|no`: whether the root's fstab is read.
    pub fstab: Decided<bool>,
}

/// Booting snapshots, and snapshots of what is booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// `rollback=on`: roll the root back to `...@snap` instead of cloning it.
    pub rollback: Decided<bool>,
    /// `bootfs.rollback[=name]`: roll the root back to this snapshot; the inner `None` is the kernel's release.
    pub rollback_to: Option<Decided<Option<String>>>,
    /// `taproot.destroy_newer=yes`: the second word that a rollback past newer snapshots needs; it destroys them.
    pub destroy_newer: Decided<bool>,
    /// `bootfs.snapshot[=name]`: take this snapshot of the root before it is mounted; the inner `None` is the kernel's
    /// release.
    pub take: Option<Decided<Option<String>>>,
    /// `taproot.clone=NAME`: full name of the clone for `...@snap`; `None`: the dataset's name, `_` and the snapshot's.
    pub clone: Option<Decided<String>>,
}

/// Whether file systems are checked (`fsck.mode=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsck {
    /// As the file system itself says: after a crash, or from time to time. The default.
    Auto,
    /// In any case.
    Force,
    /// Not at all.
    Skip,
}

/// What a check may repair (`fsck.repair=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// What is safe. The default.
    Preen,
    /// Everything.
    Yes,
    /// Nothing.
    No,
}

/// Checks of file systems before they are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsckSettings {
    /// `fsck.mode=auto|force|skip`, `forcefsck`, `fastboot`, `rd.skipfsck`.
    pub mode: Decided<Fsck>,
    /// `fsck.repair=preen|yes|no`, `fsckfix`.
    pub repair: Decided<Repair>,
}

/// Hibernation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeSettings {
    /// `resume=`: `/dev/x`, `UUID=x`, `LABEL=x`, `PARTUUID=x`, `PARTLABEL=x` or `major:minor`.
    pub device: Option<Decided<String>>,
    /// `resume_offset=`: page number of the swap file's header on the device.
    pub offset: Option<Decided<u64>>,
    /// `noresume`, `hibernate=noresume|no`.
    pub disabled: Option<String>,
    /// `taproot.resume_wait=SECONDS`: how long to wait for the device.
    pub wait: Decided<Duration>,
}

/// Where a boot can be stopped on purpose (`break=`, `rd.break=`, `taproot.break=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Before anything is looked at.
    Start,
    /// The pool is found, nothing is imported.
    Import,
    /// The pool is imported, nothing is mounted.
    Mount,
    /// Everything is mounted, before the hand-over.
    HandOver,
}

/// What a failure ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The explanation and the menu.
    Menu,
    /// The explanation and the shell.
    Shell,
    /// The explanation; a person can only retry, restart or switch off, unless the packed password opens the rest.
    Locked,
    /// Headless: restart after this time (`panic=`, `taproot.rescue=reboot:30`).
    Reboot(Duration),
    /// Headless: switch off after this time.
    PowerOff(Duration),
}

impl OnFailure {
    /// Whether nobody is there to be asked what to do: then no prompt appears. Passphrases are asked for all the same, unless
    /// `taproot.rescue=` says it.
    pub fn headless(self) -> bool {
        matches!(self, Self::Reboot(_) | Self::PowerOff(_))
    }
}

/// What happens when the boot cannot go on, or is stopped on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RescueSettings {
    /// What a failure ends in.
    pub on_failure: Decided<OnFailure>,
    /// `taproot.attempts=N`: how many failed attempts in a row restart the machine before it is switched off instead; 0: no
    /// limit.
    pub attempts: Decided<u32>,
    /// Stages to stop at, in order, each once.
    pub stops: Vec<Decided<Stage>>,
    /// `taproot.menu[=SECONDS]`: choose the root from a menu before booting; the inner `None` waits for ever.
    pub menu: Option<Decided<Option<Duration>>>,
}
