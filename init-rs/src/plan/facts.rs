//! What was seen of the pools and datasets, as plain data.

pub use crate::zfs::assemble::Doubt;
pub use crate::zfs::ioctl::ObjsetKind as Kind;
pub use crate::zfs::judge::Health;

/// A pool that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "what was seen of a pool, each for itself")]
pub struct PoolFact {
    /// Pool name.
    pub name: String,
    /// Pool guid.
    pub guid: u64,
    /// Property `bootfs`; `None` if unset or not yet readable.
    pub bootfs: Option<String>,
    /// Whether there may be a `bootfs` that could not be read.
    pub bootfs_unknown: bool,
    /// State.
    pub health: Health,
    /// Why it cannot be imported now (missing members, unsupported features, several copies of a disk); `None` if it can.
    pub problem: Option<String>,
    /// Whether no disk that may still come changes that problem.
    pub hopeless: bool,
    /// Whether it was exported cleanly.
    pub exported: bool,
    /// Hostid of the system that used it last, 0 if none is recorded.
    pub hostid: u32,
    /// Host name recorded with the hostid.
    pub hostname: Option<String>,
    /// Whether it was destroyed: it is listed, but never imported.
    pub destroyed: bool,
    /// Whose it is, if another system used it last and did not export it: a sentence's end, "last used by ...".
    pub foreign: Option<String>,
    /// Its log device, if that is missing: it can be imported only by giving up what the log holds.
    pub missing_log: Option<String>,
    /// Why it can be imported read-only, and not otherwise.
    pub unwritable: Option<String>,
    /// Nodes of its devices, as far as they were found; none are known of one that was imported before.
    pub devices: Vec<String>,
    /// Why its labels may be left over, or belong to something else: then it is not written to without a word.
    pub doubt: Option<Doubt>,
    /// Whether a device of it is on the disk that the machine was started from, as far as that was asked for.
    pub started: bool,
}

impl PoolFact {
    /// A pool without a `bootfs`, complete, and nobody else's.
    pub fn named(name: impl Into<String>, guid: u64) -> Self {
        Self {
            name: name.into(),
            guid,
            bootfs: None,
            bootfs_unknown: false,
            health: Health::Online,
            problem: None,
            hopeless: false,
            exported: false,
            hostid: 0,
            hostname: None,
            destroyed: false,
            foreign: None,
            missing_log: None,
            unwritable: None,
            devices: Vec::new(),
            doubt: None,
            started: false,
        }
    }
}

/// Property `canmount`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanMount {
    /// Mounted by `zfs mount -a`.
    On,
    /// Never mounted: a container.
    Off,
    /// Mounted only when asked for.
    NoAuto,
}

/// Property `mountpoint`, inheritance resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mountpoint {
    /// An absolute path.
    Path(String),
    /// `legacy`: mounted through fstab.
    Legacy,
    /// `none`.
    None,
}

/// A dataset with the properties that decide its mount (zfsprops(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // one field a property
pub struct Dataset {
    /// Full name.
    pub name: String,
    /// Kind.
    pub kind: Kind,
    /// `canmount`.
    pub canmount: CanMount,
    /// `mountpoint`.
    pub mountpoint: Mountpoint,
    /// User property `org.zol:mountpoint`, if it was set on this very dataset: where to mount one whose `mountpoint` is no
    /// path.
    pub zol_mountpoint: Option<String>,
    /// The dataset above it that its mount point is inherited from; `None`: it was set here, or nowhere.
    pub mountpoint_of: Option<String>,
    /// Whether its own mount point came with a stream (`zfs receive`) and was not set here.
    pub received: bool,
    /// `overlay`: whether it may cover a directory that is not empty.
    pub overlay: bool,
    /// `readonly`.
    pub readonly: bool,
    /// `atime`.
    pub atime: bool,
    /// `relatime`.
    pub relatime: bool,
    /// `devices`.
    pub devices: bool,
    /// `exec`.
    pub exec: bool,
    /// `setuid`.
    pub setuid: bool,
    /// `nbmand`.
    pub nbmand: bool,
    /// `zoned`: belongs to a container.
    pub zoned: bool,
    /// Whether the encryption key is loaded; `None` if not encrypted.
    pub key_available: Option<bool>,
    /// `encryptionroot`.
    pub encryption_root: Option<String>,
    /// `keylocation` of its encryption root, as far as it was asked for.
    pub key_location: Option<String>,
    /// Security contexts that are set (zfsprops(7), "context"): pairs such as `("context", "system_u:object_r:...")`, in the order to pass them.
    pub contexts: Vec<(String, String)>,
}

impl Dataset {
    /// A filesystem with every property at its default (OpenZFS 2.2 and later), mounted at `/` + its name.
    pub fn with_defaults(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Filesystem,
            canmount: CanMount::On,
            mountpoint: Mountpoint::Path(format!("/{name}")),
            zol_mountpoint: None,
            mountpoint_of: None,
            received: false,
            overlay: true,
            readonly: false,
            atime: true,
            relatime: true,
            devices: true,
            exec: true,
            setuid: true,
            nbmand: false,
            zoned: false,
            key_available: None,
            encryption_root: None,
            key_location: None,
            contexts: Vec::new(),
        }
    }

    /// The encryption root whose key it needs, if it is encrypted.
    pub fn key(&self) -> &str {
        self.encryption_root.as_deref().unwrap_or(&self.name)
    }

    /// The file that has its key, as the booted system sees it, if `keylocation` names one.
    pub fn key_file(&self) -> Option<&str> {
        self.key_location.as_deref()?.strip_prefix("file://").filter(|path| path.starts_with('/'))
    }

    /// Whether its key is one that people type: none that a file or a server is said to have.
    pub fn key_is_typed(&self) -> bool {
        let location = self.key_location.as_deref().unwrap_or_default();
        !["file://", "http://", "https://"].iter().any(|scheme| location.starts_with(scheme))
    }

    /// The mount point, if it is a path.
    pub fn path(&self) -> Option<&str> {
        match &self.mountpoint {
            Mountpoint::Path(path) => Some(path),
            Mountpoint::Legacy | Mountpoint::None => None,
        }
    }
}
