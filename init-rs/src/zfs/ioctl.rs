//! The `/dev/zfs` calls that a boot needs, typed. Numbers, argument shapes and traps: reference zfs-ioctl sections 1, 4
//! and 5; the same from OpenZFS 2.0 to 2.4.

use super::calls::{
    OBJSET_STATS, POOL_CLEAR, POOL_CONFIGS, POOL_EXPORT, POOL_GET_PROPS, POOL_IMPORT, POOL_STATS, POOL_TRYIMPORT,
};
use super::nvlist::{NvList, Value};
use crate::sys::{System, ZfsCall, ZfsReply};
use std::io;

/// Replies start here and double up to [`DST_MAX`]; libzfs starts at the same size.
const DST_START: usize = 256 * 1024;
const DST_MAX: usize = 64 * 1024 * 1024;

/// Errnos beyond 1023 that OpenZFS defines itself (include/sys/fs/zfs.h).
const ZFS_ERR_NO_CHECKPOINT: i32 = 1026;
const ZFS_ERR_IOC_CMD_UNAVAIL: i32 = 1029;
const ZFS_ERR_IOC_ARG_BADTYPE: i32 = 1032;
const ZFS_ERR_EXPORT_IN_PROGRESS: i32 = 1038;

/// A failed call: which one, on what, and the kernel's errno.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} of {name:?} failed with errno {errno} ({})", describe(*errno))]
pub struct ZfsError {
    /// Name of the ioctl, e.g. `IMPORT`.
    pub call: &'static str,
    /// Pool or dataset.
    pub name: String,
    /// Kernel errno; numbers above 1023 are OpenZFS's own.
    pub errno: i32,
}

/// What an errno means in words, including OpenZFS's own numbers.
pub fn describe(errno: i32) -> String {
    match errno {
        libc::EREMOTEIO => "the pool is or may be in use by another host (multihost)".into(),
        libc::EBADE => "checksum error".into(),
        libc::ETIMEDOUT => "no answer in time: a disk may be dying".into(),
        ZFS_ERR_NO_CHECKPOINT => "it has no checkpoint".into(),
        ZFS_ERR_IOC_CMD_UNAVAIL..=ZFS_ERR_IOC_ARG_BADTYPE => {
            "this OpenZFS does not know the call: module too old or too new for this taproot-init".into()
        }
        ZFS_ERR_EXPORT_IN_PROGRESS => "the pool is being exported already".into(),
        1024.. => "OpenZFS-specific error".into(),
        _ => io::Error::from_raw_os_error(errno).to_string(),
    }
}

/// What kind of thing a dataset name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjsetKind {
    /// A file system.
    Filesystem,
    /// A zvol.
    Volume,
    /// Anything else.
    Other,
}

impl From<i32> for ObjsetKind {
    fn from(dds_type: i32) -> Self {
        match dds_type {
            2 => Self::Filesystem,
            3 => Self::Volume,
            _ => Self::Other,
        }
    }
}

/// A dataset with its properties as the kernel sends them: `{prop: {value, source}}`, only those set somewhere.
#[derive(Debug, Clone)]
pub struct Objset {
    /// Full name.
    pub name: String,
    /// File system or volume.
    pub kind: ObjsetKind,
    /// Property list.
    pub properties: NvList,
}

/// What an import may do beyond the usual (`ZFS_IMPORT_*`, include/sys/fs/zfs.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportFlags {
    /// Do without a log device that is missing.
    pub missing_log: bool,
    /// Go back to the pool's checkpoint.
    pub checkpoint: bool,
}

impl ImportFlags {
    /// Going back to the checkpoint.
    pub const CHECKPOINT: u64 = 0x80;

    fn bits(self) -> u64 {
        (u64::from(self.missing_log) * 0x4) | (u64::from(self.checkpoint) * Self::CHECKPOINT)
    }
}

/// An import that failed; the reply list names missing devices and unsupported features.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportError {
    /// The call and errno.
    pub error: ZfsError,
    /// The kernel's reply, if it sent one.
    pub detail: Option<NvList>,
}

/// The calls, on a given system.
#[derive(Clone, Copy)]
pub struct Zfs<'a> {
    system: &'a dyn System,
}

