//! The request that an empty command line makes.

use std::time::Duration;

use super::{
    Automatic, Decided, Fsck, FsckSettings, HostidPolicy, ImportSettings, KeySettings, MountSettings, OnFailure,
    Repair, Request, RescueSettings, ResumeSettings, Selector, SnapshotSettings, Which,
};

/// Default of `taproot.wait`, seconds.
const WAIT: u64 = 30;
/// Default of `taproot.degraded`, seconds.
pub(super) const DEGRADED: u64 = 10;
/// Default of `taproot.key_wait`, seconds.
const KEY_WAIT: u64 = 10;
/// Default of `taproot.key_tries`.
const KEY_TRIES: u32 = 3;
/// Default of `taproot.resume_wait`, seconds.
const RESUME_WAIT: u64 = 10;
/// Default of `taproot.attempts`.
const ATTEMPTS: u32 = 3;
/// Why a switch is off that no word turned on.
const OFF: &str = "default (no)";

/// Every setting at its default.
pub(super) fn request() -> Request {
    Request {
        words: Vec::new(),
        root: Decided::new(Selector::Auto, "default: no root= or zfs= word"),
        ours: true,
        snapshot: None,
        snapshots: SnapshotSettings {
            rollback: Decided::new(false, OFF),
            rollback_to: None,
            destroy_newer: Decided::new(false, OFF),
            take: None,
            clone: None,
        },
        layers: None,
        stacking: None,
        fallback: Vec::new(),
        read_only: None,
        instead_of: None,
        root_flags: None,
        root_fstype: None,
        fsck: FsckSettings {
            mode: Decided::new(Fsck::Auto, "default (auto)"),
            repair: Decided::new(Repair::Preen, "default (preen)"),
        },
        init: None,
        console_level: None,
        module_options: Vec::new(),
        module_blacklist: Vec::new(),
        wait: seconds(WAIT),
        degraded: Decided::new(Some(Duration::from_secs(DEGRADED)), format!("default ({DEGRADED} s)")),
        import: ImportSettings {
            hostid_policy: Decided::new(HostidPolicy::Known, "default (known)"),
            hostid: None,
            read_only: Decided::new(false, "default (rw)"),
            dirs: Vec::new(),
            missing_log: Decided::new(false, OFF),
            skip: Vec::new(),
            also: Vec::new(),
            automatic: Decided::new(Automatic::Any, "default (any)"),
        },
        keys: KeySettings {
            files: Vec::new(),
            file_wait: seconds(KEY_WAIT),
            prompt: Decided::new(true, "default (yes)"),
            tries: Decided::new(KEY_TRIES, format!("default ({KEY_TRIES})")),
            timeout: Decided::new(None, "default (for ever)"),
        },
        mounts: MountSettings {
            which: Decided::new(Which::All, "default (all)"),
            also: Vec::new(),
            fstab: Decided::new(true, "default (yes)"),
        },
        resume: ResumeSettings { device: None, offset: None, disabled: None, wait: seconds(RESUME_WAIT) },
        rescue: RescueSettings {
            on_failure: Decided::new(OnFailure::Menu, "default (menu)"),
            attempts: Decided::new(ATTEMPTS, format!("default ({ATTEMPTS})")),
            stops: Vec::new(),
            menu: None,
        },
        init_args: Vec::new(),
        problems: Vec::new(),
        notes: Vec::new(),
    }
}

fn seconds(default: u64) -> Decided<Duration> {
    Decided::new(Duration::from_secs(default), format!("default ({default} s)"))
}