impl std::fmt::Debug for Zfs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zfs").finish_non_exhaustive()
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl<'a> Zfs<'a> {
    /// Calls go to `system`.
    pub fn new(system: &'a dyn System) -> Self {
        Self { system }
    }

    pub(super) fn system(self) -> &'a dyn System {
        self.system
    }

    pub(super) fn call(self, what: &'static str, call: &ZfsCall<'_>) -> Result<ZfsReply, ZfsError> {
        let fail = |errno| ZfsError { call: what, name: text(call.name), errno };
        self.system.zfs(call).map_err(|e| fail(e.raw_os_error().unwrap_or(libc::EIO)))
    }

    /// A call without side effects, repeated with a larger buffer while the kernel says ENOMEM. `call` is sent anew each
    /// time, because the list calls move their cursor even then.
    pub(super) fn query(self, what: &'static str, call: &ZfsCall<'_>) -> Result<ZfsReply, ZfsError> {
        let mut capacity = if call.dst_capacity == 0 { DST_START } else { call.dst_capacity };
        loop {
            let reply = self.call(what, &ZfsCall { dst_capacity: capacity, ..call.clone() })?;
            match reply.errno {
                0 => return Ok(reply),
                libc::ENOMEM if capacity < DST_MAX => {
                    capacity = usize::try_from(reply.dst_size).unwrap_or(DST_MAX).max(capacity * 2).min(DST_MAX);
                }
                errno => return Err(ZfsError { call: what, name: text(call.name), errno }),
            }
        }
    }

    pub(super) fn decode(what: &'static str, name: &[u8], reply: &ZfsReply) -> Result<NvList, ZfsError> {
        NvList::decode(&reply.dst).map_err(|_| ZfsError { call: what, name: text(name), errno: libc::EBADMSG })
    }

    /// Names of the imported pools; doubles as the check that this kernel speaks the ABI we know.
    pub fn imported_pools(self) -> Result<Vec<(String, u64)>, ZfsError> {
        let reply = self.query("POOL_CONFIGS", &ZfsCall { number: POOL_CONFIGS, ..ZfsCall::default() })?;
        let list = Self::decode("POOL_CONFIGS", b"", &reply)?;
        let pool = |(name, value): (&[u8], &Value)| match value {
            Value::List(config) => Some((text(name), config.u64("pool_guid").unwrap_or(0))),
            _ => None,
        };
        Ok(list.iter().filter_map(pool).collect())
    }

    /// The configuration of an imported pool.
    pub fn pool_stats(self, name: &str) -> Result<NvList, ZfsError> {
        let call = ZfsCall { number: POOL_STATS, name: name.as_bytes(), ..ZfsCall::default() };
        let reply = self.query("POOL_STATS", &call)?;
        Self::decode("POOL_STATS", call.name, &reply)
    }

    /// `bootfs` of an imported pool.
    pub fn bootfs(self, pool: &str) -> Result<Option<String>, ZfsError> {
        let call = ZfsCall { number: POOL_GET_PROPS, name: pool.as_bytes(), ..ZfsCall::default() };
        let reply = self.query("POOL_GET_PROPS", &call)?;
        let list = Self::decode("POOL_GET_PROPS", call.name, &reply)?;
        let bootfs = list.list("bootfs").and_then(|p| p.text("value")).map(std::borrow::Cow::into_owned);
        Ok(bootfs.filter(|b| !b.is_empty()))
    }

    /// Lets the kernel open the devices of a candidate and returns its full configuration; changes nothing on disk.
    /// Success does not mean that the pool can be imported: see [`super::judge`].
    pub fn try_import(self, name: &str, config: &NvList) -> Result<NvList, ZfsError> {
        let conf = config.encode_native();
        let call = ZfsCall {
            number: POOL_TRYIMPORT,
            conf: &conf,
            dst_capacity: (conf.len() * 32).clamp(DST_START, DST_MAX),
            ..ZfsCall::default()
        };
        self.query("TRYIMPORT", &call)
            .and_then(|reply| Self::decode("TRYIMPORT", b"", &reply))
            .map_err(|e| ZfsError { name: name.to_owned(), ..e })
    }

    /// Imports a pool under its own name. `config` is TRYIMPORT's reply, whole.
    pub fn import(
        self,
        name: &str,
        guid: u64,
        config: &NvList,
        properties: &NvList,
        flags: ImportFlags,
    ) -> Result<(), ImportError> {
        let conf = config.encode_native();
        let src = if properties.is_empty() { Vec::new() } else { properties.encode_native() };
        let call = ZfsCall {
            number: POOL_IMPORT,
            name: name.as_bytes(),
            guid,
            cookie: flags.bits(),
            conf: &conf,
            src: &src,
            dst_capacity: (conf.len() * 4).clamp(4 * DST_START, DST_MAX),
            ..ZfsCall::default()
        };
        let reply = self.call("IMPORT", &call).map_err(|error| ImportError { error, detail: None })?;
        match reply.errno {
            0 => Ok(()),
            // ENOMEM comes after a successful import whose reply did not fit, and importing twice gives EEXIST: in both
            // cases only asking again tells.
            libc::ENOMEM | libc::EEXIST if self.is_imported(name, guid) => Ok(()),
            errno => Err(ImportError {
                error: ZfsError { call: "IMPORT", name: name.to_owned(), errno },
                detail: NvList::decode(&reply.dst).ok(),
            }),
        }
    }

    /// Exports a pool, without force. Nothing of it may be mounted: up to OpenZFS 2.4.0 an export that fails with EBUSY has
    /// removed the nodes of all its volumes.
    pub fn export(self, name: &str) -> Result<(), ZfsError> {
        let call = ZfsCall { number: POOL_EXPORT, name: name.as_bytes(), ..ZfsCall::default() };
        match self.call("EXPORT", &call)?.errno {
            0 => Ok(()),
            errno => Err(ZfsError { call: "EXPORT", name: name.to_owned(), errno }),
        }
    }

    /// Forgets the errors of a pool; one that waits for its disks goes on if they are there again.
    pub fn clear(self, pool: &str) -> Result<(), ZfsError> {
        // The cookie: no rewind (`ZPOOL_NO_REWIND`).
        let call = ZfsCall { number: POOL_CLEAR, name: pool.as_bytes(), cookie: 1, ..ZfsCall::default() };
        self.query("CLEAR", &call).map(drop)
    }

    fn is_imported(self, name: &str, guid: u64) -> bool {
        self.pool_stats(name).is_ok_and(|config| config.u64("pool_guid") == Some(guid))
    }

    /// Whether an imported pool is imported read-only.
    pub fn is_read_only(self, pool: &str) -> bool {
        let call = ZfsCall { number: POOL_GET_PROPS, name: pool.as_bytes(), ..ZfsCall::default() };
        let properties =
            self.query("POOL_GET_PROPS", &call).and_then(|r| Self::decode("POOL_GET_PROPS", call.name, &r));
        properties.is_ok_and(|list| list.list("readonly").and_then(|p| p.u64("value")) == Some(1))
    }

    /// A dataset with its properties.
    pub fn objset(self, name: &str) -> Result<Objset, ZfsError> {
        let call = ZfsCall { number: OBJSET_STATS, name: name.as_bytes(), ..ZfsCall::default() };
        let reply = self.query("OBJSET_STATS", &call)?;
        let properties = Self::decode("OBJSET_STATS", call.name, &reply)?;
        Ok(Objset { name: name.to_owned(), kind: reply.objset_type.into(), properties })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zfs::fake::Fake;

    fn error(errno: i32, dst_size: u64) -> ZfsReply {
        ZfsReply { errno, dst_size, ..ZfsReply::default() }
    }

    fn list(pairs: &[(&str, u64)]) -> NvList {
        let mut list = NvList::new();
        for (name, value) in pairs {
            list.set(name, Value::U64(*value));
        }
        list
    }

    fn reply(list: &NvList) -> ZfsReply {
        ZfsReply { dst: list.encode_native(), ..ZfsReply::default() }
    }

    #[test]
    fn a_reply_that_does_not_fit_is_asked_for_again() {
        let needed = 3 << 20;
        let fake = Fake::new(|call| {
            if (call.dst_capacity as u64) < needed {
                error(libc::ENOMEM, needed)
            } else {
                reply(&list(&[("pool_guid", 7)]))
            }
        });
        assert_eq!(Zfs::new(&fake).pool_stats("tank").unwrap().u64("pool_guid"), Some(7));
        assert_eq!(fake.asked().len(), 2);
    }

    #[test]
    fn a_kernel_that_always_wants_more_is_an_error() {
        let fake = Fake::new(|_| error(libc::ENOMEM, u64::MAX));
        assert_eq!(Zfs::new(&fake).pool_stats("tank").unwrap_err().errno, libc::ENOMEM);
        assert_eq!(fake.asked().last().unwrap().dst_capacity, DST_MAX);
    }

    #[test]
    fn an_import_whose_reply_did_not_fit_is_not_repeated() {
        let fake = Fake::new(|call| match call.number {
            POOL_IMPORT => error(libc::ENOMEM, 1 << 30),
            _ => reply(&list(&[("pool_guid", 7)])),
        });
        assert_eq!(Zfs::new(&fake).import("tank", 7, &NvList::new(), &NvList::new(), ImportFlags::default()), Ok(()));
        let imports = fake.asked().iter().filter(|a| a.number == POOL_IMPORT).count();
        assert_eq!(imports, 1);
        // Another pool of that name is imported: that is a failure.
        let failure =
            Zfs::new(&fake).import("tank", 8, &NvList::new(), &NvList::new(), ImportFlags::default()).unwrap_err();
        assert_eq!(failure.error.errno, libc::ENOMEM);
    }

    #[test]
    fn a_refused_import_keeps_the_kernels_reasons() {
        let fake = Fake::new(|_| ZfsReply { errno: libc::ENXIO, ..reply(&list(&[("x", 1)])) });
        let failure =
            Zfs::new(&fake).import("tank", 7, &NvList::new(), &NvList::new(), ImportFlags::default()).unwrap_err();
        assert_eq!((failure.error.errno, failure.detail.unwrap().u64("x")), (libc::ENXIO, Some(1)));
    }
}
